"""GFP flags: what a caller of the page allocator asks for, bit by bit.

bit   0    1        2      3        4            5     6   7   8     …  10              11
      DMA  HIGHMEM  DMA32  MOVABLE  RECLAIMABLE  HIGH  IO  FS  ZERO     DIRECT_RECLAIM  KSWAPD_RECLAIM
      └──── which zone ───┘         which kind   └ how far it may go to get a page, and whether it may sleep
"""

from __future__ import annotations

from kmemlab.types.errors import BadRequest

__GFP_DMA = 0x01
__GFP_HIGHMEM = 0x02
__GFP_DMA32 = 0x04
__GFP_MOVABLE = 0x08
__GFP_RECLAIMABLE = 0x10
__GFP_HIGH = 0x20
__GFP_IO = 0x40
__GFP_FS = 0x80
__GFP_ZERO = 0x100
__GFP_ATOMIC = 0x200
__GFP_DIRECT_RECLAIM = 0x400
__GFP_KSWAPD_RECLAIM = 0x800
__GFP_WRITE = 0x1000
__GFP_NOWARN = 0x2000
__GFP_RETRY_MAYFAIL = 0x4000
__GFP_NOFAIL = 0x8000
__GFP_NORETRY = 0x10000
__GFP_MEMALLOC = 0x20000
__GFP_COMP = 0x40000
__GFP_NOMEMALLOC = 0x80000
__GFP_HARDWALL = 0x100000
__GFP_THISNODE = 0x200000
__GFP_ACCOUNT = 0x400000
__GFP_ZEROTAGS = 0x800000

__GFP_RECLAIM = __GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM
GFP_ATOMIC = __GFP_HIGH | __GFP_ATOMIC | __GFP_KSWAPD_RECLAIM
GFP_KERNEL = __GFP_RECLAIM | __GFP_IO | __GFP_FS
GFP_KERNEL_ACCOUNT = GFP_KERNEL | __GFP_ACCOUNT
GFP_NOWAIT = __GFP_KSWAPD_RECLAIM
GFP_NOIO = __GFP_RECLAIM
GFP_NOFS = __GFP_RECLAIM | __GFP_IO
GFP_USER = GFP_KERNEL | __GFP_HARDWALL
GFP_DMA = __GFP_DMA
GFP_DMA32 = __GFP_DMA32
GFP_HIGHUSER = GFP_USER | __GFP_HIGHMEM
GFP_HIGHUSER_MOVABLE = GFP_HIGHUSER | __GFP_MOVABLE
GFP_TRANSHUGE_LIGHT = (GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOMEMALLOC | __GFP_NOWARN) & ~__GFP_RECLAIM
GFP_TRANSHUGE = GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM

GFP_ZONEMASK = __GFP_DMA | __GFP_HIGHMEM | __GFP_DMA32 | __GFP_MOVABLE
__GFP_BITS_SHIFT = 24
__GFP_BITS_MASK = (1 << __GFP_BITS_SHIFT) - 1
GFP_BOOT_MASK = __GFP_BITS_MASK & ~(__GFP_RECLAIM | __GFP_IO | __GFP_FS)
"""What a request may ask for early in boot: there is nobody yet who could be waited for."""

# The four zone bits say what is wanted; a configuration without that zone takes Normal.
_WANTED = {
    0: "Normal",
    __GFP_DMA: "DMA",
    __GFP_HIGHMEM: "HighMem",
    __GFP_DMA32: "DMA32",
    __GFP_MOVABLE: "Normal",
    __GFP_MOVABLE | __GFP_DMA: "DMA",
    __GFP_MOVABLE | __GFP_HIGHMEM: "Movable",
    __GFP_MOVABLE | __GFP_DMA32: "DMA32",
}

