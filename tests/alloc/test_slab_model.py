"""SLAB against a model that knows nothing of slabs: who holds which bytes, and what he wrote into them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.alloc.kmem_cache import SLAB_HWCACHE_ALIGN, SLAB_NOLEAKTRACE, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.alloc.slab_check import check_slab
from kmemlab.alloc.slab_reap import slab_dead_cpu, slab_prepare_cpu
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.mm.globals import Mm
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, DoubleFree, ObjectsRemain, OutOfMemory
from kmemlab.types.gfp import GFP_ATOMIC, GFP_KERNEL, GFP_KERNEL_ACCOUNT

SIZES = (1, 24, 32, 40, 64, 96, 152, 200, 512, 700, 1024, 1504, 2000, 4096, 6000, 8192)
FLAGS = (0, SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT, SLAB_NOLEAKTRACE, SLAB_TYPESAFE_BY_RCU)


class Objects(RuleBasedStateMachine):
    """Random requests; every object bears its own mark, which must be whole when it goes back."""

    debug = False

    def __init__(self) -> None:
        super().__init__()
        spec = load_spec("numa-2x4g")
        spec = replace(spec, cmdline=f"{spec.cmdline} slab_nomerge")  # a name is a cache of its own
        self.machine = Machine.boot(spec, slab="SLAB_DEBUG" if self.debug else "SLAB")
        self.held: dict[int, tuple[str, int, bytes]] = {}  # by address: the cache ("": kmalloc), the size, the mark
        self.sizes: dict[str, int] = {}
        self.failing = 0  # so many requests for pages will fail
        self.mark = self.made = 0
        self.patch = livepatch(alloc_pages_inner, self.pages_or_none())
        self.patch.__enter__()

    def pages_or_none(self):
        def flaky(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
            if self.failing:
                self.failing -= 1
                return None
            return alloc_pages_inner.original(mm, gfp, order, nid)

        return flaky

    def teardown(self) -> None:
        self.machine.check()
        self.patch.__exit__(None, None, None)

    def keep(self, cache: str, size: int, address: int) -> None:
        """Nobody else holds any of these bytes: then mark them."""
        assert address % 8 == 0
        for other, (_, length, _) in self.held.items():
            assert other + length <= address or address + size <= other
        self.mark += 1
        mark = self.mark.to_bytes(4, "little")[:size]
        self.machine.write(address, mark)
        self.machine.write(address + size - len(mark), mark)
        self.held[address] = (cache, size, mark)

    @rule(size=st.sampled_from(SIZES), flags=st.sampled_from(FLAGS), ctor=st.booleans())
    def create(self, size: int, flags: int, ctor: bool) -> None:
        if len(self.sizes) < 5:
            self.made += 1
            name = f"cache-{self.made}"
            try:
                self.machine.kmem_cache_create(name, size, 0, flags, constructor if ctor else None)
            except BadRequest:
                return  # no memory
            self.sizes[name] = size

    @precondition(lambda self: self.sizes)
    @rule(data=st.data(), count=st.sampled_from((1, 3, 20, 70)), node=st.sampled_from((-1, -1, 0, 1)))
    def alloc(self, data: st.DataObject, count: int, node: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        for _ in range(count):
            try:
                address = self.machine.kmem_cache_alloc(name, GFP_KERNEL, node)
            except OutOfMemory:
                return
            self.keep(name, self.sizes[name], address)

    @rule(
        size=st.sampled_from(SIZES),
        count=st.sampled_from((1, 5, 40)),
        gfp=st.sampled_from((GFP_KERNEL, GFP_ATOMIC, GFP_KERNEL_ACCOUNT)),
    )
    def kmalloc(self, size: int, count: int, gfp: int) -> None:
        for _ in range(count):
            try:
                address = self.machine.kmalloc(size, gfp)
            except OutOfMemory:
                return
            self.keep("", size, address)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), count=st.sampled_from((1, 10, 60)), newest=st.booleans())
    def free(self, data: st.DataObject, count: int, newest: bool) -> None:
        for _ in range(min(count, len(self.held))):
            addresses = list(self.held)
            address = addresses[-1] if newest else addresses[data.draw(st.integers(0, len(addresses) - 1))]
            cache, size, mark = self.held.pop(address)
            assert self.machine.read(address, len(mark)) == mark
            assert self.machine.read(address + size - len(mark), len(mark)) == mark
            if cache:
                self.machine.kmem_cache_free(cache, address)
            else:
                self.machine.kfree(address)

    @precondition(lambda self: any(cache for cache, _, _ in self.held.values()))
    @rule(data=st.data())
    def free_twice(self, data: st.DataObject) -> None:
        mine = [address for address, (cache, _, _) in self.held.items() if cache]
        address = data.draw(st.sampled_from(mine))
        cache, _, _ = self.held.pop(address)
        self.machine.kmem_cache_free(cache, address)
        with pytest.raises((DoubleFree, BadRequest)):
            self.machine.kmem_cache_free(cache, address)

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        if any(cache == name for cache, _, _ in self.held.values()):
            with pytest.raises(ObjectsRemain):
                self.machine.kmem_cache_destroy(name)
            # C leaves the cache without a user; ours goes on with it.
            found = next(cache for cache in self.machine.kernel.slab.existing() if cache.name == name)
            found.refcount += 1
        else:
            self.machine.kmem_cache_destroy(name)
            del self.sizes[name]

    @rule(seconds=st.integers(1, 9))
    def wait(self, seconds: int) -> None:
        self.machine.wait(seconds)

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def shrink(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        left = self.machine.kmem_cache_shrink(name)
        assert bool(left) == any(cache == name for cache, _, _ in self.held.values())

    @rule(cpu=st.integers(0, 1))
    def run_on(self, cpu: int) -> None:
        self.machine._command("set_cpu", cpu)

    @rule()
    def a_cpu_goes_and_comes(self) -> None:
        common = self.machine.kernel.slab
        other = 1 - common.mm.current.cpu
        slab_dead_cpu(common, other)
        check_slab(common)
        slab_prepare_cpu(common, other)

    @rule(times=st.integers(1, 6))
    def memory_gets_short(self, times: int) -> None:
        self.failing = times

    @invariant()
    def all_laws_hold(self) -> None:
        check_slab(self.machine.kernel.slab)

    @invariant()
    def the_kernel_counts_as_we_do(self) -> None:
        ours = dict.fromkeys(self.sizes, 0)
        for cache, _, _ in self.held.values():
            if cache:
                ours[cache] += 1
        lines = slabinfo(self.machine.kernel).splitlines()[2:]
        rows = {line.split()[0]: line.split() for line in lines}
        for name, count in ours.items():
            assert next(c for c in self.machine.kernel.slab.existing() if c.name == name).nr_held == count
            active, total = int(rows[name][1]), int(rows[name][2])
            assert count <= active <= total
            assert total == int(rows[name][4]) * int(rows[name][14])


def constructor(memory, address: int) -> None:
    memory.write(address, b"\x00")


class WatchedObjects(Objects):
    """The same on a kernel that watches every object."""

    debug = True

    @invariant()
    def nothing_is_reported(self) -> None:
        assert "slab error in cache_alloc" not in self.machine.dmesg()
        assert "Slab corruption" not in self.machine.dmesg()


TestObjects = Objects.TestCase
TestObjects.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestWatchedObjects = WatchedObjects.TestCase
TestWatchedObjects.settings = settings(
    max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
