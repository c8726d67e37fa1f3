"""vmalloc's areas over scattered frames: the addresses follow one another, the page frames behind them need not.

addresses   |A0|A1|A2|g| · · · |B0|B1|g|
              ╲  ╲__╲___         │  ╲
frames      ··|A|····|A|A|·······|B|··|B|···     each frame bears the letter of its area
"""

from __future__ import annotations

from itertools import pairwise

from kmemlab.machine.vmalloc_snapshot import LAZY, NOT_MAPPED, VmallocArea, VmallocSnapshot
from kmemlab.types.units import PAGE_SHIFT, size_text
from kmemlab.views.colours import INK, LINE, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg

WIDE, IN_A_PANEL = 860, 470
_LEFT, _TOP, _HIGH, _FRAMES = 16, 74, 28, 196
_HOLE, _NARROWEST, _MOST_LINES = 44, 98, 48
_FILL = {"vmalloc": "#9fd8c5", "vmap": "#b3dcf5", "ioremap": "#f3cf85", "vm_map_ram": "#e6c3d6", LAZY: "none"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_AREAS = 8


def vmalloc_figure(vmalloc: VmallocSnapshot) -> Figure:
    """The areas as a picture, with the same facts as text; of many areas the picture shows the first eight."""
    return Figure.drawn(drawn(vmalloc), vmalloc_text(vmalloc))


def runs_text(pfns: tuple[int, ...], most: int = 6) -> str:
    """Page frames in their order, neighbours that follow one another as one run.

    >>> runs_text((18509, 18516, 18517, -1, 7))
    '18509, 18516-18517, nothing, 7'
    """
    words: list[str] = []
    first = 0
    for at in range(1, len(pfns) + 1):
        going_on = at < len(pfns) and (pfns[at] == pfns[at - 1] + 1 if pfns[first] >= 0 else pfns[at] == NOT_MAPPED)
        if going_on:
            continue
        low, high = pfns[first], pfns[at - 1]
        words.append("nothing" if low == NOT_MAPPED else str(low) if low == high else f"{low}-{high}")
        first = at
    return ", ".join(words[:most]) + (f", … ({len(words)} runs in all)" if len(words) > most else "")


def area_text(area: VmallocArea) -> str:
    """An area as a line: where, how large, what for, and which page frames are behind it."""
    span = f"{area.start:#x}-{area.end:#x} {size_text(area.end - area.start):>8}"
    if area.kind == LAZY:
        return f"{span}  freed, waits for a purge"
    behind = f"{area.mapped} of {len(area.pfns)} pages are mapped"
    if area.mapped:
        behind += f": pfn {runs_text(area.pfns)}"
    return f"{span}  {area.kind} of {area.caller or 'nobody yet'}: {behind}" + ("; a guard page" if area.guard else "")


def summary(vmalloc: VmallocSnapshot) -> str:
    """How many areas are in use, and how many addresses wait, as one sentence.

    >>> summary(VmallocSnapshot(4096, 8192, (), 0, 8192, 0, 1))
    'No area is in use; 0 pages of addresses wait for a purge (of at most 8,192), and there were 0 purges.'
    """
    busy = sum(area.kind != LAZY for area in vmalloc.areas)
    areas = "No area is in use" if not busy else "1 area is in use" if busy == 1 else f"{busy} areas are in use"
    return (
        f"{areas}; {vmalloc.lazy_pages:,} pages of addresses wait for a purge (of at most {vmalloc.lazy_max:,}), and "
        f"there {'was 1 purge' if vmalloc.purges == 1 else f'were {vmalloc.purges} purges'}."
    )


def vmalloc_text(vmalloc: VmallocSnapshot) -> str:
    """Each area with its page frames."""
    return "\n".join([summary(vmalloc), *map(area_text, vmalloc.areas)])


def drawn(vmalloc: VmallocSnapshot, window: tuple[int, int] | None = None, wide: int = WIDE) -> Svg:
    """The areas above, the frames below, and a line from each page to its frame.

    `window` are the first and last page frame that the lower row shows, if not those that are mapped.
    """
    drawing = Svg(_LEFT + wide + 20, _FRAMES + 62, "vmalloc's areas", summary(vmalloc))
    drawing.text(12, 20, "vmalloc's areas over scattered page frames", size=13, bold=True)
    legend = "hatched: guard page, never mapped   dashed: freed, waits for a purge   · · ·: free addresses"
    drawing.text(12, 40, legend, size=10.5, fill=SOFT_INK)
    shown = vmalloc.areas[:MOST_AREAS]
    placed = places(shown, wide)
    left_out = len(vmalloc.areas) - len(shown)
    low, high = window or frames_of(shown, vmalloc.max_pfn)
    per_pfn = wide / (high - low + 1)
    drawing.rect(_LEFT, _FRAMES, wide, _HIGH, stroke=LINE, note=f"page frames {low} to {high}")
    for nth, (area, (x, width)) in enumerate(zip(shown, placed, strict=True)):
        draw_area(drawing, area, LETTERS[nth], x, width)
        draw_frames(drawing, area, LETTERS[nth], (x, width), (low, high, per_pfn))
    for (before, (x, width)), (after, (right, _)) in pairwise(zip(shown, placed, strict=True)):
        if after.start > before.end:
            drawing.text((x + width + right) / 2, _TOP + 18, "· · ·", fill=SOFT_INK, anchor="middle")
    if left_out:
        drawing.text(_LEFT + wide, 20, f"and {left_out} areas more", size=10.5, fill=SOFT_INK, anchor="end")
    drawing.text(_LEFT, _FRAMES + _HIGH + 16, f"pfn {low}", size=10.5, mono=True)
    drawing.text(_LEFT + wide, _FRAMES + _HIGH + 16, f"pfn {high}", size=10.5, mono=True, anchor="end")
    drawing.text(_LEFT + wide / 2, _FRAMES + _HIGH + 16, "physical memory", size=10.5, fill=SOFT_INK, anchor="middle")
    return drawing


def frames_of(areas: tuple[VmallocArea, ...], max_pfn: int) -> tuple[int, int]:
    """The first and last page frame of RAM that is behind an area; the memory of devices is not among them."""
    pfns = [pfn for area in areas if area.kind != "ioremap" for pfn in area.pfns if 0 <= pfn < max_pfn]
    return (min(pfns), max(pfns)) if pfns else (0, max_pfn - 1)


def pages_of(area: VmallocArea) -> int:
    """How many pages of addresses an area takes, its guard page included."""
    return (area.end - area.start) >> PAGE_SHIFT


def places(areas: tuple[VmallocArea, ...], wide: int) -> list[tuple[float, float]]:
    """Where each area is drawn, (x, width): by its pages, but never too narrow; a gap where addresses are free."""
    gaps = [_HOLE if after.start > before.end else 6 for before, after in pairwise(areas)] + [0] * bool(areas)
    narrowest = min(_NARROWEST, (wide - sum(gaps)) / max(len(areas), 1))
    room = wide - sum(gaps) - narrowest * len(areas)
    total = max(sum(map(pages_of, areas)), 24)
    found, x = [], float(_LEFT)
    for area, gap in zip(areas, gaps, strict=True):
        width = narrowest + room * pages_of(area) / total
        found.append((x, width))
        x += width + gap
    return found


def draw_area(drawing: Svg, area: VmallocArea, letter: str, x: float, width: float) -> None:
    """One area: a cell a page where they are wide enough, and the guard page at its end."""
    lazy = area.kind == LAZY
    address = f"{area.start:x}" if width >= _NARROWEST else f"…{area.start & 0xFFFFFFFF:08x}"
    drawing.text(x, _TOP - 16, address, size=9.5, mono=True)
    drawing.text(x, _TOP - 5, f"{letter} {LAZY if lazy else area.caller or area.kind}", size=10.5, fill=SOFT_INK)
    drawing.rect(x, _TOP, width, _HIGH, stroke=LINE, dash=lazy, note=area_text(area))
    cell = width / max(pages_of(area), 1)
    fill = _FILL[area.kind]
    if cell < 9:
        drawing.rect(x, _TOP, cell * area.mapped, _HIGH, fill=fill, note=f"{letter}: {area.mapped} pages are mapped")
        drawing.text(x + width / 2, _TOP + 18, f"{len(area.pfns)} pages", size=10.5, anchor="middle")
    else:
        for nth, pfn in enumerate(area.pfns):
            there = pfn != NOT_MAPPED
            note = f"{letter}, page {nth}: " + (f"pfn {pfn}" if there else "not mapped")
            drawing.rect(x + nth * cell, _TOP, cell, _HIGH, fill=fill if there else "none", stroke=LINE, note=note)
            if there and cell > 18:
                drawing.text(x + (nth + 0.5) * cell, _TOP + 18, str(nth), size=10.5, anchor="middle", mono=True)
    if area.guard:
        guard = max(cell, 4)
        drawing.rect(x + width - guard, _TOP, guard, _HIGH, fill=HATCHED, stroke=LINE, note=f"{letter}: guard page")


def draw_frames(
    drawing: Svg, area: VmallocArea, letter: str, place: tuple[float, float], frames: tuple[int, int, float]
) -> None:
    """The frames behind an area, and lines to them: of many pages only some have a line."""
    (x, width), (low, high, per_pfn) = place, frames
    cell = width / max(pages_of(area), 1)
    every = -(-len(area.pfns) // _MOST_LINES)
    for nth, pfn in enumerate(area.pfns):
        if not low <= pfn <= high:
            continue
        at = _LEFT + (pfn - low) * per_pfn
        wide = max(per_pfn, 1.5)
        drawing.rect(at, _FRAMES, wide, _HIGH, fill=_FILL[area.kind], stroke=LINE if wide > 4 else "none",
                     note=f"pfn {pfn}: {letter}, page {nth}")  # fmt: skip
        if nth % every == 0:
            drawing.line(
                x + (nth + 0.5) * cell, _TOP + _HIGH, at + wide / 2, _FRAMES, stroke=INK if every == 1 else LINE
            )
            if wide > 9:
                drawing.text(at + wide / 2, _FRAMES + 18, letter, size=10.5, anchor="middle", mono=True)
    if area.kind == "ioremap" and area.pfns:
        drawing.line(x + cell / 2, _TOP + _HIGH, x + cell / 2, _TOP + _HIGH + 34, dash=True)
        phys = "nothing yet" if area.pfns[0] == NOT_MAPPED else f"device, {area.pfns[0] << PAGE_SHIFT:#x}"
        drawing.text(x, _TOP + _HIGH + 48, phys, size=10.5, mono=True)
