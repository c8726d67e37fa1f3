"""The laws of kmap: slots, page tables, the hash table and the TLB tell the same story."""

from __future__ import annotations

from typing import NoReturn

from kmemlab.alloc.highmem import Pkmap, pkmap_entry
from kmemlab.alloc.kmap_local import KM_MAX_IDX, MOST_TASKS, KmapCtrl, kmap_get_pte, kmap_local_addr, row_of
from kmemlab.alloc.page_address import PA_HASH_ORDER, page_highmem, page_slot, pkmap_addr
from kmemlab.boot.layout_32 import FIX_KMAP_BEGIN, FIX_KMAP_END, fix_to_virt
from kmemlab.boot.pgtable import get_entry
from kmemlab.boot.swapper_pg_dir import page_kernel
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import list_for_each
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY
from kmemlab.types.units import PAGE_SHIFT

TOUCHED = PAGE_ACCESSED | PAGE_DIRTY  # the CPU sets these


@invented("a law is code beside the structure it speaks of", traced=False)
def check_pkmap(pkmap: Pkmap) -> None:
    """A slot with a count has an entry, a page of HighMem that no other slot has, and its place in the hash table;
    a slot without has none of it, and the TLB knows nothing that the tables don't say.

    Raises `BrokenLaw` that names the law and the slot.
    """
    mm, addresses = pkmap.mm, pkmap.addresses
    if not pkmap.last_pkmap:
        return
    hashed: dict[int, int] = {}
    for bucket in range(1 << PA_HASH_ORDER):
        for nr in list_for_each(addresses.list, addresses.maps + bucket):
            hashed[nr] = addresses.maps + bucket
    shown: dict[int, int] = {}
    for nr in range(pkmap.last_pkmap):
        count, entry = pkmap.pkmap_count[nr], get_entry(mm.boot.swapper_pg_dir, pkmap_entry(mm, nr))
        if count < 0:
            _broken(f"slot {nr} of kmap has {count} users")
        if count == 0:
            if entry or nr in hashed:
                _broken(f"slot {nr} of kmap is free, but {'its entry is ' + hex(entry) if entry else 'it is hashed'}")
            continue
        pfn = addresses.pfn[nr]
        if entry & ~TOUCHED != (pfn << PAGE_SHIFT | page_kernel(mm.boot)) & ~TOUCHED:
            _broken(f"slot {nr} of kmap shows pfn {pfn}, but its entry is {entry:#x}")
        if not page_highmem(mm, pfn):
            _broken(f"slot {nr} of kmap shows pfn {pfn}, which has an address of its own")
        if pfn in shown:
            _broken(f"slots {shown[pfn]} and {nr} of kmap both show pfn {pfn}")
        if hashed.get(nr) != page_slot(addresses, pfn):
            _broken(f"slot {nr} of kmap is not in the bucket of its page, pfn {pfn}")
        shown[pfn] = nr
    if pkmap.pkmap_map_wait.count and any(pkmap.pkmap_count[nr] < 2 for nr in range(pkmap.last_pkmap)):
        _broken("tasks wait for a slot of kmap, though one has no user")
    _check_tlb(pkmap, pkmap_addr(mm, 0), pkmap_addr(mm, pkmap.last_pkmap))


@invented("a law is code beside the structure it speaks of", traced=False)
def check_kmap_local(ctrl: KmapCtrl) -> None:
    """In the fixmap there is exactly what the running task has mapped, and the TLB knows nothing else of it.

    Raises `BrokenLaw`.
    """
    mm = ctrl.mm
    if not mm.boot.config.highmem:
        return
    expected: dict[int, int] = {}
    for row in range(MOST_TASKS):
        if not 0 <= ctrl.idx[row] < KM_MAX_IDX:
            _broken(f"pid {ctrl.pid[row]} has {ctrl.idx[row]} pages mapped")
        entries = ctrl.pteval[KM_MAX_IDX * row : KM_MAX_IDX * (row + 1)]
        if [bool(entry) for entry in entries] != [idx < ctrl.idx[row] for idx in range(KM_MAX_IDX)]:
            _broken(f"pid {ctrl.pid[row]} has {ctrl.idx[row]} pages mapped, but {sum(map(bool, entries))} entries")
    row_now = row_of(ctrl, mm.current.pid)
    if row_now is not None:
        for idx in range(ctrl.idx[row_now]):
            expected[kmap_local_addr(idx, ctrl.cpu[row_now])] = ctrl.pteval[KM_MAX_IDX * row_now + idx]
        if ctrl.cpu[row_now] != mm.current.cpu:
            _broken(f"pid {mm.current.pid} runs on CPU {mm.current.cpu}, but its slots are CPU {ctrl.cpu[row_now]}'s")
    for slot in range(FIX_KMAP_BEGIN, FIX_KMAP_END + 1):
        vaddr = fix_to_virt(slot)
        entry = get_entry(mm.boot.swapper_pg_dir, kmap_get_pte(mm, vaddr))
        if entry & ~TOUCHED != expected.get(vaddr, 0) & ~TOUCHED:
            _broken(f"the slot at {vaddr:#x} has the entry {entry:#x}, the task that runs {expected.get(vaddr, 0):#x}")
    _check_tlb(ctrl, fix_to_virt(FIX_KMAP_END), fix_to_virt(FIX_KMAP_BEGIN) + 1)


def _check_tlb(owner: Pkmap | KmapCtrl, start: int, end: int) -> None:
    for stale in owner.mm.boot.mmu.stale():
        if start <= stale.address < end:
            _broken(f"the TLB still shows frame {stale.frame >> PAGE_SHIFT:#x} at {stale.address:#x}")


def _broken(law: str) -> NoReturn:
    raise BrokenLaw(law, where="kmap")
