"""kmap: an address for a while, for pages of HighMem, which have none of their own (i386).

pkmap slot        0      1      2      3      …   LAST_PKMAP - 1        512 with PAE, 1024 without: one page table
pkmap_count       0      2      1      3                0
                  │      │      │      └ mapped, two users
                  │      │      └ no user, but still mapped: the TLB may know it, so the slot can't be used again yet
                  │      └ mapped, one user
                  └ free: no entry in the page table, none in the TLB

last_pkmap_nr goes round; only when it comes back to 0 are the slots with count 1 unmapped, all with one TLB flush.
"""

from __future__ import annotations

from collections import Counter

from kmemlab.alloc.page_address import PageAddresses, page_address, page_highmem, pkmap_addr, set_page_address
from kmemlab.alloc.wait_queue import WaitQueueHead, add_wait_queue, finish_wait, waitqueue_active, wake_up
from kmemlab.boot.layout_32 import pkmap_base
from kmemlab.boot.pgtable import entry_none, entry_of, get_entry, set_entry
from kmemlab.boot.swapper_pg_dir import page_kernel
from kmemlab.boot.tlbflush import flush_tlb_kernel_range
from kmemlab.mm.context import might_sleep, task_comm
from kmemlab.mm.globals import Mm
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import BadRequest, MustWait
from kmemlab.types.pgtable import PTE
from kmemlab.types.units import PAGE_SHIFT


@invented("C has these as variables of mm/highmem.c")
class Pkmap(Struct):
    """The slots of kmap; on machines without HighMem there are none. `owner` is ours: who mapped a slot first."""

    last_pkmap_nr = Cell()

    pkmap_count: Column
    owner: Column

    def __init__(self, addresses: PageAddresses) -> None:
        self.addresses = addresses
        self.mm = addresses.mm
        self.last_pkmap = addresses.maps
        self.pkmap_count = column("i", self.last_pkmap)
        self.owner = column("q", self.last_pkmap)
        self.pkmap_map_wait = WaitQueueHead()


@kernel("arch/x86/include/asm/highmem.h", "PKMAP_NR", traced=False)
def pkmap_nr(mm: Mm, vaddr: int) -> int:
    """The slot that has an address."""
    return (vaddr - pkmap_base(mm.boot)) >> PAGE_SHIFT


@kernel("include/linux/highmem.h", "pkmap_page_table", traced=False)
def pkmap_entry(mm: Mm, nr: int) -> int:
    """Where in RAM the page-table entry of a slot stands."""
    return entry_of(mm.boot.swapper_pg_dir, PTE, pkmap_addr(mm, nr))


@kernel("include/linux/highmem-internal.h", "kmap")
def kmap(pkmap: Pkmap, pfn: int) -> int:
    """The address of a page: a page of low memory has one; one of HighMem gets a slot, and may have to wait for it.

    Raises `MustWait` when all slots are in use, `BadRequest` from an interrupt handler.
    """
    may_wait(pkmap, "kmap", "kmap_atomic, or kmap_local_page")
    if not page_highmem(pkmap.mm, pfn):
        return page_address(pkmap.addresses, pfn)
    return kmap_high(pkmap, pfn)


@kernel("include/linux/highmem-internal.h", "kunmap")
def kunmap(pkmap: Pkmap, pfn: int) -> tuple[int, ...]:
    """One user less of a page that `kmap` mapped; returns the tasks that this wakes.

    Raises `BadRequest` for a page that is not mapped.
    """
    may_wait(pkmap, "kunmap", "kunmap_atomic, or kunmap_local")
    return kunmap_high(pkmap, pfn) if page_highmem(pkmap.mm, pfn) else ()


@invented("6.1 only reports it, and may then hang on kmap_lock; up to 2.6 an interrupt handler met a BUG() here")
def may_wait(pkmap: Pkmap, function: str, instead: str) -> None:
    """Report a caller that must not sleep; one in an interrupt handler is refused."""
    current = pkmap.mm.current
    might_sleep(current, "include/linux/highmem-internal.h")
    if current.hardirq_count:
        raise BadRequest(
            f"kernel BUG: {function} may sleep, and an interrupt handler can't",
            where=function,
            remedy=f"use {instead}: its slots belong to the CPU, so it never waits",
        )


@kernel("mm/highmem.c", "kmap_high", lock="kmap_lock")
def kmap_high(pkmap: Pkmap, pfn: int) -> int:
    """Count one user more of a page of HighMem, which gets a slot if it has none."""
    finish_wait(pkmap.pkmap_map_wait, pkmap.mm.current.pid)
    vaddr = page_address(pkmap.addresses, pfn) or map_new_virtual(pkmap, pfn)
    nr = pkmap_nr(pkmap.mm, vaddr)
    pkmap.pkmap_count[nr] += 1
    assert pkmap.pkmap_count[nr] >= 2
    return vaddr


@kernel("mm/highmem.c", "kmap_high_get", left_out="x86 never calls it: for caches that know virtual addresses")
def kmap_high_get(pkmap: Pkmap, pfn: int) -> int | None:
    """One user more of a page that is mapped already, without ever waiting; None if it is not."""
    vaddr = page_address(pkmap.addresses, pfn)
    if vaddr:
        pkmap.pkmap_count[pkmap_nr(pkmap.mm, vaddr)] += 1
    return vaddr or None


