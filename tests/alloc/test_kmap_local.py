"""kmap_local_page and kmap_atomic: a stack of slots for each CPU, what it costs to break its order, and who runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kmemlab.alloc import kmap_local
from kmemlab.alloc.check_highmem import check_kmap_local
from kmemlab.alloc.kmap_local import KM_MAX_IDX, KmapCtrl, kmap_get_pte, kmap_local_addr
from kmemlab.boot.pgtable import get_entry, set_entry
from kmemlab.hardware.mmu import PageFault
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import GFP_KERNEL
from tests.alloc.kmap_bench import CLASSIC, PAE, check_resumed, high_pages, machine_of


@pytest.mark.parametrize("name", [PAE, CLASSIC])
def test_slots_go_down_from_the_fixmap_and_belong_to_the_cpu(name: str) -> None:
    machine = machine_of(name)
    pages = high_pages(machine, 3)
    assert [machine.kmap_local(pfn) for pfn in pages] == [0xFFFBB000, 0xFFFBA000, 0xFFFB9000]
    machine.run_task(2, cpu=1)
    assert machine.kmap_local(pages[0]) == 0xFFFBB000 - 16 * 4096
    check_kmap_local(machine.kernel.kmap_ctrl)


def test_the_last_mapping_goes_first_and_its_address_faults_at_once() -> None:
    machine = machine_of()
    first, second = high_pages(machine, 2)
    low, high = machine.kmap_local(first), machine.kmap_local(second)
    machine.store(high, 1)
    machine.kunmap_local(high + 100)  # any address within the page
    with pytest.raises(PageFault):
        machine.load(high)
    assert machine.load(low) == 0
    machine.kunmap_local(low)
    assert machine.dmesg().count("WARNING") == 0


def test_the_wrong_order_is_warned_of_once_and_leaves_the_tlb_stale() -> None:
    machine = machine_of()
    first, second, third = high_pages(machine, 3)
    low, high = machine.kmap_local(first), machine.kmap_local(second)
    machine.load(low), machine.load(high)
    machine.kunmap_local(low)
    assert machine.dmesg().splitlines()[-1] == "WARNING: CPU: 0 PID: 0 at mm/highmem.c:610 kunmap_local_indexed"
    # The entry of `high` was emptied, but the TLB forgot `low`: a store through `high` still reaches its page.
    machine.store(high, 5)
    assert machine.kernel.boot.ram.read(second << 12) == 5
    with pytest.raises(BrokenLaw, match="the TLB still shows"):
        check_kmap_local(machine.kernel.kmap_ctrl)
    machine.kmap_local(third)
    machine.kunmap_local(low)
    assert machine.dmesg().count("WARNING") == 1


def test_the_stack_is_15_deep() -> None:
    machine = machine_of()
    pages = high_pages(machine, KM_MAX_IDX)
    for pfn in pages[:-1]:
        machine.kmap_local(pfn)
    for command in (machine.kmap_local, machine.kmap_atomic):
        with pytest.raises(BadRequest, match=r"mm/highmem.c:467! pid 0 has 15 pages mapped already"):
            command(pages[-1])
    assert machine.kernel.mm.current.preempt_count == 0
    check_kmap_local(machine.kernel.kmap_ctrl)


def test_kmap_atomic_turns_preemption_and_page_faults_off() -> None:
    machine = machine_of()
    pages = high_pages(machine, 2)
    current = machine.kernel.mm.current
    addresses = [machine.kmap_atomic(pfn) for pfn in pages]
    assert (current.preempt_count, current.pagefault_disabled) == (2, 2)
    with pytest.raises(BadRequest, match="must not lose its CPU"):
        machine.run_task(9)
    assert machine.dmesg().splitlines()[-1] == "BUG: scheduling while atomic: swapper/0/0/0x00000002"
    for address in reversed(addresses):
        machine.kunmap_atomic(address)
    assert (current.preempt_count, current.pagefault_disabled) == (0, 0)
    machine.run_task(9)
    with pytest.raises(BadRequest, match="kunmap_atomic without kmap_atomic"):
        machine.kunmap_atomic(addresses[0])
    with pytest.raises(BadRequest, match=r"highmem.c:479! pid 9 has no page mapped"):
        machine.kunmap_local(addresses[0])


def test_low_memory_needs_no_slot() -> None:
    machine = machine_of()
    pfn = machine.alloc_pages(GFP_KERNEL)
    address = machine.kmap_local(pfn)
    assert address == 0xC0000000 + (pfn << 12)
    machine.kunmap_local(address)
    assert not any(machine.kernel.kmap_ctrl.idx)


def test_a_task_takes_its_mappings_along_but_not_to_another_cpu() -> None:
    machine = machine_of()
    mine, theirs = high_pages(machine, 2)
    machine.run_task(5, comm="mine")
    address = machine.kmap_local(mine)
    machine.store(address, 0x11)
    machine.run_task(6, comm="theirs")
    with pytest.raises(PageFault):
        machine.load(address)
    assert machine.kmap_local(theirs) == address  # the same address, another page
    machine.store(address, 0x22)
    check_kmap_local(machine.kernel.kmap_ctrl)
    machine.run_task(5)
    assert machine.load(address) == 0x11
    with pytest.raises(BadRequest, match="pid 5 may run on CPU 0 only: it has 1 pages"):
        machine.run_task(5, cpu=1)
    machine.kunmap_local(address)
    machine.run_task(5, cpu=1)
    check_kmap_local(machine.kernel.kmap_ctrl)
    with pytest.raises(BadRequest, match="no CPU 2"):
        machine.run_task(5, cpu=2)


def test_clear_copy_and_zero_reach_high_and_low_pages() -> None:
    machine = machine_of()
    (high,), low = high_pages(machine, 1), machine.alloc_pages(GFP_KERNEL)
    for offset in (0, 8, 2048, 4088):
        machine.store(machine.page_address(low) + offset, offset + 1)
    machine.copy_highpage(high, low)
    ram = machine.kernel.boot.ram
    assert [ram.read((high << 12) + offset) for offset in (0, 8, 16, 2048, 4088)] == [1, 9, 0, 2049, 4089]
    machine.zero_user(high, 8, 2048)
    assert [ram.read((high << 12) + offset) for offset in (0, 8, 2048, 4088)] == [1, 0, 0, 4089]
    machine.clear_highpage(high)
    assert not any(ram.read((high << 12) + offset) for offset in range(0, 4096, 8))
    assert not any(machine.kernel.kmap_ctrl.idx)
    for start, size in ((4000, 200), (-4, 8), (2, 4)):
        with pytest.raises(BadRequest, match="are no bytes of a page"):
            machine.zero_user(high, start, size)
    with pytest.raises(BadRequest, match="no single access"):
        machine.load(machine.page_address(low) + 1, 4)
    machine.store(machine.page_address(low) + 3, 0xABC, 1)
    assert machine.load(machine.page_address(low), 4) == 0xBC000001


def test_it_rewinds() -> None:
    machine = machine_of()
    pages = high_pages(machine, 4)
    machine.record()
    address = machine.kmap_local(pages[0])
    machine.store(address, 3)
    machine.run_task(4)
    machine.kmap_atomic(pages[1])
    check_resumed(machine, (2, 1, 0), lambda: check_kmap_local(machine.kernel.kmap_ctrl))


class LocalModel(RuleBasedStateMachine):
    """Three tasks on two CPUs; the model is a stack of pages for each task and where it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = machine_of()
        self.pages = high_pages(self.machine, 6)
        self.stacks: dict[int, list[tuple[int, int]]] = {0: [], 1: [], 2: []}
        self.pid, self.cpu = 0, 0

    @rule(nth=st.integers(0, 5))
    def map(self, nth: int) -> None:
        stack = self.stacks[self.pid]
        if len(stack) == KM_MAX_IDX - 1:
            with pytest.raises(BadRequest):
                self.machine.kmap_local(self.pages[nth])
            return
        address = self.machine.kmap_local(self.pages[nth])
        assert address == 0xFFFBB000 - 4096 * (16 * self.cpu + len(stack))
        stack.append((address, self.pages[nth]))

    @rule()
    def unmap(self) -> None:
        if self.stacks[self.pid]:
            self.machine.kunmap_local(self.stacks[self.pid].pop()[0])

    @rule(pid=st.integers(0, 2), cpu=st.integers(0, 1))
    def switch(self, pid: int, cpu: int) -> None:
        stack = self.stacks[pid]
        if stack and (0xFFFBB000 - stack[0][0]) // 4096 // 16 != cpu:
            with pytest.raises(BadRequest):
                self.machine.run_task(pid, cpu)
            return
        self.machine.run_task(pid, cpu)
        self.pid, self.cpu = pid, cpu

    @invariant()
    def the_running_task_sees_its_pages_and_no_others(self) -> None:
        for address, pfn in self.stacks[self.pid]:
            assert self.machine.kernel.boot.mmu.access(address) == pfn << 12
        check_kmap_local(self.machine.kernel.kmap_ctrl)


