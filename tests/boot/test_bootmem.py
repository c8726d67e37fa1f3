"""bootmem against a model that keeps one fact for each page frame, and against memblock."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.boot.bootmem import (
    MOST_PAGES,
    BootmemData,
    alloc_bootmem,
    alloc_bootmem_bdata,
    bootmem_bootmap_pages,
    free_all_bootmem,
    free_bootmem,
    init_bootmem,
    is_reserved,
    reserve_bootmem,
)
from kmemlab.boot.then_and_now import Request, now, then
from kmemlab.types.errors import BadRequest, DoubleFree, KernelPanic, TooLarge
from kmemlab.views.then_and_now import then_and_now_text

PAGE = 4096
PAGES = 200


def fresh(pages: int = PAGES, start: int = 0, free: bool = True) -> BootmemData:
    bdata = BootmemData(pages)
    init_bootmem(bdata, start, start)
    if free:
        free_bootmem(bdata, start * PAGE, pages * PAGE)
    return bdata


def taken(bdata: BootmemData) -> set[int]:
    """The page frames that are taken."""
    return {bdata.node_min_pfn + idx for idx in range(bdata.pages) if is_reserved(bdata, idx)}


def test_all_is_reserved_until_memory_is_registered() -> None:
    bdata = fresh(free=False)
    assert taken(bdata) == set(range(PAGES))
    assert alloc_bootmem_bdata(bdata, 1, 1) is None
    assert init_bootmem(bdata, 0, 0) == 32  # 25 bytes of bits, in whole longs


def test_a_gib_needs_eight_pages_of_bits() -> None:
    assert bootmem_bootmap_pages(1 << 18) == 8


def test_reserving_rounds_outwards_and_freeing_inwards() -> None:
    bdata = fresh()
    reserve_bootmem(bdata, 2 * PAGE + 5, 2 * PAGE)
    assert taken(bdata) == {2, 3, 4}
    free_bootmem(bdata, 2 * PAGE + 5, 3 * PAGE - 5)
    assert taken(bdata) == {2}
    free_bootmem(bdata, 2 * PAGE + 1, 10)
    assert taken(bdata) == {2}


def test_small_requests_share_a_page_only_with_the_one_before() -> None:
    bdata = fresh()
    assert [alloc_bootmem(bdata, 100), alloc_bootmem(bdata, 100)] == [0, 128]
    assert alloc_bootmem(bdata, PAGE, PAGE) == PAGE
    assert alloc_bootmem(bdata, 64) == 2 * PAGE  # the rest of page 0 is lost, page 1 has none
    assert taken(bdata) == {0, 1, 2}


def test_a_request_may_begin_in_the_page_before_and_end_in_the_next() -> None:
    bdata = fresh()
    alloc_bootmem(bdata, 100)
    assert alloc_bootmem(bdata, PAGE) == 128
    assert taken(bdata) == {0, 1}


def test_a_goal_is_a_wish_and_a_limit_is_none() -> None:
    bdata = fresh()
    assert alloc_bootmem(bdata, PAGE, PAGE, goal=50 * PAGE) == 50 * PAGE
    reserve_bootmem(bdata, 51 * PAGE, (PAGES - 51) * PAGE)
    assert alloc_bootmem(bdata, 2 * PAGE, PAGE, goal=50 * PAGE) == 0
    assert alloc_bootmem_bdata(bdata, 2 * PAGE, PAGE, limit=3 * PAGE) is None


def test_addresses_are_aligned_on_a_node_that_starts_anywhere() -> None:
    bdata = fresh(start=1001)
    assert alloc_bootmem(bdata, PAGE, 16 * PAGE) == 1008 * PAGE


def test_memory_ends_with_a_panic() -> None:
    with pytest.raises(KernelPanic, match="Out of memory"):
        alloc_bootmem(fresh(), (PAGES + 1) * PAGE)


def test_bad_requests() -> None:
    bdata = fresh()
    for size, align in ((0, 64), (-1, 64), (64, 3), (64, 0)):
        with pytest.raises(BadRequest):
            alloc_bootmem(bdata, size, align)
    with pytest.raises(DoubleFree, match="free already"):
        free_bootmem(bdata, 0, PAGE)
    with pytest.raises(BadRequest, match="not all on this node"):
        reserve_bootmem(bdata, PAGES * PAGE, 1)
    for pages in (0, MOST_PAGES + 1):
        with pytest.raises(TooLarge):
            BootmemData(pages)


def test_all_is_handed_over_by_words_and_the_bitmap_too() -> None:
    bdata = fresh(256)
    reserve_bootmem(bdata, 70 * PAGE, PAGE)
    assert free_all_bootmem(bdata) == (63 + 1, 0, 0, 0, 0, 0, 3)
    assert len(taken(bdata)) == 256
    askew = fresh(256, start=32)  # no word of the bitmap begins on a multiple of 64 page frames
    assert free_all_bootmem(askew) == (256 + 1, 0, 0, 0, 0, 0, 0)


steps = st.lists(
    st.tuples(st.sampled_from(["alloc", "reserve", "free"]), st.integers(0, PAGES * PAGE - 1), st.integers(1, 9 * PAGE),
              st.sampled_from([1, 64, PAGE, 4 * PAGE])),
    max_size=25,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(steps, st.sampled_from([0, 7]))
def test_pages_are_taken_and_given_as_a_set_would(todo, start: int) -> None:
    bdata = fresh(start=start)
    model: set[int] = set()
    bytes_taken: list[tuple[int, int]] = []
    for what, where, size, align in todo:
        addr = start * PAGE + where
        size = min(size, (start + PAGES) * PAGE - addr)
        if what == "reserve":
            reserve_bootmem(bdata, addr, size)
            model |= set(range(addr // PAGE, (addr + size - 1) // PAGE + 1))
        elif what == "free":
            whole = set(range(-(-addr // PAGE), (addr + size) // PAGE))
            if whole <= model:
                free_bootmem(bdata, addr, size)
                model -= whole
                bytes_taken = [(a, b) for a, b in bytes_taken if not whole & set(range(a // PAGE, (b - 1) // PAGE + 1))]
            else:
                with pytest.raises(DoubleFree):
                    free_bootmem(bdata, addr, size)
        else:
            found = alloc_bootmem_bdata(bdata, size, align)
            pages = -(-size // PAGE)
            fits = [
                pfn
                for pfn in range(start, start + PAGES - pages + 1)
                if pfn * PAGE % align == 0 and not model & set(range(pfn, pfn + pages))
            ]
            assert (found is None) == (not fits)
            if found is not None:
                assert found % align == 0
                new = set(range(found // PAGE, (found + size - 1) // PAGE + 1))
                # It may share its first page with the request before, and no other page with anybody.
                assert new & model <= {found // PAGE} if found % PAGE else not new & model
                model |= new
                assert all(b <= found or found + size <= a for a, b in bytes_taken)
                bytes_taken.append((found, found + size))
        assert taken(bdata) == model
    assert sum(count << order for order, count in enumerate(free_all_bootmem(bdata))) == PAGES - len(model) + 1


MEMORY = ((0x1000, 0x9F000), (0x100000, 0x8000000))
RESERVED = ((0x1000000, 0x1400123),)
SIZES = ((100, 64), (200, 64), (PAGE, PAGE), (10, 64), (2 << 20, 2 << 20))
REQUESTS = (*(Request(size, align) for size, align in SIZES), Request(5000, 64, 32 << 20))


def test_the_same_requests_then_and_now() -> None:
    old, new = then(MEMORY, RESERVED, REQUESTS), now(MEMORY, RESERVED, REQUESTS)
    asked = sum(ask.size for ask in REQUESTS)
    assert new.taken_bytes == asked
    # Page 1 holds the bitmap. 100 and 200 share a page, 4096 has one, 10 needs one of its own, 5000 needs two.
    assert old.addresses == (0x2000, 0x2080, 0x3000, 0x4000, 0x200000, 0x2000000)
    assert old.taken_bytes == (1 + 1 + 1 + 512 + 2) * PAGE
    assert old.own_bytes == 32768 // 8
    assert all(start >= 32 << 20 for start in (old.addresses[-1], new.addresses[-1]))
    assert old.blocks[7:] == ()
    assert max(order for order, count in enumerate(new.blocks) if count) == 10


def test_then_grows_with_the_address_and_now_with_the_pieces() -> None:
    far = ((0x1000, 0x100000), (0xC0000000, 0xC0100000))
    assert (then(far, (), ()).own_bytes, now(far, (), ()).own_bytes) == (0xC0100 // 8, 3 * 24)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.builds(Request, st.integers(1, 20000), st.sampled_from([64, 128, PAGE])), max_size=12))
def test_memblock_never_takes_more_than_bootmem(requests: list[Request]) -> None:
    asked = tuple(requests)
    old, new = then(MEMORY, RESERVED, asked), now(MEMORY, RESERVED, asked)
    total = sum(ask.size for ask in asked)
    assert new.taken_bytes == total <= old.taken_bytes
    assert old.taken_bytes % PAGE == 0
    memory = sum(end - start for start, end in MEMORY) // PAGE
    reserved = 0x401  # page frames of RESERVED, parts of pages counted whole
    assert old.free_pages == memory - reserved - old.taken_bytes // PAGE
    assert new.free_pages >= memory - reserved - -(-total // PAGE) - 2 * len(asked)


def test_the_table_tells_both_sides() -> None:
    old, new = then(MEMORY, RESERVED, REQUESTS), now(MEMORY, RESERVED, REQUESTS)
    text = then_and_now_text(old, new, REQUESTS)
    for address in (*old.addresses, *new.addresses):
        assert f"{address:#x}" in text
    for number in (old.taken_bytes, new.taken_bytes, old.own_bytes, new.own_bytes, old.free_pages, new.free_pages):
        assert str(number) in text


def test_without_room_for_the_bitmap_there_is_no_boot() -> None:
    with pytest.raises(KernelPanic, match="Cannot find bootmem map"):
        then(((0, PAGE),), ((0, 1),), ())
    with pytest.raises(KernelPanic, match="no room"):
        now(((PAGE, 4 * PAGE),), (), (Request(5 * PAGE),))
