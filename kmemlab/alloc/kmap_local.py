"""kmap_local_page: an address for as long as a function runs, in slots that belong to the CPU (i386).

fixmap slot   FIX_KMAP_BEGIN + 16 * cpu + idx           16 a CPU, used as a stack

cpu 0   [ 0 ▓ ][ 1 ▓ ][ 2   ] …                         idx: how many the running task has
cpu 1   [ 0   ][ 1   ] …

No lock, no waiting, one page forgotten by the TLB at each unmap. The price: last mapped, first unmapped. A task that
loses its CPU takes its slots along: they are emptied, and filled again when it comes back.
"""

from __future__ import annotations

from kmemlab.alloc.page_address import PageAddresses, page_address, page_highmem
from kmemlab.boot.layout_32 import FIX_KMAP_BEGIN, FIX_KMAP_END, fix_to_virt
from kmemlab.boot.pgtable import entry_none, entry_of, set_entry
from kmemlab.boot.swapper_pg_dir import page_kernel
from kmemlab.boot.tlbflush import flush_tlb_one_kernel
from kmemlab.mm.context import preempt_disable, preempt_enable
from kmemlab.mm.globals import Mm
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import BadRequest, TooLarge
from kmemlab.types.pgtable import PTE
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT

KM_MAX_IDX = 16
MOST_TASKS = 64


@kernel("include/linux/sched.h", "struct kmap_ctrl", left_out="DEBUG_KMAP_LOCAL, which leaves every second slot empty")
class KmapCtrl(Struct):
    """What each task has mapped: task in row r is `pid[r]`, runs on `cpu[r]`, and has the entries `pteval[16 * r + i]`.

    C keeps this in task_struct. A row with `idx` 0 is free.
    """

    warned = Cell()  # WARN_ON_ONCE: once

    pid: Column
    cpu: Column
    idx: Column
    pteval: Column

    def __init__(self, addresses: PageAddresses) -> None:
        self.addresses = addresses
        self.mm = addresses.mm
        self.pid = column("q", MOST_TASKS)
        self.cpu = column("q", MOST_TASKS)
        self.idx = column("i", MOST_TASKS)
        self.pteval = column("Q", MOST_TASKS * KM_MAX_IDX)


@invented("C has a kmap_ctrl in each task_struct", traced=False)
def row_of(ctrl: KmapCtrl, pid: int) -> int | None:
    """The row of a task that has pages mapped; None for one that has none."""
    return next((row for row in range(MOST_TASKS) if ctrl.idx[row] and ctrl.pid[row] == pid), None)


@kernel("mm/highmem.c", "kmap_local_calc_idx", formerly=("kmap_atomic_idx",), traced=False)
def kmap_local_calc_idx(idx: int, cpu: int) -> int:
    """The slot, counted from FIX_KMAP_BEGIN, of place `idx` of a CPU's stack."""
    return idx + KM_MAX_IDX * cpu


@invented("__fix_to_virt(FIX_KMAP_BEGIN + idx)", traced=False)
def kmap_local_addr(idx: int, cpu: int) -> int:
    """The address of place `idx` of a CPU's stack.

    >>> hex(kmap_local_addr(0, 0)), hex(kmap_local_addr(1, 0)), hex(kmap_local_addr(0, 1))
    ('0xfffbb000', '0xfffba000', '0xfffab000')
    """
    return fix_to_virt(FIX_KMAP_BEGIN + kmap_local_calc_idx(idx, cpu))


@kernel("mm/highmem.c", "kmap_get_pte", traced=False)
def kmap_get_pte(mm: Mm, vaddr: int) -> int:
    """Where in RAM the page-table entry of an address of the fixmap stands."""
    return entry_of(mm.boot.swapper_pg_dir, PTE, vaddr)


