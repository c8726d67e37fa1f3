"""do_page_fault: from the CPU's report to a page, or to a signal.

MMU: #PF, error code ─▶ exc_page_fault ─▶ do_user_addr_fault ┬▶ no VMA, or it forbids it ─▶ bad_area ─▶ SIGSEGV
                                                            ├▶ just below a stack ─▶ expand_stack ─┐
                                                            └▶ a VMA that allows it ───────────────┴▶ handle_mm_fault
"""

from __future__ import annotations

from kmemlab.boot.address_space import task_size as task_size_max
from kmemlab.mm.ratelimit import ratelimit
from kmemlab.process.anon_vma import anon_vma_prepare
from kmemlab.process.fault_page import (
    FAULT_FLAG_DEFAULT,
    FAULT_FLAG_INSTRUCTION,
    FAULT_FLAG_TRIED,
    FAULT_FLAG_USER,
    FAULT_FLAG_WRITE,
    VM_FAULT_ERROR,
    VM_FAULT_MAJOR,
    VM_FAULT_OOM,
    VM_FAULT_RETRY,
    VM_FAULT_SIGSEGV,
)
from kmemlab.process.memory import handle_mm_fault
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.overcommit import vm_enough_memory
from kmemlab.process.task_struct import TaskStruct, fatal_signal_pending, processes_of
from kmemlab.process.unmapped_area import MMAP_MIN_ADDR, RLIMIT_STACK
from kmemlab.process.vma import STACK_GUARD_GAP, find_vma, find_vma_prev, vm_stat_account
from kmemlab.process.vma_merge import set_range
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KmemlabError
from kmemlab.types.trap_pf import X86_PF_INSTR, X86_PF_PROT, X86_PF_WRITE
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT
from kmemlab.types.vm_flags import VM_ACCESS_FLAGS, VM_GROWSDOWN, VM_LOCKED, VM_WRITE

SIGBUS = 7
SIGSEGV = 11
PROLOGUE_SIZE = 42


class Segfault(KmemlabError):
    """A program touched what it must not, and was killed by SIGSEGV."""


class BusError(KmemlabError):
    """A program touched a page of a mapped file behind the file's end, and was killed by SIGBUS."""


@kernel("arch/x86/mm/fault.c", "do_user_addr_fault", left_out="32-bit programs", formerly=("do_page_fault",))
def do_user_addr_fault(task: TaskStruct, mm: MmStruct, error_code: int, address: int) -> int:
    """Mend a page fault of a program, or say VM_FAULT_SIGSEGV, VM_FAULT_SIGBUS or VM_FAULT_OOM.

    If the disk was waited for, the VMA may be another one by now, so everything begins anew: once.
    """
    flags = FAULT_FLAG_DEFAULT | FAULT_FLAG_USER
    if error_code & X86_PF_WRITE:
        flags |= FAULT_FLAG_WRITE
    if error_code & X86_PF_INSTR:
        flags |= FAULT_FLAG_INSTRUCTION
    while True:
        vma = vma_for_access(mm, error_code, address)
        if not vma:
            return bad_area(task, mm, error_code, address)
        result = handle_mm_fault(mm, vma, address, flags)
        mm_account_fault(task, result, flags)
        if not result & VM_FAULT_RETRY:
            break
        flags |= FAULT_FLAG_TRIED
    if result & VM_FAULT_OOM:
        pagefault_out_of_memory(task, mm)
    return result


@invented("the middle of do_user_addr_fault", traced=False)
def vma_for_access(mm: MmStruct, error_code: int, address: int) -> int:
    """The VMA that has an address, grown down to it if it is a stack, and allows what was tried; else 0."""
    vma = find_vma(mm, address) if address < mm.task_size else 0
    vmas = mm.common.vmas
    if not vma or (address < vmas.vm_start[vma] and not expand_stack(mm, vma, address)):
        return 0
    return 0 if access_error(error_code, vmas.vm_flags[vma]) else vma


@kernel("mm/memory.c", "mm_account_fault", left_out="perf's events")
def mm_account_fault(task: TaskStruct, result: int, flags: int) -> None:
    """Count a fault that is mended: as a major one if the disk was asked for the page, or waited for."""
    if result & (VM_FAULT_ERROR | VM_FAULT_RETRY):
        return
    if result & VM_FAULT_MAJOR or flags & FAULT_FLAG_TRIED:
        task.maj_flt += 1
    else:
        task.min_flt += 1


