"""The e820 table against a model that asks, address by address, which entries cover it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.boot.e820 import (
    E820Table,
    e820__end_of_low_ram_pfn,
    e820__end_of_ram_pfn,
    e820__mapped_all,
    e820__mapped_any,
    e820__print_table,
    e820__range_add,
    e820__range_remove,
    e820__range_update,
    e820__update_table,
)

SPACE = 40
RAM, RESERVED, ACPI, NVS, PRAM, SOFT = 1, 2, 3, 4, 12, 0xEFFFFFFF

entries = st.lists(
    st.tuples(st.integers(0, SPACE), st.integers(0, 12), st.sampled_from([RAM, RESERVED, ACPI, NVS, 9, PRAM, SOFT])),
    max_size=8,
)


def cover(rows: list[tuple[int, int, int]]) -> list[int]:
    """The type of each address by brute force: the highest of those that cover it, 0 for none."""
    return [max((t for a, s, t in rows if a <= at < a + s), default=0) for at in range(SPACE + 12)]


@given(entries)
def test_sanitising_gives_each_address_the_highest_type(rows: list[tuple[int, int, int]]) -> None:
    table = E820Table.of(rows, 64)
    assert e820__update_table(table) == (-1 if len(rows) < 2 else 0)
    result = [tuple(entry) for entry in table.entries()]
    assert cover(result) == cover(rows)
    if len(rows) < 2:
        assert result == rows
        return
    assert result == sorted(result)
    for (addr, size, kind), (following, _, following_kind) in pairwise(result):
        assert size > 0
        assert addr + size <= following
        if addr + size == following and kind == following_kind:
            assert kind in (PRAM, SOFT)  # devices: never merged


@given(entries)
def test_sanitising_twice_changes_nothing(rows: list[tuple[int, int, int]]) -> None:
    table = E820Table.of(rows, 64)
    e820__update_table(table)
    once = table.entries()
    e820__update_table(table)
    assert table.entries() == once


@given(entries)
def test_the_order_of_the_entries_does_not_matter(rows: list[tuple[int, int, int]]) -> None:
    one, other = E820Table.of(rows, 64), E820Table.of(sorted(rows, reverse=True), 64)
    e820__update_table(one)
    e820__update_table(other)
    if len(rows) > 1:
        assert one.entries() == other.entries()


ordered = entries.map(lambda rows: sanitised(rows))


def sanitised(rows: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Entries without overlaps, made by the model alone."""
    types = cover(rows)
    return [(at, 1, kind) for at, kind in enumerate(types) if kind]


@given(ordered, st.integers(0, SPACE), st.integers(0, SPACE))
def test_update_retypes_exactly_the_range(rows: list[tuple[int, int, int]], start: int, size: int) -> None:
    table = E820Table.of(rows, 400)
    e820__update_table(table)
    before = cover([tuple(entry) for entry in table.entries()])
    changed = e820__range_update(table, start, size, RAM, RESERVED)
    after = cover([tuple(entry) for entry in table.entries()])
    model = [RESERVED if kind == RAM and start <= at < start + size else kind for at, kind in enumerate(before)]
    assert after == model
    assert changed == sum(a != b for a, b in zip(before, model, strict=True))


@given(ordered, st.integers(0, SPACE), st.integers(0, SPACE), st.booleans())
def test_remove_takes_exactly_the_range(rows: list[tuple[int, int, int]], start: int, size: int, check: bool) -> None:
    table = E820Table.of(rows, 400)
    e820__update_table(table)
    before = cover([tuple(entry) for entry in table.entries()])
    removed = e820__range_remove(table, start, size, RAM, check)
    after = cover([tuple(entry) for entry in table.entries()])
    gone = [start <= at < start + size and kind > 0 and (kind == RAM or not check) for at, kind in enumerate(before)]
    assert after == [0 if out else kind for kind, out in zip(before, gone, strict=True)]
    assert removed == sum(gone)


@given(ordered, st.integers(0, SPACE), st.integers(1, 8), st.sampled_from([0, RAM, RESERVED]))
def test_mapped_asks_every_address(rows: list[tuple[int, int, int]], start: int, size: int, kind: int) -> None:
    table = E820Table.of(rows, 400)
    e820__update_table(table)
    hits = [t == kind if kind else t > 0 for t in cover(rows)[start : start + size]]
    assert e820__mapped_any(table, start, start + size, kind) == any(hits)
    assert e820__mapped_all(table, start, start + size, kind) == all(hits)


