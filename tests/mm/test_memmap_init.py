"""The memory map: where deferring begins, compared with C's page-by-page rule; which zone each pageblock is of."""

from __future__ import annotations

import random

import pytest

from kmemlab.boot.memblock import for_each_mem_pfn_range
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.mm.mem_map import PAGES_PER_SECTION, page_zone_id
from kmemlab.mm.memmap_init import defer_init
from kmemlab.mm.zone import get_pageblock_migratetype
from kmemlab.types.migratetype import MIGRATE_MOVABLE
from kmemlab.types.units import U64_MAX


def page_by_page(ranges: list[tuple[int, int]]) -> int:
    """C's rule: count pages of the node's last zone; behind a section's worth, the next start of a section waits."""
    nr_initialised = 0
    for start, end in ranges:
        for pfn in range(start, end):
            nr_initialised += 1
            if nr_initialised > PAGES_PER_SECTION and pfn % PAGES_PER_SECTION == 0:
                return pfn
    return U64_MAX


@pytest.mark.parametrize("seed", range(12))
def test_deferring_begins_where_c_begins_it(seed: int) -> None:
    rng = random.Random(seed)
    ranges, pfn = [], rng.randrange(5000)
    for _ in range(rng.randrange(1, 6)):
        start = pfn + rng.choice((0, rng.randrange(40000)))
        pfn = start + rng.randrange(1, 60000)
        ranges.append((start, pfn))
    kernel = Kernel(load_spec("tiny-128m"))
    pgdat = kernel.mm.node_data[0]
    pgdat.node_spanned_pages = pfn
    pgdat.first_deferred_pfn = U64_MAX
    for start, end in ranges:
        defer_init(kernel.mm, 0, start, end, pfn)
    assert pgdat.first_deferred_pfn == page_by_page(ranges)


@pytest.mark.parametrize("spec", ["laptop-8g", "numa-2x4g"])
def test_every_pageblock_with_memory_belongs_to_its_zone(spec: str) -> None:
    kernel = Kernel(load_spec(spec))
    start_kernel(kernel, "setup_arch")
    page = kernel.mm.page
    for start, end, nid in for_each_mem_pfn_range(kernel.boot.memblock):
        for pfn in (start, (start + end) // 2, end - 1):
            zones = [
                zone
                for zone in kernel.mm.node_data[nid].node_zones
                if zone.zone_start_pfn <= pfn < zone.zone_start_pfn + zone.spanned_pages
            ]
            assert [page_zone_id(page, pfn)] == [zone.slot for zone in zones]
    # Page 0 is no memory, so nobody initialised the first page of the first pageblock.
    assert get_pageblock_migratetype(page, 0) != MIGRATE_MOVABLE
    assert get_pageblock_migratetype(page, 512) == MIGRATE_MOVABLE
