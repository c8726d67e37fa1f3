"""Pages by address, references, large pages, exact sizes, many at once, and what stands in them."""

from __future__ import annotations

import dataclasses

import pytest

from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.page_api import alloc_page, alloc_pages_bulk, free_page, get_free_pages, virt_to_page
from kmemlab.alloc.prep_page import compound_head, compound_order, split_page
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.mm.page_free import free_unref_page_list, put_page
from kmemlab.mm.page_state import page_ref_inc
from kmemlab.mm.pcp import drain_all_pages
from kmemlab.mm.vm_event import PGALLOC
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.types.errors import BadRequest, DoubleFree, OutOfMemory
from kmemlab.types.gfp import __GFP_COMP, __GFP_ZERO, GFP_HIGHUSER, GFP_KERNEL
from kmemlab.types.units import PAGE_SIZE


def booted(options: str = "") -> Machine:
    spec = load_spec("tiny-128m")
    return Machine.boot(dataclasses.replace(spec, cmdline=f"{spec.cmdline} {options}".strip()))


@pytest.fixture(scope="module")
def base() -> Machine:
    return booted()


@pytest.fixture
def machine(base: Machine) -> Machine:
    return base.fork()


def owned(machine: Machine) -> int:
    return sum(zone.nr_owned for zone in machine.zones)


def contents(machine: Machine, pfn: int) -> bytes:
    return machine.kernel.boot.ram.read_bytes(pfn * PAGE_SIZE, PAGE_SIZE)


def test_pages_by_address(machine: Machine) -> None:
    mm, before = machine.kernel.mm, owned(machine)
    address = machine.get_free_pages(GFP_HIGHUSER, 2)  # HighMem is masked off
    pfn = virt_to_page(mm, address)
    assert address == 0xFFFF888000000000 + pfn * PAGE_SIZE
    assert virt_to_page(mm, address + 3 * PAGE_SIZE + 17) == pfn + 3
    assert owned(machine) - before == 4
    machine.free_pages_at(address, 2)
    machine.free_pages_at(0, 2)  # as in C, nothing
    assert owned(machine) == before
    with pytest.raises(DoubleFree):
        machine.free_pages_at(address, 2)
    with pytest.raises(BadRequest):
        machine.free_pages_at(0x1234, 0)


def test_a_block_that_somebody_else_refers_to_loses_its_tail(machine: Machine) -> None:
    mm, before = machine.kernel.mm, owned(machine)
    pfn = machine.alloc_pages(GFP_KERNEL, 3)
    page_ref_inc(mm.page, pfn)
    free_pages_inner(mm, pfn, 3)
    assert owned(machine) - before == 1  # only the page that is referred to is left
    assert mm.page.refcount[pfn] == 1
    machine.check()
    put_page(mm, pfn)
    assert owned(machine) == before
    machine.check()


def test_a_large_page_goes_as_a_whole(machine: Machine) -> None:
    mm, before = machine.kernel.mm, owned(machine)
    pfn = machine.alloc_pages(GFP_KERNEL | __GFP_COMP, 3)
    assert [compound_head(mm.page, pfn + at) for at in (0, 1, 7)] == [pfn] * 3
    assert compound_order(mm.page, pfn) == 3
    page_ref_inc(mm.page, pfn)
    free_pages_inner(mm, pfn, 3)
    assert owned(machine) - before == 8
    put_page(mm, pfn)
    assert owned(machine) == before
    assert compound_order(mm.page, pfn) == 0
    assert compound_head(mm.page, pfn + 1) == pfn + 1


def test_a_split_block_is_freed_page_by_page(machine: Machine) -> None:
    mm, before = machine.kernel.mm, owned(machine)
    pfn = machine.alloc_pages(GFP_KERNEL, 2)
    split_page(mm.page, pfn, 2)
    machine.check()
    with pytest.raises(BadRequest, match="order 0, not 2"):
        machine.free_pages(pfn, 2)
    for page in (pfn + 2, pfn, pfn + 3, pfn + 1):
        machine.free_pages(page)
    assert owned(machine) == before


