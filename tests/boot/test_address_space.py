"""Addresses of programs and of the kernel: by the kernel's documentation, and against the tables in RAM."""

from __future__ import annotations

import pytest

from kmemlab.boot.address_space import START_KERNEL_MAP, pa, task_size
from kmemlab.boot.globals import Boot
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.errors import BadRequest
from tests.boot.captures import MACHINES


def mapped(name: str) -> Boot:
    return Machine.boot(load_spec(MACHINES / name), until="init_mem_mapping").kernel.boot


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("amd64-1g", 0x00007FFFFFFFF000),
        ("amd64-la57-2g", 0x00FFFFFFFFFFF000),
        ("i386-256m", 0xC0000000),
        ("i386-pae-256m", 0xC0000000),
    ],
)
def test_programs_end_where_the_documentation_says(name: str, end: int) -> None:
    boot = mapped(name)
    assert task_size(boot) == end
    assert boot.mmu.layout.canonical(end - 1)
    assert boot.mmu.layout.pgd_index(end - 1) < boot.mmu.layout.pgd_index(va(boot, 0))


@pytest.mark.parametrize("name", ["amd64-1g", "amd64-la57-2g", "i386-256m", "i386-pae-1g"])
def test_there_and_back_is_what_the_tables_say(name: str) -> None:
    boot = mapped(name)
    for paddr in (0, 0x1234, 0x200000, 0x5000123):
        assert pa(boot, va(boot, paddr)) == paddr == boot.mmu.access(va(boot, paddr))


def test_the_image_is_mapped_twice() -> None:
    boot = mapped("amd64-1g")
    assert pa(boot, START_KERNEL_MAP + 0x1000000) == 0x1000000 == pa(boot, va(boot, 0x1000000))


def test_an_address_of_neither_is_refused() -> None:
    boot = mapped("amd64-1g")
    for address in (0x400000, va(boot, 1 << 40), va(boot, 0) - 1):
        with pytest.raises(BadRequest, match="no address of the direct map"):
            pa(boot, address)