@kernel("arch/x86/mm/fault.c", "access_error", left_out="protection keys, SGX", traced=False)
def access_error(error_code: int, vm_flags: int) -> bool:
    """Whether the VMA forbids what was tried. A read of a page that is there can only be forbidden."""
    if error_code & X86_PF_WRITE:
        return not vm_flags & VM_WRITE
    return bool(error_code & X86_PF_PROT) or not vm_flags & VM_ACCESS_FLAGS


@kernel("mm/mmap.c", "expand_downwards", left_out="limits of the whole", formerly=("expand_stack",))
def expand_stack(mm: MmStruct, vma: int, address: int) -> bool:
    """Let a stack grow down to an address; False if that VMA is no stack, or the limit or a neighbour is in the way."""
    vmas = mm.common.vmas
    address &= PAGE_MASK
    if not vmas.vm_flags[vma] & VM_GROWSDOWN or address < MMAP_MIN_ADDR:
        return False
    _, prev = find_vma_prev(mm, address)
    prev_flags = vmas.vm_flags[prev] if prev else 0
    if prev_flags & VM_ACCESS_FLAGS and not prev_flags & VM_GROWSDOWN and address - vmas.vm_end[prev] < STACK_GUARD_GAP:
        return False
    if vmas.vm_end[vma] - address > RLIMIT_STACK or not anon_vma_prepare(mm, vma):
        return False
    grow = vmas.vm_start[vma] - address >> PAGE_SHIFT
    if not vm_enough_memory(mm, grow):
        return False
    vm_stat_account(mm, vmas.vm_flags[vma], grow)
    mm.locked_vm += grow if vmas.vm_flags[vma] & VM_LOCKED else 0
    set_range(vmas, vma, address, vmas.vm_end[vma])
    return True


@kernel("mm/oom_kill.c", "pagefault_out_of_memory", left_out="control groups")
def pagefault_out_of_memory(task: TaskStruct, mm: MmStruct) -> None:
    """There was no page: the program will fault again, and perhaps there is one then; unless it is killed."""
    current, processes = mm.common.mm.current, processes_of(mm.common.mm)
    if fatal_signal_pending(task) or processes is None:
        return
    if ratelimit(processes.pfoom_rs, current, "pagefault_out_of_memory"):
        current.printk.info("Huh VM_FAULT_OOM leaked out to the #PF handler. Retrying PF")


@kernel("arch/x86/mm/fault.c", "__bad_area_nosemaphore", formerly=("bad_area", "bad_area_access_error"))
def bad_area(task: TaskStruct, mm: MmStruct, error_code: int, address: int) -> int:
    """A program did what it must not: say so in the log. VM_FAULT_SIGSEGV."""
    if address >= task_size_max(mm.common.mm.boot):
        # What is mapped in the kernel's half is no program's business.
        error_code |= X86_PF_PROT
    show_signal_msg(task, mm, error_code, address)
    return VM_FAULT_SIGSEGV


@kernel("arch/x86/mm/fault.c", "show_signal_msg", left_out="the rate limit; cores and sockets of the spec; the file")
def show_signal_msg(task: TaskStruct, mm: MmStruct, error_code: int, address: int) -> None:
    """Write the line of a segfault into the log, and that there are no instructions to be shown."""
    page_alloc = mm.common.mm
    pointer = 2 * page_alloc.boot.config.sizeof_pointer
    cpu = page_alloc.current.cpu
    page_alloc.boot.printk.info(
        f"{task.name}[{task.pid}]: segfault at {address:x} ip {task.ip:0{pointer}x} sp {task.sp:0{pointer}x} "
        f"error {error_code:x} likely on CPU {cpu} (core {cpu}, socket 0)"
    )
    page_alloc.boot.printk.info(f"Code: Unable to access opcode bytes at 0x{task.ip - PROLOGUE_SIZE:x}.")


@kernel("arch/x86/kernel/traps.c", "exc_general_protection", left_out="faults of the kernel", traced=False)
def general_protection(task: TaskStruct, mm: MmStruct) -> int:
    """An address that is not canonical: no page fault, but the signal is the same. VM_FAULT_SIGSEGV."""
    mm.common.mm.boot.printk.info(
        f"traps: {task.name}[{task.pid}] general protection fault ip:{task.ip:x} sp:{task.sp:x} error:0"
    )
    return VM_FAULT_SIGSEGV
