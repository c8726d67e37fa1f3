"""HighMem handed over block by block is as if it were page by page, as Linux does it."""

from __future__ import annotations

import random

import pytest

from kmemlab.boot.memblock import for_each_free_mem_range, memblock_reserve
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.highmem import set_highmem_pages_init
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.snapshot import zone_snapshot
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.mm.buddy import free_one_page
from kmemlab.mm.check_zone import check_conservation, check_zone
from kmemlab.mm.zone import Zone, get_pageblock_migratetype, zone_end_pfn
from tests.boot.captures import MACHINES


def before_highmem(name: str, holes: list[tuple[int, int]]) -> tuple[Kernel, Zone]:
    """A machine just before HighMem is freed, with these ranges of page frames reserved."""
    kernel = Kernel(load_spec(MACHINES / name))
    start_kernel(kernel, "pci_iommu_alloc")
    for pfn, pages in holes:
        memblock_reserve(kernel.boot.memblock, pfn << 12, pages << 12)
    return kernel, kernel.mm.node_data[0].node_zones[2]


def free_page_by_page(kernel: Kernel, zone: Zone) -> None:
    zone.managed_pages = 0
    for start, end, _ in for_each_free_mem_range(kernel.boot.memblock):
        for pfn in range(-(-start // 4096), end // 4096):
            if zone.zone_start_pfn <= pfn < zone_end_pfn(zone):
                free_one_page(zone, pfn, 0, get_pageblock_migratetype(zone.page, pfn))
                zone.managed_pages += 1


@pytest.mark.parametrize("name", ["i386-pae-1g", "i386-1g"])
@pytest.mark.parametrize("seed", range(4))
def test_block_by_block_is_as_page_by_page(name: str, seed: int) -> None:
    rng = random.Random(seed)
    _, zone = before_highmem(name, [])
    first, end = zone.zone_start_pfn, zone_end_pfn(zone)
    holes = [(rng.randrange(first, end - 3000), 1 << rng.randrange(12)) for _ in range(40 * seed)]
    ours, zone = before_highmem(name, holes)
    set_highmem_pages_init(ours.mm)
    theirs, other = before_highmem(name, holes)
    free_page_by_page(theirs, other)
    assert zone_snapshot(zone) == zone_snapshot(other)
    assert ours.mm.totalhigh_pages == zone.managed_pages > 10000
    check_zone(zone)
    check_conservation(zone)


def test_low_memory_stays_unfree_until_its_turn() -> None:
    kernel, zone = before_highmem("i386-pae-2g-2cpu", [])
    start_kernel(fresh := Kernel(load_spec(MACHINES / "i386-pae-2g-2cpu")), "set_highmem_pages_init")
    assert [free.managed_pages for free in fresh.mm.zones()] == [0, 0, zone.present_pages, 0]
    assert kernel.mm.totalhigh_pages == 0
