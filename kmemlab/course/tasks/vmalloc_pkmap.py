"""Chapter 07: find a slot for kmap.

What must hold is told by what is free before the end of the round, and what after the flush. The last case runs the
answer inside a machine: what is written through a slot must stand in the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from kmemlab.alloc.highmem import (
    Pkmap,
    flush_all_zero_pkmaps,
    map_new_virtual,
    pkmap_entry,
    pkmap_pfn,
    wait_for_slot,
)
from kmemlab.alloc.page_address import pkmap_addr, set_page_address
from kmemlab.boot.pgtable import set_entry
from kmemlab.boot.swapper_pg_dir import page_kernel
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.vmalloc import CHAPTER, MACHINE_SIZE
from kmemlab.course.your_machine import CAPTURES
from kmemlab.machine.machine import Machine
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, KmemlabError, MustWait
from kmemlab.types.gfp import GFP_HIGHUSER
from kmemlab.types.units import PAGE_SHIFT

I386 = "i386-1g"


def slot_of(count: list[int], last: int) -> tuple[int | None, list[int]]:
    """The slot that is next, and the counts then: what is free in the rest of the round, else what a flush leaves."""
    ahead = [nr for nr in range(last + 1, len(count)) if count[nr] == 0]
    if ahead:
        return ahead[0], count
    flushed = [0 if users == 1 else users for users in count]
    free = [nr for nr, users in enumerate(flushed) if users == 0]
    return (free[0] if free else None), flushed


def judge_pkmap(answer: Answer, case: Case) -> Verdict | None:
    """The slot and the counts are those that the round gives; then a machine."""
    if isinstance(case.value, int):
        return pkmap_in_machine(answer, case.value)
    before, last = list(case.value[0]), case.value[1]
    want, after = slot_of(before, last)
    count = list(before)
    slot = answer(count, last)
    if count != after:
        if count == before:
            return Verdict("when the round comes to slot 0, slots with count 1 are unmapped: they become 0",
                           f"the counts should be {after} then, they still are {count}")  # fmt: skip
        if after == before:
            return Verdict("nothing is flushed while the round still finds a free slot", f"the counts became {count}")
        return Verdict("a flush changes counts of 1 to 0, and no other", f"they should be {after}, they are {count}")
    if slot == want and type(slot) is type(want):
        return None
    if type(slot) is int and 0 <= slot < len(count) and count[slot]:
        return Verdict("only a slot with count 0 may be taken", f"slot {slot} has count {count[slot]}")
    law = "the search goes on behind the slot that was taken last, once round; None if there is no slot then"
    return Verdict(law, f"it should be {want}, yours is {slot!r}")


def patched_map(answer: Answer) -> Any:
    """A function in the place of `map_new_virtual`: the answer chooses the slot, the rest is as in the kernel."""

    def map_page(pkmap: Pkmap, pfn: int) -> int:
        mm, before = pkmap.mm, list(pkmap.pkmap_count)
        count = list(before)
        slot = answer(count, pkmap.last_pkmap_nr)
        if count != before:
            flush_all_zero_pkmaps(pkmap)
        if slot is None:
            wait_for_slot(pkmap)
        if pkmap.pkmap_count[slot] > 1:
            raise BadRequest(f"slot {slot} has count {pkmap.pkmap_count[slot]}: it is in use", where="your function")
        if pkmap.pkmap_count[slot]:  # its page loses the address, but no TLB is told
            set_page_address(pkmap.addresses, pkmap_pfn(mm, slot), None)
        pkmap.last_pkmap_nr = slot
        set_entry(mm.boot.swapper_pg_dir, pkmap_entry(mm, slot), pfn << PAGE_SHIFT | page_kernel(mm.boot))
        pkmap.pkmap_count[slot], pkmap.owner[slot] = 1, mm.current.pid
        set_page_address(pkmap.addresses, pfn, slot)
        return pkmap_addr(mm, slot)

    return map_page


def mappings(machine: Machine, seed: int) -> Iterator[str]:
    """Pages of HighMem are mapped, written to and unmapped, more often than there are slots; yields what went wrong."""
    rng = Random(seed)
    pages = [machine.alloc_pages(GFP_HIGHUSER) for _ in range(1030)]
    held: list[int] = []
    for nth in range(1600):
        if len(held) > 8:
            machine.kunmap(held.pop(rng.randrange(len(held))))
        pfn = pages[nth % len(pages)]
        address = machine.kmap(pfn)
        held.append(pfn)
        machine.store(address, nth + 1, 4)
        # A stale translation of the TLB would lead the store to the page that had the slot before.
        right = machine.kernel.boot.ram.read(pfn << PAGE_SHIFT, 4) == nth + 1
        yield "" if right else f"kmap number {nth + 1}: pfn {pfn} does not hold what was written to {address:#x}"


def inside_machine(case: Case) -> Inside | None:
    """For the case that is a seed: the mappings, step by step."""
    if not isinstance(case.value, int):
        return None
    return Inside(
        map_new_virtual, partial(Machine, CAPTURES / I386), partial(mappings, seed=case.value),
        patch=lambda _, answer: patched_map(answer), compared=ending,
    )  # fmt: skip


def pkmap_in_machine(answer: Answer, seed: int) -> Verdict | None:
    """The mappings with the answer in the kernel's place."""
    machine = Machine.boot(CAPTURES / I386)
    try:
        with livepatch(map_new_virtual, patched_map(answer)):
            for wrong in mappings(machine, seed):
                if wrong:
                    law = "what is written through a slot stands in its page: the TLB knows no other page there"
                    return Verdict(law, wrong)
    except MustWait as error:
        return Verdict("the search goes on behind the slot that was taken last, once round", error.what)
    except (KmemlabError, AssertionError, IndexError) as error:
        return Verdict("the machine goes on as with the kernel's own", str(error))
    return None


def cases_pkmap(_given: None, rng: Random) -> list[Case]:
    """All that four slots can be, by hand and by chance; then 1,600 pages on a machine."""
    hand: list[tuple[tuple[int, ...], int]] = [
        ((0, 0, 0, 0), 0),
        ((0, 0, 0, 0), 3),
        ((0, 2, 0, 0), 0),
        ((0, 2, 0, 0), 1),
        ((0, 1, 0, 0), 0),
        ((1, 0, 1, 1), 1),
        ((2, 1, 1, 2), 3),
        ((2, 2, 1, 2), 2),
        ((2, 3, 2, 2), 1),
        ((1, 1, 1, 1), 0),
        ((2, 0, 2, 2), 1),
    ]
    for _ in range(8):
        slots = rng.choice((4, 8))
        hand.append((tuple(rng.choice((0, 1, 2, 2, 3)) for _ in range(slots)), rng.randrange(slots)))
    cases = [
        Case(f"the counts are {list(count)}, slot {last} was taken last", (count, last), sum(count) + len(count))
        for count, last in hand
    ]
    text = f"a machine ({I386}) that maps 1,600 pages of HighMem"
    return [*cases, Case(text, rng.randrange(1 << 30), MACHINE_SIZE, points=len(cases))]


register(
    Task(
        "vmalloc.pkmap",
        CHAPTER,
        "implement",
        20,
        (
            "Look at slot last + 1, then the next, and so on. What happens when you come to the end and go on with "
            "slot 0? And when may you give up?",
            "Two loops do it: first the slots behind `last`; if none has count 0, turn every 1 in `count` into 0, and "
            "look at all slots from 0 on. Change the list itself (`count[nr] = 0`), not a copy.",
        ),
        judge_pkmap,
        cases_pkmap,
        inside=inside_machine,
        seconds=20.0,
    )
)
