"""Who takes what before there is a page allocator: a line a request, read from a log with memblock=debug.

    where                               who                     how much
 1  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░██     memblocks_present       32 KiB
 2  ░░░░░░░░░░░░░░░░░░░░░░░░░░░██░░     alloc_large_system_hash 128 KiB

memblock prints whom it was called by. An allocation is two lines: what is asked, then what is reserved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kmemlab.types.units import size_text
from kmemlab.views.colours import HATCH, INK, KINDS, LINE, PANEL, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import Svg

_ASKED = re.compile(r"memblock_(?:phys_)?alloc\w*: (\d+) bytes .* (\S+)$")
_DONE = re.compile(r"memblock_(reserve|phys_free): \[(0x[0-9a-f]+)-(0x[0-9a-f]+)\] (\S+)$")
_ROW, _TOP, _LEFT, _WIDE = 17, 48, 40, 420


@dataclass(frozen=True, slots=True)
class Taken:
    """One line of the ledger: `size` bytes from `base` on, taken (or given back) by `who`.

    A line may stand for several requests in a row of one function: `earlier` are those before the last, as (base,
    size) each.
    """

    who: str
    base: int
    size: int
    given_back: bool = False
    earlier: tuple[tuple[int, int], ...] = ()

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """All that the line stands for, oldest first: (base, size) each."""
        return (*self.earlier, (self.base, self.size))

    @property
    def start(self) -> int:
        """The lowest address."""
        return min(base for base, _ in self.parts)

    @property
    def end(self) -> int:
        """The first address behind the highest part."""
        return max(base + size for base, size in self.parts)

    @property
    def sum(self) -> int:
        """Bytes of all parts."""
        return sum(size for _, size in self.parts)


def ledger(log: str) -> tuple[Taken, ...]:
    """Every request that a log tells of, in order; offsets into the calling function are left out.

    >>> ledger("memblock_reserve: [0x0000000000001000-0x0000000000001fff] setup_arch+0x7e0/0xd4f")[0].who
    'setup_arch'
    """
    rows, asked_by = [], ""
    for line in log.splitlines():
        asked, done = _ASKED.search(line), _DONE.search(line)
        if asked:
            asked_by = asked[2]
        elif done:
            by_alloc = done[4].startswith("memblock_alloc_range_nid")
            # A function that reserves what it found itself is named in the line; else the line before names it.
            who = asked_by if by_alloc and asked_by else "alloc_node_data" if by_alloc else done[4]
            base = int(done[2], 16)
            rows.append(Taken(who.split("+")[0], base, int(done[3], 16) + 1 - base, done[1] == "phys_free"))
            asked_by = ""
    return tuple(rows)


def grouped(rows: Iterable[Taken]) -> tuple[Taken, ...]:
    """The ledger with requests in a row by one function as one line.

    >>> [(len(t.parts), t.sum) for t in grouped([Taken("f", 64, 8), Taken("f", 0, 4), Taken("g", 128, 1)])]
    [(2, 12), (1, 1)]
    """
    found: list[Taken] = []
    for row in rows:
        last = found[-1] if found else None
        if last and (last.who, last.given_back) == (row.who, row.given_back):
            found[-1] = replace(row, earlier=last.parts)
        else:
            found.append(row)
    return tuple(found)


def held_by(rows: Iterable[Taken]) -> list[tuple[str, int, int]]:
    """What is taken in the end, as (who, start, end); what was given back is nobody's.

    >>> held_by([Taken("f", 0, 4096), Taken("g", 2048, 4096), Taken("f", 0, 1024, given_back=True)])
    [('f', 1024, 4096), ('g', 4096, 6144)]
    """
    held: list[tuple[str, int, int]] = []
    for row in rows:
        # Who comes later gets what nobody has yet, as in memblock's own list.
        gone = [(row.base, row.base + row.size)]
        if row.given_back:
            held = [(who, *part) for who, *span in held for part in _without((span[0], span[1]), gone)]
        else:
            held += [(row.who, *part) for part in _without(gone[0], [(start, end) for _, start, end in held])]
    return held


def by_whom(rows: Iterable[Taken]) -> dict[str, int]:
    """Bytes that each function holds in the end, the most first. What it gave back does not count.

    >>> by_whom([Taken("f", 0, 4096), Taken("g", 8192, 64), Taken("f", 0, 4096, given_back=True)])
    {'g': 64}
    """
    sums: dict[str, int] = {}
    for who, start, end in held_by(rows):
        sums[who] = sums.get(who, 0) + end - start
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _without(span: tuple[int, int], others: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of a range when others are cut out of it."""
    left = [span]
    for low, high in others:
        left = [part for a, b in left for part in ((a, min(b, low)), (max(a, high), b)) if part[0] < part[1]]
    return left


