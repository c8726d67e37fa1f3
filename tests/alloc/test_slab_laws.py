"""check_cache of SLAB catches what breaks it: each seeded defect of the allocator is found by a law."""

from __future__ import annotations

import random

import pytest

from kmemlab.alloc import slab_grow, slab_lists
from kmemlab.alloc.kmem_cache import SLAB_NOLEAKTRACE
from kmemlab.alloc.slab_alloc import alloc_block, refill_from_slabs
from kmemlab.alloc.slab_array_cache import (
    ENTRIES,
    ArrayCaches,
    copy_entries,
    drop_oldest,
    free_one,
    transfer_objects,
)
from kmemlab.alloc.slab_cache import SLABS_FULL, SLABS_PARTIAL, SlabCache, get_node
from kmemlab.alloc.slab_free import cache_flusharray, cache_free, cache_free_alien_inner
from kmemlab.alloc.slab_freelist import index_to_obj, slab_get_obj, slab_put_obj
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.sim.list_head import list_add, list_del
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL


def gives_the_same_twice(cache: SlabCache, slab: int) -> int:
    """Active is not moved on."""
    objp = slab_get_obj.original(cache, slab)
    if cache.common.pages.inuse[slab] % 5 == 0:
        cache.common.pages.inuse[slab] -= 1
    return objp


def loses_an_object(cache: SlabCache, slab: int) -> int:
    if cache.common.pages.inuse[slab] < cache.num - 1:
        slab_get_obj.original(cache, slab)
    return slab_get_obj.original(cache, slab)


def puts_its_neighbour_back(cache: SlabCache, slab: int, objp: int) -> None:
    slab_put_obj.original(cache, slab, index_to_obj(cache, slab, 0))


def forgets_the_object(cache: SlabCache, slab: int, objp: int) -> None:
    return None


def moves_one_too_few(arrays: ArrayCaches, ac: int, nr: int) -> None:
    drop_oldest.original(arrays, ac, max(nr - 1, 0))


def moves_one_too_many(arrays: ArrayCaches, ac: int, nr: int) -> None:
    drop_oldest.original(arrays, ac, min(nr + 1, arrays.avail[ac]))


def copies_from_the_top(arrays: ArrayCaches, to: int, to_at: int, source: int, at: int, nr: int) -> None:
    copy_entries.original(arrays, to, to_at, source, at + (to != source), nr)


def does_not_lower_the_source(arrays: ArrayCaches, to: int, source: int, most: int) -> int:
    moved = transfer_objects.original(arrays, to, source, most)
    arrays.avail[source] += moved
    return moved


def overwrites_the_top(cache: SlabCache, objp: int) -> None:
    arrays, ac = cache.state.arrays, cache.first_cpu_cache + cache.common.mm.current.cpu
    if arrays.avail[ac] > 3:
        arrays.entry[ac * ENTRIES + arrays.avail[ac] - 1] = objp
    else:
        cache_free.original(cache, objp)


def flushes_nothing(cache: SlabCache, ac: int) -> None:
    cache.state.arrays.avail[ac] -= 5


def all_slabs_look_full(cache: SlabCache, nid: int, slab: int) -> None:
    pages = cache.common.pages
    list_add(pages.slab_list, slab, pages.list_head(cache.number, nid, SLABS_FULL))


def stays_on_its_old_list(cache: SlabCache, nid: int, slab: int) -> None:
    return None


def counts_no_free_objects(cache: SlabCache, ac: int, nid: int, batchcount: int) -> int:
    left = refill_from_slabs.original(cache, ac, nid, batchcount)
    nodes = cache.state.nodes
    nodes.free_objects[get_node(cache, nid)] += cache.state.arrays.avail[ac]
    return left


def takes_a_free_slab_uncounted(cache: SlabCache, nid: int) -> int | None:
    slab = slab_lists.get_first_slab.original(cache, nid)
    nodes, n = cache.state.nodes, get_node(cache, nid)
    pages = cache.common.pages
    if slab is not None and not pages.inuse[slab]:
        nodes.free_slabs[n] += 1
    return slab


def counts_what_is_gone(cache: SlabCache, nid: int) -> int | None:
    slab = slab_lists.take_last_free.original(cache, nid)
    if slab is not None:
        cache.state.nodes.total_slabs[get_node(cache, nid)] += 1
    return slab


def takes_one_object_too_many_away(cache: SlabCache, nid: int) -> int | None:
    slab = slab_lists.take_last_free.original(cache, nid)
    if slab is not None:
        cache.state.nodes.free_objects[get_node(cache, nid)] -= 1
    return slab


def a_colour_too_far(cache: SlabCache, n: int) -> int:
    return max(cache.colour, 1)


def not_counted(cache: SlabCache, slab: int | None) -> None:
    slab_grow.cache_grow_end.original(cache, slab)
    if slab is not None:
        cache.state.nodes.total_slabs[get_node(cache, 0)] -= 1


def alien_of_the_wrong_node(cache: SlabCache, objp: int, node: int, slab_node: int) -> None:
    cache_free_alien_inner.original(cache, objp, slab_node, node)


def keeps_a_foreigner(cache: SlabCache, objp: int, node: int, slab_node: int) -> None:
    free_one(cache.state.arrays, cache.first_cpu_cache + cache.common.mm.current.cpu, objp)


