"""enum pageflags: the number of a flag is its bit in page->flags."""

from __future__ import annotations

# fmt: off
PAGEFLAGS = (
    "PG_locked", "PG_referenced", "PG_uptodate", "PG_dirty", "PG_lru", "PG_active", "PG_workingset", "PG_waiters",
    "PG_error", "PG_slab", "PG_owner_priv_1", "PG_arch_1", "PG_reserved", "PG_private", "PG_private_2",
    "PG_writeback", "PG_head", "PG_mappedtodisk", "PG_reclaim", "PG_swapbacked", "PG_unevictable", "PG_mlocked",
    "PG_uncached", "PG_hwpoison", "PG_arch_2",
)
"""The names, lowest bit first. The last one is there on 64 bits only."""

(
    PG_locked, PG_referenced, PG_uptodate, PG_dirty, PG_lru, PG_active, PG_workingset, PG_waiters,
    PG_error, PG_slab, PG_owner_priv_1, PG_arch_1, PG_reserved, PG_private, PG_private_2,
    PG_writeback, PG_head, PG_mappedtodisk, PG_reclaim, PG_swapbacked, PG_unevictable, PG_mlocked,
    PG_uncached, PG_hwpoison, PG_arch_2,
) = range(len(PAGEFLAGS))
# fmt: on

# A bit that means one thing for one kind of page and another for another kind.
PG_readahead = PG_reclaim
PG_anon_exclusive = PG_mappedtodisk
PG_checked = PG_swapcache = PG_owner_priv_1
PG_double_map = PG_workingset
PG_isolated = PG_reclaim
PG_reported = PG_uptodate
