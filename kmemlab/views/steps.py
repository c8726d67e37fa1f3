"""The steps of a player: which moments of a recorded run are worth a look, and what is true at each.

calls        __rmqueue_smallest ────────────────────────────────────────▶
entered      ●  looks for …
effects             ● takes 152 off its list
deeper                    expand ● splits …   ● gives back 156  ● …
returned                                                               ● returns pfn 152
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from kmemlab.machine.snapshot import FrameMap, cell_text
from kmemlab.sim.hook import Function, own_code, running_function
from kmemlab.sim.journal import Command
from kmemlab.sim.kernel import VERSION, registry
from kmemlab.sim.timeline import Call, Event, Timeline, walk
from kmemlab.types.errors import KmemlabError
from kmemlab.views.panel import Panel, Sight, What
from kmemlab.views.phrases import (
    EFFECTS,
    FOLDED,
    VERDICTS,
    WALKS,
    Block,
    call_line,
    command_text,
    entering,
    focus_of,
    leaving,
)
from kmemlab.views.told import told

MOST = 600
ENTERING, RETURNING = -1, -2  # instead of a line
Within = Collection[str] | Call
"""What a player is about: all that runs inside functions of these C names, or inside one call. Nothing: everything."""
COMMAND, ENTRY, MOMENT = 2, 1, 0  # how tall a step's tick on the timeline is


@dataclass(frozen=True, slots=True)
class Source:
    """A function as it ran: its lines without decorators and docstring, and the number of each in its file."""

    title: str
    lines: tuple[str, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: all that a player shows of it, in whatever form."""

    said: str
    sight: Sight
    source: Source | None
    line: int  # place of the current line in the source, or -1
    stack: tuple[str, ...]
    changed: tuple[str, ...]
    focus: Block | None
    depth: int
    tick: int


@dataclass(frozen=True, slots=True)
class _Moment:
    """Where to stop, before anything is read there."""

    place: int
    said: str | None  # None: the panel says it, once the state is there
    stack: tuple[Call, ...]  # what the call tree shows
    line: int
    focus: Block | None = None
    wrote: What | None = None  # what was written, or where a walk stops
    tick: int = MOMENT


def steps_of(
    timeline: Timeline,
    panel: Panel,
    commands: Collection[int],
    within: Within = (),
    folded: Collection[str] = (),
) -> list[Step]:
    """Walk the recorded commands and read the panel at each moment; the timeline is put back where it stood."""
    was = timeline.place()
    panel.prepare([call for number in commands for call in _calls(timeline, number, within)])
    steps: list[Step] = []
    sources: dict[Function, Source | None] = {}
    try:
        for number in commands:
            command = timeline.commands[number]
            running = dict(command.patches)
            for moment in _moments(timeline, panel, number, within, folded):
                timeline.go(number, moment.place)
                step = _look(panel, command, moment, steps[-1] if steps else None, running, sources)
                if step is not None:
                    steps.append(step)
                if len(steps) > MOST:
                    raise KmemlabError(
                        f"more than {MOST} steps",
                        where="Player",
                        remedy="show fewer commands, or only what runs within= one function",
                    )
    finally:
        timeline.go(*was)
    return steps


def _moments(
    timeline: Timeline, panel: Panel, number: int, within: Within, folded: Collection[str]
) -> Iterator[_Moment]:
    events = timeline.events(number, within if isinstance(within, Call) else None)
    busy = _changers(events)
    if isinstance(within, Call):
        # One call was asked for: it is told from its start to its end even if it only looks.
        busy |= {id(call) for event in events for call in event.stack if _meant(call, within)}
    if not within:
        yield _Moment(0, f"`{command_text(timeline.commands[number])}` is asked of the machine.", (), 0, tick=COMMAND)
    quiet = 0  # how many open calls lie inside one that is told as a whole
    group: _Moment | None = None
    for event in events:
        stack = _shown(event.stack, within)
        if not stack:
            continue
        wrote = panel.wrote(event) if event.kind == "write" and not quiet else None
        if group and (wrote != group.wrote or stack != group.stack):
            yield group
            group = None
        if wrote:
            group = _Moment(event.place, None, stack, event.line, wrote=wrote)
        elif event.kind == "call":
            if quiet or _whole(event, busy, folded):
                quiet += 1
            else:
                story = told(stack)
                yield _Moment(event.place, entering(story), stack, ENTERING, focus_of(story), tick=ENTRY)
        elif event.kind == "return":
            quiet = max(0, quiet - 1) if quiet else 0
            if event.stack[-1].name in WALKS and not quiet and not event.stack[-1].raised:
                for said, at, open_now in WALKS[event.stack[-1].name](told(stack)):
                    yield _Moment(
                        event.place, said, stack[:-1] or stack, event.stack[-1].line, wrote=What("stop", at, open_now)
                    )
                continue
            moment = _returned(event, stack, quiet, busy, folded)
            if moment:
                yield moment
    if group:
        yield group


def _calls(timeline: Timeline, number: int, within: Within) -> list[Call]:
    if not within:
        return list(walk(timeline.calls(number)))
    return [inner for call in walk(timeline.calls(number)) if _meant(call, within) for inner in walk([call])]


def _meant(call: Call, within: Within) -> bool:
    return call.enter == within.enter if isinstance(within, Call) else call.name in within


def _shown(stack: tuple[Call, ...], within: Within) -> tuple[Call, ...]:
    """The stack from the function on that the player is about; () outside it."""
    if not within:
        return stack
    return next((stack[at:] for at, call in enumerate(stack) if _meant(call, within)), ())


def _changers(events: Sequence[Event]) -> set[int]:
    """The calls in which something is written, by identity."""
    return {id(call) for event in events if event.kind == "write" for call in event.stack}


