"""From RAM to MemTotal: the steps add up, and the ends are what real machines counted."""

from __future__ import annotations

import json
import re

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.views.overview import overview_figure, stages
from kmemlab.views.waterfall import Waterfall, to_free, waterfall
from tests.boot.captures import ALL, MACHINES, saved

PLAIN = [name for name in ALL if name.startswith(("amd64", "i386")) and "dimm" not in name][::4]


def sizes(fall: Waterfall) -> dict[str, int]:
    return {step.name: step.size for step in fall.steps}


@pytest.mark.parametrize("name", PLAIN)
def test_real_machines_counted_the_same_memtotal(name: str) -> None:
    fall = waterfall(MACHINES / name / "hardware.json")
    found = re.search(r"MemTotal: +(\d+) kB", saved(name, "meminfo.txt"))
    assert found is not None
    assert fall.memtotal == int(found[1]) << 10
    assert sum(step.size for step in fall.steps[:-1]) == fall.memtotal


def test_the_parts_are_what_the_description_says() -> None:
    fall = sizes(waterfall("laptop-8g"))
    spec = json.loads((MACHINES.parents[2] / "kmemlab" / "hardware" / "presets" / "laptop-8g.json").read_text())
    assert fall["the initrd"] == -(spec["initrd"][1] + 1 - spec["initrd"][0] + 4095 & -4096)
    usable = sum(end + 1 - start for start, end, kind in spec["e820"] if kind == "usable")
    assert fall["usable, says the firmware"] == usable
    # 64 bytes for each page of the sections that hold memory; a few pages more for the sections themselves
    sections = {at >> 27 for start, end, kind in spec["e820"] if kind == "usable" for at in range(start, end, 1 << 27)}
    assert 0 <= -fall["the memory map"] - (len(sections) << 21) < 1 << 20


def test_text_and_picture_say_the_same() -> None:
    fall = waterfall("tiny-128m")
    figure = fall.figure()
    for step in fall.steps:
        assert step.name in figure.text()
        assert step.name in figure.svg()
        assert step.name in figure.alt


def test_the_overview_has_the_numbers_of_the_machine() -> None:
    told = {name: number for _, name, _, number in stages("laptop-8g")}
    assert told["the firmware's map"].startswith("18 ranges")
    assert told["nodes and zones"] == "1 node, 3 zones"
    figure = overview_figure("laptop-8g")
    for name, number in told.items():
        assert name in figure.text()
        assert number in figure.text()
        assert number in figure.alt


def test_the_way_goes_on_to_memfree_and_adds_up() -> None:
    machine = Machine.boot("tiny-128m")
    pid = machine.spawn("sh")
    machine.touch(pid, machine.mmap(pid, 1000 << 12), 1000 << 12)
    machine.create_file("film", pages=500)
    machine.read_file("film")
    text = meminfo(machine.kernel)
    fall = to_free("a machine", text, waterfall("tiny-128m"))
    step = sizes(fall)
    assert fall.title == "a machine: from RAM to MemFree"
    assert fall.memtotal == waterfall("tiny-128m").memtotal
    assert step["MemFree"] == sum(zone.vm_stat[0] for zone in machine.zones) << 12
    assert sum(s.size for s in fall.steps if not s.total) + fall.usable == step["MemFree"]
    assert -step["programs"] >= 1000 << 12
    assert -step["page cache"] >= 500 << 12
    assert step["no row of its own"] <= 0
    for s in fall.steps:
        assert s.name in fall.figure().svg()


@pytest.mark.parametrize("name", PLAIN)
def test_real_machines_add_up_from_memtotal_to_memfree(name: str) -> None:
    fall = to_free(name, saved(name, "meminfo.txt"))
    assert fall.title == f"{name}: from MemTotal to MemFree"
    assert sum(s.size for s in fall.steps if not s.total) + fall.memtotal == fall.steps[-1].size
    assert all(s.size < 0 for s in fall.steps if not s.total), "nobody holds less than nothing"