LocalModel.TestCase.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestLocalModel = LocalModel.TestCase


# -- the law catches what breaks it ------------------------------------------------------------------------------------


def keeps_entry(ctrl: KmapCtrl, vaddr: int) -> None:
    row = kmap_local.row_of(ctrl, ctrl.mm.current.pid)
    assert row is not None
    ctrl.idx[row] -= 1
    ctrl.pteval[KM_MAX_IDX * row + ctrl.idx[row]] = 0


def keeps_pteval(ctrl: KmapCtrl, vaddr: int) -> None:
    row = kmap_local.row_of(ctrl, ctrl.mm.current.pid)
    assert row is not None
    ctrl.idx[row] -= 1
    set_entry(ctrl.mm.boot.swapper_pg_dir, kmap_get_pte(ctrl.mm, vaddr), 0)


def does_nothing(ctrl: KmapCtrl) -> None:
    pass


def one_slot(idx: int, cpu: int) -> int:
    return 0


DEFECTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (kmap_local.kunmap_local_indexed, keeps_entry),
    (kmap_local.kunmap_local_indexed, keeps_pteval),
    (kmap_local.kmap_local_sched_out, does_nothing),
    (kmap_local.kmap_local_sched_in, does_nothing),
    (kmap_local.flush_tlb_one_kernel, lambda mmu, addr: None),
    (kmap_local.kmap_local_calc_idx, one_slot),
]