def ledger_text(rows: Iterable[Taken]) -> str:
    """The ledger as a table: number, address, size, who."""
    return _table(enumerate(rows, 1))


def _table(numbered: Iterable[tuple[int, Taken]]) -> str:
    lines = [f"{'':4} {'lowest address':>18} {'size':>10}  who"]
    for number, row in numbered:
        times = f" ({len(row.parts)} requests)" if row.earlier else ""
        back = "gives back: " if row.given_back else ""
        lines.append(f"{number:4} {row.start:#018x} {size_text(row.sum):>10}  {back}{row.who}{times}")
    return "\n".join(lines)


def ledger_figure(
    rows: Iterable[Taken], start: int, end: int, title: str = "Who takes what, in the order of time"
) -> Figure:
    """The ledger as a timeline: each line a moment, each box where it is within [start, end).

    What is given back is dashed. Boxes are never thinner than can be seen. Lines keep their number in the ledger.
    """
    shown = [(number, row) for number, row in enumerate(rows, 1) if row.start < end and start < row.end]
    backs = sum(row.given_back for _, row in shown)
    kept = size_text(sum(row.sum for _, row in shown if not row.given_back))
    alt = (
        f"{len(shown)} lines from {start:#x} to {end - 1:#x}: {len(shown) - backs} take {kept} in sum, {backs} give "
        "back."
    )
    drawing = Svg(_LEFT + _WIDE + 400, _TOP + _ROW * len(shown) + 14, title, alt)
    drawing.text(10, 18, title, size=13, bold=True)
    drawing.text(_LEFT, 38, f"{start:#x}", size=11, mono=True, fill=SOFT_INK)
    drawing.text(_LEFT + _WIDE, 38, f"{end - 1:#x}", size=11, mono=True, anchor="end", fill=SOFT_INK)
    for at, (number, row) in enumerate(shown):
        _row(drawing, _TOP + at * _ROW, number, row, start, end)
    return Figure.drawn(drawing, _table(shown))


def _row(drawing: Svg, top: float, number: int, row: Taken, start: int, end: int) -> None:
    drawing.text(_LEFT - 8, top + 12, str(number), size=10.5, anchor="end", mono=True, fill=SOFT_INK)
    drawing.rect(_LEFT, top + 2, _WIDE, _ROW - 4, fill=PANEL)
    for base, size in row.parts:
        low, high = max(base, start), min(base + size, end)
        if low >= high:
            continue
        wide = max(4.0, (high - low) / (end - start) * _WIDE)
        x = _LEFT + min((low - start) / (end - start) * _WIDE, _WIDE - wide)
        note = f"{row.who}: {size_text(size)} at {base:#x}"
        if row.given_back:
            drawing.rect(x, top + 2, wide, _ROW - 4, fill="#ffffff", stroke=INK, dash=True, note=note)
        else:
            drawing.rect(x, top + 2, wide, _ROW - 4, fill=KINDS["reserved"][1], stroke=LINE, note=note)
    times = f" x {len(row.parts)}" if row.earlier else ""
    back = "frees: " if row.given_back else ""
    drawing.text(_LEFT + _WIDE + 82, top + 12, size_text(row.sum), size=11, anchor="end", mono=True)
    drawing.text(_LEFT + _WIDE + 94, top + 12, f"{back}{row.who}{times}", size=11)
    drawing.line(_LEFT, top + _ROW, _LEFT + _WIDE, top + _ROW, stroke=HATCH, line=0.4)
