"""Kernel stacks: each task has a small one of its own, of a fixed size, and it grows downwards.

      stack                                                    stack + THREAD_SIZE
        │ STACK_END_MAGIC … free …     │ frames of the calls so far │
        ▼                            sp ▼
······· |█|                             |▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓|
◀ guard: nothing is mapped here (VMAP_STACK), or somebody else's page (direct map)

            4 KiB (4K stacks, i386 up to 2.6.36)   8 KiB (i386)   16 KiB (x86-64)
"""

from __future__ import annotations

from kmemlab.alloc.page_address import lowmem_page_address
from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.vfree import vfree
from kmemlab.alloc.vmalloc import vmalloc_node_range
from kmemlab.alloc.vmap_pages import vmalloc_to_pfn
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.mm.globals import Mm
from kmemlab.mm.kernel_access import clear, store
from kmemlab.mm.vmstat import NR_KERNEL_STACK_KB
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import BadRequest, DoubleFree, OutOfMemory, TooLarge
from kmemlab.types.gfp import __GFP_ACCOUNT, __GFP_ZERO, GFP_KERNEL_ACCOUNT
from kmemlab.types.units import KIB, PAGE_SHIFT, PAGE_SIZE, get_order

THREADINFO_GFP = GFP_KERNEL_ACCOUNT | __GFP_ZERO
NR_CACHED_STACKS = 2
STACK_END_MAGIC = 0x57AC6E9D
MOST_STACKS = 4096


@invented("C keeps them in task_struct: stack, stack_vm_area, thread.sp")
class ThreadStacks(Struct):
    """The stacks in use: `stack[i]` is the lowest address, `sp[i]` how far it is used; and those kept for new tasks.

    `thread_size` in bytes and `vmap_stack` are chosen when a kernel is built.
    """

    thread_size = Cell()
    vmap_stack = Cell()
    count = Cell()

    stack: Column
    sp: Column
    cached_stacks: Column

    def __init__(self, mm: Mm) -> None:
        self.mm = mm
        self.stack = column("Q", MOST_STACKS)
        self.sp = column("Q", MOST_STACKS)
        # DEFINE_PER_CPU(struct vm_struct *, cached_stacks[NR_CACHED_STACKS]); the address of the stack stands for it.
        self.cached_stacks = column("Q", len(mm.numa.cpu_to_node) * NR_CACHED_STACKS)
        self.thread_size = mm.boot.config.thread_size
        self.vmap_stack = int(not mm.boot.config.highmem)

    def in_use(self) -> tuple[int, ...]:
        """The stacks that tasks have."""
        return tuple(self.stack[: self.count])

    def cached(self, cpu: int) -> range:
        """Where the stacks stand that a CPU keeps."""
        return range(cpu * NR_CACHED_STACKS, (cpu + 1) * NR_CACHED_STACKS)


@kernel("kernel/fork.c", "alloc_thread_stack_node", left_out="memcg; KASAN", formerly=("alloc_thread_info_node",))
def alloc_thread_stack_node(stacks: ThreadStacks, nid: int) -> int | None:
    """A stack for a new task; None if it can't be had. It is all zeros, but for the magic number at its end."""
    if stacks.count == MOST_STACKS:
        raise TooLarge(f"more than {MOST_STACKS} tasks", where="alloc_thread_stack_node", remedy="let some exit")
    mm = stacks.mm
    if stacks.vmap_stack:
        stack = take_cached_stack(stacks) or vmap_stack_of_pages(stacks, nid)
    else:
        nid = mm.numa.cpu_to_node[mm.current.cpu] if nid == NUMA_NO_NODE else nid
        pfn = alloc_pages_inner(mm, THREADINFO_GFP, get_order(stacks.thread_size), nid)
        stack = None if pfn is None else lowmem_page_address(mm, pfn)
        if stack is not None:
            clear(mm.boot, stack, stacks.thread_size)
    if stack is None:
        return None
    at = stacks.count
    stacks.count = at + 1
    stacks.stack[at], stacks.sp[at] = stack, stack + stacks.thread_size
    account_kernel_stack(stacks, stack, 1)
    set_task_stack_end_magic(stacks, stack)
    return stack


@invented("the first loop of alloc_thread_stack_node")
def take_cached_stack(stacks: ThreadStacks) -> int | None:
    """A stack that this CPU has kept, cleared: nothing is mapped anew, no TLB flushed."""
    for at in stacks.cached(stacks.mm.current.cpu):
        stack = stacks.cached_stacks[at]
        if stack:
            stacks.cached_stacks[at] = 0
            clear(stacks.mm.boot, stack, stacks.thread_size)
            return stack
    return None


