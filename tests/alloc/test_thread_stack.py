"""Kernel stacks: where they lie, what is kept, and what an overflow does with a guard page and without."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.alloc import alloc_vmap_area, thread_stack, vm_area, vmalloc
from kmemlab.alloc.check_thread_stack import check_thread_stacks
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.alloc.page_api import alloc_pages_bulk
from kmemlab.alloc.stack_overflow import StackOverflow
from kmemlab.alloc.thread_stack import STACK_END_MAGIC, ThreadStacks
from kmemlab.alloc.vmap_pages import vmalloc_to_pfn
from kmemlab.hardware.mmu import PageFault
from kmemlab.machine.machine import Machine
from kmemlab.machine.vmallocinfo import vmallocinfo
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.vmstat import NR_KERNEL_STACK_KB
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, DoubleFree, KernelPanic, OutOfMemory
from tests.alloc.kmap_bench import check_resumed, machine_of


def no_pages(mm: Any, gfp: int, order: int, nid: int) -> None:
    return None


def none_in_bulk(mm: Any, gfp: int, nid: int, nr_pages: int, alloc: Any = alloc_pages_inner) -> list[int]:
    return []


@contextlib.contextmanager
def without_pages() -> Iterator[None]:
    with livepatch(alloc_pages_inner, no_pages), livepatch(alloc_pages_bulk, none_in_bulk):
        yield


def neighbours(machine: Machine) -> tuple[int, int]:
    """Two stacks of one page, one right below the other."""
    stacks = sorted(machine.alloc_thread_stack() for _ in range(16))
    return next(pair for pair in pairwise(stacks) if pair[1] - pair[0] == 4096)


# -- where they lie ----------------------------------------------------------------------------------------------------


def test_on_64_bit_a_stack_is_four_single_pages_with_guards() -> None:
    machine = machine_of("amd64-2g-2cpu")
    first, second = machine.alloc_thread_stack(), machine.alloc_thread_stack()
    mm = machine.kernel.mm
    # Aligned to 16 KiB, so between two areas of 20 KiB there are 12 KiB that nobody has.
    assert second - first == 32768
    assert all(vmalloc_to_pfn(mm, second + 4096 * page) for page in range(4))
    assert vmalloc_to_pfn(mm, second - 4096) is vmalloc_to_pfn(mm, second + 16384) is None
    # The real kernel's line: "20480 kernel_clone+0x… pages=4 vmalloc N0=4".
    (line, _) = [line for line in vmallocinfo(machine.kernel).splitlines() if "kernel_clone" in line]
    assert line.split()[1] == "20480"
    assert line.endswith("pages=4 vmalloc N0=4")
    assert mm.node_data[0].vm_stat[NR_KERNEL_STACK_KB] == 32
    machine.check()


def test_on_i386_a_stack_is_two_pages_in_a_row_of_low_memory() -> None:
    machine = machine_of("i386-pae-2g-2cpu")
    stack = machine.alloc_thread_stack()
    assert stack % 8192 == 0
    assert 0xC0000000 <= stack < 0xC0000000 + (machine.kernel.boot.max_low_pfn << 12)
    assert machine.load(stack, 4) == STACK_END_MAGIC
    assert "kernel_clone" not in vmallocinfo(machine.kernel)
    machine.free_thread_stack(stack)
    assert machine.kernel.mm.page.owned[stack - 0xC0000000 >> 12] == 0
    machine.check()


def test_4k_stacks_are_one_page() -> None:
    machine = machine_of("i386-pae-2g-2cpu")
    machine.build_stacks(4096, vmap_stack=False)
    lower, upper = neighbours(machine)
    assert upper - lower == 4096  # the overflow of one is the ruin of the other
    with pytest.raises(BadRequest, match="no kernel with stacks of"):
        machine.build_stacks(8192, vmap_stack=False)
    machine.check()


def test_two_stacks_a_cpu_are_kept_and_come_back_cleared() -> None:
    machine = machine_of("amd64-2g-2cpu")
    stacks = [machine.alloc_thread_stack() for _ in range(4)]
    machine.call(stacks[0], 64, value=77)
    for stack in stacks:
        machine.free_thread_stack(stack)
    kept = machine.kernel.stacks
    assert kept.cached_stacks[:4].tolist() == [*stacks[:2], 0, 0]
    machine.check()
    machine.run_task(1, cpu=1)
    assert machine.alloc_thread_stack() not in stacks[:2]  # the other CPU has kept none
    machine.run_task(1, cpu=0)
    again = machine.alloc_thread_stack()
    assert again == stacks[0]
    assert not any(machine.load(again + at) for at in range(8, 16384, 8))
    thread_stack.free_vm_stack_cache(kept, 0)
    assert not any(kept.cached_stacks)
    machine.check()


def test_wrong_frees_are_told() -> None:
    machine = machine_of("amd64-2g-2cpu")
    stack = machine.alloc_thread_stack()
    machine.free_thread_stack(stack)
    with pytest.raises(DoubleFree, match="kept for the next task"):
        machine.free_thread_stack(stack)
    with pytest.raises(BadRequest, match="no task has a stack at"):
        machine.free_thread_stack(stack + 4096)
    with pytest.raises(BadRequest, match="no stack can be had from node 7"):
        machine.alloc_thread_stack(node=7)


@pytest.mark.parametrize("name", ["amd64-128m", "i386-256m"])
def test_no_pages_no_stack(name: str) -> None:
    machine = machine_of(name)
    with without_pages(), pytest.raises(OutOfMemory, match="for a stack"):
        machine.alloc_thread_stack()
    machine.check()
    assert machine.alloc_thread_stack()


# -- too deep ----------------------------------------------------------------------------------------------------------


def test_a_guard_page_stops_the_overflow() -> None:
    machine = machine_of("amd64-2g-2cpu")
    stack = machine.alloc_thread_stack()
    for depth in range(32):
        machine.call(stack, 512, value=depth)
    with pytest.raises(StackOverflow):
        machine.call(stack, 512)
    assert machine.dmesg().splitlines()[-2:] == [
        f"BUG: TASK stack guard page was hit at {stack - 512:016x} (stack is {stack:016x}..{stack + 16384:016x})",
        "stack guard page: 0000 [#1] PREEMPT SMP",
    ]
    with pytest.raises(KernelPanic, match="corrupted stack end detected inside scheduler"):
        machine.schedule(stack)  # the last frame had already overwritten the magic number


def test_one_large_frame_jumps_over_the_guard_page() -> None:
    machine = machine_of("amd64-2g-2cpu")
    other, stack = machine.alloc_thread_stack(), machine.alloc_thread_stack()
    address = machine.call(stack, 16384 + 16384 + 64, value=0xBAD)
    assert other <= address < other + 16384
    machine.schedule(stack)  # nobody notices
    with pytest.raises(PageFault):
        machine.call(stack, 100 * 4096)


def test_without_guard_the_page_below_is_overwritten() -> None:
    machine = machine_of("i386-pae-2g-2cpu")
    machine.build_stacks(4096, vmap_stack=False)
    victim, stack = neighbours(machine)
    for value in range(8):
        machine.call(stack, 512, value)
    machine.schedule(victim)
    address = machine.call(stack, 512, value=0xDEAD)
    assert address == stack - 512
    assert machine.load(victim + 4096 - 512, 4) == 0xDEAD
    with pytest.raises(KernelPanic):
        machine.schedule(stack)
    assert machine.dmesg().splitlines()[-1] == (
        "Kernel panic - not syncing: corrupted stack end detected inside scheduler"
    )
    machine.schedule(victim)  # its own end is whole: its frames are spoilt, and nobody sees it


def test_calls_and_returns() -> None:
    machine = machine_of("amd64-2g-2cpu")
    stack = machine.alloc_thread_stack()
    assert machine.call(stack, 64) == stack + 16384 - 64
    machine.ret(stack, 64)
    with pytest.raises(BadRequest, match="no call took 8 bytes"):
        machine.ret(stack, 8)
    with pytest.raises(BadRequest, match="a frame has no 7 bytes"):
        machine.call(stack, 7)


def test_rewound_then_resumed_ends_like_a_straight_run() -> None:
    machine = machine_of("amd64-128m")
    machine.record()
    stacks = [machine.alloc_thread_stack() for _ in range(4)]
    machine.call(stacks[2], 4000, 5)
    for stack in stacks[:3]:
        machine.free_thread_stack(stack)
    machine.alloc_thread_stack()
    check_resumed(machine, (7, 3), lambda: check_thread_stacks(machine.kernel.stacks))


class StackModel(RuleBasedStateMachine):
    """The model: who has which stack, and how deep each is. Below, pages are refused now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = machine_of("amd64-2g-2cpu")
        self.depth: dict[int, list[int]] = {}

    @rule(fail=st.integers(0, 5), cpu=st.integers(0, 1))
    def alloc(self, fail: int, cpu: int) -> None:
        self.machine.run_task(1, cpu)
        kept = any(self.machine.kernel.stacks.cached_stacks[at] for at in self.machine.kernel.stacks.cached(cpu))
        with without_pages() if fail == 0 else contextlib.nullcontext():
            if fail == 0 and not kept:
                with pytest.raises(OutOfMemory):
                    self.machine.alloc_thread_stack()
                return
            stack = self.machine.alloc_thread_stack()
        assert all(abs(stack - other) >= 16384 + 4096 for other in self.depth)
        self.depth[stack] = []

    @precondition(lambda self: self.depth)
    @rule(data=st.data(), frame=st.integers(1, 512))  # no frame is larger than the guard page, so none jumps over it
    def call(self, data: st.DataObject, frame: int) -> None:
        stack = data.draw(st.sampled_from(sorted(self.depth)))
        used = sum(self.depth[stack])
        if used + 8 * frame > 16384:
            with pytest.raises(StackOverflow):
                self.machine.call(stack, 8 * frame)
            return
        assert self.machine.call(stack, 8 * frame, value=frame) == stack + 16384 - used - 8 * frame
        self.depth[stack].append(8 * frame)

    @precondition(lambda self: any(self.depth.values()))
    @rule(data=st.data())
    def ret(self, data: st.DataObject) -> None:
        stack = data.draw(st.sampled_from(sorted(stack for stack, frames in self.depth.items() if frames)))
        at = stack + 16384 - sum(self.depth[stack])
        assert self.machine.load(at) == self.depth[stack][-1] // 8
        self.machine.ret(stack, self.depth[stack].pop())

    @precondition(lambda self: self.depth)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        stack = data.draw(st.sampled_from(sorted(self.depth)))
        del self.depth[stack]
        self.machine.free_thread_stack(stack)

    @invariant()
    def the_law_holds(self) -> None:
        check_thread_stacks(self.machine.kernel.stacks)
        assert sorted(self.machine.kernel.stacks.in_use()) == sorted(self.depth)


