"""The laws of mapped files: an entry and its VMA agree on the page, what may be written is dirty, each file knows its
VMAs."""

from __future__ import annotations

from collections import Counter
from typing import NoReturn

from kmemlab.mm.address_space import is_swap_space, pages_of
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.page_mapping import folio_mapping
from kmemlab.mm.page_state import page_has_flag
from kmemlab.process.i_mmap import vma_mapping, vmas_of_mapping
from kmemlab.process.mm_struct import MmStruct, ProcessMemory
from kmemlab.process.vma import linear_page_index
from kmemlab.sim.kernel import invented
from kmemlab.types.pageflags import PG_dirty, PG_uptodate
from kmemlab.types.pgtable import PAGE_DIRTY, PAGE_RW
from kmemlab.types.vm_flags import VM_SHARED


@invented("one of the laws", traced=False)
def check_file_entry(mm: MmStruct, vma: int, address: int, entry: int, pfn: int) -> None:
    """An entry that maps a file's page lies in a VMA of that file, at the page's place; it is up to date and not behind
    the end. Only a shared VMA writes into it, and only if it is dirty."""
    common = mm.common
    page, where = common.mm.page, f"the entry at {address:#x} of address space {mm.number}"
    index = linear_page_index(common.vmas, vma, address)
    if not common.vmas.vm_file[vma] or folio_mapping(page, pfn) != vma_mapping(common, vma) or page.index[pfn] != index:
        _broken(f"{where} maps page {page.index[pfn]} of mapping {folio_mapping(page, pfn)}")
    if index >= common.mm.files.nr_pages[common.vmas.vm_file[vma]]:
        _broken(f"{where} maps a page behind the end of its file")
    if not page_has_flag(page, pfn, PG_uptodate):
        _broken(f"{where} maps a page that is not read yet")
    if entry & PAGE_RW and not (common.vmas.vm_flags[vma] & VM_SHARED and page_has_flag(page, pfn, PG_dirty)):
        _broken(f"{where} lets a program change a file's page unnoticed")
    if entry & PAGE_DIRTY and not page_has_flag(page, pfn, PG_dirty):
        _broken(f"{where} is dirty, and its page is not")


@invented("one of the laws", traced=False)
def check_file_pages(common: ProcessMemory, mapped: Counter[int], waiting: Counter[int]) -> None:
    """mapcount is the number of entries; each of them holds a reference, as do the mapping and each batch. No page is
    behind the end of its file."""
    page = common.mm.page
    for pfn, count in mapped.items():
        if page.mapcount[pfn] != count:
            _broken(f"page {pfn:#x} is mapped {count} times, but its mapcount is {page.mapcount[pfn]}")
        if page.refcount[pfn] != 1 + count + waiting[pfn]:
            _broken(f"page {pfn:#x} of a file is mapped {count} times, but has {page.refcount[pfn]} references")
    for mapping in range(1, common.mm.mappings.nr_mappings + 1):
        if not is_swap_space(common.mm.mappings, mapping):
            _check_unmapped(common, mapping, mapped)


def _check_unmapped(common: ProcessMemory, mapping: int, mapped: Counter[int]) -> None:
    files, mappings = common.mm.files, common.mm.mappings
    ino = mappings.host[mapping]
    for pfn in pages_of(mappings, mapping):
        if ino and files.mapping[ino] == mapping and common.mm.page.index[pfn] >= files.nr_pages[ino]:
            _broken(f"page {pfn:#x} is behind the end of its file")
        if pfn not in mapped and common.mm.page.mapcount[pfn]:
            _broken(f"page {pfn:#x} of a file is mapped nowhere, but its mapcount is {common.mm.page.mapcount[pfn]}")


@invented("one of the laws", traced=False)
def check_i_mmap(common: ProcessMemory, mms: list[MmStruct]) -> None:
    """On the list of each mapping are the VMAs that map its file, each once."""
    wanted: dict[int, list[int]] = {}
    for mm in mms:
        for vma in mm.vmas():
            if common.vmas.vm_file[vma]:
                wanted.setdefault(vma_mapping(common, vma), []).append(vma)
    for mapping in range(1, common.mm.mappings.nr_mappings + 1):
        if sorted(vmas_of_mapping(common.i_mmap, mapping)) != sorted(wanted.get(mapping, [])):
            _broken(f"the list of VMAs of mapping {mapping} is wrong")


def _broken(law: str) -> NoReturn:
    raise BrokenLaw(law, where="mapped files")
