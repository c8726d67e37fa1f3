"""The laws of vmalloc, as code: what page tables, pages and the TLB have to do with the areas."""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.boot.pgtable import PageTables
from kmemlab.mm.check_vmap_area import broken, check_vmap_areas
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_struct import (
    VM_ALLOC,
    VM_MAP_PUT_PAGES,
    VM_NO_GUARD,
    VM_UNINITIALIZED,
    get_vm_area_size,
    vm_caller,
    vm_pages,
)
from kmemlab.mm.vmalloc import busy_areas
from kmemlab.mm.vmap_area import PURGE_VMAP_AREA_ROOT, VMAP_AREA_ROOT, find_vmap_area
from kmemlab.sim.kernel import invented
from kmemlab.types.pgtable import PAGE_PRESENT, PGD, PTE
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE


@invented("a law is code beside the structure it speaks of", traced=False)
def check_vmalloc(mm: Mm) -> None:
    """Areas, vm_structs, page tables, pages and TLB agree. Raises `BrokenLaw` that names the first thing that does not.

    Each address that is mapped lies in a busy area, and not on its guard page; vmalloc's pages are mapped in their
    order, held by nobody else and counted; and the TLB knows no address that is free.
    """
    vmalloc = mm.vmalloc
    check_vmap_areas(vmalloc)
    if not vmalloc.vmap_initialized:
        return
    mapped = dict(mapped_pages(mm.boot.swapper_pg_dir, vmalloc.start, vmalloc.end))
    held: dict[int, str] = {}
    counted = 0
    for va in busy_areas(vmalloc):
        vm = vmalloc.areas.vm[va]
        if not vm:
            continue
        counted += _check_area(mm, va, vm, mapped, held)
    for addr in mapped:
        if not find_vmap_area(vmalloc.areas, addr):
            broken(f"{addr:#x} is mapped, and no busy area has it")
    if counted != vmalloc.nr_vmalloc_pages:
        broken(f"nr_vmalloc_pages is {vmalloc.nr_vmalloc_pages}, but the areas hold {counted}")
    _check_tlb(mm)
    _check_blocks(mm)


def _check_area(mm: Mm, va: int, vm: int, mapped: dict[int, int], held: dict[int, str]) -> int:
    """Check one busy area; gives how many pages of vmalloc it holds."""
    areas, vms = mm.vmalloc.areas, mm.vmalloc.vms
    start, end = areas.va_start[va], areas.va_end[va]
    name = f"the area of {vm_caller(vms, vm)} at {start:#x}"
    if (vms.addr[vm], vms.addr[vm] + vms.size[vm]) != (start, end):
        broken(f"{name} is not where its vm_struct says")
    if vms.flags[vm] & VM_UNINITIALIZED:
        broken(f"{name} was never finished")
    if vm_caller(vms, vm) == "pcpu_get_vm_areas":
        return 0  # per-CPU memory maps pages of its own, where it needs some, and has no guard page: check_percpu
    usable = start + get_vm_area_size(vms, vm)
    if not vms.flags[vm] & VM_NO_GUARD and usable in mapped:
        broken(f"the guard page of {name} is mapped")
    frames = [mapped.get(addr) for addr in range(start, usable, PAGE_SIZE)]
    if None in frames:
        broken(f"page {frames.index(None)} of {name} is not mapped")
    if not vms.flags[vm] & (VM_ALLOC | VM_MAP_PUT_PAGES):
        return 0
    pfns = vm_pages(mm.page, vms, vm)
    if pfns != frames:
        broken(f"{name} is not mapped to its pages in their order")
    for pfn in pfns:
        if pfn in held:
            broken(f"pfn {pfn} is held by {name} and by {held[pfn]}")
        if mm.page.owned[pfn] != 1 or mm.page.refcount[pfn] < 1:
            broken(f"pfn {pfn} of {name} is not a page that somebody holds")
        held[pfn] = name
    return 0 if vms.flags[vm] & VM_MAP_PUT_PAGES else len(pfns)


@invented("C's ptdump walks like this", traced=False)
def mapped_pages(tables: PageTables, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The pages that the tables map in [start, end), as (address, page frame), large pages in pieces of 4 KiB."""
    # The upper half of a 64-bit table's entries are of addresses whose unused bits are all 1.
    signs = 0 if tables.layout.virt_bits == 32 else 1 << 64
    lowest = signs - (1 << tables.layout.virt_bits) if signs else 0
    yield from _mapped_below(tables, PGD, tables.pgd, lowest, start, end)


def _mapped_below(
    tables: PageTables, level: int, table: int, base: int, start: int, end: int
) -> Iterator[tuple[int, int]]:
    """What a table maps within [start, end); `base` is the first address that goes through it."""
    layout = tables.layout
    size = layout.levels[level].size
    for nth, entry in enumerate(table_entries(tables, level, table)):
        first = base + nth * size
        if not entry & PAGE_PRESENT or first + size <= start or first >= end:
            continue
        if layout.is_leaf(level, entry):
            pfn = (entry & layout.page_mask(level)) >> PAGE_SHIFT
            yield from ((first + (page << PAGE_SHIFT), pfn + page) for page in range(size >> PAGE_SHIFT))
        else:
            below = next(under for under in range(level + 1, PTE + 1) if not layout.levels[under].folded)
            yield from _mapped_below(tables, below, entry & layout.address_mask, first, start, end)


@invented("C's tables are arrays", traced=False)
def table_entries(tables: PageTables, level: int, table: int) -> list[int]:
    """All entries of a table."""
    size = tables.layout.entry_size
    raw = tables.ram.read_bytes(table, tables.layout.levels[level].entries * size)
    return memoryview(raw).cast("Q" if size == 8 else "I").tolist()


def _check_tlb(mm: Mm) -> None:
    """What the TLB knows of vmalloc's addresses is of busy areas, or of lazy ones: it is told before those are free."""
    vmalloc, tlb = mm.vmalloc, mm.boot.mmu.tlb
    for slot in tlb.slots():
        addr = tlb.tag[slot]
        if not vmalloc.start <= addr < vmalloc.end:
            continue
        if not any(find_vmap_area(vmalloc.areas, addr, tree) for tree in (VMAP_AREA_ROOT, PURGE_VMAP_AREA_ROOT)):
            broken(f"the TLB knows {addr:#x}, which is free")


def _check_blocks(mm: Mm) -> None:
    blocks, areas = mm.vmalloc.blocks, mm.vmalloc.areas
    for va in busy_areas(mm.vmalloc):
        block = blocks.of_area[va]
        if not block:
            continue
        if blocks.va[block] != va or areas.vm[va]:
            broken(f"block {block} of vm_map_ram and its area don't know each other")
        if blocks.free[block] + blocks.dirty[block] > blocks.pages:
            broken(f"block {block} of vm_map_ram has more free and dirty pages than it is large")
