"""The page walk: what it tells is what the MMU does, on tables that a boot built; and what it draws, it tells."""

from __future__ import annotations

import random

import pytest

from kmemlab.boot.pgtable import lookup_address, set_entry
from kmemlab.boot.tlbflush import flush_tlb_one_kernel
from kmemlab.hardware.mmu import Mmu
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.process.pgtable import switch_mm
from kmemlab.types.errors import BadParameter
from kmemlab.types.pgtable import LAYOUTS
from kmemlab.types.trap_pf import X86_PF_USER
from kmemlab.views.page_levels import fields, levels_figure
from kmemlab.views.page_walk import entries_on_the_way, moments_of, rights_text
from kmemlab.views.page_walk_view import PageWalk, address_of
from tests.boot.captures import MACHINES
from tests.process.space import machine_of, mm_of
from tests.process.swapping import swap_out

BASE = 0xFFFF888000000000
MODES = ["amd64-1g", "amd64-la57-2g", "amd64-nopse-1g", "amd64-gbpages-8g", "i386-256m", "i386-pae-1g"]


def mmu_of(name: str) -> Mmu:
    spec = load_spec(name if name == "tiny-128m" else MACHINES / name)
    return Machine.boot(spec, until="init_mem_mapping").kernel.boot.mmu


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_the_fields_of_an_address_are_its_indices(levels: int) -> None:
    layout = LAYOUTS[levels]
    cut = fields(layout)
    bits = 32 if layout.virt_bits == 32 else 64
    assert [bit for field in cut for bit in range(field.high, field.low - 1, -1)] == list(range(bits - 1, -1, -1))
    address = random.Random(levels).getrandbits(bits)
    for field in cut:
        if field.name not in ("copies", "offset"):
            level = ("pgd", "p4d", "pud", "pmd", "pte").index(field.name)
            assert field.of(address) == layout.index(level, address)
    assert len(cut) == levels + 1 + (bits == 64)


def test_the_figure_of_the_modes_tells_folded_levels() -> None:
    text = levels_figure().text()
    assert text.count("folded") == 1 + 2 + 3
    assert "bits 56-48: 512 entries" in text
    assert all(name in levels_figure().svg() for name in ("5-level", "PAE", "2-level"))


@pytest.mark.parametrize("name", MODES)
def test_the_entries_shown_are_those_that_the_mmu_passes(name: str) -> None:
    mmu = mmu_of(name)
    base = {2: 0xC0000000, 3: 0xC0000000, 4: BASE, 5: 0xFF11000000000000}
    levels = sum(not level.folded for level in mmu.layout.levels)
    rng = random.Random(name)
    for _ in range(100):
        address = base[levels] + rng.randrange(255 << 20)
        shown = entries_on_the_way(mmu, address)
        found, passed = mmu.descend(address)
        assert shown[-1].entry == found.entry
        # The four top entries of PAE are no permissions: the MMU doesn't count them among those it passed.
        assert [(entry.entryp, entry.entry) for entry in shown][-len(passed) :] == passed
        assert len(shown) - len(passed) == (levels == 3)


def test_a_session_tells_hits_walks_faults_and_what_is_stale() -> None:
    boot = Machine.boot("tiny-128m", until="init_mem_mapping").kernel.boot
    walk = PageWalk(boot.mmu)
    at = BASE + 0x201234
    walk.access(at).access(at)
    entryp, _ = lookup_address(boot.swapper_pg_dir, at) or (0, 0)
    walk.act("The kernel empties the entry.", lambda: set_entry(boot.swapper_pg_dir, entryp, 0))
    walk.access(at)
    walk.act("It tells the TLB.", lambda: flush_tlb_one_kernel(boot.mmu, at))
    walk.access(at, "write")
    assert walk.results == [
        f"{at:#x} is 0x201234 in RAM",
        f"{at:#x} is 0x201234 in RAM",
        f"{at:#x} is 0x201234 in RAM",
        f"page fault at {at:#x}: error code 0x0002, not-present page",
    ]
    said = [step.said for step in walk.steps]
    assert sum("no table is read" in text for text in said) == 2
    assert sum("the tables say something else by now" in text for text in said) == 1
    assert any("now stale" in line for step in walk.steps for line in step.changed)
    assert "BUG: unable to handle page fault" in walk.steps[-1].sight.proc
    assert "STALE" in "".join(
        mark.svg() for mark in walk.steps[said.index("The kernel empties the entry.")].sight.picture.marks
    )  # type: ignore[union-attr]
    assert boot.mmu.cr2 == at


def test_a_program_gets_no_oops_and_no_kernel_page() -> None:
    walk = PageWalk(mmu_of("tiny-128m")).access(BASE + 0x201234, "read", "program")
    assert walk.results[0].endswith("error code 0x0005, permissions violation")
    assert walk.steps[-1].sight.proc == ""


def test_an_address_that_is_not_canonical_reads_no_table() -> None:
    walk = PageWalk(mmu_of("tiny-128m")).access(0x0000888000000000)
    assert [step.stack for step in walk.steps] == [("none",), ("none",)]
    assert "general protection" in walk.steps[-1].said


@pytest.mark.parametrize(
    ("what", "who", "address"), [("jump", "kernel", 0), ("read", "devil", 0), ("read", "kernel", 1 << 64)]
)
def test_what_is_no_access_is_refused(what: str, who: str, address: int) -> None:
    with pytest.raises(BadParameter):
        PageWalk(mmu_of("tiny-128m")).access(address, what, who)


def test_the_form_is_answered_with_new_steps_or_with_a_reason() -> None:
    pytest.importorskip("anywidget")
    walk = PageWalk(mmu_of("tiny-128m")).access(BASE)
    before, widget = len(walk.steps), walk.widget
    widget.asked = {"address": "ffff8880_00400000", "what": "write", "who": "kernel", "number": 1}
    assert widget.problem == ""
    assert widget.cursor == before
    assert len(widget.data["steps"]) == len(walk.steps) > before
    widget.asked = {"address": "here", "what": "write", "who": "kernel", "number": 2}
    assert "no hexadecimal number" in widget.problem
    widget.asked = {"flush": True, "number": 3}
    assert walk.mmu.tlb.slots() == ()
    for number in range(4, 120):
        widget.asked = {"address": f"{BASE + number * 0x200000:x}", "what": "read", "who": "kernel", "number": number}
    assert len(walk.steps) <= 80 + 8
    assert 0 <= widget.cursor < len(walk.steps)


def test_addresses_are_read_as_people_write_them() -> None:
    assert address_of("0xFFFF_8880") == address_of("ffff8880 ") == 0xFFFF8880
    with pytest.raises(BadParameter):
        address_of("")


def test_rights_are_letters() -> None:
    assert rights_text(0) == "r-x"


def test_an_entry_of_a_page_that_is_swapped_out_is_told() -> None:
    machine = machine_of()
    machine.swapon(100)
    pid = machine.spawn("prog")
    address = machine.mmap(pid, 4096)
    machine.user_write(pid, address, b"x")
    swap_out(machine, pid, address)
    mm = mm_of(machine, pid)
    switch_mm(mm.common, mm)
    said = [moment.said for moment in moments_of(machine.kernel.boot.mmu, address, X86_PF_USER)]
    switch_mm(mm.common, None)
    told = [text for text in said if "swap" in text]
    assert len(told) == 1
    assert told[0].endswith(
        ": not present, but the kernel keeps a note in it: slot 1 of swap area 0. Here the walk ends."
    )
