"""fork: a second process that has all that the first one has, and shares its pages until one of them writes.

kernel_clone ─▶ copy_process ┬▶ dup_task_struct    a task_struct from its cache, and a kernel stack
                             └▶ copy_mm ─▶ dup_mm ─▶ dup_mmap    VMA by VMA, with copy_page_range
"""

from __future__ import annotations

from kmemlab.alloc.thread_stack import alloc_thread_stack_node, free_thread_stack
from kmemlab.mm.context import TASK_COMM_LEN
from kmemlab.process.anon_vma import anon_vma_clone
from kmemlab.process.copy_page import copy_page_range
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mmap import new_vma, no_object
from kmemlab.process.mmput import mmput
from kmemlab.process.overcommit import accounted_pages, charge, init_user_reserve, vm_unacct_memory
from kmemlab.process.pgtable import flush_tlb_mm_range, pgd_alloc
from kmemlab.process.proc_caches import caches_for_processes, free_object, new_object
from kmemlab.process.task_struct import (
    INIT_PID,
    TASK_RUNNING,
    Processes,
    TaskStruct,
    current_task,
    fatal_signal_pending,
    find_task,
    for_each_process,
    free_mm_slot,
    free_task_slot,
    living,
)
from kmemlab.process.unmapped_area import mmap_base, task_size
from kmemlab.process.vma import vm_area_dup, vm_stat_account, vma_link
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import KmemlabError, OutOfMemory
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE
from kmemlab.types.vm_flags import VM_LOCKED, VM_STACK_FLAGS

PID_MAX = 32768
RESERVED_PIDS = 300
STACK_PAGES = 33
"""A new program's stack: a page for its arguments, and 128 KiB more at once (setup_arg_pages)."""

START_CODE = {8: 0x400000, 4: 0x08048000}
"""Where the linker puts a program, by the size of a pointer."""


@kernel("kernel/fork.c", "dup_task_struct", left_out="all fields that have nothing to do with memory")
def dup_task_struct(processes: Processes) -> TaskStruct | None:
    """A task_struct from its cache, and a kernel stack for it; None if there is no memory."""
    task = free_task_slot(processes)
    common = processes.common
    address = new_object(common, common.task_struct_cachep)
    if not address:
        return None
    stack = alloc_thread_stack_node(processes.stacks, NUMA_NO_NODE)
    if stack is None:
        free_object(common, common.task_struct_cachep, address)
        return None
    task.address, task.stack = address, stack
    return task


@kernel("kernel/fork.c", "free_task_struct")
def free_task_struct(processes: Processes, task: TaskStruct) -> None:
    """Give a task_struct back to its cache, and clear its row."""
    common = processes.common
    free_object(common, common.task_struct_cachep, task.address)
    for cell in range(len(task.cells)):
        task.cells[cell] = 0
    for at in range(TASK_COMM_LEN):
        task.comm[at] = 0


@kernel("kernel/pid.c", "alloc_pid", left_out="namespaces, struct pid", lock="pidmap_lock")
def alloc_pid(processes: Processes) -> int:
    """The next pid that nobody has; after the last one they begin anew at 300."""
    used = {task.pid for task in for_each_process(processes)}
    pid = processes.last_pid + 1
    while pid in used or pid >= PID_MAX:
        pid = pid + 1 if pid < PID_MAX else RESERVED_PIDS
    processes.last_pid = pid
    return pid


@kernel("kernel/fork.c", "mm_init", left_out="locks, AIO, control groups", formerly=("mm_alloc",))
def mm_init(processes: Processes) -> MmStruct:
    """An address space with nothing in it but the kernel's half. Raises `OutOfMemory`."""
    mm = free_mm_slot(processes)
    common = processes.common
    address = new_object(common, common.mm_cachep)
    if not address:
        raise OutOfMemory("ENOMEM: there is no memory for an mm_struct", where="mm_init", remedy="free some memory")
    if not pgd_alloc(mm):
        free_object(common, common.mm_cachep, address)
        mm.pgtables_bytes = 0
        raise OutOfMemory("ENOMEM: there is no page for a pgd", where="pgd_alloc", remedy="free some memory")
    mm.address, mm.mm_users = address, 1
    return mm


@kernel("kernel/fork.c", "dup_mm", left_out="what has nothing to do with memory")
def dup_mm(processes: Processes, oldmm: MmStruct) -> MmStruct:
    """A copy of an address space. Raises `OutOfMemory`; then nothing is left of it."""
    mm = mm_init(processes)
    try:
        dup_mmap(processes, mm, oldmm)
    except KmemlabError:
        mmput(mm)
        raise
    mm.hiwater_rss, mm.hiwater_vm = sum(mm.rss_stat), mm.total_vm
    return mm


@kernel("kernel/fork.c", "dup_mmap", left_out="VM_DONTCOPY and its like", lock="mm->mmap_lock of both")
def dup_mmap(processes: Processes, mm: MmStruct, oldmm: MmStruct) -> None:
    """Copy VMA after VMA, with the pages in it. Raises `OutOfMemory` half-way, also when the parent is killed."""
    for name in ("task_size", "mmap_base", "start_code", "start_brk", "brk", "start_stack"):
        setattr(mm, name, getattr(oldmm, name))
    common = mm.common
    try:
        for mpnt in oldmm.vmas():
            if fatal_signal_pending(current_task(processes)):
                raise interrupted()
            promised = accounted_pages(oldmm, mpnt)
            charge(oldmm, promised, "fork")
            tmp = vm_area_dup(mm, mpnt)
            if not tmp:
                vm_unacct_memory(common.mm, promised)
                raise no_object()
            common.vmas.vm_flags[tmp] &= ~VM_LOCKED  # a child locks anew what it needs
            anon_vma_clone(common, tmp, mpnt)
            vma_link(mm, tmp)
            flags = common.vmas.vm_flags[mpnt]
            vm_stat_account(mm, flags, common.vmas.vm_end[mpnt] - common.vmas.vm_start[mpnt] >> PAGE_SHIFT)
            copy_page_range(mm, oldmm, mpnt)
    finally:
        # The parent has lost the right to write into its own pages, and its CPU must know.
        flush_tlb_mm_range(oldmm, 0, oldmm.task_size)


