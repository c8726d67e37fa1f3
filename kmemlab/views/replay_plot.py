"""A replay under pressure as a plot: the free pages of the model and of the machine whose trace drove it."""

from __future__ import annotations

from collections.abc import Sequence

from kmemlab.machine.pressure_report import PressureReport
from kmemlab.views.figure import Figure
from kmemlab.views.plot import Curve, Panel, plot
from kmemlab.views.replay_pressure import pressure_text

MARKS = ("min", "low", "high")
Points = Sequence[tuple[float, int]]


def replay_figure(report: PressureReport, linux: Points) -> Figure:
    """Both curves over the trace's time, whole and near the watermarks. `linux` is `linux_free_over_time(…)`."""
    begin = min([at.time for at in report.curve] + [at for at, _ in linux])
    model = Curve("model", [at.time - begin for at in report.curve], [at.free for at in report.curve], look=1)
    machine = Curve("machine", [at - begin for at, _ in linux], [free for _, free in linux])
    both = [0.0, max(*model.at, *machine.at)]
    marks = [
        Curve(name, both, [mark, mark], look=look, thin=True)
        for name, mark, look in zip(MARKS, report.watermarks, (3, 4, 2), strict=True)
    ]
    top = 4 * report.watermarks[2]
    panels = [
        Panel("pages free", [machine, model]),
        Panel("near the marks", [machine, model, *reversed(marks)], top=top),
    ]
    title = f"{report.trace}: free pages, model and machine"
    words = "\n".join([title, *pressure_text(report).splitlines()[1:]])  # the first line has our own clock's seconds
    return plot(title, "seconds", panels, replay_alt(report, linux), words)


def replay_alt(report: PressureReport, linux: Points) -> str:
    """The plot in a few sentences."""
    ends = [(name, frees[0], frees[-1], min(frees)) for name, frees in (
        ("model", [at.free for at in report.curve]), ("machine", [free for _, free in linux]),
    )]  # fmt: skip
    told = [
        f"The {name}'s free pages go from {first:,} to {last:,}, at least {least:,}."
        for name, first, last, least in ends
    ]
    apart = round(report.mean_abs_error_pages)
    return " ".join([*told, f"At the samples they are {apart:,} pages apart on average."])
