"""From a request to a zone: which zone, which type, what is counted, and what is kept for whom."""

from __future__ import annotations

import pytest

from kmemlab.alloc.freelist import get_page_from_freelist
from kmemlab.alloc.page_alloc import (
    alloc_flags_nofragment,
    alloc_pages_inner,
    current_gfp_context,
    free_pages_inner,
)
from kmemlab.alloc.page_api import alloc_pages
from kmemlab.machine.machine import Machine
from kmemlab.mm.context import PF_MEMALLOC_NOFS, PF_MEMALLOC_NOIO, PF_MEMALLOC_PIN, interrupt
from kmemlab.mm.highatomic import unreserve_highatomic_pageblock
from kmemlab.mm.vm_event import (
    NUMA_FOREIGN,
    NUMA_HIT,
    NUMA_INTERLEAVE_HIT,
    NUMA_LOCAL,
    NUMA_MISS,
    NUMA_OTHER,
    PGALLOC,
    PGFREE,
)
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_MIN, Zone, free_blocks, get_pageblock_migratetype
from kmemlab.mm.zone_watermark_ok import ALLOC_HIGHATOMIC, ALLOC_MIN_RESERVE, ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import (
    __GFP_BITS_MASK,
    __GFP_DIRECT_RECLAIM,
    __GFP_DMA,
    __GFP_HIGHMEM,
    __GFP_IO,
    __GFP_KSWAPD_RECLAIM,
    __GFP_MOVABLE,
    __GFP_RECLAIMABLE,
    __GFP_THISNODE,
    GFP_ATOMIC,
    GFP_DMA,
    GFP_DMA32,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    GFP_NOIO,
    GFP_NOWAIT,
)
from kmemlab.types.migratetype import MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE


@pytest.fixture(scope="module")
def laptop() -> Machine:
    return Machine.boot("laptop-8g")


@pytest.fixture(scope="module")
def two_nodes() -> Machine:
    return Machine.boot("numa-2x4g")


def zone_of(machine: Machine, pfn: int) -> Zone:
    return next(z for z in machine.zones if z.zone_start_pfn <= pfn < z.zone_start_pfn + z.spanned_pages)


@pytest.mark.parametrize(
    ("gfp", "zone", "migratetype"),
    [
        (GFP_KERNEL, "Normal", MIGRATE_UNMOVABLE),
        (GFP_KERNEL | GFP_DMA, "DMA", MIGRATE_UNMOVABLE),
        (GFP_KERNEL | GFP_DMA32, "DMA32", MIGRATE_UNMOVABLE),
        (GFP_HIGHUSER_MOVABLE, "Normal", MIGRATE_MOVABLE),
        (GFP_KERNEL | __GFP_RECLAIMABLE, "Normal", 2),
        (GFP_ATOMIC, "Normal", MIGRATE_UNMOVABLE),
    ],
)
def test_the_flags_name_a_zone_and_a_type(laptop: Machine, gfp: int, zone: str, migratetype: int) -> None:
    twin = laptop.fork()
    before = list(twin.kernel.mm.vm_event)
    pfn = twin.alloc_pages(gfp)
    assert zone_of(twin, pfn).name == zone
    assert get_pageblock_migratetype(twin.kernel.mm.page, pfn) == migratetype
    counter = PGALLOC + zone_of(twin, pfn).index
    assert twin.kernel.mm.vm_event[counter] == before[counter] + 1


def test_two_zones_at_once_are_a_mistake(laptop: Machine) -> None:
    with pytest.raises(BadRequest, match="more than one"):
        alloc_pages_inner(laptop.kernel.mm, GFP_KERNEL | __GFP_DMA | __GFP_HIGHMEM, 0, 0)


def test_what_is_counted(laptop: Machine) -> None:
    twin = laptop.fork()
    normal, events = twin.zone("Normal"), twin.kernel.mm.vm_event
    freed, hits, taken = events[PGFREE], normal.vm_numa_event[NUMA_HIT], events[PGALLOC + normal.index]
    held = [(twin.alloc_pages(GFP_KERNEL, order), order) for order in (0, 3, 5, 9)]
    assert events[PGALLOC + normal.index] - taken == 1 + 8 + 32 + 512
    assert normal.vm_numa_event[NUMA_HIT] - hits == 4  # blocks, not pages
    for pfn, order in held:
        twin.free_pages(pfn, order)
    assert events[PGFREE] - freed == 1 + 8 + 32 + 512


