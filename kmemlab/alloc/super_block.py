"""struct super_block: of the disk's file system, the names and inodes that are in memory.

"data" ─▶ dentry, 192 bytes of a slab ─▶ inode, 632 bytes ─▶ the file's mapping ─▶ pages
          on s_dentry_lru while              on s_inode_lru when no dentry holds it,
          nobody uses the name               and its last page has gone

Files have numbers, and their dentries and inodes have the same: a name leads to one file, and a file has one name.
What the kernel has in these structs is in columns here; the objects are there so that memory is used as it is there.
"""

from __future__ import annotations

from typing import Any

from kmemlab.alloc.kmem_cache import SLAB_ACCOUNT, SLAB_MEM_SPREAD, SLAB_PANIC, SLAB_RECLAIM_ACCOUNT
from kmemlab.alloc.list_lru import ListLru, list_lru_init
from kmemlab.alloc.slab_common import SlabCommon, kmem_cache_alloc
from kmemlab.alloc.slab_create import kmem_cache_create
from kmemlab.mm.files import MAX_FILES
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru_list import folio_zone
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import PAGE_SHIFT

DENTRY, INODE = {8: 192, 4: 128}, {8: 632, 4: 408}  # bytes, by the size of a pointer
D_INAME = {8: (56, 32), 4: (36, 36)}  # where a short name stands in a dentry: programs are given a copy of it
CACHE_FLAGS = SLAB_RECLAIM_ACCOUNT | SLAB_PANIC | SLAB_MEM_SPREAD | SLAB_ACCOUNT


@kernel(
    "include/linux/fs.h",
    "struct super_block",
    left_out="all but names and inodes; folders, links, names of files that there are not",
)
class SuperBlock(Struct):
    """The dentries and inodes of all files, by the number of the file; row 0 is not used."""

    dentry_cachep = Cell()
    inode_cachep = Cell()

    dentry: Column  # the address of the object; 0: the name is not in memory
    d_count: Column  # how many use it at the moment
    d_flags: Column
    inode: Column  # the address of the object; 0: the inode is not in memory
    i_count: Column
    i_state: Column

    def __init__(self, mm: Mm, slab: SlabCommon) -> None:
        self.mm = mm
        self.slab = slab
        mm.super_block = self
        self.s_dentry_lru = ListLru(MAX_FILES + 1, len(mm.node_data))
        self.s_inode_lru = ListLru(MAX_FILES + 1, len(mm.node_data))
        for field in ("dentry", "d_count", "d_flags", "inode", "i_count", "i_state"):
            setattr(self, field, column("Q" if field in ("dentry", "inode") else "q", MAX_FILES + 1))


@kernel("fs/inode.c", "init_once", traced=False)
def init_once(memory: Any, address: int) -> None:
    """A new object of the cache: its lists are empty, which is all zeros here."""


@kernel("fs/dcache.c", "dcache_init", left_out="the hash table, which boot has made")
def dcache_init(sb: SuperBlock) -> None:
    """Make the cache that dentries come from."""
    pointer = sb.mm.boot.config.sizeof_pointer
    size, (useroffset, usersize) = DENTRY[pointer], D_INAME[pointer]
    cache = kmem_cache_create(sb.slab, "dentry", size, 0, CACHE_FLAGS, None, useroffset, usersize)
    assert cache is not None
    sb.dentry_cachep = cache.number


@kernel("fs/inode.c", "inode_init", left_out="the hash table, which boot has made; what file systems put around inodes")
def inode_init(sb: SuperBlock) -> None:
    """Make the cache that inodes come from."""
    size = INODE[sb.mm.boot.config.sizeof_pointer]
    cache = kmem_cache_create(sb.slab, "inode_cache", size, 0, CACHE_FLAGS, init_once)
    assert cache is not None
    sb.inode_cachep = cache.number


@invented("C makes the caches at boot; here boot keeps the slabs it had, and the first use of a file brings them")
def caches_for_files(sb: SuperBlock) -> None:
    """Make both caches, unless they are there."""
    if not sb.dentry_cachep:
        dcache_init(sb)
        inode_init(sb)
        list_lru_init(sb.s_dentry_lru)
        list_lru_init(sb.s_inode_lru)


@invented("a line that d_alloc and alloc_inode have", traced=False)
def new_object(sb: SuperBlock, cachep: int) -> int:
    """The address of an object of a cache. Raises `OutOfMemory`."""
    address = kmem_cache_alloc(sb.slab.caches[cachep], GFP_KERNEL)
    if address is None:
        raise OutOfMemory("no memory for a name or an inode", where="open", remedy="free some memory, then go on")
    return address


@invented("page_to_nid(virt_to_page(item))", traced=False)
def object_nid(sb: SuperBlock, address: int) -> int:
    """The node of the page that an object lies in."""
    pfn = address - sb.slab.pages.page_offset >> PAGE_SHIFT
    return folio_zone(sb.mm, pfn).node
