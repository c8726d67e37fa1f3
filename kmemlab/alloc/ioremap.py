"""ioremap: addresses for a device's registers or memory, cached as a device needs it.

phys  fed00400 ──┐ page of the device               ioremap(0xfed00400, 16)
virt  ffffc9000000b400 ◀─┘ the same offset in the page; a guard page behind the last one
"""

from __future__ import annotations

from kmemlab.alloc.memtype import (
    cachemode2protval,
    is_new_memtype_allowed,
    memtype_free,
    memtype_reserve,
)
from kmemlab.alloc.vm_area import free_vm_area, get_vm_area_caller, remove_vm_area
from kmemlab.alloc.vmap import pgprot_nx
from kmemlab.alloc.vmap_pages import vmap_range_noflush
from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.memblock import memblock_is_region_reserved
from kmemlab.boot.pat import UC, UC_MINUS, WB, WC, WP, WT, effective_type
from kmemlab.boot.resource import RESOURCE_NAMES, ROOT, children
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_struct import VM_IOREMAP, get_vm_area_size, release_vm_struct
from kmemlab.mm.vmalloc import find_vm_area
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, pfn_down, pfn_up, round_up

SYSTEM_RAM = RESOURCE_NAMES.index("System RAM")
CACHE_MODE = {WB: 0, WC: 1, UC_MINUS: 2, UC: 3, WT: 4, WP: 5}
"""C's enum page_cache_mode, which its messages print; here a mode is the number that the hardware has for it."""


@kernel("arch/x86/mm/ioremap.c", "__ioremap_check_ram", formerly=("page_is_ram",))
def ioremap_check_ram(mm: Mm, start: int, end: int) -> bool:
    """Whether any whole page of [start, end) is RAM that the page allocator has; what boot kept back may be mapped."""
    tree, reserved = mm.boot.iomem_resource, mm.boot.memblock
    for at in children(tree, ROOT):
        if tree.name[at] != SYSTEM_RAM:
            continue
        first, last = pfn_up(max(tree.start[at], start)), pfn_down(min(tree.end[at] + 1, end))
        if any(not memblock_is_region_reserved(reserved, pfn << PAGE_SHIFT, PAGE_SIZE) for pfn in range(first, last)):
            return True
    return False


@kernel("arch/x86/mm/ioremap.c", "__ioremap_caller", left_out="encryption; the direct map's own type; saying it once")
def ioremap_caller(mm: Mm, phys_addr: int, size: int, pcm: int, caller: str) -> int:
    """Addresses for `size` bytes from a physical address on, cached as `pcm` says; the offset in the page stays.

    Raises `BadRequest` for RAM, for addresses that there are not and for types that exclude one another, `OutOfMemory`
    where there are no addresses, or no page for a table.
    """
    last_addr = phys_addr + size - 1
    if size <= 0 or last_addr >> mm.boot.mmu.phys_bits:
        raise refused(mm, f"ioremap: invalid physical address {phys_addr:x}", phys_addr, size)
    if ioremap_check_ram(mm, phys_addr, phys_addr + size):
        digits = 2 * mm.boot.swapper_pg_dir.layout.entry_size
        span = f"0x{phys_addr:0{digits}x} - 0x{last_addr:0{digits}x}"
        raise refused(mm, f"ioremap on RAM at {span}", phys_addr, size)
    offset = phys_addr & ~PAGE_MASK
    start, end = phys_addr & PAGE_MASK, round_up(last_addr + 1, PAGE_SIZE)
    new_pcm = memtype_reserve(mm, start, end, pcm)
    if not is_new_memtype_allowed(start, end, pcm, new_pcm):
        memtype_free(mm, start, end)
        types = f"requested 0x{CACHE_MODE[pcm]:x}, got 0x{CACHE_MODE[new_pcm]:x}"
        what = f"ioremap error for 0x{start:x}-0x{end:x}, {types}"
        raise refused(mm, what, phys_addr, size)
    prot = mm.vmalloc.page_kernel | cachemode2protval(mm.boot, new_pcm)
    vm = get_vm_area_caller(mm, end - start, VM_IOREMAP, caller)
    if vm is None:
        memtype_free(mm, start, end)
        raise OutOfMemory(f"ioremap: no addresses for {end - start} bytes", where="ioremap", remedy="iounmap something")
    mm.vmalloc.vms.phys_addr[vm] = start
    vaddr: int = mm.vmalloc.vms.addr[vm]
    try:
        vmap_range_noflush(mm, vaddr, vaddr + end - start, start, pgprot_nx(mm, prot), ioremap_max_page_shift(mm))
    except OutOfMemory:
        free_vm_area(mm, vm)
        memtype_free(mm, start, end)
        raise
    return vaddr + offset


