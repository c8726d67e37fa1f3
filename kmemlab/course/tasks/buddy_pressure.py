"""Chapter 05: a machine that runs out of memory, and zones of a few pageblocks, for the tasks that need them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from kmemlab.machine.machine import Machine
from kmemlab.mm.mem_map import MAX_ORDER, PAGEBLOCK_ORDER
from kmemlab.mm.zone import (
    NR_FREE_PAGES,
    WMARK_HIGH,
    Zone,
    add_to_free_list_tail,
    bare_zone,
    free_blocks,
    get_pageblock_migratetype,
    set_pageblock_migratetype,
)
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_RECLAIMABLE, GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from kmemlab.types.migratetype import MIGRATE_TYPES, MIGRATETYPE_NAMES
from kmemlab.types.pageflags import PG_lru

BLOCK_PAGES = 1 << PAGEBLOCK_ORDER
PAGEBLOCKS = 4  # of the small zones
KINDS = {
    "Unmovable": GFP_KERNEL,
    "Movable": GFP_HIGHUSER_MOVABLE,
    "Reclaimable": GFP_KERNEL | __GFP_RECLAIMABLE,
    "urgent": GFP_ATOMIC,
}

Block = tuple[int, int, int]  # pfn, order, type


def pressure(machine: Machine, seed: int, steps: int = 220) -> Iterator[str]:
    """Fill the machine with movable blocks, let some go, then ask for every kind until little is left."""
    rng = Random(seed)
    held: list[tuple[int, int]] = []
    while (pfn := asked(machine, GFP_HIGHUSER_MOVABLE, 5)) is not None:
        held.append((pfn, 5))
    yield f"{len(held)} requests of order 5 to fill the machine"
    for _ in range(len(held) // 8):
        machine.free_pages(*held.pop(rng.randrange(len(held))))
    for step in range(steps):
        if rng.random() < 0.45 - 0.4 * step / steps:
            pfn, order = held.pop(rng.randrange(len(held)))
            machine.free_pages(pfn, order)
            yield f"free_pages({pfn}, {order})"
            continue
        kind, order = rng.choice(sorted(KINDS)), rng.choice((0, 0, 1, 2, 3, 4, 6))
        found = asked(machine, KINDS[kind], order)
        if found is not None:
            held.append((found, order))
        yield f"{kind} request of order {order} → {'nothing' if found is None else f'pfn {found}'}"


def asked(machine: Machine, gfp: int, order: int) -> int | None:
    """What a request gets, or None."""
    try:
        return machine.alloc_pages(gfp, order)
    except OutOfMemory:
        return None


# -- a zone of four pageblocks -----------------------------------------------------------------------------------------


@dataclass
class SmallMm:
    """What the fallback asks of `mm`: a machine's own has much more."""

    zone: Zone
    page_group_by_mobility_disabled: int = 0
    watermark_boost_factor: int = 15000

    def __post_init__(self) -> None:
        self.page = self.zone.page


def pageblocks_with(types: Iterable[int], free: Iterable[Block], lru: Iterable[int] = ()) -> Zone:
    """A zone of four pageblocks of these types, in which exactly these blocks are free; pages of `lru` can be moved."""
    zone = bare_zone(PAGEBLOCKS * BLOCK_PAGES)
    zone.managed_pages = zone.spanned_pages
    zone.watermark[WMARK_HIGH] = 100
    for number, migratetype in enumerate(types):
        set_pageblock_migratetype(zone.page, number * BLOCK_PAGES, migratetype)
    for pfn, order, migratetype in free:
        add_to_free_list_tail(zone, pfn, order, migratetype)
        zone.vm_stat[NR_FREE_PAGES] += 1 << order
    for pfn in lru:
        zone.page.flags[pfn] |= 1 << PG_lru
    return zone


def free_by_type(zone: Zone) -> dict[Block, None]:
    """Every free block with its order and the type of its list."""
    places = ((order, migratetype) for order in range(MAX_ORDER) for migratetype in range(MIGRATE_TYPES))
    return {(pfn, order, kind): None for order, kind in places for pfn in free_blocks(zone, order, kind)}


def types_of(zone: Zone) -> list[int]:
    """The types of the four pageblocks."""
    return [get_pageblock_migratetype(zone.page, number * BLOCK_PAGES) for number in range(PAGEBLOCKS)]


def told(free: Iterable[Block]) -> str:
    """Free blocks for a reader."""
    return "; ".join(f"pfn {pfn} order {order} {MIGRATETYPE_NAMES[kind]}" for pfn, order, kind in free) or "nothing"
