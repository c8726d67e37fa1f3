"""madvise: what a program says of its pages, and what becomes of them."""

from __future__ import annotations

import pytest

from kmemlab.mm.lru import lru_add_drain
from kmemlab.mm.page_state import page_has_flag, set_page_flag
from kmemlab.process.madvise import MADV_COLD, MADV_DONTNEED, MADV_PAGEOUT
from kmemlab.process.mman import MAP_PRIVATE, PROT_READ
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.pageflags import PG_active, PG_referenced, PG_swapcache
from tests.process.space import PAGE, machine_of, mm_of


def test_dont_need_gives_zeros_back() -> None:
    machine = machine_of()
    pid = machine.spawn("prog")
    address = machine.mmap(pid, 4 * PAGE)
    machine.user_write(pid, address, b"x" * (4 * PAGE))
    machine.madvise(pid, address + PAGE, 2 * PAGE, MADV_DONTNEED)
    assert machine.user_read(pid, address, 4 * PAGE) == b"x" * PAGE + bytes(2 * PAGE) + b"x" * PAGE
    assert mm_of(machine, pid).map_count == 2  # the VMA stays as it is
    machine.check()


def test_cold_pages_come_to_the_inactive_list() -> None:
    machine = machine_of()
    pid = machine.spawn("prog")
    address = machine.mmap(pid, PAGE)
    machine.user_write(pid, address, b"x")
    mm, pfn = machine.kernel.mm, machine.user_pfn(pid, address)
    assert pfn is not None
    set_page_flag(mm.page, pfn, PG_active)  # it still waits for its list
    set_page_flag(mm.page, pfn, PG_referenced)
    machine.madvise(pid, address, PAGE, MADV_COLD)
    lru_add_drain(mm)
    assert not page_has_flag(mm.page, pfn, PG_active)
    assert not page_has_flag(mm.page, pfn, PG_referenced)
    assert machine.user_read(pid, address, 1) == b"x"
    machine.check()


def test_clean_pages_of_a_file_are_dropped_by_pageout() -> None:
    machine = machine_of()
    machine.create_file("data", 8)
    pid = machine.spawn("prog")
    address = machine.mmap(pid, 4 * PAGE, PROT_READ, MAP_PRIVATE, file="data")
    assert machine.user_read(pid, address + PAGE, 1) == b"\2"
    assert machine.user_pfn(pid, address + PAGE) is not None
    machine.madvise(pid, address, 4 * PAGE, MADV_PAGEOUT)
    assert machine.user_pfn(pid, address + PAGE) is None
    assert machine.user_read(pid, address + PAGE, 1) == b"\2"
    machine.check()


def test_without_swap_and_where_others_have_them_pages_stay() -> None:
    machine = machine_of()
    pid = machine.spawn("prog")
    address = machine.mmap(pid, 2 * PAGE)
    machine.user_write(pid, address, b"x" * (2 * PAGE))
    before = [machine.user_pfn(pid, address + at * PAGE) for at in range(2)]
    machine.madvise(pid, address, 2 * PAGE, MADV_PAGEOUT)
    assert [machine.user_pfn(pid, address + at * PAGE) for at in range(2)] == before
    machine.swapon(100)
    child = machine.sys_fork(pid)
    machine.user_write(child, address, b"own")
    machine.madvise(pid, address, 2 * PAGE, MADV_PAGEOUT)
    assert machine.user_pfn(pid, address) is None
    assert machine.user_pfn(pid, address + PAGE) == before[1]
    assert not page_has_flag(machine.kernel.mm.page, before[1], PG_swapcache)
    machine.check()


def test_what_is_mapped_is_done_and_then_the_hole_is_told() -> None:
    machine = machine_of()
    pid = machine.spawn("prog")
    address = machine.mmap(pid, 5 * PAGE)
    machine.user_write(pid, address, b"x" * (5 * PAGE))
    machine.munmap(pid, address + 2 * PAGE, PAGE)
    with pytest.raises(OutOfMemory, match="not all of it"):
        machine.madvise(pid, address, 5 * PAGE, MADV_DONTNEED)
    assert machine.user_read(pid, address + 4 * PAGE, 1) == b"\0"
    machine.check()


@pytest.mark.parametrize(("at", "length", "advice"), [(1, PAGE, MADV_COLD), (0, -1, MADV_COLD), (0, PAGE, 99)])
def test_arguments_that_make_no_sense(at: int, length: int, advice: int) -> None:
    machine = machine_of()
    pid = machine.spawn("prog")
    with pytest.raises(BadRequest, match="EINVAL"):
        machine.madvise(pid, machine.mmap(pid, PAGE) + at, length, advice)


def test_locked_pages_take_no_advice() -> None:
    machine = machine_of()
    pid = machine.spawn("prog")
    address = machine.mmap(pid, PAGE)
    machine.mlock(pid, address, PAGE)
    with pytest.raises(BadRequest, match="locked"):
        machine.madvise(pid, address, PAGE, MADV_PAGEOUT)
    machine.check()
