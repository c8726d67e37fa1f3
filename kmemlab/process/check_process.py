"""The laws of processes: VMAs in order, tables only where VMAs are, each mapping counted once, nothing left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NoReturn

from kmemlab.boot.pgtable import get_entry
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.folio_batch import NR_FOLIO_BATCHES, folio_batch
from kmemlab.mm.page_mapping import page_anon, page_anon_vma
from kmemlab.mm.swap_state import folio_test_swapcache
from kmemlab.mm.vmstat import NR_ANON_MAPPED, NR_FILE_MAPPED, NR_PAGETABLE
from kmemlab.process.check_file_mapping import check_file_entry, check_file_pages, check_i_mmap
from kmemlab.process.check_mlock import check_mlock
from kmemlab.process.check_vma import check_anon_vmas, check_vmas
from kmemlab.process.mm_struct import MM_SWAPENTS, NR_MM_COUNTERS, MmStruct
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import kernel_entries, next_level, pgd_order, present_ptes
from kmemlab.process.rmap import mm_counter, page_anon_exclusive
from kmemlab.process.task_struct import Processes, for_each_process
from kmemlab.process.vma import find_vma, linear_page_index
from kmemlab.process.zap import vm_normal_page
from kmemlab.sim.kernel import invented
from kmemlab.types.pgtable import PAGE_PRESENT, PAGE_RW, PGD, PMD, PTE, PUD
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE
from kmemlab.types.vm_flags import VM_ACCESS_FLAGS, VM_WRITE


@invented("a law is code beside the structure it speaks of", traced=False)
def check_processes(processes: Processes) -> None:
    """Everything below holds for each process and for all together. Raises `BrokenLaw` that names the law."""
    mms = [mm for mm in processes.mms if mm.address]
    check_tasks(processes)
    mapped: Counter[int] = Counter()
    writable: set[int] = set()
    tables: list[int] = []
    counted_tables = 0
    for mm in mms:
        check_vmas(mm)
        check_kernel_half(mm)
        mapped.update(check_entries(mm, writable))
        counted_tables += check_tables(mm, tables)
    if len(set(tables)) < len(tables):
        _broken("a page table is in two places")
    check_anon_vmas(processes.common, mms)
    check_i_mmap(processes.common, mms)
    check_mlock(processes.common, mms)
    page, waiting = processes.common.mm.page, waiting_for_lru(processes)
    of_programs = Counter({pfn: count for pfn, count in mapped.items() if page_anon(page, pfn)})
    check_pages(processes, of_programs, writable, waiting)
    check_file_pages(processes.common, mapped - of_programs, waiting)
    check_node_counters(processes, len(of_programs), len(mapped) - len(of_programs), counted_tables)


@invented("one of the laws", traced=False)
def check_tasks(processes: Processes) -> None:
    """Pids differ; each living task has a stack and an address space; each address space has as many users as tasks;
    each struct is an object of its cache."""
    tasks = list(for_each_process(processes))
    if len({task.pid for task in tasks}) < len(tasks):
        _broken("two tasks have the same pid")
    if any(bool(task.pid) != bool(task.address) for task in processes.tasks):
        _broken("there is a task without a task_struct, or a task_struct without a task")
    stacks = processes.stacks.in_use()
    users = Counter(task.mm for task in tasks if task.mm)
    for task in tasks:
        if bool(task.mm) != bool(task.stack) or bool(task.mm) == bool(task.exit_state):
            _broken(f"process {task.pid} is half alive")
        if task.stack and (task.stack not in stacks or sum(task.stack == other.stack for other in tasks) > 1):
            _broken(f"the stack of process {task.pid} is not its own")
    for mm in processes.mms:
        if mm.mm_users != users[1 + mm.number] or bool(mm.mm_users) != bool(mm.address):
            _broken(f"address space {mm.number} has {mm.mm_users} users, but {users[1 + mm.number]} tasks use it")
    _check_objects(processes, [task.address for task in processes.tasks if task.address],
                   [mm.address for mm in processes.mms if mm.address])  # fmt: skip


def _check_objects(processes: Processes, tasks: list[int], mms: list[int]) -> None:
    common = processes.common
    vmas, anon_vmas = common.vmas, common.anon_vmas
    vma_objects = [vmas.object[vma] for vma in range(1, vmas.nr_ever + 1) if vmas.object[vma]]
    anon_objects = [anon_vmas.object[slot] for slot in range(1, anon_vmas.nr_ever + 1) if anon_vmas.object[slot]]
    pages = common.slab.pages
    for cachep, objects in (
        (common.task_struct_cachep, tasks),
        (common.mm_cachep, mms),
        (common.vm_area_cachep, vma_objects),
        (common.anon_vma_cachep, anon_objects),
    ):
        if len(set(objects)) < len(objects):
            _broken("two structs are the same object")
        for address in objects:
            if pages.slab_cache[address - pages.page_offset >> PAGE_SHIFT] != cachep:
                _broken(f"the struct at {address:#x} is in no slab of its cache")
        cache = common.slab.caches[cachep]
        if cachep and cache.refcount == 1 and cache.nr_held != len(objects):
            _broken(f"{cache.nr_held} objects of {cache.name} are held, but there are {len(objects)} structs")


@invented("one of the laws", traced=False)
def check_kernel_half(mm: MmStruct) -> None:
    """On 64 bits the kernel's half of each top table is the one of swapper_pg_dir."""
    kernel_tables, size = mm.common.mm.boot.swapper_pg_dir, mm.tables.layout.entry_size
    if mm.common.mm.page.owned[mm.tables.pgd >> PAGE_SHIFT] != 1 + pgd_order(mm):
        _broken(f"nobody holds the top table of address space {mm.number}")
    if mm.common.mm.boot.config.highmem:
        return
    for index in kernel_entries(mm):
        if get_entry(mm.tables, mm.tables.pgd + index * size) != get_entry(
            kernel_tables, kernel_tables.pgd + index * size
        ):
            _broken(f"entry {index} of the top table of address space {mm.number} is not the kernel's")


