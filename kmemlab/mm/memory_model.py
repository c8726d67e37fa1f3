"""A memory model: where each `struct page` lies, and how its address and its page frame number become each other.

page frames   | 0 | 1 | 2 | 3 | 4 |       …hole…       | 9 |10 |11 |
                ▲   pfn_to_page │                        ▲
    page_to_pfn │               ▼                        │
memory map    |p0 |p1 |p2 |p3 |p4 |  one struct page each, in one piece, a piece a node, or a piece a section

The four models of Linux answer for one and the same machine here, so that they can be compared: what their memory map
takes, what of that is spent on holes, which tables they need, and how often a conversion must read memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass

from kmemlab.boot.globals import page_offset
from kmemlab.boot.memblock import (
    Memblock,
    memblock_add_node,
    memblock_init,
    memblock_reserve,
    memblock_set_current_limit,
)
from kmemlab.mm.page_flags import page_flags_layout, set_page_links, sizeof_page
from kmemlab.sim.kernel import invented
from kmemlab.types.config import KernelConfig
from kmemlab.types.errors import BadRequest
from kmemlab.types.memory_model import MemoryModelKind
from kmemlab.types.units import MIB, PAGE_SHIFT


@invented("what the memory models need to know of a machine")
@dataclass(frozen=True, slots=True)
class ModelMachine:
    """Ranges of memory (first pfn, pfn behind, node), ascending; `max_low_pfn` is where the direct map ends.

    `reserved` holds what is taken already, as (first byte, byte behind).
    Raises `BadRequest` for ranges that overlap, are empty, or that this kernel can't reach.
    """

    ranges: tuple[tuple[int, int, int], ...]
    config: KernelConfig
    levels: int = 0
    max_low_pfn: int = 0
    large_pages: bool = True
    reserved: tuple[tuple[int, int], ...] = ((0, MIB),)

    def __post_init__(self) -> None:
        self.check_ranges()
        object.__setattr__(self, "levels", self.levels or self.config.page_table_levels[0])
        object.__setattr__(self, "max_low_pfn", self.max_low_pfn or self.max_pfn)
        reach = self.config.max_arch_pfn(self.levels)
        direct_map = (1 << 32) - self.config.page_offset if self.config.highmem else reach << PAGE_SHIFT
        if self.max_pfn > reach or self.max_low_pfn << PAGE_SHIFT > direct_map:
            raise BadRequest(
                f"page frame {self.max_pfn - 1:#x} is out of reach",
                where=f"{self.config.key}: below {reach:#x}, in the direct map below {direct_map >> PAGE_SHIFT:#x}",
                remedy="give max_low_pfn, or a configuration for more memory",
            )

    def check_ranges(self) -> None:
        """Raise `BadRequest` unless the ranges ascend, hold something, and name nodes that exist."""
        behind = 0
        for start_pfn, end_pfn, nid in self.ranges:
            if not behind <= start_pfn < end_pfn or not 0 <= nid < max(self.config.max_numnodes, 8):
                raise BadRequest(
                    f"not a range of memory: page frames {start_pfn:#x} to {end_pfn:#x} on node {nid}",
                    where="ModelMachine.ranges",
                    remedy="give ranges in ascending order that don't overlap: (first pfn, pfn behind, node)",
                )
            behind = end_pfn
        if not behind:
            raise BadRequest("no memory", where="ModelMachine.ranges", remedy="give at least one range")

    @property
    def max_pfn(self) -> int:
        """The page frame behind the last one."""
        return self.ranges[-1][1]

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes with memory, ascending."""
        return tuple(sorted({nid for _, _, nid in self.ranges}))

    @property
    def pages(self) -> int:
        """How many page frames are memory."""
        return sum(end - start for start, end, _ in self.ranges)

    @property
    def page_offset(self) -> int:
        """Where the direct map starts without KASLR."""
        return page_offset(self.config, self.levels)

    def span(self, nid: int) -> tuple[int, int]:
        """(first pfn, pfn behind) of a node, holes included."""
        mine = [(start, end) for start, end, node in self.ranges if node == nid]
        return mine[0][0], mine[-1][1]

    def memblock(self, one_node: bool = False) -> Memblock:
        """A memblock that knows this memory, to take the memory map from; all of it is node 0 with `one_node`."""
        memblock = Memblock(config=self.config)
        memblock_init(memblock)
        for start_pfn, end_pfn, nid in self.ranges:
            start, size = start_pfn << PAGE_SHIFT, end_pfn - start_pfn << PAGE_SHIFT
            memblock_add_node(memblock, start, size, 0 if one_node else nid)
        for start, end in self.reserved:
            memblock_reserve(memblock, start, end - start)
        memblock_set_current_limit(memblock, self.max_low_pfn << PAGE_SHIFT)
        return memblock


