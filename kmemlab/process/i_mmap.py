"""i_mmap: from a file to all the VMAs that map a part of it.

mapping 3 ─▶ VMA 7 (pages 0 … 9 of the file) ⇄ VMA 12 (pages 4 … 5) ⇄ …

C keeps an interval tree by page numbers. Here it is a list in the order of mapping, and whoever looks for a page
passes over those that don't have it.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.process.mm_struct import IMmap, ProcessMemory
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head, list_add_tail, list_del, list_for_each
from kmemlab.types.units import PAGE_SHIFT


@kernel("include/linux/fs.h", "file_inode", left_out="vma->vm_file->f_mapping in one", traced=False)
def vma_mapping(common: ProcessMemory, vma: int) -> int:
    """The number of the mapping that a VMA maps; 0 if it maps no file."""
    file = common.vmas.vm_file[vma]
    return common.mm.files.mapping[file] if file else 0


@kernel("mm/mmap.c", "__vma_link_file", left_out="the interval tree: a list", lock="mapping->i_mmap_rwsem")
def vma_link_file(common: ProcessMemory, vma: int) -> None:
    """A VMA that maps a file can be found from the file from now on."""
    mapping = vma_mapping(common, vma)
    if mapping:
        i_mmap = common.i_mmap
        head = i_mmap.head(mapping)
        if not i_mmap.vmas.next[head]:
            init_list_head(i_mmap.vmas, head)
        list_add_tail(i_mmap.vmas, vma, head)


@kernel("mm/mmap.c", "unlink_file_vma", formerly=("__remove_shared_vm_struct",), lock="mapping->i_mmap_rwsem")
def unlink_file_vma(common: ProcessMemory, vma: int) -> None:
    """A VMA goes: its file knows nothing of it any more."""
    if common.vmas.vm_file[vma]:
        list_del(common.i_mmap.vmas, vma)


@invented("walking the list of a mapping, which may be untouched", traced=False)
def vmas_of_mapping(i_mmap: IMmap, mapping: int) -> Iterator[int]:
    """All VMAs that map a file, in the order in which they came."""
    head = i_mmap.head(mapping)
    if i_mmap.vmas.next[head]:
        yield from list_for_each(i_mmap.vmas, head)


@kernel("mm/interval_tree.c", "vma_interval_tree_iter_first", left_out="the tree: all are looked at", traced=False)
def vma_interval_tree_foreach(common: ProcessMemory, mapping: int, first: int, last: int) -> Iterator[int]:
    """The VMAs that map some of the pages `first` … `last` of a mapping."""
    vmas = common.vmas
    for vma in vmas_of_mapping(common.i_mmap, mapping):
        pgoff = vmas.vm_pgoff[vma]
        if pgoff <= last and first < pgoff + (vmas.vm_end[vma] - vmas.vm_start[vma] >> PAGE_SHIFT):
            yield vma