@invented("C returns -EINTR, and nobody sees it: the parent ends on its way back", traced=False)
def interrupted() -> OutOfMemory:
    """The error of a fork whose parent was killed meanwhile, as a rule for want of memory."""
    return OutOfMemory("EINTR: the parent was killed", where="fork", remedy="free some memory first")


@kernel("kernel/fork.c", "copy_mm", left_out="threads of the kernel")
def copy_mm(processes: Processes, oldmm: MmStruct, vfork: bool) -> MmStruct:
    """The child's address space: its parent's own after vfork, else a copy. Raises `OutOfMemory`."""
    if not vfork:
        return dup_mm(processes, oldmm)
    oldmm.mm_users += 1
    return oldmm


@kernel("kernel/fork.c", "copy_process", left_out="threads, signals, files, credentials, the scheduler")
def copy_process(processes: Processes, parent: TaskStruct, oldmm: MmStruct, vfork: bool) -> TaskStruct:
    """A child that is as its parent. Raises `OutOfMemory`; then nothing is left of it."""
    task = dup_task_struct(processes)
    if task is None:
        raise OutOfMemory("ENOMEM: there is no memory for a task", where="dup_task_struct", remedy="free some memory")
    try:
        mm = copy_mm(processes, oldmm, vfork)
        if fatal_signal_pending(parent):
            mmput(mm)
            raise interrupted()
    except KmemlabError:
        free_thread_stack(processes.stacks, task.stack)
        free_task_struct(processes, task)
        raise
    task.mm = 1 + mm.number
    task.parent, task.ip, task.sp = parent.pid, parent.ip, parent.sp
    task.oom_score_adj, task.vfork_done = parent.oom_score_adj, int(vfork)
    for at in range(TASK_COMM_LEN):
        task.comm[at] = parent.comm[at]
    task.tasks = processes.total_forks
    task.pid, task.exit_state = alloc_pid(processes), TASK_RUNNING
    return task


@kernel("kernel/fork.c", "kernel_clone", left_out="threads, tracing", formerly=("do_fork", "_do_fork"))
def kernel_clone(processes: Processes, pid: int, vfork: bool = False) -> int:
    """fork of process `pid`; the pid of its child. After vfork the child uses its parent's memory, which sleeps.

    Raises `OutOfMemory`, `BadRequest`.
    """
    parent, oldmm = living(processes, pid)
    task = copy_process(processes, parent, oldmm, vfork)
    processes.total_forks += 1
    return task.pid


@kernel("fs/exec.c", "bprm_execve", left_out="the program's file: there is its stack and its heap, no code")
def spawn(processes: Processes, name: str) -> int:
    """A process of a program that has just begun, a child of process 1; its pid. Raises `OutOfMemory`."""
    if not processes.total_forks:
        init_user_reserve(processes.common.mm)
    caches_for_processes(processes.common)
    task = dup_task_struct(processes)
    if task is None:
        raise OutOfMemory("ENOMEM: there is no memory for a task", where="dup_task_struct", remedy="free some memory")
    try:
        mm = exec_mmap(processes)
    except KmemlabError:
        free_thread_stack(processes.stacks, task.stack)
        free_task_struct(processes, task)
        raise
    task.mm, task.parent, task.ip, task.sp = 1 + mm.number, INIT_PID, mm.start_code, mm.start_stack
    for at, byte in enumerate(name.encode("ascii", "replace")[: TASK_COMM_LEN - 1]):
        task.comm[at] = byte
    task.tasks = processes.total_forks
    task.pid = alloc_pid(processes)
    processes.total_forks += 1
    return task.pid


@kernel("fs/exec.c", "exec_mmap", left_out="the program's file, its arguments, vdso")
def exec_mmap(processes: Processes) -> MmStruct:
    """The address space that a program begins with. Raises `OutOfMemory`; then nothing is left of it."""
    mm = mm_init(processes)
    boot = processes.common.mm.boot
    mm.task_size = task_size(boot)
    mm.mmap_base = mmap_base(mm.task_size)
    mm.start_code = mm.start_brk = mm.brk = START_CODE[boot.config.sizeof_pointer]
    mm.start_stack = mm.task_size - 16
    try:
        setup_arg_pages(mm)
    except KmemlabError:
        mmput(mm)
        raise
    return mm


@kernel("fs/exec.c", "setup_arg_pages", left_out="moving the stack to where it shall be, executable stacks")
def setup_arg_pages(mm: MmStruct) -> None:
    """The stack, right below TASK_SIZE. Raises `OutOfMemory`."""
    charge(mm, STACK_PAGES, "setup_arg_pages")
    try:
        new_vma(mm, mm.task_size - STACK_PAGES * PAGE_SIZE, mm.task_size, VM_STACK_FLAGS)
    except KmemlabError:
        vm_unacct_memory(mm.common.mm, STACK_PAGES)
        raise
    vm_stat_account(mm, VM_STACK_FLAGS, STACK_PAGES)


@invented("what a shell shows of the tree of processes")
def children(processes: Processes, pid: int) -> tuple[int, ...]:
    """The pids of the children of a process, zombies included. Raises `BadRequest` for a pid that nobody has."""
    find_task(processes, pid)
    return tuple(task.pid for task in for_each_process(processes) if task.parent == pid)
