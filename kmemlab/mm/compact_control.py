"""struct compact_control: one run of compaction: where its two scanners stand, and what they hold.

zone start                                                                             zone end
   │ free, free, ●, free, ●, ● …                                     … free, free, free, ● │
   └──▶ migrate_pfn: takes pages that can move          free_pfn: takes free pages for them ◀┘
                     └─ migratepages ─────────── copied into ──────────── freepages ─┘
The run is over when they meet, or when the block that is wanted has come about on the way.
"""

from __future__ import annotations

from enum import IntEnum

from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell

COMPACT_CLUSTER_MAX = 32  # pages that are moved at a time

# enum migrate_mode: may it wait for the disk?
MIGRATE_ASYNC = 0  # never
MIGRATE_SYNC_LIGHT = 1  # for most things, but not for writing
MIGRATE_SYNC = 2  # for everything

NR_COMPACT_LISTS = 3
NR_COMPACT_CONTROLS = 2


@kernel("include/linux/compaction.h", "enum compact_priority", traced=False)
class CompactPriority(IntEnum):
    """How hard a request tries: the lower the number, the harder."""

    SYNC_FULL = 0  # the whole zone, whatever the skip bits and the types of pageblocks say
    SYNC_LIGHT = 1
    ASYNC = 2


MIN_COMPACT_PRIORITY = CompactPriority.SYNC_FULL
MIN_COMPACT_COSTLY_PRIORITY = DEF_COMPACT_PRIORITY = CompactPriority.SYNC_LIGHT
INIT_COMPACT_PRIORITY = CompactPriority.ASYNC


@kernel("mm/internal.h", "struct compact_control", left_out="alloc_contig, no_set_skip_hint: both for CMA; contended")
class CompactControl(Struct):
    """One run of compaction. In C it lies on the stack; here it is kept, so that a rewound machine shows the scanners.

    `freepages`, `migratepages` and `ret_folios` are heads of lists in `page.lru`, as it is with free lists.
    """

    running = Cell()  # ours: 1 + the slot of the zone (Zone.slot) while a run lasts
    nr_freepages = Cell()
    nr_migratepages = Cell()
    free_pfn = Cell()  # where the free scanner stands
    migrate_pfn = Cell()  # where the migrate scanner stands
    fast_start_pfn = U64Cell()  # the lowest page that a fast search has found; all ones: it was used already
    total_migrate_scanned = Cell()
    total_free_scanned = Cell()
    fast_search_fail = Cell()
    search_order = Cell()  # the order with which a fast search begins
    gfp_mask = Cell()
    order = Cell()  # -1: all of the zone, for nobody in particular
    migratetype = Cell()
    alloc_flags = Cell()
    highest_zoneidx = Cell()
    mode = Cell()  # MIGRATE_…
    ignore_skip_hint = Cell()
    ignore_block_suitable = Cell()
    direct_compaction = Cell()
    proactive_compaction = Cell()
    whole_zone = Cell()
    rescan = Cell()  # this pageblock was begun before: now all of it is taken at once

    def __init__(self, head: int) -> None:
        """`head` is the first of three nodes for lists."""
        self.freepages = head
        self.migratepages = head + 1
        self.ret_folios = head + 2


@invented("a designated initializer of C: what is not named becomes 0", traced=False)
def init_compact_control(cc: CompactControl, **fields: int) -> CompactControl:
    """Begin a run: all fields 0 but those that are named."""
    for name in cc._cells:
        if getattr(cc, name) != fields.get(name, 0):
            setattr(cc, name, fields.get(name, 0))
    return cc
