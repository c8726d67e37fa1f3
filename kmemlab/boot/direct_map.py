"""init_mem_mapping: how the direct map is built, piece by piece, when the memory for its own tables isn't mapped yet.

1M                                                                  real_end   end
├──────────────── 512 MiB at a time ───────────┬─ 512 MiB ─┬─ 2 MiB ─┼─ the rest ─┤
                                                           first
Tables for the first window come from the brk, those for each following one from the windows mapped before.
"""

from __future__ import annotations

from itertools import takewhile

from kmemlab.boot.cmdline import cmdline_find_option, early_param
from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.early_memtest import early_memtest
from kmemlab.boot.globals import Boot
from kmemlab.boot.kernel_physical_mapping import alloc_low_page, kernel_physical_mapping_init, within_entry
from kmemlab.boot.kernel_physical_mapping_32 import (
    early_ioremap_page_table_range_init,
    kernel_physical_mapping_init_32,
)
from kmemlab.boot.memblock import (
    for_each_mem_pfn_range,
    memblock_is_region_memory,
    memblock_phys_alloc_range,
    memblock_phys_free,
)
from kmemlab.boot.page_tables import (
    ENTRY_NONE,
    P4D_SHIFT,
    PG_LEVEL_1G,
    PG_LEVEL_2M,
    PGDIR_SHIFT_L5,
    PMD_SHIFT,
    PUD_SHIFT,
    PUD_SIZE,
    add_pfn_range_mapped,
)
from kmemlab.boot.tlbflush import flush_tlb_all, load_cr3
from kmemlab.hardware.mmu import CR4_PGE, CR4_PSE, CR4_SMAP, CR4_SMEP, EFER_NX
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import GIB, PAGE_SHIFT, round_down, round_up

ISA_END_ADDRESS = 0x100000
BIT_2M, BIT_1G = 1 << PG_LEVEL_2M, 1 << PG_LEVEL_1G

# The linker takes one of the two.
KERNEL_PHYSICAL_MAPPING_INIT = {"x86_64": kernel_physical_mapping_init, "i386": kernel_physical_mapping_init_32}

MapRange = tuple[int, int, int]
"""A range [start, end) of bytes and the mask of page sizes that it may be mapped with."""


@kernel("arch/x86/mm/init.c", "init_mem_mapping")
def init_mem_mapping(boot: Boot) -> None:
    """Let the direct map reach all of RAM, so that memblock may give out all of it."""
    probe_page_size_mask(boot)
    end = end_of_direct_map(boot)
    init_memory_mapping(boot, 0, ISA_END_ADDRESS)  # whole: the kernel looks for BIOS tables there
    init_trampoline(boot)
    if boot.memblock.bottom_up:
        kernel_end = boot.spec.image.brk[1] + 1
        memory_map_bottom_up(boot, kernel_end, end)  # first, so that tables come to lie above the kernel
        memory_map_bottom_up(boot, ISA_END_ADDRESS, kernel_end)
    else:
        memory_map_top_down(boot, ISA_END_ADDRESS, end)
    if boot.config.highmem:
        early_ioremap_page_table_range_init(boot)
    else:
        boot.max_low_pfn = max(boot.max_low_pfn, boot.max_pfn)
    boot.mmu.switch_on(*control_registers(boot))
    load_cr3(boot.mmu, boot.swapper_pg_dir)
    flush_tlb_all(boot.mmu)
    early_memtest(boot, 0, boot.max_pfn_mapped << PAGE_SHIFT)


@invented("a choice at the head of init_mem_mapping", traced=False)
def end_of_direct_map(boot: Boot) -> int:
    """The first byte that has no place in the direct map: on i386 where HighMem begins."""
    return (boot.max_low_pfn if boot.config.highmem else boot.max_pfn) << PAGE_SHIFT


@kernel("arch/x86/mm/init.c", "probe_page_size_mask", left_out="debug_pagealloc; global pages, PCID")
def probe_page_size_mask(boot: Boot) -> None:
    """Find out which page sizes the CPU has: the larger the pages, the fewer entries of the TLB all of RAM takes."""
    large = boot_cpu_has(boot, "pse")
    mask = BIT_2M if large else 0
    wanted = not boot.nogbpages and boot.page_table_levels >= 4
    boot.direct_map.direct_gbpages = int(large and wanted and boot_cpu_has(boot, "pdpe1gb"))
    if boot.direct_map.direct_gbpages:
        boot.printk.info("Using GB pages for direct mapping")
        mask |= BIT_1G
    boot.direct_map.page_size_mask = mask


@invented("C switches each feature on in a place of its own: head_64.S, probe_page_size_mask, identify_cpu")
def control_registers(boot: Boot) -> tuple[int, int]:
    """CR4 and EFER with what this CPU has for its MMU."""
    flags = boot.spec.cpus.flags
    features = {"pse": CR4_PSE, "pge": CR4_PGE, "smep": CR4_SMEP, "smap": CR4_SMAP}
    can_nx = "nx" in flags and boot.swapper_pg_dir.layout.entry_size == 8
    return sum(bit for name, bit in features.items() if boot_cpu_has(boot, name)), EFER_NX if can_nx else 0


