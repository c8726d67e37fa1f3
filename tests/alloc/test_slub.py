"""SLUB: objects out of slabs, slabs on lists, caches by name."""

from __future__ import annotations

from collections import Counter

import pytest

from kmemlab.alloc.kmem_cache import SLAB_ACCOUNT, SLAB_CACHE_DMA, SLAB_PANIC, SLAB_RECLAIM_ACCOUNT
from kmemlab.alloc.slab_check import check_slab
from kmemlab.alloc.slab_common import (
    kmem_cache_alloc,
    kmem_cache_alloc_bulk,
    kmem_cache_alloc_node,
    kmem_cache_free,
    kmem_cache_free_bulk,
)
from kmemlab.alloc.slab_create import find_mergeable, kmem_cache_create, kmem_cache_destroy, kmem_cache_shrink
from kmemlab.alloc.slab_memory import KernelMemory, read_memory, write_memory
from kmemlab.alloc.slab_pages import slab_address, slab_nid, virt_to_slab
from kmemlab.alloc.slub import build_detached_freelist
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.alloc.slub_freelist import get_freepointer
from kmemlab.alloc.slub_partial import slabs_on
from kmemlab.machine.machine import Machine
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.mm.vmstat import NR_SLAB_RECLAIMABLE, NR_SLAB_UNRECLAIMABLE
from kmemlab.types.errors import KernelPanic
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.pageflags import PG_slab
from kmemlab.types.slab_config import SlabConfig
from tests.alloc.slab_helpers import new_cache, partial_of, pointer_in, small
from tests.boot.captures import MACHINES


def take(cache: SlubCache, count: int = 1) -> list[int]:
    taken = [kmem_cache_alloc(cache, GFP_KERNEL) for _ in range(count)]
    assert None not in taken
    return [address for address in taken if address is not None]


def test_without_hardening_the_pointers_stand_in_the_objects_and_follow_one_another() -> None:
    cache = new_cache(small().kernel.slab)
    first = take(cache)[0]
    slab = virt_to_slab(cache.pages, first)
    assert slab is not None
    assert first == slab_address(cache.pages, slab)
    assert cache.offset == 128  # the middle of 256 bytes
    chain = [cache.per_cpu.freelist[cache.cpu_slab]]
    while pointer_in(cache, chain[-1]):
        chain.append(pointer_in(cache, chain[-1]))
    assert chain == [first + 256 * nth for nth in range(1, 16)]


def test_hardening_mixes_pointers_with_a_secret_and_their_own_address() -> None:
    cache = new_cache(small(slab=SlabConfig(freelist_random=False)).kernel.slab)
    first = take(cache)[0]
    following = first + 256
    at = following + cache.offset
    swapped = int.from_bytes(at.to_bytes(8, "big"), "little")
    assert pointer_in(cache, following) == (first + 512) ^ cache.random ^ swapped
    assert get_freepointer(cache, following) == first + 512


def test_a_random_order_is_a_permutation_and_the_same_on_every_machine() -> None:
    orders = []
    for _ in range(2):
        cache = new_cache(small(slab=SlabConfig()).kernel.slab)
        orders.append(take(cache, 16))
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])
    base = min(orders[0])
    assert sorted(orders[0]) == [base + 256 * nth for nth in range(16)]


def test_what_came_back_last_is_given_out_first() -> None:
    cache = new_cache(small().kernel.slab)
    one, two, three = take(cache, 3)
    kmem_cache_free(cache, one)
    kmem_cache_free(cache, three)
    assert take(cache, 2) == [three, one]
    assert two not in take(cache, 5)


def test_the_pages_of_a_slab_say_so_and_are_counted() -> None:
    machine = small()
    common = machine.kernel.slab
    cache = new_cache(common, size=1024)
    vm_stat = machine.kernel.mm.node_data[0].vm_stat
    before = vm_stat[NR_SLAB_UNRECLAIMABLE]
    obj = take(cache)[0]
    slab = virt_to_slab(cache.pages, obj)
    assert slab is not None
    page = machine.kernel.mm.page
    assert page.flags[slab] >> PG_slab & 1
    assert page.owned[slab] == 1 + cache.order == 2
    assert virt_to_slab(cache.pages, slab_address(cache.pages, slab) + 4096) == slab
    assert vm_stat[NR_SLAB_UNRECLAIMABLE] == before + 2
    kmem_cache_free(cache, obj)
    assert kmem_cache_shrink(cache) == 0
    assert vm_stat[NR_SLAB_UNRECLAIMABLE] == before
    assert not page.owned[slab]
    assert virt_to_slab(cache.pages, obj) is None


