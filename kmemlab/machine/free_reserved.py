"""What boot gives back: memory that was reserved and is not needed any more (Freeing … memory)."""

from __future__ import annotations

from kmemlab.boot.efi import boot_services_to_free
from kmemlab.boot.globals import Boot
from kmemlab.boot.smp import num_online_cpus, num_possible_cpus
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_free import free_the_page, page_zone
from kmemlab.mm.page_poison import treat_free_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import KernelPanic
from kmemlab.types.units import KIB, PAGE_SIZE, pfn_down, pfn_up, round_up


@kernel("mm/page_alloc.c", "free_reserved_area", left_out="filling the area with a byte of the caller's choice")
def free_reserved_area(mm: Mm, start: int, end: int, what: str) -> None:
    """Give the whole pages of [start, end) to their zones, and say so."""
    first, last = pfn_up(start), pfn_down(end)
    for pfn in range(first, last):
        free_reserved_page(mm, pfn)
    if first < last:
        mm.boot.printk.info(f"Freeing {what} memory: {(last - first) * PAGE_SIZE // KIB}K")


@kernel("include/linux/mm.h", "free_reserved_page", traced=False)
def free_reserved_page(mm: Mm, pfn: int) -> None:
    """One page more that the zone manages and that is free."""
    zone = page_zone(mm, pfn)
    if zone is None:
        raise KernelPanic(
            f"BUG: unable to handle page fault: page frame {pfn:#x} has no struct page",
            where="free_reserved_page",
            remedy="place the kernel image and the initrd in memory that the firmware's map has",
        )
    zone.managed_pages += 1
    mm.totalram_pages += 1
    treat_free_pages(mm, pfn, 1)
    free_the_page(mm, zone, pfn, 0)


@invented(
    "where the pieces lie that the image's description gives only sizes of: behind .data, as the linker puts them"
)
def init_area(boot: Boot) -> tuple[int, int, int]:
    """Start of the init sections, of the SMP lock table behind them, and the end of that."""
    image = boot.spec.image
    start = round_up(image.data[1] + 1, PAGE_SIZE)
    locks = start + image.kib.init * KIB
    return start, locks, locks + image.smp_locks_kib * KIB


@kernel("arch/x86/kernel/alternative.c", "alternative_instructions", left_out="all but the memory it gives back")
def alternative_instructions(mm: Mm) -> None:
    """Forget where lock prefixes stand, unless they were taken out for a single CPU and others may still come.

    With one CPU present (or maxcpus= below two) the kernel runs without them, and keeps the table to put them back.
    """
    if num_online_cpus(mm.boot) > 1 or num_possible_cpus(mm.boot.spec) == 1:
        _, start, end = init_area(mm.boot)
        free_reserved_area(mm, start, end, "SMP alternatives")


@kernel("arch/x86/platform/efi/quirks.c", "efi_free_boot_services")
def efi_free_boot_services(mm: Mm) -> None:
    """Give back what UEFI's boot services used, and say how much it was."""
    freed = 0
    for start, end in boot_services_to_free(mm.boot):
        for pfn in range(pfn_up(start), pfn_down(end)):
            free_reserved_page(mm, pfn)
            freed += PAGE_SIZE
    if freed:
        mm.boot.printk.info(f"Freeing EFI boot services memory: {freed // KIB}K")


@kernel("arch/x86/mm/init.c", "free_initrd_mem", left_out="unpacking it")
def free_initrd_mem(mm: Mm) -> None:
    """The initrd was unpacked: its pages are free."""
    if mm.boot.initrd_end:
        free_reserved_area(mm, mm.boot.initrd_start, mm.boot.initrd_end, "initrd")


@kernel("arch/x86/mm/mem_encrypt_amd.c", "mem_encrypt_free_decrypted_mem", left_out="CPUs that encrypt memory")
def mem_encrypt_free_decrypted_mem(mm: Mm) -> None:
    """The part of .bss that was kept for data that must not be encrypted is free."""
    image = mm.boot.spec.image
    bss_end = image.bss[1] + 1
    free_reserved_area(mm, bss_end - image.decrypted_kib * KIB, bss_end, "unused decrypted")


@kernel("arch/x86/mm/init.c", "free_initmem")
def free_initmem(mm: Mm) -> None:
    """Code and data that only boot needed are free."""
    start, end, _ = init_area(mm.boot)
    free_reserved_area(mm, start, end, "unused kernel image (initmem)")


@kernel("arch/x86/mm/init_64.c", "mark_rodata_ro", left_out="page attributes")
def mark_rodata_ro(mm: Mm) -> None:
    """Sections start at whole large pages; what lies between them was never used."""
    image = mm.boot.spec.image
    free_reserved_area(mm, image.code[1] + 1, image.rodata[0], "unused kernel image (text/rodata gap)")
    free_reserved_area(mm, image.rodata[1] + 1, image.data[0], "unused kernel image (rodata/data gap)")
