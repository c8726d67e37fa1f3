"""A moment of a page walk as a picture: the address cut into fields, an entry a level, the result, the TLB.

address  │ copies │ pgd 273 │ pud 0 │ pmd 1 │ pte 1 │ offset 234 │
  pgd[273]   0x4401000  P RW US A D
  p4d        folded
  pud[0]     …
→ 0x201234                                          TLB  page > frame  size  rights
"""

from __future__ import annotations

from kmemlab.hardware.mmu import Mmu
from kmemlab.types.pgtable import PGD, PTE
from kmemlab.views.colours import INK, LINE, NOW, NOW_BAR, PANEL, PAPER, SOFT_INK
from kmemlab.views.page_levels import Field, colour_of, fields
from kmemlab.views.page_walk import Moment, access_text, digits_of
from kmemlab.views.svg import HATCHED, Svg

_WIDTH, _LEFT, _ROW, _TLB_SHOWN = 506, 10, 40, 5
_KEY = (
    "P present   RW may be written   US for programs too   PSE a large page   NX no execution   G global",
    "A was used   D was written to   rights: r read, w write, x execute, u for programs, G global",
)


def alt_of(moment: Moment) -> str:
    """The picture in words."""
    read = ", ".join(f"{p.name} entry {p.index} is {p.says}" for p in moment.passed) or "no table was read"
    stale = sum(line.stale for line in moment.tlb)
    tlb = f"{len(moment.tlb)} translations in the TLB" + (f", {stale} of them stale" if stale else "")
    result = f" {moment.result}." if moment.result else ""
    return f"{access_text(moment.access).capitalize()} at {moment.address:#x}: {read}; {tlb}.{result}"


def walk_svg(mmu: Mmu, moment: Moment) -> Svg:
    """Draw it; the entry that is read now is outlined."""
    drawing = Svg(_WIDTH, 0, "Page walk", alt_of(moment))
    drawing.text(_LEFT, 20, f"{access_text(moment.access)} at", size=12.5, bold=True)
    drawing.text(_WIDTH - 8, 20, f"{moment.address:0{digits_of(mmu)}x}", size=14, mono=True, anchor="end", bold=True)
    y = _address(drawing, mmu, moment, 32)
    y = _levels(drawing, mmu, moment, y + 16)
    y = _result(drawing, moment, y + 4)
    y = _tlb(drawing, mmu, moment, y + 14) + 12
    for row, key in enumerate(_KEY):
        drawing.text(_LEFT, y + 14 * row, key, size=9.5, fill=SOFT_INK)
    drawing.height = y + 14 * len(_KEY)
    return drawing


def _address(drawing: Svg, mmu: Mmu, moment: Moment, y: float) -> float:
    """The fields side by side: name, number, bits. Wide enough for its bits, each."""
    cut = fields(mmu.layout)
    weights = [6.0 if field.name == "copies" else max(6.0, field.width) for field in cut]
    x, unit = float(_LEFT), (_WIDTH - 2 * _LEFT) / sum(weights)
    now = mmu.layout.levels[moment.now].name if moment.now >= PGD else ""
    for field, weight in zip(cut, weights, strict=True):
        width, value = weight * unit, field.of(moment.address)
        current = field.name == now
        drawing.rect(x, y, width, 50, fill=colour_of(field.name), stroke=INK if current else LINE,
                     line=3 if current else 1, note=f"bits {field.high} to {field.low}")  # fmt: skip
        number = _number_of(field, value)
        drawing.text(x + width / 2, y + 15, field.name, size=11, anchor="middle")
        drawing.text(x + width / 2, y + 31, number, size=13, anchor="middle", bold=True, mono=True)
        bits = f"{value:0{field.width}b}" if field.width <= 12 else "…"
        size = min(9.5, (width - 6) / max(1, len(bits)) / 0.61)
        drawing.text(x + width / 2, y + 44, bits, size=size, anchor="middle", mono=True)
        x += width
    return y + 50


def _number_of(field: Field, value: int) -> str:
    if field.name in ("copies", "offset"):
        return f"{value:x}"
    return str(value)


