"""Chapter 05: find the buddy, split, join.

What must hold is told by blocks and sums alone, never by running the kernel's own split or join a second time; only
the last case of the implement-tasks compares a whole machine with the same machine unpatched.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.hardware.spec import MachineSpec, load_spec
from kmemlab.machine.machine import Machine
from kmemlab.mm.buddy import expand, find_buddy_pfn, free_one_page
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import NR_FREE_PAGES, Zone, add_to_free_list_tail, bare_zone
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.livepatch import livepatch
from kmemlab.sim.timeline import Call
from kmemlab.types.errors import KmemlabError, OutOfMemory
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE
from kmemlab.types.migratetype import MIGRATE_MOVABLE
from kmemlab.views.panel import Panel, ZonePanel

CHAPTER = "05_buddy"
PRESET = "tiny-128m"
FRAMES = 64  # of the small zones


def blocks(zone: Zone, order: int) -> list[int]:
    """The movable free blocks of an order, first to last."""
    return list(list_for_each(zone.page.lru, zone.free_list[order][MIGRATE_MOVABLE]))


def lists(zone: Zone) -> dict[int, list[int]]:
    """Every list that has a block."""
    return {order: blocks(zone, order) for order in range(MAX_ORDER) if blocks(zone, order)}


def shown(free: dict[int, list[int]]) -> str:
    """Free lists for a reader: the orders that have blocks, each with its pfns."""
    return (
        "; ".join(f"order {order}: {', '.join(map(str, pfns))}" for order, pfns in sorted(free.items()))
        or "no list has a block"
    )


def zone_with(free: Iterable[tuple[int, int]]) -> Zone:
    """A zone of 64 frames in which exactly these blocks (pfn, order) are free; the rest is in use."""
    zone = bare_zone(FRAMES)
    for pfn, order in free:
        add_to_free_list_tail(zone, pfn, order, MIGRATE_MOVABLE)
        zone.vm_stat[NR_FREE_PAGES] += 1 << order
    return zone


def compare(got: dict[int, list[int]], expected: dict[int, list[int]], law: str) -> Verdict | None:
    """None when the lists are the same, else a verdict that names the first order that differs."""
    for order in range(MAX_ORDER):
        want, have = expected.get(order, []), got.get(order, [])
        if want != have:
            return Verdict(law, f"the order-{order} list should hold {want}, it holds {have}")
    return None


# -- a machine under load, patched and not -----------------------------------------------------------------------------


def load(machine: Machine, seed: int, steps: int = 120) -> Iterator[str]:
    """A seeded mix of requests; yields what each one came to."""
    rng = Random(seed)
    held: list[tuple[int, int]] = []
    for _ in range(steps):
        if held and rng.random() < 0.45:
            pfn, order = held.pop(rng.randrange(len(held)))
            machine.free_pages(pfn, order)
            yield f"free_pages({pfn}, {order})"
        else:
            order = rng.choice((0, 0, 0, 1, 2, 3, 5))
            try:
                pfn = machine.alloc_pages(GFP_HIGHUSER_MOVABLE, order)
            except OutOfMemory:
                yield f"alloc_pages(order {order}) found nothing"
                continue
            held.append((pfn, order))
            yield f"alloc_pages(order {order}) → pfn {pfn}"


Work = Callable[[Machine, int], Iterator[str]]


@functools.lru_cache(maxsize=8)
def unpatched(work: Work, seed: int, cmdline: str | None = None) -> list[str]:
    """What the machine does with the kernel's own functions: the same for each answer."""
    return list(work(booted(cmdline), seed))


def described(cmdline: str | None) -> MachineSpec:
    """The preset, with a command line of its own where one is given."""
    return load_spec(PRESET) if cmdline is None else replace(load_spec(PRESET), cmdline=cmdline)


def booted(cmdline: str | None) -> Machine:
    """The same, booted."""
    return Machine.boot(described(cmdline))


def zone_panel(machine: Machine, call: Call) -> Panel:
    """The zone that a call is about."""
    return ZonePanel(
        next(each for each in call.arguments if isinstance(each, Zone)), memblock=machine.kernel.boot.memblock
    )


def in_machine(
    function: Callable[..., Any], work: Work = load, cmdline: str | None = None, **more: Any
) -> Callable[[Case], Inside | None]:
    """For the cases that are a seed: the machine of `runs_the_machine`, step by step."""

    def inside(case: Case) -> Inside | None:
        if not isinstance(case.value, int):
            return None
        seed = case.value
        return Inside(function, partial(Machine, described(cmdline)), lambda machine: work(machine, seed), **more)

    return inside


