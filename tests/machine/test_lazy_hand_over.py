"""Lazy hand-over gives the same pages in the same order as threading every block."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from kmemlab.machine.deferred_init import hand_over_run
from kmemlab.machine.machine import Machine
from kmemlab.machine.snapshot import frame_map, zone_snapshot
from kmemlab.mm.check_zone import BrokenLaw, check_zone
from kmemlab.mm.globals import Mm
from kmemlab.mm.zone import TOP_ORDER, Zone
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import DoubleFree, OutOfMemory
from kmemlab.types.gfp import GFP_DMA, GFP_HIGHUSER_MOVABLE, GFP_KERNEL

SPEC = "laptop-8g"


def never(mm: Mm, zone: Zone, pfn: int, end_pfn: int) -> bool:
    """Every block is threaded, as in Linux."""
    return False


def both() -> tuple[Machine, Machine]:
    lazy = Machine.boot(SPEC)
    with livepatch(hand_over_run, never):
        eager = Machine.boot(SPEC)
    return lazy, eager


def load(machine: Machine, seed: int, steps: int) -> list[int]:
    """What a seeded mix of requests gets; large ones, so that whole runs are used up."""
    rng, held, got = random.Random(seed), [], []
    for _ in range(steps):
        if held and rng.random() < 0.3:
            machine.free_pages(*held.pop(rng.randrange(len(held))))
            continue
        gfp = rng.choice((GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_KERNEL | GFP_DMA))
        order = rng.choice((0, 1, 4, 9, 10, 10, 10))
        try:
            held.append((machine.alloc_pages(gfp, order), order))
        except OutOfMemory:
            got.append(-1)
        else:
            got.append(held[-1][0])
    return got


def test_runs_are_used_at_all() -> None:
    lazy, eager = both()
    assert any(zone.runs.count for zone in lazy.zones)
    assert not any(zone.runs.count for zone in eager.zones)


def test_the_free_lists_look_the_same() -> None:
    lazy, eager = both()
    for mine, theirs in zip(lazy.zones, eager.zones, strict=True):
        assert zone_snapshot(mine) == zone_snapshot(theirs)
        start = max(mine.zone_start_pfn, mine.runs.start[0] - 512)
        assert frame_map(mine, start, 8192) == frame_map(theirs, start, 8192)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_requests_get_the_same_pages_to_the_very_last(seed: int) -> None:
    lazy, eager = both()
    got = load(lazy, seed, 4_500)
    assert got == load(eager, seed, 4_500)
    assert -1 in got, "memory was used up, and every run with it"
    lazy.check()
    for mine, theirs in zip(lazy.zones, eager.zones, strict=True):
        assert zone_snapshot(mine) == zone_snapshot(theirs)


def test_a_page_within_a_run_is_free_and_says_so() -> None:
    machine = Machine.boot(SPEC)
    zone = next(zone for zone in machine.zones if zone.runs.count)
    inside = zone.runs.start[0] + 3 * 1024 + 7
    with pytest.raises(DoubleFree, match=f"the free block at pfn {inside & -1024}, order {TOP_ORDER}"):
        machine.free_pages(inside, 0)


def test_a_run_rewinds() -> None:
    machine = Machine.boot(SPEC)
    before = [zone_snapshot(zone) for zone in machine.zones]
    machine.record()
    for _ in range(20):
        machine.alloc_pages(GFP_HIGHUSER_MOVABLE, 10)
    machine.timeline.rewind(0)
    assert [zone_snapshot(zone) for zone in machine.zones] == before
    machine.check()
    machine.stop_recording()


def longer(zone: Zone) -> None:
    zone.runs.end[0] += 1024


def ragged(zone: Zone) -> None:
    zone.runs.end[0] -= 7


def beyond_the_zone(zone: Zone) -> None:
    zone.runs.end[0] = zone.zone_start_pfn + zone.spanned_pages + 1024 & -1024


def begins_elsewhere(zone: Zone) -> None:
    zone.runs.start[0] -= 1024


def not_counted(zone: Zone) -> None:
    zone.nr_free[TOP_ORDER] -= 1


def marked_behind_it(zone: Zone) -> None:
    zone.page.buddy[zone.zone_start_pfn + 3] = 1


@pytest.mark.parametrize(
    "defect",
    [longer, ragged, beyond_the_zone, begins_elsewhere, not_counted, marked_behind_it],
    ids=lambda f: f.__name__,
)
def test_the_laws_of_a_run_catch(defect: Callable[[Zone], None]) -> None:
    machine = Machine.boot(SPEC)
    zone = next(zone for zone in machine.zones if zone.runs.count)
    check_zone(zone)
    defect(zone)
    with pytest.raises(BrokenLaw):
        check_zone(zone)
