"""The resource tree, against nesting by hand and the laws that any tree of ranges obeys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.boot.e820_resources import e820__setup_pci_gap
from kmemlab.boot.globals import Boot
from kmemlab.boot.resource import (
    ROOT,
    ResourceTree,
    children,
    insert_resource,
    insert_resource_expand_to_fit,
    iomem_lines,
    new_resource,
    request_resource,
    reserve_region_with_split,
)
from kmemlab.hardware.spec import load_spec
from tests.boot.captures import MACHINES, NAMES, expected, resources


def test_a_resource_takes_in_what_it_holds() -> None:
    tree = ResourceTree(16)
    for start, end, name in [
        (0x1000000, 0x1FFFFFF, "Kernel code"),
        (0x2000000, 0x28FFFFF, "Kernel rodata"),
        (0x100000, 0x7FFFFFF, "System RAM"),
        (0, 0xFFF, "Reserved"),
        (0x1100000, 0x11FFFFF, "Crash kernel"),
        (0x100000000, 0x17FFFFFFF, "System RAM"),
    ]:
        assert insert_resource(tree, new_resource(tree, start, end, name)) is None
    assert list(iomem_lines(tree)) == [
        "00000000-00000fff : Reserved",
        "00100000-07ffffff : System RAM",
        "  01000000-01ffffff : Kernel code",
        "    01100000-011fffff : Crash kernel",
        "  02000000-028fffff : Kernel rodata",
        "100000000-17fffffff : System RAM",
    ]


def test_of_equal_ranges_the_newer_is_the_outer() -> None:
    tree = ResourceTree(4)
    insert_resource(tree, new_resource(tree, 0, 9, "Reserved"))
    insert_resource(tree, new_resource(tree, 0, 9, "System RAM"))
    assert list(iomem_lines(tree)) == ["00000000-00000009 : System RAM", "  00000000-00000009 : Reserved"]


def test_who_cuts_through_another_is_refused_or_grows() -> None:
    tree = ResourceTree(8)
    inner = new_resource(tree, 5, 15, "System RAM")
    assert insert_resource(tree, inner) is None
    assert insert_resource(tree, new_resource(tree, 10, 20, "Reserved")) == inner
    insert_resource_expand_to_fit(tree, new_resource(tree, 10, 20, "Reserved"))
    assert list(iomem_lines(tree)) == ["00000005-00000014 : Reserved", "  00000005-0000000f : System RAM"]


def test_a_request_among_siblings_names_the_one_in_the_way() -> None:
    tree = ResourceTree(8)
    first = new_resource(tree, 0, 9, "Reserved")
    assert request_resource(tree, ROOT, first) is None
    assert request_resource(tree, ROOT, new_resource(tree, 9, 12, "Reserved")) == first
    assert request_resource(tree, first, new_resource(tree, 5, 12, "Reserved")) == first
    assert request_resource(tree, ROOT, new_resource(tree, 12, 10, "Reserved")) == ROOT


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_children_are_sorted_apart_and_inside(ranges: list[tuple[int, int]]) -> None:
    tree = ResourceTree(20)
    placed = set()
    for start, length in ranges:
        number = new_resource(tree, start, start + length, "Reserved")
        if insert_resource(tree, number) is None:
            placed.add(number)
    seen = set()
    todo = [ROOT]
    while todo:
        parent = todo.pop()
        end = -1
        for child in children(tree, parent):
            assert tree.parent[child] == parent
            assert end < tree.start[child] <= tree.end[child] <= tree.end[parent]
            assert tree.start[parent] <= tree.start[child]
            end = tree.end[child]
            seen.add(child)
            todo.append(child)
    assert seen == placed


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=6), st.integers(0, 60), st.integers(0, 30))
def test_a_split_reservation_fills_exactly_what_is_free(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    tree = ResourceTree(40)
    taken: set[int] = set()
    for first, size in ranges:
        if insert_resource(tree, new_resource(tree, first, first + size, "Reserved")) is None:
            taken.update(range(first, first + size + 1))
    before = tree.count
    reserve_region_with_split(tree, start, start + length, "RAM buffer")
    new = range(max(before, 1), tree.count)
    filled = [cell for at in new for cell in range(tree.start[at], tree.end[at] + 1)]
    assert sorted(filled) == sorted(set(range(start, start + length + 1)) - taken)


@pytest.mark.parametrize("name", NAMES)
def test_iomem_of_real_machines(name: str) -> None:
    """Rows that memory set-up makes, but RAM buffers: windows of buses, which aren't modelled, may forbid those."""
    boot = resources(MACHINES / name)
    plugged_in_later = {f"{dimm[0]:08x}-{dimm[1]:08x} : System RAM" for dimm in boot.spec.dimms}
    rows = [line.strip() for line in iomem_lines(boot.iomem_resource) if "RAM buffer" not in line]
    assert sorted(rows) == sorted(set(expected(name)["iomem"]) - plugged_in_later)


def gap(*ranges: tuple[int, int]) -> str:
    """Where PCI devices may go, with these reserved ranges."""
    boot = Boot(load_spec({"e820": []}))
    boot.max_pfn = 0x100
    boot.e820_table.write((start, end - start, 2) for start, end in ranges)
    e820__setup_pci_gap(boot)
    return boot.printk.lines()[-1]


def test_the_lowest_of_the_largest_gaps() -> None:
    mib = 1 << 20
    assert gap((0, 64 * mib)).startswith("[mem 0x04000000-0xffffffff]")
    halves = (0, 16 * mib), (1 << 31, (1 << 31) + 16 * mib)  # two gaps of 2032 MiB
    assert gap(*halves) == "[mem 0x01000000-0x7fffffff] available for PCI devices"
    assert gap((0, 100), (1 << 31, (1 << 31) + 100)) == "[mem 0x00000064-0x7fffffff] available for PCI devices"
    assert gap((0, 1 << 32)) == "[mem 0x00200000-0x005fffff] available for PCI devices"
