"""The flags of a page: one bit each, none touches another."""

from kmemlab.mm.mem_map import MemMap
from kmemlab.mm.page_state import (
    clear_page_flag,
    page_has_flag,
    page_ref_dec_and_test,
    page_ref_inc,
    set_page_flag,
    set_page_flag_first,
    take_page_flag,
)
from kmemlab.types.pageflags import PAGEFLAGS, PG_active, PG_dirty, PG_locked, PG_lru


def test_each_flag_is_a_bit_of_its_own() -> None:
    page = MemMap(8)
    for flag in range(len(PAGEFLAGS)):
        set_page_flag(page, 3, flag)
        assert page.flags[3] == (1 << flag + 1) - 1
    clear_page_flag(page, 3, PG_dirty)
    assert [page_has_flag(page, 3, flag) for flag in (PG_locked, PG_dirty, PG_lru)] == [True, False, True]
    assert page.flags[2] == page.flags[4] == 0


def test_test_and_set_tells_what_was() -> None:
    page = MemMap(8)
    assert [set_page_flag_first(page, 1, PG_active), set_page_flag_first(page, 1, PG_active)] == [True, False]
    assert [take_page_flag(page, 1, PG_active), take_page_flag(page, 1, PG_active)] == [True, False]


def test_the_last_reference() -> None:
    page = MemMap(8)
    page_ref_inc(page, 5)
    page_ref_inc(page, 5)
    assert [page_ref_dec_and_test(page, 5), page_ref_dec_and_test(page, 5)] == [False, True]
