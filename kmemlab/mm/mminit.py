"""mminit_loglevel=: what the kernel says about how it sets the memory map up (mm/mm_init.c)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator

from kmemlab.mm.globals import Mm
from kmemlab.mm.node import ZONELIST_FALLBACK, ZONELIST_NOFALLBACK
from kmemlab.mm.page_flags import PageFlagsLayout, page_flags_layout
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.memory_model import MemoryModelKind

MMINIT_WARNING, MMINIT_VERIFY, MMINIT_TRACE = range(3)


@kernel("mm/internal.h", "mminit_dprintk", traced=False)
def mminit_dprintk(mm: Mm, level: int, prefix: str, text: str) -> None:
    """Say a line if mminit_loglevel= is above its level."""
    if level < mm.boot.mminit_loglevel:
        mm.boot.printk.info(f"mminit::{prefix} {text}")


@kernel("mm/mm_init.c", "mminit_verify_pageflags_layout")
def mminit_verify_pageflags_layout(mm: Mm) -> None:
    """Print how the bits of page->flags are shared out, and make sure that no two parts overlap."""
    config = mm.boot.config
    kind = MemoryModelKind.SPARSEMEM_VMEMMAP if config.sparsemem else MemoryModelKind.FLATMEM
    layout = page_flags_layout(config, kind, mm.boot.page_table_levels)
    for name, text in pageflags_layout_lines(layout):
        mminit_dprintk(mm, MMINIT_TRACE, f"pageflags_layout_{name}", text)
    masks = [((1 << width) - 1) << at for _, at, width in layout.parts()]
    assert sum(masks) == functools.reduce(operator.or_, masks)


@invented("the printing part of mminit_verify_pageflags_layout")
def pageflags_layout_lines(layout: PageFlagsLayout) -> Iterator[tuple[str, str]]:
    """The lines, each with the last part of its prefix: widths, shifts, lowest bits, and what is left over."""
    yield (
        "widths",
        (
            f"Section {layout.sections_width} Node {layout.nodes_width} Zone {layout.zones_width} "
            f"Lastcpupid {layout.last_cpupid_width} Kasantag {layout.kasan_tag_width} "
            f"Gen {layout.lru_gen_width} Tier {layout.lru_refs_width} Flags {layout.nr_pageflags}"
        ),
    )
    yield (
        "shifts",
        (
            f"Section {layout.sections_shift} Node {layout.nodes_shift} Zone {layout.zones_shift} "
            f"Lastcpupid {layout.last_cpupid_shift} Kasantag {layout.kasan_tag_width}"
        ),
    )
    section, node, zone = (layout.pgshift(part) for part in ("section", "node", "zone"))
    cpupid, tag = layout.pgshift("last_cpupid"), layout.pgshift("kasan_tag")
    yield "pgshifts", f"Section {section} Node {node} Zone {zone} Lastcpupid {cpupid} Kasantag {tag}"
    at, bits = layout.zoneid
    yield "nodezoneid", f"Node/Zone ID: {at + bits} -> {at}"
    # C subtracts what the last CPU and pid need, not what they got: without room for them the line is off.
    width = layout.pgoff("lru_refs") - layout.last_cpupid_shift + layout.last_cpupid_width
    yield (
        "usage",
        (
            f"location: {layout.bits_per_long} -> {width} layout {width} -> {layout.nr_pageflags} "
            f"unused {layout.nr_pageflags} -> 0 page-flags"
        ),
    )
    if layout.node_not_in_page_flags:
        yield "nodeflags", "Node not in page flags"
    if layout.last_cpupid_not_in_page_flags:
        yield "nodeflags", "Last cpupid not in page flags"


@kernel("mm/mm_init.c", "mminit_verify_zonelist")
def mminit_verify_zonelist(mm: Mm) -> None:
    """Print both zonelists of each online node, once for each of its populated zones."""
    if mm.boot.mminit_loglevel < MMINIT_VERIFY:
        return
    for pgdat in mm.node_data:
        if not mm.numa.node_online[pgdat.node_id]:
            continue
        # Without NUMA there is only one list.
        lists = ((ZONELIST_FALLBACK, "general"), (ZONELIST_NOFALLBACK, "thisnode"))[: 1 + mm.boot.config.numa]
        for which, name in lists:
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
