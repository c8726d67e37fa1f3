"""SLUB against a model that knows nothing of slabs: who holds which bytes, and what he wrote into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.alloc.kmem_cache import SLAB_ACCOUNT, SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.alloc.slab_check import check_slab
from kmemlab.alloc.slab_memory import KernelMemory
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.mm.globals import Mm
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import GFP_ATOMIC, GFP_DMA, GFP_KERNEL, GFP_KERNEL_ACCOUNT
from kmemlab.types.slab_config import SlabConfig
from tests.boot.captures import MACHINES

SIZES = (1, 8, 24, 40, 96, 200, 520, 1000, 2100, 5000)
FLAGS = (0, 0, SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT, SLAB_ACCOUNT, SLAB_TYPESAFE_BY_RCU)


def constructor(memory: KernelMemory, address: int) -> None:
    memory.write(address, b"\x11")


class Objects(RuleBasedStateMachine):
    """Random requests; every object bears its owner's mark, which must be whole when it goes back."""

    cmdline = ""
    source = "amd64-numa2-4g-4cpu"
    slab = SlabConfig()

    def __init__(self) -> None:
        super().__init__()
        spec = load_spec(MACHINES / self.source)
        self.machine = Machine.boot(replace(spec, cmdline=f"{spec.cmdline} {self.cmdline}"), slab=self.slab)
        self.nodes = len(self.machine.kernel.mm.node_data)
        self.cpus = self.machine.kernel.boot.spec.cpus.present
        self.held: dict[int, tuple[str, bytes]] = {}  # by address: the cache ("" for kmalloc), and what was written
        self.sizes: dict[str, int] = {}
        self.created = 0
        self.failing = 0  # so many requests for pages will fail
        self.patch = livepatch(alloc_pages_inner, self.pages_or_none())
        self.patch.__enter__()

    def pages_or_none(self) -> Callable[[Mm, int, int, int], int | None]:
        def flaky(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
            if self.failing:
                self.failing -= 1
                return None
            return alloc_pages_inner.original(mm, gfp, order, nid)  # type: ignore[attr-defined, no-any-return]

        return flaky

    def teardown(self) -> None:
        self.failing = 0
        for address in list(self.held):
            self.give_back(address)
        for name in self.sizes:
            self.machine.kmem_cache_destroy(name)
        self.machine.check()
        self.patch.__exit__(None, None, None)

    def keep(self, cache: str, size: int, address: int) -> None:
        """Nobody else holds any of these bytes: then fill them all."""
        assert address % 8 == 0
        for other, (_, mark) in self.held.items():
            assert other + len(mark) <= address or address + size <= other
        mark = bytes([len(self.held) * 7 % 251 + 1]) * size
        self.machine.write(address, mark)
        self.held[address] = (cache, mark)

    def give_back(self, address: int) -> None:
        cache, mark = self.held.pop(address)
        assert self.machine.read(address, len(mark)) == mark
        if cache:
            self.machine.kmem_cache_free(cache, address)
        else:
            self.machine.kfree(address)

    @rule(size=st.sampled_from(SIZES), flags=st.sampled_from(FLAGS), ctor=st.booleans())
    def create(self, size: int, flags: int, ctor: bool) -> None:
        if len(self.sizes) < 4:
            self.created += 1
            name = f"cache-{self.created}"
            try:
                self.machine.kmem_cache_create(name, size, 0, flags, constructor if ctor else None)
            except BadRequest:
                return  # no memory for it
            self.sizes[name] = size

    @precondition(lambda self: self.sizes)
    @rule(data=st.data(), count=st.sampled_from((1, 5, 40)), node=st.sampled_from((-1, -1, 0, 1)))
    def take(self, data: st.DataObject, count: int, node: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        for _ in range(count):
            try:
                address = self.machine.kmem_cache_alloc(name, GFP_KERNEL, min(node, self.nodes - 1))
            except OutOfMemory:
                return
            self.keep(name, self.sizes[name], address)

    @precondition(lambda self: self.sizes)
    @rule(data=st.data(), count=st.sampled_from((2, 30)))
    def take_many(self, data: st.DataObject, count: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        try:
            objects = self.machine.kmem_cache_alloc_bulk(name, GFP_KERNEL, count)
        except OutOfMemory:
            return
        assert len(objects) == count
        for address in objects:
            self.keep(name, self.sizes[name], address)

    @rule(size=st.integers(1, 40000), gfp=st.sampled_from((GFP_KERNEL, GFP_ATOMIC, GFP_KERNEL_ACCOUNT, GFP_DMA)))
    def kmalloc(self, size: int, gfp: int) -> None:
        try:
            address = self.machine.kzalloc(size, gfp)
        except OutOfMemory:
            return
        assert self.machine.ksize(address) >= size
        assert not any(self.machine.read(address, size))
        self.keep("", size, address)

    @precondition(lambda self: any(not cache for cache, _ in self.held.values()))
    @rule(data=st.data(), size=st.integers(1, 20000))
    def krealloc(self, data: st.DataObject, size: int) -> None:
        address = data.draw(st.sampled_from([address for address, (cache, _) in self.held.items() if not cache]))
        _, mark = self.held[address]
        try:
            moved = self.machine.krealloc(address, size)
        except OutOfMemory:
            return
        del self.held[address]
        same = min(size, len(mark))
        assert self.machine.read(moved, same) == mark[:same]
        self.keep("", size, moved)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), count=st.sampled_from((1, 10, 60)))
    def free(self, data: st.DataObject, count: int) -> None:
        for address in data.draw(st.permutations(sorted(self.held)))[:count]:
            self.give_back(address)

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def free_many(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        own = [address for address, (cache, _) in self.held.items() if cache == name]
        for address in own:
            mark = self.held.pop(address)[1]
            assert self.machine.read(address, len(mark)) == mark
        self.machine.kmem_cache_free_bulk(name, tuple(own))

    @precondition(lambda self: self.sizes)
    @rule(data=st.data())
    def shrink_or_destroy(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sizes)))
        if any(cache == name for cache, _ in self.held.values()):
            assert self.machine.kmem_cache_shrink(name) == 1
        else:
            self.machine.kmem_cache_destroy(name)
            del self.sizes[name]

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        self.machine._command("set_cpu", data.draw(st.integers(0, self.cpus - 1)))

    @rule(count=st.integers(1, 4))
    def pages_will_fail(self, count: int) -> None:
        self.failing = count

    @invariant()
    def the_laws_hold(self) -> None:
        check_slab(self.machine.kernel.slab)


class WatchedObjects(Objects):
    """The same where every object is watched: no false alarm, and nothing lost."""

    cmdline = "slub_debug=FZPU"
    source = "amd64-512m-2cpu"


class PlainObjects(Objects):
    """The same on 32 bits, without hardening, with caches that are not shared."""

    cmdline = "slab_nomerge init_on_alloc=0"
    source = "i386-pae-1g"
    slab = SlabConfig(freelist_hardened=False, freelist_random=False)


FEW = settings(
    max_examples=12, stateful_step_count=25, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
TestObjects = Objects.TestCase
TestWatchedObjects = WatchedObjects.TestCase
TestPlainObjects = PlainObjects.TestCase
for case in (TestObjects, TestWatchedObjects, TestPlainObjects):
    case.settings = FEW
