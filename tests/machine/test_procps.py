"""free and top: what the programs printed on a real machine beside its /proc/meminfo; and the model's columns."""

from __future__ import annotations

from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.machine.procps import free_columns, free_text, meminfo_fields, top_text

ON_CPU_LISTS = 4 * 700  # KiB that a CPU may keep for itself: not free to `free`, and given out first

# procps 4.0.2 on a machine of 24 GiB; /proc/meminfo was the same before and after.
REAL_FREE = (
    """\
MemTotal:       24684100 kB
MemFree:        15266376 kB
MemAvailable:   17723288 kB
Buffers:          131416 kB
Cached:          1525564 kB
SwapTotal:             0 kB
SwapFree:              0 kB
Shmem:              8724 kB
SReclaimable:    1183372 kB
""",
    """\
               total        used        free      shared  buff/cache   available
Mem:        24684100     6960812    15266376        8724     2840352    17723288
Swap:              0           0           0
""",
)
REAL_TOP = (
    """\
MemTotal:       24684100 kB
MemFree:        20096048 kB
MemAvailable:   22557556 kB
Buffers:          131640 kB
Cached:          1529828 kB
SwapTotal:             0 kB
SwapFree:              0 kB
Shmem:              8724 kB
SReclaimable:    1183536 kB
""",
    """\
MiB Mem :  24105.6 total,  19625.0 free,   2076.7 used,   2778.3 buff/cache
MiB Swap:      0.0 total,      0.0 free,      0.0 used.  22028.9 avail Mem
""",
)


def columns(machine: Machine) -> dict[str, int]:
    return free_columns(meminfo_fields(meminfo(machine.kernel)))


def test_free_prints_what_the_program_prints() -> None:
    text, printed = REAL_FREE
    assert free_text(text) == printed


def test_top_prints_what_the_program_prints() -> None:
    text, printed = REAL_TOP
    assert top_text(text) == printed


def test_what_a_file_does_to_the_columns() -> None:
    """Reading makes free small and leaves used as it is: cache is no loss."""
    machine = Machine.boot("tiny-128m")
    machine.create_file("data", 5000)
    before = columns(machine)
    machine.read_file("data")
    after = columns(machine)
    assert after["buff/cache"] - before["buff/cache"] >= 4 * 5000
    assert before["free"] - after["free"] >= 4 * 5000 - ON_CPU_LISTS
    assert abs(after["used"] - before["used"]) < ON_CPU_LISTS
    machine.drop_caches(3)
    assert columns(machine)["buff/cache"] < 200
    assert free_text(machine.kernel).splitlines()[1].split()[1] == str(before["total"])


def test_what_a_program_does_to_the_columns() -> None:
    machine = Machine.boot("tiny-128m")
    pid = machine.spawn()
    before = columns(machine)
    start = machine.mmap(pid, 4000 * 4096, 3)
    assert abs(columns(machine)["used"] - before["used"]) < 200  # asked for, and not there yet
    machine.touch(pid, start, 4000 * 4096, write=True)
    assert columns(machine)["used"] - before["used"] >= 4 * 4000 - ON_CPU_LISTS
    assert columns(machine)["buff/cache"] - before["buff/cache"] < 200


def test_available_is_less_than_free_by_the_reserves_where_there_is_no_cache() -> None:
    machine = Machine.boot("laptop-8g")
    now = columns(machine)
    assert now["free"] - now["available"] == 4 * machine.kernel.mm.totalreserve_pages - now["buff/cache"] // 2