@pytest.mark.parametrize(("function", "defect"), DEFECTS, ids=lambda thing: thing.__name__)
def test_the_law_catches_a_defect(function: Callable[..., Any], defect: Callable[..., Any]) -> None:
    machine = machine_of()
    pages = high_pages(machine, 3)
    with livepatch(function, defect), pytest.raises((BrokenLaw, AssertionError)):
        work(machine, pages)


def work(machine: Machine, pages: list[int]) -> None:
    check = lambda: check_kmap_local(machine.kernel.kmap_ctrl)  # noqa: E731
    addresses = []
    for pfn in pages:
        addresses.append(machine.kmap_local(pfn))
        machine.load(addresses[-1])
        check()
    machine.run_task(1)
    check()
    other = machine.kmap_local(pages[0])
    check()
    machine.run_task(0)
    check()
    for address in reversed(addresses):
        machine.kunmap_local(address)
        check()
    machine.run_task(1)
    machine.kunmap_local(other)
    check()


def test_the_same_work_without_a_defect_keeps_the_law() -> None:
    machine = machine_of()
    work(machine, high_pages(machine, 3))
    tables = machine.kernel.boot.swapper_pg_dir
    assert get_entry(tables, kmap_get_pte(machine.kernel.mm, kmap_local_addr(0, 0))) == 0