def test_overlaps_of_three_types() -> None:
    """Worked by hand: usable up to 0x9fc00 below ACPI data from 0x90000 on; usable under reserved at the end."""
    table = E820Table.of(
        [
            (0, 0x9FC00, RAM),
            (0x9FC00, 0x400, RESERVED),
            (0xF0000, 0x10000, RESERVED),
            (0x100000, 0x7F00000, RAM),
            (0x7FE0000, 0x20000, RESERVED),
            (0x90000, 0x10000, ACPI),
        ]
    )
    assert e820__update_table(table) == 0
    assert [tuple(entry) for entry in table.entries()] == [
        (0, 0x90000, RAM),
        (0x90000, 0x10000, ACPI),
        (0xF0000, 0x10000, RESERVED),
        (0x100000, 0x7EE0000, RAM),
        (0x7FE0000, 0x20000, RESERVED),
    ]


@pytest.mark.parametrize(
    "rows", [[], [(0, 4096, RAM)], [(0, 4096, RAM), (2**64 - 4096, 8192, RAM)], [(0, 1, 1), (2**64 - 1, 1, 1)]]
)
def test_what_can_not_be_sanitised_stays_as_it_is(rows: list[tuple[int, int, int]]) -> None:
    table = E820Table.of(rows)
    assert e820__update_table(table) == -1
    assert [tuple(entry) for entry in table.entries()] == rows


def test_sanitising_stops_at_the_capacity() -> None:
    # One entry inside the other makes three of two.
    table = E820Table.of([(0, 30, RAM), (10, 10, RESERVED)], 2)
    assert e820__update_table(table) == 0
    assert [tuple(entry) for entry in table.entries()] == [(0, 10, RAM), (10, 10, RESERVED)]


def test_a_full_table_ignores_and_says_so() -> None:
    table = E820Table.of([(0, 1, RAM), (1, 1, RAM)], 2)
    e820__range_add(table, 0x1000, 0x1000, RAM)
    assert table.nr_entries == 2
    assert table.printk.lines() == ("too many entries; ignoring [mem 0x00001000-0x00001fff]",)


def test_the_ends_of_the_address_space() -> None:
    table = E820Table.of([(0, 0x1000, RAM), (2**64 - 0x1000, 0xFFF, RAM)])
    assert e820__range_remove(table, 0x40000000, 2**64 - 1 - 0x40000000, RAM, True) == 0xFFF
    e820__range_update(table, 2**64 - 0x1000, 2**64 - 1, RAM, RESERVED)
    assert table.printk.lines() == (
        "e820: remove [mem 0x40000000-0xfffffffffffffffe] usable",
        "e820: update [mem 0xfffffffffffff000-0xfffffffffffffffe] usable ==> reserved",
    )


def test_every_type_has_its_name() -> None:
    kinds = [1, 2, 3, 4, 5, 7, 12, 128, 0xEFFFFFFF, 6]
    table = E820Table.of([(at << 12, 4096, kind) for at, kind in enumerate(kinds)])
    e820__print_table(table, "BIOS-e820")
    names = [line.split("] ")[1] for line in table.printk.lines()]
    assert names == [
        "usable", "reserved", "ACPI data", "ACPI NVS", "unusable", "persistent (type 7)", "persistent (type 12)",
        "usable", "soft reserved", "type 6",
    ]  # fmt: skip
    assert table.printk.lines()[1] == "BIOS-e820: [mem 0x0000000000001000-0x0000000000001fff] reserved"


def test_last_pfn() -> None:
    gib = 1 << 30
    table = E820Table.of([(0, 0x9FC00, RAM), (1 << 20, 3 * gib, RAM), (4 * gib, gib, RAM), (1 << 46, gib, RAM)])
    assert e820__end_of_ram_pfn(table, 1 << 34) == 5 * gib >> 12  # what lies behind MAX_ARCH_PFN is not seen
    assert e820__end_of_low_ram_pfn(table, 1 << 34) == (3 * gib + (1 << 20)) >> 12
    across = E820Table.of([(0, 0x1000, RAM), (3 * gib, 2 * gib, RAM)])
    assert e820__end_of_low_ram_pfn(across, 1 << 34) == 1 << 20
    assert across.printk.lines() == ("last_pfn = 0x100000 max_arch_pfn = 0x400000000",)
