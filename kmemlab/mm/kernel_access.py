"""What the kernel's own loads and stores do: an address goes through the MMU, and what stands in RAM there is meant.

address ──▶ MMU: TLB, or a walk over swapper_pg_dir ──▶ physical address ──▶ a number in simulated RAM
            └── nothing mapped: a page fault
"""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest
from kmemlab.types.trap_pf import X86_PF_WRITE
from kmemlab.types.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE


@invented("a load instruction", traced=False)
def load(boot: Boot, address: int, size: int = 4) -> int:
    """The number of 1, 2, 4 or 8 bytes at a kernel address that is a multiple of its size.

    Raises `PageFault` where nothing is mapped, `BadRequest` for an address that is not aligned.
    """
    aligned(address, size)
    paddr = boot.mmu.access(address)
    if size >= 4:
        return boot.ram.read(paddr, size)
    return boot.ram.read(paddr & ~3, 4) >> 8 * (paddr & 3) & (1 << 8 * size) - 1


@invented("a store instruction", traced=False)
def store(boot: Boot, address: int, value: int, size: int = 4) -> None:
    """Write a number of 1, 2, 4 or 8 bytes at a kernel address; what does not fit is cut off, as in C.

    Raises `PageFault` where nothing is mapped or it is read-only, `BadRequest` for an address that is not aligned.
    """
    aligned(address, size)
    paddr = boot.mmu.access(address, X86_PF_WRITE)
    value &= (1 << 8 * size) - 1
    if size < 4:
        shift = 8 * (paddr & 3)
        paddr &= ~3
        value = boot.ram.read(paddr, 4) & ~((1 << 8 * size) - 1 << shift) | value << shift
    boot.ram.write(paddr, value, max(size, 4))


@invented("C's casts see to it; x86 would even allow it", traced=False)
def aligned(address: int, size: int) -> None:
    """Raise `BadRequest` unless `size` is one that there is and the address a multiple of it."""
    if size not in (1, 2, 4, 8) or address % size:
        raise BadRequest(
            f"{size} bytes at {address:#x} are no single access",
            where="a load or store of the kernel",
            remedy="take 1, 2, 4 or 8 bytes at a multiple of that",
        )


@invented("C's string functions: memset with zeros, clear_page", traced=False)
def clear(boot: Boot, address: int, size: int) -> None:
    """Fill `size` bytes from a kernel address with zeros; whole pages at once. Multiples of 4."""
    end = address + size
    while address < end:
        piece = min(end, (address & PAGE_MASK) + PAGE_SIZE) - address
        paddr = boot.mmu.access(address, X86_PF_WRITE)
        if piece == PAGE_SIZE:
            boot.ram.clear_page(paddr >> PAGE_SHIFT)
        else:
            for at in range(paddr, paddr + piece, 4):
                if boot.ram.read(at, 4):
                    boot.ram.write(at, 0, 4)
        address += piece


@invented("C's copy_page and memcpy", traced=False)
def copy(boot: Boot, to: int, source: int, size: int) -> None:
    """Copy `size` bytes from one kernel address to another, ascending; addresses and size are multiples of 4."""
    done = 0
    while done < size:
        piece = min(size - done, PAGE_SIZE - (to + done) % PAGE_SIZE, PAGE_SIZE - (source + done) % PAGE_SIZE)
        into, out_of = boot.mmu.access(to + done, X86_PF_WRITE), boot.mmu.access(source + done)
        for at in range(0, piece, 4):
            word = boot.ram.read(out_of + at, 4)
            if word != boot.ram.read(into + at, 4):
                boot.ram.write(into + at, word, 4)
        done += piece
