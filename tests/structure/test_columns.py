"""A column has one owner: a second name for it would let a write slip past the journal."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.zone import bare_zone
from kmemlab.sim.kernel import load_all
from kmemlab.sim.struct import Struct, structs_of


def aliases(root: Struct) -> list[str]:
    """Every column that two fields name, or that a tuple, list or dict of a struct holds."""
    owners: dict[int, str] = {}
    found = []
    for struct in structs_of(root):
        for name, value in struct.__dict__.items():
            place = f"{type(struct).__name__}.{name}"
            if isinstance(value, memoryview):
                other = owners.setdefault(id(value.obj), f"{place} of {id(struct)}")
                if other != f"{place} of {id(struct)}":
                    found.append(f"{place} is also {other}")
            elif any(isinstance(inner, memoryview) for inner in held(value)):
                found.append(f"{place} keeps a column in a {type(value).__name__}")
    return found


def held(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list, set, frozenset)):
        for item in value:
            yield item
            yield from held(item)


@pytest.mark.parametrize(
    "root", [lambda: Machine.boot("laptop-8g").kernel, lambda: bare_zone(1024)], ids=["machine", "bare_zone"]
)
def test_no_column_is_aliased(root: Callable[[], Struct]) -> None:
    struct = root()
    assert len(list(structs_of(struct))) > 1
    assert aliases(struct) == []


def test_an_alias_would_be_found() -> None:
    zone = bare_zone(1024)

    class Thief(Struct):
        def __init__(self) -> None:
            self.zone = zone
            self.counters = zone.vm_stat
            self.shelf = ((zone.nr_free,),)

    thief = Thief()
    assert len(aliases(thief)) == 2


def test_no_kernel_function_keeps_a_column_in_a_default_or_a_closure() -> None:
    kept = []
    for mark in load_all():
        if not inspect.isfunction(mark.function):
            continue
        function = inspect.unwrap(mark.function)
        cells = [cell.cell_contents for cell in function.__closure__ or () if is_filled(cell)]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        if any(
            isinstance(thing, (memoryview, Struct)) for value in cells + defaults for thing in (value, *held(value))
        ):
            kept.append(mark.python_path)
    assert kept == []


def is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
