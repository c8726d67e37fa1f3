"""The laws of kernel stacks: pages behind them, none below a vmapped one, each counted once."""

from __future__ import annotations

from typing import NoReturn

from kmemlab.alloc.thread_stack import ThreadStacks
from kmemlab.alloc.vmap_pages import vmalloc_to_pfn
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.vm_struct import vm_pages
from kmemlab.mm.vmalloc import find_vm_area
from kmemlab.mm.vmstat import NR_KERNEL_STACK_KB
from kmemlab.sim.kernel import invented
from kmemlab.types.units import KIB, PAGE_SHIFT, PAGE_SIZE, get_order


@invented("a law is code beside the structure it speaks of", traced=False)
def check_thread_stacks(stacks: ThreadStacks) -> None:
    """Each stack, in use or kept, is there once, aligned, mapped to pages that somebody holds, with nothing mapped
    right below it if it is vmapped; what tasks have is counted.

    Raises `BrokenLaw` that names the law and the stack.
    """
    kept = [stack for stack in stacks.cached_stacks if stack]
    everything = [*stacks.in_use(), *kept]
    if len(set(everything)) < len(everything):
        _broken("two tasks have the same stack, or it is kept and in use")
    if kept and not stacks.vmap_stack:
        _broken("stacks are kept that are not vmapped")
    for stack in everything:
        if stack % stacks.thread_size:
            _broken(f"the stack at {stack:#x} is not aligned to its size")
        (_check_vmapped if stacks.vmap_stack else _check_direct)(stacks, stack)
    for at, stack in enumerate(stacks.in_use()):
        if stacks.sp[at] > stack + stacks.thread_size:
            _broken(f"the stack pointer of the stack at {stack:#x} is above it")
    counted = sum(pgdat.vm_stat[NR_KERNEL_STACK_KB] for pgdat in stacks.mm.node_data)
    if counted != stacks.count * stacks.thread_size // KIB:
        _broken(f"nr_kernel_stack is {counted} kB, but {stacks.count} tasks have stacks")


def _check_vmapped(stacks: ThreadStacks, stack: int) -> None:
    mm = stacks.mm
    vm = find_vm_area(mm.vmalloc, stack)
    pages = [vmalloc_to_pfn(mm, address) for address in range(stack, stack + stacks.thread_size, PAGE_SIZE)]
    if not vm or mm.vmalloc.vms.addr[vm] != stack or vm_pages(mm.page, mm.vmalloc.vms, vm) != pages:
        _broken(f"the stack at {stack:#x} is not mapped to the pages of its area")
    for guard in (stack - PAGE_SIZE, stack + stacks.thread_size):
        if vmalloc_to_pfn(mm, guard) is not None:
            _broken(f"a page is mapped at {guard:#x}, where the stack at {stack:#x} needs a guard")


def _check_direct(stacks: ThreadStacks, stack: int) -> None:
    pfn = (stack - va(stacks.mm.boot, 0)) >> PAGE_SHIFT
    if stacks.mm.page.owned[pfn] != 1 + get_order(stacks.thread_size):
        _broken(f"nobody holds the pages of the stack at {stack:#x}")


def _broken(law: str) -> NoReturn:
    raise BrokenLaw(law, where="kernel stacks")
