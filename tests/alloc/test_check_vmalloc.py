"""The laws of areas and of vmalloc are shown seeded defects: they must catch each of them."""

from __future__ import annotations

import random
from functools import cache

import pytest

from kmemlab.alloc.alloc_vmap_area import free_vmap_area_noflush, purge_vmap_area_lazy_inner
from kmemlab.alloc.check_vmalloc import check_vmalloc
from kmemlab.alloc.vm_area import setup_vmalloc_vm
from kmemlab.alloc.vmalloc import alloc_pages_bulk_array_mempolicy
from kmemlab.alloc.vmap_pages import vmap_small_pages_range_noflush, vunmap_range_noflush
from kmemlab.boot.tlbflush import flush_tlb_kernel_range
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_vmap_area import check_vmap_areas
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.free_vmap_area import adjust_va_to_fit_type
from kmemlab.mm.rbtree import augment_tree_propagate_from, rb_erase, rb_insert_color
from kmemlab.mm.vm_struct import set_vm_pages
from kmemlab.mm.vmap_area import (
    FREE_VMAP_AREA_ROOT,
    insert_vmap_area,
    insert_vmap_area_augment,
    link_va,
    merge_or_add_vmap_area,
    unlink_va,
)
from kmemlab.sim.list_head import list_add_tail, list_del
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError

PAGE = 4096


# -- the areas ---------------------------------------------------------------------------------------------------------


def cuts_too_little(areas, va, start, size):
    adjust_va_to_fit_type.original(areas, va, start, size - PAGE)


def cuts_too_much(areas, va, start, size):
    adjust_va_to_fit_type.original(areas, va, start, size + PAGE)


def never_propagates(rb, node, stop):
    return None


def never_merges(areas, va, header):
    if header == FREE_VMAP_AREA_ROOT:
        insert_vmap_area_augment(areas, va)
    else:
        insert_vmap_area(areas, va, header)
    return va


def leaves_all_red(rb, node, header, augment=False):
    return None


def forgets_the_list(areas, va, header):
    rb_erase(areas, va, header, header == FREE_VMAP_AREA_ROOT)


def lists_behind_the_parent(areas, va, header, parent, is_left):
    link_va.original(areas, va, header, parent, is_left)
    list_del(areas.list, va)
    list_add_tail(areas.list, va, header)


def frees_uncounted(mm, va):
    before = mm.vmalloc.vmap_lazy_nr
    free_vmap_area_noflush.original(mm, va)
    mm.vmalloc.vmap_lazy_nr = before


AREA_DEFECTS = [
    (adjust_va_to_fit_type, cuts_too_little),
    (adjust_va_to_fit_type, cuts_too_much),
    (augment_tree_propagate_from, never_propagates),
    (merge_or_add_vmap_area, never_merges),
    (rb_insert_color, leaves_all_red),
    (unlink_va, forgets_the_list),
    (link_va, lists_behind_the_parent),
    (free_vmap_area_noflush, frees_uncounted),
]


# -- pages, tables, TLB ------------------------------------------------------------------------------------------------


def maps_backwards(mm, address, end, prot, pfns):
    vmap_small_pages_range_noflush.original(mm, address, end, prot, pfns[::-1])


def maps_the_guard_too(mm, address, end, prot, pfns):
    vmap_small_pages_range_noflush.original(mm, address, end + PAGE, prot, [*pfns, pfns[0]])


def leaves_the_last_page_out(mm, address, end, prot, pfns):
    vmap_small_pages_range_noflush.original(mm, address, end - PAGE, prot, pfns[:-1])


def leaves_an_entry(mm, address, end):
    vunmap_range_noflush.original(mm, address + PAGE, end)


def never_flushes(mmu, start, end):
    return None


def notes_a_page_twice(page, vms, vm, pfns):
    set_vm_pages.original(page, vms, vm, [pfns[0], *pfns[:-1]] if len(pfns) > 1 else pfns)


def gives_pages_that_are_free(mm, gfp, nid, nr_pages, alloc):
    pfns = alloc_pages_bulk_array_mempolicy.original(mm, gfp, nid, nr_pages, alloc)
    for pfn in pfns:
        mm.page.refcount[pfn] = 0
    return pfns


def counts_no_pages(mm, vm, va, flags, caller):
    setup_vmalloc_vm.original(mm, vm, va, flags, caller)
    mm.vmalloc.nr_vmalloc_pages += 1


def says_it_is_elsewhere(mm, vm, va, flags, caller):
    setup_vmalloc_vm.original(mm, vm, va, flags, caller)
    mm.vmalloc.vms.size[vm] += PAGE


def purges_without_a_flush(mm, start, end):
    with livepatch(flush_tlb_kernel_range, never_flushes):
        return purge_vmap_area_lazy_inner.original(mm, start, end)


PAGE_DEFECTS = [
    (vmap_small_pages_range_noflush, maps_backwards),
    (vmap_small_pages_range_noflush, maps_the_guard_too),
    (vmap_small_pages_range_noflush, leaves_the_last_page_out),
    (vunmap_range_noflush, leaves_an_entry),
    (flush_tlb_kernel_range, never_flushes),
    (set_vm_pages, notes_a_page_twice),
    (alloc_pages_bulk_array_mempolicy, gives_pages_that_are_free),
    (setup_vmalloc_vm, counts_no_pages),
    (setup_vmalloc_vm, says_it_is_elsewhere),
    (purge_vmap_area_lazy_inner, purges_without_a_flush),
]


@cache
def booted() -> Machine:
    return Machine.boot("tiny-128m")


def work(law) -> None:
    """Areas are taken, read and freed for a while; the law is asked after each step."""
    box = booted().fork()
    box.check_laws = lambda: None  # the law alone is to find it
    chance, held = random.Random(3), list[int]()
    for step in range(60):
        if held and chance.random() < 0.45:
            box.vfree(held.pop(chance.randrange(len(held))))
        else:
            address = box.vmalloc(PAGE * chance.randrange(1, 5))
            box.load(address)
            held.append(address)
        if step % 20 == 19:
            box.vm_unmap_aliases()
        law(box)


def areas_law(box: Machine) -> None:
    check_vmap_areas(box.kernel.mm.vmalloc)


def vmalloc_law(box: Machine) -> None:
    check_vmalloc(box.kernel.mm)


@pytest.mark.parametrize("law", [areas_law, vmalloc_law])
def test_without_a_defect_the_laws_hold(law) -> None:
    work(law)


@pytest.mark.parametrize(("function", "mutant"), AREA_DEFECTS, ids=lambda f: f.__name__)
def test_check_vmap_areas_catches(function, mutant) -> None:
    with livepatch(function, mutant), pytest.raises((BrokenLaw, KmemlabError, AssertionError)):
        work(areas_law)


@pytest.mark.parametrize(("function", "mutant"), PAGE_DEFECTS, ids=lambda f: f.__name__)
def test_check_vmalloc_catches(function, mutant) -> None:
    with livepatch(function, mutant), pytest.raises((BrokenLaw, KmemlabError)):
        work(vmalloc_law)
