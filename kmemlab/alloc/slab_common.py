"""The front of both object allocators: caches by name, and the contract between this front and an engine.

    kmem_cache_create, kmem_cache_alloc, kmalloc, …            this front (mm/slab_common.c, mm/slab.h)
              │  cache.engine: chosen at power-on
      ┌───────┴────────┐
    SLUB             SLAB                                      an engine (mm/slub.c or mm/slab.c)
      └───────┬────────┘
    alloc_pages_inner, free_pages_inner                        the page allocator

Addresses of objects are virtual ones of the direct map. All structs exist before boot: a machine has a fixed pool of
`NR_CACHES` cache slots, and a slot whose `object_size` is 0 holds no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from kmemlab.alloc.kmem_cache import (
    SLAB_CONSISTENCY_CHECKS,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_TYPESAFE_BY_RCU,
    KmemCache,
    SlubParams,
)
from kmemlab.alloc.slab_bug import BAD_POINTER, WRONG_CACHE, Oops, SlabBug
from kmemlab.alloc.slab_memory import KernelMemory, memset
from kmemlab.alloc.slab_pages import NR_CACHES, SlabPages, slab_nid
from kmemlab.mm.context import may_sleep, might_sleep
from kmemlab.mm.globals import Mm
from kmemlab.mm.vmstat import NR_SLAB_RECLAIMABLE, NR_SLAB_UNRECLAIMABLE
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead, list_add, list_for_each
from kmemlab.sim.object_log import ObjectLog
from kmemlab.sim.struct import Cell, Struct, U64Cell
from kmemlab.sim.text_log import TextLog
from kmemlab.types import gfp as gfp_bits
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import TooLarge
from kmemlab.types.units import PAGE_SHIFT, U64_MAX

DOWN, PARTIAL, PARTIAL_NODE, UP, FULL = range(5)
"""enum slab_state: how far the allocators have come while the kernel boots."""

GFP_SLAB_BUG_MASK = gfp_bits.__GFP_DMA32 | gfp_bits.__GFP_HIGHMEM

# Where the fields that every request needs stand among the cells of a cache.
NR_HELD, INIT_ON_ALLOC, OBJECT_SIZE = (
    KmemCache.nr_held.index, KmemCache.init_on_alloc.index, KmemCache.object_size.index,
)  # fmt: skip

SLAB_CACHES = 0
"""The head of the list of all caches: the slot that never holds one."""


@kernel("mm/slab.h", "struct slabinfo")
class SlabInfo(NamedTuple):
    """What /proc/slabinfo says of one cache; slabs and objects are counted, not pages."""

    active_objs: int
    num_objs: int
    active_slabs: int
    num_slabs: int
    shared_avail: int
    limit: int
    batchcount: int
    shared: int
    objects_per_slab: int
    cache_order: int


@invented("an engine has nothing to do in some places where the other has", traced=False)
def nothing_to_do(*_: Any) -> None:
    """Do nothing."""


@invented("C links one engine into the kernel; here a machine is built with one")
class SlabEngine(NamedTuple):
    """What an engine offers to the front, by C's names. `cache` is an engine's own subclass of `KmemCache`.

    Before an engine is asked, the front has checked the request, slept where it may (`slab_pre_alloc_hook`) and found
    out which cache an address belongs to; after it, the front clears what has to be cleared (`slab_post_alloc_hook`).
    """

    name: str
    """SLUB or SLAB."""

    kmalloc_shift_low: int
    """kmalloc's smallest objects have 2**this bytes: 3 for SLUB, 5 for SLAB."""

    kmalloc_flags: int
    """ARCH_KMALLOC_FLAGS: SLAB aligns kmalloc's objects to cache lines, SLUB does not."""

    new_caches: Callable[[Any], tuple[Any, ...]]
    """(common) -> NR_CACHES caches, all zero, at power-on; `caches[n].number == n`. State that all caches share (per
    CPU, per node) hangs on them as a struct that the engine makes here."""

    kmem_cache_init: Callable[[Any], None]
    """(common): boot. Make kmem_cache_node and kmem_cache by `create_boot_cache`, then `create_kmalloc_caches`."""

    kmem_cache_create: Callable[[Any, int], bool]
    """__kmem_cache_create(cache, flags): object_size, align, ctor, useroffset, usersize are set. Find the geometry
    (size, flags, the engine's own fields), make what nodes and CPUs need. False: no memory, or no slab can hold one."""

    slab_alloc: Callable[[Any, int, int, int, int], int | None]
    """slab_alloc(cache, gfp, node, caller, orig_size) -> the address of an object, or None. `node` may be NUMA_NO_NODE;
    `orig_size` is what kmalloc was asked for; `caller` is a number of `common.callers`, 0 if unknown."""

    slab_free: Callable[[Any, int, int], bool]
    """slab_free(cache, address, caller): the address lies in a slab of that cache. False: the engine refused it, and
    has reported why (`report_bug`)."""

    kmem_cache_alloc_bulk: Callable[[Any, int, int, int], tuple[int, ...]]
    """(cache, gfp, nr, caller) -> nr addresses, or () if there are not so many."""

    kmem_cache_free_bulk: Callable[[Any, tuple[int, ...], int], int]
    """(cache, addresses, caller) -> how many were taken back; the addresses all lie in slabs of that cache."""

    kmem_cache_shutdown: Callable[[Any], bool]
    """__kmem_cache_shutdown(cache): give all slabs back. True if objects are left: then the cache stays as it is."""

    kmem_cache_release: Callable[[Any], None]
    """__kmem_cache_release(cache): give back what create made for nodes and CPUs."""

    kmem_cache_shrink: Callable[[Any], int]
    """__kmem_cache_shrink(cache): give empty slabs back; 0 if no slab is left."""

    get_slabinfo: Callable[[Any], SlabInfo]
    """get_slabinfo(cache)."""

    slab_ksize: Callable[[Any], int]
    """How many bytes of an object its owner may use."""

    find_object: Callable[[Any, int], int | None]
    """nearest_obj(cache, address): the object that the address lies in; None: it lies in no object (padding)."""

    object_is_free: Callable[[Any, int], bool]
    """Whether an object (an address that find_object gave) is on some freelist. Ours, for errors that teach."""

    call_sites: Callable[[Any, int], str]
    """Who took an object and who gave it back, if the engine keeps that (user tracking); else "". Ours."""

    check_cache: Callable[[Any, tuple[int, ...]], None]
    """(cache, slabs): the laws of one cache, whose pages say that these are its slabs; raises `BrokenLaw`. Ours."""

    kmem_cache_init_late: Callable[[Any], None] = nothing_to_do
    """(common): boot, when interrupts are on."""

    smp_init: Callable[[Any], None] = nothing_to_do
    """(common): boot, when the other CPUs come up, and when timers run (cpucache_init)."""

    run_timers: Callable[[Any], None] = nothing_to_do
    """(common): time has passed; what the engine does from time to time."""

    kmem_cache_alias: Callable[[Any, int], None] = nothing_to_do
    """__kmem_cache_alias(cache, size): the cache is shared by objects of `size` bytes; object_size is set already."""


