"""Plots of a run: the numbers that are drawn are the series' own, twice the same bytes, and told in words."""

from __future__ import annotations

import re
import sys

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.time_series import TimeSeries
from kmemlab.machine.workload import Run
from kmemlab.machine.workloads import anonymous_growth, random_reads
from kmemlab.types.errors import KmemlabError
from kmemlab.views import pressure
from kmemlab.views.plot import Curve, Panel, plot
from kmemlab.views.pressure import pressure_figure, watch

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def grown() -> TimeSeries:
    return watch(Run(Machine.boot("tiny-128m"), anonymous_growth(seed=1)))


def test_the_figure_says_the_same_in_picture_text_and_words(grown: TimeSeries) -> None:
    figure = pressure_figure(grown)
    svg = figure.svg()
    assert svg == figure.svg(), "the same bytes"
    assert len(svg) < 100_000
    for word in ("free", "high", "low", "min", "taken by kswapd", "refaults", "killed"):
        assert re.search(rf">\s*{word}\s*<", svg), word
    assert figure.text() == grown.table()
    assert f"at least {min(grown.level('free')):,};" in figure.alt
    assert "was killed" in figure.alt
    assert figure.png().startswith(b"\x89PNG")


def test_time_can_be_the_axis(grown: TimeSeries) -> None:
    assert pressure_figure(grown, along="jiffies").svg() != pressure_figure(grown).svg()


def test_a_curve_stands_where_its_numbers_are() -> None:
    svg = plot("t", "x", [Panel("u", [Curve("line", [0, 1, 2], [0, 4, 2])])], "a", "b").svg()
    path = re.search(r'<path d="M ([^"]+)" clip-path[^>]*stroke: #1f5fa8', svg)
    assert path is not None
    (x0, y0), (x1, y1), (x2, y2) = [tuple(map(float, point.split())) for point in path[1].replace("\n", "").split("L")]
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert (y0 - y2) == pytest.approx((y0 - y1) / 2)


def test_a_bar_is_opened_when_it_takes_long_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(pressure, "PATIENCE", -1)
    monkeypatch.setattr(
        pressure,
        "_open_bar",
        lambda title: (lambda done, length: told.append((done, length)), lambda: told.append(title)),
    )
    watch(Run(Machine.boot("tiny-128m"), random_reads(pages=10, reads=40)))
    assert told == [(16, 40), (32, 40), (40, 40), "random_reads"]


def test_without_matplotlib_the_text_is_left(grown: TimeSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    figure = pressure_figure(grown)
    with pytest.raises(KmemlabError, match="matplotlib"):
        figure.svg()
    assert "killed" in figure.text()
