"""/proc/PID: maps, smaps, status, in the kernel's words. They only read.

7ffff7fef000-7ffff7fff000 rw-s 00004000 08:01 1                          /data
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
└ where ─────────────────┘ │     │        │     └ number of the file
                           │     │        └ disk
                           │     └ where in the file it begins
                           └ rights; p: a write makes a copy, s: it goes into the file
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from kmemlab.boot.pgtable import get_entry
from kmemlab.mm.files import file_name
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.swap_count import swp_swapcount
from kmemlab.mm.swapops import pte_to_swp_entry
from kmemlab.process.mm_struct import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    MmStruct,
    get_mm_counter,
    get_mm_rss,
)
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import present_ptes
from kmemlab.process.task_struct import EXIT_ZOMBIE, Processes, find_task, for_each_process, living, task_mm
from kmemlab.process.vma import vma_pages
from kmemlab.process.zap import vm_normal_page
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_dirty, PG_referenced
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY
from kmemlab.types.units import KIB, PAGE_SHIFT, PAGE_SIZE
from kmemlab.types.vm_flags import VM_EXEC, VM_GROWSDOWN, VM_LOCKED, VM_MAYSHARE, VM_READ, VM_WRITE

PSS_SHIFT = 12
DISK = "08:01"
"""The disk, as a device number: sda1."""


@invented("C reads the fields of each task", traced=False)
@dataclass(frozen=True, slots=True)
class OomTask:
    """One row of the table that the OOM killer looks through; pages, but for the tables' bytes."""

    pid: int
    name: str
    total_vm: int
    rss: int
    pgtables_bytes: int
    swapents: int
    oom_score_adj: int


@invented("dump_tasks prints these rows; here they are handed out")
def oom_tasks(processes: Processes) -> tuple[OomTask, ...]:
    """Every task that has memory which killing it would free."""
    rows = []
    for task in for_each_process(processes):
        mm = task_mm(processes, task)
        if mm is not None:
            swapents = get_mm_counter(mm, MM_SWAPENTS)
            rows.append(
                OomTask(task.pid, task.name, mm.total_vm, get_mm_rss(mm), mm.pgtables_bytes, swapents,
                        task.oom_score_adj)
            )  # fmt: skip
    return tuple(rows)


@kernel("fs/proc/task_mmu.c", "show_map_vma", left_out="names that programs give", traced=False)
def show_map_vma(mm: MmStruct, vma: int) -> str:
    """The line of one VMA."""
    vmas = mm.common.vmas
    flags = vmas.vm_flags[vma]
    rights = "".join(
        letter if flags & bit else "-" for letter, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC))
    )
    line = f"{vmas.vm_start[vma]:08x}-{vmas.vm_end[vma]:08x} {rights}{'s' if flags & VM_MAYSHARE else 'p'}"
    file = vmas.vm_file[vma]
    line += f" {vmas.vm_pgoff[vma] << PAGE_SHIFT:08x} {DISK} {file} " if file else " 00000000 00:00 0 "
    name = vma_name(mm, vma)
    width = 25 + 6 * mm.common.mm.boot.config.sizeof_pointer - 1
    return f"{line:<{width}} {name}" if name else line


@invented("a part of show_map_vma", traced=False)
def vma_name(mm: MmStruct, vma: int) -> str:
    """The file, [heap], [stack], or nothing."""
    vmas = mm.common.vmas
    if vmas.vm_file[vma]:
        return f"/{file_name(mm.common.mm.files, vmas.vm_file[vma])}"
    if vmas.vm_start[vma] <= mm.brk and vmas.vm_end[vma] >= mm.start_brk:
        return "[heap]"
    if vmas.vm_start[vma] <= mm.start_stack <= vmas.vm_end[vma] and vmas.vm_flags[vma] & VM_GROWSDOWN:
        return "[stack]"
    return ""


@kernel("fs/proc/task_mmu.c", "show_map")
def proc_pid_maps(processes: Processes, pid: int) -> str:
    """/proc/PID/maps: a line a VMA. Raises `BadRequest`."""
    _, mm = living(processes, pid)
    return "".join(f"{show_map_vma(mm, vma)}\n" for vma in mm.vmas())


@kernel("fs/proc/task_mmu.c", "struct mem_size_stats", left_out="huge pages, shared memory", traced=False)
@dataclass(slots=True)
class MemSizeStats:
    """What the pages of one VMA come to, in bytes; `pss` is shifted up, so that a page shared by three loses little."""

    resident: int = 0
    pss: int = 0
    pss_dirty: int = 0
    shared_clean: int = 0
    shared_dirty: int = 0
    private_clean: int = 0
    private_dirty: int = 0
    referenced: int = 0
    anonymous: int = 0
    swap: int = 0
    swap_pss: int = 0