@invented("C's static variables of mm/slab_common.c are fields here, and what our caches share")
class SlabCommon(Struct):
    """All caches of a machine.

    caches          the slots, by number; slab_caches threads those that exist, newest first
    pages           struct slab
    kmalloc_caches  the numbers of kmalloc's caches: kind * 14 + index
    names, callers  texts that structs name by 1 + their number; ctors: constructors likewise
    users           who asked for which cache: its address and the name
    bugs            what was found wrong so far (`SlabBug`)
    """

    slab_state = Cell()
    kmem_cache = Cell()  # the number of the cache of caches
    kmem_cache_node = Cell()  # the number of the cache of what caches keep for a node
    slab_nomerge = Cell()
    init_on_alloc = Cell()  # objects are cleared when they are given out
    init_on_free = Cell()
    random_state = U64Cell()
    nr_large_pages = Cell()  # pages of kmallocs that no cache is large enough for
    tainted = Cell()  # kernel/panic.c: what went wrong, one bit each

    kmalloc_caches: Column

    def __init__(self, mm: Mm, engine: SlabEngine, hardened: bool = True, random: bool = True) -> None:
        """`hardened` and `random` are CONFIG_SLAB_FREELIST_HARDENED and CONFIG_SLAB_FREELIST_RANDOM: on in Debian."""
        config, cpus = mm.boot.config, mm.boot.spec.cpus
        self.mm = mm
        self.engine = engine
        self.freelist_hardened = hardened
        self.freelist_random = random
        self.params = SlubParams(mm.boot.spec.cmdline, config.sizeof_pointer, cpus.cache_line)
        self.names = TextLog()
        self.callers = TextLog()
        self.users = TextLog()
        self.ctors = ObjectLog()
        self.bugs = ObjectLog()
        self.pages = SlabPages(mm, len(mm.node_data))
        self.slab_caches = ListHead(NR_CACHES)
        self.kmalloc_caches = column("H", 4 * 14)
        self.caches: tuple[KmemCache, ...] = engine.new_caches(self)

    def existing(self) -> Iterator[KmemCache]:
        """C's slab_caches: every cache there is, the newest first."""
        if self.slab_state > DOWN:
            yield from (self.caches[number] for number in list_for_each(self.slab_caches, SLAB_CACHES))

    def users_of(self, cache: KmemCache) -> list[str]:
        """The names under which a cache was asked for."""
        lines = (line.split(" ", 1) for line in self.users.lines())
        return [name for struct, name in lines if int(struct, 16) == cache.address]


