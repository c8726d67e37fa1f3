"""ioremap: offsets, large pages, memory types, and what is refused."""

from __future__ import annotations

from functools import cache

import pytest

from kmemlab.alloc.ioremap import effective_type_at
from kmemlab.alloc.memtype import cachemode2protval
from kmemlab.boot.pat import UC, UC_MINUS, WB, WC, WP, WT
from kmemlab.machine.machine import Machine
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.pgtable import PAGE_PAT, PAGE_PCD, PAGE_PWT, PMD, PTE, PUD
from tests.boot.captures import MACHINES

PAGE, MIB, GIB = 4096, 1 << 20, 1 << 30


@cache
def booted(name: str) -> Machine:
    return Machine.boot(MACHINES / name if (MACHINES / name).exists() else name)


def machine(name: str = "amd64-1g") -> Machine:
    return booted(name).fork()


def test_the_offset_in_the_page_stays_and_pages_are_whole() -> None:
    box = machine()
    one = box.ioremap(0xFED00400, 16, caller="hpet_enable")
    two = box.ioremap(0xFEBFFFF8, 16)
    assert (one % PAGE, two % PAGE) == (0x400, 0xFF8)
    # The second touches two pages, so it is aligned to two.
    assert two & -PAGE == (one & -PAGE) + 2 * PAGE
    lines = [line.split(maxsplit=1)[1] for line in box.vmallocinfo().splitlines()]
    assert lines == [
        "8192 hpet_enable phys=0x00000000fed00000 ioremap",
        "12288 student phys=0x00000000febff000 ioremap",
    ]
    assert box.load(one) == 2**64 - 1  # nobody answers: the model has no such device
    box.check()


def test_physical_addresses_are_as_wide_as_page_table_entries() -> None:
    box = machine("i386-1g")
    box.ioremap(0xFED00000, PAGE)
    assert "phys=0xfed00000 ioremap" in box.vmallocinfo()
    assert box.vmallocinfo().startswith("0x(ptrval)-0x(ptrval)    8192 ")


@pytest.mark.parametrize("size", [PAGE, 100])
def test_ram_is_refused_by_whole_pages(size: int) -> None:
    box = machine()
    if size < PAGE:
        # As in 6.1: no whole page of RAM lies in the range, so the test doesn't see it.
        assert box.ioremap(0x10000000, size)
        return
    with pytest.raises(BadRequest, match="ioremap on RAM at 0x0000000010000000 - 0x0000000010000fff"):
        box.ioremap(0x10000000, size)
    assert box.dmesg().splitlines()[-1] == "ioremap on RAM at 0x0000000010000000 - 0x0000000010000fff"
    assert box.vmallocinfo() == ""


def test_what_boot_kept_back_may_be_mapped() -> None:
    box = machine()
    assert box.ioremap(0x1000000, PAGE)  # the kernel's image


@pytest.mark.parametrize(("phys", "size"), [(1 << 52, PAGE), (0xFED00000, 0), ((1 << 40) - PAGE, 2 * PAGE)])
def test_addresses_that_there_are_not_are_refused(phys: int, size: int) -> None:
    box = machine()
    assert box.spec.cpus.phys_bits == 40
    with pytest.raises(BadRequest, match="invalid physical address"):
        box.ioremap(phys, size)


def test_kinds_that_there_are_not_are_refused() -> None:
    with pytest.raises(BadRequest, match="choose one of ioremap, ioremap_uc"):
        machine().ioremap(0xFED00000, PAGE, "ioremap_wp")


def test_bits_of_the_entry_by_the_types_of_the_pat() -> None:
    boot = machine().kernel.boot
    bits = {mode: cachemode2protval(boot, mode) for mode in (WB, WC, UC_MINUS, UC, WP, WT)}
    assert bits == {
        WB: 0,
        WC: PAGE_PWT,
        UC_MINUS: PAGE_PCD,
        UC: PAGE_PCD | PAGE_PWT,
        WP: PAGE_PAT | PAGE_PWT,
        WT: PAGE_PAT | PAGE_PCD | PAGE_PWT,
    }


def test_what_the_cpu_makes_of_mtrr_and_pat() -> None:
    box = machine()
    mm = box.kernel.mm
    types = {}
    for nth, kind in enumerate(("ioremap", "ioremap_uc", "ioremap_wc", "ioremap_wt")):
        types[kind] = effective_type_at(mm, box.ioremap(0xE0000000 + nth * MIB, PAGE, kind))
    # The MTRRs say uncached there; only WC overrides them.
    assert types == {"ioremap": UC, "ioremap_uc": UC, "ioremap_wc": WC, "ioremap_wt": UC}
    assert effective_type_at(mm, box.vmalloc(PAGE)) == WB


def test_write_back_is_noted_only_where_the_mtrrs_allow_it() -> None:
    box = machine()
    box.ioremap(0xE0000000, PAGE, "ioremap_cache")
    assert (box.kernel.mm.memtypes.count, box.kernel.mm.memtypes.type[0]) == (1, UC_MINUS)


