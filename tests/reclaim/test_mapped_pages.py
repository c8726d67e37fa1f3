"""Reclaim of pages that programs have mapped: who used them is asked, and nothing is lost."""

from __future__ import annotations

import pytest

from kmemlab.boot.pgtable import get_entry
from kmemlab.machine.machine import Machine
from kmemlab.mm.lru import lru_add_drain_all
from kmemlab.mm.page_state import page_has_flag, page_ref_inc
from kmemlab.mm.pcp import drain_all_pages
from kmemlab.mm.rmap_table import folio_mkclean, folio_referenced, try_to_unmap
from kmemlab.mm.vm_event import PGSTEAL_FILE
from kmemlab.mm.wait import folio_lock, folio_unlock
from kmemlab.process.mman import MAP_PRIVATE, MAP_SHARED
from kmemlab.process.pgtable import pte_offset_map
from kmemlab.process.task_struct import living
from kmemlab.reclaim.direct import try_to_free_pages
from kmemlab.reclaim.shrink_list import FolioReferences, folio_check_references
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from kmemlab.types.pageflags import PG_dirty, PG_referenced
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_RW

PAGE = 4096
R, RW, RX = 1, 3, 5


@pytest.fixture
def machine() -> Machine:
    machine = Machine.boot("tiny-128m")
    machine.create_file("data", 3000)
    return machine


def entry_at(machine: Machine, pid: int, address: int) -> int:
    tables = living(machine.kernel.processes, pid)[1].tables
    ptep = pte_offset_map(tables, address)
    return get_entry(tables, ptep) if ptep is not None else 0


def mapped_page(machine: Machine, prot: int = R, flags: int = MAP_PRIVATE) -> tuple[int, int, int]:
    """A page of the file that one program has read; (pid, address, page)."""
    pid = machine.spawn()
    address = machine.mmap(pid, PAGE, prot, flags, file="data")
    machine.user_read(pid, address)
    pfn = machine.user_pfn(pid, address)
    assert pfn is not None
    machine.kernel.mm.page.flags[pfn] &= ~(1 << PG_referenced)
    return pid, address, pfn


# -- who used it ---------------------------------------------------------------------------------------------------


def test_each_use_is_told_once(machine: Machine) -> None:
    pid, address, pfn = mapped_page(machine)
    mm = machine.kernel.mm
    assert entry_at(machine, pid, address) & PAGE_ACCESSED
    assert folio_referenced(mm, pfn)[0] == 1
    assert not entry_at(machine, pid, address) & PAGE_ACCESSED
    assert folio_referenced(mm, pfn) == (0, 0)
    machine.user_read(pid, address)
    assert entry_at(machine, pid, address) & PAGE_ACCESSED
    assert folio_referenced(mm, pfn)[0] == 1


def test_programs_are_counted_one_by_one_and_anonymous_pages_too(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, PAGE)
    machine.user_write(pid, address, b"x")
    pfn = machine.user_pfn(pid, address)
    assert pfn is not None
    child = machine.sys_fork(pid)
    assert folio_referenced(machine.kernel.mm, pfn)[0] == 1  # the child has not touched it
    machine.user_read(pid, address)
    machine.user_read(child, address)
    assert folio_referenced(machine.kernel.mm, pfn)[0] == 2


@pytest.mark.parametrize(
    ("prot", "uses", "programs", "verdicts"),
    [
        (R, (), 1, ["KEEP", "RECLAIM_CLEAN", "RECLAIM"]),  # the fault's own use is worth one more round
        (R, (1,), 1, ["KEEP", "ACTIVATE"]),  # used again in that round
        (R, (2,), 1, ["KEEP", "RECLAIM_CLEAN", "KEEP"]),  # used again too late
        (R, (), 2, ["ACTIVATE"]),  # two programs use it
        (RX, (), 1, ["ACTIVATE"]),  # code that runs
    ],
)
def test_the_second_chance(
    machine: Machine, prot: int, uses: tuple[int, ...], programs: int, verdicts: list[str]
) -> None:
    pid, address, pfn = mapped_page(machine, prot)
    if programs == 2:
        other = machine.sys_fork(pid)
        machine.user_read(other, address)
    for nth, verdict in enumerate(verdicts):
        if nth in uses:
            machine.user_read(pid, address)
        assert folio_check_references(machine.kernel.mm, pfn) is FolioReferences[verdict]


# -- out of all tables ---------------------------------------------------------------------------------------------


def held_and_locked(machine: Machine, pfn: int) -> None:
    page_ref_inc(machine.kernel.mm.page, pfn)
    folio_lock(machine.kernel.mm, pfn)


