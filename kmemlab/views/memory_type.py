"""How one page of memory is accessed in the end: what the MTRRs say of its address, and what its entry says.

reg00  write-back  ├──────────●─────┤
reg05  uncachable       ├─────●──┤         by the MTRRs: UC
entry  PAT=0 PCD=0 PWT=1 = 1: WC           in the end:   WC
"""

from __future__ import annotations

from kmemlab.boot.mtrr import generic_get_mtrr, mtrr_type_lookup
from kmemlab.boot.mtrr_state import MtrrState
from kmemlab.boot.pat import effective_type
from kmemlab.hardware.mtrr import MSR_PAT
from kmemlab.types.mtrr_type import PAT_NAMES, mtrr_attrib_to_str
from kmemlab.types.units import MIB, PAGE_SHIFT, PAGE_SIZE
from kmemlab.views.colours import INK, KINDS, LINE, NOW, NOW_BAR, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg

_COLOURS = {
    "WB": KINDS["usable"][1],
    "WC": KINDS["ACPI data"][1],
    "WT": KINDS["persistent"][1],
    "WP": KINDS["ACPI NVS"][1],
    "UC": KINDS["unusable"][1],
    "UC-": KINDS["reserved"][1],
}
_LEFT, _BAR, _ROW, _TOP = 250, 420, 24, 66


def short(number: int) -> str:
    """A type as its two letters, and as its name.

    >>> short(6), short(0)
    ('WB', 'UC')
    """
    return PAT_NAMES[number]


def memory_type_figure(state: MtrrState, address: int, entry: int) -> Figure:
    """Resolve one address, mapped by an entry whose bits PAT, PCD and PWT are the number `entry` (0 to 7)."""
    by_range, _ = mtrr_type_lookup(state, address, address + PAGE_SIZE)
    chosen = state.msr.rdmsr(MSR_PAT) >> 8 * entry & 7
    end = effective_type(by_range, chosen)
    registers = [(reg, *generic_get_mtrr(state, reg)) for reg in range(state.num_var_ranges)]
    used = [(reg, base << PAGE_SHIFT, base + size << PAGE_SHIFT, kind) for reg, base, size, kind in registers if size]
    bits = f"PAT={entry >> 2} PCD={entry >> 1 & 1} PWT={entry & 1}"
    covering = [reg for reg, start, behind, _ in used if start <= address < behind]
    lines = [f"address {address:#x} ({address // MIB} MB)"]
    for reg, start, behind, kind in used:
        inside = "covers it" if reg in covering else "does not"
        lines.append(f"  reg{reg:02} [{start:#x}-{behind - 1:#x}] {mtrr_attrib_to_str(kind)}: {inside}")
    lines.append(f"  outside of all ranges: {mtrr_attrib_to_str(state.def_type)}")
    why = _why(state, address, len(covering))
    lines += [
        f"by the MTRRs      {short(by_range)}   ({why})",
        f"by the entry      {short(chosen)}   ({bits}: {entry})",
    ]
    lines.append(f"in the end        {short(end)}")
    drawing = _draw(state, address, used, covering)
    y = _TOP + _ROW * (len(used) + 1) + 34
    for label, number, told in (
        ("by the MTRRs", by_range, why), ("by the entry", chosen, f"{bits}: number {entry} of the PAT"),
        ("in the end", end, "what the CPU does"),
    ):  # fmt: skip
        last = label == "in the end"
        drawing.text(10, y + 16, label, size=12.5, bold=last)
        drawing.rect(130, y, 52, 24, fill=_COLOURS[short(number)], stroke=INK if last else LINE, line=3 if last else 1)
        drawing.text(156, y + 16, short(number), size=12, anchor="middle", bold=True, mono=True)
        drawing.text(196, y + 16, told, size=11.5, fill=SOFT_INK)
        y += 34
    drawing.height = y + 2
    drawing.alt = ". ".join(line.strip() for line in lines) + "."
    return Figure.drawn(drawing, "\n".join(lines))


def _why(state: MtrrState, address: int, covering: int) -> str:
    if address < MIB and state.have_fixed:
        return "below 1 MiB a fixed range decides"
    if not covering:
        return "no range covers it: the default"
    return "one range covers it" if covering == 1 else f"{covering} ranges cover it: UC wins, WB with WT is WT"


def _draw(state: MtrrState, address: int, used: list[tuple[int, int, int, int]], covering: list[int]) -> Svg:
    """The ranges as bars over the addresses; each stretch between two borders is as wide as the next."""
    drawing = Svg(_LEFT + _BAR + 20, 0, "Which type has this page?", "")
    drawing.text(10, 20, f"How is the page at {address:#x} accessed?", size=13, bold=True)
    edges = sorted(
        {0, address, address + PAGE_SIZE, *(edge for _, start, behind, _ in used for edge in (start, behind))}
    )
    edges.append(edges[-1] + 1)
    step = _BAR / (len(edges) - 1)
    place = {edge: _LEFT + at * step for at, edge in enumerate(edges)}
    now = place[address], place[address + PAGE_SIZE] - place[address]
    drawing.text(now[0] + now[1] / 2, 52, "the page", size=10.5, anchor="middle", bold=True)
    bottom = _TOP + _ROW * (len(used) + 1)
    for row, (reg, start, behind, kind) in enumerate(used):
        y = _TOP + row * _ROW
        span = f"{start // MIB:5}M-{behind // MIB}M"
        drawing.text(10, y + 14, f"reg{reg:02} {span:<13} {mtrr_attrib_to_str(kind)}", size=10, mono=True,
                     bold=reg in covering)  # fmt: skip
        drawing.rect(place[start], y, place[behind] - place[start], _ROW - 6, fill=_COLOURS[short(kind)], stroke=LINE)
        drawing.text(place[start] + 5, y + 13, short(kind), size=10.5, mono=True, bold=True)
    drawing.text(10, bottom - _ROW + 14, f"{'default':<19} {mtrr_attrib_to_str(state.def_type)}", size=10, mono=True)
    drawing.rect(_LEFT, bottom - _ROW, _BAR, _ROW - 6, fill=HATCHED, stroke=LINE, dash=True)
    drawing.rect(_LEFT + 3, bottom - _ROW + 3, 22, _ROW - 12, fill=NOW)
    drawing.text(_LEFT + 5, bottom - _ROW + 13, short(state.def_type), size=10.5, mono=True, bold=True)
    drawing.rect(now[0], _TOP - 8, max(now[1], 3), bottom - _TOP + 6, stroke=NOW_BAR, line=3)
    drawing.text(_LEFT, bottom + 14, "widths are not to scale", size=10, fill=SOFT_INK)
    return drawing
