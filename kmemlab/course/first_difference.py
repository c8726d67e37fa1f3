"""The first call at which a machine with the answer in it leaves the kernel's own way.

Both machines are run while they stay alike; from there on they are recorded, their calls are compared one by one, and a
player opens at the first that differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, Trial, steps_alike
from kmemlab.sim.hook import Function
from kmemlab.sim.timeline import Call, walk
from kmemlab.types.errors import KmemlabError
from kmemlab.views.panel_call import CallPanel
from kmemlab.views.player import Player
from kmemlab.views.steps import Step, source_of

Place = tuple[int, Call]  # a command, and a call of it
_LONGEST = 60
_MOST = 8  # of what differs


def first_difference(inside: Inside, answer: Answer) -> Player | None:
    """A player of the first call that differs, opened where it does; None where no call differs."""
    start = 0
    if inside.comparable:
        alike = steps_alike(inside, answer)
        if alike is None:
            return None
        start = alike
    own, yours = Trial(inside, None), Trial(inside, answer)
    for _ in range(start):
        own.step()
        yours.step()
    more = True
    with ExitStack() as recorded:  # both are stopped, whatever comes of the answer
        timelines = [recorded.enter_context(trial.machine.recording(lines=True)) for trial in (own, yours)]
        while more:
            before = len(own.machine.timeline.commands)
            more = own.step() is not None and yours.step() is not None
            for mine, kernels in zip_longest(_calls(yours, before), _calls(own, before)):
                if mine and (kernels is None or _told(yours, mine) != _told(own, kernels)):
                    return _opened(inside, answer, yours, mine, own, kernels)
            for timeline in timelines:  # comparing has moved them
                timeline.to_end()
    return None


def _calls(trial: Trial, first: int) -> Iterator[Place]:
    """The calls that are compared, of the commands from `first` on, in their order."""
    watched = trial.inside.watched
    timeline = trial.machine.timeline
    for command in range(first, len(timeline.commands)):
        yield from ((command, call) for call in walk(timeline.calls(command)) if call.function in watched)


def _told(trial: Trial, place: Place) -> dict[str, Any]:
    return trial.inside.compared(trial.machine.timeline, *place)


def _player(trial: Trial, place: Place) -> Player:
    inside, timeline = trial.inside, trial.machine.timeline
    command, call = place
    if inside.panel:
        try:
            return Player(timeline, inside.panel(trial.machine, call), [command], within=call, folded=inside.folded)
        except KmemlabError:  # the answer has left a state that can't be read any more
            pass
    panel = CallPanel(trial.machine.root, timeline, *place)
    return Player(timeline, panel, [command], within=call, folded=inside.folded)


def _opened(
    inside: Inside, answer: Answer, yours: Trial, mine: Place, own: Trial, kernels: Place | None
) -> Player:  # fmt: skip
    player = _player(yours, mine)
    steps = player.steps
    rows: list[str] = []
    if kernels is None:
        at, said = 0, "With the kernel's own function this call isn't made."
    elif inside.patch is Inside.patch:
        at, said, rows = _first(steps, _player(own, kernels).steps, _told(yours, mine), _told(own, kernels))
    else:  # what stands between the answer and the kernel writes in its own way: only what came of it counts
        steps[:] = [_with_source(step, inside.function, answer) for step in steps]
        at, rows = len(steps) - 1, _rows(_told(yours, mine), _told(own, kernels))
        said = "The first difference: what came of your answer is not what comes of the kernel's own function."
    steps[at] = replace(steps[at], said=said, changed=(*rows, *steps[at].changed))
    player.title = f"{mine[1].name}: the first difference, in `{yours.machine.timeline.commands[mine[0]]}`"
    player.shown = player.opened = at
    return player


def _first(
    mine: list[Step], kernels: list[Step], told: dict[str, Any], wanted: dict[str, Any]
) -> tuple[int, str, list[str]]:
    """The first step that differs, what is said there, and what should stand there.

    Only steps that change something are compared: two functions may look at different things, and do the same.
    """
    ways, own_ways = _changing(mine), _changing(kernels)
    for at, own_at in zip(ways, own_ways, strict=False):
        yours, own = mine[at], kernels[own_at]
        rows = _rows(dict(yours.sight.facts), dict(own.sight.facts))
        if rows and yours.said != own.said:
            return at, f"The first difference. Yours: {yours.said} The kernel's own: {own.said}", rows
        if rows:
            return at, f"The first difference. {yours.said} What comes of it is not the same.", rows
    if len(ways) > len(own_ways):
        at = ways[len(own_ways)]
        return at, f"The first difference: the kernel's own does nothing more. Yours: {mine[at].said}", []
    at = len(mine) - 1
    if len(ways) < len(own_ways):
        own = kernels[own_ways[len(ways)]]
        return at, f"The first difference: yours does nothing more. The kernel's own: {own.said}", []
    rows = _rows(told, wanted)
    if mine[at].said != kernels[-1].said:
        return at, f"The first difference. Yours: {mine[at].said} The kernel's own: {kernels[-1].said}", rows
    return at, f"{mine[at].said} The first difference is in what came of the call.", rows


def _changing(steps: list[Step]) -> list[int]:
    """The steps at which something is not as it was a step ago."""
    return [at for at in range(1, len(steps)) if steps[at].sight.facts != steps[at - 1].sight.facts]


def _rows(yours: dict[str, Any], own: dict[str, Any]) -> list[str]:
    names = [name for name in dict.fromkeys([*own, *yours]) if yours.get(name) != own.get(name)]
    lines = [
        line
        for name in names[:_MOST]
        for line in (name, f"   yours         {_cut(yours.get(name))}", f"   kernel's own  {_cut(own.get(name))}")
    ]
    return [*lines, f"and {len(names) - _MOST} more"] if len(names) > _MOST else lines


def _cut(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _with_source(step: Step, function: Function, answer: Answer) -> Step:
    """The student's own lines instead of those of what stands between them and the kernel."""
    if len(step.stack) != 2:  # the command, and the call itself
        return step
    return replace(step, source=source_of(function, answer.function), line=-1)
