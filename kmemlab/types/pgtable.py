"""Page tables: how an address is cut into indices, and what the bits of an entry mean, in all four modes.

            63 ── 57 56 ── 48 47 ── 39 38 ── 30 29 ── 21 20 ── 12 11 ── 0
LA57         copies │  pgd   │  p4d   │  pud   │  pmd   │  pte   │ offset       512 entries of 8 bytes each
4 levels     copies of 47    │  pgd   │  pud   │  pmd   │  pte   │ offset       the same
PAE                                 31-30 pgd │  pmd   │  pte   │ offset       4, 512, 512 entries of 8 bytes
2 levels                                      31-22 pgd │21-12 pte│ offset     1024 entries of 4 bytes

The kernel's code always walks five levels, pgd → p4d → pud → pmd → pte. Where the hardware has fewer, a level is
*folded*: its table has one entry, which is the entry of the level above itself, so that the step does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kmemlab.types.units import GIB, KIB, MIB, PAGE_SHIFT

# Bits of an entry. Those from 9 to 11 and 58 are the kernel's own: the hardware does not look at them.
PAGE_PRESENT = 1 << 0
PAGE_RW = 1 << 1
PAGE_USER = 1 << 2
PAGE_PWT = 1 << 3
PAGE_PCD = 1 << 4
PAGE_ACCESSED = 1 << 5
PAGE_DIRTY = 1 << 6
PAGE_PSE = 1 << 7  # the entry maps a large page
PAGE_PAT = 1 << 7  # the same bit in an entry of 4 KiB
PAGE_GLOBAL = 1 << 8
PAGE_SPECIAL = 1 << 9
PAGE_UFFD_WP = 1 << 10
PAGE_SOFT_DIRTY = 1 << 11
PAGE_PAT_LARGE = 1 << 12
PAGE_DEVMAP = 1 << 58
PAGE_PKEY = 0xF << 59
PAGE_NX = 1 << 63

KERNPG_TABLE = PAGE_PRESENT | PAGE_RW | PAGE_ACCESSED | PAGE_DIRTY  # _KERNPG_TABLE: an entry that names a table
PAGE_TABLE = KERNPG_TABLE | PAGE_USER  # _PAGE_TABLE: the same for a table that user space may pass
PAGE_KERNEL_EXEC = PAGE_PRESENT | PAGE_RW | PAGE_ACCESSED | PAGE_DIRTY | PAGE_GLOBAL
PAGE_KERNEL = PAGE_KERNEL_EXEC | PAGE_NX
PAGE_KERNEL_LARGE_EXEC = PAGE_KERNEL_EXEC | PAGE_PSE
PAGE_KERNEL_LARGE = PAGE_KERNEL | PAGE_PSE

PAGE_OFFSET_L5 = 0xFF11000000000000
"""Where the direct map starts with five levels; with fewer the kernel's configuration says it."""

PGD, P4D, PUD, PMD, PTE = range(5)
"""The five levels that the kernel walks, from the top."""

