"""/proc/vmallocinfo: a line an area of kernel addresses, in the kernel's own format. It only reads."""

from __future__ import annotations

from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.numa import nodes_of
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_free import page_zone
from kmemlab.mm.vm_struct import (
    VM_ALLOC,
    VM_DMA_COHERENT,
    VM_IOREMAP,
    VM_MAP,
    VM_UNINITIALIZED,
    VM_USERMAP,
    vm_caller,
    vm_pages,
)
from kmemlab.mm.vmalloc import busy_areas
from kmemlab.mm.vmap_area import PURGE_VMAP_AREA_ROOT, vmap_areas
from kmemlab.sim.kernel import invented, kernel

FLAG_WORDS = (
    (VM_IOREMAP, "ioremap"),
    (VM_ALLOC, "vmalloc"),
    (VM_MAP, "vmap"),
    (VM_USERMAP, "user"),
    (VM_DMA_COHERENT, "dma-coherent"),
)


@kernel("mm/vmalloc.c", "s_show", left_out="the offset in the function that asked: only a build knows it")
def vmallocinfo(kernel: Kernel) -> str:
    """The busy areas by address, then the lazy ones.

    A kernel that hides addresses prints a word for each until it has a secret to scramble them with, and so does this.
    """
    mm = kernel.mm
    areas = mm.vmalloc.areas
    busy = busy_areas(mm.vmalloc)
    lines = [f"{span_text(mm, va)}{area_text(mm, va)}" for va in busy]
    if busy:  # C looks for them when it has come to its last busy area
        lines += [f"{span_text(mm, va)} unpurged vm_area" for va in vmap_areas(areas, PURGE_VMAP_AREA_ROOT)]
    return "".join(f"{line}\n" for line in lines)


@invented("the first columns of a line", traced=False)
def span_text(mm: Mm, va: int) -> str:
    """Where an area is, and how large, the guard page included."""
    areas = mm.vmalloc.areas
    start, end = areas.va_start[va], areas.va_end[va]
    return f"{pointer_text(mm, start)}-{pointer_text(mm, end)} {end - start:7}"


@kernel("lib/vsprintf.c", "restricted_pointer", left_out="the scrambled form; kptr_restrict", traced=False)
def pointer_text(mm: Mm, address: int) -> str:
    """0x%pK: an address, if no_hash_pointers allows to show it."""
    digits = 2 * mm.boot.config.sizeof_pointer
    if any(parameq(name, "no_hash_pointers") for name, _ in next_arg(mm.boot.spec.cmdline)):
        return f"0x{address:0{digits}x}"
    return "0x" + "(ptrval)".replace("ptrval", "ptrval" if digits == 8 else "____ptrval____")


@invented("the rest of a line", traced=False)
def area_text(mm: Mm, va: int) -> str:
    """Who asked, how many pages there are or what physical address is shown, what kind of area it is."""
    vmalloc, vms = mm.vmalloc, mm.vmalloc.vms
    vm = vmalloc.areas.vm[va]
    if not vm:
        return " vm_map_ram"
    text = f" {vm_caller(vms, vm)}"
    if vms.nr_pages[vm]:
        text += f" pages={vms.nr_pages[vm]}"
    if vms.phys_addr[vm]:
        digits = 2 * mm.boot.swapper_pg_dir.layout.entry_size
        text += f" phys=0x{vms.phys_addr[vm]:0{digits}x}"
    text += "".join(f" {word}" for flag, word in FLAG_WORDS if vms.flags[vm] & flag)
    if vms.pages[vm]:
        text += " vpages"
    return text + numa_text(mm, vm)


@kernel("mm/vmalloc.c", "show_numa_info", traced=False)
def numa_text(mm: Mm, vm: int) -> str:
    """Which node gave how many of the pages; kernels without NUMA don't say."""
    if not mm.boot.config.numa or mm.vmalloc.vms.flags[vm] & VM_UNINITIALIZED:
        return ""
    counts = dict.fromkeys(nodes_of(mm.node_has_memory), 0)
    for pfn in vm_pages(mm.page, mm.vmalloc.vms, vm):
        zone = page_zone(mm, pfn)
        assert zone is not None
        counts[zone.node] += 1
    return "".join(f" N{nid}={count}" for nid, count in counts.items() if count)
