"""Migration: contents and view of every user unchanged, every reference accounted for, what is held fast stays."""

from __future__ import annotations

import pytest

from kmemlab.alloc import isolate_free_block, migrate
from kmemlab.alloc.compaction import compact_nodes
from kmemlab.mm.address_space import filemap_get_folio
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, page_ref_inc
from kmemlab.mm.swapops import SWP_MIGRATION_READ, SWP_MIGRATION_READ_EXCLUSIVE, SWP_MIGRATION_WRITE
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.process import migrate_rmap
from kmemlab.process.migrate_rmap import make_migration_entry, read_migration_entry
from kmemlab.process.mm_struct import MmStruct
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.pageflags import PG_active, PG_anon_exclusive, PG_dirty, PG_referenced, PG_unevictable
from kmemlab.types.pgtable import LAYOUTS, PAGE_ACCESSED, PAGE_DIRTY, PAGE_PRESENT, PAGE_RW
from tests.alloc.compaction_cases import PAGE, PAGES, contents, event, frames, scattered

FLAGS = (PG_active, PG_anon_exclusive, PG_referenced, PG_unevictable)


def moved(before, after):
    return [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]


@pytest.mark.parametrize("mode", LAYOUTS)
@pytest.mark.parametrize("rw", [0, PAGE_RW])
@pytest.mark.parametrize("used", [0, PAGE_ACCESSED, PAGE_ACCESSED | PAGE_DIRTY])
@pytest.mark.parametrize("exclusive", [False, True])
def test_an_entry_that_waits_remembers_all(mode, rw, used, exclusive):
    pfn = 0x8_7654
    pte = make_migration_entry(LAYOUTS[mode], pfn, PAGE_PRESENT | rw | used, exclusive)
    assert not pte & PAGE_PRESENT
    kind = SWP_MIGRATION_WRITE if rw else SWP_MIGRATION_READ_EXCLUSIVE if exclusive else SWP_MIGRATION_READ
    assert read_migration_entry(LAYOUTS[mode], pte) == (
        kind, pfn, bool(used & PAGE_ACCESSED), bool(used & PAGE_DIRTY)
    )  # fmt: skip


def test_a_program_sees_no_difference():
    machine, pid, address = scattered()
    before, was_at = contents(machine, pid, address), frames(machine, pid, address)
    flags = [[page_has_flag(machine.kernel.mm.page, pfn, flag) for flag in FLAGS] for pfn in was_at]
    rss = machine.proc_status(pid)
    machine.sysctl("vm.compact_memory", 1)
    machine.check()
    is_at = frames(machine, pid, address)
    assert len(moved(was_at, is_at)) == event(machine, "pgmigrate_success") > PAGES // 4
    assert len(set(is_at)) == PAGES
    assert contents(machine, pid, address) == before
    assert machine.proc_status(pid) == rss
    now = [[page_has_flag(machine.kernel.mm.page, pfn, flag) for flag in FLAGS] for pfn in is_at]
    assert now == flags
    machine.user_write(pid, address, b"still mine")
    assert machine.user_pfn(pid, address) == is_at[0]  # no copy was made: the page is its own as before
    machine.sys_exit(pid)
    machine.check()


def test_pages_shared_by_fork_stay_shared_and_are_copied_on_write():
    machine, pid, address = scattered()
    child = machine.sys_fork(pid)
    before = contents(machine, pid, address, 300)
    was_at = frames(machine, pid, address, 300)
    machine.sysctl("vm.compact_memory", 1)
    machine.check()
    is_at = frames(machine, pid, address, 300)
    assert moved(was_at, is_at)
    assert frames(machine, child, address, 300) == is_at
    assert all(machine.kernel.mm.page.mapcount[pfn] == 2 for pfn in is_at)
    machine.user_write(child, address, b"child")
    assert contents(machine, pid, address, 300) == before
    assert machine.user_pfn(child, address) != is_at[0]
    machine.check()


def test_dirty_pages_of_files_move_and_reach_the_disk():
    machine, pid, _ = scattered()
    machine.sys_exit(pid)
    machine.create_file("data", 4500)
    machine.read_file("data")
    written = range(0, 4500, 20)
    for index in written:
        machine.write_file("data", index * PAGE + 7, b"changed")
    machine.drop_caches()  # what was not changed goes
    machine.drain_all_pages()
    mm = machine.kernel.mm
    mapping = mm.files.mapping[1]
    was_at = [filemap_get_folio(mm.mappings, mapping, index) for index in written]
    machine.sysctl("vm.compact_memory", 1)
    machine.check()
    is_at = [filemap_get_folio(mm.mappings, mapping, index) for index in written]
    assert len(moved(was_at, is_at)) > 20
    assert all(page_has_flag(mm.page, pfn, PG_dirty) for pfn in is_at)
    for _ in range(2):
        assert all(machine.read_file("data", index * PAGE + 7, 7) == b"changed" for index in written)
        assert machine.read_file("data", 20 * PAGE, 3) == bytes([21]) * 3
        machine.sync()
        machine.drop_caches()
    machine.check()


