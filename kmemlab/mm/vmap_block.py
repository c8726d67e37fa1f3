"""vmap_block: an area that many short mappings share, so that they cost no search and no flush of their own.

va_start                                             each CPU has a queue of blocks with room
|dirty|▓▓▓▓▓|▓▓|dirty dirty|▓▓▓|························|
                                └ free pages are given out from here, never twice: `dirty` ones wait for the purge
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column, index_typecode
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead, init_list_head, list_add_tail, list_del, list_for_each
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.config import KernelConfig
from kmemlab.types.errors import TooLarge
from kmemlab.types.units import GIB, MIB, PAGE_SHIFT

MOST_BLOCKS = 1 << 14
VMAP_BBMAP_BITS_MAX = 1024


@kernel("mm/vmalloc.c", "VMAP_MAX_ALLOC", traced=False)
def vmap_max_alloc(config: KernelConfig) -> int:
    """The most pages that one mapping in a block may have: as many as a word has bits."""
    return 8 * config.sizeof_pointer


@kernel("mm/vmalloc.c", "VMAP_BBMAP_BITS", traced=False)
def vmap_block_pages(config: KernelConfig) -> int:
    """The pages of a block: so many that every CPU that the kernel was built for could have 16.

    >>> from kmemlab.types.config import CONFIGS
    >>> vmap_block_pages(CONFIGS["amd64-6.1"]), vmap_block_pages(CONFIGS["i386-pae-6.1"])
    (256, 64)
    """
    space = (128 * GIB if config.sizeof_pointer == 8 else 128 * MIB) >> PAGE_SHIFT
    cpus = 1 << (config.nr_cpus - 1).bit_length()
    return min(VMAP_BBMAP_BITS_MAX, max(2 * vmap_max_alloc(config), space // cpus // 16))


@kernel("mm/vmalloc.c", "struct vmap_block")
class VmapBlocks(Struct):
    """Block n has the area `va`; pages are counted. The heads of the CPUs' queues stand behind the blocks.

    `of_area` says which block an area is; C finds it by its address.
    """

    nr_used = Cell()
    first_unused = Cell()
    initialized = Cell()

    va: Column
    free: Column
    dirty: Column
    dirty_min: Column
    dirty_max: Column
    of_area: Column

    def __init__(self, nr_cpus: int, pages: int, areas: int) -> None:
        self.nr_cpus = nr_cpus
        self.pages = pages
        self.va = column("i", 1 + MOST_BLOCKS)
        self.free = column("i", 1 + MOST_BLOCKS)
        self.dirty = column("i", 1 + MOST_BLOCKS)
        self.dirty_min = column("i", 1 + MOST_BLOCKS)
        self.dirty_max = column("i", 1 + MOST_BLOCKS)
        self.of_area = column(index_typecode(MOST_BLOCKS), areas)
        self.queue = ListHead(1 + MOST_BLOCKS + nr_cpus)


@invented("the head of struct vmap_block_queue", traced=False)
def queue_of(cpu: int) -> int:
    """The head of a CPU's queue of blocks that have room."""
    return 1 + MOST_BLOCKS + cpu


@invented("a part of vmalloc_init", traced=False)
def init_vmap_block_queues(blocks: VmapBlocks) -> None:
    """No CPU has a block."""
    for cpu in range(blocks.nr_cpus):
        init_list_head(blocks.queue, queue_of(cpu))
    blocks.initialized = 1


@invented("the part of new_vmap_block that fills the struct", traced=False)
def add_vmap_block(blocks: VmapBlocks, va: int, cpu: int, taken: int) -> int:
    """A block for an area, its first `taken` pages given out already, at the end of a CPU's queue."""
    block = blocks.first_unused
    if block:
        blocks.first_unused = blocks.va[block]
    elif blocks.nr_used == MOST_BLOCKS:
        raise TooLarge(
            f"more than {MOST_BLOCKS} blocks of vm_map_ram", where="vm_map_ram", remedy="unmap some with vm_unmap_ram"
        )
    else:
        blocks.nr_used += 1
        block = blocks.nr_used
    blocks.va[block], blocks.of_area[va] = va, block
    blocks.free[block], blocks.dirty[block] = blocks.pages - taken, 0
    blocks.dirty_min[block], blocks.dirty_max[block] = blocks.pages, 0
    list_add_tail(blocks.queue, block, queue_of(cpu))
    return block


@kernel("mm/vmalloc.c", "free_vmap_block", traced=False)
def free_vmap_block(blocks: VmapBlocks, block: int) -> int:
    """Forget a block that is on no queue; gives its area, which is to be freed lazily."""
    va: int = blocks.va[block]
    blocks.of_area[va] = 0
    blocks.va[block] = blocks.first_unused
    blocks.first_unused = block
    return va


@kernel("mm/vmalloc.c", "purge_fragmented_blocks_allcpus", formerly=("purge_fragmented_blocks",))
def purge_fragmented_blocks_allcpus(blocks: VmapBlocks) -> list[int]:
    """Take the blocks out of the queues that have room, but nothing mapped; gives their areas."""
    if not blocks.initialized:
        return []
    areas = []
    for cpu in range(blocks.nr_cpus):
        for block in list(list_for_each(blocks.queue, queue_of(cpu))):
            if blocks.free[block] + blocks.dirty[block] == blocks.pages and blocks.free[block]:
                list_del(blocks.queue, block)
                areas.append(free_vmap_block(blocks, block))
    return areas