# mm/internal.h: what the page allocator may hear of a request that comes through another allocator.
GFP_RECLAIM_MASK = (
    __GFP_RECLAIM | __GFP_HIGH | __GFP_IO | __GFP_FS | __GFP_NOWARN | __GFP_RETRY_MAYFAIL | __GFP_NOFAIL
    | __GFP_NORETRY | __GFP_MEMALLOC | __GFP_NOMEMALLOC | __GFP_ATOMIC
)  # fmt: skip
GFP_CONSTRAINT_MASK = __GFP_HARDWALL | __GFP_THISNODE


def gfp_zone_name(gfp: int) -> str:
    """The zone that a request's flags name; a configuration without it takes Normal.

    Raises `BadRequest` for two zones at once, which the kernel treats as a bug of the caller.

    >>> gfp_zone_name(GFP_KERNEL), gfp_zone_name(GFP_HIGHUSER_MOVABLE), gfp_zone_name(GFP_KERNEL | GFP_DMA)
    ('Normal', 'Movable', 'DMA')
    """
    wanted = _WANTED.get(gfp & 0xF)
    if wanted is None:
        raise BadRequest(
            f"gfp {gfp:#x} asks for more than one of DMA, HIGHMEM and DMA32",
            where="gfp_zone",
            remedy="name one zone, or none: the request may always be met from a lower zone",
        )
    return wanted


def gfp_zone_index(zone_names: tuple[str, ...], zone_bits: int) -> int | None:
    """The highest zone that the four zone bits allow, as an index of a configuration's zones; None for two at once.

    >>> gfp_zone_index(("DMA", "Normal", "HighMem", "Movable"), __GFP_DMA32), gfp_zone_index(("DMA",), 3)
    (1, None)
    """
    wanted = _WANTED.get(zone_bits)
    if wanted is None:
        return None
    return zone_names.index(wanted if wanted in zone_names else "Normal")


# Linux names as many bits at once as it can, in this order (%pGg).
_NAMES = (
    "GFP_TRANSHUGE", "GFP_TRANSHUGE_LIGHT", "GFP_HIGHUSER_MOVABLE", "GFP_HIGHUSER", "GFP_USER",
    "GFP_KERNEL_ACCOUNT", "GFP_KERNEL", "GFP_NOFS", "GFP_ATOMIC", "GFP_NOIO", "GFP_NOWAIT", "GFP_DMA",
    "__GFP_HIGHMEM", "GFP_DMA32", "__GFP_HIGH", "__GFP_ATOMIC", "__GFP_IO", "__GFP_FS", "__GFP_NOWARN",
    "__GFP_RETRY_MAYFAIL", "__GFP_NOFAIL", "__GFP_NORETRY", "__GFP_COMP", "__GFP_ZERO", "__GFP_NOMEMALLOC",
    "__GFP_MEMALLOC", "__GFP_HARDWALL", "__GFP_THISNODE", "__GFP_RECLAIMABLE", "__GFP_MOVABLE", "__GFP_ACCOUNT",
    "__GFP_WRITE", "__GFP_RECLAIM", "__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM", "__GFP_ZEROTAGS",
)  # fmt: skip
_NAMED_BITS = tuple((name, globals()[name]) for name in _NAMES)


def gfp_text(gfp: int) -> str:
    """A request's flags as Linux prints them.

    >>> gfp_text(GFP_KERNEL | __GFP_ZERO), gfp_text(0)
    ('GFP_KERNEL|__GFP_ZERO', 'none')
    """
    if not gfp:
        return "none"
    names = []
    for name, bits in _NAMED_BITS:
        if gfp & bits == bits:
            names.append(name)
            gfp &= ~bits
    return "|".join([*names, f"{gfp:#x}"] if gfp else names)


def gfp_migratetype_bits(gfp: int) -> int:
    """The mobility type that a request's flags name: 0 unmovable, 1 movable, 2 reclaimable.

    >>> gfp_migratetype_bits(GFP_KERNEL), gfp_migratetype_bits(GFP_HIGHUSER_MOVABLE)
    (0, 1)
    """
    return (gfp & (__GFP_MOVABLE | __GFP_RECLAIMABLE)) >> 3
