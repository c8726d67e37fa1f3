"""struct swap_info_struct: a swap area, and for each of its slots how many page tables name it.

disk    … files …    | header |  1  |  2  |  3  |  …   |   the area: a partition at the end of the disk
                       swap_map  0x01  0x42  0x40        0x01  one page table holds this entry
                                                         0x42  two do, and 0x40: a page of the swap cache has it, too
                                                         0x40  only the swap cache, or a CPU that has it in store

What C allocates for each area is here a part of columns that are as long as the disk: slot `offset` of an area stands
at `si.first_block + offset`.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.mm.swapops import MAX_SWAPFILES, swp_type
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead
from kmemlab.sim.struct import Cell, Struct, U64Cell

# swap_map: a count of up to SWAP_MAP_MAX, and flags.
SWAP_HAS_CACHE, COUNT_CONTINUED = 0x40, 0x80
SWAP_MAP_MAX, SWAP_MAP_BAD = 0x3E, 0x3F

SWP_USED, SWP_WRITEOK, SWP_SOLIDSTATE, SWP_CONTINUED, SWP_BLKDEV = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 6
CLUSTER_FLAG_FREE = 1

SWAP_BATCH = SWAP_SLOTS_CACHE_SIZE = 64
SWAP_ADDRESS_SPACE_SHIFT = 14  # an address space of the swap cache is for 64 MiB, so that CPUs seldom want the same
SMALLEST_CLUSTER = 256
LATENCY_LIMIT = 256


@kernel("include/linux/swap.h", "struct swap_info_struct", left_out="swap files, discarding, frontswap, locks")
class SwapInfo(Struct):
    """One swap area; `pages` counts slots without the header, `max` with it."""

    flags = Cell()  # SWP_…
    prio = Cell()
    pages = Cell()
    inuse_pages = Cell()
    max = Cell()
    lowest_bit = Cell()  # no slot below is free
    highest_bit = Cell()  # nor one above; 0: none at all
    cluster_next = Cell()  # where to look for a free slot first
    cluster_nr = Cell()  # so many more in a row before an empty cluster is looked for
    map_address = U64Cell()  # what C's swap_map takes of memory lies there
    first_block = Cell()  # ours: of the partition on the disk
    turn = Cell()  # its place among the areas of the same priority that have free slots; 0: it has none

    # Solid-state areas: each CPU fills a cluster of its own.
    cluster_next_cpu: Column
    percpu_index: Column  # 1 + the cluster; 0: none
    percpu_next: Column

    def __init__(self, type: int, nr_cpus: int) -> None:
        self.type = type
        self.cluster_next_cpu = column("q", nr_cpus)
        self.percpu_index = column("i", nr_cpus)
        self.percpu_next = column("q", nr_cpus)

    @property
    def name(self) -> str:
        """The partition's name; the first one of the disk holds the files."""
        return f"/dev/sda{2 + self.type}"


@kernel("include/linux/swap_slots.h", "struct swap_slots_cache", left_out="locks; the memory of both arrays")
class SwapSlots(Struct):
    """Slots that each CPU has in store: taken from the areas in advance, and given back but not yet returned.

    Those of CPU c stand at 64 · c and behind.
    """

    cur: Column
    nr: Column
    n_ret: Column
    slots: Column
    slots_ret: Column

    def __init__(self, nr_cpus: int) -> None:
        self.cur = column("q", nr_cpus)
        self.nr = column("q", nr_cpus)
        self.n_ret = column("q", nr_cpus)
        self.slots = column("q", nr_cpus * SWAP_SLOTS_CACHE_SIZE)
        self.slots_ret = column("q", nr_cpus * SWAP_SLOTS_CACHE_SIZE)


@invented("C's global variables of swapping are fields here, so that a machine can be copied and rewound")
class Swap(Struct):
    """All swap areas, and what mm/swapfile.c, swap_state.c and swap_slots.c remember beside."""

    nr_swapfiles = Cell()
    least_priority = Cell()  # of areas to which nobody gave one
    last_turn = Cell()
    nr_rotate_swap = Cell()  # areas on disks whose arm must move
    # mm/swap_slots.c
    swap_slot_cache_enabled = Cell()
    swap_slot_cache_active = Cell()
    # read-ahead (mm/swap_state.c); page_cluster is a tunable: up to 2**page_cluster pages
    page_cluster = Cell()
    enable_vma_readahead = Cell()
    swapin_readahead_hits = Cell()
    prev_offset = Cell()
    last_readahead_pages = Cell()

    swap_map: Column
    continuation: Column  # the next digit of counts beyond SWAP_MAP_MAX
    cluster_count: Column  # slots of a cluster that are in use
    cluster_flags: Column
    swapper_spaces: Column  # the mappings of the swap cache, by area and 64 MiB

    def __init__(self, nr_cpus: int, nr_blocks: int) -> None:
        self.nr_cpus = nr_cpus
        self.info = tuple(SwapInfo(type, nr_cpus) for type in range(MAX_SWAPFILES))
        self.slots = SwapSlots(nr_cpus)
        self.swap_map = column("B", nr_blocks)
        self.continuation = column("B", nr_blocks)
        self.nr_clusters = nr_blocks // SMALLEST_CLUSTER + 1
        self.cluster_count = column("H", self.nr_clusters)
        self.cluster_flags = column("B", self.nr_clusters)
        self.free_clusters = ListHead(self.nr_clusters + MAX_SWAPFILES)
        self.spaces_per_area = (nr_blocks >> SWAP_ADDRESS_SPACE_SHIFT) + 1
        self.swapper_spaces = column("i", MAX_SWAPFILES * self.spaces_per_area)
        self.least_priority = -1
        self.page_cluster = 3
        self.enable_vma_readahead = 1
        self.swapin_readahead_hits = 4

    def free_clusters_head(self, type: int) -> int:
        """The node that heads the list of an area's free clusters."""
        return self.nr_clusters + type


@kernel("mm/swapfile.c", "swap_count", traced=False)
def swap_count(usage: int) -> int:
    """How many page tables hold the entry, without the flag of the swap cache; more where it is COUNT_CONTINUED.

    >>> swap_count(0x42), swap_count(0x40)
    (2, 0)
    """
    return usage & ~SWAP_HAS_CACHE


@kernel("mm/swapfile.c", "swp_swap_info", formerly=("swap_info_get", "get_swap_device"), traced=False)
def swp_swap_info(swap: Swap, entry: int) -> SwapInfo:
    """The area of an entry."""
    return swap.info[swp_type(entry)]


@invented("swap_active_head: a list, the highest priority first", traced=False)
def active_areas(swap: Swap) -> list[SwapInfo]:
    """The areas to which pages may go, best first."""
    active = [si for si in swap.info if si.flags & SWP_WRITEOK]
    return sorted(active, key=best_first)


@invented("the order of a plist: by priority, those that are alike in the order in which they came", traced=False)
def best_first(si: SwapInfo) -> tuple[int, int]:
    """A key to sort by."""
    return -si.prio, si.turn


@kernel("mm/swapfile.c", "has_usable_swap", traced=False)
def has_usable_swap(swap: Swap) -> bool:
    """Whether there is any area to which pages may go."""
    return any(si.flags & SWP_WRITEOK for si in swap.info)


@kernel("mm/swapfile.c", "swap_next", formerly=("get_swaparea_info",), traced=False)
def used_areas(swap: Swap) -> Iterator[SwapInfo]:
    """The areas that there are, by number, those that are being emptied too."""
    return (si for si in swap.info if si.flags & SWP_USED)
