"""Stepping, and the call tree, against a run small enough to tell by hand.

One block of order 10; a page is taken: 10 splits, the halves of order 9 … 0 go to their lists.
"""

from __future__ import annotations

import pytest

from .bare import Bench


@pytest.fixture
def bench():
    bench = Bench(blocks=1)
    bench.do("take", 0)
    bench.do("give", 0, 0)
    bench.timeline.rewind(0)
    yield bench
    bench.close()


def standing(bench: Bench) -> list[str]:
    return [call.name for call in bench.timeline.stack()]


def test_step_enters_each_function_in_the_order_of_the_algorithm(bench: Bench) -> None:
    entered = []
    while bench.timeline.step() and bench.timeline.stack():
        entered.append(standing(bench)[-1])
    assert entered == ["__rmqueue_smallest", "del_page_from_free_list", "expand", *["add_to_free_list"] * 10]
    assert bench.timeline.place() == (1, 0)


def test_back_visits_the_same_places_in_reverse(bench: Bench) -> None:
    forward = [bench.timeline.place()]
    while bench.timeline.step():
        forward.append(bench.timeline.place())
    backward = [bench.timeline.place()]
    while bench.timeline.back():
        backward.append(bench.timeline.place())
    assert backward == forward[::-1]


def test_over_skips_what_a_function_calls(bench: Bench) -> None:
    timeline = bench.timeline
    for _ in range(3):
        timeline.step()
    assert standing(bench) == ["__rmqueue_smallest", "expand"]
    timeline.over()
    assert timeline.place() == (1, 0)


def test_out_returns_to_the_caller(bench: Bench) -> None:
    timeline = bench.timeline
    timeline.run_until("add_to_free_list")
    timeline.out()
    assert standing(bench) == ["__rmqueue_smallest", "expand"]
    timeline.out()
    assert standing(bench) == ["__rmqueue_smallest"]


@pytest.mark.parametrize("name", ["__free_one_page", "free_one_page", "kmemlab.mm.buddy.free_one_page"])
def test_run_until_takes_c_and_python_names(bench: Bench, name: str) -> None:
    assert bench.timeline.run_until(name)
    assert standing(bench) == ["__free_one_page"]
    assert bench.timeline.place()[0] == 1


def test_run_until_a_function_that_never_runs_stays(bench: Bench) -> None:
    assert not bench.timeline.run_until("zone_init_free_lists")
    assert bench.timeline.place() == (0, 0)


def test_by_command(bench: Bench) -> None:
    timeline = bench.timeline
    assert timeline.next_command()
    assert timeline.place() == (1, 0)
    timeline.step()
    assert timeline.previous_command()
    assert timeline.place() == (1, 0)
    assert timeline.previous_command()
    assert not timeline.previous_command()
    timeline.to_end()
    assert not timeline.next_command()
    assert not timeline.step()


def test_call_tree_is_the_run(bench: Bench) -> None:
    tree = bench.timeline.call_tree(0).splitlines()
    assert tree[0] == "take(0)"
    assert tree[1] == " └ __rmqueue_smallest(zone=Zone Normal, order=0, migratetype=1) → 0"
    assert tree[2] == "    └ del_page_from_free_list(zone=Zone Normal, pfn=0, order=10)"
    assert tree[3] == "    └ expand(zone=Zone Normal, pfn=0, low=0, high=10, migratetype=1)"
    assert tree[4] == "       └ add_to_free_list(zone=Zone Normal, pfn=512, order=9, migratetype=1)"
    assert len(tree) == 14


def test_writes_tell_old_and_new(bench: Bench) -> None:
    first = bench.timeline.write()
    assert (first.column, first.index, first.old, first.new) == (
        "ListHead.next",
        bench.zone.free_list[10][1],
        0,
        bench.zone.free_list[10][1],
    )
    everything = bench.timeline.writes(0)
    counts = [(w.old, w.new) for w in everything if w.column == "Zone Normal.nr_free" and w.index == 10]
    assert counts == [(1, 0)]
