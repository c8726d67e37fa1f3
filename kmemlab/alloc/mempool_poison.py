"""Poison in a pool's reserve: who writes into an element that he gave back is found when it is handed out again.

6b 6b 6b 6b … 6b a5        free: POISON_FREE, at the end POISON_END
5a 5a 5a 5a … 5a 5a        in use, and not yet written
"""

from __future__ import annotations

from array import array

from kmemlab.alloc.kmap_local import KmapCtrl, kmap_local_page, kunmap_local
from kmemlab.alloc.mempool_kinds import MempoolKind
from kmemlab.hardware.ram import WORDS
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.poison import POISON_END, POISON_FREE, POISON_INUSE
from kmemlab.types.trap_pf import X86_PF_WRITE
from kmemlab.types.units import PAGE_SIZE

BITS_PER_LONG_8 = 8


@invented("memset and one byte more", traced=False)
def free_pattern() -> bytes:
    """What a page of the reserve holds."""
    return bytes([POISON_FREE]) * (PAGE_SIZE - 1) + bytes([POISON_END])


@kernel("mm/mempool.c", "poison_element", left_out="elements from slabs: there slub_debug does it")
def poison_element(ctrl: KmapCtrl, kind: MempoolKind, element: int, pool_data: int) -> None:
    """Fill the pages of an element with poison."""
    for pfn in kind.pfns(element, pool_data):
        fill(ctrl, pfn, free_pattern())


@kernel("mm/mempool.c", "check_element", formerly=("__check_element",), left_out="elements from slabs")
def check_element(ctrl: KmapCtrl, kind: MempoolKind, element: int, pool_data: int, pool: int, nr: int) -> None:
    """Report the first byte that is not poison any more; then mark the pages as in use."""
    for pfn in kind.pfns(element, pool_data):
        have, want = contents(ctrl, pfn), free_pattern()
        wrong = next((at for at in range(PAGE_SIZE) if have[at] != want[at]), None)
        if wrong is None:
            fill(ctrl, pfn, bytes([POISON_INUSE]) * PAGE_SIZE)
        else:
            poison_error(ctrl, pool, nr, have, wrong, pfn)


@kernel("mm/mempool.c", "poison_error", left_out="the pool's address: its number; the stack")
def poison_error(ctrl: KmapCtrl, pool: int, nr: int, have: bytes, byte: int, pfn: int) -> None:
    """Say which pool, which element, and what stands around the first wrong byte."""
    start, end = max(byte - BITS_PER_LONG_8, 0), min(byte + BITS_PER_LONG_8, PAGE_SIZE)
    printk = ctrl.mm.boot.printk
    printk.info("BUG: mempool element poison mismatch")
    printk.info(f"Mempool {pool} size {PAGE_SIZE}")
    shown = "".join(f"{value:x} " for value in have[start:end])
    printk.info(f" nr={nr} @ pfn {pfn:#x}: {'... ' if start else ''}0x{shown}{'...' if end < PAGE_SIZE else ''}")


@invented("memset", traced=False)
def fill(ctrl: KmapCtrl, pfn: int, pattern: bytes) -> None:
    """Fill a page, wherever it lies."""
    boot = ctrl.mm.boot
    kaddr = kmap_local_page(ctrl, pfn)
    boot.ram.fill(boot.mmu.access(kaddr, X86_PF_WRITE), array("Q", pattern))
    kunmap_local(ctrl, kaddr)


@invented("C reads byte by byte", traced=False)
def contents(ctrl: KmapCtrl, pfn: int) -> bytes:
    """The bytes of a page, wherever it lies."""
    boot = ctrl.mm.boot
    kaddr = kmap_local_page(ctrl, pfn)
    paddr = boot.mmu.access(kaddr)
    words = array("Q", (boot.ram.read(paddr + 8 * at) for at in range(WORDS)))
    kunmap_local(ctrl, kaddr)
    return words.tobytes()
