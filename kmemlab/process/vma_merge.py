"""Growing, cutting and joining VMAs, so that neighbours which are alike are one.

before   |  prev  |   area   |  next  |            what becomes of it
         ├────────┴──────────┤        |   2        prev grows over the area
         |        ├──────────┴────────┤   3        next grows down over it
         ├────────┴──────────┴────────┤   1        one VMA of all three; next is freed

If there is a VMA in the area already (mprotect), that loses what its neighbours take: cases 4 … 8 of C's comment.
"""

from __future__ import annotations

from kmemlab.process.anon_vma import anon_vma_clone, unlink_anon_vmas
from kmemlab.process.i_mmap import unlink_file_vma
from kmemlab.process.mm_struct import MmStruct, Vmas
from kmemlab.process.vma import find_vma, vm_area_dup, vm_area_free, vma_link, vma_mas_remove, vma_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SHIFT


@kernel("mm/mmap.c", "is_mergeable_anon_vma", left_out="long chains: they never merge in C", traced=False)
def is_mergeable_anon_vma(anon_vma1: int, anon_vma2: int) -> bool:
    """Whether two parts could have one anon_vma: they have the same, or one has none yet."""
    return anon_vma1 == anon_vma2 or not (anon_vma1 and anon_vma2)


@kernel("mm/mmap.c", "is_mergeable_vma", left_out="policies, userfaultfd, names", traced=False)
def is_mergeable_vma(vmas: Vmas, vma: int, vm_flags: int, file: int) -> bool:
    """Whether a VMA has these flags and maps this file."""
    return vmas.vm_flags[vma] == vm_flags and vmas.vm_file[vma] == file


@kernel("mm/mmap.c", "can_vma_merge_after", left_out="policies, userfaultfd, names", traced=False)
def can_vma_merge_after(vmas: Vmas, vma: int, vm_flags: int, anon_vma: int, vm_pgoff: int, file: int) -> bool:
    """Whether an area with these properties could be the continuation of a VMA."""
    alike = is_mergeable_vma(vmas, vma, vm_flags, file) and is_mergeable_anon_vma(anon_vma, vmas.anon_vma[vma])
    return alike and vmas.vm_pgoff[vma] + vma_pages(vmas, vma) == vm_pgoff


@kernel("mm/mmap.c", "can_vma_merge_before", left_out="policies, userfaultfd, names", traced=False)
def can_vma_merge_before(vmas: Vmas, vma: int, vm_flags: int, anon_vma: int, vm_pgoff: int, file: int) -> bool:
    """Whether a VMA could be the continuation of an area that ends at page `vm_pgoff`."""
    alike = is_mergeable_vma(vmas, vma, vm_flags, file) and is_mergeable_anon_vma(anon_vma, vmas.anon_vma[vma])
    return alike and vmas.vm_pgoff[vma] == vm_pgoff


@invented("what __vma_adjust, __split_vma and do_munmap do one field after the other", traced=False)
def set_range(vmas: Vmas, vma: int, start: int, end: int) -> None:
    """Move the borders of a VMA; what stands at each address stays."""
    vmas.vm_pgoff[vma] += (start - vmas.vm_start[vma]) >> PAGE_SHIFT
    vmas.vm_start[vma], vmas.vm_end[vma] = start, end


@invented("the end of __vma_adjust")
def remove_vma_merged(mm: MmStruct, vma: int) -> None:
    """A VMA is gone: its addresses belong to a neighbour now, and its pages as well."""
    vma_mas_remove(mm, vma)
    unlink_anon_vmas(mm.common, vma)
    unlink_file_vma(mm.common, vma)
    vm_area_free(mm, vma)


@kernel("mm/mmap.c", "__vma_adjust", formerly=("vma_adjust",), left_out="huge pages", lock="mm->mmap_lock")
def vma_adjust(mm: MmStruct, expand: int, start: int, end: int) -> None:
    """Let a VMA grow to [start, end); its neighbours lose what it takes, and are freed if nothing is left of them.

    Pages that it takes over must be found through its anon_vma, so if it has none, it joins that of who loses them.
    """
    vmas = mm.common.vmas
    for loser in list(mm.vmas()):
        if loser == expand or vmas.vm_end[loser] <= start or end <= vmas.vm_start[loser]:
            continue
        if not vmas.anon_vma[expand]:
            anon_vma_clone(mm.common, expand, loser)
        if start <= vmas.vm_start[loser] and vmas.vm_end[loser] <= end:
            remove_vma_merged(mm, loser)
        elif vmas.vm_start[loser] < start:
            set_range(vmas, loser, vmas.vm_start[loser], start)
        else:
            set_range(vmas, loser, end, vmas.vm_end[loser])
    set_range(vmas, expand, start, end)


@kernel("mm/mmap.c", "vma_merge", left_out="special VMAs, policies", lock="mm->mmap_lock")
def vma_merge(
    mm: MmStruct, prev: int, addr: int, end: int, vm_flags: int, anon_vma: int, pgoff: int, file: int = 0
) -> int:
    """Join [addr, end), which has or gets these properties, with the VMAs before and behind it; the VMA that has it
    then, or 0 if neither suits.

    `prev` is the VMA that begins below `addr`, 0 if there is none.
    """
    vmas = mm.common.vmas
    following = find_vma(mm, vmas.vm_end[prev] if prev else 0)
    if following and vmas.vm_end[following] == end:
        following = find_vma(mm, end)
    after_prev = bool(prev and vmas.vm_end[prev] == addr) and can_vma_merge_after(
        vmas, prev, vm_flags, anon_vma, pgoff, file
    )
    before_next = bool(following and vmas.vm_start[following] == end) and can_vma_merge_before(
        vmas, following, vm_flags, anon_vma, pgoff + (end - addr >> PAGE_SHIFT), file
    )
    if after_prev and before_next and is_mergeable_anon_vma(vmas.anon_vma[prev], vmas.anon_vma[following]):
        vma_adjust(mm, prev, vmas.vm_start[prev], vmas.vm_end[following])
        return prev
    if after_prev:
        vma_adjust(mm, prev, vmas.vm_start[prev], end)
        return prev
    if before_next:
        vma_adjust(mm, following, addr, vmas.vm_end[following])
        return following
    return 0


@kernel("mm/mmap.c", "__split_vma", formerly=("split_vma",), left_out="policies", lock="mm->mmap_lock")
def split_vma(mm: MmStruct, vma: int, addr: int, new_below: bool) -> bool:
    """Cut a VMA in two at `addr`; the new one is the lower part or the upper. False: there is no memory."""
    new = vm_area_dup(mm, vma)
    if not new:
        return False
    vmas = mm.common.vmas
    start, end = vmas.vm_start[vma], vmas.vm_end[vma]
    anon_vma_clone(mm.common, new, vma)
    if new_below:
        set_range(vmas, new, start, addr)
        set_range(vmas, vma, addr, end)
    else:
        set_range(vmas, new, addr, end)
        set_range(vmas, vma, start, addr)
    vma_link(mm, new)
    return True
