"""Processes against a brute-force model: for each process a dict from page to bytes, which fork copies.

Requests for pages and objects fail now and then; what fails must leave all that programs can see as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.process.check_process import check_processes
from kmemlab.process.fault import Segfault
from kmemlab.process.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from kmemlab.types.errors import MustWait, OutOfMemory
from tests.process.short import failing
from tests.process.space import NONE, PAGE, RW, R, machine_of

LOW = 0x10000000 - 6 * PAGE  # the pages lie on both sides of a border between two last tables (2 MiB)
PAGES = 12
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
page_numbers = st.integers(0, PAGES - 1)
lengths = st.integers(1, 3)
failures = st.integers(0, 12).map(lambda nth: nth if nth < 5 else 0)  # which request fails; 0: none
which = st.integers(0, 7)
offsets = st.integers(0, PAGE - 4)
CONTENT = bytes(range(1, 129)) * (6 * PAGE // 128)
Space = dict[int, tuple[int, bytes]]


class Programs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.machine = machine_of()
        self.spaces: dict[int, Space] = {}
        self.parents: dict[int, int] = {}
        self.zombies: dict[int, int] = {}

    def pid(self, nth: int) -> int:
        return sorted(self.spaces)[nth % len(self.spaces)]

    def attempt(self, fails: int, action: Callable[..., Any], *args: Any) -> tuple[bool, Any]:
        """Whether the action came through, and what it returned."""
        with failing(fails):
            try:
                return True, action(*args)
            except OutOfMemory:
                return False, None

    @precondition(lambda self: len(self.spaces) < 3)
    @rule(fails=failures)
    def spawn(self, fails: int) -> None:
        done, pid = self.attempt(fails, self.machine.spawn)
        if done:
            self.parents[pid] = 1
            self.machine.mmap(pid, PAGES * PAGE, RW, FIXED, LOW)
            self.machine.user_write(pid, LOW + PAGE, CONTENT)
            self.spaces[pid] = {page: (RW, bytes(PAGE)) for page in range(PAGES)}
            for page in range(1, 7):
                self.spaces[pid][page] = (RW, CONTENT[(page - 1) * PAGE : page * PAGE])

    @precondition(lambda self: self.spaces and len(self.spaces) < 5)
    @rule(nth=which, fails=failures)
    def fork(self, nth: int, fails: int) -> None:
        pid = self.pid(nth)
        done, child = self.attempt(fails, self.machine.sys_fork, pid)
        if done:
            self.spaces[child] = dict(self.spaces[pid])
            self.parents[child] = pid

    @precondition(lambda self: len(self.spaces) > 1)
    @rule(nth=which, code=st.integers(0, 255))
    def exit(self, nth: int, code: int) -> None:
        pid = self.pid(nth)
        self.machine.sys_exit(pid, code)
        self.ended(pid, code << 8)

    def ended(self, pid: int, status: int) -> None:
        del self.spaces[pid]
        for child, parent in list(self.parents.items()):
            if parent == pid:
                self.parents[child] = 1
                if self.zombies.pop(child, None) is not None:
                    del self.parents[child]
        if self.parents[pid] == 1:
            del self.parents[pid]
        else:
            self.zombies[pid] = status

    @precondition(lambda self: self.spaces)
    @rule(nth=which)
    def wait(self, nth: int) -> None:
        pid = self.pid(nth)
        mine = sorted(child for child, parent in self.parents.items() if parent == pid)
        dead = [child for child in mine if child in self.zombies]
        if dead:
            assert self.machine.sys_wait(pid) == (dead[0], self.zombies.pop(dead[0]))
            del self.parents[dead[0]]
        elif mine:
            try:
                self.machine.sys_wait(pid)
                raise AssertionError("a living child was waited for")
            except MustWait:
                pass

    @precondition(lambda self: self.spaces)
    @rule(nth=which, first=page_numbers, pages=lengths, prot=st.sampled_from((RW, RW, RW, R, NONE)))
    def mmap(self, nth: int, first: int, pages: int, prot: int) -> None:
        pid = self.pid(nth)
        where = LOW + first * PAGE
        assert self.machine.mmap(pid, pages * PAGE, prot, FIXED, where) == where
        self.spaces[pid].update({page: (prot, bytes(PAGE)) for page in range(first, first + pages)})

    @precondition(lambda self: self.spaces)
    @rule(nth=which, first=page_numbers, pages=lengths, fails=failures)
    def munmap(self, nth: int, first: int, pages: int, fails: int) -> None:
        pid = self.pid(nth)
        done, _ = self.attempt(fails, self.machine.munmap, pid, LOW + first * PAGE, pages * PAGE)
        if done:
            for page in range(first, first + pages):
                self.spaces[pid].pop(page, None)

    @precondition(lambda self: self.spaces)
    @rule(nth=which, first=page_numbers, pages=lengths, prot=st.sampled_from((RW, RW, R, NONE)))
    def mprotect(self, nth: int, first: int, pages: int, prot: int) -> None:
        pid = self.pid(nth)
        space = self.spaces[pid]
        done, _ = self.attempt(0, self.machine.mprotect, pid, LOW + first * PAGE, pages * PAGE, prot)
        for page in range(first, first + pages):
            if page not in space:
                assert not done
                return
            space[page] = (prot, space[page][1])
        assert done

    def page(self, pid: int, nth: int, least: int) -> int | None:
        """One of the pages that a process may read (R), or write (RW); None if there is none."""
        pages = sorted(page for page, (prot, _) in self.spaces[pid].items() if prot >= least)
        return pages[nth % len(pages)] if pages else None

    @precondition(lambda self: self.spaces)
    @rule(fails=failures, stores=st.lists(st.tuples(which, page_numbers, offsets, st.binary(min_size=1, max_size=4)),
                                          min_size=1, max_size=5))  # fmt: skip
    def write(self, fails: int, stores: list[tuple[int, int, int, bytes]]) -> None:
        for nth, at, offset, data in stores:
            pid = self.pid(nth)
            page = self.page(pid, at, RW)
            where = LOW + (page or 0) * PAGE + offset
            if page is not None and self.attempt(fails, self.machine.user_write, pid, where, data)[0]:
                old = self.spaces[pid][page][1]
                self.spaces[pid][page] = (RW, old[:offset] + data + old[offset + len(data) :])

    @precondition(lambda self: self.spaces)
    @rule(nth=which, at=page_numbers, fails=failures)
    def read(self, nth: int, at: int, fails: int) -> None:
        pid = self.pid(nth)
        page = self.page(pid, at, R)
        if page is not None:
            done, found = self.attempt(fails, self.machine.user_read, pid, LOW + page * PAGE, PAGE)
            assert not done or found == self.spaces[pid][page][1]

    @precondition(lambda self: len(self.spaces) > 2)
    @rule(nth=which, page=page_numbers, write=st.booleans())
    def touch_what_is_forbidden(self, nth: int, page: int, write: bool) -> None:
        pid = self.pid(nth)
        if self.spaces[pid].get(page, (NONE, b""))[0] < (RW if write else R):
            try:
                self.machine.touch(pid, LOW + page * PAGE, 1, write=write)
                raise AssertionError("a forbidden access came through")
            except Segfault:
                self.ended(pid, 11)

    @invariant()
    def the_laws_hold(self) -> None:
        check_processes(self.machine.kernel.processes)
        assert self.machine.kernel.stacks.count == len(self.spaces)

    def teardown(self) -> None:
        for pid, space in self.spaces.items():
            for page, (prot, content) in space.items():
                if prot != NONE:
                    assert self.machine.user_read(pid, LOW + page * PAGE, PAGE) == content
        for pid in sorted(self.spaces):
            self.machine.sys_exit(pid)
        self.machine.check()
        common = self.machine.kernel.processes.common
        if common.task_struct_cachep:
            assert [common.slab.caches[number].nr_held for number in
                    (common.mm_cachep, common.vm_area_cachep, common.anon_vma_cachep, common.task_struct_cachep)] \
                == [0, 0, 0, 0]  # fmt: skip


TestPrograms = Programs.TestCase
TestPrograms.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
