"""What a student handed in, held at arm's length: it is called, and what comes back is plain data."""

from __future__ import annotations

import dis
import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any

from kmemlab.course.told import cut
from kmemlab.sim.kernel import registry

Plain = Any
"""None, bool, int, float, str, bytes, and lists, tuples, dicts and sets of them: nothing with methods of its own."""

_ATOMS = (type(None), bool, int, float, str, bytes)
_DEEPEST = 50


class NotSolvedYet(Exception):
    """The placeholder is still in the answer's place."""


class NotPlain(Exception):
    """An answer is, or holds, an object that can't be compared without running its own code."""


class Answer:
    """A student's answer: a function to call, or a value.

    >>> Answer(lambda pfn: pfn ^ 1)(6)
    7
    >>> Answer({"last_pfn": 4096}).value
    {'last_pfn': 4096}
    """

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself, for `livepatch`. Raises `NotPlain` when the answer is none."""
        if not callable(self.raw):
            raise NotPlain(f"a function is asked for, not {kind(self.raw)}")
        return self.raw  # type: ignore[no-any-return]

    @property
    def value(self) -> Plain:
        """The answer as plain data. Raises `NotPlain` or `NotSolvedYet`."""
        return plain(self.raw)

    def __call__(self, *args: Any, **kwargs: Any) -> Plain:
        """Call the answer, and take its result as plain data."""
        return plain(self.function(*args, **kwargs))


def unsolved(raw: Any) -> bool:
    """Whether the placeholder that an exercise is handed out with is still there.

    >>> def expand(zone):
    ...     return ...
    >>> unsolved(expand), unsolved(...), unsolved(7)
    (True, True, False)
    """
    exact = type(raw)  # and its own methods, for a list may be of a class that has others
    if raw is Ellipsis:
        return True
    for own in (list, tuple):
        if issubclass(exact, own):
            return any(item is Ellipsis for item in own.__iter__(raw))
    if issubclass(exact, dict):
        return any(item is Ellipsis for item in dict.values(raw))
    return exact is FunctionType and _returns_ellipsis(raw)


def kernels_own(raw: Any) -> bool:
    """Whether the answer is the very function of the kernel, which an answer would run in place of.

    >>> from kmemlab.mm.buddy import expand
    >>> kernels_own(expand), kernels_own(lambda zone: None)
    (True, False)
    """
    if type(raw) is not FunctionType:
        return False
    mark = registry.of(raw)
    return mark is not None and mark.function is raw


def _returns_ellipsis(function: FunctionType) -> bool:
    before = None
    for instruction in dis.get_instructions(function):
        if instruction.opname == "RETURN_CONST" and instruction.argval is Ellipsis:
            return True
        if (
            instruction.opname == "RETURN_VALUE"
            and before is not None
            and before.opname == "LOAD_CONST"
            and before.argval is Ellipsis
        ):
            return True
        before = instruction
    return False


def plain(value: Any, depth: int = 0) -> Plain:
    """The same value built from Python's own types, so that comparing it runs nobody else's `__eq__`.

    Numbers that aren't exactly `int` (an enum's member, a number of numpy) become one; a named tuple becomes a tuple.
    Raises `NotPlain` for anything else, and `NotSolvedYet` for the placeholder.

    >>> class Sly:
    ...     def __eq__(self, other):
    ...         return True
    >>> plain([1, (2, True)])
    [1, (2, True)]
    >>> plain(Sly())
    Traceback (most recent call last):
    ...
    kmemlab.course.answer.NotPlain: it gave an object of type Sly
    """
    if value is Ellipsis:
        raise NotSolvedYet
    if depth > _DEEPEST:
        raise NotPlain("it gave a list that is nested too deeply")
    exact = type(value)
    if exact in _ATOMS:
        return value
    if issubclass(exact, list):
        return [plain(item, depth + 1) for item in list.__iter__(value)]
    if issubclass(exact, tuple):
        return tuple(plain(item, depth + 1) for item in tuple.__iter__(value))
    if issubclass(exact, dict):
        return {plain(key, depth + 1): plain(item, depth + 1) for key, item in dict.items(value)}
    if issubclass(exact, (set, frozenset)):
        own = set if issubclass(exact, set) else frozenset
        return own(plain(item, depth + 1) for item in own.__iter__(value))
    if exact is range:
        return list(value)
    if issubclass(exact, int):
        return int.__add__(value, 0)
    if issubclass(exact, float):
        return float.__add__(value, 0.0)
    if issubclass(exact, str):
        return str.__str__(value)
    try:
        return operator.index(value)
    except TypeError:
        raise NotPlain(f"it gave {kind(value)}") from None


def kind(value: Any) -> str:
    """What a value is, in few words."""
    name = type(value).__name__
    return (
        f"an object of type {name}"
        if type(value) not in _ATOMS
        else f"the {name} {cut(repr(value), 60)}"
        if value is not None
        else "None"
    )
