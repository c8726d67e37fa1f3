"""Boot costs what is touched, not what is there: bounds that hold on a slow computer, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.gfp import GFP_KERNEL

BENCH = Path(__file__).parents[1] / "bench" / "bench_boot.py"
GIB = 1 << 30


def boot(size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(BENCH), "--one", str(size)],
        capture_output=True,
        text=True,
        check=True,
        cwd=BENCH.parents[2],
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


@pytest.mark.skipif(sys.platform == "win32", reason="memory is counted otherwise there")
@pytest.mark.parametrize(("gib", "seconds"), [(24, 0.5), (1 << 10, 2.0), (64 << 10, 2.0)])
def test_boot_is_quick_and_small(gib: int, seconds: float) -> None:
    cost = min((boot(gib * GIB) for _ in range(2)), key=lambda run: run["seconds"])
    assert cost["seconds"] < seconds
    assert cost["peak_mib"] < 300


def test_memory_does_not_grow_with_ram() -> None:
    small, large = boot(GIB), boot(64 * 1024 * GIB)
    assert large["peak_mib"] < small["peak_mib"] + 40


def test_the_largest_preset_is_whole_and_works() -> None:
    machine = Machine.boot("la57-64t")
    assert machine.kernel.boot.page_table_levels == 5
    assert machine.kernel.boot.direct_map.direct_gbpages
    assert sum(zone.present_pages for zone in machine.zones) * 4096 > (64 << 40) - (1 << 20)
    ends = [(zone.zone_start_pfn + zone.spanned_pages) << 12 for zone in machine.zones]
    assert max(ends) > 1 << 46  # more than four levels reach
    last = machine.zones[-1]
    pfn = machine.alloc_pages(GFP_KERNEL, order=10, node=last.node)
    assert last.zone_start_pfn <= pfn < last.zone_start_pfn + last.spanned_pages
    machine.free_pages(pfn, order=10)
    machine.check()  # a run is one piece to the laws: seconds, not minutes


def test_the_preset_is_small() -> None:
    assert (Path(load_spec.__code__.co_filename).parent / "presets" / "la57-64t.json").stat().st_size < 8192


def test_a_terabyte_forks_as_it_boots() -> None:
    machine = Machine.boot("la57-64t")
    taken = machine.alloc_pages(GFP_KERNEL, order=3)
    twin = machine.fork()
    twin.free_pages(taken, order=3)
    held = [sum(zone.nr_owned for zone in each.zones) for each in (twin, machine)]
    assert held[1] - held[0] == 8
    again = twin.alloc_pages(GFP_KERNEL, order=3)
    assert again == taken
    assert twin.dmesg() == machine.dmesg()