def test_a_slab_goes_from_the_cpu_to_no_list_to_the_reserve_to_the_node() -> None:
    cache = new_cache(small().kernel.slab, size=512)  # 8 objects a slab, reserve of 13 slabs
    pages, row = cache.pages, cache.cpu_slab
    objects = take(cache, 9)
    full = virt_to_slab(pages, objects[0])
    assert full is not None
    assert (pages.inuse[full], pages.frozen[full], slabs_on(cache, 0)) == (8, 0, ())
    assert cache.per_cpu.slab[row] == virt_to_slab(pages, objects[8])
    kmem_cache_free(cache, objects[3])
    assert (partial_of(cache), pages.frozen[full], pages.inuse[full]) == ([full], 1, 7)
    more = take(cache, 8 * (cache.cpu_partial_slabs + 1))
    assert objects[3] in more  # the reserve was used up first
    assert partial_of(cache) == []
    by_slab = {virt_to_slab(pages, obj): obj for obj in objects + more}
    for obj in list(by_slab.values())[: cache.cpu_partial_slabs]:
        kmem_cache_free(cache, obj)
    assert len(partial_of(cache)) == cache.cpu_partial_slabs == 13
    last = list(by_slab.values())[cache.cpu_partial_slabs]
    kmem_cache_free(cache, last)
    # One more, and all of the reserve goes to the node first.
    assert len(partial_of(cache)) + len(slabs_on(cache, 0)) == 14
    check_slab(cache.common)


def test_a_node_keeps_min_partial_empty_slabs_and_gives_the_others_back() -> None:
    machine = small()
    cache = new_cache(machine.kernel.slab, size=512)
    objects = take(cache, 8 * 40)
    for obj in objects:
        kmem_cache_free(cache, obj)
    info = cache.engine.get_slabinfo(cache)
    reserve = len(partial_of(cache))
    assert info.num_slabs <= 1 + reserve + cache.min_partial
    assert all(cache.pages.inuse[slab] == 0 for slab in slabs_on(cache, 0))
    machine.check()


def test_the_cpus_slab_is_freed_into_by_others() -> None:
    machine = Machine.boot("laptop-8g")
    common = machine.kernel.slab
    cache = new_cache(common)
    one, _ = take(cache, 2)
    slab = virt_to_slab(cache.pages, one)
    assert slab is not None
    with machine.on_cpu(1):
        kmem_cache_free(cache, one)
        assert cache.pages.freelist[slab] == one  # its own list, not the CPU's
        other = take(cache)[0]
        assert virt_to_slab(cache.pages, other) != slab
    rest = take(cache, cache.objects - 2)
    assert one not in rest
    assert take(cache) == [one]  # only when the CPU's list is used up
    check_slab(common)


def test_on_numa_a_slab_is_of_the_node_that_is_wanted() -> None:
    machine = Machine.boot(MACHINES / "amd64-numa2-4g-4cpu")
    common = machine.kernel.slab
    cache = new_cache(common)
    here = kmem_cache_alloc_node(cache, GFP_KERNEL, 0, 0, 256)
    there = kmem_cache_alloc_node(cache, GFP_KERNEL, 1, 0, 256)
    assert here is not None
    assert there is not None
    assert [slab_nid(cache.pages, virt_to_slab(cache.pages, obj) or 0) for obj in (here, there)] == [0, 1]
    kmem_cache_free(cache, here)
    kmem_cache_free(cache, there)
    check_slab(common)


def test_on_numa_partial_slabs_of_other_nodes_are_used_if_they_have_many() -> None:
    machine = Machine.boot(MACHINES / "amd64-numa2-4g-4cpu")
    cache = new_cache(machine.kernel.slab, size=512)
    far = [kmem_cache_alloc_node(cache, GFP_KERNEL, 1, 0, 512) for _ in range(16 * 40)]
    for obj in far[::16] + far[1::16]:
        assert obj is not None
        kmem_cache_free(cache, obj)
    cache.engine.kmem_cache_shrink(cache)
    many = cache.per_node.nr_partial[cache.node + 1]
    assert many > cache.min_partial
    near = take(cache)[0]  # CPU 0 is of node 0, which has nothing
    assert slab_nid(cache.pages, virt_to_slab(cache.pages, near) or 0) == 1
    check_slab(cache.common)


