"""Chapter 05: a machine that lacks large blocks. How fragmented it is says whether it tries to make some.

alloc_pages(order 6) ──▶ no such block ──▶ compaction_suitable ──▶ the answer: 0 … 1000, or -1000
                                           at most vm.extfrag_threshold: memory is lacking; above: compact
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, whole
from kmemlab.course.task import Case
from kmemlab.course.tasks.buddy import PRESET
from kmemlab.course.tasks.buddy_pressure import asked
from kmemlab.machine.machine import Machine
from kmemlab.mm.compaction_suitable import CompactResult, compaction_suitable
from kmemlab.mm.extfrag import extfrag_index, fragmentation_index
from kmemlab.sim.hook import Function
from kmemlab.sim.timeline import Call, Timeline
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE

FILL = 4  # the order of the blocks that fill the machine
ORDERS = (4, 5, 6, 7, 9)
THRESHOLDS = (500, 700, 780, 860, 930)  # of vm.extfrag_threshold


def lacking(machine: Machine, seed: int, steps: int = 40) -> Iterator[str]:
    """Fill the machine, let single blocks go, and ask for larger ones; yields what each step came to."""
    rng = Random(seed)
    machine.sysctl("vm.watermark_boost_factor", 0)  # else the zones would refuse long before lists are empty
    held: list[int] = []
    while (pfn := asked(machine, GFP_HIGHUSER_MOVABLE, FILL)) is not None:
        held.append(pfn)
    rng.shuffle(held)
    for _ in range(len(held) // 8):
        machine.free_pages(held.pop(), FILL)
    yield f"{len(held)} blocks of order {FILL} are held"
    for _ in range(steps):
        order, threshold = rng.choice(ORDERS), rng.choice(THRESHOLDS)
        machine.sysctl("vm.extfrag_threshold", threshold)
        pfn = asked(machine, GFP_HIGHUSER_MOVABLE, order)
        found = "nothing" if pfn is None else f"pfn {pfn}"
        for _ in range(rng.randrange(12)):
            machine.free_pages(held.pop(), FILL)
        yield f"order {order}, threshold {threshold} → {found}"
    yield indices(machine)


def indices(machine: Machine) -> str:
    """The last line of extfrag_index: the machine's largest zone."""
    return machine.sysfs("kernel/debug/extfrag/extfrag_index").splitlines()[-1].partition("zone")[2].strip()


def patched_index(answer: Answer) -> Function:
    """A function in the place of `__fragmentation_index`: the second number of the answer."""

    def index(nr_free: Sequence[int], order: int) -> int:
        found = answer(list(nr_free), order)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise BadRequest(f"{found!r} is no pair", where="your function")
        return whole(found[1])

    return index


def judged(_timeline: Timeline, _command: int, call: Call) -> dict[str, Any]:
    """What a zone was judged to be, or the index of each zone and order, as the kernel prints them."""
    if call.raised:
        return {"returns": "an error"}
    if call.function is compaction_suitable:
        return {"returns": repr(CompactResult(call.value))}
    rows = [line.split()[2:] for line in call.value.splitlines()]  # without "Node 0,"
    return {f"{zone}, order {order}": index for _, zone, *row in rows for order, index in enumerate(row)}


def inside_compaction(case: Case) -> Inside | None:
    """For the case that is a seed: the requests, step by step."""
    if not isinstance(case.value, int):
        return None
    return Inside(
        fragmentation_index, partial(Machine, PRESET), partial(lacking, seed=case.value),
        patch=lambda _, answer: patched_index(answer), compared=judged, seen=compaction_suitable, also=(extfrag_index,),
        exact=True,
    )  # fmt: skip