INIT_ON_FREE = SlabCommon.init_on_free.index


# -- slots -------------------------------------------------------------------------------------------------------------


@invented("C takes the struct from the cache kmem_cache; ours exist before boot", traced=False)
def new_slot(common: SlabCommon) -> KmemCache:
    """A slot that holds no cache. Raises `TooLarge` when all are taken."""
    for cache in common.caches[1:]:
        if not cache.object_size:
            return cache
    raise TooLarge(
        f"this machine can have {NR_CACHES - 1} caches, and has them",
        where="kmem_cache_create",
        remedy="destroy some caches first",
    )


@invented("list_add(&s->list, &slab_caches)", traced=False)
def enter_cache(cache: KmemCache) -> None:
    """Put a cache on the list of all caches, at its front."""
    common = cache.common
    list_add(common.slab_caches, cache.number, SLAB_CACHES)
    set_init_on_alloc(cache)


# -- what engines use --------------------------------------------------------------------------------------------------


@kernel("drivers/char/random.c", "get_random_u64", left_out="randomness: all machines have the same", traced=False)
def get_random_u64(common: SlabCommon) -> int:
    """The next of a fixed sequence of numbers (splitmix64)."""
    state = (common.random_state + 0x9E3779B97F4A7C15) & U64_MAX
    common.random_state = state
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & U64_MAX
    state = (state ^ state >> 27) * 0x94D049BB133111EB & U64_MAX
    return state ^ state >> 31


@kernel("drivers/char/random.c", "get_random_u32", left_out="randomness", traced=False)
def get_random_u32(common: SlabCommon) -> int:
    """The upper half of the next number."""
    return get_random_u64(common) >> 32


@kernel("mm/slab.h", "account_slab", left_out="the charge to control groups", traced=False)
def account_slab(cache: KmemCache, slab: int, order: int, sign: int) -> None:
    """Count the pages of a slab that comes (`sign` 1) or goes (-1): nr_slab_reclaimable or nr_slab_unreclaimable."""
    item = NR_SLAB_RECLAIMABLE if cache.flags & SLAB_RECLAIM_ACCOUNT else NR_SLAB_UNRECLAIMABLE
    common = cache.common
    common.mm.node_data[slab_nid(common.pages, slab)].vm_stat[item] += sign << order
    if sign < 0:
        common.mm.current.reclaimed_slab += 1 << order


@kernel("mm/slab_common.c", "kmalloc_fix_flags", left_out="the flags by name; the stack")
def kmalloc_fix_flags(common: SlabCommon, gfp: int) -> int:
    """Objects must lie in the direct map and where every device of 64 bits reaches: other zones are struck out."""
    wrong = gfp & GFP_SLAB_BUG_MASK
    if wrong:
        gfp &= ~GFP_SLAB_BUG_MASK
        common.mm.boot.printk.info(f"Unexpected gfp: {wrong:#x}. Fixing up to gfp: {gfp:#x}. Fix your code!")
    return gfp


@invented("a call of cache->ctor", traced=False)
def construct(cache: KmemCache, address: int) -> None:
    """Let the cache's constructor fill an object of a new slab."""
    cache.common.ctors[cache.ctor - 1](KernelMemory(cache.pages), address)


@invented("C's callers are return addresses, resolved with the kernel's symbol table", traced=False)
def caller_text(common: SlabCommon, caller: int) -> str:
    """Who called, by the number that a command gave it."""
    return common.callers.line(caller - 1) if 0 < caller <= common.callers.count else "?"


@invented("errors that teach", traced=False)
def report_bug(cache: KmemCache, kind: str, what: str, address: int, sites: str = "") -> None:
    """Keep what went wrong, for the error that the command will raise. The kernel itself has said its words before."""
    cache.common.bugs.add(SlabBug(kind, what, cache.name, address, sites))


# -- objects -----------------------------------------------------------------------------------------------------------


@kernel("mm/slab.h", "slab_want_init_on_alloc", traced=False)
def set_init_on_alloc(cache: KmemCache) -> None:
    """Whether objects of this cache are cleared when they are given out, asked for or not: worked out once.

    Not where a constructor has filled them, or where their old contents are still read or watched.
    """
    keeps = cache.ctor or cache.flags & (SLAB_TYPESAFE_BY_RCU | SLAB_POISON)
    cache.init_on_alloc = int(bool(cache.common.init_on_alloc and not keeps))