@pytest.mark.parametrize("size", [1, 4096, 4097, 5 * 4096, 9 * 4096 + 1])
def test_exact_sizes(machine: Machine, size: int) -> None:
    before = owned(machine)
    address = machine.alloc_pages_exact(size, GFP_KERNEL)
    assert owned(machine) - before == -(-size // PAGE_SIZE)
    machine.check()
    machine.free_pages_exact(address, size)
    assert owned(machine) == before


def test_what_an_exact_size_does_not_need_goes_to_the_buddy_at_once(machine: Machine) -> None:
    mm, zone = machine.kernel.mm, machine.zone("DMA32")
    drain_all_pages(mm)
    free = zone.vm_stat[NR_FREE_PAGES]
    machine.alloc_pages_exact(5 * PAGE_SIZE, GFP_KERNEL)
    assert sum(zone.per_cpu_pageset.count) + zone.vm_stat[NR_FREE_PAGES] == free - 5
    assert sum(zone.per_cpu_pageset.count) % 8 == 0  # there are whole blocks on this CPU's lists, no single pages


def test_many_at_once_come_from_the_front_of_the_list(machine: Machine) -> None:
    mm, before = machine.kernel.mm, owned(machine)
    zone = machine.zone("DMA32")
    counted = mm.vm_event[PGALLOC + zone.index]
    pages = alloc_pages_bulk(mm, GFP_KERNEL, 0, 40)
    assert len(set(pages)) == 40
    assert owned(machine) - before == 40
    assert mm.vm_event[PGALLOC + zone.index] - counted == 40
    assert alloc_pages_bulk(mm, GFP_KERNEL, 0, 0) == []
    free_unref_page_list(mm, pages)
    assert owned(machine) == before
    machine.check()
    # More than the zone can spare: one page in the usual way.
    assert len(alloc_pages_bulk(mm, GFP_KERNEL, 0, zone.managed_pages)) == 1


def test_no_memory_is_an_error_of_the_command_and_0_in_c(machine: Machine) -> None:
    mm = machine.kernel.mm
    held = []
    while (address := get_free_pages(mm, GFP_KERNEL, 10)) != 0:
        held.append(address)
    with pytest.raises(OutOfMemory):
        machine.get_free_pages(GFP_KERNEL, 10)
    with pytest.raises(BadRequest):
        machine.get_free_pages(GFP_KERNEL, 11)
    with pytest.raises(BadRequest):
        machine.alloc_pages_exact(0, GFP_KERNEL)
    free_page(mm, 0)


def test_pages_are_cleared_when_they_are_given_out(machine: Machine) -> None:
    mm, ram = machine.kernel.mm, machine.kernel.boot.ram
    pfn = machine.alloc_pages(GFP_KERNEL)
    ram.write_bytes(pfn * PAGE_SIZE, b"secret" * 100)
    places = ram.nr_places
    machine.free_pages(pfn)
    assert contents(machine, pfn).startswith(b"secret")  # init_on_free is off
    assert machine.alloc_pages(GFP_KERNEL) == pfn
    assert contents(machine, pfn) == bytes(PAGE_SIZE)
    for order in (3, 9):
        assert alloc_pages_inner(mm, GFP_KERNEL, order, 0) is not None
    assert ram.nr_places == places  # nothing else has taken memory


def test_without_the_option_only_those_who_ask_get_zeros() -> None:
    machine = booted("init_on_alloc=0")
    mm, ram = machine.kernel.mm, machine.kernel.boot.ram
    pfn = machine.alloc_pages(GFP_KERNEL)
    ram.write_bytes(pfn * PAGE_SIZE, b"secret")
    machine.free_pages(pfn)
    assert alloc_page(mm, GFP_KERNEL) == pfn
    assert contents(machine, pfn)[:6] == b"secret"
    machine.free_pages(pfn)
    assert virt_to_page(mm, machine.get_zeroed_page(GFP_KERNEL)) == pfn
    assert contents(machine, pfn) == bytes(PAGE_SIZE)


def test_poison_stands_in_free_pages_and_finds_who_writes_there() -> None:
    machine = booted("page_poison=1")
    ram = machine.kernel.boot.ram
    places = ram.nr_places
    free = machine.zone("DMA32").page.lru.next[machine.zone("DMA32").free_list[10][1]]
    assert contents(machine, free) == b"\xaa" * PAGE_SIZE
    assert ram.nr_places == places
    pfn = machine.alloc_pages(GFP_KERNEL)
    assert contents(machine, pfn) == b"\xaa" * PAGE_SIZE  # init_on_alloc gives way to poison
    ram.write_bytes(pfn * PAGE_SIZE, b"mine")
    machine.free_pages(pfn)
    assert contents(machine, pfn) == b"\xaa" * PAGE_SIZE
    assert machine.alloc_pages(GFP_KERNEL | __GFP_ZERO) == pfn
    assert "pagealloc" not in machine.dmesg()
    machine.free_pages(pfn)
    ram.write_bytes(pfn * PAGE_SIZE + 8, b"used after free")
    assert machine.alloc_pages(GFP_KERNEL) == pfn
    assert "pagealloc: memory corruption" in machine.dmesg()


def test_init_on_free() -> None:
    machine = booted("init_on_free=1")
    pfn = machine.alloc_pages(GFP_KERNEL)
    machine.kernel.boot.ram.write_bytes(pfn * PAGE_SIZE, b"secret")
    machine.free_pages(pfn)
    assert contents(machine, pfn) == bytes(PAGE_SIZE)
