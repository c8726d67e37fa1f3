"""Whom the OOM killer would choose: one bar a process, the worst first.

            resident        swapped   tables   adj
editor  259 R███████████████S░░░░░░░░ T              ◀ goes first
sh        0 R
init     -- R██                            -1000      never
"""

from __future__ import annotations

from collections.abc import Sequence

from kmemlab.machine.oom_snapshot import OomRank, oom_ranking_text
from kmemlab.views.colours import INK, KINDS, LINE, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import Svg

MOST = 12  # processes that are drawn
_LEFT, _WIDE, _ROW, _TOP = 170, 430, 26, 66
PARTS = (("rss", "R", "usable", "resident"), ("swap", "S", "reserved", "swapped out"),
         ("page_tables", "T", "ACPI NVS", "page tables"))  # fmt: skip


def oom_figure(ranking: Sequence[OomRank]) -> Figure:
    """The ranking as a picture, with the same facts as a table; of many processes the first twelve are drawn."""
    return Figure.drawn(oom_drawing(ranking), oom_ranking_text(tuple(ranking)))


def oom_alt(ranking: Sequence[OomRank]) -> str:
    """The ranking in sentences."""
    if not ranking:
        return "No process has memory that could be freed."
    first = ranking[0]
    told = [f"{rank.name} ({rank.pid}) {rank.points:,} points" for rank in ranking if rank.points is not None]
    never = [f"{rank.name} ({rank.pid})" for rank in ranking if not rank.killable]
    sentences = [f"{first.name} would be killed first." if first.killable else "Nobody can be killed."]
    sentences += [f"In their order: {', '.join(told)}."] if told else []
    return " ".join(sentences + ([f"Never killed: {', '.join(never)}."] if never else []))


def oom_drawing(ranking: Sequence[OomRank]) -> Svg:
    """Stacked bars of what killing each would free, the points beside them."""
    shown = ranking[:MOST]
    drawing = Svg(_LEFT + _WIDE + 180, _TOP + _ROW * max(1, len(shown)) + 22, "OOM ranking", oom_alt(ranking))
    drawing.text(10, 20, "Whom the OOM killer would choose, the worst first", size=13, bold=True)
    for at, (_, letter, kind, words) in enumerate(PARTS):
        drawing.rect(_LEFT + 130 * at, 30, 14, 14, fill=KINDS[kind][1], stroke=LINE)
        drawing.text(_LEFT + 130 * at + 20, 42, f"{letter} {words}", size=10.5, fill=SOFT_INK)
    drawing.text(_LEFT - 10, 60, "points", size=10.5, fill=SOFT_INK, anchor="end")
    most = max((sum(getattr(rank, part[0]) for part in PARTS) for rank in shown), default=1) or 1
    for row, rank in enumerate(shown):
        _draw(drawing, rank, _TOP + _ROW * row, _WIDE / most, first=not row and rank.killable)
    left_out = f"and {len(ranking) - MOST} more; " if len(ranking) > MOST else ""
    foot = f"{left_out}the longest bar is {most:,} pages; points = all three + adj thousandths of RAM and swap"
    drawing.text(10, drawing.height - 6, foot, size=10.5, fill=SOFT_INK)
    return drawing


def _draw(drawing: Svg, rank: OomRank, y: float, scale: float, first: bool) -> None:
    points = "never" if rank.points is None else f"{rank.points:,}"
    drawing.text(10, y + 15, f"{rank.name} ({rank.pid})", size=11.5, bold=first)
    drawing.text(_LEFT - 10, y + 15, points, size=11, mono=True, anchor="end", bold=first)
    x = float(_LEFT)
    for part, letter, kind, words in PARTS:
        pages = getattr(rank, part)
        if pages:
            drawing.rect(x, y, pages * scale, 20, fill=KINDS[kind][1], stroke=LINE, note=f"{pages:,} pages {words}")
            if pages * scale > 16:
                drawing.text(x + 4, y + 14, letter, size=10, fill=INK)
            x += pages * scale
    words = "goes first" if first else "is dying" if rank.dying else ""
    adj = f"adj {rank.oom_score_adj:+}" if rank.oom_score_adj else ""
    drawing.text(_LEFT + _WIDE + 12, y + 15, "  ".join(filter(None, (words, adj))), size=11, bold=first)
