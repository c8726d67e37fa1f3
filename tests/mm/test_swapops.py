"""Swap entries: bit by bit, for each kind of page tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.mm.swapops import (
    MAX_SWAPFILES,
    SWP_MIGRATION_READ,
    is_swap_pte,
    max_swapfile_pages,
    non_swap_entry,
    pte_swp_clear_exclusive,
    pte_swp_exclusive,
    pte_swp_mkexclusive,
    pte_to_swp_entry,
    swp_entry,
    swp_entry_to_pte,
    swp_offset,
    swp_type,
)
from kmemlab.types.pgtable import LAYOUTS

LEVELS = (2, 3, 4, 5)
types = st.integers(0, 31)


def bits(word: int, low: int, high: int) -> int:
    """Bits `low` to `high`, both included."""
    return word >> low & (1 << high - low + 1) - 1


@given(type=types, offset=st.integers(0, (1 << 50) - 1), levels=st.sampled_from((3, 4, 5)))
def test_eight_byte_entries(type: int, offset: int, levels: int) -> None:
    pte = swp_entry_to_pte(LAYOUTS[levels], swp_entry(type, offset))
    assert bits(pte, 59, 63) == type
    assert bits(pte, 9, 58) ^ (1 << 50) - 1 == offset  # inverted: a CPU that guesses ahead finds no memory there
    assert bits(pte, 0, 8) == 0
    assert 0 <= pte < 1 << 64


@given(type=types, offset=st.integers(0, (1 << 23) - 1))
def test_four_byte_entries(type: int, offset: int) -> None:
    pte = swp_entry_to_pte(LAYOUTS[2], swp_entry(type, offset))
    assert (bits(pte, 1, 5), bits(pte, 9, 31)) == (type, offset)
    assert (bits(pte, 0, 0), bits(pte, 6, 8)) == (0, 0)
    assert 0 <= pte < 1 << 32


@pytest.mark.parametrize("levels", LEVELS)
@given(type=types, offset=st.integers(1, (1 << 23) - 1))
def test_there_and_back(levels: int, type: int, offset: int) -> None:
    layout, entry = LAYOUTS[levels], swp_entry(type, offset)
    pte = swp_entry_to_pte(layout, entry)
    assert pte_to_swp_entry(layout, pte) == entry
    assert (swp_type(entry), swp_offset(entry)) == (type, offset)
    assert is_swap_pte(pte)
    assert pte_to_swp_entry(layout, pte_swp_mkexclusive(layout, pte)) == entry
    assert is_swap_pte(pte_swp_mkexclusive(layout, pte))


@pytest.mark.parametrize("levels", LEVELS)
def test_only_64_bit_kernels_remember_whose_a_page_was(levels: int) -> None:
    layout = LAYOUTS[levels]
    pte = swp_entry_to_pte(layout, swp_entry(0, 7))
    marked = pte_swp_mkexclusive(layout, pte)
    assert (marked - pte, pte_swp_exclusive(layout, marked)) == ((8, True) if levels > 3 else (0, False))
    assert pte_swp_clear_exclusive(layout, marked) == pte


def test_a_page_is_no_swap_entry_and_nor_is_an_empty_one() -> None:
    assert not is_swap_pte(0)
    assert not is_swap_pte(0x1234067)
    assert not is_swap_pte(0x1234100)  # a page that nobody may touch: PROT_NONE


def test_as_many_areas_as_debian_has() -> None:
    assert MAX_SWAPFILES == 22
    assert SWP_MIGRATION_READ == 23
    assert not non_swap_entry(swp_entry(21, 5))
    assert non_swap_entry(swp_entry(22, 5))


def test_the_largest_areas() -> None:
    gib = [max_swapfile_pages(LAYOUTS[levels]) >> 18 for levels in LEVELS]
    assert gib == [32, 256, 1 << 32, 1 << 32]
