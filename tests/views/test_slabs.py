"""Slabs side by side: the picture and the text say the same."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from kmemlab.machine.slab_trace import play_on_both
from kmemlab.views.slabs import LOOKS, side_by_side, side_by_side_text

SLUB, SLAB = play_on_both("tiny-128m")


def test_the_picture_is_the_same_each_time_and_can_be_read() -> None:
    figure = side_by_side(SLUB, SLAB)
    assert figure.svg() == side_by_side(*play_on_both("tiny-128m")).svg()
    root = ElementTree.fromstring(figure.svg())
    assert root.get("role") == "img"
    assert figure.png().startswith(b"\x89PNG")


def test_each_object_is_a_box_that_says_what_it_is() -> None:
    svg = side_by_side(SLUB, SLAB).svg()
    for letter, (_, _, words) in LOOKS.items():
        drawn = svg.count(f": {words}</title>")
        assert drawn == sum(cache.count(letter) for shot in (SLUB, SLAB) for cache in shot.caches)
    assert svg.count("<title>slab at pfn ") == sum(len(cache.slabs) for shot in (SLUB, SLAB) for cache in shot.caches)


def test_the_text_says_the_same() -> None:
    text = side_by_side_text(SLUB, SLAB)
    assert text == side_by_side(SLUB, SLAB).text()
    assert "task: 1504 bytes, 21 in 8 pages" in text
    assert "task: 1504 bytes, 5 in 2 pages" in text
    for shot in (SLUB, SLAB):
        for cache in shot.caches:
            for slab in cache.slabs:
                assert f"pfn {slab.pfn:<7} from byte {slab.start:<4} {slab.objects}" in text
        assert shot.slabinfo.rstrip() in text


def test_nothing_is_drawn_outside() -> None:
    figure = side_by_side(SLUB, SLAB)
    root = ElementTree.fromstring(figure.svg())
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        if box.get("x"):
            assert 0 <= float(box.get("x", 0)) <= float(box.get("x", 0)) + float(box.get("width", 0)) <= width + 0.2
            assert 0 <= float(box.get("y", 0)) <= float(box.get("y", 0)) + float(box.get("height", 0)) <= height


def test_many_slabs_are_counted_not_drawn() -> None:
    svg = side_by_side(*play_on_both("tiny-128m", "create big 4000\nalloc big 40")).svg()
    assert "more slabs" in svg


def test_who_can_not_see_hears_it() -> None:
    alt = side_by_side(SLUB, SLAB).alt
    assert alt.startswith("SLUB took ")
    assert "task has 4 slabs with 10 objects held" in alt
