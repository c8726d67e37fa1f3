"""The pipeline in one picture: from the firmware's map to the page allocator, with a number of one machine a stage."""

from __future__ import annotations

from kmemlab.boot.memblock import for_each_free_mem_range
from kmemlab.machine.machine import Machine, Source
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.types.e820_type import E820_TYPE_RAM
from kmemlab.types.units import PAGE_SHIFT, size_text
from kmemlab.views.dot import Graph, diagram, table
from kmemlab.views.figure import Figure


def stages(source: Source) -> tuple[tuple[str, str, str, str], ...]:
    """The stages of one machine's boot: chapter, name, what it answers, and a number computed from its state."""
    early = Machine.boot(source, until="e820__memblock_setup").kernel.boot
    late = Machine.boot(source, until="vfs_caches_init_early").kernel.boot
    machine = Machine.boot(source)
    firmware = early.e820_table_firmware.entries()
    usable = sum(entry.size for entry in firmware if entry.type == E820_TYPE_RAM)
    free = sum(end - start for start, end, _ in for_each_free_mem_range(late.memblock))
    nodes = len({zone.node for zone in machine.zones})
    zones = f"{nodes} {'node' if nodes == 1 else 'nodes'}, {len(machine.zones)} zones"
    pages = sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones)
    return (
        ("01", "the firmware's map", "what is memory?", f"{len(firmware)} ranges, {size_text(usable)} usable"),
        ("02", "memblock", "who has it already?", f"{size_text(late.memblock.reserved.total_size)} taken"),
        ("03", "page tables", "how is it reached?", f"up to {late.max_pfn_mapped << PAGE_SHIFT:#x}"),
        ("04", "nodes and zones", "what is it good for?", zones),
        ("02", "the hand-over", "what is left?", f"{size_text(free)} from memblock"),
        ("05", "the buddy system", "who gets pages?", f"{pages:,} pages free"),
    )


def overview_figure(source: Source) -> Figure:
    """The stages as a row of boxes, left to right, in the order of boot."""
    found = stages(source)
    graph = Graph("overview", ranksep="0.3")
    for at, (chapter, name, question, number) in enumerate(found):
        graph.node(f"stage{at}", table([[question], [number], [f"chapter {chapter}"]], head=name))
        if at:
            graph.edge(f"stage{at - 1}", f"stage{at}", told=True)
    lines = [f"{name:20} {question:22} {number:28} chapter {chapter}" for chapter, name, question, number in found]
    alt = " ".join(f"{name}: {question} {number}." for _, name, question, number in found)
    return diagram(graph, "From the firmware's map to pages", alt, "\n".join(lines))
