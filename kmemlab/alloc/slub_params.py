"""What the command line says to SLUB: slub_min_order=, slub_max_order=, slub_min_objects=, slub_debug."""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.alloc.kmem_cache import (
    DEBUG_DEFAULT_FLAGS,
    SLAB_CONSISTENCY_CHECKS,
    SLAB_FAILSLAB,
    SLAB_NOLEAKTRACE,
    SLAB_POISON,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TRACE,
    SlubParams,
)
from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.printk import Printk
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.per_cpu_pages import PAGE_ALLOC_COSTLY_ORDER
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import simple_strtoull

DEBUG_LETTERS = {
    "f": SLAB_CONSISTENCY_CHECKS,
    "z": SLAB_RED_ZONE,
    "p": SLAB_POISON,
    "u": SLAB_STORE_USER,
    "t": SLAB_TRACE,
    "a": SLAB_FAILSLAB,
    "o": 0,
}


@invented("C calls one function for each parameter")
def parse_slub_params(params: SlubParams, printk: Printk) -> None:
    """Hear all parameters of SLUB, in the order of the command line."""
    params.slub_max_order = PAGE_ALLOC_COSTLY_ORDER
    for name, value in next_arg(params.cmdline):
        if name == "--":
            break
        if parameq(name, "slub_debug"):
            setup_slub_debug(params, printk, value)
        elif value is not None and parameq(name, "slub_min_order"):
            params.slub_min_order = get_option(value)
        elif value is not None and parameq(name, "slub_max_order"):
            params.slub_max_order = min(get_option(value), MAX_ORDER - 1)
        elif value is not None and parameq(name, "slub_min_objects"):
            params.slub_min_objects = get_option(value)


@kernel("lib/cmdline.c", "get_option", left_out="lists and ranges", traced=False)
def get_option(text: str) -> int:
    """The number that a text begins with, in C's unsigned 32 bits; 0 if it begins with none.

    >>> get_option("16"), get_option("0x10,3"), get_option("many"), get_option("-1")
    (16, 16, 0, 4294967295)
    """
    number, _ = simple_strtoull(text.removeprefix("-"))
    return (-number if text.startswith("-") else number) & 0xFFFFFFFF


@kernel("mm/slub.c", "setup_slub_debug")
def setup_slub_debug(params: SlubParams, printk: Printk, value: str | None) -> None:
    """slub_debug, slub_debug=FZPU, slub_debug=FZ,dentry;P,kmalloc-*: what is checked, everywhere or in some caches.

    Flags followed by names leave all other caches as they were.
    """
    if not value:
        params.slub_debug = DEBUG_DEFAULT_FLAGS
        return
    blocks = list(parse_slub_debug_flags(value))
    everywhere = [flags for flags, names in blocks if names is None]
    if everywhere:
        params.slub_debug = everywhere[-1]
    for block in value.split(";"):
        letters = block.partition(",")[0]
        for letter in letters.replace("-", ""):
            if letter.lower() not in DEBUG_LETTERS:
                printk.info(f"slub_debug option '{letter}' unknown. skipped")
        if "o" in letters.lower():
            params.disable_higher_order_debug = 1


@kernel("mm/slub.c", "parse_slub_debug_flags", traced=False)
def parse_slub_debug_flags(text: str) -> Iterator[tuple[int, tuple[str, ...] | None]]:
    """Each block of slub_debug= as (flags, names of caches, or None for all).

    >>> list(parse_slub_debug_flags("Z,dentry,kmalloc-*;-")) == [(SLAB_RED_ZONE, ("dentry", "kmalloc-*")), (0, None)]
    True
    """
    for block in text.split(";"):
        if not block:
            continue
        letters, comma, names = block.partition(",")
        flags = 0
        for letter in letters.lower():
            flags = 0 if letter == "-" else flags | DEBUG_LETTERS.get(letter, 0)
        if comma and not letters:
            flags = DEBUG_DEFAULT_FLAGS
        yield flags, tuple(names.split(",")) if comma else None


@kernel("mm/slub.c", "kmem_cache_flags")
def kmem_cache_flags(params: SlubParams, flags: int, name: str) -> int:
    """The flags of a cache, with those that slub_debug adds to it by name, or to all."""
    for block_flags, names in parse_slub_debug_flags(slub_debug_string(params.cmdline)):
        if names and any(cache_matches(name, pattern) for pattern in names):
            return flags | block_flags
    return flags | params.slub_debug & ~(SLAB_STORE_USER if flags & SLAB_NOLEAKTRACE else 0)


@invented("a static variable of mm/slub.c", traced=False)
def slub_debug_string(cmdline: str) -> str:
    """The last slub_debug= that names caches."""
    values = [value for name, value in next_arg(cmdline) if parameq(name, "slub_debug") and value]
    return next((value for value in reversed(values) if "," in value), "")


@invented("a loop within kmem_cache_flags", traced=False)
def cache_matches(name: str, pattern: str) -> bool:
    """Whether slub_debug's pattern means a cache: its whole name, or what stands before a star.

    >>> cache_matches("kmalloc-64", "kmalloc-*"), cache_matches("kmalloc-64", "kmalloc")
    (True, False)
    """
    prefix, star, _ = pattern.partition("*")
    return name.startswith(prefix) if star else name == pattern
