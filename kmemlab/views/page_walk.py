"""What happens on the way from a virtual address to a physical one, moment by moment, as facts.

address ──▶ TLB ──hit────────────────────────────────────────────▶ physical address, or a fault
             └─miss─▶ pgd ─▶ (p4d) ─▶ pud ─▶ pmd ─▶ pte ─▶ rights ─▶ physical address, kept in the TLB
                       └── not present, or a reserved bit: a fault

The facts are read from the MMU's own tables and TLB; what comes of the access is what the MMU itself answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kmemlab.boot.fault import show_fault_oops
from kmemlab.boot.pgtable import PageTables
from kmemlab.boot.printk import Printk
from kmemlab.hardware.mmu import GeneralProtection, Mmu, PageFault
from kmemlab.hardware.tlb import NO_SLOT
from kmemlab.mm.swapops import is_swap_pte, non_swap_entry, pte_to_swp_entry, swp_offset, swp_type
from kmemlab.types.pgtable import (
    PAGE_DIRTY,
    PAGE_GLOBAL,
    PAGE_NX,
    PAGE_PRESENT,
    PAGE_RW,
    PAGE_USER,
    PGD,
    PTE,
    entry_text,
)
from kmemlab.types.trap_pf import X86_PF_INSTR, X86_PF_USER, X86_PF_WRITE, error_code_text
from kmemlab.types.units import size_text

NOTHING = -1


@dataclass(frozen=True, slots=True)
class Passed:
    """An entry that a walk reads: its level, its index, where its table and it stand, and what it holds."""

    level: int
    name: str
    index: int
    table: int
    entryp: int
    entry: int
    says: str  # the entry in words


@dataclass(frozen=True, slots=True)
class TlbLine:
    """A translation that the TLB remembers."""

    slot: int
    address: int
    frame: int
    shift: int
    rights: int
    stale: bool

    def text(self, digits: int) -> str:
        """The line as a reader sees it: page, frame, size, rights."""
        stale = "  STALE" if self.stale else ""
        frame = f"{self.frame:#x}"
        return f"{self.address:0{digits}x} > {frame:<11} {size_text(1 << self.shift)} {rights_text(self.rights)}{stale}"


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of a walk: what is said, how far the walk is, and all that can be seen then."""

    said: str
    address: int
    access: int
    passed: tuple[Passed, ...] = ()
    now: int = NOTHING  # the level that is being read
    tlb: tuple[TlbLine, ...] = ()
    hit: int = NO_SLOT
    result: str = ""
    faulted: bool = False
    log: str = ""
    changed: tuple[str, ...] = field(default=())
    starts: bool = False  # the first moment of an access


def rights_text(rights: int) -> str:
    """What a page may be used for, as letters: r, w, x, and u for programs; G for global.

    >>> rights_text(PAGE_RW | PAGE_NX | PAGE_GLOBAL), rights_text(PAGE_USER)
    ('rw- G', 'r-x u')
    """
    letters = "r" + ("w" if rights & PAGE_RW else "-") + ("-" if rights & PAGE_NX else "x")
    return letters + (" u" if rights & PAGE_USER else "") + (" G" if rights & PAGE_GLOBAL else "")


def access_text(access: int) -> str:
    """An access in words.

    >>> access_text(X86_PF_USER | X86_PF_WRITE), access_text(0)
    ('a program writes', 'the kernel reads')
    """
    what = "fetches an instruction" if access & X86_PF_INSTR else "writes" if access & X86_PF_WRITE else "reads"
    return f"{'a program' if access & X86_PF_USER else 'the kernel'} {what}"


