"""The laws of swapping catch defects: each is seeded into a kernel function, and an ordinary life must reveal it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.machine.machine import Machine
from kmemlab.mm.address_space import page_cache_delete
from kmemlab.mm.check_page_cache import check_page_cache
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.lru_list import folio_pgdat
from kmemlab.mm.page_io import swap_writepage
from kmemlab.mm.swap_cluster import dec_cluster_info_page, free_cluster, inc_cluster_info_page
from kmemlab.mm.swap_count import put_swap_folio, swap_duplicate, swap_free, swapcache_prepare
from kmemlab.mm.swap_range import (
    clear_shadow_from_swap_cache,
    swap_range_alloc,
    swap_range_free,
    swapcache_free_entries,
)
from kmemlab.mm.swap_slots import drain_swap_slots_cache, free_swap_slot
from kmemlab.mm.swap_state import add_to_swap_cache, delete_from_swap_cache_inner, free_swap_and_cache
from kmemlab.mm.swapops import pte_swp_mkexclusive
from kmemlab.mm.vmstat import NR_SWAPCACHE
from kmemlab.mm.wait import folio_unlock
from kmemlab.process.check_process import check_processes
from kmemlab.process.check_swap import check_swap
from kmemlab.process.copy_page import copy_nonpresent_pte
from kmemlab.process.mm_struct import MM_SWAPENTS, add_mm_counter
from kmemlab.process.swapoff import forget_area, take_off_lists
from kmemlab.process.try_to_unmap import unmap_anon
from kmemlab.sim.livepatch import livepatch
from tests.process.space import PAGE, machine_of
from tests.process.swapping import swap_out


def laws(machine: Machine) -> None:
    check_page_cache(machine.kernel.mm)
    check_processes(machine.kernel.processes)
    check_swap(machine.kernel.processes)


def live(machine: Machine, *, solid_state: bool) -> None:
    """Two programs, one area: out, back, shared, changed, ended; the laws are checked after each step."""
    machine.swapon(401 if not solid_state else 2000, solid_state=solid_state)
    parent = machine.spawn("parent")
    address = machine.mmap(parent, 24 * PAGE)
    for nth in range(24):
        machine.user_write(parent, address + nth * PAGE, b"page %d" % nth)
    swap_out(machine, parent, address, 20)
    laws(machine)
    child = machine.sys_fork(parent)
    laws(machine)
    for nth in range(0, 20, 3):
        assert machine.user_read(child, address + nth * PAGE, 7) == (b"page %d" % nth).ljust(7, b"\0")
        machine.user_write(parent, address + nth * PAGE, b"PAGE %d" % nth)
    laws(machine)
    swap_out(machine, parent, address, 20)
    machine.sys_exit(child, 0)
    laws(machine)
    machine.munmap(parent, address, 8 * PAGE)
    laws(machine)
    drain_swap_slots_cache(machine.kernel.mm)
    laws(machine)
    for nth in range(8, 24):
        want = (b"page %d" if nth % 3 or nth > 19 else b"PAGE %d") % nth
        assert machine.user_read(parent, address + nth * PAGE, 7) == want.ljust(7, b"\0")
    swap_out(machine, parent, address + 8 * PAGE, 6)
    laws(machine)
    machine.swapoff()
    laws(machine)
    machine.swapon(100)
    laws(machine)
    machine.sys_exit(parent, 0)
    laws(machine)


@pytest.mark.parametrize("solid_state", [False, True])
def test_a_sound_kernel_keeps_the_laws(solid_state: bool) -> None:
    live(machine_of(), solid_state=solid_state)


def shares_without_counting(dst_mm, src_mm, dst_ptep, src_ptep):
    set_entry(dst_mm.tables, dst_ptep, get_entry(src_mm.tables, src_ptep))
    add_mm_counter(dst_mm, MM_SWAPENTS, 1)


def still_says_alone(dst_mm, src_mm, dst_ptep, src_ptep):
    copy_nonpresent_pte.original(dst_mm, src_mm, dst_ptep, src_ptep)
    pte = pte_swp_mkexclusive(src_mm.tables.layout, get_entry(src_mm.tables, src_ptep))
    set_entry(src_mm.tables, src_ptep, pte)


def counts_no_entries(mm, pfn, address, ptep):
    gone = unmap_anon.original(mm, pfn, address, ptep)
    mm.rss_stat[MM_SWAPENTS] -= gone
    return gone


def counts_twice(mm, entry):
    swap_duplicate.original(mm, entry)
    swap_duplicate.original(mm, entry)


def keeps_the_slot(mm, entry):
    return None


def forgets_the_shadow(mm, entry):
    return None


def loses_a_slot(mm, entry):
    return None


def loses_a_store(mm, entries):
    swapcache_free_entries.original(mm, tuple(entries)[1:])


def says_it_is_there_already(mm, entry):
    return swapcache_prepare.original(mm, entry) and bool(put_swap_folio(mm, entry) or True)


def counts_no_cache(mm, pfn, entry):
    shadow = add_to_swap_cache.original(mm, pfn, entry)
    folio_pgdat(mm, pfn).vm_stat[NR_SWAPCACHE] -= 1
    return shadow


def leaves_the_page_in_the_tree(mm, pfn, shadow):
    with livepatch(page_cache_delete, stays):
        delete_from_swap_cache_inner.original(mm, pfn, shadow)


def stays(mappings, mapping, index, shadow):
    return None


def looks_from_one_further(si, offset):
    swap_range_alloc.original(si, offset)
    si.lowest_bit += 1


def counts_no_use(si, offset):
    swap_range_alloc.original(si, offset)
    si.inuse_pages -= 1


def counts_one_too_many(mm, si, offset):
    swap_range_free.original(mm, si, offset)
    mm.nr_swap_pages += 1


def never_empty(mm, si, offset):
    return None


def never_on_the_list(swap, si, cluster):
    swap.cluster_flags[cluster] |= 1


def counts_a_cluster_twice(mm, si, offset):
    inc_cluster_info_page.original(mm, si, offset)
    if si.percpu_index[0]:
        mm.swap.cluster_count[si.percpu_index[0] - 1] += 1


def writes_nothing(mm, pfn):
    folio_unlock(mm, pfn)


def leaves_the_total(mm, si):
    take_off_lists.original(mm, si)
    mm.total_swap_pages += si.pages


def leaves_an_arm(mm, si):
    forget_area.original(mm, si)
    mm.swap.nr_rotate_swap += 1


def frees_the_page_alone(mm, entry):
    swap_free(mm, entry)
    swap_duplicate(mm, entry)


ANY: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (copy_nonpresent_pte, shares_without_counting),
    (copy_nonpresent_pte, still_says_alone),
    (unmap_anon, counts_no_entries),
    (swap_duplicate, counts_twice),
    (put_swap_folio, keeps_the_slot),
    (clear_shadow_from_swap_cache, forgets_the_shadow),
    (swap_free, keeps_the_slot),
    (free_swap_slot, loses_a_slot),
    (swapcache_free_entries, loses_a_store),
    (swapcache_prepare, says_it_is_there_already),
    (add_to_swap_cache, counts_no_cache),
    (delete_from_swap_cache_inner, leaves_the_page_in_the_tree),
    (swap_range_alloc, looks_from_one_further),
    (swap_range_alloc, counts_no_use),
    (swap_range_free, counts_one_too_many),
    (swap_writepage, writes_nothing),
    (take_off_lists, leaves_the_total),
    (forget_area, leaves_an_arm),
    (free_swap_and_cache, frees_the_page_alone),
]
SOLID_STATE: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (dec_cluster_info_page, never_empty),
    (free_cluster, never_on_the_list),
    (inc_cluster_info_page, counts_a_cluster_twice),
]


@pytest.mark.parametrize(("function", "mutant"), ANY, ids=[mutant.__name__ for _, mutant in ANY])
def test_a_seeded_defect_is_caught(function: Callable[..., Any], mutant: Callable[..., Any]) -> None:
    with livepatch(function, mutant), pytest.raises((BrokenLaw, AssertionError)):
        live(machine_of(), solid_state=False)


@pytest.mark.parametrize(("function", "mutant"), SOLID_STATE, ids=[mutant.__name__ for _, mutant in SOLID_STATE])
def test_a_seeded_defect_of_clusters_is_caught(function: Callable[..., Any], mutant: Callable[..., Any]) -> None:
    with livepatch(function, mutant), pytest.raises((BrokenLaw, AssertionError)):
        live(machine_of(), solid_state=True)
