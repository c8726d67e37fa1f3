"""pagetypeinfo, slabinfo, vmallocinfo and vmstat against those of real machines, a second after boot."""

from __future__ import annotations

import re
from functools import cache

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo, zoneinfo
from kmemlab.machine.procfs_lists import LEFT_OUT, pagetypeinfo, vmstat
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.machine.vmallocinfo import vmallocinfo
from kmemlab.types.gfp import GFP_KERNEL
from tests.boot.captures import I386, MACHINES, NAMES, saved

BLOCKS = re.compile(r"^Node (\d+), zone +(\S+) +([\d ]+)$", re.M)
FREE = re.compile(r"^Node +(\d+), zone +(\S+), type +(\S+) +([\d >]+)$", re.M)
# What Linux does between the end of boot and the first program's first second takes some pageblocks of other types.
TAKEN_LATER = 64


@cache
def booted(name: str) -> Kernel:
    kernel = Kernel(load_spec(MACHINES / name))
    start_kernel(kernel)
    return kernel


def blocks(text: str) -> dict[tuple[str, str], list[int]]:
    return {(node, zone): [int(count) for count in counts.split()] for node, zone, counts in BLOCKS.findall(text)}


@pytest.mark.parametrize("name", NAMES + I386)
def test_each_zone_has_as_many_pageblocks_as_in_linux(name: str) -> None:
    mine, real = blocks(pagetypeinfo(booted(name))), blocks(saved(name, "pagetypeinfo.txt"))
    assert {zone: sum(counts) for zone, counts in mine.items()} == {zone: sum(counts) for zone, counts in real.items()}
    for zone, counts in mine.items():
        assert counts[0] <= real[zone][0] <= counts[0] + TAKEN_LATER
        if zone[1] == "Movable":  # where the kernel itself asks for nothing, they still are what boot made them
            assert counts == real[zone]


@pytest.mark.parametrize("name", ["amd64-numa2-4g-4cpu", "amd64-numa2-memless-2g-2cpu", "amd64-kernelcore-3g", *I386])
def test_pagetypeinfo_is_laid_out_as_in_linux(name: str) -> None:
    mine, real = pagetypeinfo(booted(name)).splitlines(), saved(name, "pagetypeinfo.txt").splitlines()
    assert [re.sub(r" +\d+", "  n", line) for line in mine] == [re.sub(r" +\d+", "  n", line) for line in real]
    assert [len(line) for line in mine] == [len(line) for line in real]


def test_the_free_blocks_of_all_types_are_those_of_buddyinfo() -> None:
    kernel = booted("amd64-numa2-4g-4cpu")
    found: dict[tuple[str, str], list[int]] = {}
    for node, zone, _, counts in FREE.findall(pagetypeinfo(kernel)):
        row = found.setdefault((node, zone), [0] * 11)
        found[node, zone] = [sum(pair) for pair in zip(row, map(int, counts.split()), strict=True)]
    assert found == {(str(zone.node), zone.name): zone.nr_free.tolist() for zone in kernel.mm.populated_zones()}


def test_a_very_long_list_is_only_said_to_be_long() -> None:
    kernel = Kernel(load_spec("la57-64t"))
    start_kernel(kernel)
    rows = [counts for _, _, kind, counts in FREE.findall(pagetypeinfo(kernel)) if kind == "Movable"]
    assert rows[-1].split()[-1] == ">100000"


@pytest.mark.parametrize("name", NAMES)
def test_slabinfo_has_kmallocs_rows_as_linux_does(name: str) -> None:
    mine, real = slabinfo(booted(name)).splitlines(), saved(name, "slabinfo.txt").splitlines()
    assert mine[:2] == real[:2]
    geometry = re.compile(r"(\S+) +\d+ +\d+ +(\d+) +(\d+) +(\d+) : tunables +(\d+) +(\d+) +(\d+) : slabdata")
    ours = [geometry.match(line) for line in mine[2:]]
    names = {found[1] for found in ours if found}
    theirs = [geometry.match(line) for line in real[2:]]
    wanted = [found.groups() for found in theirs if found and found[1] in names]
    assert [found.groups() for found in ours if found] == wanted
    assert len(mine[2]) == len(real[-1])


