"""Chapter 04: from a page frame number to its struct page and back, in sections.

The judge writes down the address of every struct page there is, and looks answers up in that list. In the last case
the answer stands in a machine whose requests give struct pages and take them back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending, survives, whole
from kmemlab.course.sparse_machine import Sections, SparseMachine, sections_of, struct_pages
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.zones import CHAPTER
from kmemlab.mm.memory_model import Loads
from kmemlab.mm.sparsemem import ClassicSections, page_to_pfn, pfn_to_page
from kmemlab.sim.hook import Function
from kmemlab.sim.timeline import Call, Timeline

MACHINE = "numa-2x4g"
SECTIONS_PGSHIFT = 45  # where classic SPARSEMEM on x86-64 keeps the section in page->flags


def every_page(sections: Sections, pages: int, size: int) -> dict[int, int]:
    """The address of every struct page, by page frame number."""
    return {
        at * pages + index: base + index * size
        for at, base in enumerate(sections)
        if base is not None
        for index in range(pages)
    }


def layouts(rng: Random) -> list[tuple[Sections, int, int]]:
    """Sections as they may lie: in one piece, with a hole, in any order; small ones first, then Linux's own size."""
    found: list[tuple[Sections, int, int]] = [
        ([0], 4, 1),
        ([1000, 1004], 4, 1),
        ([1000, None, 1256], 4, 64),
        ([None, 5000, 1000], 8, 40),
    ]
    for _ in range(3):
        bases: Sections = [4096 * place for place in rng.sample(range(1, 64), 5)]
        bases[rng.randrange(5)] = None
        found.append((bases, 16, 64))
    high = 0xFFFF888000000000
    found.append(([high + (rng.randrange(1, 512) << 21), None, high + (rng.randrange(512, 1024) << 21)], 1 << 15, 64))
    return found


def told(sections: Sections, pages: int, size: int) -> str:
    """A layout in words."""
    bases = ", ".join("None" if base is None else f"{base:#x}" if base > 99999 else str(base) for base in sections)
    return f"{pages} pages a section, struct pages of {size} bytes, section_mem_map [{bases}]"


def samples(pages: int, count: int, rng: Random) -> list[int]:
    """Page frames worth a try: at the borders of each section, and some amid it."""
    borders = {at * pages + more for at in range(count) for more in (0, 1, pages - 1)}
    return sorted(borders | {rng.randrange(count * pages) for _ in range(4)})


# -- a machine ---------------------------------------------------------------------------------------------------------


