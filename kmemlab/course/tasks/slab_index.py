"""Chapter 06: the number of the store that meets a request, as the kernel numbers them; then a machine asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from kmemlab.alloc.kmalloc import kmalloc, kmalloc_slab, kmalloc_type
from kmemlab.alloc.kmalloc_caches import KMALLOC_INDICES
from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending, survives, whole
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.slab import CHAPTER, PRESET
from kmemlab.machine.machine import Machine
from kmemlab.sim.hook import Function
from kmemlab.sim.timeline import Call, Timeline
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import __GFP_RECLAIMABLE, GFP_DMA, GFP_KERNEL

STORES = {size: size.bit_length() - 1 for size in (2**power for power in range(3, 14))} | {96: 1, 192: 2}
"""The thirteen sizes, and the number of each."""

FITS = "the store is the smallest of the thirteen that is large enough"
BETWEEN = "96 and 192 are numbered 1 and 2: they came later"
NONE = "above 8192 bytes no store is large enough: the result is None"


def number_of(size: int) -> int | None:
    """The number of the smallest store that has room."""
    return next((STORES[store] for store in sorted(STORES) if store >= size), None)


def judge_index(answer: Answer, case: Case) -> Verdict | None:
    """One size, or a machine."""
    if inside := inside_machine(case):
        return survives(inside, answer)
    size, want = case.value, number_of(case.value)
    got = answer(size)
    if got == want and type(got) is type(want):
        return None
    law = NONE if want is None else BETWEEN if want in (1, 2) else FITS
    return Verdict(law, f"for {size} bytes it is {want}, yours gives {got!r}")


def cases_index(_given: None, rng: Random) -> list[Case]:
    """Each store at its edges, and some in between; then a machine."""
    edges = [size + more for size in STORES for more in (-1, 0, 1)] + [1, 9000]
    drawn = [rng.randrange(1, 8193) for _ in range(10)]
    cases = [Case(f"{size} bytes", size, size) for size in sorted({*edges, *drawn})]
    text = f"a machine ({PRESET}) that boots, and 150 calls of kmalloc and kfree"
    return [*cases, Case(text, str(rng.random()), 1 << 20, points=len(cases) // 2)]


# -- a machine ---------------------------------------------------------------------------------------------------------


def kmallocs(machine: Machine, seed: str, steps: int = 150) -> Iterator[str]:
    """A seeded mix of kmalloc and kfree, of all sizes and kinds; yields what each one came to."""
    rng = Random(seed)
    held: list[int] = []
    for _ in range(steps):
        if held and rng.random() < 0.4:
            address = held.pop(rng.randrange(len(held)))
            machine.kfree(address, caller="a driver")
            yield f"kfree({address:#x})"
        else:
            size = max(1, rng.choice(sorted(STORES)) + rng.randint(-40, 40))
            gfp = rng.choice((GFP_KERNEL, GFP_KERNEL, GFP_KERNEL | __GFP_RECLAIMABLE, GFP_KERNEL | GFP_DMA))
            address = machine.kmalloc(size, gfp, caller="a driver")
            held.append(address)
            yield f"kmalloc({size}) → {address:#x}"


def patched_slab(answer: Answer) -> Function:
    """A function in the place of `kmalloc_slab`: the answer says the cache's number among those of a kind."""

    def slab(common: SlabCommon, size: int, gfp: int) -> KmemCache:
        index = whole(answer(size))
        if not 1 <= index < KMALLOC_INDICES:
            raise BadRequest(f"for {size} bytes yours gives {index}: no store has it", where="kmalloc")
        return common.caches[common.kmalloc_caches[KMALLOC_INDICES * kmalloc_type(gfp) + index]]

    return slab


def taken(timeline: Timeline, command: int, call: Call) -> dict[str, Any]:
    """Where the room is that a call of kmalloc got."""
    told = ending(timeline, command, call)
    return {name: hex(value) if isinstance(value, int) else value for name, value in told.items()}


def inside_machine(case: Case) -> Inside | None:
    """For the case that is a seed: the calls, step by step."""
    if not isinstance(case.value, str):
        return None
    return Inside(
        kmalloc_slab, partial(Machine, PRESET), partial(kmallocs, seed=case.value),
        patch=lambda _, answer: patched_slab(answer), compared=taken, seen=kmalloc, exact=True,
    )  # fmt: skip


register(
    Task(
        "slab.kmalloc_index",
        CHAPTER,
        "implement",
        5,
        (
            "For a power of two the number is the power. Which sizes are met by 96 and by 192 instead?",
            "`(size - 1).bit_length()` is the power of the next power of two. Ask for the two odd sizes and for the "
            "smallest and the largest store before you use it.",
        ),
        judge_index,
        cases_index,
        inside=inside_machine,
        seconds=15.0,
    )
)