@early_param("nogbpages")
@kernel("arch/x86/mm/init.c", "parse_direct_gbpages_off")
def parse_direct_gbpages_off(boot: Boot, value: str) -> None:
    """nogbpages: no pages of 1 GiB in the direct map."""
    boot.nogbpages = 1


@early_param("gbpages")
@kernel("arch/x86/mm/init.c", "parse_direct_gbpages_on")
def parse_direct_gbpages_on(boot: Boot, value: str) -> None:
    """gbpages: takes an earlier nogbpages back."""
    boot.nogbpages = 0


@kernel("arch/x86/include/asm/setup.h", "kaslr_memory_enabled", traced=False)
def kaslr_memory_enabled(boot: Boot) -> bool:
    """Whether the direct map, vmalloc's area and the memory map start at random addresses."""
    return cmdline_find_option(boot.spec.cmdline, "nokaslr") is None


@kernel("arch/x86/mm/init.c", "init_trampoline", left_out="entering the table")
def init_trampoline(boot: Boot) -> None:
    """With KASLR the first MiB needs tables of its own, for CPUs that wake in real mode."""
    if kaslr_memory_enabled(boot):
        for _ in range(boot.page_table_levels - 3):  # a PUD page, and with five levels a P4D page
            alloc_low_page(boot)


@kernel("arch/x86/mm/init.c", "memory_map_top_down")
def memory_map_top_down(boot: Boot, map_start: int, map_end: int) -> None:
    """Map RAM of [map_start, map_end) window by window, downwards; windows grow as memory for tables does."""
    tables = boot.direct_map
    real_end = find_real_end(boot, map_start, map_end)
    step_size, mapped_ram_size = tables.pmd_size, 0
    boot.max_pfn_mapped = 0
    tables.min_pfn_mapped = real_end >> PAGE_SHIFT
    last_start = real_end
    while last_start > map_start:
        start = max(round_down(last_start - 1, step_size), map_start) if last_start > step_size else map_start
        mapped_ram_size += init_range_memory_mapping(boot, start, last_start)
        last_start = start
        tables.min_pfn_mapped = last_start >> PAGE_SHIFT
        if mapped_ram_size >= step_size:
            step_size = get_new_step_size(boot, step_size)
    if real_end < map_end:
        init_range_memory_mapping(boot, real_end, map_end)


@kernel("arch/x86/mm/init.c", "get_new_step_size", traced=False)
def get_new_step_size(boot: Boot, step_size: int) -> int:
    """How large the next window may be: tables take so much less memory than they map."""
    return step_size << boot.direct_map.pmd_shift - PAGE_SHIFT - 1


@kernel("arch/x86/mm/init.c", "memory_map_bottom_up")
def memory_map_bottom_up(boot: Boot, map_start: int, map_end: int) -> None:
    """Map RAM of [map_start, map_end) window by window, upwards."""
    step_size, mapped_ram_size = boot.direct_map.pmd_size, 0
    boot.direct_map.min_pfn_mapped = map_start >> PAGE_SHIFT
    start = map_start
    while start < map_end:
        following = min(round_up(start + 1, step_size), map_end)
        mapped_ram_size += init_range_memory_mapping(boot, start, following)
        start = following
        if mapped_ram_size >= step_size:
            step_size = get_new_step_size(boot, step_size)


@invented("the first part of memory_map_top_down")
def find_real_end(boot: Boot, map_start: int, map_end: int) -> int:
    """Where to begin: the end of the highest 2 MiB that are free for sure. They are taken and given back at once."""
    memblock, pmd_size = boot.memblock, boot.direct_map.pmd_size
    start = memblock_phys_alloc_range(memblock, pmd_size, pmd_size, map_start, map_end, caller="init_mem_mapping")
    if not start:
        boot.printk.info("Failed to release memory for alloc_low_pages()")
        return max(map_start, round_down(map_end, pmd_size))
    memblock_phys_free(memblock, start, pmd_size, caller="init_mem_mapping")
    return start + pmd_size


@kernel("arch/x86/mm/init.c", "init_range_memory_mapping")
def init_range_memory_mapping(boot: Boot, r_start: int, r_end: int) -> int:
    """Map what is RAM of a window; holes stay unmapped. Gives the bytes mapped."""
    tables = boot.direct_map
    mapped_ram_size = 0
    for start_pfn, end_pfn, _ in list(for_each_mem_pfn_range(boot.memblock)):
        start = min(max(start_pfn << PAGE_SHIFT, r_start), r_end)
        end = min(max(end_pfn << PAGE_SHIFT, r_start), r_end)
        if start >= end:
            continue
        # What maps the buffer of tables can't lie in it: its pages aren't reachable yet.
        unused, top = tables.pgt_buf_end << PAGE_SHIFT, tables.pgt_buf_top << PAGE_SHIFT
        tables.can_use_brk_pgt = int(max(start, unused) >= min(end, top))
        init_memory_mapping(boot, start, end)
        mapped_ram_size += end - start
        tables.can_use_brk_pgt = 1
    return mapped_ram_size