BIT_NAMES = (
    (PAGE_PRESENT, "P"), (PAGE_RW, "RW"), (PAGE_USER, "US"), (PAGE_PWT, "PWT"), (PAGE_PCD, "PCD"),
    (PAGE_ACCESSED, "A"), (PAGE_DIRTY, "D"), (PAGE_PSE, "PSE"), (PAGE_GLOBAL, "G"), (PAGE_NX, "NX"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Level:
    """One level: the lowest address bit of its index, and how many entries a table has; one entry if it is folded."""

    name: str
    shift: int
    entries: int
    large: bool = False  # an entry may map a page of 2**shift bytes instead of naming a table
    folded: bool = field(init=False)  # the entry of the level above stands for the whole table
    size: int = field(init=False)  # bytes of address space that one entry covers

    def __post_init__(self) -> None:
        # Each step of each walk asks for these.
        object.__setattr__(self, "folded", self.entries == 1)
        object.__setattr__(self, "size", 1 << self.shift)


@dataclass(frozen=True, slots=True)
class PgtableLayout:
    """How one mode of paging cuts an address; `levels` are always five, from pgd to pte.

    >>> LAYOUTS[4].indices(0xFFFF888000000000)
    (273, 0, 0, 0, 0)
    >>> LAYOUTS[2].pgd_index(0xC0000000), LAYOUTS[3].pgd_index(0xC0000000)
    (768, 3)
    """

    name: str
    entry_size: int  # bytes
    virt_bits: int  # how many bits of an address are translated; above them, on 64 bit, only copies of the highest
    phys_bits: int  # how many bits an entry has for an address, offset included
    levels: tuple[Level, Level, Level, Level, Level]
    address_mask: int = field(init=False)  # the bits of an entry that hold an address

    def __post_init__(self) -> None:
        object.__setattr__(self, "address_mask", (1 << self.phys_bits) - (1 << PAGE_SHIFT))

    def index(self, level: int, address: int) -> int:
        """Which entry of its table at `level` an address goes through."""
        this = self.levels[level]
        return address >> this.shift & this.entries - 1

    def indices(self, address: int) -> tuple[int, ...]:
        """The index at each of the five levels."""
        return tuple(self.index(level, address) for level in range(5))

    def pgd_index(self, address: int) -> int:
        """The index into the top table."""
        return self.index(PGD, address)

    def p4d_index(self, address: int) -> int:
        """The index into the second table; 0 where it is folded."""
        return self.index(P4D, address)

    def page_mask(self, level: int) -> int:
        """The bits of a large entry at `level` that hold the address of its page.

        >>> hex(LAYOUTS[4].page_mask(PMD))
        '0xfffffffe00000'
        """
        return (1 << self.phys_bits) - self.levels[level].size

    def is_leaf(self, level: int, entry: int) -> bool:
        """Whether a present entry maps a page, rather than naming a table.

        The bit that says so is not asked where no large page exists: there it is another bit, or reserved.
        """
        return level == PTE or (self.levels[level].large and bool(entry & PAGE_PSE))

    def canonical(self, address: int) -> bool:
        """Whether an address can be translated at all: the bits that are not translated copy the highest one that is.

        >>> LAYOUTS[4].canonical(0x00007FFFFFFFF000), LAYOUTS[4].canonical(0x0000800000000000)
        (True, False)
        """
        above = address >> self.virt_bits - 1
        if self.virt_bits == 32:
            return above >> 1 == 0
        return above in (0, (1 << 65 - self.virt_bits) - 1)


LAYOUTS = {
    2: PgtableLayout(
        "2-level", 4, 32, 32,
        (Level("pgd", 22, 1024), Level("p4d", 22, 1), Level("pud", 22, 1), Level("pmd", 22, 1, True),
         Level("pte", 12, 1024)),
    ),
    3: PgtableLayout(
        "PAE", 8, 32, 52,
        (Level("pgd", 30, 4), Level("p4d", 30, 1), Level("pud", 30, 1), Level("pmd", 21, 512, True),
         Level("pte", 12, 512)),
    ),
    4: PgtableLayout(
        "4-level", 8, 48, 52,
        (Level("pgd", 39, 512), Level("p4d", 39, 1), Level("pud", 30, 512, True), Level("pmd", 21, 512, True),
         Level("pte", 12, 512)),
    ),
    5: PgtableLayout(
        "5-level", 8, 57, 52,
        (Level("pgd", 48, 512), Level("p4d", 39, 512), Level("pud", 30, 512, True), Level("pmd", 21, 512, True),
         Level("pte", 12, 512)),
    ),
}  # fmt: skip
"""The four modes, by the number of levels that the hardware walks."""


def entry_text(entry: int, layout: PgtableLayout) -> str:
    """An entry for people: the address in it, and the names of the bits that are set.

    >>> entry_text(0x8000000000200063, LAYOUTS[4])
    '0x200000 P RW A D NX'
    >>> entry_text(0, LAYOUTS[4])
    'not present'
    """
    if not entry & PAGE_PRESENT:
        return "not present"
    names = " ".join(name for bit, name in BIT_NAMES if entry & bit)
    return f"{entry & layout.address_mask:#x} {names}"


def page_size_text(level: int, layout: PgtableLayout) -> str:
    """The size of the pages that a leaf of `level` maps, as the kernel names it: 4k, 2M, 4M, 1G.

    >>> page_size_text(PMD, LAYOUTS[2]), page_size_text(PUD, LAYOUTS[5])
    ('4M', '1G')
    """
    size = layout.levels[level].size
    return {4 * KIB: "4k", 2 * MIB: "2M", 4 * MIB: "4M", GIB: "1G"}[size]
