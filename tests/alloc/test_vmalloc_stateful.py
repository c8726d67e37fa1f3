"""vmalloc under random use, with pages that run out at random, against intervals counted by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.alloc.check_vmalloc import check_vmalloc
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.alloc.page_api import alloc_pages_bulk
from kmemlab.machine.machine import Machine
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import OutOfMemory

PAGE, START = 4096, 0xFFFFC90000000000


@cache
def booted() -> Machine:
    return Machine.boot("tiny-128m")


class VmallocMachine(RuleBasedStateMachine):
    """`taken` are areas that nobody else may have: busy ones, and freed ones that were not purged yet."""

    def __init__(self) -> None:
        super().__init__()
        self.box = booted().fork()
        self.busy: dict[int, int] = {}  # address: bytes, the guard page included
        self.lazy: dict[int, int] = {}

    def lowest(self, size: int) -> int:
        """Where an area of so many bytes fits first."""
        at = START
        for start, length in sorted([*self.busy.items(), *self.lazy.items()]):
            if at + size <= start:
                return at
            at = max(at, start + length)
        return at

    @rule(pages=st.integers(1, 40))
    def vmalloc(self, pages: int) -> None:
        expected = self.lowest((pages + 1) * PAGE)
        address = self.box.vmalloc(pages * PAGE)
        assert address == expected
        self.busy[address] = (pages + 1) * PAGE
        for nth in range(pages):
            self.box.store(address + nth * PAGE, address + nth)

    @rule(pages=st.integers(1, 40), after=st.integers(0, 39))
    def vmalloc_with_too_few_pages(self, pages: int, after: int) -> None:
        left = [after]

        def scarce(mm: Any, gfp: int, order: int, nid: int) -> int | None:
            if not left[0]:
                return None
            left[0] -= 1
            return alloc_pages_inner.original(mm, gfp, order, nid)

        def scarce_bulk(mm: Any, gfp: int, nid: int, nr_pages: int, alloc: Any = alloc_pages_inner) -> list[int]:
            pfns: list[int] = alloc_pages_bulk.original(mm, gfp, nid, min(left[0], nr_pages), alloc)
            left[0] = max(left[0] - len(pfns), 0)  # a single page has been counted already
            return pfns

        expected = self.lowest((pages + 1) * PAGE)
        try:
            with livepatch(alloc_pages_inner, scarce), livepatch(alloc_pages_bulk, scarce_bulk):
                address = self.box.vmalloc(pages * PAGE)
        except OutOfMemory:
            self.lazy[expected] = (pages + 1) * PAGE  # what was begun is freed as ever: lazily
        else:
            assert address == expected
            self.busy[address] = (pages + 1) * PAGE
            for nth in range(pages):
                self.box.store(address + nth * PAGE, address + nth)

    @precondition(lambda self: self.busy)
    @rule(which=st.integers(0, 10**6), in_interrupt=st.booleans())
    def vfree(self, which: int, in_interrupt: bool) -> None:
        address = sorted(self.busy)[which % len(self.busy)]
        # Nobody else has written into its pages.
        for nth in range(self.busy[address] // PAGE - 1):
            assert self.box.load(address + nth * PAGE) == address + nth
        self.box.vfree(address, in_interrupt=in_interrupt)
        self.lazy[address] = self.busy.pop(address)

    @rule()
    def purge(self) -> None:
        self.box.vm_unmap_aliases()
        self.lazy.clear()

    @invariant()
    def holds(self) -> None:
        check_vmalloc(self.box.kernel.mm)
        self.box.check_laws()
        vmalloc = self.box.kernel.mm.vmalloc
        assert vmalloc.vmap_lazy_nr == sum(self.lazy.values()) // PAGE
        assert vmalloc.nr_vmalloc_pages == sum(size // PAGE - 1 for size in self.busy.values())


TestVmalloc = VmallocMachine.TestCase
TestVmalloc.settings = settings(max_examples=15, stateful_step_count=30, deadline=None, derandomize=True)
