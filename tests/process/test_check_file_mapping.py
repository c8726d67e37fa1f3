"""The laws of mapped files are shown seeded defects: they must catch each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kmemlab.alloc.truncate import truncate_inode_pages
from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import page_ref_inc
from kmemlab.mm.rmap_table import try_to_unmap
from kmemlab.mm.wait import folio_lock, folio_trylock, folio_unlock
from kmemlab.process.check_process import check_processes
from kmemlab.process.file_fault import do_set_pte, filemap_map_pages, filemap_page_mkwrite
from kmemlab.process.i_mmap import unlink_file_vma, vma_interval_tree_foreach, vma_link_file
from kmemlab.process.mkclean import clean_entries
from kmemlab.process.mman import MAP_SHARED, vma_page_prot
from kmemlab.process.pgtable import pte_offset_map
from kmemlab.process.rmap import page_add_file_rmap, page_dup_file_rmap, page_remove_rmap
from kmemlab.process.rmap_walk import mapped_entries
from kmemlab.process.truncate import unmap_mapping_range
from kmemlab.process.try_to_unmap import try_to_unmap_one
from kmemlab.process.vma import find_vma
from kmemlab.process.vma_merge import set_range
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError
from kmemlab.types.pageflags import PG_dirty
from kmemlab.types.pgtable import PAGE_DIRTY, PAGE_RW
from tests.process.space import PAGE, RW, R, machine_of, mm_of


def steps(machine: Machine) -> Iterator[Any]:
    """Some of everything that can be done with a mapped file."""
    machine.create_file("data", 60)
    pid = machine.spawn()
    shared = machine.mmap(pid, 30 * PAGE, RW, MAP_SHARED, file="data")
    private = machine.mmap(pid, 30 * PAGE, file="data")
    yield machine.touch(pid, shared, 4 * PAGE)
    yield machine.touch(pid, private + 20 * PAGE, 4 * PAGE, write=False)
    yield machine.user_write(pid, private + 21 * PAGE, b"copy")
    child = machine.sys_fork(pid)
    yield
    yield machine.user_write(child, private + 22 * PAGE, b"copy")
    yield machine.msync(pid, shared, PAGE)
    yield machine.user_write(pid, shared + PAGE, b"again")
    yield machine.mprotect(child, shared + 4 * PAGE, 3 * PAGE, R)
    yield machine.munmap(pid, shared + 2 * PAGE, PAGE)
    yield unmap_one(machine, pid, shared)
    yield machine.touch(child, shared, PAGE, write=False)
    yield machine.touch(pid, shared, PAGE, write=False)
    yield machine.truncate_file("data", 22)
    yield machine.sys_exit(child)
    yield machine.sync()
    yield machine.drop_caches()
    yield machine.sys_exit(pid)


def unmap_one(machine: Machine, pid: int, address: int) -> None:
    """What reclaim does with a page, without freeing it."""
    mm, pfn = machine.kernel.mm, machine.user_pfn(pid, address)
    assert pfn is not None
    page_ref_inc(mm.page, pfn)
    if not folio_trylock(mm, pfn):
        folio_lock(mm, pfn)
    assert try_to_unmap(mm, pfn)
    folio_unlock(mm, pfn)
    put_page(mm, pfn)


def live(machine: Machine) -> None:
    for _ in steps(machine):
        machine.check()


def test_without_a_defect_the_laws_hold() -> None:
    live(machine_of())


def counts_no_mapping(mm, pfn):
    mm.page.mapcount[pfn] += 1


def forgets_the_mapcount(mm, pfn):
    return None


def never_unmaps(mm, pfn):
    return None


def tells_no_file(common, vma):
    return None


def finds_nobody(common, mapping, first, last):
    return iter(())


def writable_at_once(boot, vm_flags):
    return vma_page_prot.original(boot, vm_flags) | PAGE_RW


def makes_nothing_dirty(mm, vma, pfn):
    result = filemap_page_mkwrite.original(mm, vma, pfn)
    mm.common.mm.page.flags[pfn] &= ~(1 << PG_dirty)
    return result


def cleans_nothing(mm, pfn):
    return 0


def lets_them_write_on(mm, pfn):
    entries = [(space, ptep, get_entry(space.tables, ptep)) for space, _, _, ptep in mapped_entries(mm, pfn)]
    cleaned = clean_entries.original(mm, pfn)
    for space, ptep, entry in entries:
        set_entry(space.tables, ptep, entry & ~PAGE_DIRTY)
    return cleaned


def unmaps_nothing(mm, mapping, start):
    return None


def keeps_the_pages(mm, mapping, start):
    return None


def keeps_the_reference(mm, pfn, address, ptep):
    page_ref_inc(mm.common.mm.page, pfn)
    return try_to_unmap_one.original(mm, pfn, address, ptep)


def counts_it_still(mm, pfn, address, ptep):
    done = try_to_unmap_one.original(mm, pfn, address, ptep)
    mm.rss_stat[0] += 1
    return done


def maps_one_too_far(mm, vma, address, ptep, first, last, flags):
    size = mm.tables.layout.entry_size
    return filemap_map_pages.original(mm, vma, address, ptep + size, first, last - 1, flags)


def maps_the_neighbour(mm, vma, pfn, address, ptep, flags):
    do_set_pte.original(mm, vma, pfn, address, ptep, flags)
    set_entry(mm.tables, ptep, get_entry(mm.tables, ptep) + PAGE)


def forgets_the_page_number(vmas, vma, start, end):
    vmas.vm_start[vma], vmas.vm_end[vma] = start, end


MUTANTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (page_add_file_rmap, counts_no_mapping),
    (page_add_file_rmap, forgets_the_mapcount),
    (page_dup_file_rmap, forgets_the_mapcount),
    (page_remove_rmap, never_unmaps),
    (vma_link_file, tells_no_file),
    (unlink_file_vma, tells_no_file),
    (vma_interval_tree_foreach, finds_nobody),
    (vma_page_prot, writable_at_once),
    (filemap_page_mkwrite, makes_nothing_dirty),
    (clean_entries, cleans_nothing),
    (clean_entries, lets_them_write_on),
    (unmap_mapping_range, unmaps_nothing),
    (truncate_inode_pages, keeps_the_pages),
    (try_to_unmap_one, keeps_the_reference),
    (try_to_unmap_one, counts_it_still),
    (filemap_map_pages, maps_one_too_far),
    (do_set_pte, maps_the_neighbour),
    (set_range, forgets_the_page_number),
]


@pytest.mark.parametrize(
    ("function", "mutant"), MUTANTS, ids=[f"{function.__name__}-{mutant.__name__}" for function, mutant in MUTANTS]
)
def test_a_seeded_defect_is_caught(function: Callable[..., Any], mutant: Callable[..., Any]) -> None:
    machine = machine_of()
    with livepatch(function, mutant), pytest.raises((BrokenLaw, AssertionError, KmemlabError)) as found:
        live(machine)
    assert isinstance(found.value, (BrokenLaw, AssertionError)), found.value


# -- single cells, written wrong ---------------------------------------------------------------------------------------


def entry_of(change: int) -> Callable[[Machine, int, int], None]:
    def damage(machine: Machine, pid: int, address: int) -> None:
        tables = mm_of(machine, pid).tables
        ptep = pte_offset_map(tables, address)
        assert ptep is not None
        set_entry(tables, ptep, get_entry(tables, ptep) ^ change)

    return damage


def page_of(name: str, change: int) -> Callable[[Machine, int, int], None]:
    def damage(machine: Machine, pid: int, address: int) -> None:
        getattr(machine.kernel.mm.page, name)[machine.user_pfn(pid, address)] += change

    return damage


def vma_of(name: str) -> Callable[[Machine, int, int], None]:
    def damage(machine: Machine, pid: int, address: int) -> None:
        mm = mm_of(machine, pid)
        getattr(mm.common.vmas, name)[find_vma(mm, address)] += 1

    return damage


def shorter(machine: Machine, pid: int, address: int) -> None:
    machine.kernel.mm.files.nr_pages[1] = 0


DAMAGE = {
    "frame": entry_of(PAGE),
    "writable": entry_of(PAGE_RW),
    "dirty": entry_of(PAGE_DIRTY),
    "mapcount": page_of("mapcount", 1),
    "refcount": page_of("refcount", 1),
    "index": page_of("index", 1),
    "mapping": page_of("mapping", 1),
    "file": vma_of("vm_file"),
    "pgoff": vma_of("vm_pgoff"),
    "size": shorter,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_cell_that_is_wrong_is_seen(damage: Callable[[Machine, int, int], None]) -> None:
    machine = machine_of()
    machine.create_file("data", 20)
    machine.create_file("other", 20)
    pid = machine.spawn()
    address = machine.mmap(pid, 8 * PAGE, RW, MAP_SHARED, file="data")
    machine.mmap(pid, PAGE, file="other")
    machine.user_read(pid, address)
    check_processes(machine.kernel.processes)
    damage(machine, pid, address)
    with pytest.raises(BrokenLaw):
        check_processes(machine.kernel.processes)