def test_a_constructor_runs_once_for_each_object_of_a_new_slab() -> None:
    runs: Counter[int] = Counter()

    def ctor(memory: KernelMemory, address: int) -> None:
        runs[address] += 1
        memory.write(address, b"ready")

    cache = new_cache(small(slab=SlabConfig()).kernel.slab, size=500, ctor=ctor)
    assert cache.offset >= cache.inuse  # the pointer stands behind the object, which keeps what the constructor wrote
    one = take(cache)[0]
    assert len(runs) == cache.objects
    assert set(runs.values()) == {1}
    kmem_cache_free(cache, one)
    assert take(cache) == [one]
    assert runs[one] == 1
    assert read_memory(cache.pages, one, 5) == b"ready"


def test_objects_are_cleared_when_they_are_given_out_unless_the_command_line_says_no() -> None:
    for cmdline, seen in (("", bytes(16)), ("init_on_alloc=0", b"old" + bytes(13))):
        cache = new_cache(small(cmdline).kernel.slab)
        one = take(cache)[0]
        write_memory(cache.pages, one, b"old")
        kmem_cache_free(cache, one)
        assert take(cache) == [one]
        assert read_memory(cache.pages, one, 16) == seen
    freed = new_cache(small("init_on_alloc=0 init_on_free=1").kernel.slab)
    one = take(freed)[0]
    write_memory(freed.pages, one, b"secret")
    kmem_cache_free(freed, one)
    assert read_memory(freed.pages, one, 6) == bytes(6)


def test_many_at_a_time_are_what_one_after_the_other_are() -> None:
    one_by_one, at_once = (new_cache(small().kernel.slab) for _ in range(2))
    singles = take(one_by_one, 40)
    assert kmem_cache_alloc_bulk(at_once, GFP_KERNEL, 40) == tuple(singles)
    kmem_cache_free_bulk(at_once, tuple(singles))
    assert at_once.nr_held == 0
    check_slab(at_once.common)
    assert set(kmem_cache_alloc_bulk(at_once, GFP_KERNEL, 48)) >= set(singles)  # all of the same three slabs


def test_what_is_freed_at_once_comes_back_last_one_first() -> None:
    cache = new_cache(small().kernel.slab)
    for chosen in (take(cache, 3), take(cache, 5)):  # on this CPU's slab
        kmem_cache_free_bulk(cache, tuple(chosen))
        assert take(cache, len(chosen)) == chosen[::-1]


def test_those_of_one_slab_are_freed_together_and_change_places_with_others() -> None:
    cache = new_cache(small().kernel.slab)
    held = take(cache, 48)  # three slabs
    a, b, c = ([obj for obj in held if virt_to_slab(cache.pages, obj) == slab] for slab in dict.fromkeys(
        virt_to_slab(cache.pages, obj) for obj in held))  # fmt: skip
    slab, same, left = build_detached_freelist(cache, [a[0], b[1], c[2], a[3]])
    assert (slab, same, left) == (virt_to_slab(cache.pages, a[0]), (a[0], a[3]), [c[2], b[1]])
    # After three others it looks no further.
    assert build_detached_freelist(cache, [a[0], b[0], b[1], b[2], a[1]])[1:] == ((a[1],), [a[0], b[0], b[1], b[2]])


def test_without_memory_nothing_is_given_and_nothing_is_lost() -> None:
    machine = small()
    cache = new_cache(machine.kernel.slab, size=4096)
    held = []
    while (obj := kmem_cache_alloc(cache, GFP_KERNEL)) is not None:
        held.append(obj)
    assert "SLUB: Unable to allocate memory on node -1, gfp=0xcc0" in machine.dmesg()
    assert kmem_cache_alloc_bulk(cache, GFP_KERNEL, 10) == ()
    assert len(set(held)) == len(held) == cache.nr_held
    for obj in held:
        kmem_cache_free(cache, obj)
    machine.check()
    assert kmem_cache_shrink(cache) == 0


def test_a_slab_of_the_lower_order_will_do() -> None:
    machine = small("slub_min_objects=32", slab=SlabConfig())
    cache = new_cache(machine.kernel.slab, size=1000)
    assert (cache.order, cache.min_order) == (3, 0)
    blocks = []
    while machine.kernel.mm.totalram_pages:
        try:
            blocks.append(machine.alloc_pages(GFP_KERNEL, 1))
        except Exception:  # no two pages in a row are left
            break
    singles = []
    while True:
        try:
            singles.append(machine.alloc_pages(GFP_KERNEL, 0))
        except Exception:
            break
    for pfn in singles[::2][:20]:
        machine.free_pages(pfn, 0)
    obj = kmem_cache_alloc(cache, GFP_KERNEL)
    if obj is not None:
        slab = virt_to_slab(cache.pages, obj)
        assert slab is not None
        assert cache.pages.objects[slab] == 4096 // cache.size
    check_slab(cache.common)


# -- caches by name ----------------------------------------------------------------------------------------------------


