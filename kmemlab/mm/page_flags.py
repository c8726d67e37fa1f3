"""page->flags: what one word says of a page, from the top where it belongs, from the bottom how it is.

 63      54 53   51 50          30 29 27 26 25 24                    0     x86-64, SPARSEMEM_VMEMMAP
|  node   |  zone |  last CPU/pid |  gen | ref |  PG_arch_2 … PG_locked |
 63           45 44   35 34   32 31 29 28 27 26    25 24             0     classic SPARSEMEM on the same
|    section    |  node |  zone |  gen | ref | unused |  …  PG_locked  |    machine: no room for the last CPU/pid

How wide a part is follows from the configuration. A part that does not fit is kept elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import KernelConfig
from kmemlab.types.errors import BadRequest
from kmemlab.types.memory_model import MemoryModelKind
from kmemlab.types.pageflags import PAGEFLAGS
from kmemlab.types.units import round_up

# A bit that means one thing for one kind of page and another for another kind.
ALIASES = {
    "PG_readahead": "PG_reclaim",
    "PG_anon_exclusive": "PG_mappedtodisk",
    "PG_checked": "PG_owner_priv_1",
    "PG_swapcache": "PG_owner_priv_1",
    "PG_double_map": "PG_workingset",
    "PG_isolated": "PG_reclaim",
    "PG_reported": "PG_uptodate",
}
LAST_PID_BITS = 8  # of the process that touched the page last, for NUMA balancing
LRU_GEN_BITS, LRU_REFS_BITS = 3, 2
NODES_SHIFT_32 = 3  # what x86-32 takes when it is built for NUMA; Debian's is not


@kernel("include/linux/page-flags.h", "enum pageflags")
def pageflags(config: KernelConfig, kind: MemoryModelKind) -> tuple[str, ...]:
    """The flags of a configuration, lowest bit first: 32 bits have no PG_arch_2, and with sections no PG_hwpoison."""
    if config.sizeof_pointer == 8:
        return PAGEFLAGS
    return tuple(name for name in PAGEFLAGS[:-1] if not (kind.classic and name == "PG_hwpoison"))


@invented("C's page-flags-layout.h is arithmetic of the preprocessor")
@dataclass(frozen=True, slots=True)
class PageFlagsLayout:
    """How many bits of page->flags each part takes. A *shift* is what a number needs, a *width* what it was given."""

    bits_per_long: int
    flags: tuple[str, ...]
    sections_shift: int
    nodes_shift: int
    zones_shift: int
    last_cpupid_shift: int
    sections_width: int
    nodes_width: int
    last_cpupid_width: int
    lru_gen_width: int
    lru_refs_width: int
    kasan_tag_width: int = 0

    @property
    def nr_pageflags(self) -> int:
        """How many bits the flags take."""
        return len(self.flags)

    @property
    def zones_width(self) -> int:
        """The zone always has its place."""
        return self.zones_shift

    def parts(self) -> tuple[tuple[str, int, int], ...]:
        """The parts above the flags, from the top: (name, lowest bit, width)."""
        at = self.bits_per_long
        found = []
        for name, width in (
            ("section", self.sections_width),
            ("node", self.nodes_width),
            ("zone", self.zones_width),
            ("last_cpupid", self.last_cpupid_width),
            ("kasan_tag", self.kasan_tag_width),
            ("lru_gen", self.lru_gen_width),
            ("lru_refs", self.lru_refs_width),
        ):
            at -= width
            found.append((name, at, width))
        return tuple(found)

    def pgoff(self, part: str) -> int:
        """The lowest bit of a part, whether it has any width or not."""
        return next(at for name, at, _ in self.parts() if name == part)

    def pgshift(self, part: str) -> int:
        """By how many bits to shift a part down; 0 for a part without width, so that the compiler drops it."""
        return next(at if width else 0 for name, at, width in self.parts() if name == part)

    @property
    def node_not_in_page_flags(self) -> bool:
        """Whether the node must be looked up by the section."""
        return self.nodes_shift > 0 and not self.nodes_width

    @property
    def last_cpupid_not_in_page_flags(self) -> bool:
        """Whether each struct page is larger by an int that keeps the last CPU and pid."""
        return self.last_cpupid_shift > 0 and not self.last_cpupid_width

    @property
    def zoneid(self) -> tuple[int, int]:
        """(lowest bit, bits) of the number that is different for each zone of each node."""
        whose, bits = ("section", self.sections_shift) if self.node_not_in_page_flags else ("node", self.nodes_shift)
        return min(self.pgoff(whose), self.pgoff("zone")), bits + self.zones_shift


@invented("C's page-flags-layout.h is arithmetic of the preprocessor")
def page_flags_layout(config: KernelConfig, kind: MemoryModelKind, levels: int, nr_nodes: int = 1) -> PageFlagsLayout:
    """Share out the bits for one memory model; what does not fit in the order below is left out.

    Raises `BadRequest` with the compiler's words where even zone and section do not fit.
    """
    bits = config.sizeof_pointer * 8
    flags = pageflags(config, kind)
    room = bits - len(flags)
    zones = (len(config.zone_names) - 1).bit_length()
    sections = config.max_physmem_bits(levels) - section_size_bits(config) if kind.sparse else 0
    sections_width = sections if kind.classic else 0
    nodes = nodes_shift(config, kind, nr_nodes)
    # Classic SPARSEMEM leaves 32 bits without room for generations, so the two can't be chosen together.
    gen = 0 if bits == 32 and kind.classic else LRU_GEN_BITS
    used = zones + gen + sections_width
    nodes_width = nodes if used + nodes <= room else 0
    used += nodes_width
    cpupid = LAST_PID_BITS + (config.nr_cpus - 1).bit_length() if bits == 64 and nodes else 0
    cpupid_width = cpupid if used + cpupid <= room else 0
    used += cpupid_width
    if used > room or (kind is MemoryModelKind.SPARSEMEM_VMEMMAP and nodes and not nodes_width):
        raise BadRequest(
            "Not enough bits in page flags",
            where=f"{kind.title} on {config.key}: {used} bits above {len(flags)} flags of {bits}",
            remedy="choose another memory model for this configuration",
        )
    refs = min(LRU_REFS_BITS, room - used) if gen else 0
    return PageFlagsLayout(
        bits, flags, sections, nodes, zones, cpupid, sections_width, nodes_width, cpupid_width, gen, refs
    )


@kernel("arch/x86/include/asm/sparsemem.h", "SECTION_SIZE_BITS", traced=False)
def section_size_bits(config: KernelConfig) -> int:
    """2**n bytes make a section: 128 MiB on x86-64; where Debian has no sections, what the architecture would take."""
    if config.section_size_bits:
        return config.section_size_bits
    return 29 if config.sizeof_pte == 8 else 26


@invented("CONFIG_NODES_SHIFT, and whether a memory model goes with NUMA at all", traced=False)
def nodes_shift(config: KernelConfig, kind: MemoryModelKind, nr_nodes: int) -> int:
    """How many bits a node number needs: none without NUMA, which FLATMEM rules out and DISCONTIGMEM demands."""
    if kind is MemoryModelKind.FLATMEM:
        return 0
    numa = nr_nodes > 1 or kind is MemoryModelKind.DISCONTIGMEM
    return config.nodes_shift or (NODES_SHIFT_32 if numa else 0)


@invented("C's compiler knows: sizeof(struct page)")
def sizeof_page(config: KernelConfig, layout: PageFlagsLayout) -> int:
    """The bytes of one struct page: aligned to two words, and an int longer if the last CPU and pid found no bits."""
    if not layout.last_cpupid_not_in_page_flags:
        return config.sizeof_page
    return round_up(config.sizeof_page + 4, 2 * config.sizeof_pointer)


@kernel("include/linux/mm.h", "set_page_links", left_out="writing it: the word is handed back")
def set_page_links(layout: PageFlagsLayout, zone: int, node: int, section: int) -> int:
    """The word that a page starts with at boot: where it belongs, and no flag set."""
    return pack_page_flags(layout, zone=zone, node=node if layout.nodes_width else 0,
                           section=section if layout.sections_width else 0)  # fmt: skip


@invented("C sets and reads the parts one by one", traced=False)
def pack_page_flags(layout: PageFlagsLayout, flags: tuple[str, ...] = (), **parts: int) -> int:
    """The word of flags (by name) and parts (section, node, zone, last_cpupid, lru_gen, lru_refs).

    Raises `BadRequest` for a flag or part that the layout does not have, and for a number too large for its part.
    """
    word = 0
    for name in flags:
        real = ALIASES.get(name, name)
        if real not in layout.flags:
            raise BadRequest(
                f"no flag {name} here", where="pack_page_flags", remedy=f"one of {', '.join(layout.flags)}"
            )
        word |= 1 << layout.flags.index(real)
    places = {name: (at, width) for name, at, width in layout.parts()}
    for name, number in parts.items():
        at, width = places.get(name, (0, -1))
        if not 0 <= number < 1 << max(width, 0) or width < 0:
            raise BadRequest(
                f"{name} {number} does not fit into page->flags",
                where=f"pack_page_flags: {name} has {max(width, 0)} bits",
                remedy="give what the layout has room for",
            )
        word |= number << at
    return word


@invented("C sets and reads the parts one by one")
def unpack_page_flags(layout: PageFlagsLayout, word: int) -> tuple[tuple[str, ...], dict[str, int]]:
    """What a word says: the names of the flags that are set, and the number in each part that has any width.

    Raises `BadRequest` for a word that is no unsigned long.
    """
    if not 0 <= word < 1 << layout.bits_per_long:
        raise BadRequest(
            f"{word:#x} is no word of {layout.bits_per_long} bits", where="unpack_page_flags", remedy="give page->flags"
        )
    flags = tuple(name for bit, name in enumerate(layout.flags) if word >> bit & 1)
    return flags, {name: word >> at & ((1 << width) - 1) for name, at, width in layout.parts() if width}


@kernel("include/linux/mm.h", "page_to_section", traced=False)
def page_to_section(layout: PageFlagsLayout, flags: int) -> int:
    """The section that the page belongs to, out of its flags."""
    return flags >> layout.pgshift("section") & ((1 << layout.sections_width) - 1)


@kernel("include/linux/mm.h", "page_to_nid", left_out="the look-up by section where the node is not in the flags")
def page_to_nid(layout: PageFlagsLayout, flags: int) -> int:
    """The node that the page belongs to, out of its flags."""
    return flags >> layout.pgshift("node") & ((1 << layout.nodes_width) - 1)


@kernel("include/linux/mmzone.h", "page_zonenum", traced=False)
def page_zonenum(layout: PageFlagsLayout, flags: int) -> int:
    """The index of the zone that the page belongs to, out of its flags."""
    return flags >> layout.pgshift("zone") & ((1 << layout.zones_width) - 1)
