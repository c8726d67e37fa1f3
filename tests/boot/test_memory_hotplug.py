"""DIMMs that come after boot, in /proc/iomem."""

from __future__ import annotations

from typing import Any

from kmemlab.boot.memory_hotplug import register_memory_resource
from kmemlab.boot.resource import iomem_lines
from tests.boot.captures import MACHINES, expected, resources

GIB = 1 << 30


def rows(cmdline: str = "", dimm: tuple[int, int] = (4 * GIB, 5 * GIB - 1)) -> list[str]:
    """System RAM of a machine of 1 GiB with one DIMM."""
    machine: dict[str, Any] = {"e820": [[0, 0x9FFFF, "usable"], [0x100000, GIB - 1, "usable"]], "cmdline": cmdline}
    boot = resources({**machine, "dimms": [list(dimm)]})
    register_memory_resource(boot, dimm[0], dimm[1] + 1 - dimm[0])
    return [line for line in iomem_lines(boot.iomem_resource) if line.endswith(": System RAM")]


def test_a_dimm_is_system_ram() -> None:
    assert rows()[-1] == "100000000-13fffffff : System RAM"


def test_mem_keeps_dimms_out() -> None:
    assert rows("mem=512M") == ["00001000-0009ffff : System RAM", "00100000-1fffffff : System RAM"]


def test_addresses_that_are_taken_are_refused() -> None:
    assert len(rows(dimm=(GIB - 4096, 2 * GIB - 1))) == 2


def test_the_real_machine() -> None:
    name = "amd64-dimm-2g-plus-1g"
    boot = resources(MACHINES / name)
    for start, end in boot.spec.dimms:
        register_memory_resource(boot, start, end + 1 - start)
    mine = {line.strip() for line in iomem_lines(boot.iomem_resource) if "RAM buffer" not in line}
    assert mine == set(expected(name)["iomem"])
