"""anon_vma: from a page without a file back to all the VMAs in which it may be mapped.

page ─ mapping ─▶ anon_vma ─ same_anon_vma ─▶ VMA of the parent ⇄ VMA of the child ⇄ …
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.process.mm_struct import MmStruct, ProcessMemory, give_anon_vma, take_anon_vma
from kmemlab.process.proc_caches import free_object, new_object
from kmemlab.process.vma import find_vma, find_vma_prev
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add_tail, list_del, list_for_each
from kmemlab.types.units import PAGE_SHIFT
from kmemlab.types.vm_flags import VM_ACCESS_FLAGS


@kernel("mm/rmap.c", "anon_vma_alloc", traced=False)
def anon_vma_alloc(common: ProcessMemory) -> int:
    """A new anon_vma with an empty list; 0 if there is no memory."""
    anon_vma = take_anon_vma(common.anon_vmas)
    address = new_object(common, common.anon_vma_cachep)
    if not address:
        give_anon_vma(common.anon_vmas, anon_vma)
        return 0
    common.anon_vmas.object[anon_vma] = address
    return anon_vma


@kernel("mm/rmap.c", "anon_vma_chain_link", lock="anon_vma->root->rwsem", traced=False)
def anon_vma_chain_link(common: ProcessMemory, vma: int, anon_vma: int) -> None:
    """Pages of this anon_vma may be mapped in the VMA from now on."""
    anon_vmas = common.anon_vmas
    common.vmas.anon_vma[vma] = anon_vma
    list_add_tail(anon_vmas.same_anon_vma, vma, anon_vmas.head(anon_vma))
    anon_vmas.degree[anon_vma] += 1


@kernel("mm/rmap.c", "anon_vma_clone", left_out="chains: one anon_vma is joined", lock="anon_vma->root->rwsem")
def anon_vma_clone(common: ProcessMemory, dst: int, src: int) -> None:
    """A VMA joins the anon_vma of another one, if that has any."""
    anon_vma = common.vmas.anon_vma[src]
    if anon_vma:
        anon_vma_chain_link(common, dst, anon_vma)


@kernel("mm/rmap.c", "unlink_anon_vmas", lock="anon_vma->root->rwsem")
def unlink_anon_vmas(common: ProcessMemory, vma: int) -> None:
    """A VMA goes: it leaves its anon_vma, which goes as well if nobody is left."""
    anon_vma = common.vmas.anon_vma[vma]
    if not anon_vma:
        return
    anon_vmas = common.anon_vmas
    list_del(anon_vmas.same_anon_vma, vma)
    common.vmas.anon_vma[vma] = 0
    anon_vmas.degree[anon_vma] -= 1
    if not anon_vmas.degree[anon_vma]:
        free_object(common, common.anon_vma_cachep, anon_vmas.object[anon_vma])
        give_anon_vma(anon_vmas, anon_vma)


@kernel("mm/mmap.c", "anon_vma_compatible", left_out="memory policies", traced=False)
def anon_vma_compatible(common: ProcessMemory, a: int, b: int) -> bool:
    """Whether two VMAs, the second right behind the first, could be one if a mprotect made their rights the same."""
    vmas = common.vmas
    return (
        vmas.vm_end[a] == vmas.vm_start[b]
        and vmas.vm_file[a] == vmas.vm_file[b]
        and not (vmas.vm_flags[a] ^ vmas.vm_flags[b]) & ~VM_ACCESS_FLAGS
        and vmas.vm_pgoff[b] == vmas.vm_pgoff[a] + (vmas.vm_start[b] - vmas.vm_start[a] >> PAGE_SHIFT)
    )


@kernel("mm/mmap.c", "find_mergeable_anon_vma", traced=False)
def find_mergeable_anon_vma(mm: MmStruct, vma: int) -> int:
    """The anon_vma of a neighbour with which this VMA may become one some day; 0 if there is none."""
    vmas = mm.common.vmas
    after = find_vma(mm, vmas.vm_end[vma])
    if after and vmas.anon_vma[after] and anon_vma_compatible(mm.common, vma, after):
        return vmas.anon_vma[after]
    _, before = find_vma_prev(mm, vmas.vm_start[vma])
    if before and vmas.anon_vma[before] and anon_vma_compatible(mm.common, before, vma):
        return vmas.anon_vma[before]
    return 0


@kernel("mm/rmap.c", "__anon_vma_prepare", formerly=("anon_vma_prepare",), lock="mm->page_table_lock")
def anon_vma_prepare(mm: MmStruct, vma: int) -> bool:
    """See that a VMA has an anon_vma, before it gets its first page. False: there is no memory."""
    common = mm.common
    if common.vmas.anon_vma[vma]:
        return True
    anon_vma = find_mergeable_anon_vma(mm, vma) or anon_vma_alloc(common)
    if anon_vma:
        anon_vma_chain_link(common, vma, anon_vma)
    return bool(anon_vma)


@invented("C's anon_vma_interval_tree_foreach", traced=False)
def vmas_of_anon_vma(common: ProcessMemory, anon_vma: int, pgoff: int) -> Iterator[int]:
    """The VMAs of an anon_vma that have page number `pgoff` of it, in the order in which they joined."""
    vmas, anon_vmas = common.vmas, common.anon_vmas
    for vma in list_for_each(anon_vmas.same_anon_vma, anon_vmas.head(anon_vma)):
        first = vmas.vm_pgoff[vma]
        if first <= pgoff < first + (vmas.vm_end[vma] - vmas.vm_start[vma] >> PAGE_SHIFT):
            yield vma
