"""Kernel structs are sealed: nothing in them changes behind the journal's back."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.mm.buddy import example_zone
from kmemlab.mm.zone import Zone
from kmemlab.sim.column import column
from kmemlab.sim.list_head import ListHead, init_list_head, list_add, list_add_tail, list_del, list_for_each
from kmemlab.sim.struct import Cell, Struct, U64Cell, structs_of
from kmemlab.types.errors import KmemlabError, SealedField

from .bare import Bench


class Example(Struct):
    count = Cell()
    limit = U64Cell()

    def __init__(self) -> None:
        self.name = "example"
        self.items = column("B", 4)


def test_cells_can_be_written_and_nothing_else() -> None:
    example = Example()
    example.count -= 5
    example.items[2] = 7
    assert (example.count, example.items[2]) == (-5, 7)
    for field in ("name", "items", "cells"):
        with pytest.raises(SealedField, match=f"Example.{field}"):
            setattr(example, field, None)


@given(st.integers(0, 2**64 - 1))
def test_addresses_up_to_the_top_bit(value: int) -> None:
    example = Example()
    example.limit = value
    assert example.limit == value


def test_a_column_has_one_owner() -> None:
    """An alias would go on writing unrecorded while its owner's attribute records."""
    owners: dict[int, str] = {}
    for struct in structs_of(example_zone()):
        for name, view in struct.columns():
            assert id(view) not in owners, f"{type(struct).__name__}.{name} is also {owners[id(view)]}"
            owners[id(view)] = f"{type(struct).__name__}.{name}"
    assert owners


def test_recording_swaps_every_column_and_puts_it_back() -> None:
    bench = Bench()
    during = {
        id(view) for struct in structs_of(bench.zone) for _, view in struct.columns() if isinstance(view, memoryview)
    }
    assert not during
    bench.close()
    assert all(isinstance(view, memoryview) for struct in structs_of(bench.zone) for _, view in struct.columns())


def test_a_deep_copy_goes_its_own_way() -> None:
    zone = example_zone()
    twin: Zone = copy.deepcopy(zone)
    twin.vm_stat[0] = 5
    twin.page.buddy[0] = 0
    assert zone.vm_stat[0] == 1024
    assert zone.page.buddy[0] == 11
    assert twin.page is not zone.page


@given(st.lists(st.tuples(st.sampled_from("atd"), st.integers(0, 9)), max_size=60))
def test_a_list_is_the_list_that_python_would_keep(steps: list[tuple[str, int]]) -> None:
    links, expected = ListHead(11), []
    init_list_head(links, 10)
    for step, node in steps:
        if step == "d" and node in expected:
            list_del(links, node)
            expected.remove(node)
        elif step != "d" and node not in expected:
            (list_add if step == "a" else list_add_tail)(links, node, 10)
            expected.insert(0 if step == "a" else len(expected), node)
    assert list(list_for_each(links, 10)) == expected


@pytest.mark.parametrize(("node", "to"), [(3, 3), (3, 7), (5, 5)])
def test_a_list_whose_links_do_not_close_is_found(node: int, to: int) -> None:
    links = ListHead(11)
    init_list_head(links, 10)
    for member in (3, 5, 7):
        list_add_tail(links, member, 10)
    links.next[node] = to
    with pytest.raises(KmemlabError, match="list 10 is broken at node"):
        list(list_for_each(links, 10))
