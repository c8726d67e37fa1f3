"""Answers that hold on small cases and are wrong in a machine: the check catches them, and the player opens there.

Each answer is a right one, but for inputs that only the machine has.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from kmemlab.course.answer import Answer
from kmemlab.course.desk import difference, start
from kmemlab.course.inside import GOES_ON, Inside, steps_alike, survives
from kmemlab.course.sparse_machine import SparseMachine, sections_of, struct_pages
from kmemlab.course.task import Case
from kmemlab.course.tasks import load_all
from kmemlab.course.tasks.zones_models import SECTIONS_PGSHIFT, every_page
from kmemlab.mm.extfrag import fragmentation_index
from kmemlab.reclaim.scan_count import fractions
from kmemlab.sim.livepatch import livepatch
from tests.course.judged import ADA, wrong
from tests.course.test_buddy_zone_tasks import indices
from tests.course.test_page_tables_tasks import walking
from tests.course.test_slab_tasks import index_with, walk_with
from tests.course.test_zones_tasks import to_page, to_pfn

FAR = 40  # a section that no small case has


def cases_of(name: str) -> list[Case]:
    """The public cases of a task, small to large."""
    task = load_all().find(name)
    cases = task.cases(task.given(ADA.rng(f"{name}/given")), ADA.rng(f"{name}/public"))
    return sorted(cases, key=lambda case: case.size)


def machine_of(name: str) -> Inside:
    """The machine of the last case."""
    inside = load_all().find(name).inside(cases_of(name)[-1])
    assert inside
    return inside


def to_page_wrong_far_up(pfn: int, sections: Any, pages: int, size: int) -> Any:
    page = to_page(pfn, sections, pages, size)
    return page + size if page and pfn // pages >= FAR else page


def to_pfn_wrong_far_up(page: int, flags: int, sections: Any, pages: int, size: int) -> Any:
    return to_pfn(page, flags, sections, pages, size) + (flags >> SECTIONS_PGSHIFT >= FAR)


def walk_wrong_far_up(read: Any, cr3: int, address: int, write: bool, user: bool) -> tuple[str, int]:
    kind, number = walking()(read, cr3, address, write, user)
    far = address >> 46 == 1  # the upper quarter of a program's addresses, where mmap begins
    return kind, number ^ 0x1000 if far and kind == "page" and address >> 12 & 3 == 1 else number


def walk_that_writes_where_it_may_not(read: Any, cr3: int, address: int, write: bool, user: bool) -> tuple[str, int]:
    return walking()(read, cr3, address, write and address >> 46 != 1, user)


def index_wrong_between(size: int) -> int | None:
    right: int | None = index_with()(size)
    small = {case.value for case in cases_of("slab.kmalloc_index")}
    return 8 if right == 7 and size not in small else right


def freelist_that_loses_its_end(read: Any, first: int, offset: int, random: int) -> Any:
    objects, circle = walk_with()(read, first, offset, random)
    return (objects[:-1] if offset not in (0, 32) else objects), circle


def indices_wrong_of_many_blocks(nr_free: list[int], order: int) -> tuple[int, int]:
    unusable, index = indices()(nr_free, order)
    return unusable, (100 if order == 7 and index > 0 and sum(nr_free) > 100 and not any(nr_free[8:]) else index)


CASES: list[tuple[str, Any, str]] = [
    ("zones.pfn_to_page", to_page_wrong_far_up, "__pfn_to_page   pfn 0x14"),
    ("zones.page_to_pfn", to_pfn_wrong_far_up, "__page_to_pfn   page 0x"),
    ("page_tables.walk", walk_wrong_far_up, "user_access"),
    ("slab.kmalloc_index", index_wrong_between, "__do_kmalloc_node"),
    ("slab.walk", freelist_that_loses_its_end, "on_freelist"),
    ("buddy.index", indices_wrong_of_many_blocks, "compaction_suitable"),
]


RIGHT: dict[str, Any] = {
    "zones.pfn_to_page": to_page,
    "zones.page_to_pfn": to_pfn,
    "page_tables.walk": walking(),
    "slab.kmalloc_index": index_with(),
    "slab.walk": walk_with(),
    "buddy.index": indices(),
}


@pytest.fixture(autouse=True)
def as_ada() -> None:
    start(student="ada")


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_leaves_the_whole_machine_as_it_is_without(name: str) -> None:
    inside = machine_of(name)
    assert inside.comparable
    assert steps_alike(inside, Answer(RIGHT[name])) is None


@pytest.mark.parametrize(("name", "answer", "call"), CASES, ids=[case[0] for case in CASES])
def test_only_the_machine_catches_it_and_the_player_opens_there(name: str, answer: Any, call: str) -> None:
    result = wrong(name, answer)
    assert result.held == result.tried - 1
    assert result.case
    assert "a machine" in result.case.text
    assert 0 < result.points < load_all().find(name).points
    assert "\n" not in (result.verdict.seen if result.verdict else "")
    player = difference(name, answer)
    assert player is not None
    step = player.steps[player.opened]
    assert "first difference" in step.said
    assert call in "\n".join(step.stack)
    rows = step.changed
    assert any(row.startswith("   yours") for row in rows)
    assert f"your {answer.__name__}" in player.text()


def test_a_share_that_is_wrong_under_pressure_is_seen_in_what_is_scanned() -> None:
    def favours_files(swappiness: int, anon_cost: int, file_cost: int) -> tuple[int, int]:
        anon, file = fractions.original(swappiness, anon_cost, file_cost)  # type: ignore[attr-defined]
        return (anon // 4 if anon_cost > 100 else anon), file

    start(student="carol")  # whose machine swaps so much that it costs
    player = difference("kswapd.shares", favours_files)
    assert player is not None
    step = player.steps[player.opened]
    assert "shrink_lruvec" in "\n".join(step.stack)
    assert step.said.startswith("The first difference. `shrink_")
    assert any(row in ("inactive file", "inactive anon") for row in step.changed)


def test_each_implement_task_of_linux_runs_in_a_machine() -> None:
    """But for the variants, whose rules Linux doesn't have, and the warm-up, for which nothing has booted."""
    rules = ("variant", "array_cache", "frame")
    for task in load_all():
        machines = [task.inside(case) for case in cases_of(task.name)] if task.kind == "implement" else []
        assert any(machines) == (task.kind == "implement" and task.name.split(".")[1] not in rules), task.name


