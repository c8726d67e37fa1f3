"""The MMU: from a virtual address to a physical one, by way of the TLB or a walk over the tables in RAM.

    CR3 ──▶ pgd[47-39] ──▶ pud[38-30] ──▶ pmd[29-21] ──▶ pte[20-12] ──▶ frame + offset
             │ P RW US NX    │              │ PSE: a large page, done
             └── every level must allow a write (RW) and user mode (US); one NX forbids execution

An access is described by three bits of the error code that it would fault with: X86_PF_WRITE, _USER, _INSTR.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kmemlab.hardware.ram import Ram
from kmemlab.hardware.tlb import NO_SLOT, Tlb
from kmemlab.sim.kernel import invented
from kmemlab.sim.struct import Struct, U64Cell
from kmemlab.types.errors import KmemlabError
from kmemlab.types.pgtable import (
    LAYOUTS,
    PAGE_ACCESSED,
    PAGE_DIRTY,
    PAGE_GLOBAL,
    PAGE_NX,
    PAGE_PAT,
    PAGE_PAT_LARGE,
    PAGE_PCD,
    PAGE_PRESENT,
    PAGE_PSE,
    PAGE_PWT,
    PAGE_RW,
    PAGE_USER,
    PGD,
    PTE,
    PUD,
)
from kmemlab.types.trap_pf import X86_PF_INSTR, X86_PF_PROT, X86_PF_RSVD, X86_PF_USER, X86_PF_WRITE, error_code_text

CR0_WP = 1 << 16  # the kernel, too, respects RW
CR3_PCID = 0xFFF
CR3_NOFLUSH = 1 << 63
CR4_PSE = 1 << 4
CR4_PGE = 1 << 7
CR4_PCIDE = 1 << 17
CR4_SMEP = 1 << 20  # the kernel never executes a user page
CR4_SMAP = 1 << 21  # the kernel never touches one, except where it says so (EFLAGS.AC)
EFER_NX = 1 << 11

RIGHTS = PAGE_RW | PAGE_USER | PAGE_GLOBAL | PAGE_DIRTY | PAGE_NX
ALLOWED = PAGE_RW | PAGE_USER | PAGE_NX
PDPTE_RESERVED = PAGE_RW | PAGE_USER | PAGE_ACCESSED | PAGE_DIRTY | PAGE_PSE | PAGE_GLOBAL | PAGE_NX


class PageFault(KmemlabError):
    """The CPU could not translate an address; `error_code` says what was tried and why it failed."""

    def __init__(self, address: int, error_code: int) -> None:
        self.address, self.error_code = address, error_code
        super().__init__(
            f"page fault at {address:#x}: error code {error_code:#x}, {error_code_text(error_code)}",
            where="the MMU",
            remedy="map the page, or allow the access",
        )


class GeneralProtection(KmemlabError):
    """The CPU refuses an address that is not canonical: its upper bits are no copies."""


@invented("what a walk finds")
@dataclass(frozen=True, slots=True)
class Translation:
    """Where an address leads: the level and value of the entry that maps it, and what all levels allow together."""

    address: int
    level: int
    entry: int
    rights: int

    def pat_index(self) -> int:
        """Which of the eight types of the PAT the entry chooses: its bits PAT, PCD and PWT."""
        pat = PAGE_PAT if self.level == PTE else PAGE_PAT_LARGE
        return 4 * bool(self.entry & pat) + 2 * bool(self.entry & PAGE_PCD) + bool(self.entry & PAGE_PWT)


@invented("what the TLB has is not to be seen on a real CPU")
@dataclass(frozen=True, slots=True)
class StaleEntry:
    """A page that the TLB still translates to `frame`, though the tables say `now`.

    None: they have nothing there. The same address: with other rights, or in a page of another size.
    """

    address: int
    frame: int
    now: int | None


@invented("the MMU is hardware")
class Mmu(Struct):
    """One CPU's MMU, with its control registers and its TLB; `levels` is the mode, as CR4 and EFER choose it.

    >>> from kmemlab.types.pgtable import PAGE_KERNEL_EXEC, PAGE_KERNEL_LARGE_EXEC
    >>> ram = Ram(1 << 16)
    >>> mmu = Mmu(ram, levels=2)
    >>> mmu.write_cr3(0x1000)
    >>> ram.write(0x1000 + 4 * 0x300, 0x400000 | PAGE_KERNEL_LARGE_EXEC, 4)
    >>> hex(mmu.access(0xC0012345))
    '0x412345'
    >>> mmu.access(0x12345, X86_PF_USER)
    Traceback (most recent call last):
    kmemlab.hardware.mmu.PageFault: page fault at 0x12345: error code 0x4, not-present page
      where:  the MMU
      remedy: map the page, or allow the access
    """

    cr0 = U64Cell()
    cr2 = U64Cell()  # the address of the last page fault
    cr3 = U64Cell()
    cr4 = U64Cell()
    efer = U64Cell()
    ac = U64Cell()  # EFLAGS.AC: the kernel touches user pages on purpose

    def __init__(self, ram: Ram, levels: int, phys_bits: int = 40, gbpages: bool = True, on: bool = True) -> None:
        """With `on` as the kernel runs it; else all of its registers are 0, until `switch_on`."""
        self.ram = ram
        self.layout = LAYOUTS[levels]
        self.tlb = Tlb()
        self.phys_bits = phys_bits
        self.gbpages = gbpages
        if on:
            self.switch_on(CR4_PSE | CR4_PGE, EFER_NX if levels > 2 else 0)

    # -- what the CPU does at each access ------------------------------------------------------------------------------

    def access(self, address: int, access: int = 0) -> int:
        """The physical address behind a virtual one, for a read, or what `access` says.

        Raises `PageFault` (CR2 then holds the address), and `GeneralProtection` for one that is not canonical.
        """
        if not self.layout.canonical(address):
            raise GeneralProtection(
                f"{address:#x} is not canonical",
                where="the MMU",
                remedy=f"use an address whose bits from {self.layout.virt_bits - 1} up are alike",
            )
        try:
            return self.translate(address, access)
        except PageFault:
            self.cr2 = address
            raise

    def translate(self, address: int, access: int) -> int:
        """What the TLB remembers, and where it does not, what a walk finds; the TLB keeps that."""
        slot = self.tlb.find(address, self.pcid)
        if slot != NO_SLOT:
            rights = self.tlb.rights[slot]
            if self.forbidden(rights, access):
                self.tlb.drop(slot)  # a fault makes the CPU forget, so that a second try sees the tables
                raise self.fault(address, access | X86_PF_PROT)
            if rights & PAGE_DIRTY or not access & X86_PF_WRITE:
                return self.tlb.translate(slot, address)
            self.tlb.drop(slot)  # the first write: the walk marks the entry in RAM dirty
        found = self.walk(address, access)
        size = self.layout.levels[found.level].size
        rights = found.rights if self.cr4 & CR4_PGE else found.rights & ~PAGE_GLOBAL
        self.tlb.insert(address, size.bit_length() - 1, found.address & -size, rights, self.pcid)
        return found.address

    @invented("the MMU is hardware", traced=False)
    def walk(self, address: int, access: int = 0) -> Translation:
        """What the tables in RAM say, whatever the TLB remembers. Marks entries accessed and dirty, as the CPU does.

        Raises `PageFault`.
        """
        found, passed = self.descend(address, access)
        if self.forbidden(found.rights, access):
            raise self.fault(address, access | X86_PF_PROT)
        entry = self.mark(passed, access)
        return replace(found, entry=entry, rights=found.rights | entry & PAGE_DIRTY)

    def descend(self, address: int, access: int = 0) -> tuple[Translation, list[tuple[int, int]]]:
        """Follow the entries from the top table to the page, changing nothing; with them, where each stands.

        Raises `PageFault` for one that is not present or has a reserved bit set.
        """
        layout = self.layout
        # The four top entries of PAE need no whole page.
        table = self.cr3 & (0xFFFFFFE0 if layout.name == "PAE" else layout.address_mask)
        rights, passed = PAGE_RW | PAGE_USER, []
        for level in range(PGD, PTE + 1):
            if not layout.levels[level].folded:
                entryp = table + layout.index(level, address) * layout.entry_size
                entry = self.ram.read(entryp, layout.entry_size)
                if not entry & PAGE_PRESENT:
                    raise self.fault(address, access)
                if not self.is_pdpte(level):
                    rights = rights & (entry | ~(PAGE_RW | PAGE_USER)) | entry & PAGE_NX
                    passed.append((entryp, entry))
                table = entry & layout.address_mask
            if entry & self.reserved_bits(level, entry):
                raise self.fault(address, access | X86_PF_PROT | X86_PF_RSVD)
            if self.is_leaf(level, entry):
                break
        rights = (rights | entry & (PAGE_GLOBAL | PAGE_DIRTY)) & RIGHTS
        offset = address & layout.levels[level].size - 1
        return Translation(entry & layout.page_mask(level) | offset, level, entry, rights), passed

    def stale(self) -> tuple[StaleEntry, ...]:
        """The translations in use that the tables in RAM no longer bear out: somebody forgot to flush."""
        found = []
        for slot in self.tlb.slots():
            address, frame = self.tlb.tag[slot], self.tlb.frame[slot]
            if not self.tlb.holds(slot, address, self.pcid):
                continue
            try:
                now, _ = self.descend(address)
            except PageFault:
                found.append(StaleEntry(address, frame, None))
                continue
            same_size = self.layout.levels[now.level].size == 1 << self.tlb.shift[slot]
            if now.address != frame or not same_size or (now.rights ^ self.tlb.rights[slot]) & ALLOWED:
                found.append(StaleEntry(address, frame, now.address))
        return tuple(found)

    def is_pdpte(self, level: int) -> bool:
        """Whether entries of this level are the four at the top of PAE, which say nothing but where a table is."""
        return level == PGD and self.layout.name == "PAE"

    def is_leaf(self, level: int, entry: int) -> bool:
        """Whether an entry maps a page; with two levels, large pages must be switched on."""
        return self.layout.is_leaf(level, entry) and (level == PTE or self.layout.entry_size == 8 or self.has_pse)

    @property
    def has_pse(self) -> bool:
        """CR4.PSE: two-level tables may have large pages (in the other modes they always may)."""
        return bool(self.cr4 & CR4_PSE)

    @property
    def pcid(self) -> int:
        """Whose translations the CPU uses now; 0 without PCIDs."""
        return self.cr3 & CR3_PCID if self.cr4 & CR4_PCIDE else 0

    def reserved_bits(self, level: int, entry: int) -> int:
        """The bits that must be 0 in a present entry of this level."""
        layout = self.layout
        reserved = 0
        if self.is_leaf(level, entry) and level != PTE:
            # Between the flags and the address of a large page, except bit 12, which is PAT.
            reserved |= layout.levels[level].size - (PAGE_PAT_LARGE << 1)
        if layout.entry_size == 4:
            return reserved
        reserved |= layout.address_mask & -(1 << self.phys_bits)
        if not self.efer & EFER_NX:
            reserved |= PAGE_NX
        if layout.name == "PAE":
            reserved |= 0x7FF << 52 | (PDPTE_RESERVED if self.is_pdpte(level) else 0)
        elif level < PUD or (level == PUD and not self.gbpages):
            reserved |= PAGE_PSE
        return reserved

    def forbidden(self, rights: int, access: int) -> bool:
        """Whether what all levels allow together is too little for an access."""
        user_page = bool(rights & PAGE_USER)
        if access & X86_PF_INSTR and rights & PAGE_NX:
            return True
        if access & X86_PF_USER:
            return not user_page or bool(access & X86_PF_WRITE and not rights & PAGE_RW)
        if user_page and access & X86_PF_INSTR:
            return bool(self.cr4 & CR4_SMEP)
        if user_page and self.cr4 & CR4_SMAP and not self.ac:
            return True
        return bool(access & X86_PF_WRITE and self.cr0 & CR0_WP and not rights & PAGE_RW)

    def mark(self, passed: list[tuple[int, int]], access: int) -> int:
        """Set the accessed bits of a walk, and the dirty bit of its last entry if it writes; gives the last entry."""
        last = len(passed) - 1
        for nth, (entryp, entry) in enumerate(passed):
            marked = entry | PAGE_ACCESSED | (PAGE_DIRTY if nth == last and access & X86_PF_WRITE else 0)
            if marked != entry:
                self.ram.write(entryp, marked, self.layout.entry_size)
        return marked

    def fault(self, address: int, error_code: int) -> PageFault:
        """A page fault; that it was a fetch is told only where execution can be forbidden."""
        if not (self.efer & EFER_NX or self.cr4 & CR4_SMEP):
            error_code &= ~X86_PF_INSTR
        return PageFault(address, error_code)

    def switch_on(self, cr4: int, efer: int) -> None:
        """Start paging, with these features; the kernel, too, respects read-only pages."""
        self.cr0, self.cr4, self.efer = CR0_WP, cr4, efer

    # -- what the kernel tells it --------------------------------------------------------------------------------------

    def write_cr3(self, value: int) -> None:
        """Use other tables. What the TLB has of the new PCID goes, except global pages; bit 63 keeps that, too."""
        self.cr3 = value & ~CR3_NOFLUSH
        if not (value & CR3_NOFLUSH and self.cr4 & CR4_PCIDE):
            self.tlb.flush_pcid(self.pcid)

    def write_cr4(self, value: int) -> None:
        """Switch features; a change of PGE, PSE, PCIDE or SMEP empties the TLB."""
        changed = self.cr4 ^ value
        self.cr4 = value
        if changed & (CR4_PGE | CR4_PSE | CR4_PCIDE | CR4_SMEP):
            self.tlb.flush_all()

    def invlpg(self, address: int) -> None:
        """Forget one page, of whatever size."""
        self.tlb.invlpg(address, self.pcid)
