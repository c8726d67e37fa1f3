"""Chapter 07: find a hole among kernel addresses.

What must hold is told by trying every address. The last case runs the answer inside a machine: no two areas may share
an address there, and none may be used again before a purge.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.free_vmap_area import adjust_va_to_fit_type, alloc_vmap_area_inner
from kmemlab.mm.vmap_area import (
    FREE_VMAP_AREA_ROOT,
    PURGE_VMAP_AREA_ROOT,
    VMAP_AREA_ROOT,
    VmapAreas,
    vmap_areas,
)
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.types.units import PAGE_SIZE

CHAPTER = "07_vmalloc"
PRESET = "tiny-128m"
START, PAGES = 0xF7000000, 48  # the small ranges of addresses
MACHINE_SIZE = 1 << 20  # a machine is the largest case

Areas = list[tuple[int, int]]


def addresses(spans: tuple[tuple[int, int], ...]) -> Areas:
    """Areas that are told in pages, as addresses."""
    return [(START + first * PAGE_SIZE, START + last * PAGE_SIZE) for first, last in spans]


def spans_text(spans: tuple[tuple[int, int], ...]) -> str:
    """Areas in pages, for a reader."""
    return ", ".join(f"{first}–{last}" for first, last in spans) or "nothing"


def fits(busy: Areas, start: int, size: int, vstart: int, vend: int) -> bool:
    """Whether [start, start + size) is within the range and in nobody's area."""
    return vstart <= start and start + size <= vend and all(start + size <= low or high <= start for low, high in busy)


def drawn_spans(rng: Random, pages: int = PAGES, most: int = 6) -> tuple[tuple[int, int], ...]:
    """Some areas of one to eight pages, by address, with holes of none to six pages between them."""
    spans: list[tuple[int, int]] = []
    at = rng.choice((0, 0, 1, 2))
    while len(spans) < most:
        last = at + rng.randint(1, 8)
        if last > pages:
            break
        spans.append((at, last))
        at = last + rng.choice((0, 1, 2, 3, 5, 6))
    return tuple(spans)


# -- vmalloc.hole ------------------------------------------------------------------------------------------------------


