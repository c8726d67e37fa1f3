"""mminit_loglevel=: what the kernel says about how it sets the memory map up (mm/mm_init.c)."""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.node import ZONELIST_FALLBACK, ZONELIST_NOFALLBACK
from kmemlab.sim.kernel import kernel

MMINIT_WARNING, MMINIT_VERIFY, MMINIT_TRACE = range(3)

NR_PAGEFLAGS = 25
BITS_PER_LONG = 64
# How many bits of page->flags each part takes; parts are stacked from the top in this order.
SECTION_WIDTH, NODE_WIDTH, ZONE_WIDTH, LAST_CPUPID_WIDTH, KASAN_TAG_WIDTH = 0, 10, 3, 21, 0
LRU_GEN_WIDTH, LRU_REFS_WIDTH = 3, 2


@kernel("mm/internal.h", "mminit_dprintk", traced=False)
def mminit_dprintk(mm: Mm, level: int, prefix: str, text: str) -> None:
    """Say a line if mminit_loglevel= is above its level."""
    if level < mm.boot.mminit_loglevel:
        mm.boot.printk.info(f"mminit::{prefix} {text}")


@kernel("mm/mm_init.c", "mminit_verify_pageflags_layout", left_out="the checks: the layout is a constant here")
def mminit_verify_pageflags_layout(mm: Mm) -> None:
    """Print how the 64 bits of page->flags are shared out.

    63      54 53   51 50          30 29 27 26 25 24            0
    |  node   |  zone |  last CPU/pid |  gen | ref |  page flags  |
    """
    physmem_bits = mm.boot.config.max_physmem_bits(mm.boot.page_table_levels)
    sections_shift = physmem_bits - mm.boot.config.section_size_bits
    node_shift = BITS_PER_LONG - SECTION_WIDTH - NODE_WIDTH
    zone_shift = node_shift - ZONE_WIDTH
    cpupid_shift = zone_shift - LAST_CPUPID_WIDTH
    used = (
        SECTION_WIDTH + ZONE_WIDTH + NODE_WIDTH + LAST_CPUPID_WIDTH + KASAN_TAG_WIDTH + LRU_GEN_WIDTH + LRU_REFS_WIDTH
    )
    flags_end = BITS_PER_LONG - used
    lines = (
        f"widths Section {SECTION_WIDTH} Node {NODE_WIDTH} Zone {ZONE_WIDTH} Lastcpupid {LAST_CPUPID_WIDTH} "
        f"Kasantag {KASAN_TAG_WIDTH} Gen {LRU_GEN_WIDTH} Tier {LRU_REFS_WIDTH} Flags {NR_PAGEFLAGS}",
        f"shifts Section {sections_shift} Node {NODE_WIDTH} Zone {ZONE_WIDTH} Lastcpupid {LAST_CPUPID_WIDTH} "
        f"Kasantag {KASAN_TAG_WIDTH}",
        f"pgshifts Section 0 Node {node_shift} Zone {zone_shift} Lastcpupid {cpupid_shift} Kasantag 0",
        f"nodezoneid Node/Zone ID: {node_shift + NODE_WIDTH} -> {zone_shift}",
        f"usage location: {BITS_PER_LONG} -> {flags_end} layout {flags_end} -> {NR_PAGEFLAGS} "
        f"unused {NR_PAGEFLAGS} -> 0 page-flags",
    )
    for line in lines:
        mminit_dprintk(mm, MMINIT_TRACE, f"pageflags_layout_{line.split()[0]}", line.split(" ", 1)[1])


@kernel("mm/mm_init.c", "mminit_verify_zonelist")
def mminit_verify_zonelist(mm: Mm) -> None:
    """Print both zonelists of each online node, once for each of its populated zones."""
    if mm.boot.mminit_loglevel < MMINIT_VERIFY:
        return
    for pgdat in mm.node_data:
        if not mm.numa.node_online[pgdat.node_id]:
            continue
        for which, name in ((ZONELIST_FALLBACK, "general"), (ZONELIST_NOFALLBACK, "thisnode")):
            zonelist = pgdat.node_zonelists[which]
            for zone in pgdat.node_zones:
                if not zone.present_pages:
                    continue
                entries = [
                    f"{zonelist.nid[at]}:{mm.boot.config.zone_names[zonelist.zone_idx[at]]} "
                    for at in range(zonelist.count)
                    if zonelist.zone_idx[at] <= zone.index
                ]
                mm.boot.printk.info(f"mminit::zonelist {name} {pgdat.node_id}:{zone.name} = {''.join(entries)}")