def test_try_to_unmap_takes_a_page_out_of_every_table(machine: Machine) -> None:
    mm = machine.kernel.mm
    pids = [machine.spawn() for _ in range(3)]
    addresses = [machine.mmap(pid, (nth + 2) * PAGE, file="data") for nth, pid in enumerate(pids)]
    for pid, address in zip(pids, addresses, strict=True):
        machine.user_read(pid, address + PAGE)
    pfn = machine.user_pfn(pids[0], addresses[0] + PAGE)
    assert pfn is not None
    assert mm.page.mapcount[pfn] == 3
    held_and_locked(machine, pfn)
    assert try_to_unmap(mm, pfn)
    assert [machine.user_pfn(pid, address + PAGE) for pid, address in zip(pids, addresses, strict=True)] == [None] * 3
    assert mm.page.refcount[pfn] == 2 + in_batches(machine, pfn)  # the mapping's and ours
    folio_unlock(mm, pfn)
    mm.page.refcount[pfn] -= 1
    machine.check()
    assert machine.user_read(pids[1], addresses[1] + PAGE) == b"\2"


def in_batches(machine: Machine, pfn: int) -> int:
    before = machine.kernel.mm.page.refcount[pfn]
    lru_add_drain_all(machine.kernel.mm)
    return machine.kernel.mm.page.refcount[pfn] - before  # never more than 0: batches let go


def test_a_dirty_entry_makes_its_page_dirty_and_a_clean_one_does_not(machine: Machine) -> None:
    mm = machine.kernel.mm
    pid, address, pfn = mapped_page(machine, RW, MAP_SHARED)
    held_and_locked(machine, pfn)
    assert try_to_unmap(mm, pfn)
    assert not page_has_flag(mm.page, pfn, PG_dirty)
    folio_unlock(mm, pfn)
    machine.user_write(pid, address, b"new")
    folio_lock(mm, pfn)
    assert folio_mkclean(mm, pfn)
    assert not entry_at(machine, pid, address) & (PAGE_RW | PAGE_DIRTY)
    assert not folio_mkclean(mm, pfn)
    folio_unlock(mm, pfn)
    mm.page.refcount[pfn] -= 1
    machine.user_write(pid, address, b"two")
    assert entry_at(machine, pid, address) & PAGE_RW
    assert machine.read_file("data", 0, 3) == b"two"


# -- under pressure ------------------------------------------------------------------------------------------------


def leave_free(machine: Machine, pages: int) -> None:
    """Let somebody have all memory but so many pages; none of those that are left waits on a CPU's own lists."""
    mm = machine.kernel.mm
    while (free := sum(zone.vm_stat[0] for zone in mm.zones())) > pages + 64:
        machine.alloc_pages(GFP_KERNEL, 9 if free > pages + 4000 else 4)
        drain_all_pages(mm)


def test_a_mapping_larger_than_memory_is_written_and_read_whole(machine: Machine) -> None:
    leave_free(machine, 1800)
    mm, pid = machine.kernel.mm, machine.spawn()
    address = machine.mmap(pid, 3000 * PAGE, RW, MAP_SHARED, file="data")
    for page in range(3000):
        machine.user_write(pid, address + page * PAGE, bytes((page % 256,)))
    assert mm.vm_event[PGSTEAL_FILE] > 1000
    machine.check()
    machine.sync()
    first = mm.files.first_block[1]
    for page in range(3000):
        wanted = bytes((page % 256, page % 251 + 1))
        assert mm.disk.contents.read_bytes(first + page << 12, 2) == wanted
        if page % 7 == 0:
            assert machine.user_read(pid, address + page * PAGE, 2) == wanted
    machine.check()


def test_code_outlives_data_that_is_read_once(machine: Machine) -> None:
    machine.create_file("program", 40)
    leave_free(machine, 1800)
    pid = machine.spawn()
    code = machine.mmap(pid, 40 * PAGE, RX, MAP_PRIVATE, file="program")
    data = machine.mmap(pid, 3000 * PAGE, R, MAP_PRIVATE, file="data")
    major = machine.kernel.processes.tasks[0]
    machine.touch(pid, code, 40 * PAGE, write=False)
    before = major.maj_flt
    for page in range(3000):
        machine.user_read(pid, data + page * PAGE)
        if page % 50 == 0:
            machine.touch(pid, code, 40 * PAGE, write=False)
    assert machine.kernel.mm.vm_event[PGSTEAL_FILE] > 1000
    there = sum(machine.user_pfn(pid, code + page * PAGE) is not None for page in range(40))
    gone = sum(machine.user_pfn(pid, data + page * PAGE) is None for page in range(3000))
    assert there == 40
    assert gone > 1000
    assert major.maj_flt - before < 3000 / 8  # readahead brings the data


def test_a_page_that_a_private_copy_was_made_of_can_go(machine: Machine) -> None:
    pid, address, _ = mapped_page(machine, RW)
    machine.user_write(pid, address, b"mine")
    lru_add_drain_all(machine.kernel.mm)
    for _ in range(3):
        try_to_free_pages(machine.kernel.mm, GFP_HIGHUSER_MOVABLE, 0, 0)
    assert machine.kernel.mm.mappings.nrpages[1] < 32
    assert machine.user_read(pid, address, 5) == b"mine\1"
    machine.check()
