"""warn_alloc: what Linux says when a request for pages fails."""

from __future__ import annotations

from kmemlab.boot.numa import nodes_of
from kmemlab.mm.context import HZ, task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.show_mem import show_mem
from kmemlab.sim.kernel import kernel
from kmemlab.types.gfp import __GFP_DMA, __GFP_NOWARN, GFP_ZONEMASK, gfp_text

_INTERVAL = 10 * HZ


@kernel("lib/ratelimit.c", "___ratelimit", left_out="telling how many were suppressed")
def nopage_ratelimit(mm: Mm) -> bool:
    """Whether a failure may be reported: one in ten seconds."""
    now = mm.current.jiffies
    if mm.nopage_rs_printed and now <= mm.nopage_rs_begin + _INTERVAL:
        return False
    mm.nopage_rs_begin, mm.nopage_rs_printed = now, 1
    return True


@kernel("lib/dump_stack.c", "dump_stack", left_out="the machine's name, the build's number, and the stack itself")
def dump_stack(mm: Mm) -> None:
    """Say where the running code runs, and for whom. What called what is found in a recorded run."""
    release = mm.boot.spec.kernel_version.split()[0]
    comm = task_comm(mm.current)
    mm.boot.printk.info(f"CPU: {mm.current.cpu} PID: {mm.current.pid} Comm: {comm} Not tainted {release}")


@kernel("mm/page_alloc.c", "warn_alloc", left_out="the call stack, cpusets")
def warn_alloc(mm: Mm, gfp: int, message: str) -> None:
    """Say that a request failed, who asked, and how memory stands; not if the caller asked for silence."""
    if gfp & __GFP_NOWARN or not nopage_ratelimit(mm):
        return
    if gfp & __GFP_DMA and not any(pgdat.node_zones[0].managed_pages for pgdat in mm.node_data):
        return
    say, comm = mm.boot.printk.info, task_comm(mm.current)
    nodes = node_list(nodes_of(mm.node_has_memory))
    say(f"{comm}: {message}, mode:{gfp:#x}({gfp_text(gfp)}), nodemask=(null),cpuset=/,mems_allowed={nodes}")
    dump_stack(mm)
    highest = mm.gfp_zone_table[gfp & GFP_ZONEMASK]
    assert highest is not None
    show_mem(mm, highest)


@kernel("lib/vsprintf.c", "bitmap_list_string", traced=False)
def node_list(numbers: list[int]) -> str:
    """Numbers as the kernel prints a bitmap, in ranges.

    >>> node_list([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)
