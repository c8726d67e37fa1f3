"""Chapter 04: an order of zones that Linux 6.1 does not have. Which one, the student's id draws."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.zones import CHAPTER
from kmemlab.course.tasks.zones_zonelist import Distances, table

Zoneref = tuple[int, int]  # node, index of the zone
Zones = dict[int, list[int]]  # the zones that have memory, ascending, by node

VARIANTS = {
    "zone": (
        "Zone order: first the highest zone of all nodes, the nearest node first; then the next lower zone of all "
        "nodes; and so on. (Linux could do this until 4.14, as numa_zonelist_order=zone.) "
        "Nodes at equal distance go by their number."
    ),
    "spare": (
        "Node order with DMA spared: one node after the other, the nearest first, on each the highest zone first. But "
        "zone 0 of every node is left for the end of the list: those come last, the nearest node first. "
        "Nodes at equal distance go by their number."
    ),
    "low": (
        "Node order, lowest first: one node after the other, the nearest first, but on each node the LOWEST zone comes "
        "first. Nodes at equal distance go by their number."
    ),
    "ring": (
        "Ring order: distances don't matter. After the own node come the nodes above it in ascending order, then those "
        "from 0 on up to the own one. On each the highest zone comes first."
    ),
}


def variant_list(variant: str, node: int, distance: Distances, zones: Zones) -> list[Zoneref]:
    """The whole list by a rule: every zone gets a place, and they are sorted by it."""

    def place(ref: Zoneref) -> tuple[int, ...]:
        nid, index = ref
        near = (distance[node][nid], nid)
        if variant == "zone":
            return (-index, *near)
        if variant == "spare":
            return (int(index == 0), *near, -index)
        if variant == "low":
            return (*near, index)
        return ((nid - node) % len(distance), -index)

    return sorted(((nid, index) for nid in zones for index in zones[nid]), key=place)


def given_variant(rng: Random) -> dict[str, Any]:
    """Which variant is this student's, and what it makes of one small machine."""
    name = rng.choice(sorted(VARIANTS))
    node, distance = 1, [[10, 30, 20], [30, 10, 20], [20, 20, 10]]
    zones = {0: [0, 1], 1: [1, 2], 2: [2]}
    example = {"node": node, "distance": distance, "zones": zones}
    return {"variant": name, "rule": VARIANTS[name], **example, "becomes": variant_list(name, node, distance, zones)}


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """Each zone with memory once, and each in its place."""
    variant, node, distance, zones = case.value
    want = variant_list(variant, node, distance, zones)
    got = answer(node, [list(row) for row in distance], {nid: list(row) for nid, row in zones.items()})
    if not isinstance(got, list) or not all(isinstance(ref, (tuple, list)) and len(ref) == 2 for ref in got):
        return Verdict("the function returns a list of (node, zone index)", f"yours returns {got!r}")
    got = [tuple(ref) for ref in got]
    if sorted(got) != sorted(want):
        odd = next(ref for ref in [*want, *got] if got.count(ref) != want.count(ref))
        return Verdict(
            "each zone that has memory stands in the list once",
            f"zone {odd[1]} of node {odd[0]} stands there {got.count(odd)} times",
        )
    for at, (have, ref) in enumerate(zip(got, want, strict=True)):
        if have != ref:
            return Verdict("the zones stand in the order of your rule", f"at place {at} stands {have}: not its turn")
    return None


def cases_variant(given: dict[str, Any], rng: Random) -> list[Case]:
    """One node, two as on real machines, then more with nodes that lack zones."""
    two = [[10, 20], [20, 10]]
    hand: list[tuple[int, Distances, Zones]] = [
        (0, [[10]], {0: [0]}),
        (0, [[10]], {0: [0, 1, 2]}),
        (0, two, {0: [0, 1], 1: [1]}),
        (1, two, {0: [0, 1, 2], 1: [2]}),
        (1, [[10, 30, 20], [30, 10, 20], [20, 20, 10]], {0: [0, 1], 1: [1, 2], 2: [2]}),
        (1, [[10, 20, 30], [20, 10, 20], [30, 20, 10]], {0: [0, 1], 1: [0, 2], 2: [1, 2]}),
    ]
    for _ in range(8):
        count = rng.choice((3, 4))
        zones = {nid: sorted(rng.sample(range(4), rng.randrange(1, 4))) for nid in range(count)}
        hand.append((rng.randrange(count), table(count, rng), zones))
    return [
        Case(f"node {node}, distances {distance[node]}, zones {zones}", (given["variant"], node, distance, zones), size)
        for size, (node, distance, zones) in enumerate(hand)
    ]


register(
    Task(
        "zones.variant",
        CHAPTER,
        "implement",
        15,
        (
            "Take two nodes with two zones each, write the four pairs on slips of paper, and lay them in the order of "
            "your rule. What do you look at first, what second?",
            "Make the list of all (node, zone) pairs and sort it with a `key` that is a tuple: what the rule looks at "
            "first stands first, with a minus where the highest must come first.",
        ),
        judge_variant,
        cases_variant,
        given=given_variant,
    )
)
