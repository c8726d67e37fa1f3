"""JSON read with a finger on the line: every value is asked for by kind, and an error names the place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadSpec
from kmemlab.types.units import U64_MAX

T = TypeVar("T")
Range = tuple[int, int]  # start and inclusive end of a physical range, in bytes


@invented("machines are described in JSON", traced=False)
def parse_json(text: str, file: str) -> Any:
    """The value that the JSON `text` of `file` says; raises `BadSpec` with line and column."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise BadSpec(f"the key {key[:40]!r} stands there twice", where=file, remedy="take one of both away")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=members)
    except json.JSONDecodeError as error:
        raise BadSpec(
            f"this is no JSON: {error.msg}",
            where=f"{file}, line {error.lineno}, column {error.colno}",
            remedy="mend the file there; `python -m json.tool FILE` checks it",
        ) from None
    except ValueError:  # Python reads no number of so many digits
        raise BadSpec(
            "a number there has thousands of digits", where=file, remedy="write addresses of 64 bits at most"
        ) from None
    except RecursionError:
        raise BadSpec(
            "this JSON is nested too deeply", where=file, remedy="a machine needs four levels at most"
        ) from None


@invented("machines are described in JSON", traced=False)
def names_of(struct: Any) -> tuple[str, ...]:
    """The names of a dataclass's fields: the keys of the object that describes one."""
    return tuple(field.name for field in fields(struct))


@invented("machines are described in JSON")
@dataclass(frozen=True, slots=True)
class Value:
    """One value of a JSON text, with the file and the path that lead to it.

    >>> machine = Value({"e820": [[0, 9, "usable"]]}, "mine.json")
    >>> machine["e820"].items()[0].items()[2].text()
    'usable'
    >>> machine["e820"].number()
    Traceback (most recent call last):
    kmemlab.types.errors.BadSpec: e820 must be a whole number, not a list
      where:  mine.json: e820
      remedy: write a number of bytes, in decimal
    """

    raw: Any
    file: str
    path: str = ""

    def __getitem__(self, key: str) -> Value:
        members = self.members()
        if key not in members:
            self.bad(
                f"the key {key!r} is missing",
                f"add {key!r}; the documentation of kmemlab.hardware.spec says what it holds",
            )
        return members[key]

    def get(self, key: str) -> Value | None:
        """The member `key`, or None where it is missing or null."""
        found = self.members().get(key)
        return None if found is None or found.raw is None else found

    def members(self) -> dict[str, Value]:
        """The members of an object."""
        if not isinstance(self.raw, dict):
            self.wrong_kind("an object", "write { … }")
        dot = "." if self.path else ""
        return {key: Value(raw, self.file, f"{self.path}{dot}{key}") for key, raw in self.raw.items()}

    def only(self, *known: str) -> None:
        """Refuse an object with a member that nobody would look at: it is a slip of the pen."""
        for key, member in self.members().items():
            if key not in known:
                near = get_close_matches(str(key).lower(), known, 1, 0.5)
                remedy = f"write {near[0]!r}, or take it away" if near else f"the keys here are {', '.join(known)}"
                member.bad(f"there is no key {str(key)[:40]!r}", remedy)

    def items(self, length: int | None = None) -> list[Value]:
        """The items of a list, of exactly `length` items if that is given."""
        if not isinstance(self.raw, list):
            self.wrong_kind("a list", "write [ … ]")
        if length is not None and len(self.raw) != length:
            self.bad(f"{self.name} must have {length} items, not {len(self.raw)}", "compare it with a preset")
        return [Value(raw, self.file, f"{self.path}[{at}]") for at, raw in enumerate(self.raw)]

    def __iter__(self) -> Iterator[Value]:
        return iter(self.items())

    def number(self, least: int = 0, most: int = U64_MAX) -> int:
        """A whole number within bounds."""
        if isinstance(self.raw, bool) or not isinstance(self.raw, int):
            self.wrong_kind(
                "a whole number", "write a number of bytes, in decimal" if most == U64_MAX else "write it in decimal"
            )
        if not least <= self.raw <= most:
            self.bad(f"{self.name} is {self.raw}, outside {least} … {most:#x}", "write a number within these bounds")
        return self.raw

    def text(self) -> str:
        """A string."""
        if not isinstance(self.raw, str):
            self.wrong_kind("a string", 'write "…"')
        return self.raw

    def flag(self) -> bool:
        """true or false."""
        if not isinstance(self.raw, bool):
            self.wrong_kind("true or false", "write true or false")
        return self.raw

    def one_of(self, *choices: str) -> str:
        """One of the strings `choices`."""
        text = self.text()
        if text not in choices:
            self.bad(f"{self.name} is {text!r}, which is none of {', '.join(choices)}", "choose one of these")
        return text

    def range(self) -> tuple[int, int]:
        """A list [start, end] of two addresses, end inclusive and not below start - 1."""
        start, end = self.items(2)
        if end.number() + 1 < start.number():
            end.bad(
                f"{self.name} ends at {end.raw:#x}, below its start {start.raw:#x}", "write [start, end], end inclusive"
            )
        return start.number(), end.number()

    def optional(self, key: str, read: Callable[[Value], T], default: T) -> T:
        """What `read` makes of the member `key`, or `default` where it is missing or null."""
        found = self.get(key)
        return default if found is None else read(found)

    @property
    def name(self) -> str:
        """How messages call this value."""
        return self.path or "the file"

    def wrong_kind(self, wanted: str, remedy: str) -> NoReturn:
        """Raise: this is a value of another kind."""
        kinds = {
            dict: "an object",
            list: "a list",
            str: "a string",
            bool: "true or false",
            int: "a number",
            float: "a fraction",
            type(None): "null",
        }
        self.bad(f"{self.name} must be {wanted}, not {kinds.get(type(self.raw), type(self.raw).__name__)}", remedy)

    def bad(self, what: str, remedy: str) -> NoReturn:
        """Raise `BadSpec` for this place."""
        raise BadSpec(what, where=f"{self.file}: {self.path}" if self.path else self.file, remedy=remedy)
