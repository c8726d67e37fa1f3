"""The TLB: translations that the CPU remembers, and goes on using until it is told to forget.

slot     0                     1                    …
tag      ffff888000200000      0000000000401000          the address of the page, and how large it is
frame    200000                7f3e000                   where it is in RAM
rights   RW G                  US                        what the whole walk allowed
pcid     0                     3                         whose translation it is

Nobody tells the TLB when an entry of a page table changes: what it remembers is stale from then on, until `invlpg`,
a write of CR3, or a change of CR4.PGE drops it.
"""

from __future__ import annotations

from kmemlab.sim.column import column
from kmemlab.sim.kernel import invented
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.pgtable import PAGE_GLOBAL

NO_SLOT = -1


@invented("the TLB is hardware")
class Tlb(Struct):
    """A TLB of `size` translations of any page size; the oldest goes when there is no room.

    >>> tlb = Tlb(2)
    >>> tlb.insert(0x400000, 21, 0x200000, 0)
    >>> tlb.translate(tlb.find(0x412345), 0x412345) == 0x212345, tlb.find(0x600000)
    (True, -1)
    """

    hits = Cell()
    misses = Cell()
    next_victim = Cell()

    def __init__(self, size: int = 64) -> None:
        self.tag = column("Q", size)
        self.shift = column("B", size)  # log2 of the page's size; 0: the slot is empty
        self.frame = column("Q", size)
        self.rights = column("Q", size)  # bits as in a page-table entry
        self.pcid = column("H", size)

    def find(self, address: int, pcid: int = 0) -> int:
        """The slot that translates an address for this PCID, or -1. Global pages are everybody's."""
        for slot, used in enumerate(self.shift):
            if used and self.holds(slot, address, pcid):
                self.hits += 1
                return slot
        self.misses += 1
        return NO_SLOT

    def holds(self, slot: int, address: int, pcid: int) -> bool:
        """Whether a slot translates an address for this PCID."""
        shift = self.shift[slot]
        if not shift or address >> shift << shift != self.tag[slot]:
            return False
        return self.pcid[slot] == pcid or bool(self.rights[slot] & PAGE_GLOBAL)

    def insert(self, address: int, shift: int, frame: int, rights: int, pcid: int = 0) -> None:
        """Remember where the page of 2**`shift` bytes around `address` is, and what may be done with it."""
        slot = next((slot for slot, used in enumerate(self.shift) if not used), NO_SLOT)
        if slot == NO_SLOT:
            slot = self.next_victim
            self.next_victim = (slot + 1) % len(self.shift)
        self.tag[slot] = address >> shift << shift
        self.shift[slot] = shift
        self.frame[slot] = frame
        self.rights[slot] = rights
        self.pcid[slot] = pcid

    def translate(self, slot: int, address: int) -> int:
        """The physical address that a slot has for an address of its page."""
        return self.frame[slot] | address & (1 << self.shift[slot]) - 1

    def drop(self, slot: int) -> None:
        """Forget one translation."""
        self.shift[slot] = 0

    def invlpg(self, address: int, pcid: int = 0) -> None:
        """Forget the page around an address, global or not; other PCIDs keep theirs."""
        for slot in range(len(self.shift)):
            if self.holds(slot, address, pcid):
                self.drop(slot)

    def flush_pcid(self, pcid: int) -> None:
        """Forget what one PCID has, except global pages: what a write of CR3 does."""
        for slot, shift in enumerate(self.shift):
            if shift and self.pcid[slot] == pcid and not self.rights[slot] & PAGE_GLOBAL:
                self.drop(slot)

    def flush_all(self) -> None:
        """Forget everything: what a change of CR4.PGE does."""
        for slot, shift in enumerate(self.shift):
            if shift:
                self.drop(slot)

    def slots(self) -> tuple[int, ...]:
        """The slots in use."""
        return tuple(slot for slot, shift in enumerate(self.shift) if shift)