def test_caches_that_suit_are_shared() -> None:
    common = small().kernel.slab
    first = new_cache(common, "first", 100)
    assert kmem_cache_create(common, "second", 104) is first
    assert (first.refcount, first.object_size, first.inuse) == (2, 104, 104)
    assert kmem_cache_create(common, "larger", 108) is not first  # 112 bytes
    assert kmem_cache_create(common, "smaller", 96) is not first  # a whole pointer would be lost
    assert kmem_cache_create(common, "charged", 100, flags=SLAB_ACCOUNT) is not first
    assert kmem_cache_create(common, "built", 100, ctor=lambda memory, address: None) is not first
    assert kmem_cache_create(common, "copied", 100, usersize=8) is not first
    assert kmem_cache_create(common, "aligned", 100, 32) is not first
    kmem_cache_destroy(first)
    assert first.refcount == 1
    assert first.object_size
    kmem_cache_destroy(first)
    assert not first.object_size


@pytest.mark.parametrize("cmdline", ["slab_nomerge", "slub_nomerge", "slub_debug=Z"])
def test_nothing_is_shared_where_it_is_not_wanted(cmdline: str) -> None:
    common = small(cmdline).kernel.slab
    new_cache(common, "first", 100)
    assert find_mergeable(common, 100, 0, 0, "second") is None


def test_caches_come_and_go_and_give_everything_back() -> None:
    machine = small(slab=SlabConfig())
    common = machine.kernel.slab
    held = {cache.name: cache.nr_held for cache in common.existing()}
    for round_ in range(3):
        cache = new_cache(common, f"round-{round_}", 300)
        objects = take(cache, 50)
        for obj in objects:
            kmem_cache_free(cache, obj)
        kmem_cache_destroy(cache)
        machine.check()
    assert {cache.name: cache.nr_held for cache in common.existing()} == held


def test_a_cache_that_cannot_be_made_is_reported_and_may_be_a_panic() -> None:
    machine = small()
    assert kmem_cache_create(machine.kernel.slab, "odd", 100, flags=1) is None
    assert "kmem_cache_create_usercopy(odd) failed with error -22" in machine.dmesg()
    with pytest.raises(KernelPanic, match="Failed to create slab"):
        kmem_cache_create(machine.kernel.slab, "odd", 100, flags=1 | SLAB_PANIC)
    machine.check()


def test_dma_and_reclaimable_caches_take_pages_of_their_kind() -> None:
    machine = small()
    common = machine.kernel.slab
    dma = take(new_cache(common, "dma", 200, flags=SLAB_CACHE_DMA))[0]
    assert dma - common.pages.page_offset < 16 << 20
    vm_stat = machine.kernel.mm.node_data[0].vm_stat
    before = vm_stat[NR_SLAB_RECLAIMABLE]
    take(new_cache(common, "inodes", 200, flags=SLAB_RECLAIM_ACCOUNT))
    assert vm_stat[NR_SLAB_RECLAIMABLE] == before + 1


def test_shrinking_puts_the_fullest_slabs_first() -> None:
    cache = new_cache(small().kernel.slab, size=512)
    objects = take(cache, 8 * 5)
    groups: dict[int, list[int]] = {}
    for obj in objects:
        groups.setdefault(virt_to_slab(cache.pages, obj) or 0, []).append(obj)
    for count, group in zip((3, 1, 8, 6, 2), groups.values(), strict=True):
        for obj in group[:count]:
            kmem_cache_free(cache, obj)
    assert kmem_cache_shrink(cache) == 1
    assert [cache.pages.inuse[slab] for slab in slabs_on(cache, 0)] == [7, 6, 5, 2]
    check_slab(cache.common)


def test_slabinfo_counts_objects_of_cpus_as_active() -> None:
    machine = small()
    common = machine.kernel.slab
    cache = new_cache(common, "counted", 512)
    take(cache, 3)
    assert slabinfo(machine.kernel).splitlines()[2] == (
        "counted                8      8    512    8    1 : tunables    0    0    0 : slabdata      1      1      0"
    )
    kmem_cache_shrink(cache)
    assert slabinfo(machine.kernel).splitlines()[2].split()[1:3] == ["3", "8"]


def test_krealloc_clears_what_it_leaves_unused() -> None:
    for cmdline, spare in (("", bytes(156)), ("init_on_alloc=0", b"A" * 156)):
        machine = small(cmdline)
        pages, address = machine.kernel.slab.pages, machine.kmalloc(256, GFP_KERNEL)
        write_memory(pages, address, b"A" * 256)
        assert machine.krealloc(address, 100) == address
        assert read_memory(pages, address, 256) == b"A" * 100 + spare