@kernel("fs/proc/task_mmu.c", "smap_gather_stats", formerly=("smaps_account", "smaps_pte_range"))
def smap_gather_stats(mm: MmStruct, vma: int) -> MemSizeStats:
    """Look at every page of a VMA: who shares it, was it read or written."""
    vmas, page, layout = mm.common.vmas, mm.common.mm.page, mm.tables.layout
    mss = MemSizeStats()
    for _, entryp in present_ptes(mm.tables, vmas.vm_start[vma], vmas.vm_end[vma]):
        entry = get_entry(mm.tables, entryp)
        if not pte_present(entry):
            mss.swap += PAGE_SIZE
            mss.swap_pss += (PAGE_SIZE << PSS_SHIFT) // swp_swapcount(mm.common.mm, pte_to_swp_entry(layout, entry))
            continue
        pfn = vm_normal_page(mm.tables, entry)
        if pfn is None:
            continue
        mapcount, flags = page.mapcount[pfn], page.flags[pfn]
        dirty = bool(entry & PAGE_DIRTY or flags >> PG_dirty & 1)
        young = bool(entry & PAGE_ACCESSED or flags >> PG_referenced & 1)
        share = (PAGE_SIZE << PSS_SHIFT) // mapcount
        mss.resident += PAGE_SIZE
        mss.anonymous += PAGE_SIZE if page_anon(page, pfn) else 0
        mss.referenced += PAGE_SIZE if young else 0
        mss.pss += share
        mss.pss_dirty += share if dirty else 0
        kind = f"{'shared' if mapcount > 1 else 'private'}_{'dirty' if dirty else 'clean'}"
        setattr(mss, kind, getattr(mss, kind) + PAGE_SIZE)
    return mss


@kernel("fs/proc/task_mmu.c", "show_smap", left_out="the lines THPeligible, ProtectionKey and VmFlags")
def proc_pid_smaps(processes: Processes, pid: int) -> str:
    """/proc/PID/smaps: for each VMA how much of it is there, and with whom it is shared. Raises `BadRequest`."""
    _, mm = living(processes, pid)
    return "".join(show_smap(mm, vma) for vma in mm.vmas())


@kernel("fs/proc/task_mmu.c", "__show_smap", traced=False)
def show_smap(mm: MmStruct, vma: int) -> str:
    """The part of one VMA."""
    mss = smap_gather_stats(mm, vma)
    rows: list[tuple[str, int]] = [
        ("Size", vma_pages(mm.common.vmas, vma) * PAGE_SIZE), ("KernelPageSize", PAGE_SIZE), ("MMUPageSize", PAGE_SIZE),
        ("Rss", mss.resident), ("Pss", mss.pss >> PSS_SHIFT), ("Pss_Dirty", mss.pss_dirty >> PSS_SHIFT),
    ]  # fmt: skip
    rows += [(field.name.capitalize(), getattr(mss, field.name)) for field in fields(mss)[3:-2]]
    nothing = ("LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb")
    rows += [(name, 0) for name in nothing]
    locked = mss.pss >> PSS_SHIFT if mm.common.vmas.vm_flags[vma] & VM_LOCKED else 0
    rows += [("Swap", mss.swap), ("SwapPss", mss.swap_pss >> PSS_SHIFT), ("Locked", locked)]
    text = show_map_vma(mm, vma) + "\n"
    for label, size in rows:
        first, _, second = label.partition("_")
        label = f"{first}_{second.capitalize()}" if second else label
        text += f"{label + ':':<16}{size // KIB:>{24 - max(16, len(label) + 1)}} kB\n"
    return text


@kernel("fs/proc/array.c", "proc_pid_status", left_out="all lines that have nothing to do with memory")
def proc_pid_status(processes: Processes, pid: int) -> str:
    """/proc/PID/status: who it is, and how much memory it has. Raises `BadRequest`."""
    task = find_task(processes, pid)
    state = "Z (zombie)" if task.exit_state == EXIT_ZOMBIE else "S (sleeping)"
    text = f"Name:\t{task.name}\nState:\t{state}\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{task.parent}\n"
    mm = task_mm(processes, task)
    return text + (task_mem(mm) if mm is not None else "") + "Threads:\t1\n"


@kernel("fs/proc/task_mmu.c", "task_mem", left_out="pinned pages: there are none", traced=False)
def task_mem(mm: MmStruct) -> str:
    """The lines about memory."""
    pages = PAGE_SIZE // KIB
    rows = (
        ("VmPeak", max(mm.hiwater_vm, mm.total_vm) * pages),
        ("VmSize", mm.total_vm * pages),
        ("VmLck", mm.locked_vm * pages),
        ("VmPin", 0),
        ("VmHWM", max(mm.hiwater_rss, get_mm_rss(mm)) * pages),
        ("VmRSS", get_mm_rss(mm) * pages),
        ("RssAnon", get_mm_counter(mm, MM_ANONPAGES) * pages),
        ("RssFile", get_mm_counter(mm, MM_FILEPAGES) * pages),
        ("RssShmem", get_mm_counter(mm, MM_SHMEMPAGES) * pages),
        ("VmData", mm.data_vm * pages),
        ("VmStk", mm.stack_vm * pages),
        ("VmExe", 0),
        ("VmLib", mm.exec_vm * pages),
        ("VmPTE", mm.pgtables_bytes // KIB),
        ("VmSwap", get_mm_counter(mm, MM_SWAPENTS) * pages),
    )
    return "".join(f"{name}:\t{kib:>8} kB\n" for name, kib in rows)


@kernel("kernel/sys.c", "getrusage", left_out="all but the page faults; those of children")
def getrusage(processes: Processes, pid: int) -> tuple[int, int]:
    """(minor page faults, major ones) of a process. Raises `BadRequest`."""
    task = find_task(processes, pid)
    return task.min_flt, task.maj_flt