def runs_the_machine(
    function: Callable[..., Any], answer: Answer, seed: int, work: Work = load, every: int = 1,
    cmdline: str | None = None,
) -> Verdict | None:  # fmt: skip
    """Boot a machine with the answer in the kernel's place, put it under load, and compare step by step.

    Its laws are checked after each `every` steps.
    """
    reference = unpatched(work, seed, cmdline)
    step = "boot"
    try:
        with livepatch(function, answer.function):
            machine = booted(cmdline)
            for number, (step, expected) in enumerate(zip(work(machine, seed), reference, strict=False), 1):
                if step != expected:
                    return Verdict(
                        "the machine goes on as with the kernel's own",
                        f"request {number} should be {expected}, it was {step}",
                    )
                if number % every == 0:
                    machine.check()
    except BrokenLaw as error:
        return Verdict(error.what, f"after {step}")
    except KmemlabError as error:
        return Verdict("the machine goes on as with the kernel's own", f"after {step}: {error.what}")
    return None


def with_machine(small: Iterable[Case], rng: Random, serves: str = "serves 120 requests") -> list[Case]:
    """The small cases, and a whole machine as the last and largest."""
    cases = list(small)
    return [
        *cases,
        Case(
            f"a machine ({PRESET}) that boots and {serves}",
            rng.randrange(1 << 30),
            1 << 20,
            points=len(cases),
        ),
    ]


# -- buddy.find --------------------------------------------------------------------------------------------------------


def judge_find(answer: Answer, case: Case) -> Verdict | None:
    """The two buddies of a pair are the halves of one block of twice the size."""
    if isinstance(case.value, int):
        return runs_the_machine(find_buddy_pfn, answer, case.value)
    pfn, order = case.value
    size = 2**order
    parent = pfn // (2 * size) * (2 * size)
    (other,) = {parent, parent + size} - {pfn}
    found = answer(pfn, order)
    if found != other:
        return Verdict(
            "two buddies are the halves of one block",
            f"the buddy of pfn {pfn} at order {order} is {other}, yours is {found}",
        )
    return None


def cases_find(_given: None, rng: Random) -> list[Case]:
    """Every aligned block of the first 32 frames, and some far up."""
    near = [(pfn, order) for order in range(4) for pfn in range(0, 32, 1 << order)]
    far = [(rng.randrange(1 << 20) << order, order) for order in range(10)]
    return with_machine(
        (Case(f"pfn {pfn}, order {order}", (pfn, order), pfn + order) for pfn, order in near + far), rng
    )


register(
    Task(
        "buddy.find",
        CHAPTER,
        "implement",
        5,
        (
            "Write pfn 8 and pfn 12 in binary: they are buddies at order 2. In which bit do they differ?",
            "At order n it is bit n. Which operator of Python flips one bit, whatever it is now?",
        ),
        judge_find,
        cases_find,
        # find_buddy_pfn is too small to be recorded: what differs is what comes of it.
        inside=in_machine(find_buddy_pfn, seen=free_one_page, panel=zone_panel),
        seconds=15.0,  # the whole machine, on a slow computer
    )
)


# -- buddy.expand ------------------------------------------------------------------------------------------------------


def judge_expand(answer: Answer, case: Case) -> Verdict | None:
    """The caller keeps the lowest part; of each order in between one half goes to the front of its list."""
    if isinstance(case.value, int):
        return runs_the_machine(expand, answer, case.value)
    pfn, low, high, others = case.value
    zone = zone_with(others)
    expected = lists(zone)
    for order in range(low, high):
        expected[order] = [pfn + 2**order, *expected.get(order, [])]
    answer(zone, pfn, low, high, MIGRATE_MOVABLE)
    return compare(
        lists(zone), expected, "of each order from low to high - 1 the upper half goes to the front of its list"
    )


def cases_expand(_given: None, rng: Random) -> list[Case]:
    """Small splits into empty lists first, then into lists that hold something."""
    small = [(0, low, high, ()) for high in range(4) for low in range(high + 1)]
    far = [(32, rng.randrange(3), rng.randrange(3, 6), ((0, 0), (4, 1), (8, 2), (16, 3))) for _ in range(4)]
    return with_machine(
        (
            Case(
                f"a block of order {high} at pfn {pfn}, split to order {low}"
                + (f" (free: {shown(lists(zone_with(others)))})" if others else ""),
                (pfn, low, high, others),
                high * 8 + high - low + len(others) * 100,
            )
            for pfn, low, high, others in small + far
        ),
        rng,
    )


