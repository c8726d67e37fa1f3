"""The MMU against a walk written out by hand for each mode, and a TLB that is wrong until it is told."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.boot.tlbflush import flush_tlb_kernel_range, native_flush_tlb_global, native_flush_tlb_local
from kmemlab.hardware.mmu import (
    CR0_WP,
    CR4_PCIDE,
    CR4_PSE,
    CR4_SMAP,
    CR4_SMEP,
    GeneralProtection,
    Mmu,
    PageFault,
    StaleEntry,
)
from kmemlab.hardware.ram import Ram

P, RW, US, PWT, PCD, A, D, PS, G = (1 << bit for bit in range(9))
NX = 1 << 63
WRITE, USER, FETCH = 2, 4, 16


@dataclass
class Cpu:
    """What decides a walk besides the tables."""

    wp: bool = True
    nxe: bool = True
    pse: bool = True
    smep: bool = False
    smap: bool = False
    gbpages: bool = True

    def set_up(self, mmu: Mmu) -> None:
        mmu.cr0 = CR0_WP if self.wp else 0
        mmu.efer = 1 << 11 if self.nxe else 0
        mmu.cr4 = (CR4_PSE * self.pse) | (CR4_SMEP * self.smep) | (CR4_SMAP * self.smap) | 1 << 7


@dataclass
class Step:
    """An entry on the way, and what the manual says of it here: its reserved bits, and the size if it is a page."""

    entry: int
    reserved: int
    page: int = 0
    rights: bool = True


def bits(high: int, low: int) -> int:
    return (1 << high + 1) - (1 << low)


def steps(read, levels: int, cr3: int, v: int, cpu: Cpu):  # type: ignore[no-untyped-def]
    """The entries that a walk meets, by the manual's figures, one mode after the other (40 physical bits)."""
    if levels == 2:
        pde = read((cr3 & ~0xFFF) + 4 * (v >> 22), 4)
        large = bool(pde & PS and cpu.pse)
        yield Step(pde, bits(21, 13) if large else 0, 1 << 22 if large else 0)
        yield Step(read((pde & ~0xFFF) + 4 * (v >> 12 & 1023), 4), 0, 4096)
        return
    nx = 0 if cpu.nxe else NX
    high = bits(51, 40) | nx
    address = bits(51, 12)
    if levels == 3:
        high |= bits(62, 52)
        pdpte = read((cr3 & 0xFFFFFFE0) + 8 * (v >> 30))
        yield Step(pdpte, high | NX | bits(2, 1) | bits(8, 5), rights=False)
    else:
        table = cr3 & address
        if levels == 5:
            pml5e = read(table + 8 * (v >> 48 & 511))
            yield Step(pml5e, high | PS)
            table = pml5e & address
        pml4e = read(table + 8 * (v >> 39 & 511))
        yield Step(pml4e, high | PS)
        pdpte = read((pml4e & address) + 8 * (v >> 30 & 511))
        huge = bool(pdpte & PS)
        yield Step(pdpte, high | ((bits(29, 13) if cpu.gbpages else PS) if huge else 0), (1 << 30) * huge)
    pde = read((pdpte & address) + 8 * (v >> 21 & 511))
    yield Step(pde, high | (bits(20, 13) if pde & PS else 0), (1 << 21) * bool(pde & PS))
    yield Step(read((pde & address) + 8 * (v >> 12 & 511)), high, 4096)


def reference(read, levels: int, cr3: int, v: int, access: int, cpu: Cpu) -> int | tuple[int]:  # type: ignore[no-untyped-def]
    """The physical address, or the error code in a tuple."""
    tell = access if cpu.nxe or cpu.smep else access & ~FETCH
    writable = user = True
    nx = False
    for step in steps(read, levels, cr3, v, cpu):
        if not step.entry & P:
            return (tell,)
        if step.entry & step.reserved:
            return (tell | 1 | 8,)
        if step.rights:
            writable, user = writable and bool(step.entry & RW), user and bool(step.entry & US)
            nx = nx or bool(step.entry & NX)
        if step.page:
            break
    by_user = bool(access & USER)
    bad = by_user and not user
    bad |= bool(access & WRITE) and not writable and (by_user or cpu.wp)
    bad |= bool(access & FETCH) and (nx or (user and not by_user and cpu.smep))
    bad |= not access & FETCH and user and not by_user and cpu.smap
    if bad:
        return (tell | 1,)
    frame = step.entry & bits(51 if levels > 2 else 31, 12) & -step.page
    return frame | v & step.page - 1


