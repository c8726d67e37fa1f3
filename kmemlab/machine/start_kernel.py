"""start_kernel: the whole of boot, as far as memory goes (init/main.c).

Read it as a table of contents: one call a line, in the order of Linux 6.1, and in the margin what it is for.
"""

from __future__ import annotations

from kmemlab.alloc.hugetlb import hugetlb_init
from kmemlab.alloc.mempolicy import numa_default_policy, numa_policy_init
from kmemlab.alloc.page_address import page_address_init
from kmemlab.alloc.percpu import percpu_enable_async
from kmemlab.alloc.percpu_first_chunk import pcpu_init_chunks
from kmemlab.alloc.slab_create import kmem_cache_init
from kmemlab.alloc.slab_late import kmem_cache_init_late, smp_init
from kmemlab.alloc.vmap import vmalloc_init
from kmemlab.boot.bootoptions import print_unknown_bootoptions, setup_command_line
from kmemlab.boot.cpu_entry_area import setup_cpu_entry_areas
from kmemlab.boot.e820_resources import e820__reserve_resources_late
from kmemlab.boot.efi import fill_boot_params
from kmemlab.boot.globals import Boot
from kmemlab.boot.kernel_physical_mapping_32 import mk_early_pgtbl_32, setup_cpu_entry_area_ptes
from kmemlab.boot.log_buf import setup_log_buf
from kmemlab.boot.memblock import memblock_init
from kmemlab.boot.probe_roms import i386_start_kernel
from kmemlab.boot.setup_percpu import setup_per_cpu_areas
from kmemlab.boot.swiotlb import pci_iommu_alloc
from kmemlab.machine.deferred_init import page_alloc_init_late
from kmemlab.machine.free_reserved import (
    alternative_instructions,
    efi_free_boot_services,
    free_initmem,
    free_initrd_mem,
    mark_rodata_ro,
    mem_encrypt_free_decrypted_mem,
)
from kmemlab.machine.highmem import set_highmem_pages_init
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.mem_init import (
    init_mem_debugging_and_hardening,
    mem_init_print_info,
    memblock_free_all,
    preallocate_vmalloc_pages,
    report_meminit,
)
from kmemlab.machine.memblock_discard import memblock_discard
from kmemlab.machine.memory_hotplug import acpi_memory_enable_device, memory_block_size_bytes
from kmemlab.machine.parse_args import parse_args
from kmemlab.machine.setup_arch import SETUP_ARCH, setup_arch
from kmemlab.machine.stage import Stage, check_stage, run_column, stages_of
from kmemlab.machine.vfs_caches import vfs_caches_init
from kmemlab.mm.context import SYSTEM_SCHEDULING
from kmemlab.mm.globals import Mm
from kmemlab.mm.pageset import setup_per_cpu_pageset
from kmemlab.mm.system_hash import stack_depot_early_init, vfs_caches_init_early
from kmemlab.mm.watermark import hugepage_init, init_per_zone_wmark_min
from kmemlab.mm.workingset import workingset_init
from kmemlab.mm.zonelist import build_all_zonelists
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import __GFP_BITS_MASK


@kernel("init/main.c", "start_kernel", left_out="what has nothing to do with memory")
def start_kernel(kernel: Kernel, until: str | None = None) -> None:
    """Boot. With `until`, the C name of a function of the column, stop when that has returned.

    Raises `BadRequest` for a name that the column doesn't have, `KernelPanic` where Linux panics.
    """
    check_stage(START_KERNEL, kernel.boot.config.arch, until)
    run_column(kernel, START_KERNEL, until)


@kernel("arch/x86/boot/main.c", "main", left_out="all but memory detection")
def real_mode_main(boot: Boot) -> None:
    """Setup code, still in real mode, asks the BIOS about memory and starts the kernel; under UEFI its stub does."""
    fill_boot_params(boot)


@invented("the firmware is no part of the kernel")
def power_on_self_test(boot: Boot) -> None:
    """The firmware sets up the registers that say how memory may be cached."""
    boot.mtrr.msr.post()


