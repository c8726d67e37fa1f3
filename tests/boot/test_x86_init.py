"""The platform's hooks: what the table holds, that boot calls through it, and what that leaves behind."""

from __future__ import annotations

import re

import pytest

from kmemlab.boot.x86_init import CHOICES, FUNCTIONS, X86InitOps
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import iomem
from kmemlab.machine.start_kernel import BOOT_STAGES
from kmemlab.types.errors import BadRequest
from tests.boot.captures import ALL, MACHINES, saved

ROWS = re.compile(r"^ *[0-9a-f]+-[0-9a-f]+ : (System ROM|Video RAM area)$", re.MULTILINE)


def test_the_tables_of_both_architectures() -> None:
    amd64, i386 = (Machine.boot(MACHINES / name).kernel.boot.x86_init for name in ("amd64-1g", "i386-pae-1g"))
    assert amd64.table() == {
        "resources.probe_roms": "probe_roms",
        "resources.reserve_resources": "reserve_standard_io_resources",
        "resources.memory_setup": "e820__memory_setup_default",
        "mpparse.find_smp_config": "default_find_smp_config",
        "paging.pagetable_init": "paging_init",
    }
    differ = {entry for entry, name in i386.table().items() if amd64.table()[entry] != name}
    assert differ == {"resources.reserve_resources", "paging.pagetable_init"}


def test_every_choice_is_a_function() -> None:
    assert {name for names in CHOICES.values() for name in names} == set(FUNCTIONS)


def test_boot_calls_through_the_table() -> None:
    machine = Machine(MACHINES / "amd64-1g")
    machine.kernel.boot.x86_init.point("resources.probe_roms", "x86_init_noop")
    machine.kernel.boot.x86_init.point("mpparse.find_smp_config", "x86_init_noop")
    machine.start_kernel()
    assert "System ROM" not in iomem(machine.kernel)
    assert not any("smp_scan_config" in line for line in machine.kernel.printk_lines)
    assert any("smp_scan_config" in line for line in Machine.boot(MACHINES / "amd64-1g").kernel.printk_lines)


def test_what_is_no_choice_is_refused() -> None:
    for entry in ("resources.memory_setup", "resources.no_such_entry"):
        with pytest.raises(BadRequest, match=r"can't point to xen_memory_setup"):
            X86InitOps().point(entry, "xen_memory_setup")


@pytest.mark.parametrize("name", ALL)
def test_the_rows_that_hooks_claim_are_those_of_the_real_machine(name: str) -> None:
    made, real = (
        sorted(row[0].strip() for row in ROWS.finditer(text))
        for text in (iomem(Machine.boot(MACHINES / name).kernel), saved(name, "iomem.txt"))
    )
    assert made == real
    assert any("Video RAM" in row for row in made) == name.startswith("i386")


def test_hooks_are_called_where_linux_calls_them() -> None:
    places = [
        "e820__memory_setup",
        "resources_probe_roms",
        "insert_kernel_resources",
        "find_smp_config",
        "e820__memblock_setup",
        "memblock_find_dma_reserve",
        "sparse_init",
        "zone_sizes_init",
        "pagetable_init",
        "register_nosave_regions",
        "resources_reserve_resources",
        "e820__setup_pci_gap",
    ]
    assert sorted(places, key=BOOT_STAGES.index) == places


def test_pointing_elsewhere_is_rewound() -> None:
    machine = Machine.boot(MACHINES / "i386-pae-256m", until="i386_start_kernel", record=True)
    x86_init = machine.kernel.boot.x86_init
    assert x86_init.table()["resources.reserve_resources"] == "i386_reserve_resources"
    machine.timeline.rewind(0)
    assert x86_init.table()["resources.reserve_resources"] == "reserve_standard_io_resources"
    machine.stop_recording()
