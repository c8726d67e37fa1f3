"""The picture of the memory models, and its text, tell what the models found."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.four_models import ModelCost, compare_models, model_machine
from kmemlab.mm.memory_model import ModelMachine
from kmemlab.types.config import AMD64, I386_PAE
from kmemlab.types.units import PAGE_SHIFT, size_text
from kmemlab.views.figure import Figure
from kmemlab.views.memory_models import axis_of, memory_models_figure

GIB = 1 << 18
MACHINES = {
    "holes": ModelMachine(((1, 159, 0), (256, GIB, 0), (7 * GIB, 8 * GIB, 1), (9 * GIB, 10 * GIB, 1)), AMD64),
    "amid": ModelMachine(((0, GIB, 0), (GIB, 2 * GIB, 1), (2 * GIB, 3 * GIB, 0)), AMD64),
    "pae": ModelMachine(((1, 159, 0), (256, 786400, 0), (1 << 20, 2359296, 0)), I386_PAE, max_low_pfn=225278),
    "lonely": ModelMachine(((0, 1 << 15, 0), (1 << 28, (1 << 28) + (1 << 15), 0)), AMD64),
    "nodes": ModelMachine(tuple((nid * GIB, (nid + 1) * GIB, nid) for nid in range(6)), AMD64),
}


def figure_of(machine: ModelMachine) -> tuple[Figure, tuple[ModelCost, ...]]:
    costs = compare_models(machine)
    return memory_models_figure(machine, costs), costs


def drawn(svg: str) -> list[tuple[float, float, str]]:
    """Every text of the picture: x, y, words."""
    found = [node for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")]
    return [(float(node.get("x", 0)), float(node.get("y", 0)), "".join(node.itertext())) for node in found]


def rows_of(svg: str, costs: tuple[ModelCost, ...]) -> list[list[str]]:
    """What is written beside and under each model's name, row by row."""
    texts = drawn(svg)
    tops = [next(y for _, y, words in texts if words == cost.kind.title) for cost in costs]
    ends = [*tops[1:], tops[-1] + 88]
    return [[words for _, y, words in texts if top - 6 <= y < end - 6] for top, end in zip(tops, ends, strict=True)]


@pytest.mark.parametrize("name", MACHINES)
def test_text_and_picture_carry_the_same_facts(name: str) -> None:
    machine = MACHINES[name]
    figure, costs = figure_of(machine)
    told = figure.text().split("\n\n")[1:]
    for cost, row, block in zip(costs, rows_of(figure.svg(), costs), told, strict=True):
        assert block.startswith(f"{cost.kind.title}  ({cost.kind.versions})")
        for part in cost.kind.versions.split("; "):
            assert part in row
        if cost.refused:
            assert f"not to be had: {cost.refused}" in row
            assert f"not to be had: {cost.refused}" in block
            continue
        reads = f"{len(cost.pfn_to_page)} / {len(cost.page_to_pfn)}"
        sizes = {"map": cost.map_bytes, "of it holes": cost.hole_bytes, "tables": cost.table_bytes}
        for words in (f"{cost.sizeof_page} B", reads, *(size_text(size) for size in sizes.values())):
            assert words in row
        for column, size in sizes.items():
            assert f"{column} {size_text(size)}," in block
        assert f"struct page {cost.sizeof_page} B," in block
        assert f"reads {reads}" in block
        for way, names in (("pfn→page", cost.pfn_to_page), ("page→pfn", cost.page_to_pfn)):
            assert f"{way}: {', '.join(names)}" in row
            assert f"{way}: {', '.join(names)}" in block
        [under] = [words for words in row if words.startswith("node ")]
        assert f"map: {under}" in block
        for table, size in cost.tables:
            assert f"table {table}: {size_text(size)}" in block


@pytest.mark.parametrize("name", MACHINES)
def test_the_memory_of_a_node_is_told_for_each(name: str) -> None:
    machine = MACHINES[name]
    figure, costs = figure_of(machine)
    for nid in machine.nodes[:4]:
        memory = sum(end - start for start, end, node in machine.ranges if node == nid) << PAGE_SHIFT
        assert f"node {nid}: {size_text(memory)}" in figure.text()
        for cost in costs:
            mine = [piece for piece in cost.pieces if piece[0] == nid]
            if mine:
                size = size_text(sum(piece[3] for piece in mine))
                assert f"  map: node {nid}: {size}" in figure.text() or f"   node {nid}: {size}" in figure.text()
    for start, end, nid in machine.ranges:
        assert f"[{start << PAGE_SHIFT:#x}-{(end << PAGE_SHIFT) - 1:#x}] node {nid}" in figure.text()
    assert ("and 2 more nodes" in figure.text()) == (len(machine.nodes) == 6)


@pytest.mark.parametrize("name", MACHINES)
def test_the_figure_is_well_formed_and_never_differs(name: str) -> None:
    figure, costs = figure_of(MACHINES[name])
    root = ElementTree.fromstring(figure.svg())
    assert root.get("aria-label") == figure.alt
    assert figure.svg() == figure_of(MACHINES[name])[0].svg()
    for cost in costs:
        assert (f"{cost.kind.title} {size_text(cost.map_bytes)} (" in figure.alt) == (not cost.refused)
    width = float(root.get("width", 0))
    assert 960 <= width <= 1180
    assert all(0 <= x <= width for x, _, _ in drawn(figure.svg()))


@pytest.mark.parametrize("name", MACHINES)
def test_addresses_do_not_run_into_each_other(name: str) -> None:
    figure, _ = figure_of(MACHINES[name])
    row = [(x, words) for x, y, words in drawn(figure.svg()) if y == 37]
    assert len(row) >= 2
    assert all(re.fullmatch(r"0x[0-9a-f]+", words) for _, words in row)
    wide = [len(words) * 6.1 for _, words in row]  # a digit is about so wide
    spans = [(x, x + w) for (x, _), w in zip(row[:-1], wide, strict=False)] + [(row[-1][0] - wide[-1], row[-1][0])]
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


def test_the_axis_keeps_the_order_and_hides_nothing() -> None:
    for machine in MACHINES.values():
        axis = axis_of(machine, compare_models(machine))
        assert all(right - left >= 3 for left, right in pairwise(axis.places))
        assert axis.at(machine.max_pfn) <= axis.places[-1]


def test_a_booted_machine_can_be_shown() -> None:
    machine = model_machine(Machine.boot("numa-2x4g").kernel.boot)
    figure, costs = figure_of(machine)
    assert not any(cost.refused for cost in costs)
    assert figure.png()[:4] == b"\x89PNG"
