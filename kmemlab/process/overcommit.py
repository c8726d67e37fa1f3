"""Overcommit: how much memory programs may be promised. A page comes when it is touched; by then there may be none.

vm.overcommit_memory   0  a single request must not be larger than the machine (RAM and swap)
                       1  everything is promised
                       2  all promises together stay below CommitLimit: half of RAM (overcommit_ratio), and all of swap

Committed_AS counts the private pages that may be written, touched or not: VMAs with VM_ACCOUNT.
"""

from __future__ import annotations

from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.context import task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.ratelimit import ratelimit
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.task_struct import Processes, processes_of
from kmemlab.process.vma import vma_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.units import PAGE_KIB
from kmemlab.types.vm_flags import VM_ACCOUNT, VM_NORESERVE, VM_SHARED, VM_WRITE

OVERCOMMIT_GUESS, OVERCOMMIT_ALWAYS, OVERCOMMIT_NEVER = range(3)
MOST_RESERVED_KIB = 1 << 17


@kernel("mm/mmap.c", "init_user_reserve", left_out="that C does it at boot: here the first program brings it")
def init_user_reserve(mm: Mm) -> None:
    """What a strict limit keeps back from a large program, so that its user can still do something: 1/32 of what is
    free, 128 MiB at most."""
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in mm.zones())
    mm.sysctl_user_reserve_kbytes = min(free * PAGE_KIB // 32, MOST_RESERVED_KIB)


@kernel("mm/mmap.c", "accountable_mapping", left_out="huge pages", traced=False)
def accountable_mapping(vm_flags: int) -> bool:
    """Whether a mapping is a promise: its pages are private and may be written."""
    return vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE


@kernel("mm/util.c", "vm_commit_limit", formerly=("CommitLimit",))
def vm_commit_limit(mm: Mm) -> int:
    """The pages that may be promised in all where the limit is strict."""
    if mm.sysctl_overcommit_kbytes:
        allowed = mm.sysctl_overcommit_kbytes // PAGE_KIB
    else:
        huge = sum(h.nr_huge_pages << h.order for h in mm.hugetlb.registered())
        allowed = (mm.totalram_pages - huge) * mm.sysctl_overcommit_ratio // 100
    return allowed + mm.total_swap_pages


@kernel("mm/util.c", "vm_memory_committed", left_out="counters of each CPU", traced=False)
def vm_memory_committed(mm: Mm) -> int:
    """The pages that have been promised."""
    return max(0, mm.vm_committed_as)


@kernel("include/linux/mman.h", "vm_unacct_memory", traced=False)
def vm_unacct_memory(mm: Mm, pages: int) -> None:
    """A promise is taken back."""
    mm.vm_committed_as -= pages


@kernel("mm/util.c", "__vm_enough_memory", left_out="admin_reserve_kbytes: all programs are root's, who may have it")
def vm_enough_memory(mm: MmStruct, pages: int) -> bool:
    """Promise so many pages to a program, if that may be done; whether it was."""
    kernel_mm = mm.common.mm
    kernel_mm.vm_committed_as += pages
    how = kernel_mm.sysctl_overcommit_memory
    if how == OVERCOMMIT_ALWAYS:
        return True
    if how == OVERCOMMIT_GUESS:
        enough = pages <= kernel_mm.totalram_pages + kernel_mm.total_swap_pages
    else:
        reserve = min(mm.total_vm // 32, kernel_mm.sysctl_user_reserve_kbytes // PAGE_KIB)
        enough = kernel_mm.vm_committed_as < vm_commit_limit(kernel_mm) - reserve
    if not enough:
        warn_not_enough(kernel_mm)
        vm_unacct_memory(kernel_mm, pages)
    return enough


@invented("the end of __vm_enough_memory", traced=False)
def warn_not_enough(mm: Mm) -> None:
    """Say who could not be promised what it asked for."""
    processes, current = processes_of(mm), mm.current
    if processes is not None and ratelimit(processes.enough_rs, current, "__vm_enough_memory"):
        current.printk.info(
            f"__vm_enough_memory: pid: {current.pid}, comm: {task_comm(current)}, no enough memory for the allocation"
        )


@kernel("include/linux/security.h", "security_vm_enough_memory_mm", left_out="security modules", traced=False)
def charge(mm: MmStruct, pages: int, where: str) -> None:
    """Promise pages to a program. Raises `OutOfMemory` if there are not enough to be promised."""
    if not vm_enough_memory(mm, pages):
        raise OutOfMemory(
            f"ENOMEM: {pages} pages can't be promised", where=where,
            remedy="ask for less, let programs give something back, or write 1 to vm.overcommit_memory",
        )  # fmt: skip


@invented("C adds up in remove_mt and exit_mmap", traced=False)
def accounted_pages(mm: MmStruct, vma: int) -> int:
    """The pages of a VMA that were promised."""
    vmas = mm.common.vmas
    return vma_pages(vmas, vma) if vmas.vm_flags[vma] & VM_ACCOUNT else 0


@kernel("mm/util.c", "overcommit_ratio_handler")
def overcommit_ratio_handler(mm: Mm, value: int) -> None:
    """Set the limit as a part of RAM, in per cent; a number of KiB holds no more."""
    mm.sysctl_overcommit_ratio, mm.sysctl_overcommit_kbytes = value, 0


@kernel("mm/util.c", "overcommit_kbytes_handler")
def overcommit_kbytes_handler(mm: Mm, value: int) -> None:
    """Set the limit in KiB; a part of RAM holds no more."""
    mm.sysctl_overcommit_kbytes, mm.sysctl_overcommit_ratio = value, 0


@invented("a law is code beside the structure it speaks of", traced=False)
def check_committed(processes: Processes) -> None:
    """Committed_AS is the sum of what all programs were promised. Raises `BrokenLaw`."""
    promised = sum(accounted_pages(mm, vma) for mm in processes.mms if mm.address for vma in mm.vmas())
    if processes.common.mm.vm_committed_as != promised:
        raise BrokenLaw(
            f"{processes.common.mm.vm_committed_as} pages count as promised, but VMAs have {promised}",
            where="Committed_AS",
        )
