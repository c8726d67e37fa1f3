"""The tunables of memory, /proc/sys/vm: what each write sets off, and which read does.

min_free_kbytes                 ──▶ watermarks ──▶ limits of the per-CPU lists
watermark_scale_factor          ──▶ watermarks ──▶ limits of the per-CPU lists
lowmem_reserve_ratio (read, too)──▶ reserves
percpu_pagelist_high_fraction   ──▶ limits of the per-CPU lists
dirty_ratio, dirty_bytes        ──▶ the limit of dirty pages: the one that is written switches the other off
dirty_writeback_centisecs       ──▶ the flusher starts at once
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.pageset import MIN_PERCPU_PAGELIST_HIGH_FRACTION, zone_set_pageset_high_and_batch
from kmemlab.mm.watermark import setup_min_unmapped_and_slab, setup_per_zone_lowmem_reserve, setup_per_zone_wmarks
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import PAGE_SIZE

UINT_MAX = (1 << 32) - 1


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


# -- dirty pages -------------------------------------------------------------------------------------------------------


@kernel("mm/page-writeback.c", "dirty_ratio_handler")
def dirty_ratio_handler(mm: Mm, value: int) -> None:
    """Set how much of what could be cache may be dirty, in per cent; another limit in bytes holds no more."""
    if value != mm.vm_dirty_ratio:
        mm.vm_dirty_ratio, mm.vm_dirty_bytes = value, 0


@kernel("mm/page-writeback.c", "dirty_bytes_handler")
def dirty_bytes_handler(mm: Mm, value: int) -> None:
    """Set how many bytes may be dirty; the limit in per cent holds no more. Raises `BadRequest` beyond 16 TiB."""
    if value != mm.vm_dirty_bytes:
        check_dirty_bytes("dirty_bytes", value)
        mm.vm_dirty_bytes, mm.vm_dirty_ratio = value, 0


@kernel("mm/page-writeback.c", "dirty_background_ratio_handler")
def dirty_background_ratio_handler(mm: Mm, value: int) -> None:
    """Set from how many dirty pages on the flusher works, in per cent; the limit in bytes holds no more."""
    mm.dirty_background_ratio, mm.dirty_background_bytes = value, 0


@kernel("mm/page-writeback.c", "dirty_background_bytes_handler")
def dirty_background_bytes_handler(mm: Mm, value: int) -> None:
    """Set from how many dirty bytes on the flusher works. Raises `BadRequest` beyond 16 TiB."""
    check_dirty_bytes("dirty_background_bytes", value)
    mm.dirty_background_bytes, mm.dirty_background_ratio = value, 0


@invented("C returns -ERANGE", traced=False)
def check_dirty_bytes(name: str, value: int) -> None:
    """Limits are kept in pages, in 32 bits."""
    if -(-value // PAGE_SIZE) > UINT_MAX:
        raise BadRequest(f"{name} can't be {value}", where=f"/proc/sys/vm/{name}", remedy="write 16 TiB or less")


@kernel("mm/page-writeback.c", "dirty_writeback_centisecs_handler")
def dirty_writeback_centisecs_handler(mm: Mm, value: int) -> None:
    """Set how often the flusher looks for old data, in 1/100 s; 0: never. A new period begins with a look now."""
    if value and value != mm.dirty_writeback_interval:
        mm.wb_start_all = 1
    mm.dirty_writeback_interval = value
