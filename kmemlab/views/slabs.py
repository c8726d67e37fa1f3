"""Objects within slabs, SLUB on the left and SLAB on the right, after one and the same trace.

SLUB                                       SLAB
task   1504 bytes, 21 in 8 pages           task   1504 bytes, 5 in 2 pages, colours of 64 bytes
6160   |H|c|H|c|H|c|H|…                    6160   |H|.|H|.|H|//|
                                           6162   /|H|.|H|.|H|/
"""

from __future__ import annotations

from kmemlab.machine.slab_snapshot import FREE, HELD, ON_CPU, SHARED, CacheShot, SlabShot
from kmemlab.machine.slab_trace import AllocatorShot
from kmemlab.types.units import PAGE_SIZE, size_text
from kmemlab.views.colours import INK, LINE, PAPER, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.svg import HATCHED, Svg
from kmemlab.views.text import pages_text

# What an object can be: its letter, its colour, and the words for it.
LOOKS = {
    HELD: ("H", "#9fd8c5", "held"),
    ON_CPU: ("c", "#b3dcf5", "free, in the hands of a CPU"),
    SHARED: ("s", "#f3cf85", "free, in an array that is shared"),
    FREE: ("", PAPER, "free in its slab"),
}
INDEX_COLOUR = "#e6c3d6"

_SIDE, _GAP, _LABEL = 570, 20, 110
_BAR, _ROW = 15, 20
_THIN = 5  # narrower objects are drawn without outlines
_MOST = 12  # slabs of a cache that are drawn; of more only the number is told


def counted(number: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "slab"), counted(0, "slab")
    ('1 slab', '0 slabs')
    """
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def waste_text(cache: CacheShot) -> str:
    """How much of a cache's pages no object can use.

    >>> waste_text(CacheShot("a", 96, 128, 32, 0, 64, "", (SlabShot(1, 0, 0, "H" * 32, -1),)))
    '1 KiB of 4 KiB (25 %) is no use to any object'
    """
    whole = cache.pages * PAGE_SIZE
    if not whole:
        return "no page"
    share = f" ({100 * cache.waste / whole:.0f} %)"
    return f"{size_text(cache.waste)} of {size_text(whole)}{share} is no use to any object"


def cache_line(cache: CacheShot) -> str:
    """A cache's geometry in one line."""
    slot = f" in slots of {cache.size}" if cache.size != cache.object_size else ""
    pages = counted(1 << cache.order, "page")
    return f"{cache.name}: {cache.object_size} bytes{slot}, {cache.num} in {pages}"


def slab_lines(cache: CacheShot) -> list[str]:
    """A line a slab: where it is, where its objects begin, and a letter for each."""
    lines = []
    for slab in cache.slabs:
        free = slab.objects.count(FREE) + slab.objects.count(ON_CPU) + slab.objects.count(SHARED)
        told = f"{len(slab.objects) - free} held, {free} free"
        lines.append(f"  pfn {slab.pfn:<7} from byte {slab.start:<4} {slab.objects}  {told}")
    return lines


def allocator_text(shot: AllocatorShot) -> str:
    """What one allocator made of the trace."""
    lines = [f"{shot.name}: {pages_text(shot.pages)}, {size_text(shot.waste)} of them no use to any object"]
    for cache in shot.caches:
        colours = len({slab.start for slab in cache.slabs})
        lines += ["", cache_line(cache)]
        lines.append(f"  {counted(len(cache.slabs), 'slab')}, {counted(cache.pages, 'page')}; {waste_text(cache)}")
        lines.append(
            f"  slabs begin their objects in {counted(colours, 'place')}; who is next stands {cache.index_place}"
        )
        states = (f"{cache.count(letter)} {words}" for letter, (_, _, words) in LOOKS.items() if cache.count(letter))
        lines.append(f"  {'; '.join(states) or 'no slab'}")
        lines += slab_lines(cache)
    if shot.failed:
        lines += ["", "no memory for: " + "; ".join(shot.failed)]
    return "\n".join(lines)


def side_by_side_text(left: AllocatorShot, right: AllocatorShot) -> str:
    """Both allocators, one below the other, and both /proc/slabinfo: only the caches of the trace."""
    parts = [allocator_text(left), allocator_text(right)]
    parts += [f"/proc/slabinfo of {shot.name}\n{shot.slabinfo.rstrip()}" for shot in (left, right)]
    return "\n\n".join(parts)