DEFECTS = [
    (slab_get_obj, gives_the_same_twice),
    (slab_get_obj, loses_an_object),
    (slab_put_obj, puts_its_neighbour_back),
    (slab_put_obj, forgets_the_object),
    (drop_oldest, moves_one_too_few),
    (drop_oldest, moves_one_too_many),
    (copy_entries, copies_from_the_top),
    (transfer_objects, does_not_lower_the_source),
    (cache_free, overwrites_the_top),
    (cache_flusharray, flushes_nothing),
    (slab_grow.put_slab_where_it_belongs, all_slabs_look_full),
    (slab_grow.put_slab_where_it_belongs, stays_on_its_old_list),
    (refill_from_slabs, counts_no_free_objects),
    (slab_lists.get_first_slab, takes_a_free_slab_uncounted),
    (slab_lists.take_last_free, counts_what_is_gone),
    (slab_lists.take_last_free, takes_one_object_too_many_away),
    (slab_grow.next_colour, a_colour_too_far),
    (slab_grow.cache_grow_end, not_counted),
    (cache_free_alien_inner, alien_of_the_wrong_node),
    (cache_free_alien_inner, keeps_a_foreigner),
]


def work(machine: Machine, steps: int = 60) -> None:
    """Take and give back by two CPUs of two nodes, now and then wait or shrink; the law is asked after each step."""
    rng = random.Random(7)
    held: list[tuple[str, int]] = []
    for step in range(steps):
        with machine.on_cpu(rng.randrange(2)):
            if rng.random() < 0.5 or not held:
                for _ in range(rng.choice((1, 5, 40, 90))):
                    name = rng.choice("ab")
                    held.append((name, machine.kmem_cache_alloc(name, GFP_KERNEL, rng.choice((-1, -1, -1, 0, 1)))))
            else:
                for _ in range(min(len(held), rng.choice((1, 5, 40, 150)))):
                    name, address = held.pop(rng.randrange(len(held)))
                    machine.kmem_cache_free(name, address)
        if step % 9 == 8:
            machine.wait(3)
        if step % 15 == 14:
            while held:
                machine.kmem_cache_free(*held.pop())
            machine.check()
            held += [("b", machine.kmem_cache_alloc("b")) for _ in range(150)]
        if step % 20 == 19:
            machine.kmem_cache_shrink("b")
        machine.check()


def two_caches() -> Machine:
    machine = Machine.boot("numa-2x4g", slab="SLAB")
    machine.kmem_cache_create("a", 700, 0, SLAB_NOLEAKTRACE)
    machine.kmem_cache_create("b", 152, 0, SLAB_NOLEAKTRACE)
    return machine


def test_without_a_defect_the_laws_hold() -> None:
    work(two_caches())


@pytest.mark.parametrize(("function", "mutant"), DEFECTS, ids=lambda function: function.__name__)
def test_the_laws_catch(function, mutant) -> None:
    machine = two_caches()
    with livepatch(function, mutant), pytest.raises((BrokenLaw, KmemlabError)) as caught:
        work(machine)
    assert not isinstance(caught.value, OutOfMemory)
    # What is told is a law, or a list that can't be followed; not a request that was refused.
    assert isinstance(caught.value, BrokenLaw) or "list" in caught.value.what


def test_bits_that_fall_are_found() -> None:
    for harm in (flip_freelist, lose_array, forget_holder, double_holder, wrong_owner):
        machine = two_caches()
        held = [machine.kmem_cache_alloc("b") for _ in range(7)]
        machine.check()
        cache = next(cache for cache in machine.kernel.slab.existing() if cache.name == "b")
        assert isinstance(cache, SlabCache)
        harm(machine, cache, held)
        with pytest.raises(BrokenLaw):
            machine.check()


def partial(cache: SlabCache) -> int:
    pages = cache.common.pages
    for nid in range(2):
        head = pages.list_head(cache.number, nid, SLABS_PARTIAL)
        if pages.slab_list.next[head] != head:
            return pages.slab_list.next[head]
    raise AssertionError("no slab is partial")


def flip_freelist(machine: Machine, cache: SlabCache, held: list[int]) -> None:
    pages = cache.common.pages
    machine.write(pages.freelist[partial(cache)] + cache.num - 1, b"\x00")


def lose_array(machine: Machine, cache: SlabCache, held: list[int]) -> None:
    cache.state.arrays.avail[cache.first_cpu_cache] -= 1


def forget_holder(machine: Machine, cache: SlabCache, held: list[int]) -> None:
    bit = held[0] - cache.common.pages.page_offset >> 4
    cache.state.held[bit >> 3] &= ~(1 << (bit & 7))


def double_holder(machine: Machine, cache: SlabCache, held: list[int]) -> None:
    cache.nr_held += 1


def wrong_owner(machine: Machine, cache: SlabCache, held: list[int]) -> None:
    list_del(cache.common.pages.slab_list, partial(cache))


def test_a_batch_counts_down_to_what_is_wanting() -> None:
    """alloc_block is asked for more than a slab has."""
    machine = two_caches()
    cache = next(cache for cache in machine.kernel.slab.existing() if cache.name == "a")
    assert isinstance(cache, SlabCache)
    machine.kmem_cache_free("a", machine.kmem_cache_alloc("a"))
    machine.kmem_cache_shrink("a")
    slab = slab_grow.cache_grow_begin(cache, GFP_KERNEL, 0)
    assert slab is not None
    assert alloc_block(cache, cache.first_cpu_cache, slab, 16) == 16 - cache.num
