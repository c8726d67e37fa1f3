"""Deferred struct pages: grown early when nothing else is left, and whole in the end."""

from __future__ import annotations

from kmemlab.boot.memblock import memblock_reserve
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.deferred_init import alloc_pages_early, deferred_grow_zone
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.mem_init import memblock_free_all
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.mm.mem_map import PAGES_PER_SECTION
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import U64_MAX

GIB = 1 << 30


def machine(taken: tuple[int, int] = (0, 0)) -> Kernel:
    """8 GiB, and [start, end) reserved by hand before the hand-over."""
    e820 = [[0, 0x9FBFF, "usable"], [0x100000, 3 * GIB - 1, "usable"], [4 * GIB, 9 * GIB - 1, "usable"]]
    kernel = Kernel(load_spec({"e820": e820, "cmdline": "nokaslr", "cpus": {"flags": ["pse"]}}))
    start_kernel(kernel, "pci_iommu_alloc")
    if taken[1]:
        memblock_reserve(kernel.boot.memblock, taken[0], taken[1] - taken[0])
    memblock_free_all(kernel.mm)
    return kernel


def test_a_zone_grows_by_a_section() -> None:
    kernel = machine()
    mm, zone = kernel.mm, kernel.mm.node_data[0].node_zones[2]
    first = mm.node_data[0].first_deferred_pfn
    assert first % PAGES_PER_SECTION == 0
    free = zone.vm_stat[NR_FREE_PAGES]
    assert deferred_grow_zone(mm, zone, 0)
    assert mm.node_data[0].first_deferred_pfn == first + PAGES_PER_SECTION
    assert zone.vm_stat[NR_FREE_PAGES] == free + PAGES_PER_SECTION
    assert not deferred_grow_zone(mm, mm.node_data[0].node_zones[1], 0)  # only the last zone waits


def test_a_request_grows_the_zone_that_has_nothing_else() -> None:
    first = machine().mm.node_data[0].first_deferred_pfn
    # All that is not deferred is taken, and half a section more: growing goes on to the end of the next section.
    kernel = machine((4 * GIB, (first + PAGES_PER_SECTION // 2) << 12))
    mm, zone = kernel.mm, kernel.mm.node_data[0].node_zones[2]
    assert zone.vm_stat[NR_FREE_PAGES] == 0
    pfn = alloc_pages_early(mm, GFP_KERNEL, 0, 0)
    assert pfn is not None
    assert pfn >= first
    assert zone.vm_stat[NR_FREE_PAGES] == PAGES_PER_SECTION * 3 // 2 - 1
    assert mm.node_data[0].first_deferred_pfn == first + 2 * PAGES_PER_SECTION


def test_growing_ends_with_the_zone() -> None:
    kernel = machine()
    mm, zone = kernel.mm, kernel.mm.node_data[0].node_zones[2]
    while deferred_grow_zone(mm, zone, 0):
        pass
    assert mm.node_data[0].first_deferred_pfn == U64_MAX
    straight = Kernel(kernel.boot.spec)
    start_kernel(straight, "page_alloc_init_late")
    assert straight.mm.node_data[0].node_zones[2].managed_pages == zone.managed_pages