@kernel("mm/highmem.c", "kmap_local_idx_push", traced=False)
def kmap_local_idx_push(ctrl: KmapCtrl) -> int:
    """One place more on the stack of the running task; returns its number. Raises `BadRequest` for the 17th."""
    current = ctrl.mm.current
    row = row_of(ctrl, current.pid)
    if row is None:
        row = next((row for row in range(MOST_TASKS) if not ctrl.idx[row]), None)
        if row is None:
            raise TooLarge(
                f"more than {MOST_TASKS} tasks have pages mapped", where="kmap_local_page", remedy="unmap some"
            )
        ctrl.pid[row], ctrl.cpu[row] = current.pid, current.cpu
    if ctrl.idx[row] + 1 >= KM_MAX_IDX:
        raise BadRequest(
            f"kernel BUG at mm/highmem.c:467! pid {current.pid} has {KM_MAX_IDX - 1} pages mapped already",
            where="kmap_local_idx_push",
            remedy="unmap the last one with kunmap_local or kunmap_atomic first; a CPU has no more slots",
        )
    ctrl.idx[row] += 1
    return ctrl.idx[row] - 1


@kernel("mm/highmem.c", "__kmap_local_pfn_prot", formerly=("kmap_atomic_prot_pfn",))
def kmap_local_pfn_prot(ctrl: KmapCtrl, pfn: int, prot: int) -> int:
    """Map a page in the next place of the running CPU's stack. The task must stay on this CPU until it unmaps it."""
    mm, tables = ctrl.mm, ctrl.mm.boot.swapper_pg_dir
    idx = kmap_local_idx_push(ctrl)
    vaddr = kmap_local_addr(idx, mm.current.cpu)
    entryp = kmap_get_pte(mm, vaddr)
    assert entry_none(tables, entryp)
    pteval = pfn << PAGE_SHIFT | prot
    set_entry(tables, entryp, pteval)
    row = row_of(ctrl, mm.current.pid)
    assert row is not None
    ctrl.pteval[KM_MAX_IDX * row + idx] = pteval
    return vaddr


@kernel("mm/highmem.c", "__kmap_local_page_prot", left_out="CONFIG_DEBUG_KMAP_LOCAL_FORCE_MAP")
def kmap_local_page_prot(ctrl: KmapCtrl, pfn: int, prot: int) -> int:
    """The address of a page for a while: its own if it has one."""
    if not page_highmem(ctrl.mm, pfn):
        return page_address(ctrl.addresses, pfn)
    return kmap_local_pfn_prot(ctrl, pfn, prot)


@kernel("include/linux/highmem-internal.h", "kmap_local_page")
def kmap_local_page(ctrl: KmapCtrl, pfn: int) -> int:
    """Map a page for the running task alone. It may be preempted and may sleep, but stays on its CPU."""
    return kmap_local_page_prot(ctrl, pfn, page_kernel(ctrl.mm.boot))


@kernel("mm/highmem.c", "kunmap_local_indexed", formerly=("kunmap_atomic_high",))
def kunmap_local_indexed(ctrl: KmapCtrl, vaddr: int) -> None:
    """Unmap the last place of the stack. `vaddr` should be in it: another address is warned of, and does harm.

    Raises `BadRequest` where nothing is mapped.
    """
    mm, addr = ctrl.mm, vaddr & PAGE_MASK
    if not fix_to_virt(FIX_KMAP_END) <= addr <= fix_to_virt(FIX_KMAP_BEGIN):
        return  # a page of low memory: its address stays
    row = row_of(ctrl, mm.current.pid)
    if row is None:
        raise BadRequest(
            f"kernel BUG at mm/highmem.c:479! pid {mm.current.pid} has no page mapped",
            where=f"kunmap_local({vaddr:#x})",
            remedy="unmap once what kmap_local_page or kmap_atomic mapped, in the task that did so",
        )
    idx = ctrl.idx[row] - 1
    top = kmap_local_addr(idx, mm.current.cpu)
    if addr != top:
        warn_wrong_order(ctrl)
    # The entry of the last place is emptied, and the TLB forgets the address that was given: in the wrong order two
    # different pages.
    set_entry(mm.boot.swapper_pg_dir, kmap_get_pte(mm, top), 0)
    flush_tlb_one_kernel(mm.boot.mmu, addr)
    ctrl.pteval[KM_MAX_IDX * row + idx] = 0
    ctrl.idx[row] = idx


