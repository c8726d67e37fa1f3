"""Slab events on the model's SLUB: how many slabs the same requests and frees of objects take.

    kmem_cache_alloc, kmalloc   ptr=…  ──▶  an object of the model's cache stands for the address
    kmem_cache_free, kfree      ptr=…  ──▶  that object is given back

Addresses tell what the trace does not say: an object is of the cache that others of its page are of, and an object that
is handed out first and freed first stood free before the trace, if its page was no new one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kmemlab.alloc.kmalloc import kmalloc_slab
from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.alloc.slab_common import SlabCommon, kmem_cache_alloc, kmem_cache_free
from kmemlab.alloc.slab_create import kmem_cache_create
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.machine.saved_text import read_text
from kmemlab.machine.trace_reader import TraceEvent
from kmemlab.sim.kernel import invented
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import PAGE_SHIFT

ALLOCS, FREES = ("kmem_cache_alloc", "kmalloc"), ("kmem_cache_free", "kfree")
_NUMBER = re.compile(r"[0-9]{1,18}")
LARGEST_KMALLOC = 8192  # bytes; larger ones are pages, not objects


@invented("a saved state is data")
@dataclass(frozen=True, slots=True)
class SavedCache:
    """A line of slabinfo: bytes of a slot, slots of a slab, and how many slabs there are."""

    name: str
    size: int
    objects: int
    slabs: int


@invented("a part of read_saved_state")
def saved_caches(folder: Path) -> dict[str, SavedCache]:
    """The caches of slabinfo, by name; none where it was not saved."""
    caches = {}
    for line in (read_text(folder, "slabinfo.txt") or "").splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 14 and all(_NUMBER.fullmatch(words[at]) for at in (1, 3, 4, -2)):
            caches[words[0]] = SavedCache(words[0], int(words[3]), int(words[4]), int(words[-2]))
    return caches


@invented("the trace names a cache when an object is freed, not when it is handed out")
def cache_names(events: Sequence[TraceEvent]) -> tuple[dict[int, str], dict[tuple[str, int], str]]:
    """The caches by the page of an object, and by who asked for how many bytes, as far as frees tell."""
    pages: dict[int, str] = {}
    sites: dict[tuple[str, int], str] = {}
    asked: dict[int, tuple[str, int]] = {}
    for event in events:
        if event.name == "kmem_cache_alloc":
            asked[event.fields[1]] = (event.fields[0], event.fields[3])
        elif event.name == "kmem_cache_free":
            pages[event.fields[1] >> PAGE_SHIFT] = event.fields[2]
            if event.fields[1] in asked:
                sites[asked.pop(event.fields[1])] = event.fields[2]
    return pages, sites


@invented("the slab events drive SLUB")
class SlabReplay:
    """A machine of its own, whose caches have as many slabs as the real ones had before the trace."""

    def __init__(self, hardware: Path, before: dict[str, SavedCache], events: Sequence[TraceEvent]) -> None:
        spec = load_spec(hardware)
        # Each cache of slabinfo is one that really exists: none of them is to be merged once more.
        spec = replace(spec, cmdline=f"{spec.cmdline} slab_nomerge")
        self.machine = Machine.boot(spec)
        self.common: SlabCommon = self.machine.kernel.slab
        self.pages, self.sites = cache_names(events)
        self.before = before
        self.caches = self.caches_of(before)
        self.cache_of: dict[int, KmemCache] = {}  # Linux's object → the model's cache
        self.stands_for: dict[int, int] = {}  # Linux's object → the model's
        self.held: dict[str, list[int]] = {}  # objects from before the trace, by cache
        self.counted: Counter[str] = Counter()
        self.fill(events)
        self.slabs_before = self.slabs()

    def caches_of(self, before: dict[str, SavedCache]) -> dict[str, KmemCache]:
        """The model's cache for each of slabinfo: kmalloc's exist, the others are made."""
        existing = {cache.name: cache for cache in self.common.existing()}
        caches = {}
        for saved in before.values():
            cache = existing.get(saved.name) or kmem_cache_create(self.common, saved.name, saved.size)
            if cache is not None and cache.size == saved.size:
                caches[saved.name] = cache
        return caches

    def slabs(self) -> int:
        """The slabs of all caches together."""
        return sum(cache.engine.get_slabinfo(cache).num_slabs for cache in self.caches.values())

    # -- before the trace ----------------------------------------------------------------------------------------------

    def fill(self, events: Sequence[TraceEvent]) -> None:
        """Take as many slabs as each cache had, and leave free in them what the trace finds free there."""
        free = self.free_before(events)
        names = {name for event in events if (name := self.name_of(event)) is not None}
        used = [name for name in self.caches if name in names]
        for name in used:
            saved, cache = self.before[name], self.caches[name]
            slabs: list[list[int]] = []
            for _ in range(saved.slabs):
                slabs.append([self.take(cache) for _ in range(saved.objects)])
            # The slab that the trace uses first is freed into last: it comes first in the CPU's list of partial slabs.
            groups = list(free.get(name, {}).values())[: len(slabs)]
            for group in reversed(groups):
                slab = slabs.pop()
                for _ in group[: len(slab)]:
                    kmem_cache_free(cache, slab.pop())
                self.held.setdefault(name, []).extend(slab)
            self.held.setdefault(name, []).extend(obj for slab in slabs for obj in slab)

    def free_before(self, events: Sequence[TraceEvent]) -> dict[str, dict[int, list[int]]]:
        """The objects that stood free before the trace, by cache and slab, in the order in which they are taken."""
        new_pages: set[int] = set()
        seen: set[int] = set()
        free: dict[str, dict[int, list[int]]] = {}
        for event in events:
            if event.name == "mm_page_alloc":
                new_pages.update(range(event.fields[0], event.fields[0] + (1 << event.fields[1])))
            elif event.name in ALLOCS or event.name in FREES:
                address = event.fields[1]
                first = address not in seen
                seen.add(address)
                name = self.name_of(event)
                if not first or event.name in FREES or name not in self.before:
                    continue
                if (address - self.direct_map) >> PAGE_SHIFT in new_pages:
                    continue
                saved = self.before[name]
                span = 1 << (saved.size * saved.objects - 1).bit_length()
                free.setdefault(name, {}).setdefault(address // span, []).append(address)
        return free

    @property
    def direct_map(self) -> int:
        """Where the kernel sees page frame 0; right for a kernel that was not moved, or of which it is known."""
        return self.machine.kernel.boot.page_offset_base

    # -- events --------------------------------------------------------------------------------------------------------

    def name_of(self, event: TraceEvent) -> str | None:
        """The cache that an event is of, by name; None if nothing tells, or it is no object's."""
        if event.name == "kmem_cache_free":
            name: str = event.fields[2]
            return name
        if event.name == "kmem_cache_alloc":
            site = (event.fields[0], event.fields[3])
            return self.sites.get(site) or self.pages.get(event.fields[1] >> PAGE_SHIFT) or self.by_size(site)
        if event.name == "kmalloc" and event.fields[3] <= LARGEST_KMALLOC:
            return kmalloc_slab(self.common, event.fields[2], event.fields[4]).name
        return None

    def by_size(self, site: tuple[str, int]) -> str | None:
        """The only cache with slots of that size which is named like a word of who asked, such as vmap_area."""
        names = [saved.name for saved in self.before.values() if saved.size == site[1] and saved.name in site[0]]
        return names[0] if len(names) == 1 else None

    def follow(self, event: TraceEvent) -> None:
        """Do what a slab event says."""
        address = event.fields[1]
        if not address:
            return
        self.machine.kernel.mm.current.cpu = event.cpu
        if event.name in ALLOCS:
            cache = self.caches.get(self.name_of(event) or "")
            if cache is None:
                self.counted["of no known cache"] += 1
                return
            self.give_back(address)
            self.cache_of[address] = cache
            self.stands_for[address] = self.take(cache)
        elif not self.give_back(address):
            self.free_old(self.name_of(event))

    def take(self, cache: KmemCache) -> int:
        """An object of the model's cache."""
        obj = kmem_cache_alloc(cache, GFP_KERNEL)
        assert obj is not None, "this machine has memory left"
        return obj

    def give_back(self, address: int) -> bool:
        """Free what stands for Linux's object; False if nothing does."""
        mine = self.stands_for.pop(address, None)
        if mine is None:
            return False
        kmem_cache_free(self.cache_of.pop(address), mine)
        return True

    def free_old(self, name: str | None) -> None:
        """Free an object from before the trace; where there is none left, Linux took it in bulk, without an event."""
        held = self.held.get(name or "")
        if held:
            kmem_cache_free(self.caches[name or ""], held.pop())
        else:
            self.counted["taken in bulk"] += 1
