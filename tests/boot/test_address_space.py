"""Addresses of programs and of the kernel: by the kernel's documentation, and against the tables in RAM."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.boot.address_space import START_KERNEL_MAP, pa, task_size
from kmemlab.boot.globals import Boot
from kmemlab.boot.swapper_pg_dir import va
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.errors import BadRequest, BadSpec
from tests.boot.captures import MACHINES

GIB, MIB = 1 << 30, 1 << 20


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


@pytest.mark.parametrize(
    ("image", "address", "paddr"),
    [
        ({}, START_KERNEL_MAP + 0x1000000, 0x1000000),
        ({"code": [0x2400000, 0x3201D30]}, START_KERNEL_MAP + 0x1000000, 0x2400000),  # UEFI: linked for 16 MiB still
        ({"code": [0x2400000, 0x3201D30], "text": 0xFFFFFFFF9D000000}, 0xFFFFFFFF9D001234, 0x2401234),
    ],
)
def test_the_image_is_where_the_loader_put_it(image: dict[str, Any], address: int, paddr: int) -> None:
    moved = image.get("code", [0x1000000])[0] - 0x1000000
    parts = {"rodata": [0x2000000, 0x28E6FFF], "data": [0x2A00000, 0x2C489BF], "bss": [0x330D000, 0x43FFFFF]}
    parts["brk"] = [0x4400000, 0x4410FFF]
    placed = {key: [start + moved, end + moved] for key, (start, end) in parts.items()}
    spec = {"e820": [[0, 0x9FBFF, "usable"], [MIB, 256 * MIB - 1, "usable"]], "image": {**placed, **image}}
    boot = Machine.boot({**spec, "cpus": {"flags": ["pse"]}}, until="init_mem_mapping").kernel.boot
    assert pa(boot, address) == paddr


def random_bases(memory: int, **bases: int) -> dict[str, Any]:
    e820 = [[0, 0x9FBFF, "usable"], [MIB, memory - 1, "usable"]]
    return {"e820": e820, "image": bases, "cpus": {"flags": ["pse", "pdpe1gb"]}}


def test_kaslr_moves_the_direct_map_if_it_is_told_where() -> None:
    base = 0xFFFF9A1240000000  # in the middle of a table of the second level
    boot = Machine.boot(random_bases(2 * GIB, page_offset_base=base), until="init_mem_mapping").kernel.boot
    for paddr in (0, 0x5000123, 2 * GIB - 4096):
        assert va(boot, paddr) == base + paddr
        assert pa(boot, base + paddr) == paddr == boot.mmu.access(base + paddr)
    still = Machine.boot(
        {**random_bases(2 * GIB, page_offset_base=base), "cmdline": "nokaslr"}, until="init_mem_mapping"
    )
    assert va(still.kernel.boot, 0) == 0xFFFF888000000000


def test_a_direct_map_across_a_border_of_tables_takes_one_more() -> None:
    at, across = (
        Machine.boot(random_bases(4 * GIB, page_offset_base=base), until="init_mem_mapping").kernel.boot
        for base in (0xFFFF9A0000000000, 0xFFFF9A8000000000 - 2 * GIB)
    )
    assert across.memblock.reserved.total_size + 4096 * across.direct_map.pgt_buf_end == 4096 + (
        at.memblock.reserved.total_size + 4096 * at.direct_map.pgt_buf_end
    )
    for paddr in (MIB, GIB, 2 * GIB - 4096, 2 * GIB, 3 * GIB + 0x123, 4 * GIB - 1):
        assert across.mmu.access(va(across, paddr)) == paddr


def test_bases_that_kaslr_never_draws_are_refused() -> None:
    for base in (0xFFFF9A0000200000, GIB):
        with pytest.raises(BadSpec, match="multiple of 1 GiB"):
            load_spec(random_bases(GIB, page_offset_base=base))


def test_an_address_of_neither_is_refused() -> None:
    boot = mapped("amd64-1g")
    for address in (0x400000, va(boot, 1 << 40), va(boot, 0) - 1):
        with pytest.raises(BadRequest, match="no address of the direct map"):
            pa(boot, address)