def with_machine(small: list[Case], rng: Random) -> list[Case]:
    """The small cases, and a whole machine as the last and largest."""
    text = f"a machine ({MACHINE}, classic SPARSEMEM) that boots and serves 120 requests by their struct pages"
    return [*small, Case(text, rng.randrange(1 << 30), 1 << 20, points=len(small) // 2)]


def converted(timeline: Timeline, command: int, call: Call) -> dict[str, Any]:
    """What a conversion came to, as the kernel prints addresses and page frames."""
    told = ending(timeline, command, call)
    return {name: hex(value) if isinstance(value, int) else value for name, value in told.items()}


def in_machine(function: Function, patched: Callable[[Answer], Function], case: Case) -> Inside | None:
    """For the case that is a seed: the requests, step by step."""
    if not isinstance(case.value, int):
        return None
    return Inside(
        function, partial(SparseMachine, MACHINE), partial(struct_pages, seed=case.value),
        patch=lambda _, answer: patched(answer), compared=converted, exact=True,
    )  # fmt: skip


def patched_to_page(answer: Answer) -> Function:
    """A function in the place of `__pfn_to_page`: the answer gets the map of every section."""

    def to_page(model: ClassicSections, pfn: int, loads: Loads) -> int:
        return whole(answer(pfn, sections_of(model), model.pages_per_section, model.sizeof_page))

    return to_page


def patched_to_pfn(answer: Answer) -> Function:
    """A function in the place of `__page_to_pfn`: the answer gets the flags of the struct page, too."""

    def to_pfn(model: ClassicSections, page: int, loads: Loads) -> int:
        flags = model.page_flags(page)
        return whole(answer(page, flags, sections_of(model), model.pages_per_section, model.sizeof_page))

    return to_pfn


inside_to_page = partial(in_machine, pfn_to_page, patched_to_page)
inside_to_pfn = partial(in_machine, page_to_pfn, patched_to_pfn)


# -- zones.pfn_to_page -------------------------------------------------------------------------------------------------


def judge_pfn_to_page(answer: Answer, case: Case) -> Verdict | None:
    """Look each page frame up in the list of all struct pages; what isn't there has none."""
    if inside := inside_to_page(case):
        return survives(inside, answer)
    sections, pages, size, pfns = case.value
    known = every_page(sections, pages, size)
    for pfn in pfns:
        want, got = known.get(pfn), answer(pfn, list(sections), pages, size)
        if want == got:
            continue
        if want is None:
            law = "a page frame of a section without a map, or beyond the last section, has no struct page: None"
            return Verdict(law, f"pfn {pfn} has none, yours says {got!r}")
        owner = next((other for other, page in known.items() if page == got), None)
        seen = "where no struct page begins" if owner is None else f"that is the one of pfn {owner}"
        return Verdict("each page frame has a struct page of its own", f"for pfn {pfn} yours gives {got!r}: {seen}")
    return None


def cases_pfn_to_page(_given: None, rng: Random) -> list[Case]:
    """Every layout with its page frames, and some beyond the end; then a machine."""
    cases = []
    for number, (sections, pages, size) in enumerate(layouts(rng)):
        end = len(sections) * pages
        pfns = [*samples(pages, len(sections), rng), end, end + pages]
        cases.append(Case(told(sections, pages, size), (sections, pages, size, pfns), number))
    return with_machine(cases, rng)


register(
    Task(
        "zones.pfn_to_page",
        CHAPTER,
        "implement",
        5,
        (
            "A page frame number has two parts: which section it lies in, and which page it is within that section.",
            "`divmod(pfn, pages_per_section)` gives both parts. Look whether there is such a section, and whether it "
            "has a map, before you add anything to its address.",
        ),
        judge_pfn_to_page,
        cases_pfn_to_page,
        inside=inside_to_page,
        seconds=15.0,
    )
)


# -- zones.page_to_pfn -------------------------------------------------------------------------------------------------


def judge_page_to_pfn(answer: Answer, case: Case) -> Verdict | None:
    """There and back: the number that comes back is the one whose struct page it was."""
    if inside := inside_to_pfn(case):
        return survives(inside, answer)
    sections, pages, size, pfns, noise = case.value
    known = every_page(sections, pages, size)
    for pfn in pfns:
        if pfn not in known:
            continue
        flags = (pfn // pages) << SECTIONS_PGSHIFT | noise
        got = answer(known[pfn], flags, list(sections), pages, size)
        if got != pfn:
            return Verdict(
                "page_to_pfn takes back what pfn_to_page did",
                f"the struct page of pfn {pfn} is at {known[pfn]:#x}, with flags {flags:#x}; yours says {got!r}",
            )
    return None


def cases_page_to_pfn(_given: None, rng: Random) -> list[Case]:
    """Every layout with its page frames; the flags hold other things, too. Then a machine."""
    cases = []
    for number, (sections, pages, size) in enumerate(layouts(rng)):
        noise = rng.randrange(1, 1 << SECTIONS_PGSHIFT) if number > 1 else 0
        value: tuple[Any, ...] = (sections, pages, size, samples(pages, len(sections), rng), noise)
        cases.append(Case(told(sections, pages, size), value, number))
    return with_machine(cases, rng)


register(
    Task(
        "zones.page_to_pfn",
        CHAPTER,
        "implement",
        5,
        (
            "The address alone doesn't say which section it belongs to, for the maps lie anywhere. The flags do.",
            "Shift the flags down to get the section. How many struct pages lie between the beginning of its map and "
            "this one? And which page frame is the first of the section?",
        ),
        judge_page_to_pfn,
        cases_page_to_pfn,
        inside=inside_to_pfn,
        seconds=15.0,
    )
)