@invented("the second part of alloc_thread_stack_node")
def vmap_stack_of_pages(stacks: ThreadStacks, nid: int) -> int | None:
    """A stack in vmalloc's area: single pages, and an unmapped one at each end."""
    mm, size = stacks.mm, stacks.thread_size
    vmalloc = mm.vmalloc
    gfp = THREADINFO_GFP & ~__GFP_ACCOUNT
    try:
        stack = vmalloc_node_range(
            mm, size, size, vmalloc.start, vmalloc.end, gfp, vmalloc.page_kernel, 0, nid, "kernel_clone"
        )
    except OutOfMemory:
        return None
    clear(mm.boot, stack, size)
    return stack


@kernel("kernel/fork.c", "free_thread_stack", left_out="waiting until no CPU can look at it any more (RCU)")
def free_thread_stack(stacks: ThreadStacks, stack: int) -> None:
    """A task is gone: its stack is kept for the next one, or freed.

    Raises `DoubleFree` for a stack that is kept or was freed, `BadRequest` for another address.
    """
    at = index_of(stacks, stack, "free_thread_stack")
    account_kernel_stack(stacks, stack, -1)
    last = stacks.count - 1
    stacks.stack[at], stacks.sp[at] = stacks.stack[last], stacks.sp[last]
    stacks.stack[last] = stacks.sp[last] = 0
    stacks.count = last
    if not stacks.vmap_stack:
        pfn = (stack - va(stacks.mm.boot, 0)) >> PAGE_SHIFT
        free_pages_inner(stacks.mm, pfn, get_order(stacks.thread_size))
    elif not try_release_thread_stack_to_cache(stacks, stack):
        vfree(stacks.mm, stack)


@kernel("kernel/fork.c", "try_release_thread_stack_to_cache", traced=False)
def try_release_thread_stack_to_cache(stacks: ThreadStacks, stack: int) -> bool:
    """Keep a stack for this CPU's next task; False if two are kept already."""
    for at in stacks.cached(stacks.mm.current.cpu):
        if not stacks.cached_stacks[at]:
            stacks.cached_stacks[at] = stack
            return True
    return False


@kernel("kernel/fork.c", "free_vm_stack_cache")
def free_vm_stack_cache(stacks: ThreadStacks, cpu: int) -> None:
    """A CPU goes: free the stacks that it has kept."""
    for at in stacks.cached(cpu):
        if stacks.cached_stacks[at]:
            vfree(stacks.mm, stacks.cached_stacks[at])
            stacks.cached_stacks[at] = 0


@invented("C has the task")
def index_of(stacks: ThreadStacks, stack: int, where: str) -> int:
    """Where a stack stands in the table. Raises `DoubleFree` if it is kept for the next task, `BadRequest`."""
    in_use = stacks.in_use()
    if stack in in_use:
        return in_use.index(stack)
    if stack and stack in stacks.cached_stacks:
        raise DoubleFree(f"the stack at {stack:#x} is free already, and kept for the next task", where=where,
                         remedy="free each stack once")  # fmt: skip
    raise BadRequest(f"no task has a stack at {stack:#x}", where=where, remedy="take what alloc_thread_stack returned")


@kernel("kernel/fork.c", "account_kernel_stack", left_out="memcg")
def account_kernel_stack(stacks: ThreadStacks, stack: int, account: int) -> None:
    """Count the pages of a stack with their nodes, in KiB: nr_kernel_stack of /proc/vmstat."""
    mm = stacks.mm
    for address in range(stack, stack + stacks.thread_size, PAGE_SIZE):
        pfn = vmalloc_to_pfn(mm, address) if stacks.vmap_stack else (address - va(mm.boot, 0)) >> PAGE_SHIFT
        node = next(
            pgdat for pgdat in mm.node_data
            if pgdat.node_start_pfn <= (pfn or 0) < pgdat.node_start_pfn + pgdat.node_spanned_pages
        )  # fmt: skip
        node.vm_stat[NR_KERNEL_STACK_KB] += account * PAGE_SIZE // KIB


@kernel("kernel/fork.c", "set_task_stack_end_magic", traced=False)
def set_task_stack_end_magic(stacks: ThreadStacks, stack: int) -> None:
    """Write the number at the far end of the stack that is gone when the stack was used up."""
    store(stacks.mm.boot, stack, STACK_END_MAGIC, stacks.mm.boot.config.sizeof_pointer)
