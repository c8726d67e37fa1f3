"""Chapter 04: which node comes next when the near one has nothing to give.

The judge holds each choice against the words of the rule, candidate by candidate; the last case boots machines with
four and six nodes and the answer in the place of `find_next_best_node`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from kmemlab.boot.numa import node_distance, nodes_of
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.zones import CHAPTER
from kmemlab.hardware.spec import CpuSpec, E820Range, MachineSpec, NumaRange, NumaSpec
from kmemlab.machine.machine import Machine
from kmemlab.mm.globals import Mm
from kmemlab.mm.zonelist import find_next_best_node
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError
from kmemlab.types.units import GIB

Distances = list[list[int]]
FALLBACK = "Fallback order for Node"


def table(count: int, rng: Random) -> Distances:
    """Distances between nodes: 10 to oneself, the same there and back, with many that are equal."""
    rows = [[10] * count for _ in range(count)]
    for a in range(count):
        for b in range(a):
            rows[a][b] = rows[b][a] = rng.choice((16, 20, 21, 22, 32))
    return rows


def numa_machine(distance: Distances) -> MachineSpec:
    """A machine of one GiB and one CPU a node with these distances in its SLIT."""
    count = len(distance)
    gap = [(0, 0x9FFFF), (0x100000, min(3, count) * GIB - 1)] + ([(4 * GIB, (count + 1) * GIB - 1)] * (count > 3))
    starts = [nid if nid < 3 else nid + 1 for nid in range(count)]
    return MachineSpec(
        name="many-nodes",
        e820=tuple(E820Range(start, end) for start, end in gap),
        cmdline="nokaslr",
        cpus=CpuSpec(present=count, possible=count, node_of=tuple(range(count)), flags=("pse",)),
        numa=NumaSpec(
            nodes=tuple(NumaRange(nid, at * GIB, (at + 1) * GIB - 1) for nid, at in enumerate(starts)),
            slit=tuple(map(tuple, distance)),
        ),
    )


# -- the rule, by itself -----------------------------------------------------------------------------------------------


def better(distance: Distances, node: int, load: list[int], one: int, other: int) -> str:
    """Why `one` must be taken before `other`; "" if it must not."""
    price = [distance[node][n] + int(n < node) for n in (one, other)]
    if price[0] != price[1]:
        return "nearer, where a node below one's own counts 1 more" if price[0] < price[1] else ""
    if load[one] != load[other]:
        return "as near, and less loaded" if load[one] < load[other] else ""
    return "as near and as loaded, and the lower number" if one < other else ""


def orders(distance: Distances) -> list[list[int]]:
    """The order of all nodes for each, with the loads that grow on the way."""
    load = [0] * len(distance)
    found = []
    for node in range(len(distance)):
        order, before = [node], node
        while len(order) < len(distance):
            left = [n for n in range(len(distance)) if n not in order]
            (best,) = [n for n in left if all(better(distance, node, load, n, m) for m in left if m != n)]
            if distance[node][best] != distance[node][before]:
                load[best] += 1
            order.append(best)
            before = best
        found.append(order)
    return found


# -- zones.zonelist ----------------------------------------------------------------------------------------------------


def judge_zonelist(answer: Answer, case: Case) -> Verdict | None:
    """Nobody that is left over may be better than the one that was chosen."""
    if "machine" in case.value:
        return boots(answer, case.value["machine"])
    node, used, distance, load = (case.value[name] for name in ("node", "used", "distance", "load"))
    got = answer(node, list(used), [list(row) for row in distance], list(load))
    left = [n for n in range(len(distance)) if n not in used]
    if node in left:
        if got != node:
            return Verdict("a node always comes first in its own list", f"node {node} is not used yet, yours is {got}")
        return None
    if not left:
        return None if got is None else Verdict("when every node is used there is no next one: None", f"yours is {got}")
    if got not in left:
        return Verdict("the next node is one that is not used yet", f"left are {left}, yours is {got}")
    for other in left:
        why = better(distance, node, load, other, got) if other != got else ""
        if why:
            return Verdict("the best node comes next", f"yours is {got}, but {other} is {why}")
    return None


def fallback_orders(spec: MachineSpec) -> list[str]:
    """What a machine's log says of its zonelists."""
    log = Machine.boot(spec, until="build_all_zonelists").dmesg()
    return [line.strip() for line in log.splitlines() if line.startswith(FALLBACK)]


def patched_next(answer: Answer) -> Any:
    """A function in the place of `find_next_best_node`: the answer chooses."""

    def next_best(mm: Mm, node: int, used: list[int]) -> int | None:
        nodes = nodes_of(mm.numa.node_online)
        rows = [[node_distance(mm.numa, a, b) for b in nodes] for a in nodes]
        chosen: int | None = answer(node, list(used), rows, [mm.node_load[n] for n in nodes])
        if len(used) == len(rows) and chosen is not None:
            raise KmemlabError("a node is chosen though all are used", where="build_zonelists", remedy="return None")
        return chosen

    return next_best


