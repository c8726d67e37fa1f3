"""A cache of SLUB at one moment, frozen: its slabs, whose they are, and the freelists that run through their objects.

slab at pfn 18516, CPU 0's    H H 5 . . 7 . .      freelist of CPU 0: 2 ▶ 5 ▶ 7
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.alloc.slab_memory import read_number
from kmemlab.alloc.slab_pages import slab_address
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.alloc.slub_freelist import freelist_ptr
from kmemlab.alloc.slub_partial import nodes_of, slabs_on
from kmemlab.machine.snapshot import FROZEN
from kmemlab.sim.kernel import invented

NOBODY = "on no list"


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class SlubSlab:
    """One slab: who keeps it, and its free objects by number, in the order in which they will be taken.

    `cpu_freelist` is the list that its CPU takes from, `freelist` the slab's own, where others give back.
    """

    pfn: int
    keeper: str
    objects: int
    cpu_freelist: tuple[int, ...]
    freelist: tuple[int, ...]

    @property
    def held(self) -> int:
        """How many of its objects somebody has."""
        return self.objects - len(self.cpu_freelist) - len(self.freelist)

    def next_of(self, index: int) -> int | None:
        """The object behind a free one on its list; -1: it is the last; None: it is not free."""
        for row in (self.cpu_freelist, self.freelist):
            if index in row:
                at = row.index(index)
                return row[at + 1] if at + 1 < len(row) else -1
        return None


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class SlubShot:
    """A cache of SLUB. Sizes in bytes; `offset` is where in a free object the pointer to the next one stands."""

    name: str
    object_size: int
    size: int
    offset: int
    order: int
    slabs: tuple[SlubSlab, ...]


@invented(FROZEN)
def slub_shot(cache: SlubCache) -> SlubShot:
    """Freeze a cache, whatever it is just doing."""
    keepers = keepers_of(cache)
    per_cpu, pages = cache.per_cpu, cache.pages
    of_cpu = {per_cpu.slab[cache.cpu_slab + cpu]: cpu for cpu in range(per_cpu.nr_cpus)}
    slabs = []
    for pfn in sorted(slabs_of(cache)):
        mine: tuple[int, ...] = ()
        if pfn in of_cpu:
            mine = indices(cache, pfn, per_cpu.freelist[cache.cpu_slab + of_cpu[pfn]])
        keeper = keepers.get(pfn, NOBODY)
        slabs.append(SlubSlab(pfn, keeper, pages.objects[pfn], mine, indices(cache, pfn, pages.freelist[pfn])))
    return SlubShot(cache.name, cache.object_size, cache.size, cache.offset, cache.order, tuple(slabs))


@invented(FROZEN, traced=False)
def slabs_of(cache: SlubCache) -> list[int]:
    """The slabs of a cache by their pages: SLUB keeps full ones on no list."""
    pages = cache.pages
    frames = tuple(pages.ram.frames())
    return [
        pfn
        for pfn in frames
        if pages.slab_cache[pfn] == cache.number and not pages.compound_head[pfn] and pages.objects[pfn]
    ]


@invented(FROZEN, traced=False)
def keepers_of(cache: SlubCache) -> dict[int, str]:
    """Whose each slab is that somebody keeps."""
    per_cpu, found = cache.per_cpu, {}
    for nid in nodes_of(cache):
        found.update(dict.fromkeys(slabs_on(cache, nid), f"node {nid}, partial"))
    for cpu in range(per_cpu.nr_cpus):
        row = cache.cpu_slab + cpu
        slab = per_cpu.partial[row]
        while slab and found.get(slab) != f"CPU {cpu}, partial":
            found[slab] = f"CPU {cpu}, partial"
            slab = cache.pages.next[slab]
        if per_cpu.slab[row]:
            found[per_cpu.slab[row]] = f"CPU {cpu}"
    return found


@invented(FROZEN, traced=False)
def indices(cache: SlubCache, slab: int, obj: int) -> tuple[int, ...]:
    """The objects of a freelist by their number in the slab, as far as it makes sense."""
    base = slab_address(cache.pages, slab) + cache.red_left_pad
    found: list[int] = []
    while obj:
        index, within = divmod(obj - base, cache.size)
        if within or not 0 <= index < cache.pages.objects[slab] or index in found:
            break
        found.append(index)
        at = obj + cache.offset
        obj = freelist_ptr(cache, read_number(cache.pages, at, cache.pointer), at)
    return tuple(found)