StackModel.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestStackModel = StackModel.TestCase


# -- the law catches what breaks it ------------------------------------------------------------------------------------


def keeps_and_frees(stacks: ThreadStacks, stack: int) -> bool:
    at = stacks.cached(stacks.mm.current.cpu)[0]
    stacks.cached_stacks[at] = stack
    return False


def stays_kept(stacks: ThreadStacks) -> int | None:
    at = stacks.cached(stacks.mm.current.cpu)[0]
    return stacks.cached_stacks[at] or None


def counts_nothing(stacks: ThreadStacks, stack: int, account: int) -> None:
    pass


def unaligned(
    mm: Any, size: int, align: int, start: int, end: int, gfp: int, prot: int, vm_flags: int, nid: int, caller: str,
    alloc: Any = vmalloc.alloc_pages_inner,
) -> int:  # fmt: skip
    return vmalloc.vmalloc_by_pages_of(
        mm, size + 4096, 1, 12, start, end, gfp, prot, vm_flags, nid, caller, vmalloc.alloc_pages_inner
    )


def without_guard(
    mm: Any, size: int, align: int, shift: int, flags: int, start: int, end: int, gfp: int, caller: str
) -> int | None:
    va = alloc_vmap_area.alloc_vmap_area(mm, size, align, start, end, gfp)
    if va is None:
        return None
    vm: int = vm_area.new_vm_struct(mm.vmalloc.vms)
    vm_area.setup_vmalloc_vm(mm, vm, va, flags | vm_area.VM_NO_GUARD, caller)
    return vm


DEFECTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (thread_stack.try_release_thread_stack_to_cache, keeps_and_frees),
    (thread_stack.take_cached_stack, stays_kept),
    (thread_stack.account_kernel_stack, counts_nothing),
    (thread_stack.vmalloc_node_range, unaligned),
    (vm_area.get_vm_area_node, without_guard),
    (thread_stack.vfree, lambda mm, addr: None),
]


def work(machine: Machine) -> None:
    rng, held = random.Random(1), []
    stacks = machine.kernel.stacks
    before = sum(zone.nr_owned for zone in machine.zones)
    for step in range(40):
        if held and (rng.random() < 0.45 or step > 30):
            thread_stack.free_thread_stack(stacks, held.pop(rng.randrange(len(held))))
        else:
            stack = thread_stack.alloc_thread_stack_node(stacks, 0)
            assert stack is not None
            held.append(stack)
        check_thread_stacks(stacks)
        machine.check_laws()
    # What is held: the stacks in use, those that are kept, and page tables.
    held_now = sum(zone.nr_owned for zone in machine.zones) - before
    assert held_now <= 4 * (stacks.count + sum(map(bool, stacks.cached_stacks))) + 6


@pytest.mark.parametrize(("function", "defect"), DEFECTS, ids=lambda thing: thing.__name__)
def test_the_law_catches_a_defect(function: Callable[..., Any], defect: Callable[..., Any]) -> None:
    machine = machine_of("amd64-2g-2cpu")
    with livepatch(function, defect), pytest.raises((BrokenLaw, AssertionError)):
        work(machine)


def test_the_same_work_without_a_defect_keeps_the_law() -> None:
    work(machine_of("amd64-2g-2cpu"))
