"""Two things may stand before a kernel function: a recorder, and a replacement. Both go through its `__code__`.

    callers ──▶ function object ──▶ __code__: the function's own
                (imported, aliased,           or: call the replacement       (livepatch)
                 tabled, a default …)         or: log the call, then go on   (recording)

Every way in which the function was imported ends at the one function object, so swapping what runs there catches all of
them; rebinding names in modules would miss tables, defaults and closures.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import Any

from kmemlab.sim.kernel import invented
from kmemlab.sim.recording import CALL, KIND, RAISE, RETURN, RETURN_NONE

Function = Callable[..., Any]

NONE_WORD = -(1 << 63)  # how the log writes a None where an int was expected
RETURN_BITS = 55
WIDE = 1 << 39  # in a CALL's first word: every argument is an object's number
_WORDS = {"int", "bool", "int | None", "bool | None"}  # arguments that are logged as they are

recorders: list[Any] = []
"""The journal that hears calls now, if any, is the last: what a trampoline reads first."""

functions: list[FunctionType] = []
"""Every function that was ever hooked: a log names a function by its number here."""

traced_codes: set[CodeType] = set()
"""The code of every recorded function, and of what runs in its place: where a source line is looked for."""


@invented("one owner for a function's __code__, so that recording and livepatch don't tread on each other")
class Hook:
    """What runs when a kernel function is called."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.code = function.__code__
        self.defaults = function.__defaults__
        self.kwdefaults = function.__kwdefaults__
        self.pristine = FunctionType(
            self.code, function.__globals__, function.__name__, self.defaults, function.__closure__
        )
        self.pristine.__kwdefaults__ = self.kwdefaults
        self.pristine.__annotations__ = function.__annotations__
        self.replacements: list[Function] = []
        self.number = len(functions)
        self.recorded = False
        functions.append(function)

    @property
    def target(self) -> Function:
        """What the call ends at: the newest replacement, else the function itself."""
        return self.replacements[-1] if self.replacements else self.pristine

    def install(self) -> None:
        """Make the function object run what it should now."""
        function = self.function
        traced_codes.add(self.code)
        # A replacement may be recorded itself: what logs it is no source, and can't be put into a set.
        traced_codes.update(own_code(r) for r in self.replacements if isinstance(r, FunctionType))
        if self.recorded:
            function.__code__ = _logging_code(function, self.pristine, self.target, self.number)
        elif self.replacements:
            function.__code__ = _passing_code(function, self.target)
        else:
            function.__code__ = self.code
        passing = bool(self.replacements) and not self.recorded
        function.__defaults__ = None if passing else self.defaults
        function.__kwdefaults__ = None if passing else self.kwdefaults


_hooks: dict[FunctionType, Hook] = {}


def hook_of(function: Function) -> Hook:
    """The one hook of a function."""
    assert isinstance(function, FunctionType)
    if function not in _hooks:
        _hooks[function] = Hook(function)
        function.original = _hooks[function].pristine  # type: ignore[attr-defined]
    return _hooks[function]


def set_recorded(marked: Iterable[Function], recorded: bool) -> None:
    """Begin or stop to log the calls of these functions."""
    for function in marked:
        hook = hook_of(function)
        if hook.recorded != recorded:
            hook.recorded = recorded
            hook.install()


@invented("the source a student reads stays the function's own while it is recorded or patched")
def own_code(function: Function) -> CodeType:
    """The code that the function was written with, whatever runs in its place now."""
    assert isinstance(function, FunctionType)
    return _hooks[function].code if function in _hooks else function.__code__


def running_function(function: Function) -> Function:
    """What a call of `function` runs now: its newest replacement, else itself as it was written."""
    return _hooks[function].target if isinstance(function, FunctionType) and function in _hooks else function


def _passing_code(function: FunctionType, target: Function) -> CodeType:
    return _compile(function, "*args, **kwargs", "    return _target(*args, **kwargs)", {"_target": target})


def _logging_code(function: FunctionType, pristine: FunctionType, target: Function, number: int) -> CodeType:
    """A function of the same parameters that logs the call, makes it, and logs how it ended."""
    # Its own names begin with an underscore: a kernel function may well call a parameter `target`.
    parameters = list(inspect.signature(pristine).parameters.values())
    names = [p.name for p in parameters]
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters), (
        f"{function.__name__}: *args can't be logged"
    )
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    declared = ", ".join(positional + (["*", *keyword] if keyword else []))
    passed = ", ".join(positional + [f"{name}={name}" for name in keyword])
    plain = {name: str(function.__annotations__.get(name, "")) for name in names}
    words = [
        name
        if plain[name] in {"int", "bool"}
        else f"_NONE_WORD if {name} is None else {name}"
        if plain[name] in _WORDS
        else f"_journal.object({name})"
        for name in names
    ]
    header = CALL << KIND | number << 40 | len(names)
    body = f"""\
    if not _recorders:
        return _target({passed})
    _journal = _recorders[-1]
    try:
        _journal.fromlist([{", ".join([str(header), *words])}])
    except OverflowError:
        _journal.wide_call({header}, [{", ".join(names)}])
    if _journal.lines:
        _journal.line_of_caller()
    try:
        value = _target({passed})
    except BaseException:
        _journal.append({RAISE << KIND})
        raise
    if value is None:
        _journal.append({RETURN_NONE << KIND})
    elif value.__class__ is int and 0 <= value < {1 << RETURN_BITS}:
        _journal.append({RETURN << KIND} | value)
    else:
        _journal.returned(value)
    return value"""
    return _compile(function, declared, body, {"_target": target, "_recorders": recorders, "_NONE_WORD": NONE_WORD})


def _compile(function: FunctionType, parameters: str, body: str, constants: dict[str, Any]) -> CodeType:
    """Compile a stand-in with the function's name and as many free variables; `constants` are bound into it.

    A function's `__code__` takes only code with as many free variables as its closure has cells, and it runs with the
    function's own globals; so what the stand-in needs travels among its constants.
    """
    free = function.__code__.co_freevars
    places = {name: f"\0{name}" for name in constants}
    bind = "".join(f"    {name} = {place!r}\n" for name, place in places.items() if name in body)
    keep = f"    if 0: ({', '.join(free)},)\n" if free else ""
    outer = "".join(f"  {name} = None\n" for name in free) or "  pass\n"
    lines = "".join(
        f"  {line}\n" for line in f"def {function.__name__}({parameters}):\n{keep}{bind}{body}".splitlines()
    )
    source = f"def enclosing():\n{outer}{lines}  return {function.__name__}\n"
    scope: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        exec(compile(source, f"<{function.__name__}: recorded or patched>", "exec"), scope)
    code: CodeType = scope["enclosing"]().__code__
    bound = tuple(constants[c[1:]] if isinstance(c, str) and c[:1] == "\0" else c for c in code.co_consts)
    return code.replace(co_consts=bound)