def test_numa_counters(two_nodes: Machine) -> None:
    twin = two_nodes.fork()
    zones = {node: next(z for z in twin.zones if z.node == node and z.name == "Normal") for node in (0, 1)}
    for zone in zones.values():
        zone.vm_numa_event[:] = zone.vm_numa_event[:0].__class__(bytearray(len(zone.vm_numa_event) * 8)).cast("q")
    twin.alloc_pages(GFP_KERNEL, node=1)  # CPU 0 stands on node 0
    assert [zones[1].vm_numa_event[at] for at in (NUMA_HIT, NUMA_MISS, NUMA_LOCAL, NUMA_OTHER)] == [1, 0, 0, 1]
    cpu = next(cpu for cpu, node in enumerate(twin.kernel.numa.cpu_to_node) if node == 1)
    with twin.on_cpu(cpu):
        twin.alloc_pages(GFP_KERNEL, node=1)
    assert [zones[1].vm_numa_event[at] for at in (NUMA_HIT, NUMA_LOCAL, NUMA_OTHER)] == [2, 1, 1]
    zones[1].watermark_boost = zones[1].managed_pages  # node 1 may not give
    pfn = twin.alloc_pages(GFP_KERNEL, node=1)
    taken = zone_of(twin, pfn)
    assert taken.node == 0
    assert taken.vm_numa_event[NUMA_MISS] == 1
    assert zones[1].vm_numa_event[NUMA_FOREIGN] == 1
    assert alloc_pages_inner(twin.kernel.mm, GFP_NOWAIT | __GFP_THISNODE, 0, 1) is None


def test_boot_counts_what_it_took_in_turn(two_nodes: Machine) -> None:
    def counted(machine: Machine, event: int) -> list[int]:
        return [sum(zone.vm_numa_event[event] for zone in machine.zones if zone.node == node) for node in (0, 1)]

    twin = two_nodes.fork()
    in_turn, hits = counted(twin, NUMA_INTERLEAVE_HIT), counted(twin, NUMA_HIT)
    assert all(0 < count <= hit for count, hit in zip(in_turn, hits, strict=True))
    assert abs(in_turn[0] - in_turn[1]) <= 1
    for _ in range(5):
        alloc_pages(twin.kernel.mm, GFP_KERNEL, 5)
    assert counted(twin, NUMA_INTERLEAVE_HIT) == in_turn  # boot is over


def test_types_are_not_mixed_while_dma32_can_give(laptop: Machine, two_nodes: Machine) -> None:
    twin = laptop.fork()
    mm, normal = twin.kernel.mm, twin.zone("Normal")
    assert alloc_flags_nofragment(mm, normal, GFP_KERNEL) == ALLOC_NOFRAGMENT | __GFP_KSWAPD_RECLAIM
    assert alloc_flags_nofragment(mm, twin.zone("DMA32"), GFP_KERNEL) == __GFP_KSWAPD_RECLAIM
    far = next(z for z in two_nodes.zones if z.node == 1)  # node 1 has no DMA32
    assert alloc_flags_nofragment(two_nodes.kernel.mm, far, 0) == 0
    i386 = Machine.boot("tiny-128m").kernel.mm
    assert alloc_flags_nofragment(i386, None, 0) == 0
    # Take all whole pageblocks of Normal, so that a reclaimable page could only come from a mixed one.
    held = []
    while any(normal.nr_free[9:]):
        found = get_page_from_freelist(mm, __GFP_MOVABLE, 9, 4, 0)
        assert found is not None
        held.append(found)
    flags = alloc_flags_nofragment(mm, normal, GFP_KERNEL)
    normal.watermark_boost = -normal.watermark[WMARK_HIGH]
    pfn = get_page_from_freelist(mm, GFP_KERNEL | __GFP_RECLAIMABLE, 0, flags, 0)
    assert pfn is not None
    assert zone_of(twin, pfn).name == "DMA32"
    pfn = get_page_from_freelist(mm, GFP_KERNEL | __GFP_RECLAIMABLE, 0, flags & ~ALLOC_NOFRAGMENT, 0)
    assert pfn is not None
    assert zone_of(twin, pfn).name == "Normal"


