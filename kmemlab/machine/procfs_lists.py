"""More texts under /proc, lists of what there is: pagetypeinfo, vmstat. They only read.

What Linux shows there and the model does not have (yet) is left out of the text, and named in `LEFT_OUT`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from kmemlab.boot.memblock import for_each_mem_pfn_range
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import FLIP, MAX_ORDER, MIXED, PAGEBLOCK_ORDER, PAGES_PER_SECTION, page_zone_id
from kmemlab.mm.page_writeback import global_dirty_limits
from kmemlab.mm.vm_event import ALLOCSTALL, NUMA_STAT_NAMES, PGALLOC, PGSCAN_SKIP, VM_EVENT_NAMES, texts_for_zones
from kmemlab.mm.vmstat import ZONE_STAT_NAMES, node_stat_names
from kmemlab.mm.zone import Zone, free_blocks, get_pageblock_migratetype, zone_end_pfn
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.migratetype import MIGRATE_TYPES, MIGRATE_UNMOVABLE, MIGRATETYPE_NAMES
from kmemlab.types.zone_type import MAX_NR_ZONES

FIRST_EVENTS = ("pgpgin", "pgpgout", "pswpin", "pswpout")  # the kernel prints these before all other events
MOST_COUNTED = 100_000  # of a free list; a longer one is only said to be longer

# Linux has such pages by the time somebody looks: of programs, and of the files that boot unpacked for them.
NOT_AT_BOOT = (
    "nr_zone_inactive_anon", "nr_zone_active_anon", "nr_zone_inactive_file", "nr_zone_active_file",
    "nr_zone_unevictable", "nr_inactive_anon", "nr_active_anon", "nr_inactive_file", "nr_active_file",
    "nr_unevictable", "nr_anon_pages", "nr_mapped", "nr_file_pages", "nr_dirty", "nr_shmem",
    "nr_kernel_misc_reclaimable", "nr_kernel_stack", "nr_page_table_pages",
)  # fmt: skip

LEFT_OUT = {
    "slabinfo.txt": "the caches of subsystems that the model doesn't have, and what they took from kmalloc's",
    "vmallocinfo.txt": "areas of drivers, kernel stacks and per-CPU memory; the offsets of callers",
    "vmstat.txt": f"events that the model doesn't have, and what programs brought: {', '.join(NOT_AT_BOOT)}",
}
"""What a text leaves out of what Linux would show, by the file's name."""


# -- pagetypeinfo ------------------------------------------------------------------------------------------------------


@kernel("mm/vmstat.c", "pagetypeinfo_show", left_out="page_owner's table")
def pagetypeinfo(kernel: Kernel) -> str:
    """Node by node, the free blocks of each order and type, and how many pageblocks are of which type."""
    mm = kernel.mm
    orders = "".join(f"{order:6} " for order in range(MAX_ORDER))
    types = "".join(f"{name:>12} " for name in MIGRATETYPE_NAMES)
    text = ""
    for pgdat in mm.node_data:
        zones = [zone for zone in pgdat.node_zones if zone.present_pages]
        if not zones:
            continue
        text += f"Page block order: {mm.page.pageblock_order}\nPages per block:  {mm.page.pageblock_nr_pages}\n\n"
        text += f"{'Free pages count per migrate type at order':<43} {orders}\n"
        text += "".join(pagetypeinfo_showfree(zone) for zone in zones)
        text += f"\n{'Number of blocks type':<23}{types}\n"
        text += "".join(pagetypeinfo_showblockcount(mm, zone) for zone in zones)
    return text


@kernel("mm/vmstat.c", "pagetypeinfo_showfree_print", traced=False)
def pagetypeinfo_showfree(zone: Zone) -> str:
    """A line a type."""
    lines = ""
    for migratetype, name in enumerate(MIGRATETYPE_NAMES):
        lines += f"Node {zone.node:4}, zone {zone.name:>8}, type {name:>12} "
        for order in range(MAX_ORDER):
            counted = sum(1 for _ in islice(free_blocks(zone, order, migratetype), MOST_COUNTED))
            lines += f"{'>' if counted == MOST_COUNTED else ''}{counted:6} "
        lines += "\n"
    return lines


@kernel("mm/vmstat.c", "pagetypeinfo_showblockcount_print", traced=False)
def pagetypeinfo_showblockcount(mm: Mm, zone: Zone) -> str:
    """A line a zone."""
    counts = pageblocks_by_type(mm, zone)
    return f"Node {zone.node}, zone {zone.name:>8} {''.join(f'{count:12} ' for count in counts)}\n"