def _levels(drawing: Svg, mmu: Mmu, moment: Moment, y: float) -> float:
    """A row a level, from the top table down; a folded one is hatched."""
    passed = {entry.level: entry for entry in moment.passed}
    drawing.text(_LEFT, y, f"CR3 names the top table: {mmu.cr3 & ~0xFFF:#x}", size=11, fill=SOFT_INK)
    y += 8
    for level in range(PGD, PTE + 1):
        name = mmu.layout.levels[level].name
        if mmu.layout.levels[level].folded:
            drawing.rect(_LEFT, y, 74, 18, fill=HATCHED, stroke=LINE, dash=True)
            drawing.rect(_LEFT + 20, y + 2, 34, 14, fill=PAPER)
            drawing.text(_LEFT + 37, y + 13, name, size=10.5, anchor="middle", mono=True)
            drawing.text(_LEFT + 84, y + 13, "folded: this level is not there", size=10.5, fill=SOFT_INK)
            y += 24
            continue
        entry, current = passed.get(level), level == moment.now
        if current:
            drawing.rect(_LEFT + 74, y, _WIDTH - 2 * _LEFT - 74, _ROW - 6, fill=NOW, stroke=NOW_BAR, line=2.5)
        elif entry:
            drawing.rect(_LEFT + 74, y, _WIDTH - 2 * _LEFT - 74, _ROW - 6, fill=PANEL, stroke=LINE)
        else:
            drawing.rect(_LEFT + 74, y, _WIDTH - 2 * _LEFT - 74, _ROW - 6, stroke=LINE, dash=True)
        drawing.rect(_LEFT, y, 74, _ROW - 6, fill=colour_of(name), stroke=INK if current else LINE,
                     line=3 if current else 1)  # fmt: skip
        label = f"{name}[{mmu.layout.index(level, moment.address)}]"
        drawing.text(_LEFT + 37, y + 21, label, size=11, anchor="middle", mono=True, bold=True)
        if entry:
            drawing.text(_LEFT + 84, y + 14, f"at {entry.entryp:#x}: {entry.entry:#x}", size=10.5, mono=True)
            drawing.text(_LEFT + 84, y + 28, entry.says, size=11, mono=True, bold=True)
        else:
            drawing.text(_LEFT + 84, y + 21, _why_not_read(moment, level), size=10.5, fill=SOFT_INK)
        y += _ROW
    return y


def _why_not_read(moment: Moment, level: int) -> str:
    last = moment.passed[-1].level if moment.passed else PTE
    if moment.result and not moment.faulted and level > last:
        return "not read: with a large page these bits belong to the offset"
    return "not read"


def _result(drawing: Svg, moment: Moment, y: float) -> float:
    mark = "FAULT" if moment.faulted else "DONE" if moment.result else "…"
    drawing.rect(_LEFT, y, _WIDTH - 2 * _LEFT, 26, stroke=INK if moment.result else LINE,
                 line=2.5 if moment.faulted else 1, dash=not moment.result)  # fmt: skip
    drawing.text(_LEFT + 8, y + 17, mark, size=11.5, bold=True)
    said = moment.result.removeprefix("page fault at ").replace(f"{moment.address:#x}: ", "")
    drawing.text(_LEFT + 62, y + 17, said, size=11, mono=True)
    return y + 26


def _tlb(drawing: Svg, mmu: Mmu, moment: Moment, y: float) -> float:
    """The last lines of the TLB; the one that answers is marked, a stale one says so."""
    hidden = max(0, len(moment.tlb) - _TLB_SHOWN)
    more = f", {hidden} more not shown" if hidden else ""
    drawing.text(_LEFT, y + 8, f"TLB: page > frame, size, rights{more}", size=11.5, bold=True, fill=SOFT_INK)
    y += 16
    shown = moment.tlb[hidden:]
    if not shown:
        drawing.text(_LEFT, y + 12, "empty", size=11, fill=SOFT_INK)
    for line in shown:
        if line.stale:
            drawing.rect(_LEFT, y, _WIDTH - 2 * _LEFT, 17, fill="#f6dfd6")
        if line.slot == moment.hit:
            drawing.rect(_LEFT, y, _WIDTH - 2 * _LEFT, 17, fill="none" if line.stale else NOW, stroke=NOW_BAR, line=2)
        drawing.text(_LEFT + 6, y + 12.5, line.text(digits_of(mmu)), size=10.5, mono=True)
        y += 18
    # The picture keeps its height while the TLB fills.
    return y + 18 * (_TLB_SHOWN - max(1, len(shown)))
