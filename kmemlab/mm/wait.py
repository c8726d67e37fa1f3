"""Waiting: the one clock goes on, the disk gets its work done, and daemons run.

reader: lock_page ──▶ io_schedule ──▶ jiffies + 1 ──▶ disk: requests that are done ──▶ kswapd, flusher ──▶ done yet?

A machine runs one thing at a time, as Linux does on one CPU. Besides waiting, a task loses the CPU to a daemon that
was woken where it offers it (cond_resched: before each page that is asked for to hold a file's data, between two pages
of a file, before and behind direct reclaim) and when it goes back to its program (exit_to_user_mode: the end of each
command). No time passes by that.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.hardware.disk import QUEUE_DEPTH, copy_page
from kmemlab.mm.context import may_sleep
from kmemlab.mm.globals import Mm
from kmemlab.mm.kcompactd_wake import kcompactd_has_work
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, set_page_flag, set_page_flag_first
from kmemlab.mm.page_writeback import folio_end_writeback, global_node_page_state
from kmemlab.mm.vm_event import PGPGIN, PGPGOUT
from kmemlab.mm.vmstat import NR_FILE_DIRTY
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pageflags import PG_locked, PG_uptodate, PG_writeback
from kmemlab.types.units import KIB, PAGE_SIZE

# Filled when modules are loaded: what runs each jiffy. Each looks for itself whether it has anything to do.
DAEMONS: dict[str, Callable[[Mm], None]] = {}
TURNS = ("kswapd", "kcompactd", "flusher", "oom_reaper")
"""In which order they run, whichever module was loaded first."""


@kernel("block/blk-core.c", "submit_bio", left_out="joining requests, schedulers, errors")
def submit_bio(mm: Mm, pfn: int, block: int, write: bool) -> None:
    """Ask the disk to read a block into a page, or to write a page; wait first if its queue is full."""
    while mm.disk.pending == QUEUE_DEPTH:
        io_schedule(mm)
    mm.disk.submit(mm.current.jiffies, pfn, block, write)
    mm.vm_event[PGPGOUT if write else PGPGIN] += PAGE_SIZE // KIB


@kernel("block/blk-mq.c", "blk_mq_complete_request", left_out="interrupts")
def complete_requests(mm: Mm) -> None:
    """Do what is due: requests that the disk has finished by now reach their pages."""
    disk, ram = mm.disk, mm.boot.ram
    while disk.pending and disk.next_done() <= mm.current.jiffies:
        pfn, block, write = disk.take_done()
        if write:
            copy_page(ram, pfn, disk.contents, block)
            folio_end_writeback(mm, pfn)
        else:
            copy_page(disk.contents, block, ram, pfn)
            set_page_flag(mm.page, pfn, PG_uptodate)
            folio_unlock(mm, pfn)


@kernel("kernel/time/timer.c", "tick_handle_periodic", left_out="all timers but these")
def tick(mm: Mm) -> None:
    """One jiffy passes. Daemons that wait themselves let time pass, but don't start others."""
    mm.current.jiffies += 1
    complete_requests(mm)
    if not mm.in_worker:
        run_daemons(mm)


@invented("the scheduler: each daemon has its turn, and the task goes on when all wait", traced=False)
def run_daemons(mm: Mm) -> None:
    """Let each daemon do what it has to do."""
    mm.current.need_resched = 0
    mm.in_worker = 1
    try:
        for name in TURNS:
            if name in DAEMONS:
                DAEMONS[name](mm)
    finally:
        mm.in_worker = 0


@kernel(
    "include/linux/sched.h",
    "cond_resched",
    left_out="other tasks; that whoever was woken may still have to wait until this task's slice is over",
    traced=False,
)
def cond_resched(mm: Mm) -> None:
    """A point where the task may be stopped: a daemon that was woken since runs now."""
    if mm.current.need_resched and not mm.in_worker and may_sleep(mm.current):
        run_daemons(mm)


@kernel(
    "kernel/entry/common.c",
    "exit_to_user_mode_prepare",
    left_out="signals; other tasks; the end of a page fault: in Linux kswapd starts there, and after 3 ms the program "
    "goes on, while here kswapd would run until it is done, and leave the program nothing to free",
    traced=False,
)
def exit_to_user_mode(mm: Mm) -> None:
    """The kernel's work for a program is done: a daemon that was woken, or that has not come to an end, runs now."""
    woken = any(pgdat.kswapd_awake or pgdat.kcompactd_awake for pgdat in mm.node_data)
    if woken and not mm.in_worker and may_sleep(mm.current):
        run_daemons(mm)


@invented("time that nobody does anything with costs nothing")
def pass_time(mm: Mm, jiffies: int) -> None:
    """Let jiffies pass, one by one as long as the disk, a daemon or changed pages want them."""
    end = mm.current.jiffies + jiffies
    while mm.current.jiffies < end:
        awake = any(
            pgdat.kswapd_awake or pgdat.kswapd_sleep_until or kcompactd_has_work(mm, pgdat) for pgdat in mm.node_data
        )
        wanted = mm.disk.pending or awake or mm.wb_start_all or mm.oom_reaper_timers
        if not (wanted or global_node_page_state(mm, NR_FILE_DIRTY)):
            mm.current.jiffies = end
            return
        tick(mm)


@kernel("kernel/sched/core.c", "io_schedule")
def io_schedule(mm: Mm) -> None:
    """Sleep until something may have changed: here, a jiffy."""
    tick(mm)


@kernel("include/linux/pagemap.h", "folio_trylock", formerly=("trylock_page",), traced=False)
def folio_trylock(mm: Mm, pfn: int) -> bool:
    """Lock a page if nobody has; whether that was so."""
    return set_page_flag_first(mm.page, pfn, PG_locked)


@kernel("mm/filemap.c", "folio_unlock", formerly=("unlock_page",), traced=False)
def folio_unlock(mm: Mm, pfn: int) -> None:
    """Let others lock a page."""
    assert page_has_flag(mm.page, pfn, PG_locked), f"pfn {pfn} is not locked"
    clear_page_flag(mm.page, pfn, PG_locked)


@kernel("include/linux/pagemap.h", "folio_lock", formerly=("lock_page",))
def folio_lock(mm: Mm, pfn: int) -> None:
    """Lock a page, and wait for that if somebody else has: the disk, as a rule."""
    while not folio_trylock(mm, pfn):
        assert mm.disk.pending, f"pfn {pfn} is locked, and nobody will unlock it"
        io_schedule(mm)


@kernel("mm/filemap.c", "folio_wait_locked", formerly=("wait_on_page_locked",))
def folio_wait_locked(mm: Mm, pfn: int) -> None:
    """Wait until nobody has the page locked; the caller refers to it."""
    while page_has_flag(mm.page, pfn, PG_locked):
        assert mm.disk.pending, f"pfn {pfn} is locked, and nobody will unlock it"
        io_schedule(mm)


@kernel("mm/page-writeback.c", "folio_wait_writeback", formerly=("wait_on_page_writeback",))
def folio_wait_writeback(mm: Mm, pfn: int) -> None:
    """Wait until the disk has written the page; the caller refers to it."""
    while page_has_flag(mm.page, pfn, PG_writeback):
        assert mm.disk.pending, f"pfn {pfn} is being written, and nobody will say that it was"
        io_schedule(mm)