def lowest(busy: Areas, size: int, align: int, vstart: int, vend: int) -> int | None:
    """The lowest address that fits, by trying one after the other."""
    step = max(align, PAGE_SIZE)
    first = -(-vstart // step) * step
    return next((start for start in range(first, vend, step) if fits(busy, start, size, vstart, vend)), None)


def told(address: Any) -> str:
    """An address for a reader, by its page in the small range."""
    if not isinstance(address, int):
        return repr(address)
    return f"{address:#x}" + (f" (page {(address - START) // PAGE_SIZE})" if address % PAGE_SIZE == 0 else "")


def hole_verdict(got: Any, want: int | None, busy: Areas, size: int, align: int, vend: int) -> Verdict | None:
    """Which law an address breaks, the gravest first."""
    if got == want and type(got) is type(want):
        return None
    if got is None or want is None or type(got) is not int:
        return Verdict("the function returns an address, or None where nothing fits",
                       f"it should be {told(want)}, yours is {told(got)}")  # fmt: skip
    if any(got < high and low < got + size for low, high in busy):
        return Verdict("an area lies in nobody else's area", f"yours starts at {told(got)}")
    if got % align:
        return Verdict("an area starts at a multiple of align", f"yours starts at {got:#x}, align is {align:#x}")
    if got + size > vend:
        return Verdict("an area lies within [vstart, vend)", f"yours ends at {got + size:#x}, vend is {vend:#x}")
    return Verdict("the lowest address that fits is taken", f"that is {told(want)}, yours is {told(got)}")


def judge_hole(answer: Answer, case: Case) -> Verdict | None:
    """The lowest hole, found by brute force; then a machine."""
    if isinstance(case.value, int):
        return hole_in_machine(answer, case.value)
    spans, pages, align, first, last = case.value
    busy, size = addresses(spans), pages * PAGE_SIZE
    vstart, vend = START + first * PAGE_SIZE, START + last * PAGE_SIZE
    want = lowest(busy, size, align, vstart, vend)
    return hole_verdict(answer(list(busy), size, align, vstart, vend), want, busy, size, align, vend)


def hole_in_machine(answer: Answer, seed: int) -> Verdict | None:
    """Let a machine take and free areas by the answer, beside one that does it by the kernel's own."""
    step = "boot"
    machine, reference = Machine.boot(PRESET), Machine.boot(PRESET)
    wanted = list(vmalloc_load(reference, seed))
    try:
        with livepatch(alloc_vmap_area_inner, patched_hole(answer)):
            for step, want in zip(vmalloc_load(machine, seed), wanted, strict=True):
                if step != want:
                    return Verdict(
                        "the machine goes on as with the kernel's own", f"it should be {want}, it was {step}"
                    )
                machine.check()
    except BrokenLaw as error:
        return Verdict(error.what, f"after {step}")
    except (KmemlabError, AssertionError) as error:
        return Verdict("the machine goes on as with the kernel's own", f"after {step}: {error}")
    return None


def patched_hole(answer: Answer) -> Any:
    """A function in the place of `__alloc_vmap_area`: lazily freed areas are as taken as busy ones."""

    def alloc(areas: VmapAreas, size: int, align: int, vstart: int, vend: int) -> int:
        taken = sorted(
            (areas.va_start[va], areas.va_end[va])
            for header in (VMAP_AREA_ROOT, PURGE_VMAP_AREA_ROOT)
            for va in vmap_areas(areas, header)
        )
        start = answer(taken, size, align, vstart, vend)
        if start is None:
            return vend
        for va in vmap_areas(areas, FREE_VMAP_AREA_ROOT):
            if areas.va_start[va] <= start and start + size <= areas.va_end[va]:
                adjust_va_to_fit_type(areas, va, start, size)
                return int(start)
        raise BadRequest(f"[{start:#x}, {start + size:#x}) is not free", where="your function")

    return alloc


def inside_machine(case: Case) -> Inside | None:
    """For the case that is a seed: the areas that come and go, step by step."""
    if not isinstance(case.value, int):
        return None
    return Inside(
        alloc_vmap_area_inner, partial(Machine, PRESET), partial(vmalloc_load, seed=case.value),
        patch=lambda _, answer: patched_hole(answer), compared=ending,
    )  # fmt: skip


def vmalloc_load(machine: Machine, seed: int, steps: int = 60) -> Iterator[str]:
    """A seeded mix of vmalloc, vfree and purges; yields what each one came to."""
    rng = Random(seed)
    held: list[int] = []
    for _ in range(steps):
        what = rng.random()
        if held and what < 0.4:
            address = held.pop(rng.randrange(len(held)))
            machine.vfree(address)
            yield f"vfree({address:#x})"
        elif what < 0.5:
            machine.vm_unmap_aliases()
            yield "a purge"
        else:
            size = rng.choice((1, 3, 4, 9, 17)) * PAGE_SIZE
            address = machine.vmalloc(size)
            held.append(address)
            yield f"vmalloc({size}) → {address:#x}"


def cases_hole(_given: None, rng: Random) -> list[Case]:
    """An empty range, full ones, holes of all kinds, alignment, a range that starts and ends within; then a machine."""
    hand: list[tuple[Any, ...]] = [
        ((), 1, 1, 0, PAGES),
        (((0, 2),), 1, 1, 0, PAGES),
        (((1, 2),), 1, 1, 0, PAGES),
        (((1, 2),), 2, 1, 0, PAGES),
        (((0, 2), (3, 5)), 2, 1, 0, PAGES),
        (((0, 2), (4, 6)), 2, 1, 0, PAGES),
        (((0, 2), (2, 4)), 3, 1, 0, PAGES),
        (((0, 2), (6, 8)), 4, 1, 0, 8),
        (((0, 2), (4, 8)), 4, 1, 0, 8),
        (((0, 4),), 4, 1, 0, 8),
        (((0, 5),), 4, 1, 0, 8),
        (((0, 1),), 1, 4 * PAGE_SIZE, 0, PAGES),
        (((0, 1), (5, 6)), 4, 4 * PAGE_SIZE, 0, PAGES),
        (((0, 1), (8, 9)), 4, 4 * PAGE_SIZE, 0, PAGES),
        (((0, 2),), 2, 1, 4, PAGES),
        (((2, 6),), 2, 1, 4, PAGES),
        (((2, 3), (20, 24)), 4, 1, 8, 16),
    ]
    for _ in range(8):
        spans = drawn_spans(rng)
        hand.append((spans, rng.randint(1, 7), rng.choice((1, 1, 2, 8)) * PAGE_SIZE, rng.choice((0, 0, 3)), PAGES))
    cases = [
        Case(
            f"{pages} {'page' if pages == 1 else 'pages'} among pages {first}–{last}, where {spans_text(spans)} "
            f"{'is' if len(spans) < 2 else 'are'} taken"
            + (f"; aligned to {align // PAGE_SIZE}" if align > PAGE_SIZE else ""),
            (spans, pages, align, first, last),
            len(spans) * 8 + pages + (4 if align > PAGE_SIZE else 0),
        )
        for spans, pages, align, first, last in hand
    ]
    text = f"a machine ({PRESET}) with 60 calls of vmalloc and vfree"
    return [*cases, Case(text, rng.randrange(1 << 30), MACHINE_SIZE, points=len(cases))]


register(
    Task(
        "vmalloc.hole",
        CHAPTER,
        "implement",
        20,
        (
            "Start with the lowest address that is allowed at all. Go through the taken areas by address: does the "
            "request end before the next one begins? If not, where is the lowest address behind that area?",
            "Keep one number, the candidate. For each area: if candidate + size <= its start, you are done; else the "
            "candidate becomes the larger of itself and the area's end, rounded up to align. Look at vend last.",
        ),
        judge_hole,
        cases_hole,
        inside=inside_machine,
        seconds=15.0,  # the whole machine, on a slow computer
    )
)
