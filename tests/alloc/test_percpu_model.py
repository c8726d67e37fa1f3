"""Per-CPU memory against brute force, with failures below; and its law, shown to catch what breaks it."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.alloc import percpu_hint, percpu_vm
from kmemlab.alloc.bitmap import bitmap_clear, bitmap_set
from kmemlab.alloc.check_percpu import check_percpu
from kmemlab.alloc.percpu_chunk import FIRST_CHUNK, pcpu_chunk_relocate
from kmemlab.alloc.percpu_vm_areas import find_base, pcpu_free_vm_areas, pcpu_get_vm_areas
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.vmap_area import FREE_VMAP_AREA_ROOT, vmap_areas
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import GFP_ATOMIC, GFP_KERNEL
from kmemlab.types.units import PAGE_SIZE
from tests.alloc.kmap_bench import machine_of

# -- against brute force -----------------------------------------------------------------------------------------------


def free_at(machine: Machine, groups: list[tuple[int, int]], base: int) -> bool:
    areas = machine.kernel.mm.vmalloc.areas
    free = [(areas.va_start[node], areas.va_end[node]) for node in vmap_areas(areas, FREE_VMAP_AREA_ROOT)]
    return all(any(lo <= base + at and base + at + size <= hi for lo, hi in free) for at, size in groups)


@pytest.mark.parametrize("seed", range(6))
def test_areas_are_as_high_as_they_can_be(seed: int) -> None:
    machine = machine_of("i386-pae-2g-2cpu")
    mm, rng = machine.kernel.mm, random.Random(seed)
    for _ in range(30):  # make the range ragged
        pcpu_get_vm_areas(mm, [(0, rng.randrange(1, 300) * PAGE_SIZE)], PAGE_SIZE)
    for _ in range(6):
        groups, at = [], 0
        for _ in range(rng.randrange(1, 4)):
            size = rng.randrange(1, 40) * 64 * 1024
            groups.append((at, size))
            at += size + rng.randrange(60) * 64 * 1024
        align = 64 * 1024
        top = mm.vmalloc.end // align * align
        highest = top - max(offset + size for offset, size in groups)
        candidates = range(highest, mm.vmalloc.start - 1, -align)
        expected = next((base for base in candidates if free_at(machine, groups, base)), None)
        assert find_base(mm, groups, align) == expected
        vms = pcpu_get_vm_areas(mm, groups, align)
        if vms is not None and rng.random() < 0.5:
            pcpu_free_vm_areas(mm, vms)


class PercpuModel(RuleBasedStateMachine):
    """The model: which bytes of a unit are whose. Below, the page allocator fails now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = machine_of("i386-pae-2g-2cpu")
        self.held: dict[int, tuple[int, int]] = {}
        self.taken: dict[int, int] = {}  # 4 bytes → whose

    def alloc(self, size: int, align: int, gfp: int) -> None:
        try:
            pointer = self.machine.alloc_percpu(size, align, gfp)
        except OutOfMemory:
            assert gfp == GFP_ATOMIC or self.failing
            return
        assert pointer % align == 0
        words = range(pointer // 4, (pointer + size + 3) // 4)
        assert not any(word in self.taken for word in words)
        self.taken.update(dict.fromkeys(words, pointer))
        for cpu in range(2):
            assert self.machine.per_cpu(pointer, cpu, 4) == 0
        self.held[pointer] = (size, len(self.held) + 1)
        self.machine.this_cpu_write(pointer, self.held[pointer][1], 4)

    failing = False

    @rule(
        size=st.one_of(st.integers(1, 200), st.integers(1, 9000)),
        shift=st.integers(2, 8),
        atomic=st.booleans(),
        fail=st.integers(0, 9),
    )
    def allocate(self, size: int, shift: int, atomic: bool, fail: int) -> None:
        self.failing = fail == 0
        below = livepatch(percpu_vm.alloc_pages_inner, lambda mm, gfp, order, nid: None)
        with below if self.failing else contextlib.nullcontext():
            self.alloc(size, 1 << shift, GFP_ATOMIC if atomic else GFP_KERNEL)

    @rule(count=st.integers(1, 12), size=st.sampled_from((4096, 12288, 32768)))
    def allocate_many(self, count: int, size: int) -> None:
        self.failing = False
        for _ in range(count):
            self.alloc(size, 4, GFP_KERNEL)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), count=st.integers(1, 10))
    def free(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.held))):
            pointer = data.draw(st.sampled_from(sorted(self.held)))
            size, mark = self.held.pop(pointer)
            assert self.machine.per_cpu(pointer, self.machine.kernel.mm.current.cpu, 4) == mark
            for word in range(pointer // 4, (pointer + size + 3) // 4):
                del self.taken[word]
            self.machine.free_percpu(pointer)

    @rule()
    def work(self) -> None:
        self.machine.run_percpu_worker()

    @invariant()
    def the_law_holds(self) -> None:
        check_percpu(self.machine.kernel.percpu)

    def teardown(self) -> None:
        for pointer in sorted(self.held):
            self.machine.free_percpu(pointer)
        self.machine.run_percpu_worker()
        self.machine.check()
        first = self.machine.kernel.percpu.chunks[FIRST_CHUNK]
        assert first.free_bytes == self.machine.kernel.percpu.units.dyn_size
        assert sum(chunk.in_use for chunk in self.machine.kernel.percpu.chunks) <= 3


PercpuModel.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestPercpuModel = PercpuModel.TestCase


# -- the law catches what breaks it ------------------------------------------------------------------------------------


def returning(result: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in that does nothing, with the parameters of `function`."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return result

    stand_in.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return stand_in


def one_bit_less(words: Any, start: int, nr: int) -> None:
    for bit in range(start, start + nr - 1):
        words[bit // 64] |= 1 << bit % 64


def one_bit_left(words: Any, start: int, nr: int) -> None:
    for bit in range(start + 1, start + nr):
        words[bit // 64] &= ~(1 << bit % 64)


def only_first_cpu(percpu: Any, chunk: Any, cpu: int, start: int, end: int) -> None:
    if cpu == 0:
        addr = percpu_vm.pcpu_chunk_addr(percpu, chunk, cpu, start)
        percpu_vm.vunmap_range_noflush(percpu.mm, addr, addr + (end - start) * PAGE_SIZE)


def counts_once(percpu: Any, chunk: Any, start: int, end: int) -> None:
    bitmap_set(chunk.populated, start, end - start)
    chunk.nr_populated += 1
    percpu.nr_populated += 1


DEFECTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    *[
        (function, returning(None, function))
        for function in (
            percpu_hint.pcpu_block_update_hint_alloc,
            percpu_hint.pcpu_block_update_hint_free,
            percpu_hint.pcpu_block_refresh_hint,
            percpu_hint.pcpu_chunk_refresh_hint,
            pcpu_chunk_relocate,
            percpu_vm.pcpu_update_empty_pages,
            percpu_vm.pcpu_chunk_populated,
            percpu_vm.pcpu_depopulate_chunk,
        )
    ],
    (bitmap_set, one_bit_less),
    (bitmap_clear, one_bit_left),
    (percpu_vm.pcpu_chunk_populated, counts_once),
    (percpu_vm.pcpu_unmap, only_first_cpu),
]


def work(machine: Machine) -> None:
    rng, held = random.Random(4), []
    for step in range(160):
        if held and (rng.random() < 0.4 or step > 110):
            machine.free_percpu(held.pop(rng.randrange(len(held))))
        else:
            held.append(machine.alloc_percpu(rng.choice((4, 64, 2048, 20000)), rng.choice((4, 64, 4096))))
        machine.run_percpu_worker()
        check_percpu(machine.kernel.percpu)


@pytest.mark.parametrize(("function", "defect"), DEFECTS, ids=lambda thing: thing.__name__)
def test_the_law_catches_a_defect(function: Callable[..., Any], defect: Callable[..., Any]) -> None:
    machine = machine_of("i386-pae-2g-2cpu")
    with livepatch(function, defect), pytest.raises((BrokenLaw, AssertionError)):
        work(machine)


def test_the_same_work_without_a_defect_keeps_the_law() -> None:
    work(machine_of("i386-pae-2g-2cpu"))
