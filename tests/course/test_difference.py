"""The first difference in the player: an answer that is wrong in one known place is caught in just that place.

Each answer here is the kernel's own function, but for one input: the call with that input is what a player must open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from kmemlab.alloc.slab_geometry import calculate_order
from kmemlab.boot.e820 import e820__update_table
from kmemlab.boot.memblock_add import memblock_add_range
from kmemlab.boot.memblock_free import memblock_find_in_range_node
from kmemlab.course.desk import CheckFailed, check, difference, start
from kmemlab.mm.buddy import expand, find_buddy_pfn, free_one_page
from kmemlab.mm.lru import folio_mark_accessed
from kmemlab.mm.zone_watermark_ok import zone_watermark_ok_inner
from kmemlab.reclaim.kswapd import balance_by_priority
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.views.player import Player
from tests.course.test_zones_tasks import best, span

pytestmark = pytest.mark.usefixtures("as_ada")


@pytest.fixture
def as_ada() -> None:
    start(student="ada")


def opened(name: str, answer: Callable[..., Any]) -> tuple[Player, str, str]:
    """The player, what it says at the step at which it opens, and the call tree there."""
    player = difference(name, answer)
    assert player is not None
    step = player.steps[player.opened]
    assert player.text() == player.text(player.opened), "the still picture is that of the step at which it opens"
    assert "first difference" in step.said
    return player, step.said, "\n".join(step.stack)


# -- an answer that does nothing wrong but in one place ----------------------------------------------------------------


def halves(zone: Any, pfn: int, low: int, high: int, migratetype: int) -> None:
    expand.original(zone, pfn, 1 if (low, high) == (0, 3) else low, high, migratetype)


def buddy_at(pfn: int, order: int) -> int:
    return pfn ^ (1 << order + (order == 4))


def joins(zone: Any, pfn: int, order: int, migratetype: int, fpi_flags: int = 0) -> None:
    if order == 5:
        zone.vm_stat[0] += 1
    free_one_page.original(zone, pfn, order, migratetype, fpi_flags)


def watermark(zone: Any, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, free_pages: int) -> bool:
    right: bool = zone_watermark_ok_inner.original(zone, order, mark, highest_zoneidx, alloc_flags, free_pages)
    return right and order != 5


def test_a_half_that_is_not_given_back() -> None:
    player, said, tree = opened("buddy.expand", halves)
    assert "order 3 → 0" in tree
    # Of 8 pages 4 and 2 went back; the last split is missing.
    assert said.startswith("The first difference: yours does nothing more. The kernel's own: `expand` gives the upper")
    assert "order 0, goes to the front" in said
    assert "expand: your halves" in player.text()
    assert "start_kernel" in player.title or "alloc_pages" in player.title


def test_a_buddy_of_the_wrong_order_is_seen_in_what_joins() -> None:
    _, said, tree = opened("buddy.find", buddy_at)
    assert "__free_one_page" in tree
    # Whether a block goes to the end of its list depends on the buddy of what it would grow to: of order 4, here.
    assert "order 3, at the front of its list. The kernel's own: " in said
    assert said.endswith("order 3, at the end of its list.")


def test_a_counter_that_is_one_too_high() -> None:
    player, said, tree = opened("buddy.free", joins)
    assert "order 5" in tree
    counts = [int(word) for word in said.replace(",", "").split() if word.isdigit()]
    assert len(counts) >= 1
    rows = player.steps[player.opened].changed
    yours, own = (int(row.split()[-1]) for row in rows[1:3])
    assert rows[0] == "free pages"
    assert yours == own + 1


def test_a_watermark_that_never_gives_large_blocks() -> None:
    _, said, tree = opened("buddy.watermark", watermark)
    assert "order 5" in tree
    told = said.split("The kernel's own: ")
    assert "False" in told[0]
    assert "True" in told[1]


def test_an_e820_table_whose_last_entry_is_lost() -> None:
    def loses(table: Any) -> int:
        result: int = e820__update_table.original(table)
        table.write([(entry.addr, entry.size, entry.type) for entry in table.entries()[:-1]])
        return result

    player, said, tree = opened("e820.update_table", loses)
    assert "e820__update_table" in tree
    assert player.stage == "e820"
    assert any("nr_entries" in row for row in player.steps[player.opened].changed), said


def test_a_region_that_is_added_too_short() -> None:
    def short(memblock: Any, type: Any, base: int, size: int, nid: int, flags: int) -> None:
        memblock_add_range.original(memblock, type, base, size - (4096 if size > 1 << 24 else 0), nid, flags)

    player, _, _ = opened("memblock.add_range", short)
    rows = player.steps[player.opened].changed
    assert any("yours" in row for row in rows)
    assert player.stage == "memblock"


def test_a_place_that_is_too_low() -> None:
    def low(memblock: Any, size: int, align: int, start: int, end: int, nid: int = -1) -> int:
        place: int = memblock_find_in_range_node.original(memblock, size, align, start, end, nid)
        return place - 4096 if place and size == 4096 else place

    _, said, _ = opened("memblock.find_top_down", low)
    yours, own = (int(part.split("is at 0x")[1].rstrip(". ").split(".")[0], 16) for part in said.split("own: "))
    assert own - yours == 4096


def test_a_zone_that_is_measured_without_its_holes() -> None:
    player, _, tree = opened("zones.spans", lambda *args: span(*args, wrong="holes"))
    assert "calculate_node_totalpages" in tree
    rows = "\n".join(player.steps[player.opened].changed)
    assert "zone DMA" in rows
    assert rows.count("spanned") >= 2


def test_a_node_that_comes_too_early() -> None:
    player, _, tree = opened("zones.zonelist", lambda *args: best(*args, wrong="farthest"))
    assert "find_next_best_node" in tree
    returns, yours, own = player.steps[player.opened].changed[:3]
    assert returns == "returns"
    assert yours.split()[-1] != own.split()[-1]


def test_an_order_that_is_one_too_low() -> None:
    def low(params: Any, size: int) -> int | None:
        right: int | None = calculate_order.original(params, size)
        return right - 1 if size == 1024 and right else right

    _, said, tree = opened("slab.order", low)
    assert "size 1024" in tree
    (yours, own) = (int(part.split("returns ")[1].split(".")[0]) for part in said.split("The kernel's own"))
    assert own == yours + 1


def test_an_area_that_lies_a_page_too_high() -> None:
    def high(busy: list[tuple[int, int]], size: int, align: int, vstart: int, vend: int) -> int | None:
        places = [vstart, *(math.ceil(end / align) * align for _, end in busy if end >= vstart)]
        free = [at for at in places if at + size <= vend and all(at + size <= low or top <= at for low, top in busy)]
        # Two areas of 4 pages and their guards before it, and one that is larger: then it is wrong.
        return min(free) + (4096 if size == 18 * 4096 else 0) if free else None

    _, said, tree = opened("vmalloc.hole", high)
    assert f"size {18 * 4096}" in tree
    assert "came of your answer" in said


def test_an_access_that_never_makes_a_page_active() -> None:
    def forgets(mm: Any, pfn: int) -> None:
        if not mm.page.flags[pfn] >> 2 & 1:  # PG_referenced is not set yet
            folio_mark_accessed.original(mm, pfn)

    player, said, tree = opened("kswapd.accessed", forgets)
    assert "folio_mark_accessed" in tree
    assert "yours does nothing more" in said
    assert len(player) == 1


def test_a_priority_that_stays() -> None:
    def stays(mm: Any, pgdat: Any, sc: Any, nr_boost_reclaim: int) -> bool:
        sc.priority -= 3
        result: bool = balance_by_priority.original(mm, pgdat, sc, nr_boost_reclaim)
        return result

    player, _, tree = opened("kswapd.balance", stays)
    assert "balance_pgdat" in tree
    assert player.stage == "kswapd"


# -- what can't be shown -----------------------------------------------------------------------------------------------


def test_a_right_answer_has_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert difference("buddy.expand", lambda zone, pfn, low, high, migratetype: expand.original(
        zone, pfn, low, high, migratetype)) is None  # fmt: skip
    assert "does the same" in capsys.readouterr().out


def test_an_answer_that_never_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(pfn: int, order: int) -> int:
        while True:
            pass

    monkeypatch.setattr("kmemlab.course.desk.MOST_SECONDS", 1.0)
    with pytest.raises(BadRequest, match="still running"):
        difference("buddy.find", forever)
    assert find_buddy_pfn(8, 2) == 12, "the kernel's own is back in its place"


def test_a_task_without_a_machine_and_an_unsolved_one_are_told() -> None:
    with pytest.raises(BadRequest, match="no case with a machine"):
        difference("buddy.predict", {"pfns": []})
    with pytest.raises(BadRequest, match="not solved yet"):
        difference("buddy.expand", ...)
    with pytest.raises(KmemlabError, match="there is no task"):
        difference("buddy.expnad", halves)


@pytest.mark.parametrize(
    ("name", "answer", "told"),
    [
        ("buddy.find", 5, "a function written with def is asked for, not the int 5"),
        ("buddy.find", None, "is asked for, not None"),
        ("buddy.find", max, "is asked for, not an object of type builtin_function_or_method"),
        ("zones.spans", range, "is asked for, not an object of type type"),
        ("buddy.expand", expand, "expand is the kernel's own"),
        ("buddy.find", lambda pfn: pfn, "can't stand in for find_buddy_pfn"),
    ],
)
def test_what_cannot_run_in_a_machine_is_told(name: str, answer: Any, told: str) -> None:
    with pytest.raises(KmemlabError, match=told):
        difference(name, answer)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_answer_that_wants_to_end_everything_only_differs(error: type[BaseException]) -> None:
    def ends(pfn: int, order: int) -> int:
        raise error

    assert difference("buddy.find", ends) is not None


def test_the_kernel_s_own_function_spoils_no_later_answer(capsys: pytest.CaptureFixture[str]) -> None:
    for ask in (check, difference):
        with pytest.raises(KmemlabError):
            ask("buddy.expand", expand)
    assert difference("buddy.expand", lambda zone, pfn, low, high, migratetype: expand.original(
        zone, pfn, low, high, migratetype)) is None  # fmt: skip


def test_the_box_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckFailed):
        check("buddy.expand", lambda zone, pfn, low, high, migratetype: None)
    assert 'difference("buddy.expand", …)' in capsys.readouterr().out


def test_steps_of_one_call_lie_within_it() -> None:
    player, _, _ = opened("buddy.expand", halves)
    assert all(len(a.stack) >= 2 for a in player.steps)
    assert all("expand" in step.stack[1] for step in player.steps)
    assert [a.said != b.said for a, b in pairwise(player.steps)] == [True] * (len(player) - 1)
