"""Tables are made, found and read alike in all four modes; a dictionary of pages is the judge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.boot.pgtable import (
    PageTables,
    get_entry,
    lookup_address,
    p4d_alloc,
    pgd_offset,
    pmd_alloc,
    pte_alloc_kernel,
    pud_alloc,
    set_entry,
)
from kmemlab.hardware.ram import Ram
from kmemlab.types.pgtable import LAYOUTS, PAGE_KERNEL_EXEC, PAGE_KERNEL_LARGE_EXEC, PMD, PTE

MODES = st.sampled_from([2, 3, 4, 5])
# What the table of section 4.1 of Intel's manual, volume 3A, says: bits of the index at each level that is there.
INDEX_BITS = {
    2: ((31, 22), None, None, None, (21, 12)),
    3: ((31, 30), None, None, (29, 21), (20, 12)),
    4: ((47, 39), None, (38, 30), (29, 21), (20, 12)),
    5: ((56, 48), (47, 39), (38, 30), (29, 21), (20, 12)),
}


def build(levels: int) -> tuple[PageTables, Iterator[int]]:
    return PageTables(Ram(1 << 14), levels, pgd=0x1000), iter(range(2, 1 << 14))


def pmd_of(tables: PageTables, free: Iterator[int], address: int) -> int:
    def alloc() -> int:
        return next(free)

    pgdp = pgd_offset(tables, address)
    return pmd_alloc(tables, pud_alloc(tables, p4d_alloc(tables, pgdp, address, alloc), address, alloc), address, alloc)


def map_page(tables: PageTables, free: Iterator[int], address: int, pfn: int, large: bool = False) -> None:
    pmdp = pmd_of(tables, free, address)
    if large:
        set_entry(tables, pmdp, pfn << 12 | PAGE_KERNEL_LARGE_EXEC)
        return
    ptep = pte_alloc_kernel(tables, pmdp, address, lambda: next(free))
    set_entry(tables, ptep, pfn << 12 | PAGE_KERNEL_EXEC)


@given(MODES, st.integers(0, 2**64 - 1))
def test_an_index_is_the_bits_that_the_manual_names(levels: int, address: int) -> None:
    bits = f"{address:064b}"
    for index, place in zip(LAYOUTS[levels].indices(address), INDEX_BITS[levels], strict=True):
        assert index == (0 if place is None else int(bits[63 - place[0] : 64 - place[1]], 2))


@given(MODES, st.lists(st.tuples(st.integers(0, 2**20 - 1), st.integers(0, 2**20 - 1)), max_size=30))
def test_what_was_mapped_is_found_and_nothing_else(levels: int, pages: list[tuple[int, int]]) -> None:
    tables, free = build(levels)
    mapped = {}
    for page, pfn in pages:
        map_page(tables, free, page << 12, pfn)
        mapped[page] = pfn
    for page in {page + near for page, _ in pages for near in (-1, 0, 1, 512, 1024)} | {0}:
        found = lookup_address(tables, page << 12) if 0 <= page < 1 << 20 else None
        entry = get_entry(tables, found[0]) if found else 0
        assert found is None or found[1] == PTE
        assert (entry >> 12 if entry else None) == mapped.get(page)


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_a_large_page_hangs_on_the_pmd(levels: int) -> None:
    tables, free = build(levels)
    map_page(tables, free, 0x40800000, 0x800, large=True)
    entryp, level = lookup_address(tables, 0x40812345) or (0, 0)
    assert level == PMD
    assert get_entry(tables, entryp) >> 12 == 0x800
    assert lookup_address(tables, 0x40800000 + LAYOUTS[levels].levels[PMD].size) is None


@pytest.mark.parametrize(("levels", "new"), [(2, 1), (3, 2), (4, 3), (5, 4)])
def test_one_small_page_takes_one_table_a_level_below_the_top(levels: int, new: int) -> None:
    tables, free = build(levels)
    map_page(tables, free, 0x40000000, 5)
    assert next(free) == 2 + new
    if levels == 3:  # the top entries of PAE have no permission bits
        assert get_entry(tables, pgd_offset(tables, 0x40000000)) & 0xFFF == 1