@pytest.mark.parametrize("name", NAMES)
def test_vmstat_has_rows_of_linux_in_its_order_and_invents_none(name: str) -> None:
    rows = [tuple(line.split()) for line in vmstat(booted(name)).splitlines()]
    real = [tuple(line.split()) for line in saved(name, "vmstat.txt").splitlines()]
    kept = [row[0] for row in rows]
    assert kept == [name for name, _ in real if name in kept]
    # Nothing that the model says to be 0 was there on a real machine by then. Events go on with each program.
    mine, states = dict(rows), kept[: kept.index("pgpgin")]
    states = [name for name in states if not name.startswith(("nr_free_pages", "nr_slab", "numa_"))]
    assert [(name, mine[name]) for name in states] == [(name, count) for name, count in real if name in states]
    assert int(mine["nr_free_pages"]) >= int(dict(real)["nr_free_pages"])
    assert 0 < int(mine["nr_slab_unreclaimable"]) < int(dict(real)["nr_slab_unreclaimable"])
    assert all(re.search(rf"\b{name}\b", LEFT_OUT["vmstat.txt"]) is None for name in kept)


def test_events_and_origins_are_counted() -> None:
    machine = Machine.boot("numa-2x4g")
    before = dict(row.split() for row in vmstat(machine.kernel).splitlines())
    pages = [machine.alloc_pages(GFP_KERNEL, order) for order in (0, 3, 9)]
    machine.free_pages(pages[1], 3)
    after = dict(row.split() for row in vmstat(machine.kernel).splitlines())
    grown = {name: int(after[name]) - int(before[name]) for name in after if after[name] != before[name]}
    assert sum(grown[name] for name in grown if name.startswith("pgalloc_")) == 1 + 8 + 512
    assert grown["pgfree"] == 8
    assert grown["numa_hit"] == grown["numa_local"] == 3
    shown = sum(int(hits) for hits in re.findall(r"numa_hit +(\d+)", zoneinfo(machine.kernel)))
    assert shown == int(after["numa_hit"])


@pytest.mark.parametrize("name", NAMES + I386)
def test_zoneinfo_has_the_rows_of_linux(name: str) -> None:
    mine, real = zoneinfo(booted(name)).splitlines(), saved(name, "zoneinfo.txt").splitlines()
    assert [re.sub(r"[ \d]+", " ", line) for line in mine] == [re.sub(r"[ \d]+", " ", line) for line in real]


def test_tables_spread_over_nodes_are_areas_of_vmalloc() -> None:
    name = "amd64-numa2-4g-4cpu"
    mine = vmallocinfo(booted(name)).splitlines()
    real = [re.sub(r"\+0x\w+/0x\w+", "", line) for line in saved(name, "vmallocinfo.txt").splitlines()]
    assert len(mine) == 3  # two tables, and the list of the pages of the larger one
    # The list lies lower than its table here; there other areas were in its way.
    assert all(line in real for line in mine)
    assert vmallocinfo(booted("amd64-1g")) == ""


@pytest.mark.parametrize("name", NAMES + I386)
def test_meminfo_has_fields_of_linux_in_its_order(name: str) -> None:
    mine = [line.split(":")[0] for line in meminfo(booted(name)).splitlines()]
    real = [line.split(":")[0] for line in saved(name, "meminfo.txt").splitlines()]
    assert mine == [field for field in real if field in mine]


def test_slabs_in_meminfo_are_the_pages_that_caches_hold() -> None:
    machine = Machine.boot("tiny-128m")

    def told() -> dict[str, int]:
        return {line.split(":")[0]: int(line.split()[1]) for line in meminfo(machine.kernel).splitlines()}

    before = told()
    objects = [machine.kmalloc(4096) for _ in range(64)] + [machine.kmalloc(64 * 1024)]
    held = told()
    assert held["SUnreclaim"] - before["SUnreclaim"] >= 64 * 4 + 64
    assert held["Slab"] == held["SReclaimable"] + held["SUnreclaim"]
    assert held["SReclaimable"] == before["SReclaimable"]
    machine.kfree(objects.pop())
    assert held["SUnreclaim"] - told()["SUnreclaim"] == 64
