"""The tunables of reclaim: their ranges and errors, and that they change a run while it goes."""

from __future__ import annotations

import pytest

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import sys_vm
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.machine.sysctl import VM_TABLE
from kmemlab.mm.page_writeback import global_dirty_limits, global_node_page_state
from kmemlab.mm.vm_event import PGSTEAL_ANON, PGSTEAL_FILE
from kmemlab.mm.vmstat import NR_FILE_DIRTY, NR_WRITEBACK
from kmemlab.mm.zone import NR_FREE_PAGES, WMARK_HIGH, WMARK_LOW, WMARK_MIN
from kmemlab.types.errors import BadRequest
from kmemlab.types.gfp import __GFP_NOWARN, GFP_DMA, GFP_HIGHUSER_MOVABLE, GFP_KERNEL
from tests.boot.captures import I386, MACHINES, NAMES, saved

PAGE = 4096
INT_MAX = 2**31 - 1
# extra1 and extra2 of C's tables; limits in bytes must fit in 32 bits of pages.
RANGES = [
    ("swappiness", 0, 200),
    ("vfs_cache_pressure", 0, INT_MAX),
    ("dirty_ratio", 0, 100),
    ("dirty_background_ratio", 0, 100),
    ("dirty_bytes", 2 * PAGE, (1 << 44) - PAGE),
    ("dirty_background_bytes", 1, (1 << 44) - PAGE),
    ("dirty_expire_centisecs", 0, INT_MAX),
    ("dirty_writeback_centisecs", 0, INT_MAX),
    ("watermark_boost_factor", 0, INT_MAX),
    ("watermark_scale_factor", 1, 3000),
    ("min_free_kbytes", 0, 1 << 20),
]


@pytest.fixture
def machine():
    return Machine.boot("tiny-128m")


def pending(machine):
    mm = machine.kernel.mm
    return global_node_page_state(mm, NR_FILE_DIRTY) + global_node_page_state(mm, NR_WRITEBACK)


@pytest.mark.parametrize(("name", "least", "most"), RANGES)
def test_ranges(machine, name, least, most):
    for value in (least, most):
        assert machine.sysctl(f"vm.{name}", value) == str(value)
        assert machine.sysctl(f"vm.{name}") == str(value)
    before = machine.sysctl(f"vm.{name}")
    beyond = most + 1 if name != "min_free_kbytes" else INT_MAX + 1
    for value in (least - 1, beyond, "many", ""):
        with pytest.raises(BadRequest):
            machine.sysctl(f"vm.{name}", value)
    assert machine.sysctl(f"vm.{name}") == before


@pytest.mark.parametrize("name", [*NAMES, *I386])
def test_defaults_are_those_of_linux(name):
    kernel = Kernel(load_spec(MACHINES / name))
    start_kernel(kernel)
    real = saved(name, "sys_vm.txt").splitlines()
    assert [line for line in sys_vm(kernel).splitlines() if line not in real] == []
    shown = {line.split(":")[0] for line in sys_vm(kernel).splitlines()}
    assert {"swappiness", "dirty_ratio", "dirty_bytes", "vfs_cache_pressure", "min_free_kbytes"} <= shown
    assert ("highmem_is_dirtyable" in shown) == any(line.startswith("highmem_is_dirtyable") for line in real)


def test_a_limit_in_bytes_and_one_in_per_cent_switch_each_other_off(machine):
    mm = machine.kernel.mm
    available = global_dirty_limits(mm)[1] * 4096 / 819
    machine.sysctl("vm.dirty_bytes", 10 * PAGE + 1)
    machine.sysctl("vm.dirty_background_bytes", 3 * PAGE)
    assert global_dirty_limits(mm) == (3, 11)
    assert [machine.sysctl(f"vm.{name}") for name in ("dirty_ratio", "dirty_background_ratio")] == ["0", "0"]
    machine.sysctl("vm.dirty_ratio", 40)
    machine.sysctl("vm.dirty_background_ratio", 50)
    assert [machine.sysctl(f"vm.{name}") for name in ("dirty_bytes", "dirty_background_bytes")] == ["0", "0"]
    background, thresh = global_dirty_limits(mm)
    assert background == thresh // 2  # the lower limit must lie below the upper one
    assert abs(thresh - 0.4 * available) < 0.005 * available


