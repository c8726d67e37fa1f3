"""The kernel's map of virtual addresses, area by area, as the kernel's documentation draws it.

64 bit   user | not canonical | hole | LDT | direct map | vmalloc | vmemmap | CPU entry areas | … | image | modules | …
i386     user | direct map of lowmem | vmalloc | kmap | LDT | CPU entry areas | fixmap

KASLR moves the image, and on 64 bit the three large areas; how far is drawn by lot at each boot.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

from kmemlab.boot.address_space import LOAD_PHYSICAL_ADDR, START_KERNEL_MAP, task_size
from kmemlab.boot.direct_map import kaslr_memory_enabled
from kmemlab.boot.globals import Boot, page_offset
from kmemlab.boot.layout_32 import (
    END_OF_FIXED_ADDRESSES,
    FIXADDR_TOP,
    cpu_entry_area_base,
    cpu_entry_area_map_size,
    fix_to_virt,
    ldt_base,
    pkmap_base,
    vmalloc_end,
    vmalloc_start,
)
from kmemlab.boot.vmalloc_area import VMALLOC_AREA
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.pgtable import PGD
from kmemlab.types.units import GIB, PAGE_SHIFT, PAGE_SIZE, TIB, U64_MAX

KERNEL_IMAGE_SIZE = GIB  # with CONFIG_RANDOMIZE_BASE
GUARD_HOLE_PGD_ENTRY, GUARD_HOLE_PGDS, LDT_PGD_ENTRY = -256, 16, -240
CPU_ENTRY_AREA_BASE, ESPFIX_BASE_ADDR, ENTRY_512G = U64_MAX + 1 - (4 << 39), U64_MAX + 1 - (2 << 39), 1 << 39
EFI_VA_END, EFI_VA_START = 0xFFFFFFEF00000000, 0xFFFFFFFF00000000
MODULES_END, VSYSCALL_ADDR = 0xFFFFFFFFFF000000, 0xFFFFFFFFFF600000
# What the documentation keeps for the direct map and the memory map, by the levels of page tables: start and size.
DIRECT_MAP_SIZE = {4: 64 * TIB, 5: 32 << 50}
VMEMMAP_AREA = {4: (0xFFFFEA0000000000, TIB), 5: (0xFFD4000000000000, 512 * TIB)}


@invented("a row of the kernel's documentation, Documentation/x86/x86_64/mm.rst")
class AddressArea(NamedTuple):
    """Addresses `start` to `end` (inclusive) are for `what`; `moved` names the base that KASLR moves, "" for none."""

    start: int
    end: int
    what: str
    moved: str = ""


@invented("the documentation's table for 64 bit, worked out from the constants of the headers")
def areas_64(boot: Boot) -> list[AddressArea]:
    """All areas but the holes, as they lie without KASLR, ascending."""
    levels = boot.page_table_levels
    unmoved = page_offset(boot.config, levels)
    pgd_size = boot.swapper_pg_dir.layout.levels[PGD].size
    top = U64_MAX + 1
    half = 1 << boot.swapper_pg_dir.layout.virt_bits - 1
    hole, ldt = top + GUARD_HOLE_PGD_ENTRY * pgd_size, top + LDT_PGD_ENTRY * pgd_size
    direct = DIRECT_MAP_SIZE[levels]
    vmalloc, vmalloc_size, _ = VMALLOC_AREA[levels]
    vmemmap, vmemmap_size = VMEMMAP_AREA[levels]
    image_end = START_KERNEL_MAP + KERNEL_IMAGE_SIZE
    text = known_base(boot, "text") or START_KERNEL_MAP + LOAD_PHYSICAL_ADDR
    return [
        AddressArea(0, task_size(boot) - 1, "programs (TASK_SIZE_MAX)"),
        AddressArea(half, top - half - 1, "not canonical: bits that must be copies are not"),
        AddressArea(hole, hole + GUARD_HOLE_PGDS * pgd_size - 1, "guard hole, kept for hypervisors"),
        AddressArea(ldt, ldt + pgd_size - 1 if levels == 5 else unmoved - 1, "LDT remap for page-table isolation"),
        AddressArea(unmoved, unmoved + direct - 1, "direct map of all memory", "page_offset_base"),
        AddressArea(vmalloc, vmalloc + vmalloc_size - 1, "vmalloc and ioremap", "vmalloc_base"),
        AddressArea(vmemmap, vmemmap + vmemmap_size - 1, "vmemmap: the memory map", "vmemmap_base"),
        AddressArea(CPU_ENTRY_AREA_BASE, CPU_ENTRY_AREA_BASE + ENTRY_512G - 1, "CPU entry areas"),
        AddressArea(ESPFIX_BASE_ADDR, ESPFIX_BASE_ADDR + ENTRY_512G - 1, "stacks for the %esp fix-up"),
        AddressArea(EFI_VA_END, EFI_VA_START - 1, "EFI run-time services"),
        AddressArea(START_KERNEL_MAP, image_end - 1, f"the kernel's image, its text at {text:#x}", "text"),
        AddressArea(image_end, MODULES_END - 1, "modules"),
        AddressArea(MODULES_END, VSYSCALL_ADDR - 1, "fixmap, filled downwards"),
        AddressArea(VSYSCALL_ADDR, VSYSCALL_ADDR + PAGE_SIZE - 1, "vsyscall: a page for programs of old"),
    ]


@invented("the sizes in kernel_randomize_memory's table")
def kaslr_regions(boot: Boot) -> dict[str, int]:
    """The bytes of what KASLR moves: room for all memory there may be, vmalloc's area, struct pages of that memory."""
    direct = 1 << boot.config.max_physmem_bits(boot.page_table_levels)
    vmemmap = -(-(direct >> PAGE_SHIFT) * boot.config.sizeof_page // TIB) * TIB
    _, vmalloc, _ = VMALLOC_AREA[boot.page_table_levels]
    return {"page_offset_base": direct, "vmalloc_base": vmalloc, "vmemmap_base": vmemmap}


@invented("what i386's mem_init printed up to Linux 5.7 as the virtual kernel memory layout")
def areas_32(boot: Boot) -> list[AddressArea]:
    """All areas but the holes, ascending; known once it is known where lowmem ends."""
    low = boot.config.page_offset
    image = boot.spec.image
    fixmap = fix_to_virt(END_OF_FIXED_ADDRESSES)
    entry_area = cpu_entry_area_base(boot)
    pmd_size = boot.direct_map.pmd_size
    return [
        AddressArea(0, task_size(boot) - 1, "programs (TASK_SIZE)"),
        AddressArea(low, low + (boot.max_low_pfn << PAGE_SHIFT) - 1, "direct map of lowmem"),
        AddressArea(low + image.code[0], low + image.bss[1], "  in it: the kernel's image", "text"),
        AddressArea(vmalloc_start(boot), vmalloc_end(boot) - 1, "vmalloc and ioremap"),
        AddressArea(pkmap_base(boot), pkmap_base(boot) + pmd_size - 1, "pkmap: pages of HighMem, by kmap()"),
        AddressArea(ldt_base(boot), ldt_base(boot) + pmd_size - 1, "LDT remap for page-table isolation"),
        AddressArea(entry_area, entry_area + cpu_entry_area_map_size(boot) - 1, "CPU entry areas"),
        AddressArea(fixmap, FIXADDR_TOP + PAGE_SIZE - 1, "fixmap, filled downwards"),
    ]


@invented("the documentation's rows of unused holes")
def with_holes(areas: list[AddressArea], end: int) -> list[AddressArea]:
    """The areas and what nobody uses between them, up to the address `end`."""
    rows: list[AddressArea] = []
    behind = 0
    for area in areas:
        if area.start > behind:
            rows.append(AddressArea(behind, area.start - 1, "unused"))
        rows.append(area)
        behind = max(behind, area.end + 1)
    return [*rows, AddressArea(behind, end, "unused")] if behind <= end else rows


@kernel("arch/x86/mm/kaslr.c", "kernel_randomize_memory", left_out="drawing lots: no description tells the seed")
def random_places(boot: Boot) -> dict[str, tuple[int, int, int]]:
    """What KASLR moves, by its base: (lowest address, highest address, step), each drawn anew at every boot.

    The three large areas keep their order and their sizes. What they leave free up to the CPU entry areas is shared
    out: the first gets up to a third of it before itself, each of the others what the lots before it have left over.
    """
    image = boot.spec.image
    size = image.brk[1] + 1 - image.code[0]
    step = boot.config.physical_align
    if boot.config.highmem:
        lowest = boot.config.page_offset + LOAD_PHYSICAL_ADDR
        places = (KERNEL_IMAGE_SIZE // 2 - LOAD_PHYSICAL_ADDR - size) // step
        return {"text": (lowest, lowest + places * step, step)}
    lowest = START_KERNEL_MAP + LOAD_PHYSICAL_ADDR
    places = (KERNEL_IMAGE_SIZE - LOAD_PHYSICAL_ADDR - size) // step
    found = {"text": (lowest, lowest + places * step, step)}
    regions = kaslr_regions(boot)
    vaddr, moved = page_offset(boot.config, boot.page_table_levels), 0
    spare = CPU_ENTRY_AREA_BASE - vaddr - sum(regions.values())
    for nth, (base, region_size) in enumerate(regions.items()):
        moved += (spare - moved) // (len(regions) - nth) // GIB * GIB  # if every lot is the highest
        found[base] = (vaddr, vaddr + moved, GIB)
        vaddr += region_size + GIB  # at least one step between two areas
    return found


@invented("a base that the machine's description tells, or may tell", traced=False)
def known_base(boot: Boot, base: str) -> int | None:
    """Where KASLR put something, if the description says so; on i386 where the image lies is where it is mapped."""
    if boot.config.highmem and base == "text":
        return boot.config.page_offset + boot.spec.image.code[0]
    told: int | None = getattr(boot.spec.image, base)
    return told


@invented("the kernel's documentation as text, for one machine")
def address_space_text(boot: Boot) -> str:
    """The map of addresses, a row an area, and what of it KASLR moves."""
    wide = not boot.config.highmem
    digits = 16 if wide else 8
    moving = random_places(boot) if kaslr_memory_enabled(boot) else {}
    areas = [settled(boot, area, moving) for area in (areas_64(boot) if wide else areas_32(boot))]
    rows = [f"{'start':>{digits}}   {'end':>{digits}}   {'size':>9}   what"]
    for area in with_holes(areas, U64_MAX if wide else 0xFFFFFFFF):
        mark = " *" if area.moved in moving and known_base(boot, area.moved) is None else ""
        size = short_size(area.end + 1 - area.start)
        rows.append(f"{area.start:0{digits}x} - {area.end:0{digits}x}   {size:>9}   {area.what}{mark}")
    return "".join(f"{row}\n" for row in [*rows, *kaslr_lines(boot, moving)])


@invented("one row of the text, where KASLR put it", traced=False)
def settled(boot: Boot, area: AddressArea, moving: dict[str, tuple[int, int, int]]) -> AddressArea:
    """The area at the base that the description tells; as without KASLR if it tells none."""
    base = known_base(boot, area.moved) if area.moved in moving and area.moved != "text" else None
    return area if base is None else area._replace(start=base, end=base + area.end - area.start)


@invented("sizes as the documentation writes them", traced=False)
def short_size(size: int) -> str:
    """A size in its largest unit.

    >>> short_size(1 << 46), short_size(59 << 51), short_size(4096), short_size(3 << 19)
    ('64 TiB', '118 PiB', '4 KiB', '1.5 MiB')
    """
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    nth = min((size.bit_length() - 1) // 10, len(units) - 1)
    return f"{round(size / (1 << 10 * nth), 2):g} {units[nth]}"


@invented("what the map can't tell under KASLR", traced=False)
def kaslr_lines(boot: Boot, moving: dict[str, tuple[int, int, int]]) -> list[str]:
    """Where each base may be; a known one is said to be known."""
    if not moving:
        return ["KASLR is off (nokaslr): the same addresses at every boot"]
    lines = ["KASLR is on; * stands where it would be without, its real place is not known:"]
    for base, (lowest, highest, step) in moving.items():
        told = known_base(boot, base)
        if told is not None:
            lines.append(f"  {base:<17} {told:#x}, as the machine's description says")
            continue
        bits = log2((highest - lowest) // step + 1)
        lines.append(f"  {base:<17} {lowest:#x} … {highest:#x} in steps of {short_size(step)}: {bits:.1f} bits")
    return lines
