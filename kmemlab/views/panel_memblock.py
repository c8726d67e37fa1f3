"""The panel of memblock: memory and what is reserved of it as two lanes over the addresses, and what is free."""

from __future__ import annotations

from kmemlab.boot.memblock import Memblock, for_each_free_mem_range
from kmemlab.boot.memblock_regions import MemblockType
from kmemlab.machine.snapshot import Range, memblock_snapshot
from kmemlab.sim.recording import plain_column
from kmemlab.sim.timeline import Call, Event
from kmemlab.types.units import size_text
from kmemlab.views.colours import INK, KINDS, LINE, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.memory_map import stretches
from kmemlab.views.panel import Sight, What
from kmemlab.views.svg import Svg
from kmemlab.views.text import memblock_text
from kmemlab.views.told import told

_ADDRESS, _LANE, _GAP, _TOP = 138, 104, 8, 46
_LANES = (("memory", "usable", "M"), ("reserved", "reserved", "R"), ("free", "ACPI data", "F"))
_TELLS = ("memblock_add", "memblock_add_node", "memblock_reserve", "memblock_phys_free", "memblock_remove")


class MemblockPanel:
    """memblock's two lists, and what is left: a lane for each, from the lowest address (above) to the highest."""

    stage = "memblock"
    proc_name = "memblock=debug, if both lists were dumped now"

    def __init__(self, memblock: Memblock) -> None:
        self.memblock = memblock
        self.reach: tuple[Range, ...] = ()

    def prepare(self, calls: list[Call]) -> None:
        """Learn which ranges will come, so that the picture keeps its scale from the first step on."""
        stories = [told((call,)).args for call in calls if call.name in _TELLS]
        self.reach = tuple(Range(args["base"], args["size"], "reach") for args in stories if args.get("size"))

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read both lists. The range that the innermost call is about is outlined."""
        now = self._now(stack)
        memory, reserved = self._list(self.memblock.memory), self._list(self.memblock.reserved)
        free = tuple(Range(start, end - start, "free") for start, end, _ in for_each_free_mem_range(self.memblock))
        alt = self._alt(memory, reserved, free)
        picture = self._draw((memory, reserved, free), now, alt)
        facts = []
        for type in (self.memblock.memory, self.memblock.reserved):
            facts += [(f"{type.name}.cnt", str(type.cnt)), (f"{type.name}.total_size", f"{type.total_size:#x}")]
            for at, item in enumerate(self._list(type)):
                facts.append((f"{type.name}[{at}]", f"{item.start:#x}-{item.end - 1:#x}"))
        limit = self.memblock.current_limit
        facts.append(("current_limit", f"{limit:#x}"))
        return Sight(picture, alt, self._dump(), tuple(facts))

    def wrote(self, event: Event) -> What | None:
        """The first region of a list, which is written in its place; all others are inserted, and told as that."""
        for type in (self.memblock.memory, self.memblock.reserved):
            if event.column is plain_column(type.base) or event.column is plain_column(type.size):
                return What(type.name, event.index)
        if event.column is plain_column(self.memblock.cells) and event.stack[-1].name == "memblock_set_current_limit":
            return What("current_limit", 0)
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """The region as it is now, or the limit."""
        if what.kind == "current_limit":
            return f"{by} sets the limit: nobody is given memory at {self.memblock.current_limit:#x} or above."
        type = self.memblock.memory if what.kind == "memory" else self.memblock.reserved
        start, end = type.base[what.number], type.end(what.number)
        return f"{by} writes region {what.number} of {what.kind}: [{start:#x}-{max(end - 1, 0):#x}]."

    def _list(self, type: MemblockType) -> tuple[Range, ...]:
        return tuple(Range(base, size, type.name) for base, size, _, _ in type.regions())

    def _now(self, stack: tuple[Call, ...]) -> tuple[int, int] | None:
        for at in range(len(stack), 0, -1):
            args = told(stack[:at]).args
            if isinstance(args.get("base"), int) and isinstance(args.get("size"), int):
                return args["base"], args["base"] + args["size"]
        return None

    def _alt(self, memory: tuple[Range, ...], reserved: tuple[Range, ...], free: tuple[Range, ...]) -> str:
        parts = [
            f"{len(items)} {name} {'range' if len(items) == 1 else 'ranges'}, {size_text(sum(r.size for r in items))}"
            for name, items in (("memory", memory), ("reserved", reserved), ("free", free))
        ]
        return f"memblock: {'; '.join(parts)}."

    def _dump(self) -> str:
        """What memblock_dump prints of both lists, without printing it."""
        lines = []
        for type in (self.memblock.memory, self.memblock.reserved):
            lines.append(f"{type.name}.cnt  = {type.cnt:#x}")
            lines += [
                f"{type.name}[{at:#x}] [{item.start:#018x}-{item.end - 1:#018x}]"
                for at, item in enumerate(self._list(type))
            ]
        return "\n".join(lines)

    def _draw(self, lanes: tuple[tuple[Range, ...], ...], now: tuple[int, int] | None, alt: str) -> Svg:
        rows = stretches((*lanes[0], *lanes[1], *self.reach), _TOP)
        bottom = rows[-1].top + rows[-1].height if rows else _TOP + 20
        right = _ADDRESS + 3 * (_LANE + _GAP)
        drawing = Svg(right + 8, bottom + 30, "memblock", alt)
        drawing.text(10, 18, "memblock", size=13, bold=True)
        where = {row.start: row.top for row in rows} | {row.end: row.top + row.height for row in rows}
        for address, y in where.items():
            drawing.line(_ADDRESS - 6, y, right, y, stroke="#d0d7de")
            drawing.text(_ADDRESS - 10, y + 4, f"{address:#014x}", size=11, anchor="end", mono=True)
        for lane, ((name, kind, letter), items) in enumerate(zip(_LANES, lanes, strict=True)):
            x = _ADDRESS + lane * (_LANE + _GAP)
            drawing.text(x, 38, name, size=11, fill=SOFT_INK)
            for item in items:
                top, high = where[item.start], where[item.end] - where[item.start]
                note = f"{name}: [{item.start:#x}-{item.end - 1:#x}], {size_text(item.size)}"
                drawing.rect(x, top, _LANE, high, fill=KINDS[kind][1], stroke=LINE, note=note)
                drawing.text(x + 14, top + high / 2 + 4, letter, size=11, anchor="middle", mono=True, bold=True)
                drawing.text(x + _LANE - 8, top + high / 2 + 4, size_text(item.size), size=11, anchor="end", mono=True)
        if now and now[0] in where and now[1] in where:
            drawing.rect(
                _ADDRESS - 3, where[now[0]], right - _ADDRESS, where[now[1]] - where[now[0]], stroke=INK, line=3
            )
        drawing.text(10, bottom + 22, "heights grow with the logarithm of the size", size=10.5, fill=SOFT_INK)
        return drawing


def memblock_figure(memblock: Memblock) -> Figure:
    """Both lists as they are now, and what is free, as a still figure."""
    sight = MemblockPanel(memblock).sight((), None)
    assert isinstance(sight.picture, Svg)
    return Figure.drawn(sight.picture, memblock_text(memblock_snapshot(memblock)))
