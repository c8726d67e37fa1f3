"""Swapping as programs see it: what they wrote comes back, from wherever it is."""

from __future__ import annotations

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.swap_info import SWAP_HAS_CACHE
from kmemlab.mm.swap_state import total_swapcache_pages
from kmemlab.mm.swapops import pte_swp_exclusive, swp_offset
from kmemlab.mm.vm_event import PGMAJFAULT, PSWPIN, PSWPOUT
from kmemlab.process.madvise import MADV_DONTNEED, MADV_PAGEOUT
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_SWAPENTS
from kmemlab.process.task_struct import find_task
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.pageflags import PG_anon_exclusive, PG_dirty, PG_swapcache, PG_writeback
from tests.process.space import NONE, PAGE, RW, R, mm_of
from tests.process.swapping import (
    MACHINES,
    content,
    entry_of,
    event,
    evict,
    pageout,
    process,
    pte_of,
    stat,
    stored,
    swap_out,
    usage,
    with_swap,
)

# -- out and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solid_state", [False, True])
@pytest.mark.parametrize("source", ["tiny-128m", "i386-pae", "i386"])
def test_what_was_written_comes_back(source: str, solid_state: bool) -> None:
    machine = with_swap(MACHINES[source], solid_state=solid_state)
    pid, address = process(machine, 40)
    swap_out(machine, pid, address, 40)
    assert mm_of(machine, pid).rss_stat[MM_SWAPENTS] == 40
    assert total_swapcache_pages(machine.kernel.mm) == 0
    machine.check()
    for nth in (3, 39, 0, *range(40)):
        assert machine.user_read(pid, address + nth * PAGE, PAGE) == content(nth).ljust(PAGE, b"\0")
    machine.check()
    assert mm_of(machine, pid).rss_stat[MM_ANONPAGES] == 40
    assert event(machine, PSWPIN) == event(machine, PSWPOUT) == 40
    machine.sys_exit(pid, 0)
    machine.check()


def test_an_entry_names_the_slot_and_the_disk_has_the_page() -> None:
    machine = with_swap()
    pid, address = process(machine, 4)
    swap_out(machine, pid, address, 4)
    mm = machine.kernel.mm
    for nth in range(4):
        offset = swp_offset(entry_of(machine, pid, address + nth * PAGE))
        assert offset == 1 + nth
        assert usage(machine, offset) == 1
        block = mm.swap.info[0].first_block + offset
        assert mm.disk.contents.read_bytes(block * PAGE, PAGE) == content(nth).ljust(PAGE, b"\0")
        assert machine.user_pfn(pid, address + nth * PAGE) is None


def test_the_header_is_as_mkswap_writes_it() -> None:
    machine = with_swap(pages=1000)
    machine.sync()
    mm = machine.kernel.mm
    header = mm.disk.contents.read_bytes(mm.swap.info[0].first_block * PAGE, PAGE)
    assert header[-10:] == b"SWAPSPACE2"
    assert [int.from_bytes(header[at : at + 4], "little") for at in (1024, 1028, 1032)] == [1, 999, 0]


def test_between_the_write_and_the_end_a_page_is_in_the_swap_cache() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    pfn = machine.user_pfn(pid, address)
    assert pfn is not None
    machine.madvise(pid, address, PAGE, MADV_PAGEOUT)
    page = machine.kernel.mm.page
    flags = [page_has_flag(page, pfn, flag) for flag in (PG_swapcache, PG_writeback, PG_dirty, PG_anon_exclusive)]
    assert flags == [True, True, False, False]
    assert usage(machine, 1) == 1 | SWAP_HAS_CACHE
    assert stat(machine, "nr_writeback") == stat(machine, "nr_swapcached") == 1
    machine.check()
    before = machine.kernel.mm.current.jiffies
    machine.tick(20)
    assert not page_has_flag(page, pfn, PG_writeback)
    assert stat(machine, "nr_writeback") == 0
    assert machine.kernel.mm.current.jiffies > before
    machine.check()