@kernel("arch/x86/mm/init.c", "init_memory_mapping")
def init_memory_mapping(boot: Boot, start: int, end: int) -> None:
    """Map [start, end), and remember that it is mapped."""
    for piece, piece_end, mask in split_mem_range(boot, start, end):
        KERNEL_PHYSICAL_MAPPING_INIT[boot.config.arch](boot, piece, piece_end, mask)
    add_pfn_range_mapped(boot.direct_map, start >> PAGE_SHIFT, end >> PAGE_SHIFT)
    boot.max_pfn_mapped = max(boot.max_pfn_mapped, end >> PAGE_SHIFT)
    low_end = min(end, 4 * GIB)
    if start < 4 * GIB:
        boot.max_low_pfn_mapped = max(boot.max_low_pfn_mapped, low_end >> PAGE_SHIFT)


@kernel("arch/x86/mm/init.c", "split_mem_range")
def split_mem_range(boot: Boot, start: int, end: int) -> list[MapRange]:
    """Cut a range where page sizes change: 4K up to 2 MiB, 2M up to 1 GiB, 1G as far as it goes, 2M, and 4K.

    4k 2M  2M │    1G    │    1G    │ 2M  2M 4k
    """
    mask, pmd_size = boot.direct_map.page_size_mask, boot.direct_map.pmd_size
    limit_2m, limit_1g = round_down(end, pmd_size), round_down(end, PUD_SIZE)
    pieces: list[MapRange] = []
    pos = round_down(start, 1 << PAGE_SHIFT)
    for piece_start, piece_end, piece_mask in (
        (pos, min(round_up(pos, pmd_size), end), 0),
        (round_up(pos, pmd_size), min(round_up(round_up(pos, pmd_size), PUD_SIZE), limit_2m), mask & BIT_2M),
        (round_up(pos, PUD_SIZE), limit_1g, mask),
    ):
        if piece_start < piece_end:
            pieces.append((piece_start, piece_end, piece_mask))
            pos = piece_end
    if (tail := round_up(pos, pmd_size)) < limit_2m:
        pieces.append((tail, limit_2m, mask & BIT_2M))
        pos = limit_2m
    if pos < end:
        pieces.append((pos, end, 0))
    return merge_equal(pieces if boot.direct_map.after_bootmem else adjust_range_page_size_mask(boot, pieces))


@kernel("arch/x86/mm/init.c", "adjust_range_page_size_mask")
def adjust_range_page_size_mask(boot: Boot, pieces: list[MapRange]) -> list[MapRange]:
    """Let a ragged piece have large pages after all if the whole of them is RAM, mapped in this window or not."""
    adjusted = []
    for start, end, mask in pieces:
        for bit, size in ((BIT_2M, boot.direct_map.pmd_size), (BIT_1G, PUD_SIZE)):
            whole, whole_end = round_down(start, size), round_up(end, size)
            if not boot.direct_map.page_size_mask & bit or whole_end > end_of_direct_map(boot):
                continue
            if memblock_is_region_memory(boot.memblock, whole, whole_end - whole):
                mask |= bit
        adjusted.append((start, end, mask))
    return adjusted


@invented("the last part of split_mem_range", traced=False)
def merge_equal(pieces: list[MapRange]) -> list[MapRange]:
    """Join neighbours that may have the same page sizes."""
    merged: list[MapRange] = []
    for start, end, mask in pieces:
        if merged and merged[-1][1:] == (start, mask):
            merged[-1] = (merged[-1][0], end, mask)
        else:
            merged.append((start, end, mask))
    return merged


@invented("C takes tables as it comes to them; ours must be put by before memory is mapped after boot")
def late_tables_needed(boot: Boot, start: int, end: int) -> int:
    """How many tables it takes to map [start, end), beyond those that there are."""
    tables = boot.direct_map
    levels = [(tables.pgd, PGDIR_SHIFT_L5, 0)] if boot.page_table_levels == 5 else []
    levels += [(tables.p4d, P4D_SHIFT, 0), (tables.pud, PUD_SHIFT, BIT_1G), (tables.pmd, PMD_SHIFT, BIT_2M)]
    needed: set[tuple[int, int]] = set()
    for piece, piece_end, mask in split_mem_range(boot, start, end):
        for entries, shift, _ in takewhile(lambda level: not mask & level[2], levels):  # noqa: B023
            at_0 = within_entry(boot, shift)
            entered = range(piece + at_0 >> shift, (piece_end - 1 + at_0 >> shift) + 1)
            needed.update((shift, at) for at in entered if entries[at] == ENTRY_NONE)
    return len(needed)