def entries_on_the_way(mmu: Mmu, address: int) -> list[Passed]:
    """The entries that a walk to `address` reads, down to the one that ends it; nothing is marked or remembered."""
    layout, found = mmu.layout, []
    table = mmu.cr3 & (0xFFFFFFE0 if layout.name == "PAE" else layout.address_mask)
    for level in range(PGD, PTE + 1):
        if layout.levels[level].folded:
            continue
        index = layout.index(level, address)
        entryp = table + index * layout.entry_size
        entry = mmu.ram.read(entryp, layout.entry_size)
        name = layout.levels[level].name
        found.append(Passed(level, name, index, table, entryp, entry, entry_text(entry, layout)))
        # With two levels the folded pmd is asked whether this entry maps a large page.
        leaf = (
            any(
                mmu.is_leaf(below, entry)
                for below in range(level, PTE)
                if layout.levels[below].shift == layout.levels[level].shift
            )
            or level == PTE
        )
        if not entry & PAGE_PRESENT or mmu.reserved_bits(level, entry) & entry or leaf:
            break
        table = entry & layout.address_mask
    return found


def tlb_lines(mmu: Mmu) -> tuple[TlbLine, ...]:
    """What the TLB remembers, oldest slot first, and which of it the tables no longer bear out."""
    stale, tlb = {item.address for item in mmu.stale()}, mmu.tlb
    return tuple(
        TlbLine(slot, tlb.tag[slot], tlb.frame[slot], tlb.shift[slot], tlb.rights[slot], tlb.tag[slot] in stale)
        for slot in tlb.slots()
    )


def slot_of(mmu: Mmu, address: int) -> int:
    """The slot that translates an address now, or -1; nobody counts this as a look-up."""
    return next((slot for slot in mmu.tlb.slots() if mmu.tlb.holds(slot, address, mmu.pcid)), NO_SLOT)


def moments_of(mmu: Mmu, address: int, access: int) -> Iterator[Moment]:
    """Do the access, and tell it step by step. A fault is told, not raised."""
    digits = digits_of(mmu)
    lines, hit = tlb_lines(mmu), slot_of(mmu, address)
    start = Moment(
        f"{access_text(access)} at {address:#0{digits + 2}x}.".capitalize(), address, access, tlb=lines, starts=True
    )
    yield start
    if not mmu.layout.canonical(address):
        yield not_canonical(mmu, start)
        return
    yield looked_up(start, hit)
    passed = entries_on_the_way(mmu, address)
    walks = hit == NO_SLOT or bool(access & X86_PF_WRITE and not mmu.tlb.rights[hit] & PAGE_DIRTY)
    forbidden = hit != NO_SLOT and mmu.forbidden(mmu.tlb.rights[hit], access)
    if walks and not forbidden:
        if hit != NO_SLOT:
            yield replace(
                start,
                said="It is the first write to this page: the entry in RAM must be marked dirty, so "
                "the CPU walks all the same.",
                hit=hit,
            )
        for at, entry in enumerate(passed):
            yield replace(
                start,
                said=entry_said(mmu, entry, at + 1 == len(passed)),
                passed=tuple(passed[: at + 1]),
                now=entry.level,
            )
    yield outcome(mmu, start, tuple(passed) if walks and not forbidden else (), hit)


def not_canonical(mmu: Mmu, start: Moment) -> Moment:
    """The end of an access to an address that can't be translated."""
    try:
        mmu.access(start.address, start.access)
    except GeneralProtection as error:
        said = (
            f"Bits 63 to {mmu.layout.virt_bits} are no copies of bit {mmu.layout.virt_bits - 1}: no table is even "
            "looked at. The CPU raises a general protection fault."
        )
        return replace(start, said=said, result=error.what, faulted=True, starts=False)
    raise AssertionError("the MMU took an address that is not canonical")


def looked_up(start: Moment, hit: int) -> Moment:
    """The moment at which the TLB is asked."""
    line = next((line for line in start.tlb if line.slot == hit), None)
    if line is None:
        said = "The TLB has no translation of this page: the CPU walks the tables, from CR3 on."
    else:
        said = f"The TLB remembers this page, {size_text(1 << line.shift)} at {line.frame:#x}: no table is read."
        if line.stale:
            said += " But the tables say something else by now."
    return replace(start, said=said, hit=hit, starts=False)


def swap_said(mmu: Mmu, passed: Passed) -> str:
    """What the kernel has written into an entry that the CPU does not read: where the page went."""
    if passed.level != PTE or not is_swap_pte(passed.entry):
        return ""
    entry = pte_to_swp_entry(mmu.layout, passed.entry)
    if non_swap_entry(entry):
        return ""
    return f", but the kernel keeps a note in it: slot {swp_offset(entry)} of swap area {swp_type(entry)}"


