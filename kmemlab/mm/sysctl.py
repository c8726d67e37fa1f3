"""The tunables of the page allocator, /proc/sys/vm: what each write sets off, and which read does.

min_free_kbytes                 ──▶ watermarks ──▶ limits of the per-CPU lists
watermark_scale_factor          ──▶ watermarks ──▶ limits of the per-CPU lists
lowmem_reserve_ratio (read, too)──▶ reserves
percpu_pagelist_high_fraction   ──▶ limits of the per-CPU lists
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.pageset import MIN_PERCPU_PAGELIST_HIGH_FRACTION, zone_set_pageset_high_and_batch
from kmemlab.mm.watermark import setup_min_unmapped_and_slab, setup_per_zone_lowmem_reserve, setup_per_zone_wmarks
from kmemlab.sim.kernel import kernel
from kmemlab.types.errors import BadRequest


@kernel("mm/page_alloc.c", "min_free_kbytes_sysctl_handler")
def min_free_kbytes_sysctl_handler(mm: Mm, value: int) -> None:
    """Set what is kept free; from now on nothing sets it lower."""
    mm.min_free_kbytes = mm.user_min_free_kbytes = value
    setup_per_zone_wmarks(mm)


@kernel("mm/page_alloc.c", "watermark_scale_factor_sysctl_handler")
def watermark_scale_factor_sysctl_handler(mm: Mm, value: int) -> None:
    """Set how far the watermarks lie apart, in 1/10000 of a zone."""
    mm.watermark_scale_factor = value
    setup_per_zone_wmarks(mm)


@kernel("mm/page_alloc.c", "lowmem_reserve_ratio_sysctl_handler")
def lowmem_reserve_ratio_sysctl_handler(mm: Mm, ratios: tuple[int, ...] | None) -> None:
    """Set each zone's ratio, as far as given (0: no reserve); reserves are worked out anew even by a read (None)."""
    for index, ratio in zip(range(len(mm.lowmem_reserve_ratio)), ratios or (), strict=False):
        mm.lowmem_reserve_ratio[index] = max(ratio, 0)
    setup_per_zone_lowmem_reserve(mm)


@kernel("mm/page_alloc.c", "percpu_pagelist_high_fraction_sysctl_handler", lock="pcp_batch_high_lock")
def percpu_pagelist_high_fraction_sysctl_handler(mm: Mm, value: int) -> None:
    """Set which part of a zone may be on per-CPU lists; 0: what lies below the low watermark.

    Raises `BadRequest` for 1 to 7: more than an eighth would starve the other CPUs.
    """
    if 0 < value < MIN_PERCPU_PAGELIST_HIGH_FRACTION:
        raise BadRequest(
            f"percpu_pagelist_high_fraction can't be {value}",
            where="/proc/sys/vm/percpu_pagelist_high_fraction",
            remedy=f"write 0, or {MIN_PERCPU_PAGELIST_HIGH_FRACTION} or more",
        )
    if value == mm.percpu_pagelist_high_fraction:
        return
    mm.percpu_pagelist_high_fraction = value
    for zone in mm.populated_zones():
        zone_set_pageset_high_and_batch(mm, zone)


@kernel("mm/page_alloc.c", "sysctl_min_unmapped_ratio_sysctl_handler")
def sysctl_min_unmapped_ratio_sysctl_handler(mm: Mm, value: int) -> None:
    """Set how much of a node may be unmapped page cache before zone reclaim looks at it, in per cent."""
    mm.sysctl_min_unmapped_ratio = value
    setup_min_unmapped_and_slab(mm)


@kernel("mm/page_alloc.c", "sysctl_min_slab_ratio_sysctl_handler")
def sysctl_min_slab_ratio_sysctl_handler(mm: Mm, value: int) -> None:
    """Set how much of a node may be reclaimable slabs before zone reclaim shrinks them, in per cent."""
    mm.sysctl_min_slab_ratio = value
    setup_min_unmapped_and_slab(mm)
