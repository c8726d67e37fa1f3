"""check_slab catches what breaks SLUB: each seeded defect is found by a law."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.alloc import slab_pages, slub, slub_freelist, slub_partial, slub_slab
from kmemlab.alloc.kmalloc import kfree, kmalloc
from kmemlab.alloc.slab_check import check_slab
from kmemlab.alloc.slab_common import SlabCommon, kmem_cache_free
from kmemlab.alloc.slab_pages import PG_SLAB_MASK, virt_to_slab
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.vmstat import NR_SLAB_UNRECLAIMABLE
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.gfp import GFP_KERNEL
from tests.alloc.slab_helpers import small

TWO_CPUS = {"cpus": {"present": 2, "possible": 2}}


def busy(machine: Machine, requests: int) -> None:
    """Objects come and go on two CPUs; the laws are looked at often."""
    common = machine.kernel.slab
    dice = random.Random(3)
    held: list[int] = []
    for step in range(requests):
        machine.kernel.mm.current.cpu = dice.randrange(2)
        # In waves, so that slabs fill up and become empty again.
        if len(held) < 300 * (step // 400 % 2) + 20 or dice.random() < 0.3:
            address = kmalloc(common, dice.choice((64, 500, 3000)), GFP_KERNEL)
            assert address is not None
            held.append(address)
        else:
            kfree(common, held.pop(dice.randrange(len(held))))
        if step % 5 == 0:
            check_slab(common)
    for address in held:
        kfree(common, address)


def test_without_a_defect_all_laws_hold() -> None:
    machine = small(**TWO_CPUS)
    busy(machine, 4000)
    machine.check()


def ends_the_list_early(cache: SlubCache, obj: int, following: int) -> None:
    slub_freelist.set_freepointer.original(cache, obj, 0 if obj & 0x3C0 == 0x3C0 else following)


def skips_an_object(cache: SlubCache, obj: int) -> int:
    following = slub_freelist.get_freepointer.original(cache, obj)
    return slub_freelist.get_freepointer.original(cache, following) if following & 0x1C0 == 0x1C0 else following


def freezes_nothing(cache: SlubCache, nid: int, slab: int, take_objects: bool) -> int:
    freelist = slub_partial.acquire_slab.original(cache, nid, slab, take_objects)
    cache.pages.frozen[slab] = 0
    return freelist


def leaves_the_objects_to_the_slab_too(cache: SlubCache, nid: int, slab: int, take_objects: bool) -> int:
    inuse, freelist = cache.pages.inuse[slab], cache.pages.freelist[slab]
    found = slub_partial.acquire_slab.original(cache, nid, slab, take_objects)
    cache.pages.inuse[slab], cache.pages.freelist[slab] = inuse, freelist
    return found


def forgets_the_reserve(cache: SlubCache, slab: int, drain: bool) -> None:
    cache.per_cpu.partial[cache.cpu_slab + cache.current.cpu] = 0
    slub_partial.put_cpu_partial.original(cache, slab, drain)


def counts_the_reserve_wrongly(cache: SlubCache, slab: int, drain: bool) -> None:
    slub_partial.put_cpu_partial.original(cache, slab, drain)
    cache.pages.slabs[slab] = 1 + 2 * cache.pages.slabs[cache.pages.next[slab]]


def does_not_count(cache: SlubCache, nid: int, slab: int, tail: bool) -> None:
    slub_partial.add_partial.original(cache, nid, slab, tail)
    cache.per_node.nr_partial[cache.node + nid] -= 1


def counts_it_still(cache: SlubCache, nid: int, slab: int) -> None:
    slub_partial.remove_partial.original(cache, nid, slab)
    cache.per_node.nr_partial[cache.node + nid] += 1


def drops_the_slab(cache: SlubCache, slab: int, freelist: int) -> None:
    cache.pages.frozen[slab] = 0


def keeps_counting_the_slab(cache: SlubCache, nid: int, objects: int) -> None:
    return None


def keeps_them_in_use(cache: SlubCache, slab: int, objects: tuple[int, ...]) -> tuple[int, int]:
    found: tuple[int, int] = slub.push_objects.original(cache, slab, objects)
    cache.pages.inuse[slab] += len(objects)
    return found


def stays_frozen(cache: SlubCache, node: int, row: int) -> int:
    slab = cache.per_cpu.slab[row]
    found: int = slub.freelist_of_cpu_slab.original(cache, node, row)
    if slab:
        cache.pages.frozen[slab] = 1
    return found


def leads_all_pages_to_themselves(pages: Any, pfn: int, order: int) -> None:
    for page in range(pfn, pfn + (1 << order)):
        pages.compound_head[page] = 0


def gives_the_same_twice(cache: SlubCache, gfp: int, node: int, caller: int, orig_size: int) -> int | None:
    row = cache.cpu_slab + cache.current.cpu
    before = cache.per_cpu.freelist[row]
    found: int | None = slub.slab_alloc.original(cache, gfp, node, caller, orig_size)
    if before and before & 0x40:
        cache.per_cpu.freelist[row] = before
    return found


DEFECTS = [
    (slub_freelist.set_freepointer, ends_the_list_early),
    (slub_freelist.get_freepointer, skips_an_object),
    (slub_partial.acquire_slab, freezes_nothing),
    (slub_partial.acquire_slab, leaves_the_objects_to_the_slab_too),
    (slub_partial.put_cpu_partial, forgets_the_reserve),
    (slub_partial.put_cpu_partial, counts_the_reserve_wrongly),
    (slub_partial.add_partial, does_not_count),
    (slub_partial.remove_partial, counts_it_still),
    (slub_partial.deactivate_slab, drops_the_slab),
    (slub_slab.dec_slabs_node, keeps_counting_the_slab),
    (slub_slab.inc_slabs_node, keeps_counting_the_slab),
    (slub.push_objects, keeps_them_in_use),
    (slub.freelist_of_cpu_slab, stays_frozen),
    (slab_pages.prep_compound_page, leads_all_pages_to_themselves),
    (slub.slab_alloc, gives_the_same_twice),
]


@pytest.mark.parametrize(("function", "defect"), DEFECTS, ids=[defect.__name__ for _, defect in DEFECTS])
def test_a_defect_of_the_allocator_breaks_a_law(function: Callable[..., Any], defect: Callable[..., Any]) -> None:
    machine = small("slub_min_objects=8", **TWO_CPUS)
    for cache in machine.kernel.slab.existing():  # short reserves, so that slabs go all ways soon
        cache.cpu_partial_slabs = 2  # type: ignore[attr-defined]
    with livepatch(function, defect), pytest.raises(BrokenLaw):
        shake(machine)


def shake(machine: Machine) -> None:
    """Work, and let CPUs leave their slabs now and then."""
    for _ in range(10):
        busy(machine, 800)
        for cache in machine.kernel.slab.existing():
            assert isinstance(cache, SlubCache)
            slub_partial.flush_all(cache)
        check_slab(machine.kernel.slab)


# -- what the caches have in common ------------------------------------------------------------------------------------


def a_slab(common: SlabCommon) -> int:
    address = kmalloc(common, 3000, GFP_KERNEL)
    assert address is not None
    slab = virt_to_slab(common.pages, address)
    assert slab is not None
    return slab


def unmarks_a_slab(common: SlabCommon) -> None:
    common.mm.page.flags[a_slab(common)] &= ~PG_SLAB_MASK


def lets_a_slab_belong_to_nobody(common: SlabCommon) -> None:
    common.pages.slab_cache[a_slab(common)] = 0


def lets_a_page_belong_to_another_cache(common: SlabCommon) -> None:
    common.pages.slab_cache[a_slab(common) + 1] = 1


def lets_a_slab_belong_to_no_cache(common: SlabCommon) -> None:
    common.pages.slab_cache[a_slab(common)] = 200


def miscounts_pages(common: SlabCommon) -> None:
    common.mm.node_data[0].vm_stat[NR_SLAB_UNRECLAIMABLE] += 1


def forgets_a_large_block(common: SlabCommon) -> None:
    kmalloc(common, 20000, GFP_KERNEL)
    common.nr_large_pages = 0


def frees_the_struct_of_a_cache(common: SlabCommon) -> None:
    cache = common.caches[common.kmalloc_caches[3]]
    kmem_cache_free(common.caches[common.kmem_cache], cache.address)


def frees_the_pages_of_a_slab(common: SlabCommon) -> None:
    slab = a_slab(common)
    slub_slab.free_pages_inner(common.mm, slab, slab_pages.slab_order(common.pages, slab))


def loses_an_object(common: SlabCommon) -> None:
    common.caches[common.kmem_cache].nr_held += 1


COMMON_DEFECTS = [
    unmarks_a_slab,
    lets_a_slab_belong_to_nobody,
    lets_a_page_belong_to_another_cache,
    lets_a_slab_belong_to_no_cache,
    miscounts_pages,
    forgets_a_large_block,
    frees_the_struct_of_a_cache,
    frees_the_pages_of_a_slab,
    loses_an_object,
]


@pytest.mark.parametrize("defect", COMMON_DEFECTS, ids=[defect.__name__ for defect in COMMON_DEFECTS])
def test_a_defect_of_the_front_breaks_a_law(defect: Callable[[SlabCommon], None]) -> None:
    common = small().kernel.slab
    check_slab(common)
    defect(common)
    with pytest.raises(BrokenLaw):
        check_slab(common)