@invented("WARN_ON_ONCE", traced=False)
def warn_wrong_order(ctrl: KmapCtrl) -> None:
    """Say once that somebody does not unmap last what it mapped first; C prints registers and the stack behind it."""
    if not ctrl.warned:
        ctrl.warned = 1
        current = ctrl.mm.current
        current.printk.info(f"WARNING: CPU: {current.cpu} PID: {current.pid} at mm/highmem.c:610 kunmap_local_indexed")


@kernel("include/linux/highmem-internal.h", "kunmap_local", formerly=("__kunmap_local",))
def kunmap_local(ctrl: KmapCtrl, vaddr: int) -> None:
    """Undo `kmap_local_page`, by its address. Raises `BadRequest` where nothing is mapped."""
    kunmap_local_indexed(ctrl, vaddr)


@kernel("include/linux/highmem-internal.h", "kmap_atomic", left_out="PREEMPT_RT")
def kmap_atomic(ctrl: KmapCtrl, pfn: int) -> int:
    """As `kmap_local_page`, and until `kunmap_atomic` the task may not sleep, be preempted, or wait for a page."""
    current = ctrl.mm.current
    preempt_disable(current)
    current.pagefault_disabled += 1
    try:
        return kmap_local_page_prot(ctrl, pfn, page_kernel(ctrl.mm.boot))
    except BadRequest:  # C's BUG() ends the task; ours goes on
        current.pagefault_disabled -= 1
        preempt_enable(current)
        raise


@kernel("include/linux/highmem-internal.h", "kunmap_atomic", formerly=("__kunmap_atomic",))
def kunmap_atomic(ctrl: KmapCtrl, vaddr: int) -> None:
    """Undo `kmap_atomic`. Raises `BadRequest` where nothing is mapped so."""
    current = ctrl.mm.current
    if not current.pagefault_disabled or not current.preempt_count:
        raise BadRequest(
            "kunmap_atomic without kmap_atomic: preemption and page faults are on",
            where=f"kunmap_atomic({vaddr:#x})",
            remedy="undo kmap_local_page with kunmap_local, and kmap_atomic once with kunmap_atomic",
        )
    kunmap_local_indexed(ctrl, vaddr)
    current.pagefault_disabled -= 1
    preempt_enable(current)


@kernel("mm/highmem.c", "__kmap_local_sched_out")
def kmap_local_sched_out(ctrl: KmapCtrl) -> None:
    """The running task loses its CPU: its slots are emptied, what was in them is kept with the task."""
    _for_each_mapped(ctrl, restore=False)


@kernel("mm/highmem.c", "__kmap_local_sched_in")
def kmap_local_sched_in(ctrl: KmapCtrl) -> None:
    """The running task has its CPU again: its slots are filled as they were, so its addresses still hold."""
    _for_each_mapped(ctrl, restore=True)


def _for_each_mapped(ctrl: KmapCtrl, restore: bool) -> None:
    mm = ctrl.mm
    row = row_of(ctrl, mm.current.pid)
    if row is None:
        return
    for idx in range(ctrl.idx[row]):
        vaddr = kmap_local_addr(idx, ctrl.cpu[row])
        pteval = ctrl.pteval[KM_MAX_IDX * row + idx] if restore else 0
        set_entry(mm.boot.swapper_pg_dir, kmap_get_pte(mm, vaddr), pteval)
        if not restore:
            flush_tlb_one_kernel(mm.boot.mmu, vaddr)
