"""The four memory models: against what real kernels took, and laws that hold for every machine."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.machine.machine import Machine
from kmemlab.mm.discontigmem import Discontigmem
from kmemlab.mm.flatmem import Flatmem, setup_usemaps
from kmemlab.mm.four_models import MODELS, compare_models, model_cost, model_machine
from kmemlab.mm.memory_model import Loads, MemoryModel, ModelMachine
from kmemlab.mm.page_flags import page_to_nid, page_to_section
from kmemlab.mm.sparsemem import SparsememExtreme, SparsememStatic
from kmemlab.mm.sparsemem_vmemmap import SparsememVmemmap
from kmemlab.types.config import AMD64, CONFIGS, I386, I386_PAE
from kmemlab.types.errors import BadRequest, KernelPanic
from kmemlab.types.memory_model import MemoryModelKind

REAL = json.loads((Path(__file__).parent.parent / "data" / "memory_maps.json").read_text())
SECTION = 1 << 15
GIB = 1 << 18  # page frames


def real_machine(name: str, **more) -> ModelMachine:
    facts = REAL[name]
    ranges = tuple(tuple(item) for item in facts["ranges"])
    config = CONFIGS[facts["kernel"]]
    return ModelMachine(ranges, config, facts["levels"], facts.get("max_low_pfn", 0), facts["pse"], **more)


@pytest.mark.parametrize("name", [name for name in REAL if name.startswith("i386")])
def test_flatmem_takes_what_real_i386_kernels_took(name: str) -> None:
    machine = real_machine(name)
    model = Flatmem(machine)
    [[_, size, _]] = REAL[name]["maps"]
    assert model_cost(model).map_bytes == size
    usemaps = setup_usemaps(machine.memblock(), machine, 0, machine.ranges[0][0], machine.max_pfn)
    assert list(usemaps) == REAL[name]["usemaps"]
    assert dict(model.tables)["zone->pageblock_flags"] == sum(usemaps)


@pytest.mark.parametrize("name", [name for name in REAL if name.startswith("amd64")])
def test_vmemmap_takes_what_real_amd64_kernels_took(name: str) -> None:
    model = SparsememVmemmap(real_machine(name))
    taken: dict[int, int] = {}
    for piece in model.pieces:
        taken[piece.nid] = taken.get(piece.nid, 0) + piece.pages * model.sizeof_page
    assert taken == {nid: size for nid, size, _ in REAL[name]["maps"]}
    tables = {"mem_section": "roots", "section usage": "usemaps", "page tables": "tables"}
    expected = {ours: REAL[name][theirs] for ours, theirs in tables.items()}
    expected["section usage"] = sum(expected["section usage"])
    assert dict(model.tables) == expected


def test_the_array_lies_below_what_is_reserved_at_the_end_of_low_memory() -> None:
    # A real machine's initrd had been moved there before.
    machine = real_machine("i386-pae-2g-2cpu", reserved=((0, 1 << 20), (0x36EAC000, 0x36FFE000)))
    [piece] = Flatmem(machine).pieces
    assert [piece.nid, 20971520, piece.pa] == REAL["i386-pae-2g-2cpu"]["maps"][0]
    assert piece.va == 0xC0000000 + piece.pa


def test_vmemmap_starts_where_the_layout_says() -> None:
    two_gib = real_machine("amd64-2g-2cpu")
    assert SparsememVmemmap(two_gib).pfn_to_page(1) == 0xFFFFEA0000000040
    assert SparsememVmemmap(real_machine("amd64-la57-2g")).pfn_to_page(0) == 0xFFD4000000000000
    assert Flatmem(real_machine("amd64-la57-2g")).pfn_to_page(0) >> 48 == 0xFF11


def test_what_a_conversion_reads() -> None:
    costs = {cost.kind: cost for cost in compare_models(real_machine("amd64-2g-2cpu"))}
    steps = {kind.title: (len(cost.pfn_to_page), len(cost.page_to_pfn)) for kind, cost in costs.items()}
    assert steps == {
        "FLATMEM": (1, 1),
        "DISCONTIGMEM": (6, 4),
        "SPARSEMEM (static)": (1, 2),
        "SPARSEMEM (extreme)": (3, 4),
        "SPARSEMEM_VMEMMAP": (1, 1),
    }
    assert costs[MemoryModelKind.SPARSEMEM_EXTREME].page_to_pfn == (
        "page->flags",
        "mem_section",
        "mem_section[0]",
        "mem_section[0][0].section_mem_map",
    )
    i386 = {cost.kind.title: len(cost.pfn_to_page) for cost in compare_models(real_machine("i386-pae-2g-2cpu"))}
    assert i386["DISCONTIGMEM"] == 4


def holes_machine() -> ModelMachine:
    """Two nodes: 1 GiB and 1 GiB with 6 GiB of nothing between, and a hole of 1 GiB within the second."""
    ranges = ((0, GIB, 0), (7 * GIB, 7 * GIB + GIB // 2, 1), (8 * GIB + GIB // 2, 9 * GIB, 1))
    return ModelMachine(ranges, AMD64)


@pytest.mark.parametrize(
    ("model", "hole_pages"),
    [(Flatmem, 7 * GIB), (Discontigmem, GIB), (SparsememStatic, 0), (SparsememExtreme, 0), (SparsememVmemmap, 0)],
)
def test_who_pays_for_which_hole(model: type[MemoryModel], hole_pages: int) -> None:
    cost = model_cost(model(holes_machine()))
    assert cost.hole_bytes == hole_pages * cost.sizeof_page
    assert cost.map_bytes == (2 * GIB + hole_pages) * cost.sizeof_page


def test_a_node_amid_another_is_described_twice_by_discontigmem() -> None:
    machine = ModelMachine(((0, GIB, 0), (GIB, 2 * GIB, 1), (2 * GIB, 3 * GIB, 0)), AMD64)
    model = Discontigmem(machine)
    assert [(piece.first_pfn, piece.end_pfn) for piece in model.pieces] == [(0, 3 * GIB), (GIB, 2 * GIB)]
    assert model_cost(model).hole_bytes == GIB * 64
    page = model.pfn_to_page(GIB + 5)
    assert page_to_nid(model.layout, model.page_flags(page)) == 1
    assert model.page_to_pfn(page) == GIB + 5


def test_discontigmem_needs_a_border_that_its_table_can_tell() -> None:
    with pytest.raises(BadRequest, match="not aligned"):
        Discontigmem(ModelMachine(((0, 1000, 0), (1000, 1 << 18, 1)), AMD64))
    with pytest.raises(BadRequest, match="not aligned"):
        Discontigmem(ModelMachine(((0, 3 << 13, 0), (3 << 13, 1 << 17, 1)), I386_PAE))
    on_64_mib = ModelMachine(((0, 1 << 14, 0), (1 << 14, 1 << 17, 1)), I386_PAE)
    assert Discontigmem(on_64_mib).page_to_pfn(Discontigmem(on_64_mib).pfn_to_page(1 << 14)) == 1 << 14


def test_a_section_on_a_border_belongs_to_the_node_of_its_first_memory() -> None:
    model = SparsememVmemmap(ModelMachine(((0, SECTION + 100, 0), (SECTION + 100, 4 * SECTION, 1)), AMD64))
    assert [(piece.nid, piece.first_pfn // SECTION, piece.end_pfn // SECTION) for piece in model.pieces] == [
        (0, 0, 2),
        (1, 2, 4),
    ]


def test_32_bits_have_no_room_for_vmemmap() -> None:
    costs = compare_models(ModelMachine(((1, GIB // 2, 0),), I386))
    assert [cost.kind for cost in costs if cost.refused] == [MemoryModelKind.SPARSEMEM_VMEMMAP]


def test_a_hole_that_is_too_wide_for_flatmem_ends_in_its_panic() -> None:
    machine = ModelMachine(((0, 1 << 15, 0), (1 << 28, (1 << 28) + (1 << 15), 0)), AMD64)
    with pytest.raises(KernelPanic, match="Failed to allocate 17181966336 bytes for node 0 memory map"):
        Flatmem(machine)
    refused = {cost.kind.title: bool(cost.refused) for cost in compare_models(machine)}
    assert refused == {
        "FLATMEM": True,
        "DISCONTIGMEM": True,
        "SPARSEMEM (static)": False,
        "SPARSEMEM (extreme)": False,
        "SPARSEMEM_VMEMMAP": False,
    }


@pytest.mark.parametrize(
    ("ranges", "config"),
    [
        ((), AMD64),
        (((5, 5, 0),), AMD64),
        (((0, 9, 0), (8, 10, 0)), AMD64),
        (((0, 9, -1),), AMD64),
        (((0, 9, 1024),), AMD64),
        (((0, 1 << 35, 0),), AMD64),
        (((0, 1 << 19, 0),), I386_PAE),
        (((0, (1 << 20) + 1, 0),), I386),
    ],
)
def test_a_machine_that_cannot_be_is_refused(ranges, config) -> None:
    with pytest.raises(BadRequest):
        ModelMachine(ranges, config)


def test_what_has_no_struct_page_is_refused() -> None:
    for model in MODELS:
        made = model(holes_machine())
        for pfn in (-1, 9 * GIB, 100 * GIB):
            with pytest.raises(BadRequest, match="no struct page"):
                made.pfn_to_page(pfn)
        for page in (0, made.pfn_to_page(0) + 1, made.pfn_to_page(0) - made.sizeof_page):
            with pytest.raises(BadRequest, match="no struct page starts"):
                made.page_to_pfn(page)


def test_a_booted_machine_takes_the_same_memory_map() -> None:
    machine = Machine.boot("numa-2x4g")
    model = SparsememVmemmap(model_machine(machine.kernel.boot))
    assert [piece.nid for piece in model.pieces if piece.nid == 1]
    assert model.machine.pages == sum(pgdat.node_present_pages for pgdat in machine.kernel.mm.node_data)


pages = st.integers(1, 3 * SECTION)


@st.composite
def machines(draw: st.DrawFn) -> ModelMachine:
    """Machines whose nodes come in any order, with holes of any width; borders between nodes on 64 MiB."""
    config = draw(st.sampled_from((AMD64, I386_PAE, I386)))
    ranges, at, nid = [], draw(st.integers(0, 300)), 0
    for index in range(draw(st.integers(1, 6))):
        if index and draw(st.booleans()):
            nid, at = draw(st.integers(0, 3)), (at + (1 << 14) - 1) >> 14 << 14
        at += draw(st.sampled_from((0, 1, 97, SECTION, 5 * SECTION)))
        end = at + draw(pages)
        ranges.append((at, end, nid))
        at = end
    low = min(at, 225278 if config is I386_PAE else 224254) if config.highmem else 0
    return ModelMachine(tuple(ranges), config, max_low_pfn=low)


def made(machine: ModelMachine) -> list[MemoryModel]:
    """Every model that the machine has room for."""
    found = []
    for model in MODELS:
        try:
            found.append(model(machine))
        except (KernelPanic, BadRequest):
            assert model is not SparsememVmemmap or machine.config.highmem or machine.pages < 4 * SECTION
    return found


def joined(machine: ModelMachine) -> list[tuple[int, int]]:
    """The ranges without borders between nodes: a map may lie across one where its own node had no room."""
    found: list[tuple[int, int]] = []
    for start, end, _ in machine.ranges:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def borders(machine: ModelMachine) -> list[int]:
    """The first and the last page frame of each range, and one amid it."""
    return [pfn for start, end, _ in machine.ranges for pfn in (start, (start + end) // 2, end - 1)]


@settings(max_examples=60, deadline=None)
@given(machines())
def test_there_and_back_is_where_one_was(machine: ModelMachine) -> None:
    for model in made(machine):
        steps = set()
        for pfn in borders(machine):
            there, back = Loads(), Loads()
            page = model.pfn_to_page(pfn, there)
            assert model.page_to_pfn(page, back) == pfn
            if model.layout.sections_width:
                assert page_to_section(model.layout, model.page_flags(page)) == pfn >> model.pfn_section_shift
            steps.add((len(there.names), len(back.names)))
        assert len(steps) == 1  # a conversion costs the same everywhere


@settings(max_examples=60, deadline=None)
@given(machines())
def test_struct_pages_never_share_a_byte_and_lie_in_memory_of_their_own(machine: ModelMachine) -> None:
    for model in made(machine):
        for where in ("pa", "va"):
            spans = sorted(
                (getattr(piece, where), getattr(piece, where) + piece.pages * model.sizeof_page)
                for piece in model.pieces
            )
            assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        for piece in model.pieces:
            first, last = piece.pa >> 12, (piece.pa + piece.pages * model.sizeof_page - 1) >> 12
            assert any(start <= first and last < end for start, end in joined(machine))
            assert last < machine.max_low_pfn
        pfns = borders(machine)
        addresses = {model.pfn_to_page(pfn) for pfn in pfns}
        assert len(addresses) == len(set(pfns))


@settings(max_examples=60, deadline=None)
@given(machines())
def test_holes_cost_what_is_told_of_each_model(machine: ModelMachine) -> None:
    memory = {pfn >> 10 for start, end, _ in machine.ranges for pfn in range(start, end)}
    for model in made(machine):
        described = model_cost(model).map_bytes // model.sizeof_page
        if model.kind is MemoryModelKind.FLATMEM:
            told = (max(memory) - min(memory) + 1) << 10
        elif model.kind is MemoryModelKind.DISCONTIGMEM:
            told = 0
            for node in machine.nodes:
                mine = {pfn >> 10 for start, end, nid in machine.ranges if nid == node for pfn in (start, end - 1)}
                told += (max(mine) - min(mine) + 1) << 10
        else:
            told = len({block >> (model.pfn_section_shift - 10) for block in memory}) << model.pfn_section_shift
        assert described == told
        assert model_cost(model).hole_bytes == (told - machine.pages) * model.sizeof_page