@invented("pagetypeinfo_showblockcount_print looks at every pageblock; whole sections are counted at once here")
def pageblocks_by_type(mm: Mm, zone: Zone) -> list[int]:
    """How many pageblocks of each type the zone has, reserved ones too."""
    counts, page, step = [0] * MIGRATE_TYPES, zone.page, zone.page.pageblock_nr_pages
    pfn, end = zone.zone_start_pfn, zone_end_pfn(zone)
    flat = not mm.boot.config.sparsemem  # then holes have struct pages as well
    while pfn < end:
        section = pfn // PAGES_PER_SECTION
        border = min(end, (section + 1) * PAGES_PER_SECTION)
        slot = page.section_slot[section]
        if slot == zone.slot:
            # From where the zone starts, a step is a pageblock, whether that was a whole one or not.
            cells = bytes(page.pageblock[pfn >> PAGEBLOCK_ORDER : (border - 1 >> PAGEBLOCK_ORDER) + 1])
            blocks = cells[:: step >> PAGEBLOCK_ORDER]
            for migratetype in range(MIGRATE_TYPES):
                counts[migratetype] += blocks.count(migratetype ^ FLIP)
        elif slot == MIXED:
            for block in range(pfn, border, step):
                slot = page_zone_id(page, block) if flat else zone_id_of_block(mm, block)
                if slot == zone.slot:
                    counts[get_pageblock_migratetype(page, block)] += 1
        elif flat:
            counts[MIGRATE_UNMOVABLE] += len(range(pfn, border, step))
        pfn += len(range(pfn, border, step)) * step
    return counts


@kernel("mm/memory_hotplug.c", "pfn_to_online_page", left_out="persistent memory; the page: it is asked for its zone")
def zone_id_of_block(mm: Mm, pfn: int) -> int:
    """1 + the slot of the zone of a pageblock's first page; 0 if no page of the pageblock is memory."""
    start_pfn = pfn >> PAGEBLOCK_ORDER << PAGEBLOCK_ORDER
    end_pfn = start_pfn + (1 << PAGEBLOCK_ORDER)
    ranges = for_each_mem_pfn_range(mm.boot.memblock)
    return page_zone_id(mm.page, pfn) if any(start < end_pfn and start_pfn < end for start, end, _ in ranges) else 0


# -- vmstat -----------------------------------------------------------------------------------------------------------


@kernel("mm/vmstat.c", "vmstat_show", left_out="what LEFT_OUT says")
def vmstat(kernel: Kernel) -> str:
    """The sums over all zones and nodes of the counters that the model keeps, in the kernel's order."""
    mm = kernel.mm
    text = ""
    for at, name in enumerate(ZONE_STAT_NAMES):
        text += f"{name} {sum(zone.vm_stat[at] for zone in mm.zones())}\n"
    for at, name in enumerate(NUMA_STAT_NAMES if mm.boot.config.numa else ()):
        text += f"{name} {sum(zone.vm_numa_event[at] for zone in mm.zones())}\n"
    for at, name in enumerate(node_stat_names(mm.boot.config)):
        text += f"{name} {sum(pgdat.vm_stat[at] for pgdat in mm.node_data)}\n"
    background, thresh = global_dirty_limits(mm)
    text += f"nr_dirty_threshold {thresh}\nnr_dirty_background_threshold {background}\n"
    return text + "".join(f"{name} {mm.vm_event[item]}\n" for name, item in vm_events(mm))


@invented("the part of vmstat_text that names events", traced=False)
def vm_events(mm: Mm) -> Iterator[tuple[str, int]]:
    """The events that the model counts, with their numbers, in the order in which the kernel prints them.

    Those that come once a zone stand between what is read from and written to disks, and all others.
    """
    first_of_all = PGSCAN_SKIP + MAX_NR_ZONES
    events = {name: first_of_all + at for at, name in enumerate(VM_EVENT_NAMES)}
    for name in FIRST_EVENTS:
        if name in events:
            yield name, events.pop(name)
    for event, base in (("pgalloc", PGALLOC), ("allocstall", ALLOCSTALL), ("pgskip", PGSCAN_SKIP)):
        names = texts_for_zones(event, mm.boot.config.zone_names)
        yield from ((name, base + index) for index, name in enumerate(names))
    yield from events.items()
