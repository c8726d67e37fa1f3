"""memblock's ledger and panel: what they show is what the machine's lists hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kmemlab.course.your_machine import CAPTURES, SHIPPED
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.views.memblock_ledger import by_whom, grouped, ledger, ledger_figure, ledger_text
from kmemlab.views.panel_memblock import MemblockPanel
from kmemlab.views.player import Player

DEBUG = replace(load_spec("tiny-128m"), cmdline="memblock=debug")


def test_the_ledger_of_a_real_log_is_that_of_the_model() -> None:
    real = ledger((CAPTURES / SHIPPED / "dmesg").read_text())
    model = ledger(Machine.boot(load_spec(CAPTURES / SHIPPED), until="mem_init").dmesg())
    assert [(row.base, row.size, row.given_back) for row in real] == [
        (row.base, row.size, row.given_back) for row in model
    ]
    assert len(real) > 50


def test_what_the_functions_hold_is_what_is_reserved_after_the_parameter_was_read() -> None:
    machine = Machine.boot(DEBUG, until="mem_init")
    rows = ledger(machine.dmesg())
    taken: set[int] = set()
    for row in rows:
        units = set(range(row.base, row.base + row.size))
        taken = taken - units if row.given_back else taken | units
    assert sum(by_whom(rows).values()) == len(taken)
    assert sum(row.sum for row in grouped(rows)) == sum(row.size for row in rows)


def test_the_figure_tells_each_line_in_its_text() -> None:
    rows = grouped(ledger(Machine.boot(DEBUG, until="mem_init").dmesg()))
    figure = ledger_figure(rows, 0, 128 << 20)
    assert figure.text() == ledger_text(rows)
    assert all(row.who in figure.svg() for row in rows)
    assert str(len(rows)) in figure.alt


@pytest.fixture(scope="module")
def player() -> tuple[Machine, Player]:
    machine = Machine(DEBUG)
    machine.record(lines=True)
    machine.start_kernel("x86_numa_init")
    panel = MemblockPanel(machine.kernel.boot.memblock)
    tells = ("memblock_add", "memblock_reserve", "memblock_phys_free", "memblock_phys_alloc_range")
    return machine, Player(machine.timeline, panel, within=tells)


def test_the_player_tells_what_was_reserved_and_by_whom(player: tuple[Machine, Player]) -> None:
    said = [step.said for step in player[1].steps]
    assert any("is taken, for `smp_scan_config`" in text for text in said)
    assert any("is memory, for `e820__memblock_setup`" in text for text in said)
    assert any("gives [0x7c00000-0x7dfffff], 2 MiB, back, for `init_mem_mapping`" in text for text in said)
    assert any("the highest free place is at 0x98000" in text for text in said)


def test_the_last_sight_is_the_machine_as_it_stands(player: tuple[Machine, Player]) -> None:
    machine, played = player
    facts = dict(played.steps[-1].sight.facts)
    memblock = machine.kernel.boot.memblock
    assert facts["reserved.cnt"] == str(memblock.reserved.cnt)
    assert facts["memory.total_size"] == f"{memblock.memory.total_size:#x}"
    assert "2 memory ranges" in played.steps[-1].sight.alt


def test_the_first_write_names_its_own_list(player: tuple[Machine, Player]) -> None:
    first = next(step.said for step in player[1].steps if "writes region 0" in step.said)
    assert "of reserved: [0x1000000-0x43fffff]" in first
