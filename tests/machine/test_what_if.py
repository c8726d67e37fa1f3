"""Knobs turned on real machines, one after another: all watermarks, reserves and limits are as on the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.machine.machine import Machine
from kmemlab.mm.pcp import drain_all_pages
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import __GFP_MEMALLOC, __GFP_NOWARN, GFP_NOWAIT
from tests.boot.captures import MACHINES

WHAT_IF: dict[str, dict[str, Any]] = json.loads((MACHINES.parent / "what_if.json").read_text())
THP = "kernel/mm/transparent_hugepage/enabled"


def turn(machine: Machine, boot: dict[str, str], step: str) -> Callable[[], object]:
    """Turn one knob; what is returned turns back what the script that did so on the real machines turned back."""
    name, sysctl = step.partition("_")[2], machine.sysctl
    if name == "thp_never":
        machine.sysfs(THP, "never")
        return lambda: machine.sysfs(THP, boot["thp"])
    if name == "thp_always":
        machine.sysfs(THP, "always")
        return lambda: machine.sysfs(THP, "never")
    if name == "watermark_scale_factor_200":
        sysctl("vm.watermark_scale_factor", 200)
        return lambda: sysctl("vm.watermark_scale_factor", boot["scale"])
    if name == "min_free_kbytes_8192":
        sysctl("vm.min_free_kbytes", 8192)
    elif name == "lowmem_reserve_ratio_all_64":
        sysctl("vm.lowmem_reserve_ratio", "64 64 64 0 0")
        return lambda: sysctl("vm.lowmem_reserve_ratio", boot["ratios"])
    elif name == "percpu_pagelist_high_fraction_16":
        sysctl("vm.percpu_pagelist_high_fraction", 16)
        return lambda: (sysctl("vm.percpu_pagelist_high_fraction", 0), sysctl("vm.min_free_kbytes", boot["kib"]))
    elif name == "nr_hugepages_8":
        sysctl("vm.nr_hugepages", 8)
    else:
        assert name == "drop_caches_and_compact"  # which changes none of these numbers
    return lambda: None


def zones_of(machine: Machine) -> dict[str, list[Any]]:
    cpus = machine.spec.cpus.present
    return {
        f"{zone.node}/{zone.name}": [
            *list(zone.watermark)[:3],
            list(zone.lowmem_reserve)[: len(machine.kernel.boot.config.zone_names)],
            [[zone.pageset_high, zone.pageset_batch]] * cpus,
        ]
        for zone in machine.zones
    }


@pytest.mark.parametrize("name", WHAT_IF)
def test_every_step(name: str) -> None:
    machine, real = Machine.boot(MACHINES / name), WHAT_IF[name]
    # Before the first step all tunables were read, and reading this one works the reserves out anew.
    boot = {"ratios": machine.sysctl("vm.lowmem_reserve_ratio"), "scale": machine.sysctl("vm.watermark_scale_factor")}
    boot["kib"] = machine.sysctl("vm.min_free_kbytes")
    if "pse" in machine.spec.cpus.flags:
        boot["thp"] = machine.sysfs(THP).partition("[")[2].partition("]")[0]
    for step, after in real.items():
        back = turn(machine, boot, step)
        zones = after["zones"] if isinstance(after["zones"], dict) else real[after["zones"]]["zones"]
        assert zones_of(machine) == zones, step
        assert after.get("min_free_kbytes") in (None, int(machine.sysctl("vm.min_free_kbytes"))), step
        back()
    machine.check()


@pytest.fixture
def machine() -> Machine:
    return Machine.boot("tiny-128m")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("vm.swappy", 1, "there is no tunable 'vm.swappy'"),
        ("vm.min_free_kbytes", "much", "'much' is no value for vm.min_free_kbytes"),
        ("vm.min_free_kbytes", -1, "vm.min_free_kbytes can't be -1"),
        ("vm.watermark_scale_factor", 0, "can't be 0"),
        ("vm.watermark_scale_factor", 3001, "can't be 3001"),
        ("vm.percpu_pagelist_high_fraction", 7, "can't be 7"),
        ("vm.lowmem_reserve_ratio", "", "'' is no value"),
        ("vm.min_slab_ratio", 101, "can't be 101"),
    ],
)
def test_what_the_kernel_refuses(machine: Machine, name: str, value: int | str, words: str) -> None:
    before = zones_of(machine)
    with pytest.raises(BadRequest) as refusal:
        machine.sysctl(name, value)
    assert words in refusal.value.what
    assert refusal.value.remedy
    assert zones_of(machine) == before


def test_files_of_sys(machine: Machine) -> None:
    assert machine.sysfs(THP) == "always madvise [never]"  # less than 512 MiB: off, but the knob is there
    assert machine.sysfs(f"/sys/{THP}", "madvise") == "always [madvise] never"
    extfrag = "/sys/kernel/debug/extfrag/extfrag_index"
    for name, value in ((THP, "sometimes"), ("kernel/mm/ksm/run", "1"), (extfrag, "1")):
        with pytest.raises(BadRequest):
            machine.sysfs(name, value)
    with pytest.raises(BadRequest, match="there is no file"):
        Machine.boot({"e820": [[0, 0x9FBFF, "usable"], [0x100000, (128 << 20) - 1, "usable"]]}).sysfs(THP)


def test_fragmentation_is_a_file_of_sys(machine: Machine) -> None:
    folder = "kernel/debug/extfrag"
    fresh = machine.sysfs(f"{folder}/extfrag_index")
    assert fresh.splitlines()[0].split()[:4] == ["Node", "0,", "zone", "DMA"]
    assert len(fresh.splitlines()) == len(machine.zones)
    assert "0." not in fresh  # -1.000 each: nothing would fail
    # Every other page of all memory is held: nothing but single pages is left, and all that fails does so for that.
    drain_all_pages(machine.kernel.mm)
    pages = []
    while (pfn := alloc_pages_inner(machine.kernel.mm, GFP_NOWAIT | __GFP_NOWARN | __GFP_MEMALLOC, 0, 0)) is not None:
        pages.append(pfn)
    for pfn in pages:
        if pfn % 2:
            free_pages_inner(machine.kernel.mm, pfn, 0)
    drain_all_pages(machine.kernel.mm)
    row = machine.sysfs(f"{folder}/extfrag_index").splitlines()[1].split()[4:]
    assert row[0] == "-1.000"
    assert all(float(index) > 0.9 for index in row[4:])
    unusable = machine.sysfs(f"{folder}/unusable_index").splitlines()[1].split()[4:]
    assert unusable[0] == "0.000"
    assert all(float(index) > 0.9 for index in unusable[1:])


def test_what_the_user_sets_is_not_lowered_again(machine: Machine) -> None:
    machine.sysctl("vm.min_free_kbytes", 4000)
    machine.sysfs(THP, "never")
    assert machine.sysctl("vm.min_free_kbytes") == "4000"
    assert any("user defined value 4000 is preferred" in line for line in machine.kernel.printk_lines)


def test_huge_pages_come_and_go(machine: Machine) -> None:
    drain_all_pages(machine.kernel.mm)  # as the slow path does when the pool asks for more than there is
    free = [zone.vm_stat[0] for zone in machine.zones]
    assert machine.sysctl("vm.nr_hugepages", 4) == "4"
    assert sum(free) - sum(zone.vm_stat[0] for zone in machine.zones) == 4 * 512
    assert int(machine.sysctl("vm.nr_hugepages", 100000)) < 64
    assert machine.sysctl("vm.nr_hugepages", 0) == "0"
    drain_all_pages(machine.kernel.mm)
    assert [zone.vm_stat[0] for zone in machine.zones] == free
    machine.check()


def test_a_turned_knob_is_recorded_and_rewound(machine: Machine) -> None:
    before = zones_of(machine)
    timeline = machine.record()
    machine.sysctl("vm.min_free_kbytes", 6000)
    machine.sysctl("vm.nr_hugepages", 3)
    after = zones_of(machine)
    assert [command.name for command in machine.commands][-2:] == ["sysctl", "sysctl"]
    timeline.rewind(0)
    assert zones_of(machine) == before
    timeline.to_end()
    assert zones_of(machine) == after
    machine.stop_recording()