def _whole(event: Event, busy: set[int], folded: Collection[str]) -> bool:
    """Whether a call is told as a whole: an effect, a call that was to be folded, or one that only looks."""
    call = event.stack[-1]
    return call.name in EFFECTS or call.name in folded or id(call) not in busy


def _returned(
    event: Event, stack: tuple[Call, ...], quiet: int, busy: set[int], folded: Collection[str]
) -> _Moment | None:
    call = event.stack[-1]
    story = told(stack)
    if _whole(event, busy, folded):
        if quiet or (id(call) not in busy and call.name not in VERDICTS):
            return None
        said = (
            VERDICTS[call.name](story)
            if call.name in VERDICTS
            else EFFECTS[call.name](story)
            if call.name in EFFECTS
            else FOLDED[call.name](story)
            if call.name in FOLDED
            else f"`{call.name}` is done."
        )
        shown = stack[:-1] or stack
        return _Moment(event.place, said, shown, call.line if len(stack) > 1 else ENTERING, focus_of(story))
    if quiet:
        return None
    outcome = leaving(story)
    return _Moment(event.place, outcome, stack, RETURNING, focus_of(story)) if outcome else None


def _look(
    panel: Panel,
    command: Command,
    moment: _Moment,
    before: Step | None,
    running: dict[Function, Function],
    sources: dict[Function, Source | None],
) -> Step | None:
    stack = moment.stack
    sight = panel.sight(stack, moment.wrote)
    said = moment.said
    if said is None:
        assert moment.wrote is not None
        said = panel.write_sentence(f"`{stack[-1].name}`", moment.wrote)
    function = stack[-1].function if stack else None
    source = None
    if function is not None:
        if function not in sources:
            sources[function] = source_of(function, running.get(function))
        source = sources[function]
    lines = [command_text(command)]
    lines += [call_line(call, stack[depth - 1] if depth else None, depth + 1) for depth, call in enumerate(stack)]
    return Step(
        said,
        sight,
        source,
        _line_in(source, moment.line, stack[-1] if stack else None),
        tuple(lines),
        _changes(before.sight if before else None, sight, moment.focus),
        moment.focus,
        len(stack),
        moment.tick,
    )


def _line_in(source: Source | None, line: int, call: Call | None) -> int:
    """The place of a line in the source, or -1 where it is not known. Entering shows the first line."""
    if source is None or call is None:
        return -1
    if line == ENTERING:
        return 0
    if line == RETURNING:
        # The log does not say by which line a function returned: told only where there is no doubt.
        last = max((inner.line for inner in call.calls), default=0)
        returns = [at for at, text in enumerate(source.lines) if text.strip().startswith("return ")]
        returns = [
            at for at in returns if source.numbers[at] > last and ("None" in source.lines[at]) == (call.value is None)
        ]
        return returns[0] if len(returns) == 1 else -1
    return max((at for at, number in enumerate(source.numbers) if number <= line), default=-1) if line else -1


def _changes(before: Sight | None, after: Sight, focus: Block | None) -> tuple[str, ...]:
    """What is not as it was a step ago, by name."""
    if before is None:
        return ()
    old, new = dict(before.facts), dict(after.facts)
    names = list(dict.fromkeys([name for name, _ in after.facts] + [name for name, _ in before.facts]))
    found = [(name, old.get(name, "–"), new.get(name, "–")) for name in names if old.get(name) != new.get(name)]
    if focus and isinstance(before.picture, FrameMap) and isinstance(after.picture, FrameMap):
        at = focus[0] - after.picture.start_pfn
        if 0 <= at < len(after.picture.cells) and before.picture.cells[at] != after.picture.cells[at]:
            cells = before.picture.cells[at], after.picture.cells[at]
            found.append((f"page {focus[0]}", cell_text(cells[0]), cell_text(cells[1])))
    width = max((len(name) for name, _, _ in found), default=0)
    lines = []
    for name, was, now in found:
        if len(was) + len(now) > 46:
            lines += [f"{name:{width}}   {was}", f"{'':{width}} → {now}"]
        else:
            lines.append(f"{name:{width}}   {was} → {now}")
    return tuple(lines)


def source_of(function: Function, replacement: Function | None = None) -> Source | None:
    """The function that ran: a student's own where it was patched in, else the kernel's. None where no text is kept."""
    mark = registry.of(function)
    name = mark.name if mark else function.__name__
    title = f"{mark.file}: {name}  ({VERSION})" if mark and mark.file else name
    code = own_code(function) if replacement is None else running_function(replacement).__code__
    if replacement is not None:
        title = f"{name}: your {replacement.__name__}"
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError):
        return None
    kept = [(first + at, line.rstrip("\n")) for at, line in enumerate(lines)]
    kept = _without_docstring(kept)
    while kept and not kept[-1][1].strip():
        kept.pop()
    text = textwrap.dedent("\n".join(line for _, line in kept)).split("\n")
    return Source(title, tuple(text), tuple(number for number, _ in kept))


def _without_docstring(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    start = next((at for at, (_, line) in enumerate(lines) if line.lstrip().startswith("def ")), 0)
    lines = lines[start:]
    head = next((at for at, (_, line) in enumerate(lines) if line.split("#")[0].rstrip().endswith(":")), 0)
    body = head + 1
    if body < len(lines) and lines[body][1].strip()[:3] in ('"""', "'''"):
        quote = lines[body][1].strip()[:3]
        end = body
        if lines[body][1].strip().count(quote) < 2:
            end = next((at for at in range(body + 1, len(lines)) if quote in lines[at][1]), body)
        lines = lines[: head + 1] + lines[end + 1 :]
    return lines
