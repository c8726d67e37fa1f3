"""Chapter 06: a machine that doubts each object that comes back. It walks the freelist of its slab: is it free already?

kfree ──▶ free_debug_processing ──▶ on_freelist ──▶ the answer: (objects, is it a circle?)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from kmemlab.alloc.slub_debug import mend_counts, on_freelist
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending
from kmemlab.course.task import Case
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.sim.hook import Function
from kmemlab.sim.timeline import Call, Timeline
from kmemlab.types.errors import BadRequest, DoubleFree

PRESET = "tiny-128m"
CACHES = {"packet": 64, "ticket": 200}  # of a driver, with the size of their objects


def doubted(machine: Machine, seed: int, steps: int = 150) -> Iterator[str]:
    """A driver takes objects and gives them back, some of them twice; yields what each step came to."""
    rng = Random(seed)
    held: list[tuple[str, int]] = []
    gone: list[tuple[str, int]] = []
    for cache, size in CACHES.items():
        machine.kmem_cache_create(cache, size)
    for _ in range(steps):
        what = rng.random()
        if what < 0.1 and gone:
            cache, obj = rng.choice(gone[-8:])
            yield f"{cache} {obj:#x} comes back a second time: {freed(machine, cache, obj)}"
        elif what < 0.5 and held:
            cache, obj = held.pop(rng.randrange(len(held)))
            gone.append((cache, obj))
            yield f"{cache} {obj:#x} comes back: {freed(machine, cache, obj)}"
        else:
            cache = rng.choice(sorted(CACHES))
            obj = machine.kmem_cache_alloc(cache, caller="a driver")
            held.append((cache, obj))
            gone = [other for other in gone if other != (cache, obj)]
            yield f"{cache} {obj:#x} is taken"


def freed(machine: Machine, cache: str, obj: int) -> str:
    """Give an object back; what the kernel says."""
    try:
        machine.kmem_cache_free(cache, obj, caller="a driver")
    except DoubleFree:
        return "it is free already"
    return "it is free now"


def patched_on_freelist(answer: Answer) -> Function:
    """A function in the place of `on_freelist`: the answer walks, and what it found is compared with the counts."""

    def on_list(cache: SlubCache, slab: int, search: int) -> bool:
        pages = cache.pages

        def read(address: int) -> int:
            if type(address) is not int or address % 8:
                raise BadRequest(f"a pointer stands at a multiple of 8, not at {address!r}", where="your walk")
            return pages.ram.read(address - pages.page_offset)

        found = answer(read, pages.freelist[slab], cache.offset, cache.random)
        if not isinstance(found, (tuple, list)) or len(found) != 2 or not isinstance(found[0], (tuple, list)):
            raise BadRequest(f"{found!r} is no pair of objects and a bool", where="your walk")
        objects, circle = found
        if search in objects:
            return True
        mend_counts(cache, slab, pages.objects[slab] + 1 if circle else len(objects))
        return search == 0

    return on_list


def found_there(timeline: Timeline, command: int, call: Call) -> dict[str, Any]:
    """What a walk came to: whether the object is on the list, and the counts of the slab that it mended."""
    mended = {
        f"objects in use of slab {write.index}": write.new
        for write in timeline.writes(command, call.enter, call.leave)
        if write.column == "SlabPages.inuse"
    }
    return ending(timeline, command, call) | mended


def inside_watched(case: Case) -> Inside | None:
    """For the case that is a seed: what the driver does, step by step."""
    if not isinstance(case.value, int):
        return None
    spec = load_spec(PRESET)
    doubting = replace(spec, cmdline=f"{spec.cmdline} slub_debug=F")
    return Inside(
        on_freelist, partial(Machine, doubting), partial(doubted, seed=case.value),
        patch=lambda _, answer: patched_on_freelist(answer), compared=found_there, exact=True,
    )  # fmt: skip