def test_the_flusher_starts_above_the_lower_limit_and_writers_wait_half_way_to_the_upper_one(machine):
    machine.sysctl("vm.dirty_background_bytes", 400 * PAGE)
    machine.sysctl("vm.dirty_bytes", 800 * PAGE)
    machine.create_file("data", 3000)
    machine.write_file("data", 0, b"a" * 380 * PAGE)
    machine.tick(50)
    assert pending(machine) == 381  # the inode's block, too; nobody minds
    machine.write_file("data", 380 * PAGE, b"b" * 40 * PAGE)
    assert pending(machine) == 421
    machine.tick(50)
    assert pending(machine) == 0  # once at it, the flusher writes all
    jiffies = machine.kernel.mm.current.jiffies
    machine.write_file("data", 0, b"c" * 560 * PAGE)
    assert machine.kernel.mm.current.jiffies == jiffies  # nobody waits
    machine.write_file("data", 560 * PAGE, b"c" * 2000 * PAGE)
    assert machine.kernel.mm.current.jiffies > jiffies
    assert pending(machine) <= 600
    machine.check()


def test_the_limits_change_while_it_runs(machine):
    """A writer who was far below them waits after the next write, since somebody lowered them."""
    machine.create_file("data", 2000)
    machine.write_file("data", 0, b"a" * 1000 * PAGE)
    assert pending(machine) == 1001
    machine.sysctl("vm.dirty_bytes", 100 * PAGE)
    machine.write_file("data", 1000 * PAGE, b"a")
    assert pending(machine) <= 100


def test_old_data_is_written_when_the_sysctls_say(machine):
    machine.create_file("data", 10)
    machine.sysctl("vm.dirty_expire_centisecs", 200)
    machine.sysctl("vm.dirty_writeback_centisecs", 100)
    machine.tick(2)
    machine.write_file("data", 0, b"a")
    machine.wait(1)
    assert pending(machine) == 2
    machine.wait(3)
    assert pending(machine) == 0
    machine.sysctl("vm.dirty_writeback_centisecs", 0)
    machine.write_file("data", 0, b"a")
    machine.wait(100)
    assert pending(machine) == 2  # nobody looks any more
    machine.sysctl("vm.dirty_writeback_centisecs", 500)
    machine.wait(1)
    assert pending(machine) == 0  # a new period begins with a look


def test_min_free_kbytes_moves_the_marks_and_kswapd_follows(machine):
    machine.create_file("big", 30000)
    machine.read_file("big")
    free = sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones)
    machine.sysctl("vm.min_free_kbytes", 20000)
    assert sum(zone.watermark[WMARK_MIN] for zone in machine.zones) in (4999, 5000)
    assert sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones) == free  # a mark frees nothing by itself
    machine.alloc_pages(GFP_KERNEL)
    dma32 = machine.zone("DMA32")
    assert dma32.vm_stat[NR_FREE_PAGES] >= dma32.watermark[WMARK_HIGH]
    machine.check()


def test_the_scale_factor_sets_the_marks_apart_and_the_boost_factor_how_far_they_may_rise(machine):
    zone = machine.zone("DMA32")
    machine.sysctl("vm.watermark_scale_factor", 1000)
    step = zone.managed_pages // 10
    assert zone.watermark[WMARK_LOW] - zone.watermark[WMARK_MIN] == step
    assert zone.watermark[WMARK_HIGH] - zone.watermark[WMARK_LOW] == step


def stolen_by_swappiness(swappiness):
    """A program's pages, and as many of a file that was read twice; then somebody wants memory."""
    machine = Machine.boot("tiny-128m")
    machine.swapon(16000)
    machine.sysctl("vm.swappiness", swappiness)
    pid = machine.spawn()
    start = machine.mmap(pid, 7000 * PAGE, 3)
    machine.touch(pid, start, 7000 * PAGE, write=True)
    machine.create_file("data", 7000)
    machine.read_file("data")
    machine.read_file("data")
    event = machine.kernel.mm.vm_event
    while event[PGSTEAL_ANON] + event[PGSTEAL_FILE] < 2000:
        machine.alloc_pages(GFP_KERNEL, 4)
    machine.check()
    return event[PGSTEAL_ANON], event[PGSTEAL_FILE]


