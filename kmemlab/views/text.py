"""The same facts as the pictures, as text."""

from __future__ import annotations

from collections.abc import Iterable

from kmemlab.machine.snapshot import (
    E820Snapshot,
    FrameMap,
    MachineSnapshot,
    MemblockSnapshot,
    NodeSnapshot,
    Range,
    ZoneSnapshot,
    cell_text,
)
from kmemlab.types.units import PAGE_SIZE, size_text

MANY = 8  # of a list that is longer only so many are shown


def range_text(item: Range) -> str:
    """A range as the kernel prints it, with its size.

    >>> range_text(Range(0, 0x9fc00, "usable"))
    '[mem 0x0000000000000000-0x000000000009fbff] usable  639 KiB'
    """
    return f"[mem {item.start:#018x}-{max(item.end - 1, item.start):#018x}] {item.kind}  {size_text(item.size)}"


def pages_text(pages: int) -> str:
    """A count of pages with its size.

    >>> pages_text(1024)
    '1024 pages (4 MiB)'
    """
    return f"{pages} {'page' if pages == 1 else 'pages'} ({size_text(pages * PAGE_SIZE)})"


def some(items: Iterable[object], many: int = MANY) -> str:
    """The first items of a list, and how many more there are.

    >>> some([160, 8, 24], many=2), some([])
    ('[ 160, 8, 1 more ]', '[ ]')
    """
    shown = [str(item) for item in items]
    if len(shown) > many:
        shown = [*shown[:many], f"{len(shown) - many} more"]
    return f"[ {', '.join(shown)} ]" if shown else "[ ]"


def e820_text(snapshot: E820Snapshot) -> str:
    """One line an entry, in the order of the table."""
    return "\n".join(f"{at:3}  {range_text(entry)}" for at, entry in enumerate(snapshot.entries))


def memblock_text(snapshot: MemblockSnapshot) -> str:
    """Both lists, and what is left."""
    lines = []
    for name, regions in (("memory", snapshot.memory), ("reserved", snapshot.reserved)):
        total = sum(region.size for region in regions)
        lines.append(f"{name}: {len(regions)} regions, {size_text(total)}")
        lines += [f"{at:3}  {range_text(region)}" for at, region in enumerate(regions)]
    return "\n".join(lines)


def zone_text(zone: ZoneSnapshot) -> str:
    """A zone's counters and its free lists."""
    lines = [
        f"Node {zone.node}, zone {zone.name}: pfn {zone.start_pfn} to {zone.end_pfn - 1}",
        f"  spanned {zone.spanned}, present {zone.present}, managed {zone.managed}, free {zone.free} pages",
    ]
    for order, count in enumerate(zone.nr_free):
        lists = [f"{item.migratetype} {some(item.pfns)}" for item in zone.lists if item.order == order]
        if count or lists:
            lines.append(f"  order {order:2}: {count:5} free  {'  '.join(lists)}".rstrip())
    if not any(zone.nr_free):
        lines.append("  nothing is free")
    return "\n".join(lines)


def node_text(node: NodeSnapshot) -> str:
    """A node, its zones, and where it looks for pages."""
    lines = [
        f"Node {node.node}: pfn {node.start_pfn} to {node.end_pfn - 1}, present {pages_text(node.present)}",
        f"  looks for pages in: {', '.join(node.zonelist) or 'nothing yet'}",
    ]
    for zone in node.zones:
        lines += [f"  {line}" for line in zone_text(zone).splitlines()]
    return "\n".join(lines)


def machine_text(machine: MachineSnapshot) -> str:
    """All that is known of a machine, from the firmware's table to the free lists."""
    parts = ["e820 table", e820_text(machine.e820), "", "memblock", memblock_text(machine.memblock)]
    for node in machine.nodes:
        parts += ["", node_text(node)]
    return "\n".join(parts)


def frame_map_text(frames: FrameMap, many: int = 64) -> str:
    """One line a run of frames: whole blocks of one order side by side are told together."""
    runs: list[list[int]] = []
    for pfn, count, cell in frames.runs():
        if runs and runs[-1][2] == cell:
            runs[-1][1] += count
            runs[-1][3] += 1
        else:
            runs.append([pfn, count, cell, 1])
    lines = []
    for pfn, count, cell, blocks in runs[:many]:
        times = f", {blocks} blocks" if blocks > 1 else ""
        lines.append(f"pfn {pfn:>7} to {pfn + count - 1:<7} {cell_text(cell)}{times}, {pages_text(count)}")
    if len(runs) > many:
        lines.append(f"and {len(runs) - many} more runs")
    return "\n".join(lines)


def free_text(nr_free: Iterable[int]) -> str:
    """The free blocks by order in words, orders without any left out.

    >>> free_text([4, 0, 2])
    '4 of order 0, 2 of order 2'
    """
    return ", ".join(f"{count} of order {order}" for order, count in enumerate(nr_free) if count) or "none"


def buddyinfo_line(zone: ZoneSnapshot) -> str:
    """The zone's line of /proc/buddyinfo."""
    return f"Node {zone.node}, zone {zone.name:>8} " + "".join(f"{count:6} " for count in zone.nr_free)
