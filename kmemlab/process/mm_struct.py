"""An address space: its VMAs, its page tables, its counters. And the tables in which all of them are kept.

                     mm.vma: slots of VMAs, ascending by address (C has a maple tree)
mm_struct ─────────▶ │ 7 │ 3 │ 9 │
   │                   │   │   └─▶ vm_start, vm_end, vm_flags, …   one column each, in `Vmas`
   │ pgd               │   └─────▶
   ▼                   └─────────▶
page tables in RAM: below TASK_SIZE the process's own, above it the kernel's, the same in all processes
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.boot.pgtable import PageTables
from kmemlab.mm.address_space import MAX_MAPPINGS
from kmemlab.mm.globals import Mm
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import ListHead, init_list_head
from kmemlab.sim.struct import Cell, Struct, U64Cell
from kmemlab.types.errors import TooLarge

NR_MMS = 128
NR_VMAS = 8192
NR_ANON_VMAS = 4096
MAX_MAP_COUNT = 512  # VMAs of one process; Linux allows 65530

MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES = range(4)
NR_MM_COUNTERS = 4

# Bits of mm_struct.flags.
MMF_OOM_SKIP = 21  # nothing more is to be had of it: the OOM killer passes it over
MMF_UNSTABLE = 22  # its pages have been taken while it was still there
MMF_OOM_REAP_QUEUED = 25  # the OOM reaper will look at it


@kernel(
    "include/linux/mm_types.h",
    "struct vm_area_struct",
    left_out="memory policies, userfaultfd; ours are numbered, 0 is none",
)
class Vmas(Struct):
    """All VMAs of all processes, one column a field; `object` is where C's struct lies."""

    first_free = Cell()  # the list of slots that were used and are free, through vm_pgoff
    nr_ever = Cell()  # slots up to this one were used at some time

    vm_start: Column
    vm_end: Column
    vm_flags: Column
    vm_pgoff: Column
    vm_mm: Column
    vm_file: Column
    anon_vma: Column
    swap_readahead_info: Column
    object: Column

    def __init__(self) -> None:
        size = NR_VMAS + 1
        self.vm_start = column("Q", size)
        self.vm_end = column("Q", size)
        self.vm_flags = column("q", size)
        self.vm_pgoff = column("q", size)
        self.vm_mm = column("i", size)  # 1 + the number of the mm_struct; 0: the slot is free
        self.vm_file = column("i", size)  # the number of the file that it maps; 0: none
        self.anon_vma = column("i", size)
        self.swap_readahead_info = column("q", size)  # see swap_ra.py
        self.object = column("Q", size)


@kernel(
    "include/linux/rmap.h",
    "struct anon_vma",
    left_out="anon_vma_chain: as before Linux 2.6.34, children share the anon_vma of their parent",
)
class AnonVmas(Struct):
    """Who may have an anonymous page: each anon_vma has a list of the VMAs in which its pages can be mapped."""

    first_free = Cell()  # through `degree`, negative there
    nr_ever = Cell()

    degree: Column
    object: Column

    def __init__(self) -> None:
        self.degree = column("i", NR_ANON_VMAS + 1)  # VMAs on the list
        self.object = column("Q", NR_ANON_VMAS + 1)
        # Nodes 0 … NR_VMAS are VMAs, those behind them the heads.
        self.same_anon_vma = ListHead(NR_VMAS + 1 + NR_ANON_VMAS + 1)

    def head(self, anon_vma: int) -> int:
        """The node that heads the list of an anon_vma."""
        return NR_VMAS + 1 + anon_vma


@invented("C has a tree in each address_space, by page numbers; here each mapping has a list of its VMAs")
class IMmap(Struct):
    """Who maps a file: each mapping has a list of the VMAs that do."""

    def __init__(self) -> None:
        # Nodes 0 … NR_VMAS are VMAs, those behind them the heads.
        self.vmas = ListHead(NR_VMAS + 1 + MAX_MAPPINGS + 1)

    def head(self, mapping: int) -> int:
        """The node that heads the list of a mapping."""
        return NR_VMAS + 1 + mapping


@invented("C's global variables are fields here, so that a machine can be copied and rewound")
class ProcessMemory(Struct):
    """What all address spaces share: the caches that their structs come from, the tables of these, what is counted."""

    # the numbers of caches in `slab.caches`; 0: not made yet
    mm_cachep = Cell()
    vm_area_cachep = Cell()
    anon_vma_cachep = Cell()
    task_struct_cachep = Cell()
    pgreuse = Cell()  # writes to a page that had been shared, without a copy (enum vm_event_item)

    def __init__(self, mm: Mm, slab: SlabCommon) -> None:
        self.mm = mm
        self.slab = slab
        self.vmas = Vmas()
        self.anon_vmas = AnonVmas()
        self.i_mmap = IMmap()


