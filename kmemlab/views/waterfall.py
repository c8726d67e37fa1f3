"""From the RAM that the firmware reports to MemTotal, and on to MemFree: who took what, computed from one boot.

usable RAM       ████████████████████████
kernel                               ███      what stays with it for good
memory map                        ███
given back                        ▒▒          what boot needed for a while
MemTotal         ████████████████████
programs                         ████      what runs holds now
page cache                   ████
MemFree          ████████████
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kmemlab.boot.globals import Boot
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine, Source
from kmemlab.types.e820_type import E820_TYPE_RAM
from kmemlab.types.units import MIB, PAGE_SHIFT, size_text
from kmemlab.views.colours import ACCENT, KINDS, LINE, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.memblock_ledger import Taken, held_by, ledger
from kmemlab.views.svg import HATCHED, Svg

_LEFT, _WIDE, _ROW, _TOP = 250, 480, 26, 44

KERNEL, INITRD, LOW, REST = "the kernel itself", "the initrd", "the first MiB", "the rest"

MEMTOTAL, MEMFREE = "MemTotal", "MemFree"

# What holds memory now, by the rows of /proc/meminfo; no page is in two of them.
HELD = {
    "programs": ("AnonPages",),
    "page cache": ("Cached", "Buffers", "SwapCached"),
    "slabs": ("Slab",),
    "page tables": ("PageTables",),
}
OTHERS = "no row of its own"

# Which function takes memory for what. Functions that are not named here are "the rest".
PURPOSES = {
    "sparse_init_nid": "the memory map",
    "memblocks_present": "the memory map",
    "sparse_index_alloc": "the memory map",
    "sparse_early_usemaps_alloc_pgdat_section": "the memory map",
    "swiotlb_init_remap": "bounce buffer",
    "alloc_large_system_hash": "hash tables",
    "pcpu_fc_alloc": "per-CPU variables",
    "reserve_bios_regions": LOW,
    "reserve_real_mode": LOW,
    "alloc_node_mem_map": "the memory map",
    "reserve_crashkernel": "a second kernel",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One bar: `size` bytes; negative for what is taken, positive for what comes back, `total` for a sum so far."""

    name: str
    size: int
    total: bool = False


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The way from RAM to MemTotal, or to MemFree, of one machine; the steps add up to the byte."""

    machine: str
    steps: tuple[Step, ...]

    @property
    def usable(self) -> int:
        """Bytes that the firmware called usable."""
        return self.steps[0].size

    @property
    def memtotal(self) -> int:
        """Bytes that the page allocator manages: MemTotal of /proc/meminfo."""
        return next(step.size for step in self.steps if step.name == MEMTOTAL)

    @property
    def title(self) -> str:
        """From where to where."""
        return f"{self.machine}: from {'RAM' if self.steps[0].name != MEMTOTAL else MEMTOTAL} to {self.steps[-1].name}"

    def text(self) -> str:
        """One line a step."""
        lines = [self.title]
        for step in self.steps:
            sign = " " if step.total else "-" if step.size < 0 else "+"
            lines.append(f"{step.name:24}{sign}{abs(step.size) >> 10:>12,} KiB   {size_text(abs(step.size)):>9}")
        return "\n".join(lines)

    def figure(self) -> Figure:
        """The steps as bars that hang where the one before ended."""
        return Figure.drawn(_drawing(self), self.text())

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_kwargs: object) -> dict[str, str]:
        return self.figure()._repr_mimebundle_()


def waterfall(source: Source) -> Waterfall:
    """Boot a machine twice, once up to the hand-over and once to the end, and do the sum."""
    spec = load_spec(source)
    early = Machine(spec)
    early.kernel.boot.memblock.debug = 1  # from the first reservation on, before the command line could say so
    early.start_kernel("pci_iommu_alloc")  # the last that memblock is asked for
    boot = early.kernel.boot
    usable = sum(entry.size for entry in boot.e820_table_firmware.entries() if entry.type == E820_TYPE_RAM)
    known = boot.memblock.memory.total_size
    taken = purposes(boot, ledger(early.dmesg()))
    total = sum(zone.managed_pages for zone in Machine.boot(spec).zones) << PAGE_SHIFT
    steps = [
        Step("usable, says the firmware", usable, total=True),
        Step("not used", known - usable),
        *(Step(name, -size) for name, size in taken.items()),
        Step("given back", total - known + sum(taken.values())),
        Step(MEMTOTAL, total, total=True),
    ]
    return Waterfall(spec.name, tuple(step for step in steps if step.size))


def to_free(name: str, meminfo: str, before: Waterfall | None = None) -> Waterfall:
    """The way from MemTotal to MemFree, by a /proc/meminfo; behind the way from RAM, if that is given.

    What is left over has no row that adds up: stacks and other areas of vmalloc, per-CPU data, what drivers took from
    alloc_pages, and the free pages that CPUs keep at hand.
    """
    kib = {line.split(":")[0]: int(line.split()[1]) for line in meminfo.splitlines() if line.strip()}
    total, free = kib[MEMTOTAL] << 10, kib[MEMFREE] << 10
    held = {what: sum(kib.get(row, 0) for row in rows) << 10 for what, rows in HELD.items()}
    first = before.steps if before else (Step(MEMTOTAL, total, total=True),)
    steps = (
        *(Step(what, -size) for what, size in held.items() if size),
        Step(OTHERS, free - total + sum(held.values())),
        Step(MEMFREE, free, total=True),
    )
    return Waterfall(name, (*first, *(step for step in steps if step.size)))


def purposes(boot: Boot, rows: Iterable[Taken]) -> dict[str, int]:
    """Bytes of memory (not of holes) that each purpose holds, the most first, the rest last."""
    sums: dict[str, int] = {}
    for who, start, end in held_by(rows):
        for low, high in _within_memory(boot, start, end):
            name = _purpose(boot, who, low)
            sums[name] = sums.get(name, 0) + high - low
    rest = sums.pop(REST, 0)
    return dict(sorted(sums.items(), key=lambda item: -item[1])) | {REST: rest}


def _within_memory(boot: Boot, start: int, end: int) -> Iterator[tuple[int, int]]:
    for base, size, _, _ in boot.memblock.memory.regions():
        low, high = max(start, base), min(end, base + size)
        if low < high:
            yield low, high


def _purpose(boot: Boot, who: str, addr: int) -> str:
    image = boot.spec.image
    if image.code[0] <= addr < image.brk[1]:
        return KERNEL
    if boot.initrd_start <= addr < boot.initrd_end:
        return INITRD
    return PURPOSES.get(who, LOW if addr < MIB else REST)


def _drawing(fall: Waterfall) -> Svg:
    """The axis doesn't begin at 0: what boot takes is thin beside what is left."""
    levels = list(_levels(fall.steps))
    lowest, highest = min(low for low, _ in levels), max(high for _, high in levels)
    begin = max(0, lowest - (highest - lowest) // 2)
    alt = ". ".join(fall.text().splitlines()[1:]) + "."
    drawing = Svg(_LEFT + _WIDE + 110, _TOP + _ROW * len(levels) + 26, fall.title, " ".join(alt.split()))
    drawing.text(10, 20, fall.title, size=13, bold=True)
    for row, (step, (low, high)) in enumerate(zip(fall.steps, levels, strict=True)):
        left, right = (_LEFT + _WIDE * (level - begin) / (highest - begin) for level in (low, high))
        _bar(drawing, _TOP + _ROW * row, step, _LEFT if step.total else left, max(right, left + 2))
    foot = f"the axis begins at {size_text(begin)}; filled: a sum, plain: taken, hatched: given back"
    drawing.text(10, drawing.height - 8, foot, size=10.5, fill=SOFT_INK)
    return drawing


def _bar(drawing: Svg, y: float, step: Step, left: float, right: float) -> None:
    fill = ACCENT if step.total else HATCHED if step.size > 0 else KINDS["reserved"][1]
    sign = "" if step.total else "- " if step.size < 0 else "+ "
    drawing.text(_LEFT - 12, y + 16, step.name, size=11.5, anchor="end", bold=step.total)
    drawing.rect(left, y + 3, right - left, _ROW - 8, fill=fill, stroke=LINE)
    drawing.text(_LEFT + _WIDE + 98, y + 16, sign + size_text(abs(step.size)), size=11, mono=True, anchor="end")


def _levels(steps: Iterable[Step]) -> Iterator[tuple[int, int]]:
    """From where to where each bar goes; a sum is a bar from the left edge to its own size."""
    now = 0
    for step in steps:
        before, now = (step.size, step.size) if step.total else (now, now + step.size)
        yield min(before, now), max(before, now)
