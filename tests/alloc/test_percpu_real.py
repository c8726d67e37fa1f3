"""The first chunk of per-CPU memory and `Percpu:` of /proc/meminfo, against real machines."""

from __future__ import annotations

import re

import pytest

from kmemlab.alloc.check_percpu import check_percpu
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.machine.vmallocinfo import vmallocinfo
from kmemlab.types.units import MIB, PAGE_SIZE
from tests.alloc.kmap_bench import machine_of
from tests.boot.captures import MACHINES

AMD64 = [
    "amd64-128m", "amd64-2g-2cpu", "amd64-16g-8cpu", "amd64-numa2-4g-4cpu", "amd64-fake4-4g-2cpu",
    "amd64-numa4-8g-4cpu-dist", "amd64-la57-2g", "amd64-numa2-memless-2g-2cpu",
]  # fmt: skip
I386 = ["i386-pae-2g-2cpu", "i386-256m", "i386-4g-2cpu", "i386-pae-1g", "i386-pae-8g-2cpu"]


def real_percpu(name: str) -> str:
    (line,) = re.findall(r"^Percpu:.*$", (MACHINES / name / "meminfo.txt").read_text(), re.MULTILINE)
    return str(line)


def model_percpu(machine: Machine) -> str:
    (line,) = re.findall(r"^Percpu:.*$", meminfo(machine.kernel), re.MULTILINE)
    return str(line)


@pytest.mark.parametrize("name", I386)
def test_meminfo_of_real_i386_machines(name: str) -> None:
    machine = machine_of(name)
    check_percpu(machine.kernel.percpu)
    assert model_percpu(machine) == real_percpu(name)
    assert "pcpu_get_vm_areas" not in vmallocinfo(machine.kernel)


@pytest.mark.parametrize("name", AMD64)
def test_meminfo_of_real_amd64_machines(name: str) -> None:
    """What the real kernel asked for until user space ran is not known; it left one empty page, or (fake4) none.

    The worker then provides pages up to four, in one chunk with one area a group.
    """
    machine = machine_of(name)
    left = 0 if "fake4" in name else 1
    while machine.kernel.percpu.nr_empty_pop_pages > left:
        machine.alloc_percpu(PAGE_SIZE, PAGE_SIZE)
    assert machine.run_percpu_worker()
    check_percpu(machine.kernel.percpu)
    assert model_percpu(machine) == real_percpu(name)
    lines = [line for line in vmallocinfo(machine.kernel).splitlines() if "pcpu_get_vm_areas" in line]
    groups = {"amd64-numa2-4g-4cpu": 2, "amd64-fake4-4g-2cpu": 2, "amd64-numa4-8g-4cpu-dist": 4,
              "amd64-numa2-memless-2g-2cpu": 2}.get(name, 1)  # fmt: skip
    assert [line.split()[1] for line in lines] == [str(2 * MIB)] * groups


@pytest.mark.parametrize("name", [*AMD64, *I386])
def test_where_the_units_are(name: str) -> None:
    machine = machine_of(name)
    units = machine.kernel.percpu.units
    cpus = range(units.nr_cpus)
    assert len({units.unit_off[cpu] for cpu in cpus}) == len(cpus)
    assert min(units.unit_off[cpu] for cpu in cpus) == 0
    for cpu in cpus:
        start = units.base_addr + units.unit_off[cpu]
        # The direct map shows the unit, and memblock has kept it from the page allocator.
        first, last = (
            (start - va(machine.kernel.boot, 0) >> 12),
            (start + units.size_sum - 1 - va(machine.kernel.boot, 0) >> 12),
        )
        assert machine.kernel.boot.mmu.access(start) >> 12 == first
        page = machine.kernel.mm.page
        assert not any(page.buddy[pfn] or page.owned[pfn] for pfn in range(first, last + 1))
        inside = [(offset, size) for offset, size in units.groups() if offset <= units.unit_off[cpu] < offset + size]
        assert len(inside) == 1
    assert units.size_sum % PAGE_SIZE == 0
    assert units.nr_units * units.unit_size == sum(size for _, size in units.groups())
