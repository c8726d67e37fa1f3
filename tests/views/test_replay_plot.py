"""The plot of a replay: both curves, the marks, and words that say the same."""

from __future__ import annotations

import re

from kmemlab.machine.linux_free import linux_free_over_time
from kmemlab.machine.pressure_report import replay_pressure
from kmemlab.views.replay_plot import replay_figure
from tests.machine.test_linux_free import TRACE


def test_the_figure_tells_of_both_and_is_the_same_each_time() -> None:
    report, linux = replay_pressure(TRACE), linux_free_over_time(TRACE)
    figure = replay_figure(report, linux)
    assert figure.svg() == replay_figure(report, linux).svg()
    for name in ("machine", "model", "min", "low", "high"):
        assert f">{name}<" in figure.svg()
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", figure.alt)]
    frees = [at.free for at in report.curve]
    assert numbers[:3] == [frees[0], frees[-1], min(frees)]
    frees = [free for _, free in linux]
    assert numbers[3:6] == [frees[0], frees[-1], min(frees)]
    assert report.facts["oom_victim"] == report.facts["oom_victim_real"]
    assert figure.title in figure.svg()
    assert figure.text().startswith(figure.title)
    assert " s;" not in figure.text(), "how long the replay took is no fact of the machine"