@invented("C has no list of the pieces: only pointers to them")
@dataclass(frozen=True, slots=True)
class MapPiece:
    """The struct pages of page frames [first_pfn, end_pfn), side by side: at physical `pa`, seen at virtual `va`."""

    first_pfn: int
    end_pfn: int
    nid: int
    pa: int
    va: int

    @property
    def pages(self) -> int:
        """How many struct pages the piece holds."""
        return self.end_pfn - self.first_pfn


@invented("what a conversion costs, counted where it happens")
class Loads:
    """The memory that a conversion reads, in order. Registers and constants in the code cost nothing."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def load(self, name: str, value: int) -> int:
        """Read one word; `name` says which."""
        self.names.append(name)
        return value


@invented("the base of the four models")
class MemoryModel(ABC):
    """One model for one machine. `pieces` is its memory map, `tables` what else it needs: (name, bytes).

    Nothing of it changes after it is made. Pieces never overlap, and lie in memory that nothing else has.
    """

    kind: MemoryModelKind

    def __init__(self, machine: ModelMachine) -> None:
        self.machine = machine
        flat = self.kind is MemoryModelKind.FLATMEM
        self.layout = page_flags_layout(
            machine.config, self.kind, machine.levels, 1 if flat else max(machine.nodes) + 1
        )
        self.sizeof_page = sizeof_page(machine.config, self.layout)
        self.memblock = machine.memblock(one_node=flat)
        self.pieces, self.tables = self.build()
        self._starts = tuple(piece.first_pfn for piece in self.pieces)
        self._by_va = tuple(sorted(self.pieces, key=lambda piece: piece.va))

    @abstractmethod
    def build(self) -> tuple[tuple[MapPiece, ...], tuple[tuple[str, int], ...]]:
        """Take memory for the map; returns the pieces, ascending, and the tables."""

    @abstractmethod
    def pfn_valid(self, pfn: int) -> bool:
        """Whether the page frame has a struct page, as C's pfn_valid() would say. A hole may have one, too."""

    @abstractmethod
    def _pfn_to_page(self, pfn: int, loads: Loads) -> int: ...

    @abstractmethod
    def _page_to_pfn(self, page: int, loads: Loads) -> int: ...

    def pfn_to_page(self, pfn: int, loads: Loads | None = None) -> int:
        """The virtual address of the struct page. C computes one for any number; we refuse what has none."""
        if not self.pfn_valid(pfn):
            raise BadRequest(
                f"page frame {pfn:#x} has no struct page",
                where=f"pfn_to_page under {self.kind.title}",
                remedy="ask pfn_valid() first, as the kernel does",
            )
        return self._pfn_to_page(pfn, loads or Loads())

    def page_to_pfn(self, page: int, loads: Loads | None = None) -> int:
        """The page frame that a struct page speaks of; raises `BadRequest` for an address where none starts."""
        self.piece_at(page)
        return self._page_to_pfn(page, loads or Loads())

    def piece_at(self, page: int) -> MapPiece:
        """The piece of the memory map that holds the struct page at virtual address `page`."""
        at = bisect_right(self._by_va, page, key=lambda piece: piece.va) - 1
        if at >= 0:
            piece = self._by_va[at]
            index, rest = divmod(page - piece.va, self.sizeof_page)
            if index < piece.pages and not rest:
                return piece
        raise BadRequest(
            f"no struct page starts at {page:#x}",
            where=f"page_to_pfn under {self.kind.title}",
            remedy="give an address that pfn_to_page() returned",
        )

    def piece_of(self, pfn: int) -> MapPiece | None:
        """The piece that holds the struct page of a page frame, if there is one."""
        at = bisect_right(self._starts, pfn) - 1
        return self.pieces[at] if at >= 0 and pfn < self.pieces[at].end_pfn else None

    def page_flags(self, page: int) -> int:
        """page->flags as boot left it: section and node. (The zone is left out: no conversion reads it.)

        C writes this word into each struct page once, and reads it back. Ours is worked out when it is asked for.
        """
        piece = self.piece_at(page)
        pfn = piece.first_pfn + (page - piece.va) // self.sizeof_page
        section = pfn >> self.pfn_section_shift if self.kind.sparse else 0
        return set_page_links(self.layout, 0, piece.nid, section)

    @property
    def pfn_section_shift(self) -> int:
        """A section is 2**this page frames."""
        config = self.machine.config
        return config.max_physmem_bits(self.machine.levels) - self.layout.sections_shift - PAGE_SHIFT