@kernel("mm/slub.c", "__kmem_cache_alloc_node", left_out="control groups, fault injection, KASAN, kmemleak")
def kmem_cache_alloc_node(cache: KmemCache, gfp: int, node: int, caller: int, orig_size: int) -> int | None:
    """Take an object, sleeping where that is allowed; its address, or None if there is no memory."""
    if gfp & gfp_bits.__GFP_DIRECT_RECLAIM and not may_sleep(cache.current):
        might_sleep(cache.current, "include/linux/sched/mm.h:274")
    try:
        address = cache.engine.slab_alloc(cache, gfp, node, caller, orig_size)
    except Oops:
        return None
    if address is None:
        return None
    cells = cache.cells
    cells[NR_HELD] += 1
    if cells[INIT_ON_ALLOC] or gfp & gfp_bits.__GFP_ZERO:
        memset(cache.pages, address, 0, cells[OBJECT_SIZE])
    return address


@kernel("mm/slub.c", "kmem_cache_alloc")
def kmem_cache_alloc(cache: KmemCache, gfp: int, caller: int = 0) -> int | None:
    """Take an object of a cache; its address, or None if there is no memory."""
    return kmem_cache_alloc_node(cache, gfp, NUMA_NO_NODE, caller, cache.cells[OBJECT_SIZE])


@kernel("mm/slab.h", "cache_from_obj")
def cache_from_obj(cache: KmemCache, address: int) -> KmemCache | None:
    """The cache that an object is of, whatever cache the caller says; None if it lies in no slab.

    Only a hardened kernel, or one that checks, finds out that the caller is wrong.
    """
    pages = cache.pages
    pfn = address - pages.page_offset >> PAGE_SHIFT
    number = pages.slab_cache[pfn] if 0 <= pfn < pages.max_pfn else 0
    if number == cache.number:
        return cache
    common = cache.common
    if not number:
        common.mm.boot.printk.info("virt_to_cache: Object is not a Slab page!")
        report_bug(cache, BAD_POINTER, f"{address:#x} lies in no slab: it is no object, or its slab is gone", address)
        return None
    if not (common.freelist_hardened or cache.flags & SLAB_CONSISTENCY_CHECKS):
        return cache
    found = common.caches[number]
    common.mm.boot.printk.info(f"cache_from_obj: Wrong slab cache. {cache.name} but object is from {found.name}")
    sites = found.engine.call_sites(found, address)
    what = f"object {address:#x} of {found.name} was given back to {cache.name}"
    report_bug(found, WRONG_CACHE, what, address, sites)
    return found


@kernel("mm/slub.c", "kmem_cache_free")
def kmem_cache_free(cache: KmemCache, address: int, caller: int = 0) -> None:
    """Give an object back to its cache."""
    found = cache_from_obj(cache, address)
    if found is not None:
        give_back(found, address, caller)


@kernel("mm/slub.c", "__kmem_cache_free", left_out="control groups, KASAN, kmemleak")
def give_back(cache: KmemCache, address: int, caller: int) -> None:
    """Give back an object that is of this cache."""
    if cache.common.cells[INIT_ON_FREE]:
        clear_on_free(cache, address)
    try:
        if cache.engine.slab_free(cache, address, caller):
            cache.cells[NR_HELD] -= 1
    except Oops:
        pass  # the task is dead, the object where it was


@kernel("mm/slab.h", "slab_want_init_on_free", traced=False)
def clear_on_free(cache: KmemCache, address: int) -> None:
    """init_on_free=1: what an object held is gone with the free, not only with the next request."""
    if not (cache.ctor or cache.flags & (SLAB_TYPESAFE_BY_RCU | SLAB_POISON)):
        memset(cache.pages, address, 0, cache.object_size)


# -- many at a time ----------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "kmem_cache_alloc_bulk")
def kmem_cache_alloc_bulk(cache: KmemCache, gfp: int, count: int, caller: int = 0) -> tuple[int, ...]:
    """Take `count` objects at once; none of them if there are not so many."""
    if gfp & gfp_bits.__GFP_DIRECT_RECLAIM:
        might_sleep(cache.common.mm.current, "include/linux/sched/mm.h:274")
    try:
        objects: tuple[int, ...] = cache.engine.kmem_cache_alloc_bulk(cache, gfp, count, caller)
    except Oops:
        return ()
    cache.nr_held += len(objects)
    if cache.init_on_alloc or gfp & gfp_bits.__GFP_ZERO:
        for address in objects:
            memset(cache.pages, address, 0, cache.object_size)
    return objects


@kernel("mm/slub.c", "kmem_cache_free_bulk")
def kmem_cache_free_bulk(cache: KmemCache, objects: tuple[int, ...], caller: int = 0) -> None:
    """Give objects back at once; objects of other caches go to those."""
    own = []
    for address in objects:
        found = cache_from_obj(cache, address)
        if found is cache:
            own.append(address)
        elif found is not None:
            give_back(found, address, caller)
    if own:
        if cache.common.init_on_free:
            for address in own:
                clear_on_free(cache, address)
        with suppress(Oops):
            cache.nr_held -= cache.engine.kmem_cache_free_bulk(cache, tuple(own), caller)