def entry_said(mmu: Mmu, passed: Passed, last: bool) -> str:
    """An entry in a sentence: a table, a page, nothing, or nonsense."""
    where = f"Entry {passed.index} of the {passed.name}, at {passed.entryp:#x}, is {passed.entry:#x}"
    layout = mmu.layout
    if not passed.entry & PAGE_PRESENT:
        return f"{where}: not present{swap_said(mmu, passed)}. Here the walk ends."
    if passed.entry & mmu.reserved_bits(passed.level, passed.entry):
        return f"{where}: a bit is set that must be 0. Here the walk ends."
    if not last:
        return f"{where}: the next table is at {passed.entry & layout.address_mask:#x}."
    size = layout.levels[passed.level].size
    return f"{where}: it maps a page of {size_text(size)} at {passed.entry & layout.page_mask(passed.level):#x}."


def outcome(mmu: Mmu, start: Moment, passed: tuple[Passed, ...], hit: int) -> Moment:
    """Let the MMU do it, and say what came of it and what changed."""
    start = replace(start, now=passed[-1].level if passed else NOTHING, starts=False)
    try:
        physical = mmu.access(start.address, start.access)
    except PageFault as fault:
        return refused(mmu, start, passed, fault)
    return allowed(mmu, start, passed, slot_of(mmu, start.address) if passed else hit, physical)


def refused(mmu: Mmu, start: Moment, passed: tuple[Passed, ...], fault: PageFault) -> Moment:
    """The moment of a page fault."""
    address, code = start.address, fault.error_code
    return replace(
        start,
        said=f"The CPU raises a page fault: error code {code:#06x}, {error_code_text(code)}. CR2 holds the address.",
        passed=passed,
        tlb=tlb_lines(mmu),
        result=f"page fault at {address:#x}: error code {code:#06x}, {error_code_text(code)}",
        faulted=True,
        log=oops(mmu, fault, start.access),
        changed=(f"CR2 = {address:#x}", *tlb_changes(start.tlb, tlb_lines(mmu), digits_of(mmu))),
    )


def allowed(mmu: Mmu, start: Moment, passed: tuple[Passed, ...], hit: int, physical: int) -> Moment:
    """The moment in which an access reaches RAM; entries on the way may bear new marks now."""
    address, lines = start.address, tlb_lines(mmu)
    after = tuple(entries_on_the_way(mmu, address)) if passed else ()
    marks = tuple(
        f"{old.name}[{old.index}]  {old.entry:#x} → {new.entry:#x}"
        for old, new in zip(passed, after, strict=False)
        if old.entry != new.entry
    )
    kept = "; the TLB keeps it" if passed else ""
    return replace(
        start,
        said=f"The access is allowed, and goes to {physical:#x} in RAM{kept}.",
        passed=after,
        tlb=lines,
        hit=hit,
        result=f"{address:#x} is {physical:#x} in RAM",
        changed=(*marks, *tlb_changes(start.tlb, lines, digits_of(mmu))),
    )


def digits_of(mmu: Mmu) -> int:
    """How many hexadecimal digits an address has."""
    return 16 if mmu.layout.virt_bits > 32 else 8


def tlb_changes(before: tuple[TlbLine, ...], after: tuple[TlbLine, ...], digits: int) -> tuple[str, ...]:
    """What the TLB learned and forgot."""
    gone = tuple(f"TLB forgets  {line.text(digits)}" for line in before if line not in after)
    new = tuple(f"TLB learns  {line.text(digits)}" for line in after if line not in before)
    return gone + new


def oops(mmu: Mmu, fault: PageFault, access: int) -> str:
    """What the kernel would print of a fault that nobody mends, if the access was its own."""
    if access & X86_PF_USER:
        return ""
    printk = Printk()
    levels = sum(not level.folded for level in mmu.layout.levels)
    show_fault_oops(printk, PageTables(mmu.ram, levels, mmu.cr3 & ~0xFFF), fault.error_code, fault.address)
    return "\n".join(printk.lines())
