"""How frames travel: keyframes and deltas of page frames, elements of drawings each sent once.

step      0       1       2       3       …
frames    key     delta   delta   key     …      a key where the deltas since the last one weigh more than two keys
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Any

from kmemlab.views.svg import Svg

_RUN = re.compile(rb"(.)\1*", re.DOTALL)
_KEYS_WORTH = 2  # of deltas before another keyframe


def varint(value: int) -> bytes:
    """A number as 7 bits a byte, the lowest first; the high bit says that more follow.

    >>> varint(5).hex(), varint(300).hex()
    ('05', 'ac02')
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def runs_of(cells: bytes, before: bytes | None = None) -> str:
    """The cells that differ from `before` (all zero without) as runs of (skip, length, value), in base64."""
    before = before or bytes(len(cells))
    changed = bytes(map(int.__ne__, cells, before)) if cells != before else bytes(len(cells))
    out = bytearray()
    last = 0
    for part in _RUN.finditer(changed):
        if part[0][0]:
            for run in _RUN.finditer(cells, part.start(), part.end()):
                out += varint(run.start() - last) + varint(run.end() - run.start()) + run[1]
                last = run.end()
    return base64.b64encode(bytes(out)).decode()


def apply_runs(cells: bytearray, text: str) -> None:
    """Put runs into the cells: what the browser does, for those who want to check it."""
    data = base64.b64decode(text)
    at = cell = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                return value

    while at < len(data):
        cell += number()
        length = number()
        cells[cell : cell + length] = data[at : at + 1] * length
        at += 1
        cell += length


def frames_data(start_pfn: int, columns: int, maps: Sequence[bytes]) -> dict[str, Any]:
    """Frame maps of one window as keyframes and deltas."""
    frames: list[dict[str, str]] = []
    since = 0
    key = 0
    for at, cells in enumerate(maps):
        delta = runs_of(cells, maps[at - 1]) if at else ""
        if not at or since + len(delta) > _KEYS_WORTH * key + 400:
            frames.append({"key": runs_of(cells)})
            key, since = len(frames[-1]["key"]), 0
        else:
            frames.append({"delta": delta})
            since += len(delta)
    return {"kind": "frames", "start": start_pfn, "count": len(maps[0]), "columns": columns, "frames": frames}


def cells_at(data: dict[str, Any], step: int) -> bytes:
    """The cells of a step, found as the browser finds them."""
    frames = data["frames"]
    first = max(at for at in range(step + 1) if "key" in frames[at])
    cells = bytearray(data["count"])
    apply_runs(cells, frames[first]["key"])
    for frame in frames[first + 1 : step + 1]:
        apply_runs(cells, frame["delta"])
    return bytes(cells)


class Interned:
    """A table of strings in which each stands once.

    >>> table = Interned()
    >>> table.number("a"), table.number("b"), table.number("a"), table.items
    (0, 1, 0, ['a', 'b'])
    """

    def __init__(self) -> None:
        self.items: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, item: str) -> int:
        """The place of a string in the table."""
        if item not in self._numbers:
            self._numbers[item] = len(self.items)
            self.items.append(item)
        return self._numbers[item]

    def numbers(self, items: Iterable[str]) -> list[int]:
        """The places of some strings."""
        return [self.number(item) for item in items]


def drawings_data(drawings: Sequence[Svg], defs: str) -> dict[str, Any]:
    """Drawings as lists of elements; an element that many steps share is sent once."""
    elements = Interned()
    frames = [[round(d.width), round(d.height), *elements.numbers(d.inside())] for d in drawings]
    return {"kind": "svg", "defs": defs, "elements": elements.items, "frames": frames}
