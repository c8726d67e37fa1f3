"""Arguments that no command takes: an error of ours says which, and the machine stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.workload import Run
from kmemlab.machine.workloads import thrashing
from kmemlab.machine.zone_lab import ZoneLab
from kmemlab.types.errors import BadRequest

ODD: dict[str, Callable[[Any], object]] = {
    "create_file: name": lambda machine: machine.create_file(5, 5),
    "read_file: name": lambda machine: machine.read_file(5),
    "write_file: name": lambda machine: machine.write_file(5, 0, b"x"),
    "stat_file: name": lambda machine: machine.stat_file(5),
    "truncate_file: name": lambda machine: machine.truncate_file(5, 1),
    "sysctl: name": lambda machine: machine.sysctl(5),
    "sysctl: a ratio": lambda machine: machine.sysctl("vm.lowmem_reserve_ratio", 2**64),
    "sysctl: 5,000 digits": lambda machine: machine.sysctl("vm.min_free_kbytes", "9" * 5000),
    "sysctl: more than a cell holds": lambda machine: machine.sysctl("vm.overcommit_kbytes", 2**63),
    "sysfs: name": lambda machine: machine.sysfs(5),
    "sysfs: value": lambda machine: machine.sysfs("kernel/mm/transparent_hugepage/enabled", 5),
    "kmem_cache_create: name": lambda machine: machine.kmem_cache_create(5, 64),
    "kmem_cache_create: align": lambda machine: machine.kmem_cache_create("odd", 64, 2**64),
    "kmem_cache_create: align below 0": lambda machine: machine.kmem_cache_create("odd", 64, -1),
    "kmem_cache_create: flags": lambda machine: machine.kmem_cache_create("odd", 64, 0, 2**64),
    "kmem_cache_free_bulk: addresses": lambda machine: machine.kmem_cache_free_bulk("task_struct", 5),
    "ksize: address": lambda machine: machine.ksize("x"),
    "vmap: pfns": lambda machine: machine.vmap(5),
    "vmap: a pfn": lambda machine: machine.vmap(["x"]),
    "vm_map_ram: pfns": lambda machine: machine.vm_map_ram(5),
    "ioremap: phys_addr": lambda machine: machine.ioremap(-1, 4096),
    "ioremap: kind": lambda machine: machine.ioremap(0xFED00000, 4096, ["ioremap"]),
    "vmalloc: caller": lambda machine: machine.vmalloc(4096, 5),
    "run_task: pid": lambda machine: machine.run_task(10**30),
    "run_task: cpu": lambda machine: machine.run_task(7, "x"),
    "run_task: comm": lambda machine: machine.run_task(7, 0, 5),
    "write: data": lambda machine: machine.write(0xFFFF888000100000, 5),
    "thrashing: pages": lambda machine: Run(machine, thrashing(pages="x")).advance(),  # type: ignore[arg-type]
    "thrashing: too many pages": lambda machine: Run(machine, thrashing(pages=10**12)).advance(),
}


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine.boot("tiny-128m")


@pytest.mark.parametrize("case", ODD)
def test_an_argument_that_can_not_be_is_told(machine: Machine, case: str) -> None:
    free = [zone.nr_free.tolist() for zone in machine.zones]
    with pytest.raises(BadRequest) as told:
        ODD[case](machine)
    assert told.value.where
    assert told.value.remedy
    assert [zone.nr_free.tolist() for zone in machine.zones] == free


@pytest.mark.parametrize(("order", "blocks"), [(-1, 1), (10**18, 1), (11, 1), ("x", 1), (3, 0), (3, 10**9), (3, "x")])
def test_a_zone_that_can_not_be(order: Any, blocks: Any) -> None:
    with pytest.raises(BadRequest, match="ZoneLab"):
        ZoneLab(order, blocks)


def test_orders_of_a_zone_lab_are_numbers() -> None:
    lab: Any = ZoneLab(3)
    for wrong in (lambda: lab.alloc("x"), lambda: lab.free("x"), lambda: lab.free(0, "x")):
        with pytest.raises(BadRequest, match="whole number"):
            wrong()
    lab.check_laws()