# -- what each machine asks of an answer -------------------------------------------------------------------------------


def test_struct_pages_of_the_machine_are_those_of_the_list() -> None:
    machine = SparseMachine("numa-2x4g")
    machine.start_kernel()
    model = machine.model
    sections = sections_of(model)
    assert None in sections
    assert len({(base or 0) - at * model.pages_per_section * model.sizeof_page for at, base in enumerate(sections)}) > 3
    few = [base if at in (3, 33, FAR, FAR + 5) else None for at, base in enumerate(sections)]
    known = every_page(few, model.pages_per_section, model.sizeof_page)
    for pfn in list(known)[::997]:
        assert model.pfn_to_page(pfn) == known[pfn]
        assert model.page_to_pfn(known[pfn]) == pfn
        assert model.page_flags(known[pfn]) >> SECTIONS_PGSHIFT == pfn // model.pages_per_section


def test_requests_come_from_sections_near_and_far() -> None:
    machine = SparseMachine("numa-2x4g")
    machine.start_kernel()
    said = list(struct_pages(machine, 1))
    pages = {int(text.split()[-1], 16) for text in said if "→" in text}
    found = {machine.model.page_flags(page) >> SECTIONS_PGSHIFT for page in pages}
    assert min(found) < 32 < FAR < max(found)
    assert sum(text.startswith("__free_pages") for text in said) > 20
    machine.check()


def test_a_write_where_it_may_not_is_caught_in_a_child() -> None:
    inside = machine_of("page_tables.walk")
    verdict = survives(inside, Answer(walk_that_writes_where_it_may_not))
    assert verdict
    assert verdict.law == GOES_ON


def test_an_access_that_faults_for_ever_is_told() -> None:
    inside = machine_of("page_tables.walk")
    verdict = survives(inside, Answer(lambda read, cr3, address, write, user: ("fault", 6)))
    assert verdict
    assert "again and again" in verdict.seen


@pytest.mark.parametrize(
    ("name", "nonsense"),
    [
        ("zones.pfn_to_page", None), ("zones.page_to_pfn", 1.5), ("page_tables.walk", 7), ("page_tables.walk", (1, 2)),
        ("slab.walk", []), ("slab.kmalloc_index", 14), ("slab.kmalloc_index", None), ("buddy.index", 0),
    ],
)  # fmt: skip
def test_nonsense_ends_a_machine_in_words(name: str, nonsense: Any) -> None:
    inside = machine_of(name)
    verdict = survives(inside, Answer(lambda *_: nonsense))
    assert verdict
    assert verdict.law == GOES_ON
    assert "BadRequest" in verdict.seen


def test_each_kmalloc_goes_by_the_answer() -> None:
    inside = machine_of("slab.kmalloc_index")
    asked: list[int] = []

    def index(size: int) -> int | None:
        asked.append(size)
        found: int | None = index_with()(size)
        return found

    assert survives(inside, Answer(index)) is None
    assert len(asked) > 80
    assert {index_with()(size) for size in asked} > set(range(3, 13))


def test_a_driver_gives_objects_back_twice_and_is_found_out() -> None:
    inside = machine_of("slab.walk")
    said = list(inside.steps(inside.machine()))
    twice = [text for text in said if "a second time" in text]
    assert len(twice) > 5
    assert all(text.endswith("it is free already") for text in twice)


def test_the_index_decides_what_is_compacted() -> None:
    inside = machine_of("buddy.index")
    said = list(inside.steps(inside.machine()))
    asked: list[tuple[int, int]] = []

    def watch(nr_free: Any, order: int) -> int:
        index = fragmentation_index.original(nr_free, order)  # type: ignore[attr-defined]
        asked.append((order, index))
        return int(index)

    with livepatch(fragmentation_index, watch):
        assert list(inside.steps(inside.machine())) == said
    assert len({index for _, index in asked if index > 0}) > 20
    assert any(a != b for a, b in pairwise(said))
