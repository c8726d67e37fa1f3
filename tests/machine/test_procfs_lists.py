"""pagetypeinfo, slabinfo, vmallocinfo and vmstat against those of real machines, a second after boot."""

from __future__ import annotations

import re
from functools import cache

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.procfs_lists import LEFT_OUT, pagetypeinfo, vmstat
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.machine.vmallocinfo import vmallocinfo
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
    rows = [line.split() for line in vmstat(booted(name)).splitlines()]
    real = [line.split() for line in saved(name, "vmstat.txt").splitlines()]
    kept = {row[0] for row in rows}
    # Nothing that the model says to be 0 was counted on a real machine by then.
    assert [row for row in rows if row[0] != "nr_free_pages"] == [
        row for row in real if row[0] in kept and row[0] != "nr_free_pages"
    ]
    assert int(rows[0][1]) >= int(real[0][1])
    assert all(re.search(rf"\b{row[0]}\b", LEFT_OUT["vmstat.txt"]) is None for row in rows)


def test_tables_spread_over_nodes_are_areas_of_vmalloc() -> None:
    name = "amd64-numa2-4g-4cpu"
    mine = vmallocinfo(booted(name)).splitlines()
    real = [re.sub(r"\+0x\w+/0x\w+", "", line) for line in saved(name, "vmallocinfo.txt").splitlines()]
    assert len(mine) == 3  # two tables, and the list of the pages of the larger one
    # The list lies lower than its table here; there other areas were in its way.
    assert all(line in real for line in mine)
    assert vmallocinfo(booted("amd64-1g")) == ""
