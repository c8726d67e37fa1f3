"""Hash tables that the kernel sizes by the machine's memory (mm/page_alloc.c, fs/dcache.c, fs/inode.c)."""

from __future__ import annotations

from kmemlab.boot.memblock import memblock_alloc_try_nid_raw
from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import GIB, PAGE_SHIFT, PAGE_SIZE, get_order, round_up

ADAPT_SCALE_BASE = 64 * GIB >> PAGE_SHIFT
DENTRY_SCALE, INODE_SCALE = 13, 14  # one bucket for each 8 and 16 KiB of memory


@kernel("fs/dcache.c", "vfs_caches_init_early", left_out="tables spread over several nodes by vmalloc, later in boot")
def vfs_caches_init_early(mm: Mm) -> None:
    """Take the tables in which names and files are looked up, if they are not to be spread over nodes."""
    if sum(mm.node_has_memory) > 1:
        return
    alloc_large_system_hash(mm, "Dentry cache", DENTRY_SCALE)
    alloc_large_system_hash(mm, "Inode-cache", INODE_SCALE)


@kernel("mm/page_alloc.c", "alloc_large_system_hash", left_out="vmalloc; a table that doesn't fit is halved")
def alloc_large_system_hash(mm: Mm, name: str, scale: int) -> None:
    """Take a table of as many pointers as memory asks for, rounded up to a power of two."""
    entries = hash_entries(mm.nr_kernel_pages, mm.nr_all_pages, scale, mm.boot.config.sizeof_pointer)
    size = entries * mm.boot.config.sizeof_pointer
    memblock_alloc_try_nid_raw(mm.boot.memblock, size, 64, caller="alloc_large_system_hash")
    mm.boot.printk.info(f"{name} hash table entries: {entries} (order: {get_order(size)}, {size} bytes, linear)")


@invented("the first part of alloc_large_system_hash", traced=False)
def hash_entries(nr_kernel_pages: int, nr_all_pages: int, scale: int, bucketsize: int) -> int:
    """One bucket for each 2**`scale` bytes, fewer on machines above 64 GiB, and at most a sixteenth of memory.

    >>> hash_entries(515808, 515808, 13, 8), hash_entries(515808, 515808, 14, 8)
    (262144, 131072)
    """
    entries = round_up(nr_kernel_pages, 256)
    adapt = ADAPT_SCALE_BASE
    while adapt < entries:
        adapt <<= 2
        scale += 1
    entries = entries >> (scale - PAGE_SHIFT) if scale > PAGE_SHIFT else entries << (PAGE_SHIFT - scale)
    entries = max(entries, PAGE_SIZE // bucketsize)
    entries = 1 << (entries - 1).bit_length()
    return min(entries, (nr_all_pages << PAGE_SHIFT >> 4) // bucketsize, 0x80000000)
