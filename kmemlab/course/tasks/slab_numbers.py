"""Chapter 06: find kmalloc's cache for a request, and predict where SLAB's slabs begin their objects."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.alloc.slab_size import CFLGS_OBJFREELIST_SLAB, SlabRequest, calculate_slab_order
from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.slab import CHAPTER, PAGE

# -- slab.kmalloc ------------------------------------------------------------------------------------------------------

SIZES = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192)
KINDS = {"GFP_KERNEL": "kmalloc", "GFP_KERNEL | __GFP_DMA": "dma-kmalloc"}
PAGES = "pages"


def given_kmalloc(rng: Random) -> dict[str, tuple[int, str]]:
    """Six requests of this student's own: a size, and how it is asked for."""
    ranges = ((1, 64), (65, 96), (129, 192), (193, 256), (1025, 8192), (8193, 100_000))
    sizes = [rng.randint(*span) for span in ranges]
    rng.shuffle(sizes)
    kinds = list(KINDS)
    return {f"request {nth}": (size, kinds[nth % 3 == 2 and size <= SIZES[-1]]) for nth, size in enumerate(sizes, 1)}


def kmalloc_truth(size: int, kind: str) -> tuple[str, int]:
    """Which cache gives it, and how many bytes are taken, by the row of sizes."""
    fitting = [room for room in SIZES if room >= size]
    if fitting:
        room = fitting[0]
        return f"{KINDS[kind]}-{room // 1024}k" if room >= 1024 else f"{KINDS[kind]}-{room}", room
    room = PAGE
    while room < size:
        room *= 2
    return PAGES, room


def judge_kmalloc(answer: Answer, case: Case) -> Verdict | None:
    """The cache's name and the bytes."""
    name, cache, room = case.value
    told = answer.value
    got = told.get(name) if isinstance(told, dict) else None
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return Verdict(
            "the answer has (the cache's name, the bytes that are taken) for each request", f"{name}: {got!r}"
        )
    if got[1] != room:
        law = (
            "above 8 KiB the page allocator gives 2**n pages"
            if cache == PAGES
            else "a request is met from the smallest of the thirteen sizes that is large enough"
        )
        return Verdict(law, f"{name}: it does not take {got[1]!r} bytes")
    if got[0] != cache:
        law = (
            'what no cache is large enough for comes from the page allocator: "pages"'
            if cache == PAGES
            else "each kind of request has caches of its own, named by their size: 512, 1k, 2k, …"
        )
        return Verdict(law, f"{name}: it is not {got[0]!r}")
    return None


def cases_kmalloc(given: dict[str, tuple[int, str]], _rng: Random) -> list[Case]:
    """One case a request, the smallest first."""
    return [
        Case(f"{name}: kmalloc({size}, {kind})", (name, *kmalloc_truth(size, kind)), size)
        for name, (size, kind) in given.items()
    ]


register(
    Task(
        "slab.kmalloc",
        CHAPTER,
        "compute",
        6,
        (
            "Write the thirteen sizes in a row; two of them are no powers of two. Which is the first that is enough?",
            "The largest cache is kmalloc-8k. Beyond it: how many pages are needed, and what is the next power of two?",
        ),
        judge_kmalloc,
        cases_kmalloc,
        given=given_kmalloc,
    )
)

# -- slab.colour -------------------------------------------------------------------------------------------------------

LINE, SLABS = 64, 8


def given_colour(rng: Random) -> dict[str, Any]:
    """A size whose slabs have three to six colours, so that eight slabs begin anew."""
    while True:
        size = 8 * rng.randrange(40, 260)
        shape = calculate_slab_order(SlabRequest(size, size, 0, False, 1, lambda _: None), CFLGS_OBJFREELIST_SLAB)
        if shape is not None and 3 <= shape.left_over // LINE <= 6:
            return {"size": size, "pages": 1 << shape.gfporder, "cache_line": LINE, "slabs": SLABS}


def colour_truth(given: dict[str, Any]) -> dict[str, Any]:
    """Objects of a slab, what is left over, in how many places objects can begin, and where those of each slab do."""
    objects, left = divmod(given["pages"] * PAGE, given["size"])
    colours = left // given["cache_line"]
    begins = [given["cache_line"] * (nth % colours) for nth in range(1, given["slabs"] + 1)]
    return {"objects": objects, "left_over": left, "colours": colours, "begins": begins}


LAWS = {
    "objects": "a slab holds as many objects as fit: who is next costs no room, that stands in a free object",
    "left_over": "what is left over is the slab without its objects",
    "colours": "a colour is a whole cache line of what is left over",
    "begins": "each new slab begins a cache line behind the one before, from line 1 on, and after the last colour at 0",
}


def judge_colour(answer: Answer, case: Case) -> Verdict | None:
    """One part of the prediction."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict("the answer has all parts", f"the key {part!r} is missing")
    got = list(told[part]) if isinstance(told[part], (tuple, list)) else told[part]
    if got == want:
        return None
    if part == "begins" and isinstance(got, list):
        at = next((at for at, pair in enumerate(zip(got, want, strict=False)) if pair[0] != pair[1]), -1)
        return Verdict(LAWS[part], f"slab {at + 1} does not begin at {got[at]}" if at >= 0 else f"{len(got)} slabs")
    return Verdict(LAWS[part], f"{part} is not {got!r}")


def cases_colour(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Each part for itself."""
    truth = colour_truth(given)
    return [
        Case(
            f"{part} of slabs with objects of {given['size']} bytes",
            (part, truth[part]),
            at,
            3 if part == "begins" else 1,
        )
        for at, part in enumerate(truth)
    ]


register(
    Task(
        "slab.colour",
        CHAPTER,
        "predict",
        9,
        (
            "How often does the size fit into the pages, and what is left over? How many whole cache lines is that?",
            "With 3 colours the slabs begin at 64, 128, 0, 64, 128, 0, …: the counter goes up before it is used.",
        ),
        judge_colour,
        cases_colour,
        given=given_colour,
    )
)
