"""vfs_caches_init: on a machine with several nodes the large hash tables come late, in pieces spread over the nodes."""

from __future__ import annotations

from kmemlab.alloc.page_alloc import free_pages_inner, page_zone
from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.numa import nodes_of
from kmemlab.machine.deferred_init import alloc_pages_early
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import PAGEBLOCK_ORDER
from kmemlab.mm.system_hash import hashdist, print_system_hash, vfs_hash_tables
from kmemlab.mm.vmap_area import add_vm_struct
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.gfp import GFP_ATOMIC
from kmemlab.types.units import MIB, PAGE_SIZE, round_up

PMD_SIZE = 2 * MIB


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
        for huge in (True, False):
            if huge and not vmalloc_would_be_huge(mm, entries * pointer):
                continue
            if vmalloc_pages(mm, entries * pointer, huge):
                print_system_hash(mm, name, entries, "vmalloc hugepage" if huge else "vmalloc")
                return
        entries //= 2
    raise KernelPanic(
        f"Failed to allocate {name} hash table", where="alloc_large_system_hash", remedy="give the machine more memory"
    )


@kernel("mm/vmalloc.c", "vmalloc_huge", left_out="the area itself: only whether it is mapped by large pages")
def vmalloc_would_be_huge(mm: Mm, size: int) -> bool:
    """Whether each node's share is a large page at least."""
    if any(parameq(name, "nohugevmalloc") for name, _ in next_arg(mm.boot.spec.cmdline)):
        return False
    return boot_cpu_has(mm.boot, "pse") and size // len(nodes_of(mm.numa.node_online)) >= PMD_SIZE


@kernel("include/linux/mm.h", "page_to_nid", traced=False)
def node_of(mm: Mm, pfn: int) -> int:
    """The node of a page frame that has a zone."""
    zone = page_zone(mm, pfn)
    assert zone is not None
    return zone.node


@kernel("mm/vmalloc.c", "vm_area_alloc_pages", left_out="the boot's memory policy is interleaving: nodes in turn")
def vmalloc_pages(mm: Mm, size: int, huge: bool) -> bool:
    """Take the pages of an area, large or small ones, from the nodes in turn; False, and nothing taken, if too few."""
    order = PAGEBLOCK_ORDER if huge else 0
    nodes = nodes_of(mm.node_has_memory)
    taken: list[int] = []
    for nth in range(round_up(size, PAGE_SIZE << order) // (PAGE_SIZE << order)):
        pfn = alloc_pages_early(mm, GFP_ATOMIC, order, nodes[nth % len(nodes)])
        if pfn is None:
            for held in taken:
                free_pages_inner(mm, held, order)
            return False
        taken.append(pfn)
    add_vm_struct(mm.vm_structs, "alloc_large_system_hash", [node_of(mm, pfn) for pfn in taken], 1 << order)
    return True
