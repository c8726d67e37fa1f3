"""Hash tables that the kernel sizes by the machine's memory (mm/page_alloc.c, fs/dcache.c, fs/inode.c)."""

from __future__ import annotations

from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.memblock import memblock_alloc_try_nid_raw
from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import GIB, PAGE_SHIFT, PAGE_SIZE, get_order, round_up, simple_strtoull

ADAPT_SCALE_BASE = 64 * GIB >> PAGE_SHIFT
DENTRY_SCALE, INODE_SCALE = 13, 14  # one bucket for each 8 and 16 KiB of memory
STACK_HASH_SCALE, STACK_HASH_ORDER_MIN, STACK_HASH_ORDER_MAX = 14, 12, 20


@kernel("mm/page_alloc.c", "hashdist", traced=False)
def hashdist(mm: Mm) -> bool:
    """Whether large hash tables are spread over the nodes: if more than one has memory, unless hashdist=0."""
    wanted = 1
    for value in values_of(mm, "hashdist"):
        wanted = value
    return bool(wanted) and sum(mm.node_has_memory) > 1


@invented("C's set_dhash_entries and its like", traced=False)
def values_of(mm: Mm, option: str) -> list[int]:
    """The numbers that a parameter was given, in order."""
    found = []
    for name, value in next_arg(mm.boot.spec.cmdline):
        if parameq(name, option) and value:
            found.append(simple_strtoull(value)[0])
    return found


@kernel("fs/dcache.c", "vfs_caches_init_early")
def vfs_caches_init_early(mm: Mm) -> None:
    """Take the tables in which names and files are looked up, if they are not to be spread over nodes."""
    if hashdist(mm):
        return
    for name, entries in vfs_hash_tables(mm):
        alloc_early_system_hash(mm, name, entries)


@invented("dcache_init_early and inode_init_early differ in these only")
def vfs_hash_tables(mm: Mm) -> tuple[tuple[str, int], ...]:
    """The two tables of the file system: name and number of entries; dhash_entries= and ihash_entries= set it."""
    dentries = [0, *values_of(mm, "dhash_entries")][-1]
    inodes = [0, *values_of(mm, "ihash_entries")][-1]
    return (
        ("Dentry cache", hash_entries(mm, DENTRY_SCALE, dentries)),
        ("Inode-cache", hash_entries(mm, INODE_SCALE, inodes)),
    )


@kernel("lib/stackdepot.c", "stack_depot_early_init", left_out="stack_hash_order; KASAN")
def stack_depot_early_init(mm: Mm) -> None:
    """If slabs shall remember who allocated each object (slub_debug=U): take the table of call stacks."""
    disabled = any(parameq(name, "stack_depot_disable") for name, _ in next_arg(mm.boot.spec.cmdline))
    if mm.stack_depot_want_early_init and not disabled:
        low, high = 1 << STACK_HASH_ORDER_MIN, 1 << STACK_HASH_ORDER_MAX
        alloc_early_system_hash(mm, "stackdepot", hash_entries(mm, STACK_HASH_SCALE, low_limit=low, high_limit=high))


@kernel("mm/page_alloc.c", "alloc_large_system_hash", left_out="a table that doesn't fit is halved")
def alloc_early_system_hash(mm: Mm, name: str, entries: int) -> None:
    """Take a table of pointers from memblock."""
    size = entries * mm.boot.config.sizeof_pointer
    memblock_alloc_try_nid_raw(mm.boot.memblock, size, 64, caller="alloc_large_system_hash")
    print_system_hash(mm, name, entries, "linear")


@invented("the last part of alloc_large_system_hash", traced=False)
def print_system_hash(mm: Mm, name: str, entries: int, kind: str) -> None:
    """Say how large the table is and where it lies: in the direct map or in vmalloc's area."""
    size = entries * mm.boot.config.sizeof_pointer
    mm.boot.printk.info(f"{name} hash table entries: {entries} (order: {get_order(size)}, {size} bytes, {kind})")


@invented("the first part of alloc_large_system_hash", traced=False)
def hash_entries(mm: Mm, scale: int, numentries: int = 0, low_limit: int = 0, high_limit: int = 0) -> int:
    """One bucket for each 2**`scale` bytes, fewer on machines above 64 GiB, and at most a sixteenth of memory.

    `numentries`, if given, is used instead; limits are numbers of entries, 0 for none. A power of two.
    """
    bucketsize = mm.boot.config.sizeof_pointer
    if not numentries:
        numentries = round_up(mm.nr_kernel_pages, 256)
        if not high_limit:
            adapt = ADAPT_SCALE_BASE
            while adapt < numentries:
                adapt <<= 2
                scale += 1
        numentries = numentries >> (scale - PAGE_SHIFT)
        numentries = max(numentries, PAGE_SIZE // bucketsize)
    numentries = 1 << (numentries - 1).bit_length()
    highest = high_limit or (mm.nr_all_pages << PAGE_SHIFT >> 4) // bucketsize
    numentries = min(max(numentries, low_limit), highest, 0x80000000)
    return 1 << (numentries.bit_length() - 1)
