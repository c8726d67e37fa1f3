"""Chapter 04: what a zone spans, and what of that is memory.

The judge puts page frames into sets and counts them. The last cases boot a machine with the answer at work in
`calculate_node_totalpages`, and compare its zones with those of the machine unpatched.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from kmemlab.boot.memblock import for_each_mem_pfn_range
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.machine.machine import Machine
from kmemlab.mm.free_area_init import calculate_node_totalpages
from kmemlab.mm.globals import Mm
from kmemlab.mm.node import PglistData
from kmemlab.sim.livepatch import livepatch
from kmemlab.sim.timeline import Call, Timeline
from kmemlab.types.errors import KmemlabError

CHAPTER = "04_zones"
MACHINES = ("tiny-128m", "laptop-8g", "numa-2x4g")

Ranges = list[tuple[int, int]]  # first page frame, page frame behind the last


def ranges_text(ranges: Ranges) -> str:
    """Ranges of page frames in one line; the second number is the frame behind the last."""
    return ", ".join(f"{start} to {end - 1}" for start, end in ranges) or "nothing"


# -- zones.spans -------------------------------------------------------------------------------------------------------


def judge_spans(answer: Answer, case: Case) -> Verdict | None:
    """Count the page frames that the zone spans, and those of them that are memory."""
    if isinstance(case.value, str):
        return boots(answer, case.value)
    ranges, low, high = case.value
    memory = {pfn for start, end in ranges for pfn in range(start, end)}
    node = set(range(min(memory), max(memory) + 1)) if memory else set()
    zone = node & set(range(low, high))
    got = answer([tuple(pair) for pair in ranges], low, high)
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        return Verdict("the function returns (start_pfn, spanned, present)", f"yours returns {got!r}")
    start, spanned, present = got
    if spanned != len(zone):
        return Verdict(
            "a zone spans what lies in its limits, from the node's first page frame to its last, holes included",
            f"that is {len(zone)} page frames, yours says {spanned}",
        )
    if present != len(zone & memory):
        return Verdict(
            "present are the page frames of the span that are memory",
            f"those are {len(zone & memory)}, yours says {present}",
        )
    first = min(zone) if zone else 0
    if start != first:
        return Verdict(
            "start_pfn is the first page frame of the span, and 0 for an empty one",
            f"that is {first}, yours says {start}",
        )
    return None


def patched_totalpages(answer: Answer) -> Any:
    """A function in the place of `calculate_node_totalpages`: the answer measures each zone."""

    def totalpages(mm: Mm, pgdat: PglistData, node_start_pfn: int, node_end_pfn: int) -> None:
        ranges = [(start, end) for start, end, _ in for_each_mem_pfn_range(mm.boot.memblock, pgdat.node_id)]
        for zone in pgdat.node_zones:
            low, high = mm.arch_zone_lowest_possible_pfn[zone.index], mm.arch_zone_highest_possible_pfn[zone.index]
            zone.zone_start_pfn, zone.spanned_pages, zone.present_pages = answer(ranges, low, high)
            pgdat.node_spanned_pages += zone.spanned_pages
            pgdat.node_present_pages += zone.present_pages

    return totalpages


def measured(timeline: Timeline, command: int, call: Call) -> dict[str, Any]:
    """What a call says of each zone of its node."""
    timeline.go(command, call.leave)
    return ending(timeline, command, call) | {
        f"zone {zone.name}": f"from {zone.zone_start_pfn}, {zone.spanned_pages} spanned, {zone.present_pages} present"
        for zone in call.arguments[1].node_zones
    }


def inside_boot(case: Case) -> Inside | None:
    """For the cases that are a machine: its boot, step by step."""
    if not isinstance(case.value, str):
        return None
    return Inside(
        calculate_node_totalpages, partial(Machine, case.value), until="build_all_zonelists",
        patch=lambda _, answer: patched_totalpages(answer), compared=measured,
    )  # fmt: skip


def boots(answer: Answer, preset: str) -> Verdict | None:
    """Boot a machine whose zones are measured by the answer, and compare them with its own."""
    law = "the machine boots with the same zones as with the kernel's own"
    try:
        with livepatch(calculate_node_totalpages, patched_totalpages(answer)):
            patched = zones_of(Machine.boot(preset))
    except KmemlabError as error:
        return Verdict(law, error.what)
    for want, have in zip(zones_of(Machine.boot(preset)), patched, strict=True):
        if want != have:
            return Verdict(law, f"node {want[0]}, zone {want[1]} should be {want[2:]}, it is {have[2:]}")
    return None


def zones_of(machine: Machine) -> list[tuple[Any, ...]]:
    """Node, name, start, spanned and present of every zone, with memory or without."""
    return [
        (zone.node, zone.name, zone.zone_start_pfn, zone.spanned_pages, zone.present_pages)
        for zone in machine.kernel.mm.zones()
    ]


def cases_spans(_given: None, rng: Random) -> list[Case]:
    """One range and a zone around it, beside it, across its border; ranges with holes; then whole machines."""
    hand: list[tuple[Ranges, int, int]] = [
        ([(2, 6)], 0, 8),
        ([(2, 6)], 0, 4),
        ([(2, 6)], 4, 8),
        ([(2, 6)], 6, 8),
        ([(2, 6)], 3, 3),
        ([], 0, 8),
        ([(0, 2), (5, 8)], 0, 8),
        ([(0, 2), (5, 8)], 0, 4),
        ([(0, 2), (5, 8)], 2, 5),
        ([(0, 2), (5, 8)], 3, 7),
    ]
    for _ in range(8):
        borders = sorted(rng.sample(range(64), 6))
        low, high = sorted(rng.sample(range(64), 2))
        hand.append(([(borders[at], borders[at + 1]) for at in (0, 2, 4)], low, high))
    cases = [
        Case(
            f"memory at page frames {ranges_text(ranges)}; a zone from {low} on, below {high}", (ranges, low, high), at
        )
        for at, (ranges, low, high) in enumerate(hand)
    ]
    return cases + [Case(f"a machine ({name}) that boots", name, 1 << 20, points=6) for name in MACHINES]


register(
    Task(
        "zones.spans",
        CHAPTER,
        "implement",
        15,
        (
            "Draw the node as a line from its first page frame to its last. The zone is the part of that line within "
            "its limits. Which of its page frames belong to a range?",
            "`min` and `max` cut a range at the limits of another. What is left may be empty, or turned round: "
            "then it counts for nothing. Add up, for `present`, what is left of each range.",
        ),
        judge_spans,
        cases_spans,
        inside=inside_boot,
        seconds=10.0,
    )
)
