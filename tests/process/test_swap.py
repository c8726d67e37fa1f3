"""Swapping as programs see it: what they wrote comes back, from wherever it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmemlab.boot.pgtable import get_entry
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.swap_info import SWAP_HAS_CACHE
from kmemlab.mm.swap_state import total_swapcache_pages
from kmemlab.mm.swapops import is_swap_pte, pte_swp_exclusive, pte_to_swp_entry, swp_offset
from kmemlab.mm.vm_event import PGMAJFAULT, PSWPIN, PSWPOUT, SWAP_RA, SWAP_RA_HIT
from kmemlab.mm.vmstat import NODE_STAT_NAMES
from kmemlab.process.madvise import MADV_COLD, MADV_DONTNEED, MADV_PAGEOUT
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_SWAPENTS
from kmemlab.process.pgtable import pte_offset_map
from kmemlab.process.task_struct import find_task
from kmemlab.types.errors import BadRequest, KmemlabError, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.pageflags import PG_active, PG_anon_exclusive, PG_dirty, PG_swapcache, PG_writeback
from tests.process.space import NONE, PAGE, RW, R, machine_of, mm_of
from tests.process.swapping import evict, pageout, squeeze, swap_out

DATA = Path(__file__).parents[1] / "data"
MACHINES = {
    "tiny-128m": "tiny-128m",
    "i386": str(DATA / "machines" / "i386-256m" / "hardware.json"),
    "i386-pae": str(DATA / "machines" / "i386-pae-256m" / "hardware.json"),
}


def content(nth: int) -> bytes:
    """What page `nth` is filled with."""
    return bytes([nth % 251, nth // 251, 7]) * (PAGE // 3)


def process(machine: Machine, pages: int = 16) -> tuple[int, int]:
    """(pid, address of pages that have been written)."""
    pid = machine.spawn("prog")
    address = machine.mmap(pid, pages * PAGE)
    for nth in range(pages):
        machine.user_write(pid, address + nth * PAGE, content(nth))
    return pid, address


def with_swap(source: str = "tiny-128m", pages: int = 1000, *, solid_state: bool = False) -> Machine:
    machine = machine_of(source)
    machine.swapon(pages, solid_state=solid_state)
    return machine


def pte_of(machine: Machine, pid: int, address: int) -> int:
    mm = mm_of(machine, pid)
    ptep = pte_offset_map(mm.tables, address)
    assert ptep is not None
    return get_entry(mm.tables, ptep)


def entry_of(machine: Machine, pid: int, address: int) -> int:
    return pte_to_swp_entry(mm_of(machine, pid).tables.layout, pte_of(machine, pid, address))


def usage(machine: Machine, offset: int) -> int:
    swap = machine.kernel.mm.swap
    return swap.swap_map[swap.info[0].first_block + offset]


def event(machine: Machine, item: int) -> int:
    return machine.kernel.mm.vm_event[item]


def stat(machine: Machine, name: str) -> int:
    return sum(pgdat.vm_stat[NODE_STAT_NAMES.index(name)] for pgdat in machine.kernel.mm.node_data)


# -- out and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solid_state", [False, True])
@pytest.mark.parametrize("source", ["tiny-128m", "i386-pae", "i386"])
def test_what_was_written_comes_back(source: str, solid_state: bool) -> None:
    machine = with_swap(MACHINES[source], solid_state=solid_state)
    pid, address = process(machine, 40)
    swap_out(machine, pid, address, 40)
    assert mm_of(machine, pid).rss_stat[MM_SWAPENTS] == 40
    assert total_swapcache_pages(machine.kernel.mm) == 0
    machine.check()
    for nth in (3, 39, 0, *range(40)):
        assert machine.user_read(pid, address + nth * PAGE, PAGE) == content(nth).ljust(PAGE, b"\0")
    machine.check()
    assert mm_of(machine, pid).rss_stat[MM_ANONPAGES] == 40
    assert event(machine, PSWPIN) == event(machine, PSWPOUT) == 40
    machine.sys_exit(pid, 0)
    machine.check()


def test_an_entry_names_the_slot_and_the_disk_has_the_page() -> None:
    machine = with_swap()
    pid, address = process(machine, 4)
    swap_out(machine, pid, address, 4)
    mm = machine.kernel.mm
    for nth in range(4):
        offset = swp_offset(entry_of(machine, pid, address + nth * PAGE))
        assert offset == 1 + nth
        assert usage(machine, offset) == 1
        block = mm.swap.info[0].first_block + offset
        assert mm.disk.contents.read_bytes(block * PAGE, PAGE) == content(nth).ljust(PAGE, b"\0")
        assert machine.user_pfn(pid, address + nth * PAGE) is None


def test_the_header_is_as_mkswap_writes_it() -> None:
    machine = with_swap(pages=1000)
    machine.sync()
    mm = machine.kernel.mm
    header = mm.disk.contents.read_bytes(mm.swap.info[0].first_block * PAGE, PAGE)
    assert header[-10:] == b"SWAPSPACE2"
    assert [int.from_bytes(header[at : at + 4], "little") for at in (1024, 1028, 1032)] == [1, 999, 0]


def test_between_the_write_and_the_end_a_page_is_in_the_swap_cache() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    pfn = machine.user_pfn(pid, address)
    assert pfn is not None
    machine.madvise(pid, address, PAGE, MADV_PAGEOUT)
    page = machine.kernel.mm.page
    flags = [page_has_flag(page, pfn, flag) for flag in (PG_swapcache, PG_writeback, PG_dirty, PG_anon_exclusive)]
    assert flags == [True, True, False, False]
    assert usage(machine, 1) == 1 | SWAP_HAS_CACHE
    assert stat(machine, "nr_writeback") == stat(machine, "nr_swapcached") == 1
    machine.check()
    before = machine.kernel.mm.current.jiffies
    machine.tick(20)
    assert not page_has_flag(page, pfn, PG_writeback)
    assert stat(machine, "nr_writeback") == 0
    assert machine.kernel.mm.current.jiffies > before
    machine.check()


def test_a_page_that_is_still_in_the_cache_comes_back_without_the_disk() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    pfn = machine.user_pfn(pid, address)
    pageout(machine, pid, address)
    major = find_task(machine.kernel.processes, pid).maj_flt
    assert machine.user_read(pid, address, 3) == content(0)[:3]
    assert machine.user_pfn(pid, address) == pfn
    assert event(machine, PSWPIN) == event(machine, PGMAJFAULT) == 0
    assert find_task(machine.kernel.processes, pid).maj_flt == major
    machine.check()


def test_a_page_that_did_not_change_is_not_written_again() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    swap_out(machine, pid, address)
    machine.user_read(pid, address, 1)
    assert usage(machine, 1) == SWAP_HAS_CACHE  # in memory and on disk: nobody has to write it
    swap_out(machine, pid, address)
    assert event(machine, PSWPOUT) == 1
    assert entry_of(machine, pid, address) == 1
    machine.check()
    assert machine.user_read(pid, address, 3) == content(0)[:3]


def test_a_page_that_changed_is_written_again() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    for text in (b"one", b"two", b"three"):
        swap_out(machine, pid, address)
        machine.user_read(pid, address, 1)
        machine.user_write(pid, address, text)
        machine.check()
    swap_out(machine, pid, address)
    assert machine.user_read(pid, address, 5) == b"three"
    assert event(machine, PSWPOUT) == 4


def test_a_write_while_the_disk_writes_is_not_lost() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    machine.madvise(pid, address, PAGE, MADV_PAGEOUT)
    machine.user_write(pid, address, b"later")
    machine.check()
    machine.tick(20)
    swap_out(machine, pid, address)
    assert machine.user_read(pid, address, 5) == b"later"
    machine.check()


def test_a_fault_that_reads_the_disk_is_a_major_one_and_takes_time() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    swap_out(machine, pid, address)
    task = find_task(machine.kernel.processes, pid)
    before, jiffies = (task.min_flt, task.maj_flt), machine.kernel.mm.current.jiffies
    machine.user_read(pid, address, 1)
    assert (task.min_flt, task.maj_flt) == (before[0], before[1] + 1)
    assert machine.kernel.mm.current.jiffies > jiffies
    assert event(machine, PGMAJFAULT) == 1


# -- whose a page is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "remembers"), [("tiny-128m", True), ("i386-pae", False), ("i386", False)])
def test_64_bit_kernels_remember_that_a_page_was_one_process_s_alone(source: str, remembers: bool) -> None:
    machine = with_swap(MACHINES[source])
    pid, address = process(machine, 1)
    pageout(machine, pid, address)
    layout = mm_of(machine, pid).tables.layout
    assert pte_swp_exclusive(layout, pte_of(machine, pid, address)) == remembers
    machine.user_read(pid, address, 1)
    pfn = machine.user_pfn(pid, address)
    assert pfn is not None
    assert page_has_flag(machine.kernel.mm.page, pfn, PG_anon_exclusive) == remembers
    machine.user_write(pid, address, b"mine")
    assert machine.user_pfn(pid, address) == pfn  # no copy in any case: nobody else has it
    machine.check()


def test_fork_shares_slots() -> None:
    machine = with_swap()
    pid, address = process(machine, 3)
    swap_out(machine, pid, address, 3)
    child = machine.sys_fork(pid)
    layout = mm_of(machine, pid).tables.layout
    assert [usage(machine, offset) for offset in (1, 2, 3)] == [2, 2, 2]
    assert not pte_swp_exclusive(layout, pte_of(machine, pid, address))
    machine.check()
    machine.user_write(child, address, b"child")
    assert (machine.user_read(pid, address, 5), machine.user_read(child, address, 5)) == (content(0)[:5], b"child")
    machine.check()
    machine.user_write(pid, address + PAGE, b"parent")
    assert machine.user_read(child, address + PAGE, 6) == content(1)[:6]
    machine.sys_exit(pid, 0)
    machine.check()
    assert machine.user_read(child, address + 2 * PAGE, PAGE) == content(2).ljust(PAGE, b"\0")
    machine.sys_exit(child, 0)
    machine.check()
    assert machine.kernel.mm.nr_swap_pages == 999 - stored(machine)


def stored(machine: Machine) -> int:
    slots = machine.kernel.mm.swap.slots
    return sum(slots.nr) + sum(slots.n_ret)


def test_both_read_one_page_and_the_first_write_copies() -> None:
    machine = with_swap()
    pid, address = process(machine, 1)
    swap_out(machine, pid, address)
    child = machine.sys_fork(pid)
    assert machine.user_read(pid, address, 2) == machine.user_read(child, address, 2)
    assert machine.user_pfn(pid, address) == machine.user_pfn(child, address)
    machine.check()
    machine.user_write(child, address, b"c")
    assert machine.user_pfn(pid, address) != machine.user_pfn(child, address)
    assert machine.user_read(pid, address, 1) == content(0)[:1]
    machine.check()


def test_a_shared_page_goes_out_of_both_tables() -> None:
    machine = with_swap()
    pid, address = process(machine, 2)
    child = machine.sys_fork(pid)
    mm = machine.kernel.mm
    machine.madvise(pid, address, 2 * PAGE, MADV_PAGEOUT)
    assert machine.user_pfn(pid, address) is not None  # what others map too is left alone by madvise
    hold_all_but(machine, 400)
    for process_id in (pid, child):
        assert mm_of(machine, process_id).rss_stat[MM_SWAPENTS] == 2
    assert usage(machine, swp_offset(entry_of(machine, pid, address))) & ~SWAP_HAS_CACHE == 2
    assert entry_of(machine, pid, address) == entry_of(machine, child, address)
    machine.check()
    assert machine.user_read(child, address, 3) == machine.user_read(pid, address, 3) == content(0)[:3]
    assert mm.swap.info[0].inuse_pages


def hold_all_but(machine: Machine, pages: int) -> list[int]:
    """Take memory until reclaim has had to work; the blocks."""
    taken = []
    while True:
        try:
            if event(machine, PSWPOUT) or sum(zone.vm_stat[0] for zone in machine.zones) < pages // 4:
                machine.tick(20)
                if event(machine, PSWPOUT):
                    return taken
            taken.append(machine.alloc_pages(GFP_KERNEL))
        except OutOfMemory:
            return taken


def test_exit_and_munmap_give_slots_back() -> None:
    machine = with_swap(pages=100)  # too few for stores
    pid, address = process(machine, 30)
    swap_out(machine, pid, address, 30)
    assert machine.kernel.mm.nr_swap_pages == 69
    machine.munmap(pid, address, 10 * PAGE)
    assert machine.kernel.mm.nr_swap_pages == 79
    machine.madvise(pid, address + 10 * PAGE, 5 * PAGE, MADV_DONTNEED)
    assert machine.kernel.mm.nr_swap_pages == 84
    assert machine.user_read(pid, address + 12 * PAGE, 4) == bytes(4)
    machine.check()
    machine.sys_exit(pid, 0)
    assert machine.kernel.mm.nr_swap_pages == 99
    machine.check()


def test_pages_in_the_swap_cache_go_with_their_process() -> None:
    machine = with_swap(pages=100)
    pid, address = process(machine, 30)
    pageout(machine, pid, address, 30)
    assert total_swapcache_pages(machine.kernel.mm) == 30
    machine.sys_exit(pid, 0)
    assert total_swapcache_pages(machine.kernel.mm) == 0
    assert machine.kernel.mm.nr_swap_pages == 99
    machine.check()


def test_pages_that_are_being_written_when_their_process_ends_go_later() -> None:
    machine = with_swap(pages=100)
    pid, address = process(machine, 10)
    machine.madvise(pid, address, 10 * PAGE, MADV_PAGEOUT)
    machine.sys_exit(pid, 0)
    machine.check()
    assert total_swapcache_pages(machine.kernel.mm) == 10
    machine.tick(20)
    evict(machine)
    assert total_swapcache_pages(machine.kernel.mm) == 0
    assert machine.kernel.mm.nr_swap_pages == 99
    machine.check()


def test_rights_are_those_of_the_vma_when_the_page_comes_back() -> None:
    machine = with_swap()
    pid, address = process(machine, 3)
    swap_out(machine, pid, address, 3)
    machine.mprotect(pid, address, PAGE, R)
    machine.mprotect(pid, address + PAGE, PAGE, NONE)
    machine.check()
    assert machine.user_read(pid, address, 3) == content(0)[:3]
    machine.mprotect(pid, address, 2 * PAGE, RW)
    machine.user_write(pid, address, b"x")
    assert machine.user_read(pid, address + PAGE, 3) == content(1)[:3]
    machine.check()


# -- read-ahead --------------------------------------------------------------------------------------------------------


def test_cluster_read_ahead_grows_with_its_hits() -> None:
    machine = with_swap()
    pid, address = process(machine, 64)
    swap_out(machine, pid, address, 64)
    for nth in range(64):
        machine.user_read(pid, address + nth * PAGE, 1)
    # In the order of the slots nearly all faults are hits: eight slots at a time, aligned.
    assert event(machine, SWAP_RA) == event(machine, SWAP_RA_HIT) > 48
    assert event(machine, PSWPIN) == 64
    assert event(machine, PGMAJFAULT) < 12
    machine.check()


def test_cluster_read_ahead_shrinks_without_hits() -> None:
    machine = with_swap()
    pid, address = process(machine, 600)
    swap_out(machine, pid, address, 600)
    for nth in range(0, 600, 29):
        machine.user_read(pid, address + nth * PAGE, 1)
    first = event(machine, SWAP_RA)
    for nth in range(11, 600, 58):
        machine.user_read(pid, address + nth * PAGE, 1)
    assert event(machine, SWAP_RA) - first <= 3
    machine.check()


def test_vma_read_ahead_follows_the_addresses() -> None:
    machine = with_swap(solid_state=True)
    pid, address = process(machine, 64)
    swap_out(machine, pid, address, 64)
    for nth in reversed(range(64)):
        machine.user_read(pid, address + nth * PAGE, 1)
    assert event(machine, SWAP_RA) == event(machine, SWAP_RA_HIT) > 48
    machine.check()


def test_solid_state_without_vma_read_ahead_reads_by_the_slots() -> None:
    machine = with_swap(solid_state=True)
    name = "/sys/kernel/mm/swap/vma_ra_enabled"
    assert machine.sysfs(name) == "true"
    assert machine.sysfs(name, "0") == "false"
    with pytest.raises(BadRequest):
        machine.sysfs(name, "perhaps")
    pid, address = process(machine, 64)
    swap_out(machine, pid, address, 64)
    machine.user_read(pid, address + 20 * PAGE, 1)
    there = [nth for nth in range(64) if swap_cached(machine, pid, address + nth * PAGE)]
    slots = sorted(swp_offset(entry_of(machine, pid, address + nth * PAGE)) for nth in there)
    assert len(slots) == 7  # and the one that was wanted
    assert slots[-1] - slots[0] <= 7
    assert slots[0] // 8 == slots[-1] // 8
    machine.check()


def swap_cached(machine: Machine, pid: int, address: int) -> bool:
    """Whether a page is swapped out, and in the swap cache."""
    pte = pte_of(machine, pid, address)
    return is_swap_pte(pte) and bool(usage(machine, swp_offset(entry_of(machine, pid, address))) & SWAP_HAS_CACHE)


def test_page_cluster_0_reads_one_page_at_a_time() -> None:
    machine = with_swap()
    assert machine.sysctl("vm.page-cluster", 0) == "0"
    pid, address = process(machine, 16)
    swap_out(machine, pid, address, 16)
    for nth in range(16):
        machine.user_read(pid, address + nth * PAGE, 1)
    assert (event(machine, SWAP_RA), event(machine, PGMAJFAULT)) == (0, 16)


def test_a_page_that_comes_back_soon_is_activated() -> None:
    machine = with_swap()
    pid, address = process(machine, 8)
    swap_out(machine, pid, address, 1)
    machine.user_read(pid, address, 1)
    pfn = machine.user_pfn(pid, address)
    assert pfn is not None
    # Nothing else went since, and active pages of files (the inode's block, say) could have gone in its place.
    assert stat(machine, "workingset_refault_anon") == 1
    active = stat(machine, "nr_active_file") + stat(machine, "nr_inactive_file") + stat(machine, "nr_active_anon") > 0
    assert stat(machine, "workingset_activate_anon") == page_has_flag(machine.kernel.mm.page, pfn, PG_active) == active


# -- full, and off -----------------------------------------------------------------------------------------------------


def test_when_swap_is_full_pages_stay() -> None:
    machine = with_swap(pages=11)
    pid, address = process(machine, 30)
    pageout(machine, pid, address, 30)
    assert mm_of(machine, pid).rss_stat[MM_SWAPENTS] == 10
    assert machine.kernel.mm.nr_swap_pages == 0
    assert "10 pages" not in machine.dmesg()
    machine.check()
    for nth in range(30):
        assert machine.user_read(pid, address + nth * PAGE, 3) == content(nth)[:3]
    machine.check()


def test_when_swap_is_more_than_half_full_slots_are_given_back_at_the_fault() -> None:
    machine = with_swap(pages=21)
    pid, address = process(machine, 15)
    swap_out(machine, pid, address, 15)
    machine.user_read(pid, address, 1)  # with 5 of 20 free, a page does not keep its slot
    assert usage(machine, 1) == 0
    machine.check()


@pytest.mark.parametrize("solid_state", [False, True])
def test_swapoff_brings_all_back(solid_state: bool) -> None:
    machine = with_swap(solid_state=solid_state)
    pid, address = process(machine, 100)
    child = machine.sys_fork(pid)
    machine.user_write(child, address, b"own")
    swap_out(machine, child, address, 1)
    machine.sys_exit(child, 0)
    swap_out(machine, pid, address, 80)
    machine.madvise(pid, address + 80 * PAGE, 20 * PAGE, MADV_PAGEOUT)
    machine.swapoff()
    machine.check()
    mm = machine.kernel.mm
    assert (mm.nr_swap_pages, mm.total_swap_pages, total_swapcache_pages(mm)) == (0, 0, 0)
    assert mm_of(machine, pid).rss_stat[MM_SWAPENTS] == 0
    for nth in range(100):
        assert machine.user_read(pid, address + nth * PAGE, PAGE) == content(nth).ljust(PAGE, b"\0")
    assert machine.proc_swaps().count("\n") == 1
    machine.swapon(500)
    swap_out(machine, pid, address, 80)
    machine.check()


def test_swapoff_moves_pages_that_do_not_fit_to_the_other_area() -> None:
    machine = with_swap(pages=200)
    pid, address = process(machine, 100)
    swap_out(machine, pid, address, 100)
    machine.swapon(300, 5)
    machine.swapoff("/dev/sda2")
    machine.check()
    assert [line.split()[0] for line in machine.proc_swaps().splitlines()[1:]] == ["/dev/sda3"]
    for nth in range(100):
        assert machine.user_read(pid, address + nth * PAGE, 3) == content(nth)[:3]


# -- what is told ------------------------------------------------------------------------------------------------------


def test_status_smaps_and_meminfo() -> None:
    machine = with_swap()
    pid, address = process(machine, 20)
    swap_out(machine, pid, address, 12)
    pageout(machine, pid, address + 12 * PAGE, 4)
    child = machine.sys_fork(pid)
    assert "VmSwap:\t      64 kB\n" in machine.proc_status(pid)
    smaps = machine.proc_smaps(child)
    assert [int(kib) for kib in re.findall(r"^Swap: +(\d+) kB", smaps, re.M)] == [64, 0]
    assert [int(kib) for kib in re.findall(r"^SwapPss: +(\d+) kB", smaps, re.M)] == [32, 0]
    told = dict(re.findall(r"^(Swap\w+): +(\d+) kB", meminfo(machine.kernel), re.M))
    used = machine.kernel.mm.swap.info[0].inuse_pages
    assert used == 16 + stored(machine)
    assert told == {"SwapCached": "16", "SwapTotal": str(999 * 4), "SwapFree": str((999 - used) * 4)}


def test_swaps_in_the_format_of_a_real_machine() -> None:
    """Read from a machine of 160 MiB with a disk of 256 MiB for swapping."""
    real = (DATA / "swaps" / "swap-160m" / "swaps.txt").read_text(encoding="ascii")
    machine = with_swap(pages=65536)
    assert machine.proc_swaps() == real.replace("/dev/vda", "/dev/sda2").replace(" " * 32, " " * 31)
    log = (DATA / "swaps" / "swap-160m" / "dmesg.txt").read_text(encoding="ascii").strip()
    assert machine.dmesg().splitlines()[-1] == log.replace("/dev/vda", "/dev/sda2")


def test_the_failure_report_tells_of_swap() -> None:
    machine = with_swap(pages=101)
    pid, address = process(machine, 10)
    pageout(machine, pid, address, 10)
    with pytest.raises(OutOfMemory):
        [machine.alloc_pages(GFP_KERNEL, 10) for _ in range(99)]
    report = machine.dmesg()
    assert re.search(r"\n\d+ pages in swap cache\nFree swap  = 360kB\nTotal swap = 400kB\n", report)


# -- back in time ------------------------------------------------------------------------------------------------------


def test_rewind_over_a_swap_out_and_go_on() -> None:
    machine = with_swap()
    pid, address = process(machine, 12)

    def go_on() -> tuple[object, ...]:
        pageout(machine, pid, address, 12)
        held = squeeze(machine)
        child = machine.sys_fork(pid)
        machine.user_write(child, address + PAGE, b"child")
        texts = tuple(machine.user_read(pid, address + nth * PAGE, 5) for nth in range(12))
        assert event(machine, PSWPIN)
        told = machine.proc_swaps(), machine.proc_smaps(child), meminfo(machine.kernel)
        for pfn, order in held:
            machine.free_pages(pfn, order)
        machine.swapoff()
        return texts, told, machine.proc_swaps(), machine.proc_smaps(child), meminfo(machine.kernel)

    start = machine.proc_swaps(), machine.proc_smaps(pid), meminfo(machine.kernel)
    with machine.recording() as timeline:
        first = go_on()
        machine.check()
        timeline.rewind()
        assert (machine.proc_swaps(), machine.proc_smaps(pid), meminfo(machine.kernel)) == start
        machine.check()
        assert go_on() == first
        machine.check()


def test_a_machine_with_swapped_pages_copies_and_pickles() -> None:
    machine = with_swap(solid_state=True)
    pid, address = process(machine, 12)
    swap_out(machine, pid, address, 12)
    twin = machine.fork()
    twin.user_write(pid, address, b"twin")
    assert machine.user_read(pid, address, 4) == content(0)[:4]
    twin.check()
    machine.check()


def test_cold_pages_become_inactive() -> None:
    machine = with_swap()
    pid, address = process(machine, 40)
    machine.madvise(pid, address, 40 * PAGE, MADV_COLD)
    machine.check()
    with pytest.raises(BadRequest):
        machine.madvise(pid, address + 1, PAGE, MADV_COLD)
    with pytest.raises(KmemlabError):
        machine.madvise(pid, address, 4000 * PAGE, MADV_COLD)
