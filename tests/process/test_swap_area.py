"""Swap areas as a whole: read-ahead, a full one, swapoff, what /proc tells, and time that runs backwards."""

from __future__ import annotations

import re

import pytest

from kmemlab.machine.procfs import meminfo
from kmemlab.mm.page_state import page_has_flag
from kmemlab.mm.swap_state import total_swapcache_pages
from kmemlab.mm.swapops import swp_offset
from kmemlab.mm.vm_event import PGMAJFAULT, PSWPIN, SWAP_RA, SWAP_RA_HIT
from kmemlab.process.madvise import MADV_COLD, MADV_PAGEOUT
from kmemlab.process.mm_struct import MM_SWAPENTS
from kmemlab.types.errors import BadRequest, KmemlabError, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.pageflags import PG_active
from tests.process.space import PAGE, mm_of
from tests.process.swapping import (
    DATA,
    content,
    entry_of,
    event,
    pageout,
    process,
    squeeze,
    stat,
    stored,
    swap_cached,
    swap_out,
    usage,
    with_swap,
)

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
