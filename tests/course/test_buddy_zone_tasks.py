"""Chapter 05, tasks on whole zones: fallback, steal, watermark, fragmentation. Five wrong answers for each fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kmemlab.course.answer import Answer as Handed
from kmemlab.course.desk import result_of
from kmemlab.course.judge import judge_case
from kmemlab.course.student import Student
from kmemlab.course.tasks import buddy_fallback as lend
from kmemlab.course.tasks import buddy_fragmented as told
from kmemlab.course.tasks import buddy_steal as steal_laws
from kmemlab.course.tasks import buddy_watermark as marks
from kmemlab.course.tasks import load_all
from kmemlab.course.tasks.buddy_pressure import pressure
from kmemlab.machine.machine import Machine
from kmemlab.mm.fallback import (
    boost_watermark,
    change_pageblock_range,
    movable_pages,
    move_freepages_block,
    rmqueue_fallback,
    steal_suitable_fallback,
)
from kmemlab.mm.zone import (
    ZONE_BOOSTED_WATERMARK,
    free_blocks,
    get_pageblock_migratetype,
    move_to_free_list,
    set_pageblock_migratetype,
)
from kmemlab.mm.zone_watermark_ok import (
    ALLOC_HIGHATOMIC,
    ALLOC_KSWAPD,
    ALLOC_MIN_RESERVE,
    ALLOC_NOFRAGMENT,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    zone_watermark_ok_inner,
)
from kmemlab.sim.livepatch import livepatch
from tests.course.judged import ADA

Answer = Callable[..., Any]


def fallback(
    *,
    lenders: dict[int, tuple[int, ...]] | None = None,
    up: bool = False,
    movable: bool = True,
    nofragment: bool = True,
    whole: bool | None = None,
    say: bool = True,
    block_order: int = 9,
) -> Answer:
    """The right answer; each keyword makes it wrong."""
    table = lenders or {0: (2, 1), 1: (2, 0), 2: (0, 1)}

    def first(zone: Any, orders: Any, wanted: int) -> tuple[int, int] | None:
        for order in orders:
            for kind in table[wanted]:
                pfn = next(free_blocks(zone, order, kind), None)
                if pfn is not None:
                    return pfn, order
        return None

    def answer(mm: Any, zone: Any, order: int, start_migratetype: int, alloc_flags: int) -> bool:
        least = max(order, block_order) if nofragment and alloc_flags & ALLOC_NOFRAGMENT else order
        found = first(zone, range(least, 11) if up else range(10, least - 1, -1), start_migratetype)
        if found is None:
            return False
        can_steal = found[1] >= 4 or start_migratetype != 1
        if movable and not can_steal:
            found = first(zone, range(least, 11), start_migratetype) or found
        steal_suitable_fallback(
            mm, zone, found[0], alloc_flags, start_migratetype, can_steal if whole is None else whole
        )
        return say

    return answer


def steal(
    *,
    reserve: bool = True,
    pageblocks: bool = True,
    least: int = 256,
    late: bool = False,
    alike: bool = True,
    boost: bool = True,
    alone: bool = False,
    unmovable: bool = False,
) -> Answer:
    """The right answer; each keyword makes it wrong."""

    def answer(mm: Any, zone: Any, pfn: int, alloc_flags: int, start_migratetype: int, whole_block: bool) -> None:
        page, order = zone.page, zone.page.buddy[pfn] - 1
        old = get_pageblock_migratetype(page, pfn)
        if reserve and old == 3:
            move_to_free_list(zone, pfn, order, start_migratetype)
            return
        if order >= 9:
            if pageblocks:
                change_pageblock_range(zone, pfn, order, start_migratetype)
            move_to_free_list(zone, pfn, order, start_migratetype)
            return
        if boost and boost_watermark(mm, zone) and alloc_flags & ALLOC_KSWAPD:
            zone.flags |= ZONE_BOOSTED_WATERMARK
        if not whole_block or alone:
            move_to_free_list(zone, pfn, order, start_migratetype)
            return
        movable = 0 if late else movable_pages(zone, pfn)
        free = move_freepages_block(zone, pfn, start_migratetype)
        if not free:
            move_to_free_list(zone, pfn, order, start_migratetype)
            return
        own = movable if start_migratetype == 1 or (unmovable and old != 1) else 512 - free - movable if old == 1 else 0
        if free + (own if alike else 0) >= least:
            set_pageblock_migratetype(page, pfn, start_migratetype)

    return answer


def watermark(
    *,
    equal: bool = False,
    block_pages: bool = True,
    lowmem: bool = True,
    highatomic: bool = True,
    hard: bool = False,
    round_up: bool = True,
    oom: bool = True,
    lists: bool = True,
    reserved: int = ALLOC_HIGHATOMIC | ALLOC_OOM,
) -> Answer:
    """The right answer; each keyword makes it wrong."""

    def less(mark: int, part: int) -> int:
        return mark - mark // part if round_up else mark * (part - 1) // part

    def answer(zone: Any, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, free_pages: int) -> bool:
        rights = ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_HIGHATOMIC | ALLOC_OOM
        if block_pages:
            free_pages -= (1 << order) - 1
        if highatomic and not alloc_flags & rights:
            free_pages -= zone.nr_reserved_highatomic
        if alloc_flags & ALLOC_MIN_RESERVE:
            mark = less(mark, 2)
        if alloc_flags & ALLOC_NON_BLOCK and (hard or alloc_flags & ALLOC_MIN_RESERVE):
            mark = less(mark, 4)
        if oom and alloc_flags & ALLOC_OOM:
            mark = less(mark, 2)
        mark += zone.lowmem_reserve[highest_zoneidx if lowmem else zone.index]
        if free_pages < mark or (free_pages == mark and not equal):
            return False
        kinds = (0, 1, 2, 3) if alloc_flags & reserved else (0, 1, 2)
        return (
            not lists
            or order == 0
            or any(True for size in range(order, 11) for kind in kinds for _ in free_blocks(zone, size, kind))
        )

    return answer


def indices(
    *, pages: bool = True, at: int = 0, early: bool = False, served: bool = True, empty: int = 1000, one: int = 1000
) -> Answer:
    """The right answer; each keyword makes it wrong."""

    def answer(nr_free: list[int], order: int) -> tuple[int, int]:
        sizes = [count << size if pages else count for size, count in enumerate(nr_free)]
        free, blocks, usable = sum(sizes), sum(nr_free), sum(sizes[order + at :])
        unusable = 1000 * (free - usable) // free if free else empty
        if not blocks:
            return unusable, 0
        if served and usable:
            return unusable, -1000
        wanted = 1000 * (free // (1 << order)) if early else 1000 * free // (1 << order)
        return unusable, 1000 - (one + wanted) // blocks

    return answer


RIGHT = {
    "buddy.fallback": fallback(),
    "buddy.steal": steal(),
    "buddy.watermark": watermark(),
    "buddy.index": indices(),
}
SWAPPED = {0: (1, 2), 1: (0, 2), 2: (1, 0)}
WITH_RESERVE = {0: (3, 2, 1), 1: (3, 2, 0), 2: (3, 0, 1)}
WRONG = [
    ("buddy.fallback", fallback(lenders=SWAPPED), lend.ORDERED, "free: pfn 8 order 0"),
    ("buddy.fallback", fallback(lenders=WITH_RESERVE), lend.NOTHING, "Reclaimable pages of order 0"),
    ("buddy.fallback", fallback(up=True), lend.LARGEST, "Unmovable pages of order 0"),
    ("buddy.fallback", fallback(movable=False), lend.SMALLEST, "Movable pages of order 0"),
    ("buddy.fallback", fallback(nofragment=False), lend.WHOLE, "with ALLOC_NOFRAGMENT"),
    ("buddy.fallback", fallback(block_order=8), lend.WHOLE, "free: pfn 256 order 8"),
    ("buddy.fallback", fallback(whole=True), lend.SPREAD, "Movable pages"),
    ("buddy.fallback", fallback(say=False), lend.SAYS, "free: pfn 8 order 0"),
    ("buddy.steal", steal(reserve=False), steal_laws.RESERVED, "of a pageblock that is HighAtomic"),
    ("buddy.steal", steal(pageblocks=False), steal_laws.WHOLE_BLOCKS, "order 9"),
    ("buddy.steal", steal(least=257), steal_laws.HALF, "192 pages free, 256 movable"),
    ("buddy.steal", steal(unmovable=True), steal_laws.HALF, "64 pages free, 300 movable"),
    ("buddy.steal", steal(late=True), steal_laws.HALF, "68 pages free, 444 movable"),
    ("buddy.steal", steal(alike=False), steal_laws.HALF, "movable"),
    ("buddy.steal", steal(boost=False), steal_laws.BOOST, "whole_block is False"),
    ("buddy.steal", steal(alone=True), steal_laws.HALF, "256 pages free"),
    ("buddy.watermark", watermark(equal=True), marks.ABOVE, "order 0, mark 100"),
    ("buddy.watermark", watermark(block_pages=False), marks.ORDER, "order 3"),
    ("buddy.watermark", watermark(lowmem=False), marks.ABOVE, "order 0, mark 100"),
    ("buddy.watermark", watermark(highatomic=False), marks.HIGHATOMIC, "512 pages in the high-atomic reserve"),
    ("buddy.watermark", watermark(hard=True), marks.HIGHATOMIC, "ALLOC_NON_BLOCK"),
    ("buddy.watermark", watermark(round_up=False), marks.RESERVE, "mark 101"),
    ("buddy.watermark", watermark(oom=False), marks.OOM, "ALLOC_OOM"),
    ("buddy.watermark", watermark(lists=False), marks.BLOCK, "order 2"),
    ("buddy.watermark", watermark(reserved=ALLOC_HIGHATOMIC), marks.RESERVED, "ALLOC_OOM"),
    ("buddy.watermark", watermark(reserved=ALLOC_MIN_RESERVE), marks.RESERVED, "ALLOC_MIN_RESERVE"),
    ("buddy.index", indices(pages=False), told.UNUSABLE, "unusable of"),
    ("buddy.index", indices(at=1), told.UNUSABLE, "unusable of 4 0"),
    ("buddy.index", indices(early=True), told.SHARE, "fragmentation of 1 0"),
    ("buddy.index", indices(one=1001), told.SHARE, "fragmentation of 1 0"),
    ("buddy.index", indices(served=False), told.SERVED, "fragmentation of 4 0"),
    ("buddy.index", indices(empty=0), told.UNUSABLE, "unusable of 0 0"),
]  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_holds_and_runs_the_machine(name: str) -> None:
    for student in (ADA, Student("grace")):
        result = result_of(name, RIGHT[name], student)
        assert result.passed, (result.case, result.verdict)
        assert result.points == load_all().find(name).points


@pytest.mark.parametrize(("name", "answer", "law", "case"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_breaks_a_law_on_a_small_input(name: str, answer: Answer, law: str, case: str) -> None:
    result = result_of(name, answer, ADA)
    assert result.verdict is not None
    assert result.case is not None
    assert result.verdict.law == law, result.verdict
    assert case in result.case.text
    assert result.case.size < 1 << 20, "the whole machine is not the smallest input"
    assert 0 <= result.points < load_all().find(name).points


def test_the_machine_runs_through_all_three_functions_both_ways() -> None:
    """Else a wrong function would survive it."""
    seen: set[tuple[str, object]] = set()

    def fell_back(mm: Any, zone: Any, order: int, start_migratetype: int, alloc_flags: int) -> bool:
        result = rmqueue_fallback.original(mm, zone, order, start_migratetype, alloc_flags)
        seen.add(("fallback", result))
        return bool(result)

    def stolen(mm: Any, zone: Any, pfn: int, alloc_flags: int, start_migratetype: int, whole_block: bool) -> None:
        before = get_pageblock_migratetype(zone.page, pfn)
        steal_suitable_fallback.original(mm, zone, pfn, alloc_flags, start_migratetype, whole_block)
        seen.add(("changed hands", get_pageblock_migratetype(zone.page, pfn) != before))
        seen.add(("movable pages took a whole pageblock", bool(whole_block)) if start_migratetype == 1 else ("", 0))

    def asked(zone: Any, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, free_pages: int) -> bool:
        result = zone_watermark_ok_inner.original(zone, order, mark, highest_zoneidx, alloc_flags, free_pages)
        seen.add(("single page" if order == 0 else "several pages", result))
        seen.add(("urgent", bool(alloc_flags & ALLOC_MIN_RESERVE)))
        return bool(result)

    with (
        livepatch(rmqueue_fallback, fell_back),
        livepatch(steal_suitable_fallback, stolen),
        livepatch(zone_watermark_ok_inner, asked),
    ):
        for seed in range(3):
            list(pressure(Machine.boot("tiny-128m"), seed))
    names = ("changed hands", "movable pages took a whole pageblock", "single page", "several pages", "urgent")
    assert {(name, value) for name in names for value in (False, True)} | {("fallback", True)} <= seen


def test_the_machine_finds_wrong_answers_that_small_cases_would_let_pass() -> None:
    for name, answer in (
        ("buddy.fallback", fallback(movable=False)),
        ("buddy.fallback", fallback(lenders=SWAPPED)),
        ("buddy.steal", steal(alone=True)),
        ("buddy.watermark", watermark(equal=True)),
        ("buddy.watermark", watermark(hard=True)),
    ):
        task = load_all().find(name)
        last = max(task.cases(None, Random(1)), key=lambda case: case.size)
        assert isinstance(last.value, int)
        verdict = judge_case(task, Handed(answer), last)
        assert verdict is not None, name
        assert verdict.law == "the machine goes on as with the kernel's own"


def test_indices_are_what_real_kernels_printed() -> None:
    """The judge's own figures against /sys/kernel/debug/extfrag of real machines."""
    data = json.loads((Path(__file__).parents[1] / "data" / "extfrag.json").read_text())
    compared = 0
    for machine in data.values():
        for part, name in enumerate(("unusable_index.txt", "extfrag_index.txt")):
            for counts, printed in machine[name]:
                nr_free = tuple(map(int, counts.split()[4:]))
                figures = [round(1000 * float(word)) for word in printed.split()[4:]]
                assert [told.thousandths(nr_free, order)[part] for order in range(11)] == figures
                compared += 1
    assert compared > 10


