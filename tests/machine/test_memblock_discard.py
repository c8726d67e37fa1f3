"""What memblock took for its own lists comes back."""

from __future__ import annotations

from kmemlab.machine.machine import Machine

RAM = [[0, 0x9FBFF, "usable"], [0x100000, (1 << 30) - 1, "usable"]]


def boot(cpus: int) -> Machine:
    """A machine in whose per-CPU memory there are so many gaps."""
    return Machine.boot({"e820": RAM, "cmdline": "memblock=debug", "cpus": {"present": cpus, "flags": ["pse"]}})


def test_a_short_list_took_nothing() -> None:
    assert not any("memblock_free_late" in line for line in boot(8).kernel.printk_lines)


def test_a_doubled_array_is_freed_where_it_lay() -> None:
    machine = boot(100)
    assert machine.kernel.boot.memblock.reserved.max == 256
    log = machine.kernel.printk_lines
    doubled = next(line for line in log if "reserved is doubled to 256" in line).partition("[")[2]
    freed = next(line for line in log if line.startswith("memblock_free_late: ")).partition("[")[2]
    first, last = (int(address, 16) for address in freed.partition("]")[0].split("-"))
    assert first == int(doubled.partition("-")[0], 16)
    assert last + 1 - first == 8192  # 256 entries of 24 bytes, in whole pages
    machine.check()