register(
    Task(
        "buddy.expand",
        CHAPTER,
        "implement",
        10,
        (
            "Halve the block once: where does its upper half begin, and of what order is it? Then do the "
            "same to what is left.",
            "Count `high` down to `low`; in each turn give `add_to_free_list` the half that begins at pfn + 2**high.",
        ),
        judge_expand,
        cases_expand,
        inside=in_machine(expand, panel=zone_panel),
        seconds=15.0,  # the whole machine, on a slow computer
    )
)


# -- buddy.free --------------------------------------------------------------------------------------------------------


def joined(free: set[tuple[int, int]], pfn: int, order: int) -> tuple[int, int]:
    """What a freed block grows to, by looking for its other half among the blocks: takes the halves out of `free`."""
    while order < MAX_ORDER - 1:
        size = 2**order
        other = pfn + size if pfn // size % 2 == 0 else pfn - size
        if (other, order) not in free:
            break
        free.remove((other, order))
        pfn, order = min(pfn, other), order + 1
    return pfn, order


def judge_free(answer: Answer, case: Case) -> Verdict | None:
    """After a free the blocks are those that halves-join-halves gives, each once, and the counter is their sum."""
    if isinstance(case.value, int):
        return runs_the_machine(free_one_page, answer, case.value)
    before, pfn, order = case.value
    zone = zone_with(before)
    free = set(before)
    whole, size = joined(free, pfn, order)
    answer(zone, pfn, order, MIGRATE_MOVABLE)
    expected: dict[int, set[int]] = {}
    for start, at in free | {(whole, size)}:
        expected.setdefault(at, set()).add(start)
    got = lists(zone)
    for at in range(MAX_ORDER):
        want, have = sorted(expected.get(at, ())), sorted(got.get(at, ()))
        if want != have:
            return Verdict(
                "a freed block joins its buddy for as long as that is free",
                f"the order-{at} list should hold {want}, it holds {have}",
            )
    parent = whole // 2 ** (size + 1) * 2 ** (size + 1)
    likely = size < MAX_ORDER - 2 and (parent ^ 2 ** (size + 1), size + 1) in free
    row = got[size]
    if len(row) > 1 and (row[-1] if likely else row[0]) != whole:
        place = "end" if likely else "front"
        return Verdict(
            "a block that will soon be joined goes to the end, any other to the front",
            f"pfn {whole} should stand at the {place} of the order-{size} list, which is {row}",
        )
    pages = sum(2**at * len(row) for at, row in got.items())
    if zone.vm_stat[NR_FREE_PAGES] != pages:
        return Verdict(
            "NR_FREE_PAGES counts what is free",
            f"it says {zone.vm_stat[NR_FREE_PAGES]}, the lists hold {pages} pages",
        )
    return None


def cases_free(_given: None, rng: Random) -> list[Case]:
    """No buddy, one, a chain of them, one of another order, and the tail rule."""
    hand = [
        ((), 4, 0),
        (((5, 0),), 4, 0),
        (((4, 0),), 5, 0),
        (((6, 1),), 4, 1),
        (((5, 0), (6, 1)), 4, 0),
        (((6, 1),), 4, 0),
        (((6, 0),), 5, 0),
        (((0, 0), (6, 1)), 4, 0),
        (((1, 0), (2, 1), (4, 2), (8, 3)), 0, 0),
    ]
    drawn = []
    for _ in range(6):
        held = [pfn for pfn in range(FRAMES) if rng.random() < 0.4]
        free: set[tuple[int, int]] = set()
        for pfn in range(FRAMES):
            if pfn not in held:
                free.add(joined(free, pfn, 0))
        drawn.append((tuple(sorted(free)), rng.choice(held), 0))
    return with_machine(
        (
            Case(
                f"pfn {pfn}, order {order} is freed while these are free: {shown(lists(zone_with(before)))}",
                (before, pfn, order),
                len(before),
            )
            for before, pfn, order in hand + drawn
        ),
        rng,
    )


register(
    Task(
        "buddy.free",
        CHAPTER,
        "implement",
        20,
        (
            "Ask one question again and again: is the buddy of this block free, whole, and in this zone? "
            "If so, take it off its list; the two are one block now. Which pfn does that block begin at?",
            "The joined block begins at `pfn & buddy_pfn`. Don't forget the counter before the loop, and "
            "after it the choice between the front and the end of the list.",
        ),
        judge_free,
        cases_free,
        inside=in_machine(free_one_page, panel=zone_panel),
        seconds=15.0,  # the whole machine, on a slow computer
    )
)
