"""The laws of processes are shown seeded defects: they must catch each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.page_state import page_ref_inc
from kmemlab.process.anon_vma import anon_vma_clone, unlink_anon_vmas
from kmemlab.process.check_process import check_processes
from kmemlab.process.check_vma import check_anon_vmas, check_vmas
from kmemlab.process.copy_page import copy_present_pte
from kmemlab.process.fork import free_task_struct
from kmemlab.process.mm_struct import add_mm_counter
from kmemlab.process.mman import vm_get_page_prot
from kmemlab.process.mprotect import change_protection
from kmemlab.process.pgtable import count_table, free_pgd_range, mod_lruvec_page_state, pgd_ctor, pte_offset_map
from kmemlab.process.rmap import page_dup_anon_rmap, page_remove_rmap
from kmemlab.process.vma import vm_area_free, vm_stat_account, vma_link, vma_mas_remove
from kmemlab.process.vma_merge import set_range, vma_adjust
from kmemlab.process.zap import free_page_and_swap_cache, zap_pte_range
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError
from kmemlab.types.pgtable import PAGE_RW
from tests.process.space import PAGE, RW, R, machine_of, mm_of


def live(machine: Machine) -> None:
    """Some of everything; checked after each step."""
    processes = machine.kernel.processes
    pid = machine.spawn()
    address = machine.mmap(pid, 16 * PAGE)

    def steps() -> Any:
        yield machine.touch(pid, address, 12 * PAGE)
        yield machine.touch(pid, address + 12 * PAGE, 2 * PAGE, write=False)
        yield machine.mprotect(pid, address + 8 * PAGE, 2 * PAGE, R)
        yield machine.mprotect(pid, address + 8 * PAGE, 2 * PAGE, RW)
        child = machine.sys_fork(pid)
        yield
        yield machine.user_write(child, address, b"mine")
        yield machine.user_write(child, address + 13 * PAGE, b"mine, too")
        yield machine.mprotect(pid, address + 4 * PAGE, 4 * PAGE, R)
        yield machine.mprotect(pid, address + 4 * PAGE, 4 * PAGE, RW)
        yield machine.munmap(pid, address + 6 * PAGE, 2 * PAGE)
        yield machine.mmap(pid, 2 * PAGE, addr=address + 6 * PAGE)
        yield machine.touch(pid, 0x7FFFFFF00000, 1)
        yield machine.sys_exit(child)
        yield machine.sys_wait(pid)
        yield machine.user_write(pid, address, b"alone again")
        yield machine.munmap(pid, address, 16 * PAGE)
        yield machine.sys_exit(pid)

    check_processes(processes)
    for _ in steps():
        check_processes(processes)


def test_without_a_defect_the_laws_hold() -> None:
    live(machine_of())


def links_at_the_end(mm, vma):
    mm.vma[mm.map_count] = vma
    mm.map_count += 1


def forgets_one(mm, vma):
    vma_mas_remove.original(mm, vma)
    mm.map_count += 1


def counts_no_space(mm, flags, npages):
    if npages > 0:
        vm_stat_account.original(mm, flags, npages)


def leaks_vmas(mm, vma):
    return None


def grows_over_neighbours(mm, expand, start, end):
    set_range(mm.common.vmas, expand, start, end)


def forgets_the_page_number(vmas, vma, start, end):
    vmas.vm_start[vma], vmas.vm_end[vma] = start, end


def stays_on_the_list(common, vma):
    common.vmas.anon_vma[vma] = 0


def joins_nothing(common, dst, src):
    return None


def copies_the_right_to_write(dst_mm, src_mm, dst_ptep, src_ptep, vm_flags):
    entry = get_entry(src_mm.tables, src_ptep)
    copy_present_pte.original(dst_mm, src_mm, dst_ptep, src_ptep, vm_flags)
    set_entry(src_mm.tables, src_ptep, entry)


def counts_no_mapping(mm, pfn):
    return None


def takes_no_reference(page, pfn):
    return None


def counts_no_pages(mm, member, value):
    return None


def counts_fewer(mm, member, value):
    if value > 0:
        add_mm_counter.original(mm, member, value)


def never_unmaps(mm, pfn):
    return None


def leaks_pages(mm, pfn):
    return None


def leaves_entries(mm, addr, end, vm_flags):
    zap_pte_range.original(mm, addr, end - PAGE, vm_flags)


def leaks_tables(mm, addr, end, floor, ceiling, level=0):
    return None


def frees_tables_in_use(mm, addr, end, floor, ceiling, level=0):
    free_pgd_range.original(mm, addr, end, 0, 1 << 64, level)


def counts_no_table(mm, level, pfn, count):
    if count > 0:
        count_table.original(mm, level, pfn, count)


def counts_nowhere(mm, pfn, item, count):
    return None


def always_writable(boot, vm_flags):
    return vm_get_page_prot.original(boot, vm_flags) | PAGE_RW


def keeps_the_right_to_write(mm, start, end, vm_flags):
    return None


def an_empty_kernel_half(mm):
    return None


def keeps_the_struct(processes, task):
    task.pid = 0


def still_alone(mm, pfn):
    mm.page.mapcount[pfn] += 1


MUTANTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (vma_link, links_at_the_end),
    (vma_mas_remove, forgets_one),
    (vm_stat_account, counts_no_space),
    (vm_area_free, leaks_vmas),
    (vma_adjust, grows_over_neighbours),
    (set_range, forgets_the_page_number),
    (unlink_anon_vmas, stays_on_the_list),
    (anon_vma_clone, joins_nothing),
    (copy_present_pte, copies_the_right_to_write),
    (page_dup_anon_rmap, counts_no_mapping),
    (page_dup_anon_rmap, still_alone),
    (page_ref_inc, takes_no_reference),
    (add_mm_counter, counts_no_pages),
    (add_mm_counter, counts_fewer),
    (page_remove_rmap, never_unmaps),
    (free_page_and_swap_cache, leaks_pages),
    (zap_pte_range, leaves_entries),
    (free_pgd_range, leaks_tables),
    (free_pgd_range, frees_tables_in_use),
    (count_table, counts_no_table),
    (mod_lruvec_page_state, counts_nowhere),
    (vm_get_page_prot, always_writable),
    (change_protection, keeps_the_right_to_write),
    (pgd_ctor, an_empty_kernel_half),
    (free_task_struct, keeps_the_struct),
]


@pytest.mark.parametrize(("function", "mutant"), MUTANTS, ids=[mutant.__name__ for _, mutant in MUTANTS])
def test_a_seeded_defect_is_caught(function: Callable[..., Any], mutant: Callable[..., Any]) -> None:
    machine = machine_of()
    with livepatch(function, mutant), pytest.raises((BrokenLaw, AssertionError, KmemlabError)) as found:
        live_and_look_back(machine)
    assert isinstance(found.value, (BrokenLaw, AssertionError)) or "page fault" in str(found.value), found.value


def live_and_look_back(machine: Machine) -> None:
    """A page that nobody but its own count knows of is found when all processes are gone."""
    live(machine)
    page = machine.kernel.mm.page
    pages = [pfn for pfn in range(page.max_pfn) if page_anon(page, pfn)]
    if pages:
        raise BrokenLaw(f"pages {pages[:3]} are nobody's", where="processes")


# -- single cells, written wrong ---------------------------------------------------------------------------------------


def settled() -> tuple[Machine, int, int, int]:
    machine = machine_of()
    pid = machine.spawn()
    address = machine.mmap(pid, 8 * PAGE)
    machine.touch(pid, address, 4 * PAGE)
    return machine, pid, machine.sys_fork(pid), address


def cell_of_vma(name: str, change: int) -> Callable[..., None]:
    def damage(machine: Machine, pid: int, child: int, address: int) -> None:
        mm = mm_of(machine, pid)
        getattr(mm.common.vmas, name)[mm.vma[0]] += change

    return damage


def entry_at(change: int) -> Callable[..., None]:
    def damage(machine: Machine, pid: int, child: int, address: int) -> None:
        tables = mm_of(machine, pid).tables
        ptep = pte_offset_map(tables, address)
        assert ptep is not None
        set_entry(tables, ptep, get_entry(tables, ptep) ^ change)

    return damage


def cell_of_page(name: str, change: int) -> Callable[..., None]:
    def damage(machine: Machine, pid: int, child: int, address: int) -> None:
        getattr(machine.kernel.mm.page, name)[machine.user_pfn(pid, address)] += change

    return damage


def cell_of_mm(name: str) -> Callable[..., None]:
    def damage(machine: Machine, pid: int, child: int, address: int) -> None:
        mm = mm_of(machine, pid)
        setattr(mm, name, getattr(mm, name) + 1)

    return damage


VMA_DAMAGE = {
    "start": cell_of_vma("vm_start", -PAGE),
    "unaligned": cell_of_vma("vm_end", -1),
    "end": cell_of_vma("vm_end", 1 << 46),
    "owner": cell_of_vma("vm_mm", 1),
    "flags": cell_of_vma("vm_flags", -2),
    "total": cell_of_mm("total_vm"),
    "count": cell_of_mm("map_count"),
}
OTHER_DAMAGE = {
    "anon_vma": cell_of_vma("anon_vma", -1),
    "pgoff": cell_of_vma("vm_pgoff", 1),
    "writable": entry_at(PAGE_RW),
    "frame": entry_at(1 << 12),
    "mapcount": cell_of_page("mapcount", 1),
    "refcount": cell_of_page("refcount", 1),
    "mapping": cell_of_page("mapping", 2),
    "index": cell_of_page("index", 1),
    "tables": cell_of_mm("pgtables_bytes"),
    "users": cell_of_mm("mm_users"),
    "pgd": lambda machine, pid, child, address: setattr(
        mm_of(machine, pid).tables, "pgd", mm_of(machine, child).tables.pgd
    ),
    "degree": lambda machine, pid, child, address: machine.kernel.processes.common.anon_vmas.degree.__setitem__(1, 3),
    "stack": lambda machine, pid, child, address: setattr(
        machine.kernel.processes.tasks[0], "stack", machine.kernel.processes.tasks[1].stack
    ),
    "pid": lambda machine, pid, child, address: setattr(machine.kernel.processes.tasks[0], "pid", child),
}


@pytest.mark.parametrize("damage", VMA_DAMAGE.values(), ids=VMA_DAMAGE)
def test_check_vmas_sees_a_cell_that_is_wrong(damage: Callable[..., None]) -> None:
    case = settled()
    check_vmas(mm_of(case[0], case[1]))
    damage(*case)
    with pytest.raises(BrokenLaw):
        check_vmas(mm_of(case[0], case[1]))


@pytest.mark.parametrize("damage", OTHER_DAMAGE.values(), ids=OTHER_DAMAGE)
def test_check_processes_sees_a_cell_that_is_wrong(damage: Callable[..., None]) -> None:
    case = settled()
    check_processes(case[0].kernel.processes)
    damage(*case)
    with pytest.raises(BrokenLaw):
        check_processes(case[0].kernel.processes)


def test_check_anon_vmas_sees_lists_that_are_wrong() -> None:
    for nth in range(5):
        machine, pid, child, _ = settled()
        common = machine.kernel.processes.common
        mms = [mm_of(machine, who) for who in (pid, child)]
        vma = mms[0].vma[0]
        if nth == 0:
            common.vmas.anon_vma[vma] = 0
        elif nth == 1:
            common.anon_vmas.degree[common.vmas.anon_vma[vma]] += 1
        elif nth == 2:
            unlink_anon_vmas(common, vma)
            common.vmas.anon_vma[vma] = 1
        elif nth == 3:
            mms[1].vma[0] = vma
        else:
            common.vmas.vm_mm[common.vmas.nr_ever] = 0
        with pytest.raises(BrokenLaw):
            check_anon_vmas(common, mms)