def test_who_else_refers_to_a_page_holds_it_fast():
    machine, pid, address = scattered()
    mm = machine.kernel.mm
    held = [pfn for pfn in frames(machine, pid, address)[:40] if pfn is not None]
    for pfn in held:
        page_ref_inc(mm.page, pfn)  # as a device that writes into the pages
    was_at = frames(machine, pid, address)
    compact_nodes(mm)
    is_at = frames(machine, pid, address)
    assert is_at[:40] == held
    assert moved(was_at, is_at)
    for pfn in held:
        mm.page.refcount[pfn] -= 1
    machine.check()


def test_locked_pages_of_programs_move_and_stay_locked():
    machine, pid, address = scattered()
    machine.mlock(pid, address, 100 * PAGE)
    before = machine.zones[1].vm_stat[7]
    was_at = frames(machine, pid, address, 100)
    machine.sysctl("vm.compact_memory", 1)
    is_at = frames(machine, pid, address, 100)
    assert moved(was_at, is_at)
    assert all(page_has_flag(machine.kernel.mm.page, pfn, PG_unevictable) for pfn in is_at)
    assert machine.zones[1].vm_stat[7] == before
    machine.check()
    machine.munlock(pid, address, 100 * PAGE)
    machine.check()
    machine.sysctl("vm.compact_unevictable_allowed", 0)
    machine.mlock(pid, address, 100 * PAGE)
    machine.sysctl("vm.compact_memory", 1)
    assert frames(machine, pid, address, 100) == is_at


def test_pages_in_the_swap_cache_move_with_their_slots():
    machine, pid, address = scattered()
    machine.swapon(pages=600)
    machine.madvise(pid, address, 400 * PAGE, 21)  # MADV_PAGEOUT: written, and still in the cache
    machine.tick(40)
    machine.sysctl("vm.compact_memory", 1)
    machine.check()
    assert contents(machine, pid, address)[:400] == [(b"page %d" % (at * PAGE)).ljust(16, b"\0") for at in range(400)]
    machine.check()


def test_it_can_be_rewound_and_done_again():
    machine, pid, address = scattered()
    machine.record()
    before = frames(machine, pid, address)
    nr_free = [list(zone.nr_free) for zone in machine.zones]
    cells = [list(zone.cells) for zone in machine.zones]
    machine.sysctl("vm.compact_memory", 1)
    after, shape = frames(machine, pid, address), [list(zone.nr_free) for zone in machine.zones]
    assert after != before
    machine.timeline.rewind(0)
    assert frames(machine, pid, address) == before
    assert [list(zone.nr_free) for zone in machine.zones] == nr_free
    assert [list(zone.cells) for zone in machine.zones] == cells
    machine.check()
    machine.timeline.to_end()
    assert (frames(machine, pid, address), [list(zone.nr_free) for zone in machine.zones]) == (after, shape)


# -- defects that the laws must catch ----------------------------------------------------------------------------------


def forget_the_place(mm: Mm, dst: int, src: int) -> int:
    """The new page does not know which page of its anon_vma it is: the entries that wait are not found."""
    rc: int = migrate.folio_migrate_mapping.original(mm, dst, src)
    mm.page.index[dst] += rc == 0
    return rc


def never_count_back(mm: Mm, pfn: int, nr_pages: int) -> None:
    """Pages stay counted as isolated."""
    if nr_pages > 0:
        migrate.count_isolated.original(mm, pfn, nr_pages)


def map_twice(mm: MmStruct, vma: int, ptep: int, dst: int) -> None:
    """An entry is counted twice."""
    migrate_rmap.remove_migration_pte.original(mm, vma, ptep, dst)
    mm.common.mm.page.mapcount[dst] += 1


def without_a_reference(mm: MmStruct, vma: int, ptep: int, dst: int) -> None:
    """An entry maps the new page without a reference."""
    migrate_rmap.remove_migration_pte.original(mm, vma, ptep, dst)
    mm.common.mm.page.refcount[dst] -= 1


def give_a_right(mm: MmStruct, vma: int, ptep: int, dst: int) -> None:
    """The new page is not its process's alone, though that may write into it."""
    migrate_rmap.remove_migration_pte.original(mm, vma, ptep, dst)
    clear_page_flag(mm.common.mm.page, dst, PG_anon_exclusive)


def take_for_nothing(zone: Zone, pfn: int, order: int) -> int:
    """A free block is taken, and still counted as free."""
    taken: int = isolate_free_block.isolate_free_page.original(zone, pfn, order)
    zone.vm_stat[NR_FREE_PAGES] += taken
    return taken


@pytest.mark.parametrize(
    ("function", "defect"),
    [
        (migrate.folio_migrate_mapping, forget_the_place),
        (migrate.count_isolated, never_count_back),
        (migrate_rmap.remove_migration_pte, map_twice),
        (migrate_rmap.remove_migration_pte, without_a_reference),
        (migrate_rmap.remove_migration_pte, give_a_right),
        (isolate_free_block.isolate_free_page, take_for_nothing),
    ],
)
def test_the_laws_catch(function, defect):
    machine, _, _ = scattered()

    def compact_and_check():
        machine.sysctl("vm.compact_memory", 1)
        machine.check()

    with livepatch(function, defect), pytest.raises((BrokenLaw, AssertionError)):
        compact_and_check()
