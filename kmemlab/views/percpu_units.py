"""Per-CPU memory: the units of the CPUs, and which pages of each chunk are there, free, or given out.

first chunk   CPU 0  | static            | reserved | dynamic |
              CPU 1  | static            | reserved | dynamic |     the same offsets, at a distance of a unit
chunk 2              |▓▓▓|▓░░|░░░| · · · ·                    |     a cell a page of a unit
"""

from __future__ import annotations

from itertools import groupby

from kmemlab.machine.kmap_snapshot import EMPTY, FULL, NO_LIST, NOT_THERE, PARTLY, ChunkSnapshot, PercpuSnapshot
from kmemlab.types.units import size_text
from kmemlab.views.colours import INK, LINE, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg

_LEFT, _WIDTH, _ROW, _TOP = 210, 720, 26, 58
_FILL = {FULL: HATCHED, PARTLY: "#b3dcf5", EMPTY: "#9fd8c5", NOT_THERE: "none"}
_LETTER = {FULL: "X", PARTLY: "P", EMPTY: "E", NOT_THERE: "-"}
_AREAS = (("static", "#f3cf85"), ("reserved", "#e6c3d6"), ("dynamic", "#9fd8c5"))
_MOST_CPUS = 16


def percpu_figure(percpu: PercpuSnapshot) -> Figure:
    """Units and chunks as a picture, with the same facts as text."""
    return Figure.drawn(drawn(percpu), percpu_text(percpu))


def page_runs(chunk: ChunkSnapshot) -> str:
    """The pages of a chunk in runs of one state.

    >>> page_runs(ChunkSnapshot(2, "", 0, ("given out", "empty", "empty", "not there"), 0, 0, 0, ()))
    '1 given out, 2 empty, 1 not there'
    """
    return ", ".join(f"{len(list(run))} {state}" for state, run in groupby(chunk.pages))


def list_of(chunk: ChunkSnapshot) -> str:
    """On which list a chunk belongs; the reserved one is on none."""
    return "on no list" if chunk.slot == NO_LIST else f"list {chunk.slot}"


def percpu_text(percpu: PercpuSnapshot) -> str:
    """Where each CPU's unit is, and each chunk with what is given out of it."""
    lines = [
        f"units of {percpu.unit_size} bytes: {percpu.static_size} static, {percpu.reserved_size} reserved, "
        f"{percpu.dyn_size} dynamic; {percpu.populated} pages of a unit are there, {percpu.empty_pages} of them empty",
        *(f"CPU {cpu}: {percpu.base + off:#x}" for cpu, off in enumerate(percpu.unit_off)),
    ]
    for chunk in percpu.chunks:
        lines.append(
            f"chunk {chunk.number} ({chunk.name}) at {chunk.base:#x}: {chunk.free_bytes} bytes free, {chunk.largest} "
            f"in a piece as far as is known, {list_of(chunk)}"
        )
        lines.append(f"  pages of a unit: {page_runs(chunk)}")
        lines += [f"  {offset:#x} {size:>6} bytes" for offset, size in chunk.pieces]
    return "\n".join(lines)


def drawn(percpu: PercpuSnapshot) -> Svg:
    """The first chunk's units, a row a CPU; then a strip for each chunk."""
    cpus = percpu.unit_off[:_MOST_CPUS]
    height = _TOP + len(cpus) * _ROW + 34 + len(percpu.chunks) * (_ROW + 22) + 10
    alt = (
        f"{len(percpu.unit_off)} CPUs, each with a unit of {size_text(percpu.unit_size)}; {len(percpu.chunks)} chunks; "
        f"{percpu.populated} pages of a unit are there, {percpu.empty_pages} empty."
    )
    drawing = Svg(_LEFT + _WIDTH + 20, height, "Per-CPU memory", alt)
    drawing.text(12, 20, "Per-CPU memory: the same offsets in every CPU's unit", size=13, bold=True)
    legend = "   ".join(f"{_LETTER[state]} {state}" for state in (FULL, PARTLY, EMPTY, NOT_THERE))
    drawing.text(
        12, 42, f"first chunk, a row a CPU; then each chunk, a cell a page: {legend}", size=10.5, fill=SOFT_INK
    )
    digits = 8 if percpu.base >> 32 == 0 else 16
    sizes = (percpu.static_size, percpu.reserved_size, percpu.dyn_size)
    for cpu, off in enumerate(cpus):
        y, x = _TOP + cpu * _ROW, float(_LEFT)
        drawing.text(12, y + 15, f"CPU {cpu} {percpu.base + off:0{digits}x}", size=10.5, mono=True)
        for (name, fill), size in zip(_AREAS, sizes, strict=True):
            width = _WIDTH * size / max(sum(sizes), 1)
            drawing.rect(x, y, width, _ROW - 6, fill=fill, stroke=LINE, note=f"{name}: {size} bytes")
            if width > 14:
                label = f"{name} {size_text(size)}" if width > 60 else name[0].upper()
                drawing.text(x + width / 2, y + 14, label, size=10.5, anchor="middle")
            x += width
    top = _TOP + len(cpus) * _ROW + 34
    for nth, chunk in enumerate(percpu.chunks):
        draw_chunk(drawing, chunk, top + nth * (_ROW + 22))
    return drawing


def draw_chunk(drawing: Svg, chunk: ChunkSnapshot, y: float) -> None:
    """The pages of one unit of a chunk, runs of one state as one box."""
    drawing.text(12, y + 15, f"chunk {chunk.number}, {list_of(chunk)}", size=11, bold=True)
    drawing.text(
        _LEFT, y - 4, f"{chunk.name}, {chunk.base:#x}: {chunk.free_bytes} bytes free", size=10.5, fill=SOFT_INK
    )
    cell = _WIDTH / max(len(chunk.pages), 1)
    at = 0
    for state, run in groupby(chunk.pages):
        pages = len(list(run))
        x, width = _LEFT + at * cell, pages * cell
        note = f"{pages} pages {state}"
        drawing.rect(x, y, width, _ROW - 6, fill=_FILL[state], stroke=LINE, dash=state == NOT_THERE, note=note)
        if width > 14:
            label = f"{_LETTER[state]} {pages}" if width > 44 else _LETTER[state]
            drawing.text(x + width / 2, y + 14, label, size=10.5, fill=INK, anchor="middle")
        at += pages
