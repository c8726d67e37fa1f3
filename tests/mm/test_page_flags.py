"""page->flags: against what real kernels print of its layout, and what goes in comes out again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.mm.mminit import pageflags_layout_lines
from kmemlab.mm.page_flags import (
    PAGEFLAGS,
    PageFlagsLayout,
    pack_page_flags,
    page_flags_layout,
    page_to_nid,
    page_to_section,
    page_zonenum,
    pageflags,
    set_page_links,
    sizeof_page,
    unpack_page_flags,
)
from kmemlab.types.config import AMD64, CONFIGS, I386, I386_PAE
from kmemlab.types.errors import BadRequest
from kmemlab.types.memory_model import MemoryModelKind

FLATMEM, DISCONTIGMEM, STATIC, EXTREME, VMEMMAP = MemoryModelKind

# What Debian's kernels print with mminit_loglevel=4.
PRINTED_AMD64 = """\
widths Section 0 Node 10 Zone 3 Lastcpupid 21 Kasantag 0 Gen 3 Tier 2 Flags 25
shifts Section 19 Node 10 Zone 3 Lastcpupid 21 Kasantag 0
pgshifts Section 0 Node 54 Zone 51 Lastcpupid 30 Kasantag 0
nodezoneid Node/Zone ID: 64 -> 51
usage location: 64 -> 25 layout 25 -> 25 unused 25 -> 0 page-flags"""
PRINTED_I386 = """\
widths Section 0 Node 0 Zone 2 Lastcpupid 0 Kasantag 0 Gen 3 Tier 2 Flags 24
shifts Section 0 Node 0 Zone 2 Lastcpupid 0 Kasantag 0
pgshifts Section 0 Node 0 Zone 30 Lastcpupid 0 Kasantag 0
nodezoneid Node/Zone ID: 32 -> 30
usage location: 32 -> 25 layout 25 -> 24 unused 24 -> 0 page-flags"""


def layouts() -> list[PageFlagsLayout]:
    """Every layout that a configuration can be built with."""
    found = []
    for config in CONFIGS.values():
        for kind in MemoryModelKind:
            for levels in config.page_table_levels:
                for nr_nodes in (1, 2):
                    found.append(page_flags_layout(config, kind, levels, nr_nodes))
    return found


def printed(layout: PageFlagsLayout) -> str:
    return "\n".join(f"{name} {text}" for name, text in pageflags_layout_lines(layout))


@pytest.mark.parametrize(
    ("config", "kind", "levels", "lines"),
    [
        (AMD64, VMEMMAP, 4, PRINTED_AMD64),
        (AMD64, VMEMMAP, 5, PRINTED_AMD64.replace("Section 19", "Section 25")),
        (I386_PAE, FLATMEM, 3, PRINTED_I386),
        (I386, FLATMEM, 2, PRINTED_I386),
    ],
)
def test_the_layout_is_the_one_that_real_kernels_print(config, kind, levels, lines) -> None:
    assert printed(page_flags_layout(config, kind, levels)) == lines


def test_classic_sparsemem_pushes_the_last_cpu_out_and_struct_page_grows() -> None:
    layout = page_flags_layout(AMD64, EXTREME, 4)
    assert [(name, at, width) for name, at, width in layout.parts() if width] == [
        ("section", 45, 19),
        ("node", 35, 10),
        ("zone", 32, 3),
        ("lru_gen", 29, 3),
        ("lru_refs", 27, 2),
    ]
    assert layout.last_cpupid_not_in_page_flags
    assert printed(layout).endswith("Last cpupid not in page flags")
    assert (sizeof_page(AMD64, layout), sizeof_page(AMD64, page_flags_layout(AMD64, VMEMMAP, 4))) == (80, 64)


def test_sections_take_the_place_of_the_node_where_both_do_not_fit() -> None:
    assert page_flags_layout(AMD64, EXTREME, 5).node_not_in_page_flags
    layout = page_flags_layout(I386_PAE, STATIC, 3, nr_nodes=2)
    assert (layout.sections_width, layout.nodes_shift, layout.nodes_width) == (7, 3, 0)
    assert printed(layout).endswith("nodeflags Node not in page flags")
    assert layout.zoneid == (23, 9)


def test_each_part_has_its_own_bits() -> None:
    for layout in layouts():
        taken = list(range(layout.nr_pageflags))
        for _, at, width in layout.parts():
            taken += range(at, at + width)
        assert len(set(taken)) == len(taken)
        assert max(taken) == layout.bits_per_long - 1


def test_flags_are_numbered_as_in_c() -> None:
    for bit, name in ((0, "PG_locked"), (4, "PG_lru"), (12, "PG_reserved"), (16, "PG_head"), (23, "PG_hwpoison")):
        assert pack_page_flags(page_flags_layout(AMD64, VMEMMAP, 4), (name,)) == 1 << bit
    assert (len(pageflags(AMD64, VMEMMAP)), len(pageflags(I386, FLATMEM)), len(pageflags(I386, STATIC))) == (25, 24, 23)
    layout = page_flags_layout(AMD64, VMEMMAP, 4)
    assert unpack_page_flags(layout, pack_page_flags(layout, ("PG_swapcache",)))[0] == ("PG_owner_priv_1",)


@given(st.data())
def test_what_is_packed_is_unpacked(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(layouts()))
    flags = data.draw(st.sets(st.sampled_from(layout.flags)))
    parts = {name: data.draw(st.integers(0, (1 << width) - 1)) for name, _, width in layout.parts() if width}
    word = pack_page_flags(layout, tuple(flags), **parts)
    assert unpack_page_flags(layout, word) == (tuple(name for name in PAGEFLAGS if name in flags), parts)
    assert page_zonenum(layout, word) == parts["zone"]
    assert page_to_nid(layout, word) == parts.get("node", 0)
    assert page_to_section(layout, word) == parts.get("section", 0)


def test_links_leave_out_what_has_no_place() -> None:
    assert set_page_links(page_flags_layout(I386, FLATMEM, 2), zone=2, node=0, section=5) == 2 << 30
    assert set_page_links(page_flags_layout(AMD64, VMEMMAP, 4), zone=1, node=3, section=5) == 3 << 54 | 1 << 51


@pytest.mark.parametrize(
    "words",
    [
        {"flags": ("PG_purple",)},
        {"zone": 8},
        {"node": -1},
        {"section": 1},
        {"colour": 0},
        {"flags": ("PG_arch_2",), "zone": 9},
    ],
)
def test_what_does_not_fit_is_refused(words) -> None:
    with pytest.raises(BadRequest):
        pack_page_flags(page_flags_layout(AMD64, VMEMMAP, 4), **words)


def test_a_word_that_is_no_long_is_refused() -> None:
    with pytest.raises(BadRequest, match="32 bits"):
        unpack_page_flags(page_flags_layout(I386, FLATMEM, 2), 1 << 32)


def test_a_kernel_whose_bits_do_not_fit_is_not_built() -> None:
    with pytest.raises(BadRequest, match="Not enough bits"):
        page_flags_layout(replace(I386, physmem_bits=((2, 40),)), STATIC, 2)
    with pytest.raises(BadRequest, match="Not enough bits"):
        page_flags_layout(replace(I386, nodes_shift=10), VMEMMAP, 2)