ADDRESSES = [0x0, 0x1234, 0x200FFF, 0x40000000, 0x7FC00ABC, 0xC0201000]
# Mostly entries that lead on, so that walks come to an end.
USABLE = [P | RW | US, P | RW, P | US, P | RW | US | A | D | G, P | RW | US | PS, P | RW | US | PS | 1 << 12]
FAULTY = [0, P | RW | US | NX, P | RW | US | 1 << 45, P | US | PS | 1 << 14, P | RW | US | 1 << 55, P]
FLAG_SETS = st.sampled_from([*USABLE, *USABLE, *USABLE[:4], *FAULTY])
CPUS = st.builds(Cpu, *(st.booleans() for _ in range(6)))


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([2, 3, 4, 5]),
    CPUS,
    st.lists(st.tuples(FLAG_SETS, st.integers(0, 15)), min_size=12, max_size=40),
    st.sampled_from(ADDRESSES),
    st.sampled_from([0, WRITE, USER, USER | WRITE, FETCH, USER | FETCH]),
)
def test_a_walk_is_what_the_manual_says(
    levels: int, cpu: Cpu, fill: list[tuple[int, int]], address: int, access: int
) -> None:
    ram = Ram(1 << 14)
    width = 4 if levels == 2 else 8
    # Every table is one of 16 frames, and the entries that some address meets hold something random.
    at = 0
    for pfn in range(16):
        indices = {v >> shift & 4096 // width - 1 for v in ADDRESSES for shift in (12, 21, 22, 30, 39, 48)}
        for index in sorted(indices):
            flags, frame = fill[at % len(fill)]
            at += 1
            if levels == 3 and pfn == 3 and flags in USABLE:
                flags = P  # the top of PAE has no permission bits
            ram.write(pfn * 4096 + width * index, (flags & (1 << 8 * width) - 1) | frame << 12, width)
    mmu = Mmu(ram, levels, gbpages=cpu.gbpages)
    mmu.write_cr3(0x3000)
    cpu.set_up(mmu)
    want = reference(ram.read, levels, 0x3000, address, access, cpu)
    try:
        got: int | tuple[int] = mmu.access(address, access)
    except PageFault as fault:
        got = (fault.error_code,)
    assert got == want
    assert isinstance(want, int) or mmu.cr2 == address
    if isinstance(want, int):  # what the TLB has kept says the same
        hits = mmu.tlb.hits
        assert mmu.access(address, access) == want
        assert mmu.tlb.hits == hits + 1


def four_levels() -> Mmu:
    """0x400000 user page at 5000, ffff888000000000 a global large page at 200000."""
    ram = Ram(1 << 16)
    top, pud, pmd, pte, kpud, kpmd = 0x1000, 0x2000, 0x3000, 0x4000, 0x6000, 0x7000
    ram.write(top, pud | P | RW | US)
    ram.write(pud, pmd | P | RW | US)
    ram.write(pmd + 8 * 2, pte | P | RW | US)
    ram.write(pte, 0x5000 | P | RW | US)
    ram.write(top + 8 * 273, kpud | P | RW)
    ram.write(kpud, kpmd | P | RW)
    ram.write(kpmd, 0x200000 | P | RW | PS | G)
    mmu = Mmu(ram, levels=4)
    mmu.write_cr3(top)
    return mmu


USER_PAGE, KERNEL_PAGE, PTE_AT, KPMD_AT = 0x400000, 0xFFFF888000000000, 0x4000, 0x7000


def test_a_translation_is_stale_until_it_is_flushed() -> None:
    mmu = four_levels()
    assert mmu.access(USER_PAGE + 8, USER) == 0x5008
    mmu.ram.write(PTE_AT, 0x9000 | P | RW | US)
    assert mmu.access(USER_PAGE + 8, USER) == 0x5008, "the TLB was not told"
    assert mmu.stale() == (StaleEntry(USER_PAGE, 0x5000, 0x9000),)
    assert mmu.walk(USER_PAGE + 8).address == 0x9008, "the tables in RAM say otherwise"
    mmu.invlpg(USER_PAGE)
    assert mmu.access(USER_PAGE + 8, USER) == 0x9008
    assert mmu.stale() == ()


def test_an_unmapped_page_can_be_used_until_it_is_flushed() -> None:
    mmu = four_levels()
    mmu.access(USER_PAGE, USER)
    mmu.ram.write(PTE_AT, 0)
    mmu.access(USER_PAGE, USER)
    assert mmu.stale() == (StaleEntry(USER_PAGE, 0x5000, None),)
    native_flush_tlb_local(mmu)
    with pytest.raises(PageFault, match="not-present page"):
        mmu.access(USER_PAGE, USER)


def test_a_cr3_write_keeps_global_pages_and_a_pge_toggle_does_not() -> None:
    mmu = four_levels()
    mmu.access(USER_PAGE, USER)
    mmu.access(KERNEL_PAGE)
    mmu.ram.write(PTE_AT, 0x9000 | P | RW | US)
    mmu.ram.write(KPMD_AT, 0x400000 | P | RW | PS | G)
    native_flush_tlb_local(mmu)
    assert (mmu.access(USER_PAGE, USER), mmu.access(KERNEL_PAGE)) == (0x9000, 0x200000)
    native_flush_tlb_global(mmu)
    assert mmu.access(KERNEL_PAGE) == 0x400000


@pytest.mark.parametrize(("pages", "kept"), [(33, True), (34, False)])
def test_a_long_range_is_flushed_as_a_whole(pages: int, kept: bool) -> None:
    mmu = four_levels()
    mmu.access(KERNEL_PAGE)
    mmu.access(USER_PAGE, USER)
    flush_tlb_kernel_range(mmu, KERNEL_PAGE + (1 << 30), KERNEL_PAGE + (1 << 30) + pages * 4096)
    assert bool(mmu.tlb.slots()) == kept


def test_more_rights_are_seen_at_the_second_try() -> None:
    mmu = four_levels()
    mmu.ram.write(PTE_AT, 0x5000 | P | US)
    mmu.access(USER_PAGE, USER)
    mmu.ram.write(PTE_AT, 0x5000 | P | US | RW)  # the kernel does not flush when it allows more
    with pytest.raises(PageFault, match="permissions violation"):
        mmu.access(USER_PAGE, USER | WRITE)
    assert mmu.access(USER_PAGE, USER | WRITE) == 0x5000


def test_fewer_rights_are_not_seen() -> None:
    mmu = four_levels()
    mmu.access(USER_PAGE, USER | WRITE)
    mmu.ram.write(PTE_AT, 0x5000 | P | US)
    assert mmu.access(USER_PAGE, USER | WRITE) == 0x5000
    assert mmu.stale() == (StaleEntry(USER_PAGE, 0x5000, 0x5000),)


def test_accessed_and_dirty_are_marked_as_the_cpu_goes() -> None:
    mmu = four_levels()
    mmu.access(USER_PAGE, USER)
    assert mmu.ram.read(PTE_AT) & (A | D) == A
    assert mmu.ram.read(0x1000) & A
    mmu.ram.write(PTE_AT, 0x5000 | P | RW | US)
    mmu.access(USER_PAGE, USER)
    assert mmu.ram.read(PTE_AT) & A == 0, "the TLB knew, so nobody looked at the table"
    mmu.access(USER_PAGE, USER | WRITE)
    assert mmu.ram.read(PTE_AT) & (A | D) == A | D


def test_pcids_keep_their_translations_apart() -> None:
    mmu = four_levels()
    mmu.write_cr4(mmu.cr4 | CR4_PCIDE)
    mmu.write_cr3(0x1000 | 1)
    mmu.access(USER_PAGE, USER)
    mmu.ram.write(PTE_AT, 0x9000 | P | RW | US)
    mmu.write_cr3(0x1000 | 2)
    assert mmu.access(USER_PAGE, USER) == 0x9000
    mmu.write_cr3(0x1000 | 1 | 1 << 63)
    assert mmu.access(USER_PAGE, USER) == 0x5000, "bit 63: keep what this PCID has"
    mmu.write_cr3(0x1000 | 1)
    assert mmu.access(USER_PAGE, USER) == 0x9000


def test_the_oldest_translation_goes_first() -> None:
    mmu = four_levels()
    for page in range(65):
        mmu.ram.write(PTE_AT + 8 * page, 0x5000 | P | US)
        mmu.access(USER_PAGE + 4096 * page, USER)
    first = mmu.tlb.misses
    mmu.access(USER_PAGE + 4096 * 64, USER)
    assert mmu.tlb.misses == first
    mmu.access(USER_PAGE, USER)
    assert mmu.tlb.misses == first + 1


def test_an_address_that_is_not_canonical_is_no_page_fault() -> None:
    with pytest.raises(GeneralProtection, match="not canonical"):
        four_levels().access(0x800000000000)
