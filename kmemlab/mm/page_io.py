"""mm/page_io.c: pages go to their slot on disk, and come back; the page tells when that is done."""

from __future__ import annotations

from kmemlab.mm.address_space import ADDRESS_SPACE_OPERATIONS, AddressSpaceOperations
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.page_writeback import folio_start_writeback
from kmemlab.mm.swap_info import swp_swap_info
from kmemlab.mm.swap_state import folio_free_swap, folio_swap_entry
from kmemlab.mm.swapops import swp_offset
from kmemlab.mm.vm_event import PSWPIN, PSWPOUT
from kmemlab.mm.wait import folio_unlock, submit_bio
from kmemlab.sim.kernel import kernel
from kmemlab.types.pageflags import PG_locked, PG_uptodate


@kernel("mm/swapfile.c", "swap_page_sector", left_out="swap files, whose blocks lie scattered", traced=False)
def swap_page_block(mm: Mm, pfn: int) -> int:
    """The block of the disk that is the slot of a page in the swap cache."""
    entry = folio_swap_entry(mm, pfn)
    return swp_swap_info(mm.swap, entry).first_block + swp_offset(entry)


@kernel("mm/page_io.c", "swap_writepage", formerly=("__swap_writepage",), left_out="frontswap; errors")
def swap_writepage(mm: Mm, pfn: int) -> None:
    """Ask the disk to write a locked page into its slot, and unlock it; not if nobody wants it back."""
    if folio_free_swap(mm, pfn):
        folio_unlock(mm, pfn)
        return
    mm.vm_event[PSWPOUT] += 1
    folio_start_writeback(mm, pfn)
    folio_unlock(mm, pfn)
    submit_bio(mm, pfn, swap_page_block(mm, pfn), write=True)


@kernel("mm/page_io.c", "swap_readpage", left_out="frontswap; devices that are done at once; errors")
def swap_readpage(mm: Mm, pfn: int) -> None:
    """Ask the disk for a locked page from its slot; it will be unlocked when it is up to date."""
    assert page_has_flag(mm.page, pfn, PG_locked), f"pfn {pfn} is not locked"
    assert not page_has_flag(mm.page, pfn, PG_uptodate), f"pfn {pfn} is up to date already"
    mm.vm_event[PSWPIN] += 1
    submit_bio(mm, pfn, swap_page_block(mm, pfn), write=False)


ADDRESS_SPACE_OPERATIONS["swap"] = AddressSpaceOperations(writepage=swap_writepage)
