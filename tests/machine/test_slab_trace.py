"""One trace on both allocators: what is told of them is what they are."""

from __future__ import annotations

import pytest

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.machine.machine import Machine
from kmemlab.machine.slab_snapshot import FREE, HELD, ON_CPU, SHARED, CacheShot
from kmemlab.machine.slab_trace import EXAMPLE, AllocatorShot, parse_slab_trace, play_on_both, play_slab_trace
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.mm.globals import Mm
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest
from tests.machine.cells import cells_of


def of(shot: AllocatorShot, name: str) -> CacheShot:
    return next(cache for cache in shot.caches if cache.name == name)


def test_both_hold_the_same_objects_in_other_slabs() -> None:
    slub, slab = play_on_both("tiny-128m")
    for shot in (slub, slab):
        assert [cache.name for cache in shot.caches] == ["task", "kmalloc-32", "kmalloc-256"]
        assert of(shot, "task").count(HELD) == 10
        assert of(shot, "kmalloc-256").count(HELD) >= 5  # boot holds some, too
        assert shot.failed == ()
        assert shot.pages == sum(cache.pages for cache in shot.caches)
    # By hand: 21 of 1504 bytes in 8 pages, or 5 in 2.
    assert (of(slub, "task").num, of(slub, "task").order, len(of(slub, "task").slabs)) == (21, 3, 1)
    assert (of(slab, "task").num, of(slab, "task").order, len(of(slab, "task").slabs)) == (5, 1, 4)
    assert (of(slub, "task").waste, of(slab, "task").waste) == (32768 - 21 * 1504, 4 * (8192 - 5 * 1504))
    assert sorted(shot.start for shot in of(slab, "task").slabs) == [64, 128, 192, 256]
    assert {shot.start for shot in of(slub, "task").slabs} == {0}


@pytest.mark.parametrize("name", ["SLUB", "SLAB"])
def test_the_letters_agree_with_slabinfo(name: str) -> None:
    machine = Machine.boot("laptop-8g", slab=name)
    shot = play_slab_trace(machine, EXAMPLE.replace("wait 8\n", "cpu 1\nalloc task 3\n"))
    rows = {line.split()[0]: line.split() for line in slabinfo(machine.kernel).splitlines()[2:]}
    for cache in shot.caches:
        active, total = int(rows[cache.name][1]), int(rows[cache.name][2])
        assert total == sum(len(slab.objects) for slab in cache.slabs)
        assert active == total - cache.count(FREE)
        held = next(found for found in machine.kernel.slab.existing() if found.name == cache.name).nr_held
        assert held == cache.count(HELD)
        assert rows[cache.name][3:6] == [str(cache.size), str(cache.num), str(1 << cache.order)]


def test_shared_arrays_have_a_letter_of_their_own() -> None:
    machine = Machine.boot("laptop-8g", slab="SLAB")
    shot = play_slab_trace(machine, "create a 128 reclaim\nalloc a 300\nfree a")
    assert of(shot, "a").count(SHARED) >= 60
    assert of(shot, "a").count(ON_CPU) <= 120


def test_lines_of_a_trace() -> None:
    machine = Machine.boot("tiny-128m", slab="SLAB")
    shot = play_slab_trace(
        machine,
        """
        create a 200 hwcache   # on cache lines
        create b 48 align=32
        alloc a 6
        free a:1-5/2 a:0
        shrink a
        destroy b
        """,
    )
    assert [cache.name for cache in shot.caches] == ["a"]
    assert (of(shot, "a").size, of(shot, "a").count(HELD)) == (256, 2)
    assert shot.slabinfo.splitlines()[1].startswith("a ")


@pytest.mark.parametrize(
    ("trace", "why"),
    [
        ("take a 3", "line 1 of the trace can't be read: take a 3"),
        ("\nalloc a", "line 2 of the trace can't be read"),
        ("create a x", "a number is wanted"),
        ("create a 64\nfree a:0", "nothing is called a:0"),
        ("create a 64 odd", "nothing is called odd"),
        ("create a 64\nalloc a 1\nfree a\nfree a:0", "line 4 of the trace can't be played"),
        ("kmalloc 64 1 to x", "nothing is called to"),
        ("cpu 5", "CPU 5 does not run"),
        ("alloc nobody 1", "no cache 'nobody'"),
    ],
)
def test_a_trace_that_can_not_be_played_is_told_by_line(trace: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        play_slab_trace(Machine.boot("tiny-128m", slab="SLAB"), trace)


def test_a_request_without_memory_is_noted() -> None:
    def no_pages(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
        return None

    machine = Machine.boot("tiny-128m", slab="SLAB")
    with livepatch(alloc_pages_inner, no_pages):
        shot = play_slab_trace(machine, "kmalloc 8000 1 as big")
    assert shot.failed == ("kmalloc 8000 1 as big",)


def test_comments_and_empty_lines_are_passed_over() -> None:
    assert [event.line for event in parse_slab_trace("\n# nothing\ncreate a 64\n\ncpu 0")] == [3, 5]


def test_rewinding_and_going_on_comes_to_the_same_end() -> None:
    straight = Machine.boot("tiny-128m", slab="SLAB")
    before = len(straight.commands)
    play_slab_trace(straight, EXAMPLE)
    machine = Machine.boot("tiny-128m", slab="SLAB")
    timeline = machine.record()
    play_slab_trace(machine, EXAMPLE)
    for back in (len(timeline.commands) - 3, 90, 41, 0):
        timeline.rewind(back)
        machine.check()
        for command in straight.commands[before + back :]:
            machine._command(command.name, *command.args)
        assert slabinfo(machine.kernel) == slabinfo(straight.kernel)
        assert cells_of(machine.kernel.slab) == cells_of(straight.kernel.slab)
    machine.check()


def test_a_copy_goes_its_own_way() -> None:
    machine = Machine.boot("tiny-128m", slab="SLAB")
    twin = machine.fork()
    play_slab_trace(twin, EXAMPLE)
    twin.check()
    machine.check()
    assert slabinfo(machine.kernel) != slabinfo(twin.kernel)
    play_slab_trace(machine, EXAMPLE)
    assert slabinfo(machine.kernel) == slabinfo(twin.kernel)