@invented("one of the laws", traced=False)
def check_entries(mm: MmStruct, writable: set[int]) -> Iterator[int]:
    """Each entry lies in a VMA that allows what it allows, and its page is of that VMA's anon_vma; yields the pages.

    Pages that may be written without a fault are put into `writable`. rss says how many pages of each kind there are.
    """
    common = mm.common
    vmas, page = common.vmas, common.mm.page
    rss = [0] * NR_MM_COUNTERS
    for address, entryp in present_ptes(mm.tables, 0, mm.task_size):
        entry = get_entry(mm.tables, entryp)
        vma = find_vma(mm, address)
        if not vma or address < vmas.vm_start[vma]:
            _broken(f"an entry at {address:#x} of address space {mm.number} lies in no VMA")
        if not pte_present(entry):
            rss[MM_SWAPENTS] += 1
            continue
        flags = vmas.vm_flags[vma]
        if (entry & PAGE_RW and not flags & VM_WRITE) or (entry & PAGE_PRESENT and not flags & VM_ACCESS_FLAGS):
            _broken(f"the entry at {address:#x} of address space {mm.number} allows more than its VMA")
        pfn = vm_normal_page(mm.tables, entry)
        if pfn is None:
            if entry & PAGE_RW:
                _broken(f"the zero page may be written at {address:#x}")
            continue
        rss[mm_counter(page, pfn)] += 1
        if page.owned[pfn] != 1:
            _broken(f"the page at {address:#x} of address space {mm.number} is nobody's")
        yield pfn
        if not page_anon(page, pfn):
            check_file_entry(mm, vma, address, entry, pfn)
            continue
        if page_anon_vma(page, pfn) != vmas.anon_vma[vma] or page.index[pfn] != linear_page_index(vmas, vma, address):
            _broken(f"the page at {address:#x} of address space {mm.number} can't be found through its anon_vma")
        if entry & PAGE_RW:
            writable.add(pfn)
    if rss != list(mm.rss_stat):
        _broken(f"address space {mm.number} has {rss} pages of each kind, but its rss is {list(mm.rss_stat)}")


