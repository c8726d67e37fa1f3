"""Knobs: the live figure is the one that the function draws for the values set, and errors are seen."""

from __future__ import annotations

import pytest

from kmemlab.course.knobs import Knobs, choice, slider
from kmemlab.machine.snapshot import ranges_snapshot
from kmemlab.types.errors import BadRequest
from kmemlab.views.figure import Figure
from kmemlab.views.memory_map import memory_map_figure


def draw(pages: int, type: int) -> Figure:
    if pages == 8:
        raise BadRequest("eight is too many", where="draw", remedy="take seven")
    return memory_map_figure(ranges_snapshot([(0, pages << 12, type)]))


@pytest.fixture
def knobs() -> Knobs:
    return Knobs(
        draw,
        pages=slider("pages", range(1, 9), 2, lambda pages: f"{pages} pages"),
        type=choice("type", {"usable": 1, "reserved": 2}, 1),
    )


def test_text_and_figure_follow_the_values(knobs: Knobs) -> None:
    assert knobs.text().startswith("pages: 2 pages\ntype: usable\n")
    assert "reserved  12 KiB" in knobs.text(pages=3, type=2)
    assert knobs.figure(pages=3).svg() == draw(3, 1).svg()
    bundle, _ = knobs._repr_mimebundle_()
    assert bundle["image/svg+xml"] == draw(2, 1).svg()
    assert bundle["text/plain"] == knobs.text()


def test_turning_a_live_knob_redraws_and_an_error_is_seen(knobs: Knobs) -> None:
    pytest.importorskip("ipywidgets")
    pages, type, picture = knobs.widget().children
    assert draw(2, 1).svg() in picture.value
    pages.value = 5
    assert draw(5, 1).svg() in picture.value
    type.value = 2
    assert draw(5, 2).svg() in picture.value
    pages.value = 8
    assert "eight is too many" in picture.value
    pages.value = 1
    assert draw(1, 2).svg() in picture.value


def test_a_wrong_knob_or_start_is_told(knobs: Knobs) -> None:
    with pytest.raises(BadRequest, match="no knob 'frames'"):
        knobs.text(frames=3)
    with pytest.raises(BadRequest, match="9 is none of its values"):
        slider("pages", range(4), 9)