def test_the_three_machines_are_one_of_each_sort_in_any_order() -> None:
    task = load_all().find("buddy.fragmented")
    words = set()
    for number in range(12):
        student = Student(str(number))
        given = task.given(student.rng("buddy.fragmented/given"))
        right = told.diagnosis(given)
        assert sorted(right[letter] for letter in "ABC") == ["fragmented", "full", "well"]
        assert result_of("buddy.fragmented", right, student).passed
        words.add("".join(right[letter][1] for letter in "ABC"))
    assert len(words) > 2
    for pool, word in ((told.WELL, "well"), (told.FULL, "full"), (told.FRAGMENTED, "fragmented")):
        for machine in pool:
            assert told.verdict_on({file: told.text_of(machine, file) for file in told.FILES}) == word, machine


def test_a_diagnosis_is_judged_part_by_part() -> None:
    task = load_all().find("buddy.fragmented")
    right = told.diagnosis(task.given(ADA.rng("buddy.fragmented/given")))
    full = next(letter for letter in "ABC" if right[letter] == "full")
    well = next(letter for letter in "ABC" if right[letter] == "well")
    mistakes: list[tuple[Any, str]] = [
        (right | {full: "fragmented"}, told.LAWS["fragmented"]),
        (right | {well: "full"}, told.LAWS["full"]),
        (right | {"largest": 9}, told.LAWS["largest"]),
        (right | {"joined": right["joined"] + 1}, told.LAWS["joined"]),
        ({full: "full"}, "the answer has all parts"),
        ("fragmented", "the answer has all parts"),
    ]
    for wrong, law in mistakes:
        result = result_of("buddy.fragmented", wrong, ADA)
        assert result.verdict is not None
        assert result.verdict.law == law
        assert result.points < task.points
