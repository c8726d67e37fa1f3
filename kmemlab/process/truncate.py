"""A file gets another size: programs lose the pages behind its end, and a touch there is SIGBUS from now on.

truncate_setsize ─▶ i_size ─▶ unmap_mapping_range: entries ─▶ truncate_inode_pages: pages ─▶ unmap_mapping_range
"""

from __future__ import annotations

from kmemlab.alloc.truncate import truncate_inode_pages
from kmemlab.mm.files import nr_blocks
from kmemlab.mm.globals import Mm
from kmemlab.process.i_mmap import vma_interval_tree_foreach
from kmemlab.process.mm_struct import update_hiwater_rss
from kmemlab.process.rmap_walk import vma_address
from kmemlab.process.zap import zap_pte_range
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest

NO_END = 1 << 62


@kernel("mm/truncate.c", "truncate_setsize", formerly=("vmtruncate",), left_out="ends within a page")
def truncate_setsize(mm: Mm, ino: int, nr_pages: int) -> None:
    """Give a file another size in pages. Beyond an end that moves up there are zeros.

    Copies that programs have made of pages behind the end go as well: nobody can have them mapped any more.
    Raises `BadRequest` for a size that its place on the disk has no room for.
    """
    files = mm.files
    if not 0 <= nr_pages <= nr_blocks(files, ino):
        raise BadRequest(
            f"a file of {nr_blocks(files, ino)} blocks can't have {nr_pages} pages",
            where="truncate",
            remedy="a file keeps the place on the disk that it was made with: make a larger one",
        )
    old, files.nr_pages[ino] = files.nr_pages[ino], nr_pages
    if nr_pages < old:
        mapping = files.mapping[ino]
        unmap_mapping_range(mm, mapping, nr_pages)
        truncate_inode_pages(mm, mapping, nr_pages)
        unmap_mapping_range(mm, mapping, nr_pages)  # private copies that were made meanwhile
        free_blocks(mm, ino, nr_pages, old)


@kernel("mm/memory.c", "unmap_mapping_range", formerly=("unmap_mapping_pages",), left_out="sparing private copies")
def unmap_mapping_range(mm: Mm, mapping: int, start: int) -> None:
    """Take the pages of a file from index `start` on out of all page tables, and private copies of them."""
    processes = mm.processes
    vmas = processes.common.vmas
    for vma in vma_interval_tree_foreach(processes.common, mapping, start, NO_END):
        space = processes.mms[vmas.vm_mm[vma] - 1]
        update_hiwater_rss(space)
        first = vma_address(vmas, vma, max(start, vmas.vm_pgoff[vma]))
        zap_pte_range(space, first, vmas.vm_end[vma], vmas.vm_flags[vma])


@invented("file systems give the blocks back; here they stay the file's, and are empty")
def free_blocks(mm: Mm, ino: int, start: int, end: int) -> None:
    """Clear the blocks of the pages `start` … `end` - 1 of a file."""
    mm.disk.contents.fill_pages(mm.files.first_block[ino] + start, end - start, 0)