@kernel("mm/highmem.c", "get_next_pkmap_nr", traced=False)
def get_next_pkmap_nr(pkmap: Pkmap) -> int:
    """The next slot in the round."""
    pkmap.last_pkmap_nr = pkmap.last_pkmap_nr + 1 & pkmap.last_pkmap - 1
    return pkmap.last_pkmap_nr


@kernel("mm/highmem.c", "map_new_virtual", left_out="colours of slots, for caches that need them", lock="kmap_lock")
def map_new_virtual(pkmap: Pkmap, pfn: int) -> int:
    """Take the next free slot in the round for a page. Raises `MustWait` after a whole round without one."""
    mm, tries = pkmap.mm, pkmap.last_pkmap
    while True:
        nr = get_next_pkmap_nr(pkmap)
        if nr == 0:
            flush_all_zero_pkmaps(pkmap)
            tries = pkmap.last_pkmap
        if not pkmap.pkmap_count[nr]:
            break
        tries -= 1
        if not tries:
            wait_for_slot(pkmap)
    vaddr = pkmap_addr(mm, nr)
    set_entry(mm.boot.swapper_pg_dir, pkmap_entry(mm, nr), pfn << PAGE_SHIFT | page_kernel(mm.boot))
    pkmap.pkmap_count[nr] = 1
    pkmap.owner[nr] = mm.current.pid
    set_page_address(pkmap.addresses, pfn, nr)
    return vaddr


@invented("C sleeps here: TASK_UNINTERRUPTIBLE, schedule()")
def wait_for_slot(pkmap: Pkmap) -> None:
    """Put the task in the row of those who wait for a slot. Raises `MustWait`, which says who has the slots."""
    current = pkmap.mm.current
    add_wait_queue(pkmap.pkmap_map_wait, current.pid)
    holders = Counter(pkmap.owner[nr] for nr in range(pkmap.last_pkmap) if pkmap.pkmap_count[nr] > 1)
    who = ", ".join(f"{slots} by pid {pid}" for pid, slots in holders.most_common(4))
    raise MustWait(
        f"all {pkmap.last_pkmap} slots of kmap are in use ({who}): {task_comm(current)} (pid {current.pid}) sleeps",
        where="map_new_virtual",
        remedy="call kunmap for a page that is no longer needed, then ask again",
    )


@kernel("mm/highmem.c", "flush_all_zero_pkmaps", lock="kmap_lock")
def flush_all_zero_pkmaps(pkmap: Pkmap) -> None:
    """Unmap all slots that nobody uses, and make the TLB forget the whole area: they are free then."""
    mm = pkmap.mm
    need_flush = False
    for nr in range(pkmap.last_pkmap):
        if pkmap.pkmap_count[nr] != 1:
            continue
        pkmap.pkmap_count[nr] = 0
        entryp = pkmap_entry(mm, nr)
        assert not entry_none(mm.boot.swapper_pg_dir, entryp)
        set_page_address(pkmap.addresses, pkmap_pfn(mm, nr), None)
        set_entry(mm.boot.swapper_pg_dir, entryp, 0)
        need_flush = True
    if need_flush:
        flush_tlb_kernel_range(mm.boot.mmu, pkmap_addr(mm, 0), pkmap_addr(mm, pkmap.last_pkmap))


@kernel("mm/highmem.c", "__kmap_flush_unused", lock="kmap_lock")
def kmap_flush_unused(pkmap: Pkmap) -> None:
    """Unmap what nobody uses, now and not at the end of the round: for those who change how pages are cached."""
    if pkmap.last_pkmap:
        flush_all_zero_pkmaps(pkmap)


@invented("pte_page(pkmap_page_table[nr])", traced=False)
def pkmap_pfn(mm: Mm, nr: int) -> int:
    """The page frame that a slot's entry names."""
    tables = mm.boot.swapper_pg_dir
    return (get_entry(tables, pkmap_entry(mm, nr)) & tables.layout.address_mask) >> PAGE_SHIFT


@kernel("mm/highmem.c", "kunmap_high", lock="kmap_lock")
def kunmap_high(pkmap: Pkmap, pfn: int) -> tuple[int, ...]:
    """One user less. The last one leaves the page mapped until the round is over; a slot's count never falls to 0 here.

    Raises `BadRequest` where C has `BUG_ON`: nobody uses this page by kmap.
    """
    vaddr = page_address(pkmap.addresses, pfn)
    nr = pkmap_nr(pkmap.mm, vaddr) if vaddr else 0
    if not vaddr or pkmap.pkmap_count[nr] < 2:
        raise BadRequest(
            f"kernel BUG at mm/highmem.c:{368 if vaddr else 358}! pfn {pfn} is "
            + ("mapped, but nobody uses it any more: it was unmapped already" if vaddr else "not mapped by kmap"),
            where="kunmap_high",
            remedy="call kunmap once for each kmap, with the page (not with its address)",
        )
    pkmap.pkmap_count[nr] -= 1
    if pkmap.pkmap_count[nr] == 1 and waitqueue_active(pkmap.pkmap_map_wait):
        return wake_up(pkmap.pkmap_map_wait)
    return ()