def test_a_page_that_is_still_in_the_cache_comes_back_without_the_disk() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    pfn = machine.user_pfn(pid, address)
    pageout(machine, pid, address)
    major = find_task(machine.kernel.processes, pid).maj_flt
    assert machine.user_read(pid, address, 3) == content(0)[:3]
    assert machine.user_pfn(pid, address) == pfn
    assert event(machine, PSWPIN) == event(machine, PGMAJFAULT) == 0
    assert find_task(machine.kernel.processes, pid).maj_flt == major
    machine.check()


def test_a_page_that_did_not_change_is_not_written_again() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    swap_out(machine, pid, address)
    machine.user_read(pid, address, 1)
    assert usage(machine, 1) == SWAP_HAS_CACHE  # in memory and on disk: nobody has to write it
    swap_out(machine, pid, address)
    assert event(machine, PSWPOUT) == 1
    assert entry_of(machine, pid, address) == 1
    machine.check()
    assert machine.user_read(pid, address, 3) == content(0)[:3]


def test_a_page_that_changed_is_written_again() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    for text in (b"one", b"two", b"three"):
        swap_out(machine, pid, address)
        machine.user_read(pid, address, 1)
        machine.user_write(pid, address, text)
        machine.check()
    swap_out(machine, pid, address)
    assert machine.user_read(pid, address, 5) == b"three"
    assert event(machine, PSWPOUT) == 4


def test_a_write_while_the_disk_writes_is_not_lost() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    machine.madvise(pid, address, PAGE, MADV_PAGEOUT)
    machine.user_write(pid, address, b"later")
    machine.check()
    machine.tick(20)
    swap_out(machine, pid, address)
    assert machine.user_read(pid, address, 5) == b"later"
    machine.check()


def test_a_fault_that_reads_the_disk_is_a_major_one_and_takes_time() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    swap_out(machine, pid, address)
    task = find_task(machine.kernel.processes, pid)
    before, jiffies = (task.min_flt, task.maj_flt), machine.kernel.mm.current.jiffies
    machine.user_read(pid, address, 1)
    assert (task.min_flt, task.maj_flt) == (before[0], before[1] + 1)
    assert machine.kernel.mm.current.jiffies > jiffies
    assert event(machine, PGMAJFAULT) == 1


# -- whose a page is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "remembers"), [("tiny-128m", True), ("i386-pae", False), ("i386", False)])
def test_64_bit_kernels_remember_that_a_page_was_one_process_s_alone(source: str, remembers: bool) -> None:
    machine = with_swap(MACHINES[source])
    pid, address = process(machine, 1)
    pageout(machine, pid, address)
    layout = mm_of(machine, pid).tables.layout
    assert pte_swp_exclusive(layout, pte_of(machine, pid, address)) == remembers
    machine.user_read(pid, address, 1)
    pfn = machine.user_pfn(pid, address)
    assert pfn is not None
    assert page_has_flag(machine.kernel.mm.page, pfn, PG_anon_exclusive) == remembers
    machine.user_write(pid, address, b"mine")
    assert machine.user_pfn(pid, address) == pfn  # no copy in any case: nobody else has it
    machine.check()


def test_fork_shares_slots() -> None:
    machine = with_swap()
    pid, address = process(machine, 3)
    swap_out(machine, pid, address, 3)
    child = machine.sys_fork(pid)
    layout = mm_of(machine, pid).tables.layout
    assert [usage(machine, offset) for offset in (1, 2, 3)] == [2, 2, 2]
    assert not pte_swp_exclusive(layout, pte_of(machine, pid, address))
    machine.check()
    machine.user_write(child, address, b"child")
    assert (machine.user_read(pid, address, 5), machine.user_read(child, address, 5)) == (content(0)[:5], b"child")
    machine.check()
    machine.user_write(pid, address + PAGE, b"parent")
    assert machine.user_read(child, address + PAGE, 6) == content(1)[:6]
    machine.sys_exit(pid, 0)
    machine.check()
    assert machine.user_read(child, address + 2 * PAGE, PAGE) == content(2).ljust(PAGE, b"\0")
    machine.sys_exit(child, 0)
    machine.check()
    assert machine.kernel.mm.nr_swap_pages == 999 - stored(machine)