@kernel("init/version-timestamp.c", "linux_banner", left_out="who built it, with what, and when")
def linux_banner(boot: Boot) -> None:
    """The kernel's first words."""
    boot.printk.info(f"Linux version {boot.spec.kernel_version}")


@invented("memblock's variables are filled in at compile time in C")
def init_memblock(boot: Boot) -> None:
    """Memblock knows of no memory and of nothing reserved."""
    memblock_init(boot.memblock)


@invented("a line of start_kernel")
def print_kernel_command_line(boot: Boot) -> None:
    """Say the command line once more, as it was saved."""
    boot.printk.info(f"Kernel command line: {boot.spec.cmdline}")


@invented("setup_log_buf(0), a line of start_kernel")
def setup_log_buf_late(boot: Boot) -> None:
    """Take memory for a larger log, if there are many CPUs."""
    setup_log_buf(boot, 0)


@kernel("arch/x86/mm/init_64.c", "mem_init", left_out="registering the kernel's own core file; i386's tests")
def mem_init(kernel: Kernel, until: str | None = None) -> bool:
    """Hand the memory over from memblock to the page allocator. True if stopped at `until`."""
    return run_column(kernel, MEM_INIT, until)


@kernel("init/main.c", "kernel_init_freeable", left_out="what has nothing to do with memory")
def kernel_init_freeable(kernel: Kernel, until: str | None = None) -> bool:
    """Process 1: what can be done only when there is a scheduler. True if stopped at `until`."""
    return run_column(kernel, KERNEL_INIT_FREEABLE, until)


@kernel("init/main.c", "rest_init", left_out="starting processes 1 and 2")
def rest_init(mm: Mm) -> None:
    """Boot goes on as process 1: the scheduler works, so whoever sleeps where he must not is found out."""
    mm.current.system_state = SYSTEM_SCHEDULING


@invented("gfp_allowed_mask = __GFP_BITS_MASK, a line of kernel_init_freeable")
def allow_all_gfp_bits(mm: Mm) -> None:
    """Until now no request for pages was allowed to wait, to write to a disk or to enter a file system."""
    mm.gfp_allowed_mask = __GFP_BITS_MASK


# fmt: off
MEM_INIT = (
    Stage(pci_iommu_alloc,             "boot",   "a bounce buffer below 4 GiB, if there is memory above"),
    Stage(set_highmem_pages_init,      "mm",     "HighMem first, page by page", only="i386"),
    Stage(memblock_free_all,           "mm",     "memblock's free ranges become free blocks of the buddy system"),
    Stage(preallocate_vmalloc_pages,   "mm",     "page tables for the top of vmalloc's area", only="x86_64"),
)

KERNEL_INIT_FREEABLE = (
    Stage(allow_all_gfp_bits,          "mm",     "requests may wait for memory"),
    Stage(smp_init,                    "slab",   "the other CPUs come up"),
    Stage(page_alloc_init_late,        "mm",     "the pages that were put off"),
    Stage(memblock_discard,            "mm",     "what memblock took for itself"),
    Stage(memory_block_size_bytes,     "kernel", "how much memory can be plugged in or out at a time", only="x86_64"),
    Stage(init_per_zone_wmark_min,     "mm",     "watermarks and reserves (a postcore initcall)"),
    Stage(percpu_enable_async,         "percpu", "per-CPU memory gets its worker (subsys)"),
    Stage(efi_free_boot_services,      "mm",     "UEFI's boot services are over (arch)"),
    Stage(hugetlb_init,                "mm",     "pools of huge pages for programs (subsys)"),
    Stage(hugepage_init,               "mm",     "huge pages need whole pageblocks free: watermarks rise (subsys)"),
    Stage(acpi_memory_enable_device,   "kernel", "memory that is plugged in (subsys)", only="x86_64"),
    Stage(e820__reserve_resources_late, "boot",  "the rest of the resource tree (subsys)"),
    Stage(free_initrd_mem,             "mm",     "the initrd is unpacked (rootfs)"),
    Stage(workingset_init,             "mm",     "when a page went, as coarse as it must be (device)"),
)

