"""Files, requests and tunables at random on a machine of 20 MiB: nothing is lost, all counters agree, and all ends."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kmemlab.alloc.check_vfs import check_vfs
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_lru import check_lru
from kmemlab.mm.check_page_cache import check_page_cache
from kmemlab.mm.kswapd_wake import MAX_RECLAIM_RETRIES
from kmemlab.mm.vm_event import PGREFILL, PGSCAN_DIRECT, PGSCAN_KSWAPD, SLABS_SCANNED
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_NOWARN, GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOFS
from tests.reclaim.counter_laws import boosts, check_counters

PAGE = 4096
QUIETLY = __GFP_NOWARN
SMALL = {"e820": [[0, 0x9FBFF, "usable"], [0x100000, (64 << 20) - 1, "usable"]]}  # the kernel itself takes most of it
SIZES = (30, 900, 3000)
TUNABLES = {
    "vm.swappiness": (0, 60, 200),
    "vm.vfs_cache_pressure": (0, 100, 1000),
    "vm.dirty_ratio": (0, 5, 20, 100),
    "vm.dirty_background_bytes": (1, 40 * PAGE),
    "vm.dirty_expire_centisecs": (0, 100, 3000),
    "vm.dirty_writeback_centisecs": (0, 10, 500),
    "vm.min_free_kbytes": (0, 600, 2000),
    "vm.watermark_scale_factor": (1, 10, 500),
    "vm.watermark_boost_factor": (0, 15000),
    "vm.drop_caches": (1, 2, 3),
}
ZONE_RATIOS = ("0 0 0 0 0", "256 256 32 0 0", "1 1 1 0 0")


class Pressure(RuleBasedStateMachine):
    """What files hold is kept as one byte a page; pages that the test holds, by their order."""

    @initialize()
    def boot(self) -> None:
        self.machine = Machine.boot(SMALL)
        self.files = [{} for _ in SIZES]
        for number, pages in enumerate(SIZES):
            self.machine.create_file(f"f{number}", pages)
        self.held, self.boosted = [], None
        self.told = check_counters(self.machine)
        self.hold(GFP_HIGHUSER_MOVABLE, 0, 2500)  # of 5000: from now on files and requests fight for the rest

    @rule(number=st.integers(0, 2), at=st.floats(0, 1), count=st.sampled_from([1, 3, 40, 700]))
    def read(self, number: int, at: float, count: int) -> None:
        start, count = self.place(number, at, count)
        try:
            got = self.machine.read_file(f"f{number}", start * PAGE, count * PAGE)
        except OutOfMemory:
            return
        assert got[::PAGE] == bytes(self.files[number].get(n, n % 251 + 1) for n in range(start, start + count))

    @rule(number=st.integers(0, 2), at=st.floats(0, 1), count=st.sampled_from([1, 40, 500]), byte=st.integers(0, 255))
    def write(self, number: int, at: float, count: int, byte: int) -> None:
        start, count = self.place(number, at, count)
        for page in range(start, start + count):  # page by page, so that what was written is known if one fails
            try:
                self.machine._do_write_file(f"f{number}", page * PAGE, bytes((byte,)) * PAGE)
            except OutOfMemory:
                return
            self.files[number][page] = byte

    def place(self, number: int, at: float, count: int) -> tuple[int, int]:
        start = min(int(at * SIZES[number]), SIZES[number] - 1)
        return start, min(count, SIZES[number] - start)

    @rule(
        gfp=st.sampled_from([GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_ATOMIC, GFP_NOFS]),
        order=st.sampled_from([0, 0, 0, 1, 3]),
        count=st.sampled_from([1, 30, 1500]),
    )
    def hold(self, gfp: int, order: int, count: int) -> None:
        mm = self.machine.kernel.mm
        for _ in range(count):
            before = self.work()
            pfn = alloc_pages_inner(mm, gfp | QUIETLY, order, 0)
            # At most all retries, each with two rounds of thirteen priorities that look at all pages twice.
            assert self.work() - before <= (MAX_RECLAIM_RETRIES + 2) * 2 * (2 * 6000 + 13 * 64 + 4 * 1024)
            if pfn is None:
                break
            self.held.append((pfn, order))

    def work(self) -> int:
        event = self.machine.kernel.mm.vm_event
        return sum(event[item] for item in (PGSCAN_KSWAPD, PGSCAN_DIRECT, PGREFILL, SLABS_SCANNED))

    @rule(part=st.floats(0, 1))
    def release(self, part: float) -> None:
        for _ in range(int(part * len(self.held))):
            self.machine._do_free_pages(*self.held.pop())
        self.machine.check_laws()

    @rule(data=st.data())
    def tune(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(TUNABLES)))
        self.machine.sysctl(name, data.draw(st.sampled_from(TUNABLES[name])))
        if name in ("vm.min_free_kbytes", "vm.watermark_scale_factor"):
            self.boosted = None  # boosts are gone, and reserves without

    @rule(ratios=st.sampled_from(ZONE_RATIOS))
    def protect(self, ratios: str) -> None:
        self.boosted = boosts(self.machine)
        self.machine.sysctl("vm.lowmem_reserve_ratio", ratios)

    @rule(jiffies=st.sampled_from([1, 30, 1000]))
    def pass_time(self, jiffies: int) -> None:
        self.machine.tick(jiffies)

    @rule()
    def sync(self) -> None:
        self.machine.sync()

    @invariant()
    def laws(self) -> None:
        if hasattr(self, "machine"):
            self.told = check_counters(self.machine, self.told, self.boosted)
            check_lru(self.machine.kernel.mm)
            check_page_cache(self.machine.kernel.mm)

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        check_vfs(self.machine.kernel.super_block)
        self.release(1.0)
        self.machine.sync()
        self.machine.drop_caches(3)
        for number, changed in enumerate(self.files):
            got = self.machine.kernel.mm.disk.contents
            first = self.machine.kernel.mm.files.first_block[number + 1]
            for page, byte in changed.items():
                assert got.read_bytes((first + page) * PAGE, 1) == bytes((byte,))
        self.machine.check()


Pressure.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
)
TestPressure = Pressure.TestCase
pytestmark = pytest.mark.filterwarnings("ignore")
