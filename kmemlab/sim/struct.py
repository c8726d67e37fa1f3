"""Kernel structs, sealed: whatever changes in them is a cell of a column, so the journal sees it.

struct zone                       Zone(Struct)
  managed_pages  ── Cell ──┐
  present_pages  ── Cell ──┴─▶  cells: column of "q", one cell a scalar field
  nr_free        ─────────────▶  a column of its own
  mem_map        ─────────────▶  another struct (it owns its columns; nobody else keeps them)
  name           ─────────────▶  a constant
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self, TypeVar, overload

from kmemlab.sim.column import Column, column, copy_column
from kmemlab.sim.recording import RecordingColumn, signed
from kmemlab.types.errors import SealedField
from kmemlab.types.units import U64_MAX

S = TypeVar("S", bound="Struct")


class Cell:
    """A scalar field of a struct: one signed 64-bit integer, kept in the struct's `cells` column."""

    def __set_name__(self, owner: type[Struct], name: str) -> None:
        self.name = name
        self.index = -1  # given by Struct.__init_subclass__, in the order of the class body

    @overload
    def __get__(self, struct: None, owner: type[Struct]) -> Self: ...
    @overload
    def __get__(self, struct: Struct, owner: type[Struct]) -> int: ...
    def __get__(self, struct: Struct | None, owner: type[Struct]) -> Self | int:
        return self if struct is None else struct.cells[self.index]

    def __set__(self, struct: Struct, value: int) -> None:
        struct.cells[self.index] = value


class U64Cell(Cell):
    """A scalar field whose top bit is not a sign: physical addresses and limits up to 2**64 - 1."""

    @overload
    def __get__(self, struct: None, owner: type[Struct]) -> Self: ...
    @overload
    def __get__(self, struct: Struct, owner: type[Struct]) -> int: ...
    def __get__(self, struct: Struct | None, owner: type[Struct]) -> Self | int:
        return self if struct is None else struct.cells[self.index] & U64_MAX

    def __set__(self, struct: Struct, value: int) -> None:
        struct.cells[self.index] = signed(value)


# Whoever records is told of structs that are born meanwhile.
on_new_column: list[Callable[[Struct, str], None]] = []


class Struct:
    """A kernel struct: its fields are set once, in `__init__`; only cells and columns change after.

    >>> class FreeArea(Struct):
    ...     nr_free = Cell()
    >>> area = FreeArea()
    >>> area.nr_free += 3
    >>> area.nr_free
    3

    Raises `SealedField` when another field is rebound.
    """

    cells: Column
    _cells: ClassVar[dict[str, Cell]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._cells = dict(cls._cells)
        for name, field in vars(cls).items():
            if isinstance(field, Cell):
                field.index = len(cls._cells)
                cls._cells[name] = field

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        struct = empty_struct(cls)
        if cls._cells:
            struct.cells = column("q", len(cls._cells))
        return struct

    def __setattr__(self, name: str, value: Any) -> None:
        cell = self._cells.get(name)
        if cell is not None:
            cell.__set__(self, value)
            return
        if name in self.__dict__:
            raise SealedField(
                f"{type(self).__name__}.{name} can't be rebound: rewind would not see it",
                where=f"{type(self).__name__}.{name} = …",
                remedy="make the field a Cell, or write into the column that it names",
            )
        self.__dict__[name] = value
        if isinstance(value, memoryview):
            for hook in on_new_column:
                hook(self, name)

    def __repr__(self) -> str:
        name = self.__dict__.get("name", "")
        return f"{type(self).__name__} {name}" if name else type(self).__name__

    def columns(self) -> Iterator[tuple[str, Column | RecordingColumn]]:
        """The columns that this struct owns, by attribute name."""
        for name, value in self.__dict__.items():
            if isinstance(value, (memoryview, RecordingColumn)):
                yield name, value

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = empty_struct(type(self))
        memo[id(self)] = twin
        for name, value in self.__dict__.items():
            plain = value.plain if isinstance(value, RecordingColumn) else value
            twin.__dict__[name] = copy_column(plain) if isinstance(plain, memoryview) else copy.deepcopy(value, memo)
        return twin


def empty_struct(kind: type[S]) -> S:
    """An instance of a struct class, without any field yet.

    Its fields stand in a dict that shares no keys with other instances: there Python finds them four times as fast.
    """
    struct = object.__new__(kind)
    object.__setattr__(struct, "__dict__", {})
    return struct


def structs_of(root: Struct) -> Iterator[Struct]:
    """Every struct that can be reached from `root`, each once, in the order of its fields."""
    seen: set[int] = set()
    queue: list[Any] = [root]
    while queue:
        thing = queue.pop(0)
        if isinstance(thing, (tuple, list)):
            queue.extend(thing)
        elif isinstance(thing, dict):
            queue.extend(thing.values())
        elif isinstance(thing, Struct) and id(thing) not in seen:
            seen.add(id(thing))
            yield thing
            queue.extend(thing.__dict__.values())