START_KERNEL = (
    Stage(power_on_self_test,          "boot",   "before the kernel: the firmware sets up the machine"),
    Stage(real_mode_main,              "boot",   "still before it: the BIOS is asked by int 0x15"),
    Stage(mk_early_pgtbl_32,           "boot",   "the first page tables: the kernel itself is mapped", only="i386"),
    Stage(i386_start_kernel,           "boot",   "what a 32-bit kernel does in another way", only="i386"),
    Stage(init_memblock,               "boot",   "as the image has it: no memory known"),
    Stage(linux_banner,                "boot",   "the first line of the log"),
    Stage(page_address_init,           "page_addresses", "kmap's table of who is mapped where", only="i386"),
    Stage(setup_arch,                  "kernel", "from the firmware's map to nodes and zones", SETUP_ARCH),
    Stage(setup_command_line,          "boot",   "the command line is kept"),
    Stage(setup_per_cpu_areas,         "boot, numa", "each CPU's own variables"),
    Stage(pcpu_init_chunks,            "percpu", "what is free of it"),
    Stage(build_all_zonelists,         "mm",     "in which order zones are asked for pages"),
    Stage(print_kernel_command_line,   "boot",   "once more"),
    Stage(parse_args,                  "kernel", "slub_debug=, hugepages= and the like"),
    Stage(print_unknown_bootoptions,   "boot",   "what is not for the kernel"),
    Stage(setup_log_buf_late,          "boot",   "a larger log, if there are many CPUs"),
    Stage(vfs_caches_init_early,       "mm",     "hash tables, the last large pieces that memblock gives"),
    Stage(setup_cpu_entry_areas,       "boot",   "page tables for what CPUs enter the kernel by", only="x86_64"),
    Stage(setup_cpu_entry_area_ptes,   "boot",   "the same, of i386", only="i386"),
    Stage(init_mem_debugging_and_hardening, "mm", "what shall be done to the contents of pages"),
    Stage(report_meminit,              "mm",     "are pages cleared when they are given out?"),
    Stage(stack_depot_early_init,      "mm",     "a table of call stacks, if slabs shall remember them"),
    Stage(mem_init,                    "kernel", "memblock hands over to the page allocator", MEM_INIT),
    Stage(mem_init_print_info,         "mm",     "Memory: … available"),
    Stage(kmem_cache_init,             "slab",   "the caches that kmalloc takes objects from"),
    Stage(kmem_cache_init_late,        "slab",   "and what had to wait until interrupts are on"),
    Stage(setup_per_cpu_pageset,       "mm",     "from now on each CPU keeps some free pages of its own"),
    Stage(vmalloc_init,                "mm",     "addresses for pages that lie scattered"),
    Stage(numa_policy_init,            "mm",     "boot takes pages from all nodes in turn"),
    Stage(vfs_caches_init,             "mm",     "hash tables spread over nodes, if there are several"),
    Stage(alternative_instructions,    "mm",     "lock prefixes patched: their table is free"),
    Stage(rest_init,                   "mm",     "from here on there is somebody else to run while one waits"),
    Stage(kernel_init_freeable,        "kernel", "process 1", KERNEL_INIT_FREEABLE),
    Stage(mem_encrypt_free_decrypted_mem, "mm",  "a part of .bss that no CPU without encryption needs", only="x86_64"),
    Stage(free_initmem,                "mm",     "boot's own code and data are free"),
    Stage(mark_rodata_ro,              "mm",     "so are the gaps between sections", only="x86_64"),
    Stage(numa_default_policy,         "mm",     "from now on pages come from the own node"),
)
# fmt: on

BOOT_STAGES = tuple(stage.name for stage in stages_of(START_KERNEL))
"""The names that `until` takes, in the order in which the stages end."""
