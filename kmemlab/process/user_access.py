"""What a program does: loads and stores at its own addresses, through the MMU, with faults mended on the way.

store 0x7ffff7ff8000 ─▶ MMU ─▶ #PF ─▶ do_user_addr_fault ─▶ again ─▶ MMU ─▶ physical address ─▶ RAM
"""

from __future__ import annotations

from kmemlab.hardware.mmu import GeneralProtection, PageFault
from kmemlab.process.exit import do_exit
from kmemlab.process.fault import SIGBUS, SIGSEGV, BusError, Segfault, do_user_addr_fault, general_protection
from kmemlab.process.fault_page import VM_FAULT_OOM, VM_FAULT_SIGBUS, VM_FAULT_SIGSEGV
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.pgtable import switch_mm
from kmemlab.process.signal import SIGKILL, Killed, killed
from kmemlab.process.task_struct import Processes, TaskStruct, fatal_signal_pending, living, running
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.trap_pf import X86_PF_USER, X86_PF_WRITE
from kmemlab.types.units import PAGE_SIZE

SIGNALS: dict[type[Exception], int] = {Segfault: SIGSEGV, BusError: SIGBUS, Killed: SIGKILL}


@invented("instructions of a program")
def user_access(processes: Processes, pid: int, address: int, size: int, data: bytes | None = None) -> bytes:
    """Read `size` bytes at an address of a program, or write `data` there; what was read.

    Raises `Segfault` where the program may not, `BusError` behind the end of a file, `Killed` where the OOM killer
    chose it (then it is dead), `OutOfMemory` where there is no page for it all the same: what lies below is done.
    """
    task, mm = living(processes, pid)
    common = processes.common
    with running(common.mm.current, task):
        switch_mm(common, mm)
        try:
            return access_pages(task, mm, address, size, data)
        except (Segfault, BusError, Killed) as error:
            switch_mm(common, None)
            do_exit(processes, task, SIGNALS[type(error)])
            raise
        finally:
            switch_mm(common, None)


@invented("an access may go over the border of a page")
def access_pages(task: TaskStruct, mm: MmStruct, address: int, size: int, data: bytes | None) -> bytes:
    """Read or write, page by page."""
    ram = mm.common.mm.boot.ram
    found = b""
    done = 0
    while done < size:
        piece = min(size - done, PAGE_SIZE - (address + done) % PAGE_SIZE)
        paddr = user_page(task, mm, address + done, X86_PF_WRITE if data is not None else 0)
        if data is not None:
            ram.write_bytes(paddr, data[done : done + piece])
        else:
            found += ram.read_bytes(paddr, piece)
        done += piece
    return found


@invented("the CPU repeats an instruction after a fault")
def user_page(task: TaskStruct, mm: MmStruct, address: int, access: int) -> int:
    """The physical address behind an address of the program. Raises `Segfault`, `BusError`, `Killed`, `OutOfMemory`."""
    mmu = mm.common.mm.boot.mmu
    while True:
        try:
            return mmu.access(address, access | X86_PF_USER)
        except PageFault as fault:
            result = do_user_addr_fault(task, mm, fault.error_code, fault.address)
        except GeneralProtection:
            result = general_protection(task, mm)
        if fatal_signal_pending(task):
            raise killed(task)
        if result & VM_FAULT_SIGSEGV:
            raise Segfault(
                f"process {task.pid} ({task.name}) touched {address:#x} and was killed",
                where="a program's load or store" if not access else "a program's store",
                remedy="touch what brk or mmap gave, and in the way its rights allow; dmesg has the kernel's words",
            )
        if result & VM_FAULT_SIGBUS:
            raise BusError(
                f"process {task.pid} ({task.name}) touched {address:#x}, behind the end of the file, and was killed",
                where="a program's load or store",
                remedy="touch no more pages than the file has; it may have become shorter",
            )
        if result & VM_FAULT_OOM:
            raise OutOfMemory(
                f"there is no page for {address:#x} of process {task.pid}",
                where="a page fault",
                remedy="free some memory, or let a process exit; then try again",
            )
