"""VMAs: where mmap puts them, how they are cut and joined, and what brk may do."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.process.check_process import check_processes
from kmemlab.process.mm_struct import MAX_MAP_COUNT
from kmemlab.process.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, MAP_SHARED
from kmemlab.types.errors import BadRequest, OutOfMemory
from tests.process.space import NONE, PAGE, RW, R, machine_of, mm_of, ranges

FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = machine_of()
    yield machine
    machine.check()


def at(machine: Machine, pid: int, where: int, pages: int, prot: int = RW) -> None:
    assert machine.mmap(pid, pages * PAGE, prot, FIXED, where) == where


# With address randomisation off (setarch -R), real kernels put the stack and the first mapping here.
LAYOUTS = {
    "tiny-128m": (0x7FFFFFFFF000, 0x7FFFF7FFF000),
    "laptop-8g": (0x7FFFFFFFF000, 0x7FFFF7FFF000),
    "i386": (0xC0000000, 0xB8000000),
    "pae": (0xC0000000, 0xB8000000),
    "la57": (0x7FFFFFFFF000, 0x7FFFF7FFF000),
}


def spec_of(name: str) -> object:
    from tests.boot.captures import MACHINES

    named = {"i386": "i386-256m", "pae": "i386-pae-256m", "la57": "amd64-la57-2g"}
    return load_spec(MACHINES / named[name] / "hardware.json") if name in named else name


@pytest.mark.parametrize("name", LAYOUTS)
def test_stack_and_first_mapping_are_where_linux_puts_them(name: str) -> None:
    machine = Machine.boot(spec_of(name))
    pid = machine.spawn("sh")
    top, base = LAYOUTS[name]
    assert ranges(machine, pid) == [(top - 33 * PAGE, top, "rw-p")]
    assert machine.mmap(pid, 5 * PAGE) == base - 5 * PAGE
    machine.user_write(pid, base - PAGE - 2, b"over the border of a page")
    child = machine.sys_fork(pid)
    machine.user_write(child, base - PAGE, b"COW")
    assert machine.user_read(pid, base - PAGE - 2, 8) == b"over the"
    assert machine.user_read(child, base - PAGE - 2, 8) == b"ovCOWthe"
    machine.sys_exit(pid)
    machine.sys_exit(child)
    machine.check()


def test_neighbours_that_are_alike_become_one(machine: Machine) -> None:
    pid = machine.spawn()
    first = machine.mmap(pid, PAGE)
    second = machine.mmap(pid, 2 * PAGE)
    assert (second, len(ranges(machine, pid))) == (first - 2 * PAGE, 2)
    machine.mmap(pid, PAGE, R)
    assert len(ranges(machine, pid)) == 3


def test_an_area_between_two_joins_both(machine: Machine) -> None:
    pid = machine.spawn()
    at(machine, pid, 0x10000000, 2)
    at(machine, pid, 0x10004000, 2)
    assert len(ranges(machine, pid)) == 3
    at(machine, pid, 0x10002000, 2)
    assert ranges(machine, pid)[0] == (0x10000000, 0x10006000, "rw-p")


def test_pages_with_two_anon_vmas_keep_areas_apart(machine: Machine) -> None:
    pid = machine.spawn()
    for where in (0x10000000, 0x10004000):
        at(machine, pid, where, 2)
        machine.touch(pid, where, PAGE)
    at(machine, pid, 0x10002000, 2)
    assert [row[:2] for row in ranges(machine, pid)[:2]] == [(0x10000000, 0x10004000), (0x10004000, 0x10006000)]


def test_munmap_in_the_middle_cuts_in_two(machine: Machine) -> None:
    pid = machine.spawn()
    at(machine, pid, 0x10000000, 8)
    machine.touch(pid, 0x10000000, 8 * PAGE)
    machine.munmap(pid, 0x10002000, 3 * PAGE)
    assert [row[:2] for row in ranges(machine, pid)[:2]] == [(0x10000000, 0x10002000), (0x10005000, 0x10008000)]
    assert machine.user_pfn(pid, 0x10002000) is None
    assert machine.user_pfn(pid, 0x10005000) is not None
    machine.munmap(pid, 0x10002000, PAGE)  # nothing is there: that is no error


def test_what_is_unmapped_is_free_at_once(machine: Machine) -> None:
    pid = machine.spawn()
    machine.touch(pid, machine.mmap(pid, PAGE), PAGE)  # the page tables
    zones = machine.zones

    def free() -> int:
        return sum(zone.vm_stat[NR_FREE_PAGES] + sum(zone.per_cpu_pageset.count) for zone in zones)

    for pages in (1, 15, 20, 600):  # some wait in a batch to come to an LRU list
        where, before = machine.mmap(pid, pages * PAGE), free()
        machine.touch(pid, where, pages * PAGE)
        machine.munmap(pid, where, pages * PAGE)
        assert before - free() <= 2  # tables, at most


def test_mprotect_cuts_and_joins_again(machine: Machine) -> None:
    pid = machine.spawn()
    at(machine, pid, 0x10000000, 8)
    machine.user_write(pid, 0x10003000, b"kept")
    machine.mprotect(pid, 0x10002000, 3 * PAGE, R)
    assert [row[2] for row in ranges(machine, pid)[:3]] == ["rw-p", "r--p", "rw-p"]
    machine.mprotect(pid, 0x10003000, PAGE, NONE)
    assert [row[2] for row in ranges(machine, pid)[:5]] == ["rw-p", "r--p", "---p", "r--p", "rw-p"]
    machine.mprotect(pid, 0x10000000, 8 * PAGE, RW)
    assert len(ranges(machine, pid)) == 2
    assert machine.user_read(pid, 0x10003000, 4) == b"kept"


def test_mprotect_stops_at_a_hole(machine: Machine) -> None:
    pid = machine.spawn()
    at(machine, pid, 0x10000000, 2)
    at(machine, pid, 0x10004000, 2)
    with pytest.raises(OutOfMemory, match="ENOMEM: nothing is mapped at 0x10002000"):
        machine.mprotect(pid, 0x10000000, 6 * PAGE, R)
    assert [row[2] for row in ranges(machine, pid)[:2]] == ["r--p", "rw-p"]


def test_a_wish_is_granted_where_there_is_room(machine: Machine) -> None:
    pid = machine.spawn()
    assert machine.mmap(pid, PAGE, addr=0x20000123) == 0x20000000
    assert machine.mmap(pid, PAGE, addr=0x20000000) != 0x20000000
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    with pytest.raises(BadRequest, match="EEXIST"):
        machine.mmap(pid, PAGE, RW, flags, 0x20000000)


def test_mmap_falls_back_to_bottom_up_and_then_there_is_no_room() -> None:
    machine = Machine.boot(spec_of("i386"))
    pid = machine.spawn()
    machine.sysctl("vm.overcommit_memory", 1)
    whole = machine.mmap(pid, 0xB8000000 - PAGE)
    assert whole == PAGE
    assert machine.mmap(pid, 64 << 20) >= 0xB8000000
    with pytest.raises(OutOfMemory, match="ENOMEM"):
        machine.mmap(pid, 1 << 30)
    machine.check()


@pytest.mark.parametrize(
    ("length", "prot", "flags"),
    [(0, RW, FIXED), (-1, RW, FIXED), (PAGE, 8, FIXED), (PAGE, RW, MAP_SHARED | MAP_ANONYMOUS), (PAGE, RW, 2)],
)
def test_arguments_that_make_no_sense(machine: Machine, length: int, prot: int, flags: int) -> None:
    pid = machine.spawn()
    with pytest.raises(BadRequest, match="EINVAL"):
        machine.mmap(pid, length, prot, flags, 0x10000000)


def test_brk_moves_the_end_of_the_heap(machine: Machine) -> None:
    pid = machine.spawn()
    start = machine.brk(pid)
    assert machine.brk(pid, start + 10000) == start + 10000
    assert ranges(machine, pid)[0] == (start, start + 3 * PAGE, "rw-p")
    machine.touch(pid, start, 10000)
    assert machine.brk(pid, start - 1) == start + 10000
    assert machine.brk(pid, start + 100) == start + 100
    assert machine.user_pfn(pid, start + PAGE) is None
    assert machine.brk(pid, start + (1 << 46)) == start + 100  # more than the machine has
    machine.sysctl("vm.overcommit_memory", 1)
    assert machine.brk(pid, start + (1 << 46)) == start + (1 << 46)
    at(machine, pid, start + (1 << 46) + 2 * PAGE, 1)
    assert machine.brk(pid, start + (1 << 46) + 3 * PAGE) == start + (1 << 46)


def test_a_process_has_only_so_many_vmas(machine: Machine) -> None:
    pid = machine.spawn()
    for nth in range(MAX_MAP_COUNT - 1):
        at(machine, pid, 0x10000000 + 2 * PAGE * nth, 1)
    with pytest.raises(OutOfMemory, match="VMAs"):
        machine.mmap(pid, PAGE, R)
    machine.munmap(pid, 0x10000000, 4 * PAGE)
    at(machine, pid, 0x10000000, 3)
    at(machine, pid, 0x20000000, 1)
    with pytest.raises(OutOfMemory, match="VMAs"):
        machine.munmap(pid, 0x10001000, PAGE)
    with pytest.raises(OutOfMemory, match="VMAs"):
        machine.mprotect(pid, 0x10001000, PAGE, R)
    machine.munmap(pid, 0x10002000, PAGE)
    machine.check()
    machine.sys_exit(pid)


def test_against_a_page_by_page_model(machine: Machine) -> None:
    """Whatever is mapped, unmapped and protected, the pages have the rights that a dict says."""
    chance = random.Random(6)
    pid = machine.spawn()
    low = 0x10000000
    model: dict[int, int] = {}
    for _ in range(250):
        first, pages = chance.randrange(40), chance.randrange(1, 12)
        where, prot = low + first * PAGE, chance.choice((NONE, R, RW))
        action = chance.choice(("mmap", "munmap", "mprotect"))
        span = range(first, first + pages)
        if action == "mmap":
            at(machine, pid, where, pages, prot)
            model.update(dict.fromkeys(span, prot))
        elif action == "munmap":
            machine.munmap(pid, where, pages * PAGE)
            for page in span:
                model.pop(page, None)
        elif all(page in model for page in span):
            machine.mprotect(pid, where, pages * PAGE, prot)
            model.update(dict.fromkeys(span, prot))
        found = {
            (start - low) // PAGE + nth: (rights[0] == "r") + 2 * (rights[1] == "w")
            for start, end, rights in ranges(machine, pid)[:-1]
            for nth in range((end - start) // PAGE)
        }
        assert found == model
        check_processes(machine.kernel.processes)
    assert mm_of(machine, pid).total_vm == len(model) + 33