def test_both_read_one_page_and_the_first_write_copies() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    swap_out(machine, pid, address)
    child = machine.sys_fork(pid)
    assert machine.user_read(pid, address, 2) == machine.user_read(child, address, 2)
    assert machine.user_pfn(pid, address) == machine.user_pfn(child, address)
    machine.check()
    machine.user_write(child, address, b"c")
    assert machine.user_pfn(pid, address) != machine.user_pfn(child, address)
    assert machine.user_read(pid, address, 1) == content(0)[:1]
    machine.check()


def test_a_shared_page_goes_out_of_both_tables() -> None:
    machine = with_swap()
    pid, address = process(machine, 2)
    child = machine.sys_fork(pid)
    mm = machine.kernel.mm
    machine.madvise(pid, address, 2 * PAGE, MADV_PAGEOUT)
    assert machine.user_pfn(pid, address) is not None  # what others map too is left alone by madvise
    hold_all_but(machine, 400)
    for process_id in (pid, child):
        assert mm_of(machine, process_id).rss_stat[MM_SWAPENTS] == 2
    assert usage(machine, swp_offset(entry_of(machine, pid, address))) & ~SWAP_HAS_CACHE == 2
    assert entry_of(machine, pid, address) == entry_of(machine, child, address)
    machine.check()
    assert machine.user_read(child, address, 3) == machine.user_read(pid, address, 3) == content(0)[:3]
    assert mm.swap.info[0].inuse_pages


def hold_all_but(machine: Machine, pages: int) -> list[int]:
    """Take memory until reclaim has had to work; the blocks."""
    taken = []
    while True:
        try:
            if event(machine, PSWPOUT) or sum(zone.vm_stat[0] for zone in machine.zones) < pages // 4:
                machine.tick(20)
                if event(machine, PSWPOUT):
                    return taken
            taken.append(machine.alloc_pages(GFP_KERNEL))
        except OutOfMemory:
            return taken


def test_exit_and_munmap_give_slots_back() -> None:
    machine = with_swap(pages=100)  # too few for stores
    pid, address = process(machine, 30)
    swap_out(machine, pid, address, 30)
    assert machine.kernel.mm.nr_swap_pages == 69
    machine.munmap(pid, address, 10 * PAGE)
    assert machine.kernel.mm.nr_swap_pages == 79
    machine.madvise(pid, address + 10 * PAGE, 5 * PAGE, MADV_DONTNEED)
    assert machine.kernel.mm.nr_swap_pages == 84
    assert machine.user_read(pid, address + 12 * PAGE, 4) == bytes(4)
    machine.check()
    machine.sys_exit(pid, 0)
    assert machine.kernel.mm.nr_swap_pages == 99
    machine.check()


def test_pages_in_the_swap_cache_go_with_their_process() -> None:
    machine = with_swap(pages=100)
    pid, address = process(machine, 30)
    pageout(machine, pid, address, 30)
    assert total_swapcache_pages(machine.kernel.mm) == 30
    machine.sys_exit(pid, 0)
    assert total_swapcache_pages(machine.kernel.mm) == 0
    assert machine.kernel.mm.nr_swap_pages == 99
    machine.check()


def test_pages_that_are_being_written_when_their_process_ends_go_later() -> None:
    machine = with_swap(pages=100)
    pid, address = process(machine, 10)
    machine.madvise(pid, address, 10 * PAGE, MADV_PAGEOUT)
    machine.sys_exit(pid, 0)
    machine.check()
    assert total_swapcache_pages(machine.kernel.mm) == 10
    machine.tick(20)
    evict(machine)
    assert total_swapcache_pages(machine.kernel.mm) == 0
    assert machine.kernel.mm.nr_swap_pages == 99
    machine.check()


def test_rights_are_those_of_the_vma_when_the_page_comes_back() -> None:
    machine = with_swap()
    pid, address = process(machine, 3)
    swap_out(machine, pid, address, 3)
    machine.mprotect(pid, address, PAGE, R)
    machine.mprotect(pid, address + PAGE, PAGE, NONE)
    machine.check()
    assert machine.user_read(pid, address, 3) == content(0)[:3]
    machine.mprotect(pid, address, 2 * PAGE, RW)
    machine.user_write(pid, address, b"x")
    assert machine.user_read(pid, address + PAGE, 3) == content(1)[:3]
    machine.check()