@invented("one of the laws", traced=False)
def check_tables(mm: MmStruct, tables: list[int]) -> int:
    """Each table covers a part of a VMA, and somebody holds its page; the bytes of all are counted.

    The tables are appended to `tables`; how many of them nr_page_table_pages counts is returned.
    """
    found = list(_tables_below(mm, mm.tables.pgd, PGD, 0))
    tables += [pfn for _, pfn in found]
    for _, pfn in found:
        if mm.common.mm.page.owned[pfn] != 1:
            _broken(f"nobody holds page table {pfn:#x}")
    if mm.pgtables_bytes != PAGE_SIZE * sum(level >= PUD for level, _ in found):
        _broken(f"address space {mm.number} counts {mm.pgtables_bytes} bytes of page tables, but has {len(found)}")
    return sum(level in (PMD, PTE) for level, _ in found)


def _tables_below(mm: MmStruct, table: int, level: int, base: int) -> Iterator[tuple[int, int]]:
    layout, vmas = mm.tables.layout, mm.common.vmas
    size = layout.levels[level].size
    below = next_level(layout, level)
    entries = kernel_entries(mm).start if level == PGD else layout.levels[level].entries
    for index in range(entries):
        entry = get_entry(mm.tables, table + index * layout.entry_size)
        if not entry:
            continue
        start = base + index * size
        vma = find_vma(mm, start)
        if not (level == PGD and layout.name == "PAE") and (not vma or vmas.vm_start[vma] >= start + size):
            _broken(f"a page table for {start:#x} of address space {mm.number} covers no VMA")
        yield below, (entry & layout.address_mask) >> PAGE_SHIFT
        if below != PTE:
            yield from _tables_below(mm, entry & layout.address_mask, below, start)


@invented("one of the laws", traced=False)
def check_pages(processes: Processes, mapped: Counter[int], writable: set[int], waiting: Counter[int]) -> None:
    """mapcount is the number of entries, and each of them holds a reference, as does each batch in which the page waits
    for its LRU list, and the swap cache; who may write has the page alone."""
    page = processes.common.mm.page
    for pfn, count in mapped.items():
        if page.mapcount[pfn] != count:
            _broken(f"page {pfn:#x} is mapped {count} times, but its mapcount is {page.mapcount[pfn]}")
        if page.refcount[pfn] != count + waiting[pfn] + folio_test_swapcache(processes.common.mm, pfn):
            _broken(f"page {pfn:#x} is mapped {count} times, but has {page.refcount[pfn]} references")
        if count > 1 and (pfn in writable or page_anon_exclusive(page, pfn)):
            _broken(f"page {pfn:#x} is shared, yet somebody may write into it")
        if pfn in writable and not page_anon_exclusive(page, pfn):
            _broken(f"page {pfn:#x} may be written, but is not marked as its process's alone")


@invented("one of the laws", traced=False)
def waiting_for_lru(processes: Processes) -> Counter[int]:
    """In how many batches each page waits for its LRU list."""
    batches = processes.common.mm.cpu_fbatches
    return Counter(
        pfn for cpu in range(batches.nr_cpus) for kind in range(NR_FOLIO_BATCHES)
        for pfn in folio_batch(batches, cpu, kind)
    )  # fmt: skip


@invented("one of the laws", traced=False)
def check_node_counters(processes: Processes, anon: int, mapped: int, tables: int) -> None:
    """The nodes count as many pages of programs, mapped pages of files, and tables, as there are."""
    for item, name, there in (
        (NR_ANON_MAPPED, "nr_anon_pages", anon),
        (NR_FILE_MAPPED, "nr_mapped", mapped),
        (NR_PAGETABLE, "nr_page_table_pages", tables),
    ):
        counted = sum(pgdat.vm_stat[item] for pgdat in processes.common.mm.node_data)
        if counted != there:
            _broken(f"{name} is {counted}, but there are {there}")


def _broken(law: str) -> NoReturn:
    raise BrokenLaw(law, where="processes")