def inside_boot(case: Case) -> Inside | None:
    """For the cases that are a machine: its boot, step by step."""
    if "machine" not in case.value:
        return None
    return Inside(
        find_next_best_node, partial(Machine, numa_machine(case.value["machine"])), until="build_all_zonelists",
        patch=lambda _, answer: patched_next(answer), compared=ending,
    )  # fmt: skip


def boots(answer: Answer, distance: Distances) -> Verdict | None:
    """Boot a machine whose zonelists are ordered by the answer, and compare its log."""
    spec = numa_machine(distance)
    law = "the machine boots with the same fallback orders as with the kernel's own"
    try:
        with livepatch(find_next_best_node, patched_next(answer)):
            patched = fallback_orders(spec)
    except KmemlabError as error:
        return Verdict(law, error.what)
    for want, have in zip(fallback_orders(spec), patched, strict=False):
        if want != have:
            return Verdict(law, f"the log should say {want!r}, it says {have!r}")
    return None


def cases_zonelist(_given: None, rng: Random) -> Iterator[Case]:
    """Two nodes, three, five; equal distances, loads that decide, nothing left; then machines."""
    near = [[10, 20, 20], [20, 10, 20], [20, 20, 10]]
    far = [[10, 30, 20], [30, 10, 20], [20, 20, 10]]
    hand: list[tuple[int, list[int], Distances, list[int]]] = [
        (0, [], [[10, 20], [20, 10]], [0, 0]),
        (1, [], [[10, 20], [20, 10]], [0, 0]),
        (1, [1], [[10, 20], [20, 10]], [0, 0]),
        (1, [1, 0], [[10, 20], [20, 10]], [0, 0]),
        (0, [0], far, [0, 0, 0]),
        (1, [1], near, [0, 0, 0]),
        (0, [0], near, [0, 0, 0]),
        (0, [0], near, [0, 1, 0]),
        (1, [1], near, [0, 0, 3]),
        (2, [2], near, [5, 4, 0]),
    ]
    for _ in range(8):
        count = rng.choice((4, 5))
        node = rng.randrange(count)
        used = [node, *rng.sample([n for n in range(count) if n != node], rng.randrange(count - 2))]
        hand.append((node, used, table(count, rng), [rng.randrange(3) for _ in range(count)]))
    for size, (node, used, distance, load) in enumerate(hand):
        text = f"node {node}, used {used}, distances {distance[node]}, node_load {load}"
        yield Case(text, {"node": node, "used": used, "distance": distance, "load": load}, size)
    for count in (4, 6):
        yield Case(f"a machine of {count} nodes that boots", {"machine": table(count, rng)}, 1 << 20, points=9)


register(
    Task(
        "zones.zonelist",
        CHAPTER,
        "implement",
        15,
        (
            "Three things are compared, one after the other: the distance (with 1 more for a node below one's own), "
            "then the load, then the number of the node. Python compares tuples in just that way.",
            "Two answers need no comparison: the node itself while it isn't used, and None when all are used.",
        ),
        judge_zonelist,
        cases_zonelist,
        inside=inside_boot,
        seconds=10.0,
    )
)


# -- zones.predict -----------------------------------------------------------------------------------------------------


def given_predict(rng: Random) -> dict[str, Any]:
    """The distances of a machine with four nodes."""
    return {"distance": table(4, rng)}


def judge_predict(answer: Answer, case: Case) -> Verdict | None:
    """One line of the log."""
    node, want = case.value
    told = answer.value
    if not isinstance(told, list) or len(told) != 4 or not isinstance(told[node], (list, tuple)):
        return Verdict("the answer is a list of four orders, one a node", f"it is {told!r}")
    if list(told[node]) == want:
        return None
    if sorted(told[node]) != sorted(want):
        return Verdict("each node is in each order once", f"for node {node} you have {list(told[node])}")
    wrong = next(at for at, (a, b) in enumerate(zip(told[node], want, strict=True)) if a != b)
    law = (
        "a node always comes first in its own list"
        if wrong == 0
        else "the nearest comes next; a node below one's own counts 1 more, then the load decides, then the number"
    )
    return Verdict(law, f"place {wrong} of the order for node {node} is not what the kernel chose")


def cases_predict(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One order a node."""
    return [
        Case(f"the fallback order for node {node}", (node, order), node)
        for node, order in enumerate(orders(given["distance"]))
    ]


register(
    Task(
        "zones.predict",
        CHAPTER,
        "predict",
        5,
        (
            "Write each row of the table down, add 1 to the nodes left of the diagonal, and sort. Only where two "
            "numbers are equal do the loads matter.",
            "Keep a tally `node_load` from node 0 to node 3: a node that is chosen gets 1 if it is at another distance "
            "than the node chosen just before (the first is the node itself, at distance 10).",
        ),
        judge_predict,
        cases_predict,
        given=given_predict,
    )
)
