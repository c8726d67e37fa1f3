"""/proc/meminfo and /proc/zoneinfo: what boot decides, in the kernel's format."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo, zoneinfo

GIB = 1 << 30


def fields(flags: list[str], cmdline: str = "nokaslr", **more: Any) -> dict[str, str]:
    e820 = [[0, 0x9FBFF, "usable"], [0x100000, 3 * GIB - 1, "usable"]]
    booted = Machine.boot({"e820": e820, "cmdline": cmdline, "cpus": {"flags": flags}, **more})
    lines = meminfo(booted.kernel).splitlines()
    # "MemTotal:        3008652 kB": the name in 16 columns, the number right-aligned to column 24.
    assert all(re.fullmatch(r"\S+: +\d+( kB)?", line) and len(line) >= 24 for line in lines)
    return dict(line.split(":", 1) for line in lines)


@pytest.mark.parametrize(
    ("flags", "cmdline", "absent"),
    [
        (["pse", "pdpe1gb"], "nokaslr", []),
        (["pse", "pdpe1gb"], "nokaslr nogbpages", ["DirectMap1G"]),
        (["pse"], "nokaslr", ["DirectMap1G"]),
        ([], "nokaslr", ["DirectMap1G", "HugePages_Total", "Hugepagesize", "Hugetlb"]),
    ],
)
def test_what_the_cpu_can_do_decides_which_fields_there_are(flags: list[str], cmdline: str, absent: list[str]) -> None:
    found = fields(flags, cmdline)
    everything = {"MemTotal", "VmallocTotal", "DirectMap4k", "DirectMap2M", "DirectMap1G", "HugePages_Total", "Hugetlb"}
    assert {name for name in (*everything, *absent) if name not in found} == set(absent)
    mapped = sum(int(found[name].split()[0]) for name in found if name.startswith("DirectMap"))
    # The hole below 1 MiB is mapped, too. A page of 1 GiB is counted by each window that touches it, as Linux does:
    # the third GiB by all three ([3G - 2M, 3G), then down to 2.5 GiB, then down to 1 MiB).
    again = 2 * GIB if "DirectMap1G" in found else 0
    assert mapped == (3 * GIB + again) // 1024


def test_vmallocs_area_and_the_pools() -> None:
    assert fields(["pse"])["VmallocTotal"].split() == ["34359738367", "kB"]
    assert fields(["pse", "la57"])["VmallocTotal"].split() == ["13743895347199", "kB"]
    found = fields(["pse", "pdpe1gb"], "nokaslr hugepages=4 hugepagesz=1G hugepages=1")
    assert (found["HugePages_Total"].split(), found["Hugepagesize"].split()) == (["4"], ["2048", "kB"])
    assert found["Hugetlb"].split() == [str(8192 + 1048576), "kB"]
    assert fields(["pse", "pdpe1gb"], "default_hugepagesz=1G")["Hugepagesize"].split() == ["1048576", "kB"]


@pytest.mark.parametrize(
    ("cmdline", "cpus", "others_may_come"),
    [
        ("", 4, False),
        ("maxcpus=2", 2, True),
        ("maxcpus=9", 4, False),
        ("maxcpus=1", 1, True),
        ("maxcpus=0", 1, False),  # these make all others impossible, not only idle
        ("nosmp", 1, False),
        ("nr_cpus=2", 2, False),
        ("nr_cpus=1", 1, False),
        ("possible_cpus=8", 4, True),
    ],
)
def test_limits_go_by_the_cpus_that_run(cmdline: str, cpus: int, others_may_come: bool) -> None:
    e820 = [[0, 0x9FBFF, "usable"], [0x100000, (1 << 30) - 1, "usable"]]
    machine = Machine.boot({"e820": e820, "cmdline": cmdline, "cpus": {"present": 4, "flags": ["pse"]}})
    zone = machine.zone("DMA32")
    assert zone.pageset_high == zone.watermark[1] // cpus
    assert zone.stat_threshold == 2 * cpus.bit_length() * (1 + (zone.managed_pages >> 15).bit_length())
    assert zoneinfo(machine.kernel).count("    cpu: ") == 2 * cpus
    # Without other CPUs running, the table of lock prefixes stays if they may come.
    freed = any("SMP alternatives" in line for line in machine.kernel.printk_lines)
    assert freed == (cpus > 1 or not others_may_come)
