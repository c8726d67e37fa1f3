"""The hand-over: every free page reaches the buddy once, in Linux's order, and none that is reserved."""

from __future__ import annotations

import pytest

from kmemlab.boot.memblock import for_each_free_mem_range
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.mm.check_zone import check_zone
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.sim.list_head import list_for_each
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import U64_MAX

SPECS = ["tiny-128m", "laptop-8g", "numa-2x4g", "old-bios-e801"]


def blocks(kernel: Kernel) -> list[tuple[int, int]]:
    """All free blocks as (first page frame, pages), ascending."""
    return sorted(
        (pfn, 1 << order)
        for zone in kernel.mm.populated_zones()
        for order in range(MAX_ORDER)
        for head in zone.free_list[order]
        for pfn in list_for_each(zone.page.lru, head)
    )


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (start, end) with touching ones joined; overlaps stay visible as a range that starts too early."""
    out: list[tuple[int, int]] = []
    for start, end in ranges:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


@pytest.mark.parametrize("spec", SPECS)
def test_free_ranges_and_free_blocks_are_the_same_pages(spec: str) -> None:
    kernel = Kernel(load_spec(spec))
    start_kernel(kernel, "memblock_free_all")
    held_back = [pgdat.first_deferred_pfn for pgdat in kernel.mm.node_data]
    want = []
    for start, end, nid in for_each_free_mem_range(kernel.boot.memblock):
        first, last = (start + 4095) >> 12, min(end >> 12, held_back[nid])
        if first < last:
            want.append((first, last))
    assert merged([(pfn, pfn + pages) for pfn, pages in blocks(kernel)]) == merged(want)
    for zone in kernel.mm.populated_zones():
        check_zone(zone)


@pytest.mark.parametrize("spec", SPECS)
def test_after_boot_no_page_is_deferred_and_totals_agree(spec: str) -> None:
    kernel = Kernel(load_spec(spec))
    start_kernel(kernel, "page_alloc_init_late")
    assert all(pgdat.first_deferred_pfn == U64_MAX for pgdat in kernel.mm.node_data if pgdat.node_present_pages)
    assert sum(zone.managed_pages for zone in kernel.mm.zones()) == kernel.mm.totalram_pages


def test_low_addresses_come_first_on_each_list() -> None:
    kernel = Kernel(load_spec("tiny-128m"))
    start_kernel(kernel, "memblock_free_all")
    for zone in kernel.mm.populated_zones():
        for order in range(MAX_ORDER):
            for head in zone.free_list[order]:
                pfns = list(list_for_each(zone.page.lru, head))
                assert pfns == sorted(pfns)


@pytest.mark.parametrize(
    ("kib", "words"),
    [(0, "alloc_low_pages: can not alloc memory"), (96, "cannot initialize percpu area"), (40, "Failed to allocate")],
)
@pytest.mark.parametrize("numa", [{}, {"nodes": [[0, 0, 0xFFFFFFF]]}])
def test_a_machine_with_next_to_nothing_free_panics(numa: dict[str, object], kib: int, words: str) -> None:
    # Low memory and the kernel image are taken. What an initrd leaves of 2 MiB more is too little for NODE_DATA.
    e820, initrd = [[0, 0x9FBFF, "usable"]], None
    if kib:
        e820.append([0x8000000, 0x81FFFFF, "usable"])
        initrd = [0x8000000, 0x81FFFFF - (kib << 10)]
    spec = load_spec({"e820": e820, "initrd": initrd, "numa": numa, "cpus": {"flags": ["pse"]}})
    with pytest.raises(KernelPanic, match=words):
        start_kernel(Kernel(spec))


@pytest.mark.parametrize(
    ("cmdline", "alloc", "free", "lines"),
    [
        ("", "on", "off", 1),
        ("init_on_alloc=0", "off", "off", 1),
        ("init_on_free=1", "on", "on", 2),
        ("page_poison=1", "off", "off", 2),
        ("page_poison=1 init_on_alloc=0", "off", "off", 1),
        ("slub_debug=P", "on", "off", 2),
    ],
)
def test_what_is_cleared(cmdline: str, alloc: str, free: str, lines: int) -> None:
    kernel = Kernel(load_spec({"e820": [[0, 0x9FBFF, "usable"], [0x100000, 0xFFFFFFF, "usable"]], "cmdline": cmdline}))
    start_kernel(kernel, "report_meminit")
    said = [line for line in kernel.printk_lines if line.startswith("mem auto-init: ")]
    assert len(said) == lines
    assert f"mem auto-init: stack:all(zero), heap alloc:{alloc}, heap free:{free}" in said
