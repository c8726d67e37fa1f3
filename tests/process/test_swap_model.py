"""Swapping against a brute-force model: for each process a dict from page to bytes, which fork copies.

Once step by step, with pages sent out here and there; once with hardly any memory, where reclaim does it by itself.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kmemlab.machine.machine import Machine
from kmemlab.mm.check_lru import check_lru
from kmemlab.mm.check_page_cache import check_page_cache
from kmemlab.mm.vm_event import OOM_KILL, PSWPIN, PSWPOUT
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.process.check_process import check_processes
from kmemlab.process.check_swap import check_swap
from kmemlab.process.madvise import MADV_DONTNEED, MADV_PAGEOUT
from kmemlab.process.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from kmemlab.process.signal import Killed
from kmemlab.reclaim.direct import try_to_free_pages
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL
from tests.process.space import PAGE, RW, R, machine_of
from tests.process.swapping import evict

LOW, PAGES = 0x10000000 - 8 * PAGE, 16  # on both sides of a border between two last tables (2 MiB)
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
AREA = (12, 40, 700)  # too small for all, and with or without stores

which = st.integers(0, 7)
page_numbers = st.integers(0, PAGES - 1)
lengths = st.integers(1, 6)
texts = st.binary(min_size=1, max_size=8)


def laws(machine: Machine) -> None:
    check_lru(machine.kernel.mm)
    check_page_cache(machine.kernel.mm)
    check_processes(machine.kernel.processes)
    check_swap(machine.kernel.processes)


class Swapping(RuleBasedStateMachine):
    @initialize(pages=st.sampled_from(AREA), solid_state=st.booleans(), cluster=st.sampled_from((0, 3)))
    def begin(self, pages: int, solid_state: bool, cluster: int) -> None:
        self.machine = machine_of()
        self.machine.sysctl("vm.page-cluster", cluster)
        self.machine.swapon(pages, solid_state=solid_state)
        self.spaces: dict[int, dict[int, bytes]] = {}
        self.spawn()

    def pid(self, nth: int) -> int:
        return sorted(self.spaces)[nth % len(self.spaces)]

    @precondition(lambda self: len(self.spaces) < 4)
    @rule()
    def spawn(self) -> None:
        pid = self.machine.spawn("prog")
        self.machine.mmap(pid, PAGES * PAGE, RW, FIXED, LOW)
        self.spaces[pid] = {}

    @precondition(lambda self: 0 < len(self.spaces) < 5)
    @rule(nth=which)
    def fork(self, nth: int) -> None:
        parent = self.pid(nth)
        self.spaces[self.machine.sys_fork(parent)] = dict(self.spaces[parent])

    @precondition(lambda self: len(self.spaces) > 1)
    @rule(nth=which)
    def exit(self, nth: int) -> None:
        pid = self.pid(nth)
        self.machine.sys_exit(pid, 0)
        del self.spaces[pid]

    @rule(nth=which, at=page_numbers, length=lengths, text=texts)
    def write(self, nth: int, at: int, length: int, text: bytes) -> None:
        pid = self.pid(nth)
        for page in range(at, min(at + length, PAGES)):
            self.machine.user_write(pid, LOW + page * PAGE, text)
            old = self.spaces[pid].get(page, bytes(8))
            self.spaces[pid][page] = text + old[len(text) :]

    @rule(nth=which, at=page_numbers)
    def read(self, nth: int, at: int) -> None:
        pid = self.pid(nth)
        assert self.machine.user_read(pid, LOW + at * PAGE, 8) == self.spaces[pid].get(at, bytes(8))

    @rule(nth=which, at=page_numbers, length=lengths, ticks=st.integers(0, 12))
    def pageout(self, nth: int, at: int, length: int, ticks: int) -> None:
        self.machine.madvise(self.pid(nth), LOW + at * PAGE, min(length, PAGES - at) * PAGE, MADV_PAGEOUT)
        self.machine.tick(ticks)

    @rule()
    def evict(self) -> None:
        evict(self.machine)

    @rule()
    def reclaim(self) -> None:
        try_to_free_pages(self.machine.kernel.mm, GFP_KERNEL, 0, 0)

    @rule(nth=which, at=page_numbers, length=lengths)
    def dont_need(self, nth: int, at: int, length: int) -> None:
        pid = self.pid(nth)
        self.machine.madvise(pid, LOW + at * PAGE, min(length, PAGES - at) * PAGE, MADV_DONTNEED)
        for page in range(at, min(at + length, PAGES)):
            self.spaces[pid].pop(page, None)

    @rule(nth=which, at=page_numbers, length=lengths)
    def map_anew(self, nth: int, at: int, length: int) -> None:
        pid = self.pid(nth)
        self.machine.mmap(pid, min(length, PAGES - at) * PAGE, RW, FIXED, LOW + at * PAGE)
        for page in range(at, min(at + length, PAGES)):
            self.spaces[pid].pop(page, None)

    @rule(nth=which, at=page_numbers, length=lengths)
    def protect_and_back(self, nth: int, at: int, length: int) -> None:
        pid, size = self.pid(nth), min(length, PAGES - at) * PAGE
        self.machine.mprotect(pid, LOW + at * PAGE, size, R)
        assert self.machine.user_read(pid, LOW + at * PAGE, 8) == self.spaces[pid].get(at, bytes(8))
        self.machine.mprotect(pid, LOW + at * PAGE, size, RW)

    @rule(pages=st.sampled_from(AREA), solid_state=st.booleans())
    def another_area(self, pages: int, solid_state: bool) -> None:
        name = self.machine.proc_swaps().splitlines()[1].split()[0]
        self.machine.swapon(pages, 7, solid_state=solid_state)
        self.machine.swapoff(name)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        if hasattr(self, "machine"):
            laws(self.machine)

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        for pid, space in self.spaces.items():
            for page in range(PAGES):
                assert self.machine.user_read(pid, LOW + page * PAGE, 8) == space.get(page, bytes(8))
        self.machine.swapoff()
        self.machine.check()
        for pid, space in self.spaces.items():
            for page in range(PAGES):
                assert self.machine.user_read(pid, LOW + page * PAGE, 8) == space.get(page, bytes(8))
            self.machine.sys_exit(pid, 0)
        laws(self.machine)


TestSwapping = Swapping.TestCase
TestSwapping.settings = settings(
    max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def leave(machine: Machine, pages: int) -> None:
    """Take memory until few pages are left."""
    for order in (10, 9, 7, 5, 3, 0):
        while sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones) - (1 << order) > pages:
            try:
                machine.alloc_pages(GFP_KERNEL, order)
            except OutOfMemory:
                break


@pytest.mark.parametrize(("seed", "solid_state"), [(1, False), (2, True)])
def test_thrashing_with_hardly_any_memory(seed: int, solid_state: bool) -> None:
    machine, rng = machine_of(), random.Random(seed)
    machine.swapon(3000, solid_state=solid_state)
    machine.sysctl("vm.watermark_boost_factor", 0)  # a boost would be more than there is
    leave(machine, 900)
    spaces: dict[int, dict[int, bytes]] = {}
    for _ in range(2):
        pid = machine.spawn("thrash")
        machine.mmap(pid, 400 * PAGE, RW, FIXED, LOW)
        spaces[pid] = {}
    for step in range(1600):
        pid, page = rng.choice(sorted(spaces)), rng.randrange(400)
        if step in (500, 1000):
            spaces[machine.sys_fork(pid)] = dict(spaces[pid])
        if rng.random() < 0.6:
            spaces[pid][page] = b"%8d" % step
            machine.user_write(pid, LOW + page * PAGE, spaces[pid][page])
        else:
            assert machine.user_read(pid, LOW + page * PAGE, 8) == spaces[pid].get(page, bytes(8))
        if step % 400 == 399:
            laws(machine)
    event = machine.kernel.mm.vm_event
    assert event[PSWPOUT] > 200
    assert event[PSWPIN] > 100
    assert not event[OOM_KILL]
    for pid, space in spaces.items():
        for page in range(400):
            assert machine.user_read(pid, LOW + page * PAGE, 8) == space.get(page, bytes(8))
    machine.check()


def test_swap_full_and_memory_full_ends_in_a_kill_and_not_in_a_loop() -> None:
    machine = machine_of()
    machine.swapon(300)
    leave(machine, 700)
    pid = machine.spawn("hog")
    machine.mmap(pid, 3000 * PAGE, RW, FIXED, LOW)
    with pytest.raises(Killed):
        [machine.user_write(pid, LOW + page * PAGE, b"x") for page in range(3000)]
    assert "Free swap  = 0kB\nTotal swap = 1196kB" in machine.dmesg()
    assert "Killed process 3 (hog)" in machine.dmesg()
    machine.check()
    machine.swapoff()  # some slots were of pages that were just being written
    machine.check()
    assert machine.kernel.mm.nr_swap_pages == 0
