"""fs/dcache.c: names that were looked up stay in memory, with their inodes, as long as there is room.

lookup ─▶ in memory? ── no: d_alloc, iget ─▶ used ─▶ dput ─▶ s_dentry_lru
                   └─── yes ──────────────────▲               │  used again: DCACHE_REFERENCED
                                                              └─▶ prune_dcache_sb ─▶ referenced? round once more : gone
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.alloc.inode import iget, iput, prune_icache_sb
from kmemlab.alloc.list_lru import LruStatus, list_lru_add, list_lru_del, list_lru_walk
from kmemlab.alloc.slab_common import kmem_cache_free
from kmemlab.alloc.super_block import SuperBlock, caches_for_files, new_object, object_nid
from kmemlab.mm.globals import Mm
from kmemlab.reclaim.shrinker import SHRINK_EMPTY, SHRINK_STOP, ShrinkControl, Shrinker, register_shrinker
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import __GFP_FS

DCACHE_REFERENCED = 0x40
SUPER_BATCH = 1024


@kernel("fs/namei.c", "lookup_fast", left_out="paths, permissions, mounts; reading a folder from the disk")
def lookup(sb: SuperBlock, ino: int) -> None:
    """Have the name and the inode of a file in memory, and use them. Raises `OutOfMemory`."""
    caches_for_files(sb)
    if not sb.dentry[ino]:
        d_alloc(sb, ino)
    sb.d_count[ino] += 1


@kernel("fs/dcache.c", "d_alloc", formerly=("__d_alloc",), left_out="names longer than fit into the struct")
def d_alloc(sb: SuperBlock, ino: int) -> None:
    """Make a dentry, and have it hold its inode. Raises `OutOfMemory`."""
    address = new_object(sb, sb.dentry_cachep)
    try:
        iget(sb, ino)
    except BaseException:
        kmem_cache_free(sb.slab.caches[sb.dentry_cachep], address)
        raise
    sb.dentry[ino], sb.d_flags[ino] = address, 0


@kernel("fs/dcache.c", "dput", left_out="names that are not kept")
def dput(sb: SuperBlock, ino: int) -> None:
    """A user is done with a name; it is kept, and may go when nobody uses it."""
    assert sb.d_count[ino] > 0, f"nobody uses dentry {ino}"
    sb.d_count[ino] -= 1
    if not sb.d_count[ino]:
        retain_dentry(sb, ino)


@kernel("fs/dcache.c", "retain_dentry", traced=False)
def retain_dentry(sb: SuperBlock, ino: int) -> None:
    """Put a name on the list of those that may go; if it is there already, it was used a second time."""
    if not list_lru_add(sb.s_dentry_lru, ino, object_nid(sb, sb.dentry[ino])):
        sb.d_flags[ino] |= DCACHE_REFERENCED


@invented("a program's open, what it does with the file, and its close", traced=False)
@contextmanager
def opened(mm: Mm, ino: int) -> Iterator[None]:
    """While this lasts, a file is open: its name and inode stay in memory."""
    sb: SuperBlock = mm.super_block
    lookup(sb, ino)
    try:
        yield
    finally:
        dput(sb, ino)


# -- going -------------------------------------------------------------------------------------------------------------


@kernel("fs/dcache.c", "__dentry_kill", left_out="parents; waiting until no CPU can be reading it (RCU)")
def dentry_kill(sb: SuperBlock, ino: int) -> None:
    """Throw a name out of memory; its inode loses a user."""
    address, sb.dentry[ino] = sb.dentry[ino], 0
    iput(sb, ino)
    kmem_cache_free(sb.slab.caches[sb.dentry_cachep], address)


@kernel("fs/dcache.c", "dentry_lru_isolate")
def dentry_lru_isolate(sb: SuperBlock, ino: int, freeable: list[int]) -> LruStatus:
    """Judge a name on the list: in use after all, used twice, or to go."""
    if sb.d_count[ino]:
        list_lru_del(sb.s_dentry_lru, ino)
        return LruStatus.REMOVED
    if sb.d_flags[ino] & DCACHE_REFERENCED:
        sb.d_flags[ino] &= ~DCACHE_REFERENCED
        return LruStatus.ROTATE
    list_lru_del(sb.s_dentry_lru, ino)
    freeable.append(ino)
    return LruStatus.REMOVED


@kernel("fs/dcache.c", "prune_dcache_sb", formerly=("shrink_dcache_memory",))
def prune_dcache_sb(sb: SuperBlock, nid: int, nr_to_scan: int) -> int:
    """Look at some names of a node, the oldest first; returns how many went."""
    freeable: list[int] = []
    list_lru_walk(sb.s_dentry_lru, nid, lambda ino: dentry_lru_isolate(sb, ino, freeable), nr_to_scan)
    for ino in freeable:
        dentry_kill(sb, ino)
    return len(freeable)


# -- the shrinker of a file system -------------------------------------------------------------------------------------


@kernel("include/linux/dcache.h", "vfs_pressure_ratio", traced=False)
def vfs_pressure_ratio(mm: Mm, value: int) -> int:
    """A number of objects, as vm.vfs_cache_pressure makes it look: 100 as it is, 200 twice, 0 none at all."""
    return value * mm.vfs_cache_pressure // 100


@kernel("fs/super.c", "super_cache_count", left_out="what file systems keep beside")
def super_cache_count(mm: Mm, sc: ShrinkControl) -> int:
    """How many names and inodes of a node could go, as much as they are to be spared."""
    sb: SuperBlock | None = mm.super_block
    if sb is None:
        return SHRINK_EMPTY
    total = sb.s_dentry_lru.nr_items[sc.nid] + sb.s_inode_lru.nr_items[sc.nid]
    return vfs_pressure_ratio(mm, total) if total else SHRINK_EMPTY


@kernel("fs/super.c", "super_cache_scan", left_out="what file systems keep beside")
def super_cache_scan(mm: Mm, sc: ShrinkControl) -> int:
    """Look at names and inodes in proportion, names first, for they hold the inodes; returns how many went.

    Nobody who works in a file system himself may enter it for this: SHRINK_STOP.
    """
    if not sc.gfp_mask & __GFP_FS:
        return SHRINK_STOP
    sb: SuperBlock = mm.super_block
    inodes, dentries = sb.s_inode_lru.nr_items[sc.nid], sb.s_dentry_lru.nr_items[sc.nid]
    total = dentries + inodes + 1
    freed = prune_dcache_sb(sb, sc.nid, sc.nr_to_scan * dentries // total + 1)
    return freed + prune_icache_sb(sb, sc.nid, sc.nr_to_scan * inodes // total + 1)


register_shrinker(Shrinker("sb-disk", super_cache_count, super_cache_scan, batch=SUPER_BATCH))