def test_mixing_types_raises_the_watermarks_and_wakes_kswapd() -> None:
    machine = Machine.boot("tiny-128m")
    zone, pgdat = machine.zone("DMA32"), machine.kernel.mm.node_data[0]
    before = zone.watermark_boost
    mm = machine.kernel.mm
    high = zone.watermark[WMARK_HIGH]
    while zone.watermark_boost == before:
        assert alloc_pages_inner(mm, GFP_KERNEL | __GFP_RECLAIMABLE, 0, 0) is not None
        assert alloc_pages_inner(mm, GFP_KERNEL, 4, 0) is not None
    # One pageblock, as far as 1.5 times the high mark allows, but never less than a pageblock.
    assert zone.watermark_boost == min(before + 512, max(512, high * 15000 // 10000))
    assert zone.flags == 0
    assert (pgdat.kswapd_awake, pgdat.kswapd_order, pgdat.kswapd_highest_zoneidx) == (1, 0, zone.index)


def test_no_boost_before_there_are_watermarks_or_where_it_is_switched_off() -> None:
    machine = Machine.boot("tiny-128m")
    machine.sysctl("vm.watermark_boost_factor", 0)
    zone = machine.zone("DMA32")
    zone.watermark_boost = 0
    for _ in range(200):
        machine.alloc_pages(GFP_KERNEL | __GFP_RECLAIMABLE, 0)
        machine.alloc_pages(GFP_KERNEL, 4)
    assert zone.watermark_boost == 0


def test_an_urgent_request_for_several_pages_reserves_a_pageblock(laptop: Machine) -> None:
    twin = laptop.fork()
    mm, zone = twin.kernel.mm, twin.zone("Normal")
    flags = ALLOC_HIGHATOMIC | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK
    pfn = get_page_from_freelist(mm, GFP_ATOMIC, 5, flags, 0)
    assert pfn is not None
    assert get_pageblock_migratetype(mm.page, pfn) == MIGRATE_HIGHATOMIC
    assert zone.nr_reserved_highatomic == 512
    reserved = sum(len(list(free_blocks(zone, order, MIGRATE_HIGHATOMIC))) << order for order in range(11))
    assert 0 < reserved <= 480
    second = get_page_from_freelist(mm, GFP_ATOMIC, 5, flags, 0)
    assert second is not None
    assert second >> 9 == pfn >> 9  # the reserve serves the next one
    assert zone.nr_reserved_highatomic == 512
    limit = zone.managed_pages // 100 + 512
    for _ in range(400):
        assert get_page_from_freelist(mm, GFP_ATOMIC, 8, flags, 0) is not None
    assert limit <= zone.nr_reserved_highatomic < limit + 512
    twin.check()


def test_the_reserve_is_given_back(laptop: Machine) -> None:
    twin = laptop.fork()
    mm, zone = twin.kernel.mm, twin.zone("Normal")
    flags = ALLOC_HIGHATOMIC | ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK
    pfn = get_page_from_freelist(mm, GFP_ATOMIC, 5, flags, 0)
    assert pfn is not None
    assert not unreserve_highatomic_pageblock([zone], MIGRATE_MOVABLE, force=False)  # the last one stays
    assert unreserve_highatomic_pageblock([zone], MIGRATE_MOVABLE, force=True)
    assert zone.nr_reserved_highatomic == 0
    assert get_pageblock_migratetype(mm.page, pfn) == MIGRATE_MOVABLE
    assert not any(list(free_blocks(zone, order, MIGRATE_HIGHATOMIC)) for order in range(11))
    free_pages_inner(mm, pfn, 5)
    twin.check()


def test_early_in_boot_nobody_may_wait() -> None:
    machine = Machine("tiny-128m")
    machine.start_kernel("mem_init")
    mask = machine.kernel.mm.gfp_allowed_mask
    assert not mask & (__GFP_IO | __GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM)
    assert mask | 0xCC0 == __GFP_BITS_MASK
    assert Machine.boot("tiny-128m").kernel.mm.gfp_allowed_mask == __GFP_BITS_MASK


@pytest.mark.parametrize(
    ("flags", "asked", "got"),
    [
        (0, GFP_KERNEL, GFP_KERNEL),
        (PF_MEMALLOC_NOIO, GFP_KERNEL, GFP_NOIO),
        (PF_MEMALLOC_NOFS, GFP_KERNEL, 0xC40),
        (PF_MEMALLOC_NOIO | PF_MEMALLOC_NOFS, GFP_KERNEL, GFP_NOIO),
        (PF_MEMALLOC_PIN, GFP_HIGHUSER_MOVABLE, GFP_HIGHUSER_MOVABLE & ~__GFP_MOVABLE),
    ],
)
def test_what_a_task_has_forbidden_itself(laptop: Machine, flags: int, asked: int, got: int) -> None:
    current = laptop.fork().kernel.mm.current
    current.flags = flags
    assert current_gfp_context(current, asked) == got


def test_a_request_that_may_sleep_is_reported_in_an_interrupt_handler(laptop: Machine) -> None:
    twin = laptop.fork()
    with interrupt(twin.kernel.mm.current):
        before = len(twin.kernel.printk_lines)
        twin.alloc_pages(GFP_ATOMIC)
        assert len(twin.kernel.printk_lines) == before
        twin.alloc_pages(GFP_KERNEL)
    assert "BUG: sleeping function called from invalid context at include/linux/sched/mm.h:274" in twin.dmesg()
    assert "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: " in twin.dmesg()


def test_below_the_low_watermark_the_next_zone_gives(laptop: Machine) -> None:
    twin = laptop.fork()
    normal = twin.zone("Normal")
    room = normal.vm_stat[NR_FREE_PAGES] - normal.watermark[1] - normal.lowmem_reserve[normal.index]
    normal.watermark_boost = room - 1
    assert zone_of(twin, twin.alloc_pages(GFP_KERNEL)).name == "Normal"
    normal.watermark_boost = normal.vm_stat[NR_FREE_PAGES] - normal.watermark[1]
    assert zone_of(twin, twin.alloc_pages(GFP_KERNEL)).name == "DMA32"
    assert normal.watermark[WMARK_MIN] > 0
