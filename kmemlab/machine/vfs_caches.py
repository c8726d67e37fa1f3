"""vfs_caches_init: on a machine with several nodes the large hash tables come late, in pieces spread over the nodes."""

from __future__ import annotations

from kmemlab.alloc.vmalloc import vmalloc_huge
from kmemlab.machine.deferred_init import alloc_pages_early
from kmemlab.mm.globals import Mm
from kmemlab.mm.system_hash import hashdist, print_system_hash, vfs_hash_tables
from kmemlab.mm.vmalloc import find_vm_area
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KernelPanic, OutOfMemory
from kmemlab.types.gfp import GFP_ATOMIC
from kmemlab.types.units import PAGE_SIZE


@kernel("fs/dcache.c", "vfs_caches_init", left_out="slab caches; the tables of mounts")
def vfs_caches_init(mm: Mm) -> None:
    """Take the tables in which names and files are looked up, if they are to be spread over the nodes."""
    if not hashdist(mm):
        return
    for name, entries in vfs_hash_tables(mm):
        alloc_spread_system_hash(mm, name, entries)


@invented("the later half of alloc_large_system_hash: C decides by a flag")
def alloc_spread_system_hash(mm: Mm, name: str, entries: int) -> None:
    """Take a table by vmalloc; one that doesn't fit is halved, down to a page."""
    pointer = mm.boot.config.sizeof_pointer
    while entries * pointer >= PAGE_SIZE:
        try:
            addr = vmalloc_huge(mm, entries * pointer, GFP_ATOMIC, "alloc_large_system_hash", alloc_pages_early)
        except OutOfMemory:
            entries //= 2
            continue
        huge = is_vm_area_hugepages(mm, addr)
        print_system_hash(mm, name, entries, "vmalloc hugepage" if huge else "vmalloc")
        return
    raise KernelPanic(
        f"Failed to allocate {name} hash table", where="alloc_large_system_hash", remedy="give the machine more memory"
    )


@kernel("include/linux/vmalloc.h", "is_vm_area_hugepages", traced=False)
def is_vm_area_hugepages(mm: Mm, addr: int) -> bool:
    """Whether the area of an address has large pages."""
    return mm.vmalloc.vms.page_order[find_vm_area(mm.vmalloc, addr)] > 0
