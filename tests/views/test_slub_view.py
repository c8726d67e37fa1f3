"""Objects within slabs, and the freelist through them: what is drawn is what the machine will hand out."""

from __future__ import annotations

import pytest

from kmemlab import Machine
from kmemlab.alloc.slab_pages import slab_address
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.machine.slab_snapshot import find_cache
from kmemlab.machine.slub_snapshot import SlubShot, slub_shot
from kmemlab.types.errors import BadRequest
from kmemlab.views.panel_slub import SlubPanel
from kmemlab.views.player import Player
from kmemlab.views.slub_view import slub_figure


def machine_with(size: int = 500) -> Machine:
    machine = Machine.boot("tiny-128m")
    machine.kmem_cache_create("note", size)
    return machine


def cache_of(machine: Machine) -> SlubCache:
    cache = find_cache(machine.kernel.slab, "note")
    assert isinstance(cache, SlubCache)
    return cache


def shot_of(machine: Machine) -> SlubShot:
    return slub_shot(cache_of(machine))


def place(machine: Machine, address: int) -> tuple[int, int]:
    """The slab and the number of an object, by arithmetic alone."""
    cache = cache_of(machine)
    pfn = (address - slab_address(cache.pages, 0)) >> 12
    return pfn, (address & 4095) // 504


def test_the_freelist_that_is_shown_is_the_order_in_which_objects_are_handed_out() -> None:
    machine = machine_with()
    first = place(machine, machine.kmem_cache_alloc("note"))
    (slab,) = shot_of(machine).slabs
    assert (slab.pfn, slab.keeper, slab.held, slab.objects) == (first[0], "CPU 0", 1, 8)
    taken = [place(machine, machine.kmem_cache_alloc("note"))[1] for _ in slab.cpu_freelist]
    assert taken == list(slab.cpu_freelist)
    assert sorted([first[1], *taken]) == list(range(8))


def test_a_full_slab_is_on_no_list_and_comes_back_with_its_first_free_object() -> None:
    machine = machine_with()
    held = [machine.kmem_cache_alloc("note") for _ in range(9)]
    full = next(slab for slab in shot_of(machine).slabs if slab.held == 8)
    assert full.keeper == "on no list"
    machine.kmem_cache_free("note", held[2])
    back = next(slab for slab in shot_of(machine).slabs if slab.pfn == full.pfn)
    assert (back.keeper, back.freelist) == ("CPU 0, partial", (place(machine, held[2])[1],))


def test_a_freelist_that_was_overwritten_is_shown_as_far_as_it_makes_sense() -> None:
    machine = machine_with()
    held = [machine.kmem_cache_alloc("note") for _ in range(3)]
    machine.kmem_cache_free("note", held[1])
    machine.write(held[1] + cache_of(machine).offset, b"somebody")
    (slab,) = shot_of(machine).slabs
    assert slab.cpu_freelist == (place(machine, held[1])[1],)


def test_the_figure_says_the_same_in_words() -> None:
    machine = machine_with()
    machine.kmem_cache_alloc("note")
    (slab,) = shot_of(machine).slabs
    figure = slub_figure(shot_of(machine))
    chain = " > ".join(map(str, slab.cpu_freelist))
    assert chain in figure.alt
    assert chain in figure.text()
    assert figure.svg().count("object ") == 8 + figure.svg().count("begins with object ")


def test_the_player_tells_each_change_of_the_freelist() -> None:
    machine = machine_with()
    machine.record(lines=True)
    held = [machine.kmem_cache_alloc("note") for _ in range(2)]
    machine.kmem_cache_free("note", held[0])
    player = Player(
        machine.timeline,
        SlubPanel(machine.kernel, "note"),
        within=("slab_alloc_node", "do_slab_free"),
        folded=("new_slab", "get_partial_node", "get_any_partial"),
    )
    machine.stop_recording()
    said = [step.said for step in player.steps]
    pfn, number = place(machine, held[0])
    assert any(f"gives CPU 0 the slab at pfn {pfn}" in text for text in said)
    assert f"`do_slab_free` sets CPU 0's freelist: {number} > " in said[-2]
    assert player.steps[-1].sight.proc.split() == ["note", "8", "8", "504", "8", "1"]


def test_slab_has_no_such_panel() -> None:
    machine = Machine.boot("tiny-128m", slab="SLAB")
    machine.kmem_cache_create("note", 500)
    with pytest.raises(BadRequest, match="SLUB has no cache"):
        SlubPanel(machine.kernel, "note")
