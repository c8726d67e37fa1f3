"""Chapter 07: say where vmalloc puts things, and what is behind an address."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.vmalloc import CHAPTER
from kmemlab.types.units import PAGE_SIZE

VMALLOC_START = 0xFFFFC90000000000
NAMES = "abcdefgh"

# -- vmalloc.predict ---------------------------------------------------------------------------------------------------


def given_predict(rng: Random) -> dict[str, Any]:
    """Eight commands on a machine on which nobody has called vmalloc yet; two frees, and a purge behind the second."""
    sizes = [rng.randrange(1, 6) * PAGE_SIZE - rng.choice((0, 96, 2000)) for _ in range(3)]
    freed = rng.randrange(2)
    room = -(-sizes[freed] // PAGE_SIZE)
    again = rng.randrange(1, room + 1) * PAGE_SIZE  # would fit where the freed one was
    steps = [f"{name} = vmalloc({size})" for name, size in zip(NAMES, sizes, strict=False)]
    steps += [f"vfree({NAMES[freed]})", f"d = vmalloc({again})", "vm_unmap_aliases()", f"e = vmalloc({again})"]
    other = rng.choice((1, 2)) * PAGE_SIZE
    return {"start": VMALLOC_START, "steps": [*steps, f"f = vmalloc({other})"]}


def where_all_go(given: dict[str, Any]) -> dict[str, int]:
    """Carry the steps out on a set of pages: taken, waiting, or free."""
    taken: dict[int, str] = {}  # page of addresses: who has it
    found: dict[str, int] = {}
    for step in given["steps"]:
        name, _, call = step.rpartition(" = ")
        argument = call[call.index("(") + 1 : -1]
        if name:
            pages = -(-int(argument) // PAGE_SIZE) + 1
            page = next(at for at in range(1000) if not any(at + nth in taken for nth in range(pages)))
            taken |= dict.fromkeys(range(page, page + pages), name)
            found[name] = given["start"] + page * PAGE_SIZE
        elif argument:
            taken = {page: "lazy" if owner == argument else owner for page, owner in taken.items()}
        else:
            taken = {page: owner for page, owner in taken.items() if owner != "lazy"}
    return found


def judge_predict(answer: Answer, case: Case) -> Verdict | None:
    """One address."""
    name, want, lazy = case.value
    told = answer.value
    if not isinstance(told, dict) or type(told.get(name)) is not int:
        return Verdict("the answer is a dict with an address for each name", f"there is no number for {name!r}")
    if told[name] == want:
        return None
    law = (
        "addresses that were freed are not used again before the TLB is flushed"
        if lazy
        else "each area takes its pages and one guard page more, at the lowest addresses that are free"
    )
    return Verdict(law, f"{name} is not at {told[name]:#x}")


def cases_predict(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case an address."""
    return [
        Case(f"the address of {name}", (name, address, name == "d"), at)
        for at, (name, address) in enumerate(where_all_go(given).items())
    ]


register(
    Task(
        "vmalloc.predict",
        CHAPTER,
        "predict",
        10,
        (
            "Round each size up to whole pages, and add the guard page. The first area begins where vmalloc's "
            "addresses begin. Draw a row of boxes.",
            "What vfree gives back is lazy: the addresses stay taken until the purge (vm_unmap_aliases). Only then "
            "does the lowest hole lie there.",
        ),
        judge_predict,
        cases_predict,
        given=given_predict,
    )
)


# -- vmalloc.behind ----------------------------------------------------------------------------------------------------


def given_behind(rng: Random) -> dict[str, Any]:
    """An area, the page frames behind it, and seven addresses."""
    pages = rng.randrange(4, 8)
    start = VMALLOC_START + rng.randrange(16, 4096) * PAGE_SIZE
    pfns = rng.sample(range(0x400, 0x40000), pages)
    inside = [start + nth * PAGE_SIZE + rng.randrange(PAGE_SIZE) for nth in rng.sample(range(1, pages), 2)]
    asked = {
        "a": start,
        "b": inside[0],
        "c": inside[1],
        "d": start + pages * PAGE_SIZE - 1,
        "e": start + pages * PAGE_SIZE,
        "f": start + (pages + 1) * PAGE_SIZE - 8,
    }
    return {"line": f"{start:#018x}-{start + (pages + 1) * PAGE_SIZE:#018x} {(pages + 1) * PAGE_SIZE:7} "
                    f"my_driver+0x5a/0x120 pages={pages} vmalloc N0={pages}",
            "start": start, "pfns": pfns, "asked": asked}  # fmt: skip


def behind(given: dict[str, Any]) -> dict[str, int | None]:
    """What each address leads to, by laying the bytes of the pages side by side."""
    first = {given["start"] + nth * PAGE_SIZE: pfn * PAGE_SIZE for nth, pfn in enumerate(given["pfns"])}
    found: dict[str, int | None] = {}
    for name, address in given["asked"].items():
        page = next((page for page in first if page <= address < page + PAGE_SIZE), None)
        found[name] = None if page is None else first[page] + address - page
    return found


def judge_behind(answer: Answer, case: Case) -> Verdict | None:
    """One address."""
    name, want = case.value
    told = answer.value
    if not isinstance(told, dict) or name not in told:
        return Verdict("the answer is a dict with an entry for each address", f"there is none for {name!r}")
    got = told[name]
    if got == want and type(got) is type(want):
        return None
    seen = f"{name}: not {got:#x}" if type(got) is int else f"{name}: not {got!r}"
    if want is None:
        return Verdict("nothing is behind the guard page, the last of an area: an access faults (None)", seen)
    return Verdict("page n of the area lies in the n-th page frame, at the same offset in the page", seen)


def cases_behind(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case an address."""
    return [Case(f"address {name}", (name, want), at) for at, (name, want) in enumerate(behind(given).items())]


register(
    Task(
        "vmalloc.behind",
        CHAPTER,
        "compute",
        5,
        (
            "Subtract the start of the area. The lowest three hexadecimal digits are the offset in the page, the rest "
            "is the number of the page: 0 is the first.",
            "Physical address: pfn times 4096, plus the offset. The number in the line counts the guard page, "
            "`pages=` doesn't.",
        ),
        judge_behind,
        cases_behind,
        given=given_behind,
    )
)
