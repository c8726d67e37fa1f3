"""What the page allocator counts as it happens: events (/proc/vmstat), and where pages came from on a NUMA machine."""

from __future__ import annotations

from kmemlab.sim.kernel import invented
from kmemlab.types.zone_type import MAX_NR_ZONES

# enum vm_event_item, as far as the page allocator counts. PGALLOC and ALLOCSTALL have one counter a zone index.
PGALLOC = 0
ALLOCSTALL = PGALLOC + MAX_NR_ZONES
PGFREE = ALLOCSTALL + MAX_NR_ZONES
PAGEOUTRUN = PGFREE + 1  # wakes of kswapd that made it work
NR_VM_EVENT_ITEMS = PAGEOUTRUN + 1

# enum numa_stat_item.
NUMA_HIT, NUMA_MISS, NUMA_FOREIGN, NUMA_INTERLEAVE_HIT, NUMA_LOCAL, NUMA_OTHER = range(6)
NUMA_STAT_NAMES = ("numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local", "numa_other")
NR_VM_NUMA_EVENT_ITEMS = len(NUMA_STAT_NAMES)


@invented("C's TEXTS_FOR_ZONES makes the names by the preprocessor", traced=False)
def texts_for_zones(event: str, zone_names: tuple[str, ...]) -> list[str]:
    """The names of an event's counters, one a zone of the configuration.

    >>> texts_for_zones("pgalloc", ("DMA", "Normal", "HighMem", "Movable"))
    ['pgalloc_dma', 'pgalloc_normal', 'pgalloc_high', 'pgalloc_movable']
    """
    return [f"{event}_{'high' if name == 'HighMem' else name.lower()}" for name in zone_names]