def test_the_first_type_of_a_range_decides() -> None:
    box = machine()
    memtypes = box.kernel.mm.memtypes
    first = box.ioremap(0xE0000000, 4 * PAGE, "ioremap_wc")
    second = box.ioremap(0xE0001000, PAGE)
    assert [memtypes.type[nth] for nth in range(memtypes.count)] == [WC, WC]
    box.iounmap(first)
    box.iounmap(second)
    assert memtypes.count == 0
    box.ioremap(0xE0000000, PAGE, "ioremap_wc")
    box.ioremap(0xE0001000, PAGE, "ioremap_uc")
    with pytest.raises(BadRequest, match="conflicting memory types e0000000-e0002000"):
        box.ioremap(0xE0000000, 2 * PAGE)
    assert box.dmesg().splitlines()[-1] == (
        "x86/PAT: swapper/0:0 conflicting memory types e0000000-e0002000 uncached<->write-combining"
    )


def test_who_wants_no_cache_gets_none() -> None:
    box = machine("laptop-8g")
    hole = next(
        (at for at in range(0, 4 * GIB, MIB) if box.kernel.boot.mtrr.msr.type_of(at) == WB and is_hole(box, at)), None
    )
    if hole is None:
        pytest.skip("no write-back hole")
    box.ioremap(hole, PAGE, "ioremap_cache")
    with pytest.raises(BadRequest, match="requested 0x2, got 0x0"):
        box.ioremap(hole, PAGE)


def is_hole(box: Machine, at: int) -> bool:
    from kmemlab.alloc.ioremap import ioremap_check_ram

    return at >= MIB and not ioremap_check_ram(box.kernel.mm, at, at + PAGE)


def test_large_pages_where_the_mtrrs_are_uniform() -> None:
    box = machine("amd64-gbpages-8g")
    mmu = box.kernel.boot.mmu
    # One MTRR makes [2 GiB, 4 GiB) or so uncached, over a default of write-back: alike for all of these.
    addresses = [box.ioremap(0xC0000000, size) for size in (MIB, 4 * MIB, GIB)]
    assert [mmu.walk(address).level for address in addresses] == [PTE, PMD, PUD]
    assert addresses[2] % GIB == 0
    assert box.vmalloc_to_pfn(addresses[2] + 7 * PAGE) == 0xC0007000 >> 12
    for address in addresses:
        box.iounmap(address)
    assert all(box.vmalloc_to_pfn(address) is None for address in addresses)
    box.check()


def test_a_large_page_takes_the_place_of_an_empty_table() -> None:
    box = machine("amd64-gbpages-8g")
    owned = sum(zone.nr_owned for zone in box.zones)
    held = [box.vmalloc(PAGE) for _ in range(300)]
    with_tables = sum(zone.nr_owned for zone in box.zones) - 300 - owned
    for address in held:
        box.vfree(address)
    box.vm_unmap_aliases()
    assert with_tables == 3  # one of level pmd, two of level pte: 600 pages of addresses, guards included
    address = box.ioremap(0xC0000000, 4 * MIB)
    assert box.kernel.boot.mmu.walk(address).level == PMD
    # The tables under both large pages went back to the page allocator.
    assert sum(zone.nr_owned for zone in box.zones) - owned == with_tables - (2 if address == held[0] else 1)
    box.check()


def test_two_ranges_of_mtrrs_forbid_a_large_page() -> None:
    box = machine("laptop-8g")
    for _ in range(2):
        assert box.kernel.boot.mmu.walk(box.ioremap(0xE0000000, 2 * MIB)).level == PTE
    warnings = [line for line in box.dmesg().splitlines() if "MTRR override" in line]
    assert warnings == [
        "pmd_set_huge: Cannot satisfy [mem 0xe0000000-0xe0200000] with a huge-page mapping due to MTRR override."
    ]


def test_iounmap_takes_what_ioremap_gave() -> None:
    box = machine()
    address = box.ioremap(0xFED00404, 16)
    other = box.vmalloc(PAGE)
    for wrong in (other, address + 64 * PAGE):
        with pytest.raises(BadRequest, match="iounmap: bad address"):
            box.iounmap(wrong)
    box.iounmap(address)
    with pytest.raises(BadRequest, match="iounmap: bad address"):
        box.iounmap(address)
    box.check()


def test_no_addresses_are_left_on_i386() -> None:
    box = machine("i386-pae-1g")
    with pytest.raises(OutOfMemory, match="no addresses for 134217728 bytes"):
        box.ioremap(0xE0000000, 128 * MIB)
    assert box.kernel.mm.memtypes.count == 0
    box.check()


def test_a_kernel_without_the_pat_keeps_no_types() -> None:
    box = Machine.boot({"e820": [[0, 0x9FBFF, "usable"], [0x100000, 0x7FFFFFF, "usable"]]})
    address = box.ioremap(0xE0000000, PAGE, "ioremap_wc")
    assert box.kernel.mm.memtypes.count == 0
    assert box.kernel.boot.mmu.walk(address).entry & (PAGE_PCD | PAGE_PWT) == PAGE_PCD
