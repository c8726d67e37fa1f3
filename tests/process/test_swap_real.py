"""Swapping against a real machine of 160 MiB: 100 MiB of memory touched once, with half of that free.

What the real kernel swapped, scanned and freed stands in its /proc/vmstat before and after.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.machine.procfs_lists import vmstat
from kmemlab.mm.vm_event import PGSCAN_ANON, PGSCAN_SKIP
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.zone_type import ZONE_DMA32

REAL = Path(__file__).parents[1] / "data" / "swaps" / "swap-160m"
TOUCHED = 100 << 8  # pages
PGSKIP_DMA32 = PGSCAN_SKIP + ZONE_DMA32


def numbers(text: str) -> dict[str, int]:
    """The numbers of a file of /proc, by name."""
    return {words[0].rstrip(":"): int(words[1]) for words in map(str.split, text.splitlines())}


def leave_free(machine: Machine, pages: int) -> None:
    """Take pages until exactly so many are free."""
    for order in (10, 4, 0):
        while sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones) - (1 << order) >= pages:
            machine.alloc_pages(GFP_KERNEL, order)


def ready() -> tuple[Machine, int, int]:
    """The machine as it stood before the work: so many pages free, and a program with nothing but its address."""
    machine = Machine.boot(REAL / "hardware.json")
    machine.swapon(65536)
    real = numbers((REAL / "before" / "meminfo.txt").read_text(encoding="ascii"))
    model = numbers(meminfo(machine.kernel))
    assert [model[name] for name in ("MemTotal", "SwapTotal", "SwapFree")] == [
        real[name] for name in ("MemTotal", "SwapTotal", "SwapFree")
    ]
    leave_free(machine, real["MemFree"] // 4)
    pid = machine.spawn("hog")
    return machine, pid, machine.mmap(pid, TOUCHED * 4096)


@pytest.fixture(scope="module")
def counted() -> tuple[dict[str, int], dict[str, int]]:
    """What the model's counters say after the same work, and by how much the real ones rose."""
    machine, pid, address = ready()
    machine.touch(pid, address, TOUCHED * 4096)
    machine.check()
    before, after = (numbers((REAL / when / "vmstat.txt").read_text(encoding="ascii")) for when in ("before", "after"))
    return numbers(vmstat(machine.kernel)), {name: after[name] - before[name] for name in after}


def test_as_much_goes_to_swap(counted: tuple[dict[str, int], dict[str, int]]) -> None:
    model, real = counted
    assert real["pswpout"] == 12841
    assert model["pswpout"] == pytest.approx(real["pswpout"], rel=0.01)
    assert model["pgsteal_anon"] == pytest.approx(real["pgsteal_anon"], rel=0.05)
    assert model["pgrotated"] == pytest.approx(real["pgrotated"], rel=0.05)


def test_reclaim_alone_writes_it(counted: tuple[dict[str, int], dict[str, int]]) -> None:
    for counters in counted:
        assert counters["nr_vmscan_write"] == counters["pswpout"]
        assert counters["pgsteal_file"] == 0


def test_kswapd_and_the_program_share_the_work_alike(counted: tuple[dict[str, int], dict[str, int]]) -> None:
    model, real = (counters["pgsteal_kswapd"] / counters["pgsteal_anon"] for counters in counted)
    assert model == pytest.approx(real, abs=0.1)
    model_runs, real_runs = (counters["pageoutrun"] for counters in counted)
    assert model_runs == pytest.approx(real_runs, rel=0.4)


def test_kswapd_looks_at_as_many_pages(counted: tuple[dict[str, int], dict[str, int]]) -> None:
    """Those it passed over apart: Linux's was woken for zone DMA alone twice, which is the next test's matter."""
    model, real = (counters["pgscan_kswapd"] - counters["pgskip_dma32"] for counters in counted)
    assert real == 47141 - 15906
    assert model == pytest.approx(real, rel=0.05)


def test_for_the_lowest_zone_alone_kswapd_passes_over_all_others_pages() -> None:
    """A request took a block of another type in zone DMA, whose boost woke kswapd: it scanned 8,969 pages for one."""
    machine, pid, address = ready()
    event = machine.kernel.mm.vm_event
    machine.touch(pid, address, 8500 * 4096)
    for page in range(8500, TOUCHED):  # a command each: Linux's kswapd ran behind the request that woke it, too
        machine.touch(pid, address + page * 4096, 4096)
        if event[PGSKIP_DMA32]:
            break
    assert event[PGSKIP_DMA32] == pytest.approx(8968, rel=0.05)
    assert event[PGSCAN_ANON] - event[PGSKIP_DMA32] < 5000
    machine.check()