def test_swappiness_decides_where_pages_come_from():
    (anon_0, file_0), (anon_200, file_200) = stolen_by_swappiness(0), stolen_by_swappiness(200)
    assert anon_0 == 0
    assert file_0 > 1000
    assert anon_200 > anon_0
    assert file_200 < file_0


# -- protection of low zones -------------------------------------------------------------------------------------------


def fill(machine, gfp):
    """Take pages until there are none; how many from each zone."""
    mm, taken = machine.kernel.mm, {}
    while (pfn := alloc_pages_inner(mm, gfp | __GFP_NOWARN, 0, 0)) is not None:
        zone = next(
            zone for zone in machine.zones if zone.zone_start_pfn <= pfn < zone.zone_start_pfn + zone.spanned_pages
        )
        taken[zone.name] = taken.get(zone.name, 0) + 1
    return taken


def test_dma_is_kept_from_requests_that_could_have_been_met_higher(machine):
    """lowmem_reserve: what is free of DMA below its mark and its reserve is for those who can use nothing else."""
    dma = machine.zone("DMA")
    reserve = dma.lowmem_reserve[machine.zone("DMA32").index]
    assert reserve > 0
    fill(machine, GFP_KERNEL)
    left = dma.vm_stat[NR_FREE_PAGES]
    assert reserve + dma.watermark[WMARK_MIN] - 8 <= left <= reserve + dma.watermark[WMARK_MIN]
    assert alloc_pages_inner(machine.kernel.mm, GFP_KERNEL | __GFP_NOWARN, 0, 0) is None
    got = fill(machine, GFP_DMA | GFP_KERNEL)
    assert set(got) == {"DMA"}
    assert got["DMA"] >= reserve - 8
    machine.check()


def test_without_a_reserve_dma_is_used_up_by_all(machine):
    machine.sysctl("vm.lowmem_reserve_ratio", "0 0 0 0 0")
    dma = machine.zone("DMA")
    assert not any(dma.lowmem_reserve)
    fill(machine, GFP_HIGHUSER_MOVABLE)
    assert dma.vm_stat[NR_FREE_PAGES] <= dma.watermark[WMARK_MIN]
    assert alloc_pages_inner(machine.kernel.mm, GFP_DMA | GFP_KERNEL | __GFP_NOWARN, 0, 0) is None


def test_the_ratio_may_change_while_it_runs(machine):
    dma = machine.zone("DMA")
    fill(machine, GFP_KERNEL)
    before = dma.vm_stat[NR_FREE_PAGES]
    machine.sysctl("vm.lowmem_reserve_ratio", "0 0 0 0 0")
    machine.alloc_pages(GFP_KERNEL)
    assert dma.vm_stat[NR_FREE_PAGES] < before
    machine.sysctl("vm.lowmem_reserve_ratio", "1 1 1 0 0")
    assert alloc_pages_inner(machine.kernel.mm, GFP_KERNEL | __GFP_NOWARN, 0, 0) is None


def test_programs_that_may_use_highmem_leave_lowmem_to_the_kernel():
    machine = Machine.boot(MACHINES / "i386-1g")
    normal = machine.zone("Normal")
    fill(machine, GFP_HIGHUSER_MOVABLE)
    for_highmem = normal.lowmem_reserve[machine.zone("HighMem").index]
    assert for_highmem > 500
    assert normal.vm_stat[NR_FREE_PAGES] >= for_highmem
    assert alloc_pages_inner(machine.kernel.mm, GFP_HIGHUSER_MOVABLE | __GFP_NOWARN, 0, 0) is None
    assert machine.alloc_pages(GFP_KERNEL)  # the kernel itself has what it needs
    machine.check()


def test_every_tunable_says_what_it_is(machine):
    for name, table in VM_TABLE.items():
        if table.read is not None:
            assert machine.sysctl(name).lstrip("-").isdigit()
