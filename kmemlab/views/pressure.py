"""Memory under pressure, over time: free pages against the three watermarks, what reclaim did, what came back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kmemlab.machine.time_series import FREE, TIME, TimeSeries
from kmemlab.machine.workload import Progress, Run
from kmemlab.views.figure import Figure
from kmemlab.views.plot import Curve, Panel, plot

MOST_POINTS = 300  # of a curve: a notebook stays small
PATIENCE = 2.0  # seconds until a progress bar appears


def pressure_figure(series: TimeSeries, along: str = "step") -> Figure:
    """A run as four panels over its steps, or over `jiffies`; its text is the table."""
    few = series.thinned(MOST_POINTS)
    at = [moment.step for moment in few.moments] if along == "step" else few.level(TIME)
    places = dict(zip([moment.step for moment in few.moments], at, strict=True))
    killed = [(_place(places, step), "killed") for step, said in few.events if "was killed" in said]
    marks = few.marks()
    free = Curve("free", at, few.level(FREE))
    lines = [
        Curve(name, at, [mark[which] for mark in marks], look=which + 1)
        for which, name in ((2, "high"), (1, "low"), (0, "min"))
    ]
    whole = Panel("pages free", [free], killed)
    near = Panel("near the marks", [free, *lines], top=3 * max(mark[2] for mark in marks))
    work = Panel("pages, each point", [
        Curve("scanned", at, few.rate("pgscan"), look=3, thin=True),
        Curve("taken by kswapd", at, few.rate("pgsteal_kswapd")),
        Curve("taken directly", at, few.rate("pgsteal_direct"), look=1),
    ])  # fmt: skip
    back = Panel("pages, each point", [
        Curve("refaults", at, few.rate("refault")),
        Curve("swapped out", at, few.rate("pswpout"), look=1),
        Curve("swapped in", at, few.rate("pswpin"), look=2),
    ])  # fmt: skip
    return plot(series.title, along, [whole, near, work, back], pressure_alt(series), series.table())


def _place(places: dict[int, int], step: int) -> int:
    """Where on the axis the moment stands that is nearest to a step."""
    return places[min(places, key=lambda known: abs(known - step))]


def pressure_alt(series: TimeSeries) -> str:
    """The run in a few sentences, for those who can't see the plot."""
    free, (_, low, high) = series.level(FREE), series.marks()[-1]
    sums = {name: sum(series.rate(name)) for name in ("pgscan", "pgsteal_kswapd", "pgsteal_direct", "refault")}
    told = [
        f"{series.title}: free pages go from {free[0]:,} to {free[-1]:,}, at least {min(free):,}; low is {low:,}, "
        f"high {high:,}.",
        f"Reclaim looked at {sums['pgscan']:,} pages; kswapd took {sums['pgsteal_kswapd']:,} and requests took "
        f"{sums['pgsteal_direct']:,} themselves. {sums['refault']:,} came back.",
        *(f"Step {step}: {said}." for step, said in series.events),
    ]
    return " ".join(told)


def watch(run: Run, steps: int | None = None) -> TimeSeries:
    """Let a run go on; a progress bar shows how far it is, where that takes long. Ctrl-C, the stop button, stops it."""
    with _bar(run.workload.name) as progress:
        return run.advance(steps, progress)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    """What tells the progress: nothing for the first seconds, then a bar that goes when all is done."""
    begun = time.monotonic()
    shown: list[tuple[Progress, Callable[[], None]]] = []

    def progress(done: int, length: int) -> None:
        if not shown and time.monotonic() - begun > PATIENCE:
            shown.append(_open_bar(title))
        for tell, _ in shown:
            tell(done, length)

    try:
        yield progress
    finally:
        for _, close in shown:
            close()


def _open_bar(title: str) -> tuple[Progress, Callable[[], None]]:
    """A bar of ipywidgets in a notebook, of rich on a terminal, none where neither is installed."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return _bar_on_terminal(title)
    return _bar_in_notebook(title) if hasattr(get_ipython(), "kernel") else _bar_on_terminal(title)


def _bar_in_notebook(title: str) -> tuple[Progress, Callable[[], None]]:
    import ipywidgets
    from IPython.display import display

    bar: Any = ipywidgets.IntProgress(description=title, style={"description_width": "initial"})
    display(bar)  # type: ignore[no-untyped-call]

    def tell(done: int, length: int) -> None:
        bar.max, bar.value = length, done

    return tell, bar.close


def _bar_on_terminal(title: str) -> tuple[Progress, Callable[[], None]]:
    try:
        from rich.progress import Progress as Bar
    except ImportError:
        return (lambda done, length: None), lambda: None
    bar = Bar(transient=True)
    task = bar.add_task(title)
    bar.start()
    return (lambda done, length: bar.update(task, completed=done, total=length)), bar.stop
