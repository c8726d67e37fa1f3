"""fs/inode.c: the inodes that are in memory, and how they go when nobody needs them.

iget ─▶ in use ─▶ iput by the last dentry ─▶ does the file have pages?
                                             ├ yes: it stays, off the list, until the last of them is gone
                                             └ no: s_inode_lru ─▶ prune_icache_sb ─▶ used since? round once more : evict

With HighMem an inode may go before its pages: low memory can be short of inodes while there is HighMem for pages.
"""

from __future__ import annotations

from dataclasses import replace

from kmemlab.alloc.filemap import invalidate_mapping_pages
from kmemlab.alloc.list_lru import LruStatus, list_lru_add, list_lru_del, list_lru_walk
from kmemlab.alloc.slab_common import kmem_cache_free
from kmemlab.alloc.super_block import SuperBlock, new_object, object_nid
from kmemlab.mm.address_space import ADDRESS_SPACE_OPERATIONS
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_event import KSWAPD_INODESTEAL, PGINODESTEAL
from kmemlab.mm.xarray import xa_for_each, xa_store
from kmemlab.reclaim.scan_control import current_is_kswapd
from kmemlab.sim.kernel import kernel

I_REFERENCED = 1 << 8


@kernel("fs/inode.c", "iget_locked", left_out="the hash table; inodes that are just being read or thrown out")
def iget(sb: SuperBlock, ino: int) -> None:
    """Have an inode in memory, and use it. Raises `OutOfMemory`."""
    if not sb.inode[ino]:
        sb.inode[ino] = new_object(sb, sb.inode_cachep)
        sb.i_state[ino] = 0
    sb.i_count[ino] += 1


@kernel("include/linux/pagemap.h", "mapping_shrinkable", left_out="shadows, which keep an inode in C", traced=False)
def mapping_shrinkable(sb: SuperBlock, ino: int) -> bool:
    """Whether an inode may go as far as its pages are concerned: it has none, or they lie in HighMem, and are clean."""
    mappings, mapping = sb.mm.mappings, sb.mm.files.mapping[ino]
    return not mappings.nrpages[mapping] or (sb.mm.boot.config.highmem and not mappings.dirtied_when[mapping])


@kernel("fs/inode.c", "__inode_add_lru", formerly=("inode_add_lru",))
def inode_add_lru(sb: SuperBlock, ino: int, rotate: bool) -> None:
    """Put an inode that nobody uses on the list of those that may go; one that is there already was used again."""
    if not sb.inode[ino] or sb.i_count[ino] or not mapping_shrinkable(sb, ino):
        return
    if not list_lru_add(sb.s_inode_lru, ino, object_nid(sb, sb.inode[ino])) and rotate:
        sb.i_state[ino] |= I_REFERENCED


@kernel("fs/inode.c", "iput", left_out="files that were deleted meanwhile")
def iput(sb: SuperBlock, ino: int) -> None:
    """One user less; when it was the last one, the inode stays in memory, but may go."""
    assert sb.i_count[ino] > 0, f"nobody uses inode {ino}"
    sb.i_count[ino] -= 1
    if not sb.i_count[ino]:
        inode_add_lru(sb, ino, rotate=True)


@kernel("mm/filemap.c", "filemap_free_folio", left_out="what file systems do then", traced=False)
def page_has_left(mm: Mm, mapping: int) -> None:
    """A page has left a file; with the last one its inode may go, too."""
    if not mm.mappings.nrpages[mapping] and mm.super_block is not None:
        inode_add_lru(mm.super_block, mm.mappings.host[mapping], rotate=False)


@kernel("fs/inode.c", "evict", left_out="pages: an inode that has any does not come here")
def evict(sb: SuperBlock, ino: int) -> None:
    """Throw an inode out of memory, and with it what its file remembers of pages that are gone."""
    mappings, mapping = sb.mm.mappings, sb.mm.files.mapping[ino]
    assert sb.inode[ino], f"inode {ino} is not in memory"
    assert not mappings.nrpages[mapping], f"inode {ino} still has pages"
    for index in [index for index, _ in xa_for_each(mappings.i_pages, mapping)]:
        xa_store(mappings.i_pages, mapping, index, 0)
    address, sb.inode[ino] = sb.inode[ino], 0
    kmem_cache_free(sb.slab.caches[sb.inode_cachep], address)


@kernel("fs/inode.c", "inode_lru_isolate", left_out="buffers that belong to an inode")
def inode_lru_isolate(sb: SuperBlock, ino: int, freeable: list[int]) -> LruStatus:
    """Judge an inode on the list: in use after all, used lately, to be freed of its pages first, or to go."""
    mapping = sb.mm.files.mapping[ino]
    if sb.i_count[ino] or not mapping_shrinkable(sb, ino):
        list_lru_del(sb.s_inode_lru, ino)
        return LruStatus.REMOVED
    if sb.i_state[ino] & I_REFERENCED:
        sb.i_state[ino] &= ~I_REFERENCED
        return LruStatus.ROTATE
    if sb.mm.mappings.nrpages[mapping]:
        reap = invalidate_mapping_pages(sb.mm, mapping)
        sb.mm.vm_event[KSWAPD_INODESTEAL if current_is_kswapd(sb.mm) else PGINODESTEAL] += reap
        return LruStatus.RETRY
    list_lru_del(sb.s_inode_lru, ino)
    freeable.append(ino)
    return LruStatus.REMOVED


@kernel("fs/inode.c", "prune_icache_sb", formerly=("shrink_icache_memory",))
def prune_icache_sb(sb: SuperBlock, nid: int, nr_to_scan: int) -> int:
    """Look at some inodes of a node, the oldest first; returns how many went."""
    freeable: list[int] = []
    list_lru_walk(sb.s_inode_lru, nid, lambda ino: inode_lru_isolate(sb, ino, freeable), nr_to_scan)
    for ino in freeable:
        evict(sb, ino)
    return len(freeable)


ADDRESS_SPACE_OPERATIONS["file"] = replace(ADDRESS_SPACE_OPERATIONS["file"], free_folio=page_has_left)
