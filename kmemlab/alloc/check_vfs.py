"""The laws of names and inodes in memory, as code: who holds whom, who is on which list, and whose object is where."""

from __future__ import annotations

from typing import NoReturn

from kmemlab.alloc.inode import mapping_shrinkable
from kmemlab.alloc.list_lru import ListLru
from kmemlab.alloc.super_block import SuperBlock, object_nid
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.files import MAX_FILES
from kmemlab.sim.column import Column
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.recording import plain_column
from kmemlab.types.units import PAGE_SHIFT


@invented("a law is code beside the structure it speaks of", traced=False)
def check_vfs(sb: SuperBlock) -> None:
    """A name in memory holds its inode; unused ones are on their list, and each object is held, and by one only.

    Raises `BrokenLaw` that names the law and the file.
    """
    if not sb.dentry_cachep:
        return
    for lru, held, what in ((sb.s_dentry_lru, sb.dentry, "dentry"), (sb.s_inode_lru, sb.inode, "inode")):
        _check_list(sb, lru, held, what)
        _check_objects(sb, held, sb.dentry_cachep if what == "dentry" else sb.inode_cachep, what)
    for ino in range(1, MAX_FILES + 1):
        if sb.dentry[ino] or sb.inode[ino]:
            _check_file(sb, ino)


def _check_list(sb: SuperBlock, lru: ListLru, held: Column, what: str) -> None:
    for nid in range(lru.nr_nodes):
        found = list(list_for_each(lru.links, lru.head + nid))
        if len(found) != lru.nr_items[nid]:
            _broken(f"node {nid} counts {lru.nr_items[nid]} {what} objects that may go, there are {len(found)}")
        for ino in found:
            if lru.place[ino] != nid + 1:
                _broken(f"{what} {ino} is on the list of node {nid}, but says list {lru.place[ino] - 1}")
            if not held[ino]:
                _broken(f"{what} {ino} may go, but is not in memory")
            if object_nid(sb, held[ino]) != nid:
                _broken(f"{what} {ino} is on the list of node {nid}, and its memory on another")
    if sum(map(bool, plain_column(lru.place))) != sum(lru.nr_items):
        _broken(f"a {what} says that it is on a list, and is on none")


def _check_objects(sb: SuperBlock, held: Column, cachep: int, what: str) -> None:
    cache, pages = sb.slab.caches[cachep], sb.slab.pages
    addresses = [address for address in plain_column(held) if address]
    if len(set(addresses)) != len(addresses):
        _broken(f"two files have the same {what} object")
    for address in addresses:
        if pages.slab_cache[address - pages.page_offset >> PAGE_SHIFT] != cachep:
            _broken(f"the {what} object at {address:#x} lies in no slab of its cache")
        if cache.engine.object_is_free(cache, address):
            _broken(f"the {what} object at {address:#x} is in use and free at once")


def _check_file(sb: SuperBlock, ino: int) -> None:
    if sb.dentry[ino] and not sb.inode[ino]:
        _broken(f"dentry {ino} is in memory without its inode")
    if sb.inode[ino] and sb.i_count[ino] != bool(sb.dentry[ino]):
        _broken(f"inode {ino} counts {sb.i_count[ino]} users, and {int(bool(sb.dentry[ino]))} names hold it")
    if sb.dentry[ino] and not sb.d_count[ino] and not sb.s_dentry_lru.place[ino]:
        _broken(f"nobody uses dentry {ino}, and it is not on the list of those that may go")
    waits = sb.inode[ino] and not sb.i_count[ino] and not sb.s_inode_lru.place[ino]
    if waits and mapping_shrinkable(sb, ino) and not sb.mm.boot.config.highmem:
        _broken(f"nobody uses inode {ino}, it has no pages, and is not on the list of those that may go")


def _broken(law: str) -> NoReturn:
    raise BrokenLaw(law, where="names and inodes")
