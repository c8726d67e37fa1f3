"""The page allocator under random use by two CPUs, against a model that knows no more than who holds which page.

Every page is held once, or free once: on a free list or on a CPU's. What was written into a block stands there until it
is given back, and the counters of /proc/vmstat tell the same as the model. Below, requests fail at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.alloc.page_api import alloc_pages_bulk
from kmemlab.alloc.prep_page import split_page
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs_lists import vmstat
from kmemlab.mm.check_pcp import pcp_blocks
from kmemlab.mm.fallback import rmqueue_inner
from kmemlab.mm.page_free import free_unref_page_list
from kmemlab.mm.per_cpu_pages import pindex_to_order
from kmemlab.mm.zone import Zone, free_blocks
from kmemlab.mm.zone_watermark_ok import zone_watermark_fast
from kmemlab.sim.livepatch import livepatch
from kmemlab.types import gfp as bits
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.migratetype import MIGRATE_TYPES
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

MIB = 1 << 20
DMA, COMP = bits.__GFP_DMA, bits.__GFP_COMP
DMA_END = 16 * MIB >> PAGE_SHIFT
MAY_FAIL = bits.__GFP_RETRY_MAYFAIL | bits.__GFP_NOWARN  # nobody is killed for it, and nothing is said
KINDS = [
    bits.GFP_KERNEL | MAY_FAIL,
    bits.GFP_KERNEL | bits.__GFP_NORETRY | bits.__GFP_NOWARN,
    bits.GFP_KERNEL | bits.__GFP_RECLAIMABLE | MAY_FAIL,
    bits.GFP_KERNEL | bits.__GFP_COMP | bits.__GFP_ZERO | MAY_FAIL,
    bits.GFP_KERNEL | bits.__GFP_DMA | MAY_FAIL,
    bits.GFP_HIGHUSER_MOVABLE | MAY_FAIL,
    bits.GFP_NOWAIT | bits.__GFP_NOWARN,
    bits.GFP_ATOMIC | bits.__GFP_NOWARN,
    bits.GFP_ATOMIC | bits.__GFP_MEMALLOC | bits.__GFP_NOWARN,
]
KNOBS = {
    "vm.min_free_kbytes": (256, 1024, 8192),
    "vm.watermark_scale_factor": (1, 10, 500),
    "vm.watermark_boost_factor": (0, 15000),
    "vm.percpu_pagelist_high_fraction": (0, 8, 100),
}


@cache
def booted() -> Machine:
    e820 = [[0, 0x9FBFF, "usable"], [0x100000, 128 * MIB - 1, "usable"]]
    return Machine.boot({"e820": e820, "cpus": {"present": 2, "flags": ["pse"]}})


def blocks_of(zone: Zone) -> list[tuple[int, int]]:
    """The free blocks of a zone, as (first page frame, order)."""
    kinds = range(MIGRATE_TYPES)
    return [(pfn, order) for order in range(11) for kind in kinds for pfn in free_blocks(zone, order, kind)]


@contextmanager
def failures(nth: int) -> Iterator[None]:
    """Each `nth` look at a watermark says no, and each `nth` try to take a block from the buddy fails."""
    looks = [0, 0]

    def low(zone: Any, order: int, mark: int, highest_zoneidx: int, alloc_flags: int, gfp: int) -> bool:
        looks[0] += 1
        answer: bool = zone_watermark_fast.original(zone, order, mark, highest_zoneidx, alloc_flags, gfp)
        return answer and looks[0] % nth > 0

    def empty(mm: Any, zone: Any, order: int, migratetype: int, alloc_flags: int) -> int | None:
        looks[1] += 1
        if looks[1] % nth == 0:
            return None
        pfn: int | None = rmqueue_inner.original(mm, zone, order, migratetype, alloc_flags)
        return pfn

    with livepatch(zone_watermark_fast, low), livepatch(rmqueue_inner, empty):
        yield


class PageMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.machine = booted().fork()
        self.mm = self.machine.kernel.mm
        self.held: dict[int, tuple[int, int]] = {}  # by first page frame: order, request
        self.all_pages = set(self.free_pages())
        self.counted = self.events()

    def free_pages(self) -> list[int]:
        """Every page of every list, as often as it stands there."""
        blocks = []
        for zone in self.machine.zones:
            blocks += blocks_of(zone)
            for cpu in range(2):
                blocks += [(pfn, pindex_to_order(zone.per_cpu_pageset, at)) for at, pfn in pcp_blocks(zone, cpu)]
        return [pfn for start, order in blocks for pfn in range(start, start + (1 << order))]

    def events(self) -> int:
        """Pages handed out since boot, without those that came back."""
        count = dict(line.split() for line in vmstat(self.machine.kernel).splitlines())
        return sum(int(count[name]) for name in count if name.startswith("pgalloc_")) - int(count["pgfree"])

    def note(self, pfn: int, order: int, gfp: int) -> None:
        """Somebody has got a block: it lies where it was wanted and is clean; write into its first and last page."""
        assert pfn % (1 << order) == 0
        assert not gfp & DMA or pfn + (1 << order) <= DMA_END
        ram = self.machine.kernel.boot.ram
        assert ram.read_bytes(pfn << PAGE_SHIFT, PAGE_SIZE) == bytes(PAGE_SIZE)  # init_on_alloc is on
        self.held[pfn] = order, gfp
        for page in {pfn, pfn + (1 << order) - 1}:
            ram.write(page << PAGE_SHIFT, page + 1, 8)

    def forget(self, pfn: int) -> int:
        """Somebody gives a block back: nobody else has written into it."""
        order, _ = self.held.pop(pfn)
        for page in {pfn, pfn + (1 << order) - 1}:
            assert self.machine.kernel.boot.ram.read(page << PAGE_SHIFT, 8) == page + 1
        return order

    def pick(self, which: int) -> int:
        return sorted(self.held)[which % len(self.held)]

    @rule(order=st.integers(0, 10), gfp=st.sampled_from(KINDS), cpu=st.integers(0, 1), nth=st.integers(0, 4))
    def alloc(self, order: int, gfp: int, cpu: int, nth: int) -> None:
        with self.machine.on_cpu(cpu), failures(nth) if nth else nullcontext():
            try:
                pfn = self.machine.alloc_pages(gfp, order)
            except OutOfMemory:
                return
        self.note(pfn, order, gfp)

    @rule(nr_pages=st.integers(1, 300), gfp=st.sampled_from(KINDS), cpu=st.integers(0, 1), nth=st.integers(0, 4))
    def bulk(self, nr_pages: int, gfp: int, cpu: int, nth: int) -> None:
        with self.machine.on_cpu(cpu), failures(nth) if nth else nullcontext():
            pfns = alloc_pages_bulk(self.mm, gfp, 0, nr_pages)
        assert len(pfns) <= nr_pages
        for pfn in pfns:
            self.note(pfn, 0, gfp)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 10**6), cpu=st.integers(0, 1))
    def free(self, which: int, cpu: int) -> None:
        pfn = self.pick(which)
        order = self.forget(pfn)
        with self.machine.on_cpu(cpu):
            self.machine.free_pages(pfn, order)

    @precondition(lambda self: self.held)
    @rule(every=st.integers(1, 3), cpu=st.integers(0, 1))
    def free_many_single_pages(self, every: int, cpu: int) -> None:
        pfns = [pfn for pfn, (order, _) in sorted(self.held.items()) if order == 0][::every]
        for pfn in pfns:
            self.forget(pfn)
        with self.machine.on_cpu(cpu):
            free_unref_page_list(self.mm, pfns)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 10**6))
    def split(self, which: int) -> None:
        pfn = self.pick(which)
        order, gfp = self.held[pfn]
        if order and not gfp & COMP:
            self.forget(pfn)
            split_page(self.mm.page, pfn, order)
            for page in range(pfn, pfn + (1 << order)):
                self.held[page] = 0, gfp
                self.machine.kernel.boot.ram.write(page << PAGE_SHIFT, page + 1, 8)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 10**6), off=st.integers(-3, 3), order=st.integers(0, 10))
    def wrong_free(self, which: int, off: int, order: int) -> None:
        pfn = self.pick(which) + off
        if self.held.get(pfn, (None,))[0] != order:
            with pytest.raises(BadRequest):
                self.machine.free_pages(pfn, order)

    @rule(name=st.sampled_from(sorted(KNOBS)), which=st.integers(0, 2))
    def turn(self, name: str, which: int) -> None:
        self.machine.sysctl(name, KNOBS[name][which % len(KNOBS[name])])

    @rule()
    def drain(self) -> None:
        self.machine.drain_all_pages()

    @rule(cpu=st.integers(0, 1))
    def refresh(self, cpu: int) -> None:
        with self.machine.on_cpu(cpu):
            self.machine.vmstat_update()

    @invariant()
    def each_page_is_somewhere_once(self) -> None:
        pages = self.free_pages()
        for pfn, (order, _) in self.held.items():
            pages += range(pfn, pfn + (1 << order))
        assert len(pages) == len(self.all_pages)
        assert set(pages) == self.all_pages
        assert self.events() - self.counted == sum(1 << order for order, _ in self.held.values())
        self.machine.check_laws()

    def teardown(self) -> None:
        """With all pages back and no CPU holding any, memory is in blocks as large as they can be."""
        for pfn in sorted(self.held):
            self.machine.free_pages(pfn, self.forget(pfn))
        self.machine.drain_all_pages()
        assert set(self.free_pages()) == self.all_pages
        for zone in self.machine.zones:
            blocks = set(blocks_of(zone))
            assert not any((pfn ^ 1 << order, order) in blocks for pfn, order in blocks if order < 9)
        self.machine.check()


TestPages = PageMachine.TestCase
TestPages.settings = settings(max_examples=25, stateful_step_count=40, deadline=None, derandomize=True)