@kernel("include/linux/mm_types.h", "struct mm_struct", left_out="locks, control groups, programs' own files, AIO")
class MmStruct(Struct):
    """One address space; sizes in pages, addresses in bytes. `mm_users` is 0 where there is none."""

    address = U64Cell()  # where C's struct lies
    mm_users = Cell()
    task_size = U64Cell()  # the first address that is not the program's
    mmap_base = U64Cell()  # mmap looks for room from here downwards
    start_code = U64Cell()
    start_brk = U64Cell()
    brk = U64Cell()
    start_stack = U64Cell()
    map_count = Cell()
    total_vm = Cell()
    data_vm = Cell()
    exec_vm = Cell()
    stack_vm = Cell()
    locked_vm = Cell()  # pages of VMAs that are locked into memory
    hiwater_rss = Cell()
    hiwater_vm = Cell()
    pgtables_bytes = Cell()
    flags = Cell()  # MMF_…

    vma: Column
    rss_stat: Column

    def __init__(self, common: ProcessMemory, number: int) -> None:
        self.common = common
        self.number = number
        boot = common.mm.boot
        self.tables = PageTables(boot.ram, boot.page_table_levels)
        self.vma = column("i", MAX_MAP_COUNT + 2)  # munmap may cut two before it takes some away
        self.rss_stat = column("q", NR_MM_COUNTERS)

    def vmas(self) -> Iterator[int]:
        """The VMAs, ascending by address (C's `for_each_vma`)."""
        for at in range(self.map_count):
            yield self.vma[at]


@invented("an object of a cache stands for the struct; its fields are in our columns", traced=False)
def take_slot(vmas: Vmas) -> int:
    """The number of a VMA that nobody has. Raises `TooLarge` when there is none."""
    slot = vmas.first_free
    if slot:
        vmas.first_free = vmas.vm_pgoff[slot]
        return slot
    if vmas.nr_ever == NR_VMAS:
        raise TooLarge(f"more than {NR_VMAS} VMAs", where="vm_area_alloc", remedy="let some processes exit")
    vmas.nr_ever += 1
    return vmas.nr_ever


@invented("the way back of `take_slot`", traced=False)
def give_slot(vmas: Vmas, vma: int) -> None:
    """Nobody has this VMA any more."""
    vmas.vm_start[vma] = vmas.vm_end[vma] = vmas.object[vma] = 0
    vmas.vm_flags[vma] = vmas.vm_mm[vma] = vmas.vm_file[vma] = vmas.anon_vma[vma] = 0
    vmas.swap_readahead_info[vma] = 0
    vmas.vm_pgoff[vma] = vmas.first_free
    vmas.first_free = vma


@invented("as for VMAs", traced=False)
def take_anon_vma(anon_vmas: AnonVmas) -> int:
    """The number of an anon_vma that nobody has, with an empty list. Raises `TooLarge` when there is none."""
    slot = anon_vmas.first_free
    if slot:
        anon_vmas.first_free = -anon_vmas.degree[slot]
    elif anon_vmas.nr_ever == NR_ANON_VMAS:
        raise TooLarge(f"more than {NR_ANON_VMAS} anon_vmas", where="anon_vma_alloc", remedy="let processes exit")
    else:
        slot = anon_vmas.nr_ever = anon_vmas.nr_ever + 1
    anon_vmas.degree[slot] = 0
    init_list_head(anon_vmas.same_anon_vma, anon_vmas.head(slot))
    return slot


@invented("as for VMAs", traced=False)
def give_anon_vma(anon_vmas: AnonVmas, slot: int) -> None:
    """Nobody has this anon_vma any more."""
    anon_vmas.object[slot] = 0
    anon_vmas.degree[slot] = -anon_vmas.first_free
    anon_vmas.first_free = slot


@kernel("include/linux/mm.h", "get_mm_counter", traced=False)
def get_mm_counter(mm: MmStruct, member: int) -> int:
    """Pages of one kind (MM_…) that a process has."""
    return mm.rss_stat[member]


@kernel("include/linux/mm.h", "add_mm_counter", left_out="the part that each task keeps for itself", traced=False)
def add_mm_counter(mm: MmStruct, member: int, value: int) -> None:
    """Count pages of one kind in or out."""
    mm.rss_stat[member] += value


@kernel("include/linux/mm.h", "get_mm_rss", traced=False)
def get_mm_rss(mm: MmStruct) -> int:
    """Pages that a process has in memory."""
    return mm.rss_stat[MM_FILEPAGES] + mm.rss_stat[MM_ANONPAGES] + mm.rss_stat[MM_SHMEMPAGES]


@kernel("include/linux/mm.h", "update_hiwater_rss", traced=False)
def update_hiwater_rss(mm: MmStruct) -> None:
    """Remember how many pages there were, before some go: VmHWM."""
    mm.hiwater_rss = max(mm.hiwater_rss, get_mm_rss(mm))


@kernel("include/linux/mm.h", "update_hiwater_vm", traced=False)
def update_hiwater_vm(mm: MmStruct) -> None:
    """Remember how large the address space was, before it shrinks: VmPeak."""
    mm.hiwater_vm = max(mm.hiwater_vm, mm.total_vm)
