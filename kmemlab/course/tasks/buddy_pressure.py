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
from kmemlab.types.gfp import __GFP_RECLAIMABLE, GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT
from kmemlab.types.migratetype import MIGRATE_TYPES, MIGRATETYPE_NAMES
from kmemlab.types.pageflags import PG_lru

BLOCK_PAGES = 1 << PAGEBLOCK_ORDER
PAGEBLOCKS = 4  # of the small zones
KINDS = {
    "Unmovable": GFP_KERNEL,
    "Movable": GFP_HIGHUSER_MOVABLE,
    "Reclaimable": GFP_KERNEL | __GFP_RECLAIMABLE,
    "urgent": GFP_ATOMIC,
    "hasty": GFP_NOWAIT,
}

KERNEL_BLOCKS, LAST_REQUESTS = 200, 160
Block = tuple[int, int, int]  # pfn, order, type


def pressure(machine: Machine, seed: int, steps: int = 200) -> Iterator[str]:
    """Fill the machine with movable blocks, let some go, ask for every kind; then go on with next to nothing."""
    rng = Random(seed)
    machine.sysctl("vm.watermark_boost_factor", 0)  # else the zones would refuse long before lists are empty
    held: list[tuple[int, int, str]] = []
    while (pfn := asked(machine, GFP_HIGHUSER_MOVABLE, 5)) is not None:
        held.append((pfn, 5, "Movable"))
    yield f"{len(held)} requests of order 5 to fill the machine"
    for _ in range(len(held) // 8):
        machine.free_pages(*held.pop(rng.randrange(len(held)))[:2])
    for step in range(steps):
        if rng.random() < 0.45 - 0.4 * step / steps:
            pfn, order, _ = held.pop(rng.randrange(len(held)))
            machine.free_pages(pfn, order)
            yield f"free_pages({pfn}, {order})"
        else:
            yield request(machine, held, rng.choice(sorted(KINDS)), rng.choice((0, 0, 1, 2, 3, 4, 6)))
    yield from scarce(machine, held, rng)


def scarce(machine: Machine, held: list[tuple[int, int, str]], rng: Random) -> Iterator[str]:
    """Nothing is left but small blocks of the kernel's kind, between others that it holds; then all ask."""
    kernel = [asked(machine, KINDS["Unmovable"], 2) for _ in range(KERNEL_BLOCKS)]
    while asked(machine, GFP_HIGHUSER_MOVABLE, 0) is not None:
        pass
    for pfn in kernel[::2]:
        if pfn is not None:
            machine.free_pages(pfn, 2)
    yield f"{KERNEL_BLOCKS} blocks for the kernel, all other pages for programs, and every second block given back"
    for _ in range(LAST_REQUESTS):
        yield request(machine, held, "Movable", rng.choice((0, 0, 1, 2)))
    for _ in range(LAST_REQUESTS):
        yield request(
            machine, held, rng.choice(("urgent", "hasty", "urgent", "Unmovable", "Movable")), rng.choice((0, 0, 1))
        )


def request(machine: Machine, held: list[tuple[int, int, str]], kind: str, order: int) -> str:
    """Ask for a block, note who holds it, and tell what it came to."""
    found = asked(machine, KINDS[kind], order)
    if found is not None:
        held.append((found, order, kind))
    return f"{kind} request of order {order} → {'nothing' if found is None else f'pfn {found}'}"


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
