"""Every public function and class of the simulator says what it is in C, or why C has none."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import CO_VARARGS, CO_VARKEYWORDS
from typing import Any

import kmemlab
from kmemlab.sim.kernel import SIMULATOR, invented, load_all, registry
from kmemlab.sim.recorder import traced_functions

# The floors on which Linux is modelled. Below them, `types` holds numbers and names, and `sim` the recorder, which
# knows nothing of Linux; what of `sim` does stand for C (list_head) is marked all the same.
MARKED = SIMULATOR[SIMULATOR.index("sim") + 1 :]


def public(floors: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for room in pkgutil.walk_packages(kmemlab.__path__, "kmemlab."):
        if room.name.split(".")[1] not in floors:
            continue
        module = importlib.import_module(room.name)
        for name, thing in vars(module).items():
            own = getattr(thing, "__module__", "") == room.name
            if own and not name.startswith("_") and (inspect.isclass(thing) or inspect.isfunction(thing)):
                yield f"{room.name}.{name}", thing


def test_every_public_function_and_class_bears_a_mark() -> None:
    bare = [
        name
        for name, thing in public(MARKED)
        if registry.of(thing) is None and not (inspect.isclass(thing) and issubclass(thing, BaseException))
    ]
    assert bare == []


def test_every_public_function_and_class_says_what_it_does() -> None:
    silent = [name for name, thing in public(SIMULATOR) if not (thing.__doc__ or "").strip()]
    assert silent == []


def test_the_marks_are_whole() -> None:
    for mark in load_all():
        assert mark.name, mark
        assert bool(mark.file) != bool(mark.why), f"{mark.python_path}: a file of C, or a reason why there is none"
        assert not mark.file.startswith(("/", "linux/")), mark.python_path
        assert mark.file == "" or mark.file.endswith((".c", ".h", ".S")), mark.python_path


def test_a_c_name_is_one_that_c_could_have() -> None:
    odd = [
        mark.name
        for mark in load_all()
        if mark.file and not re.fullmatch(r"((struct|enum|union) )?[A-Za-z_]\w*", mark.name)
    ]
    assert odd == []


def unloggable(package: str) -> list[str]:
    """The functions of a package whose calls would be logged, and can't: they take whatever they are given."""
    return [
        one.__qualname__
        for one in traced_functions()
        if one.__module__.startswith(package) and one.__code__.co_flags & (CO_VARARGS | CO_VARKEYWORDS)
    ]


def test_a_recorded_function_names_its_parameters() -> None:
    # A wrapper of @contextmanager takes *args, and the recorder refuses it as soon as anything is recorded: what bears
    # both marks must say traced=False.
    load_all()
    assert unloggable("kmemlab.") == []


def test_a_recorded_wrapper_would_be_found() -> None:
    @invented("a mistake")
    @contextmanager
    def forgets_to_say_untraced(value: int) -> Iterator[int]:
        yield value

    try:
        assert [name.rsplit(".", 1)[1] for name in unloggable(__name__)] == ["forgets_to_say_untraced"]
    finally:
        registry._marks.popitem()