def side_by_side(left: AllocatorShot, right: AllocatorShot, title: str = "One trace, two allocators") -> Figure:
    """The slabs of both allocators as bars, an object a box; a cache's slabs are drawn to one scale on both sides."""
    drawing = Svg(2 * _SIDE + _GAP, 0, title, side_by_side_alt(left, right))
    drawing.text(10, 22, title, size=13, bold=True)
    _legend(drawing, 42)
    sides = ((10.0, left), (10.0 + _SIDE + _GAP, right))
    for x, shot in sides:
        drawing.text(x, 74, f"{shot.name}   {pages_text(shot.pages)}", size=12.5, bold=True)
    y = 98.0
    for name in dict.fromkeys(cache.name for _, shot in sides for cache in shot.caches):
        both = [(x, cache) for x, shot in sides for cache in shot.caches if cache.name == name]
        largest = max(PAGE_SIZE << cache.order for _, cache in both)
        y = max(_draw_cache(drawing, cache, x, y, (_SIDE - _LABEL - 16) / largest) for x, cache in both) + 26
    drawing.line(_SIDE + _GAP / 2, 60, _SIDE + _GAP / 2, y - 20, stroke=LINE, dash=True)
    drawing.height = y - 8
    return Figure.drawn(drawing, side_by_side_text(left, right))


def side_by_side_alt(left: AllocatorShot, right: AllocatorShot) -> str:
    """What the picture shows, in words."""
    told = []
    for shot in (left, right):
        caches = ", ".join(
            f"{cache.name} has {len(cache.slabs)} slabs with {cache.count(HELD)} objects held" for cache in shot.caches
        )
        told.append(f"{shot.name} took {pages_text(shot.pages)}: {caches or 'no cache'}.")
    return " ".join(told)


def _legend(drawing: Svg, y: float) -> None:
    x = 10.0
    looks = [
        *LOOKS.values(),
        ("i", INDEX_COLOUR, "which object is next, where that stands on the slab"),
        ("", HATCHED, "no object fits"),
    ]
    for letter, colour, words in looks:
        drawing.rect(x, y - 11, 16, 14, fill=colour, stroke=LINE)
        if letter:
            drawing.text(x + 8, y, letter, size=10, mono=True, anchor="middle")
        drawing.text(x + 22, y, words, size=11, fill=SOFT_INK)
        x += 22 + 6.2 * len(words) + 22


def _draw_cache(drawing: Svg, cache: CacheShot, x: float, y: float, scale: float) -> float:
    """One cache of one allocator from `y` down; returns where it ends."""
    drawing.text(x, y, cache_line(cache), size=11.5, fill=INK, bold=True)
    told = f"{counted(len(cache.slabs), 'slab')}; {waste_text(cache)}"
    drawing.text(x, y + 15, told, size=11, fill=SOFT_INK)
    y += 23
    for slab in cache.slabs[:_MOST]:
        begin = f" +{slab.start}" if slab.start else ""
        drawing.text(x, y + 11.5, f"pfn {slab.pfn}{begin}", size=10.5, mono=True, fill=SOFT_INK)
        _draw_slab(drawing, cache, slab, x + _LABEL, y, scale)
        y += _ROW
    if len(cache.slabs) > _MOST:
        drawing.text(x + _LABEL, y + 11, f"and {len(cache.slabs) - _MOST} more slabs", size=11, fill=SOFT_INK)
        y += _ROW
    return y


def _draw_slab(drawing: Svg, cache: CacheShot, slab: SlabShot, x: float, y: float, scale: float) -> None:
    """A slab as a bar, with a mark below it where a page ends; what is hatched holds no object."""
    size = PAGE_SIZE << cache.order
    drawing.rect(x, y, size * scale, _BAR, fill=HATCHED, stroke=LINE, note=f"slab at pfn {slab.pfn}")
    width = cache.size * scale
    thin = width < _THIN
    for index, letter in enumerate(slab.objects):
        shown, colour, words = LOOKS[letter]
        left = x + (slab.start + index * cache.size) * scale
        note = f"object {index} at byte {slab.start + index * cache.size}: {words}"
        gap = 0.5 if thin else 0.0
        outline = "none" if thin else LINE
        drawing.rect(left, y + gap, width - gap, _BAR - 2 * gap, fill=colour, stroke=outline, line=0.6, note=note)
        if shown and width >= 8:
            drawing.text(left + width / 2, y + 11, shown, size=9.5, mono=True, anchor="middle")
    for page in range(1, 1 << cache.order):
        drawing.line(x + page * PAGE_SIZE * scale, y + _BAR, x + page * PAGE_SIZE * scale, y + _BAR + 3, stroke=INK)
    if slab.index_at >= 0:
        bytes_width = max(cache.num * scale, 3)
        at = min(x + slab.index_at * scale, x + size * scale - bytes_width)
        note = f"{cache.num} bytes that say which object is next"
        drawing.rect(at, y, bytes_width, _BAR, fill=INDEX_COLOUR, stroke=INK, line=0.8, note=note)
        if bytes_width >= 8:
            drawing.text(at + bytes_width / 2, y + 11, "i", size=9.5, mono=True, anchor="middle")