@invented("C prints it and returns NULL")
def refused(mm: Mm, what: str, phys_addr: int, size: int) -> BadRequest:
    """Say why nothing is mapped, and make an error of it."""
    mm.boot.printk.info(what)
    return BadRequest(
        what, where=f"ioremap({phys_addr:#x}, {size:#x})", remedy="take addresses of a device: see /proc/iomem"
    )


@kernel("mm/vmalloc.c", "ioremap_max_page_shift", formerly=("ioremap_huge_init",), traced=False)
def ioremap_max_page_shift(mm: Mm) -> int:
    """The largest page that ioremap may use, as a power of two; with nohugeiomap the smallest."""
    refused_by_user = any(parameq(name, "nohugeiomap") for name, _ in next_arg(mm.boot.spec.cmdline))
    return PAGE_SHIFT if refused_by_user else 8 * mm.boot.config.sizeof_pointer - 1


@kernel("arch/x86/mm/ioremap.c", "ioremap", formerly=("ioremap_nocache",))
def ioremap(mm: Mm, phys_addr: int, size: int, caller: str) -> int:
    """A device's registers: not cached, unless an MTRR makes them write-combining. Raises as `ioremap_caller`."""
    return ioremap_caller(mm, phys_addr, size, UC_MINUS, caller)


@kernel("arch/x86/mm/ioremap.c", "ioremap_uc")
def ioremap_uc(mm: Mm, phys_addr: int, size: int, caller: str) -> int:
    """Never cached, whatever the MTRRs say. Raises as `ioremap_caller`."""
    return ioremap_caller(mm, phys_addr, size, UC, caller)


@kernel("arch/x86/mm/ioremap.c", "ioremap_wc")
def ioremap_wc(mm: Mm, phys_addr: int, size: int, caller: str) -> int:
    """A frame buffer: writes are gathered. Raises as `ioremap_caller`."""
    return ioremap_caller(mm, phys_addr, size, WC, caller)


@kernel("arch/x86/mm/ioremap.c", "ioremap_wt")
def ioremap_wt(mm: Mm, phys_addr: int, size: int, caller: str) -> int:
    """Reads are cached, writes go through. Raises as `ioremap_caller`."""
    return ioremap_caller(mm, phys_addr, size, WT, caller)


@kernel("arch/x86/mm/ioremap.c", "ioremap_cache")
def ioremap_cache(mm: Mm, phys_addr: int, size: int, caller: str) -> int:
    """Memory that is no RAM of the kernel's, cached: firmware's tables. Raises as `ioremap_caller`."""
    return ioremap_caller(mm, phys_addr, size, WB, caller)


@kernel("arch/x86/mm/ioremap.c", "iounmap", left_out="the direct map's addresses, where nothing is done")
def iounmap(mm: Mm, addr: int) -> None:
    """Undo `ioremap`, by the address that it gave. Raises `BadRequest` where nothing is mapped so."""
    vmalloc = mm.vmalloc
    addr &= PAGE_MASK
    vm = find_vm_area(vmalloc, addr)
    if not vm or not vmalloc.vms.flags[vm] & VM_IOREMAP:
        what = f"iounmap: bad address {addr:0{2 * mm.boot.config.sizeof_pointer}x}"
        mm.boot.printk.info(what)
        raise BadRequest(what, where="iounmap", remedy="give the address that ioremap gave")
    start = vmalloc.vms.phys_addr[vm]
    memtype_free(mm, start, start + get_vm_area_size(vmalloc.vms, vm))
    remove_vm_area(mm, addr)
    release_vm_struct(vmalloc.vms, vm)


@invented("the CPU does it: the MTRR of the physical address and the type that the entry chose, taken together")
def effective_type_at(mm: Mm, addr: int) -> int:
    """How what an address leads to is cached in the end. Raises `PageFault` where nothing is mapped."""
    boot = mm.boot
    found = boot.mmu.walk(addr)
    chosen = boot.mtrr.msr.pat >> 8 * found.pat_index() & 7
    return effective_type(boot.mtrr.msr.type_of(found.address), chosen)
