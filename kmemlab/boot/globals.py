"""The kernel's global variables before it has a page allocator, in one struct: C spreads them over arch/x86 and mm."""

from __future__ import annotations

from kmemlab.boot.boot_params import BootParams, SetupData
from kmemlab.boot.e820 import E820Table
from kmemlab.boot.firmware_map_state import FirmwareMap
from kmemlab.boot.memblock import Memblock
from kmemlab.boot.mtrr_state import MtrrState, PatState
from kmemlab.boot.page_tables import DirectMap
from kmemlab.boot.pgtable import PageTables
from kmemlab.boot.printk import Printk
from kmemlab.boot.resource import ResourceTree
from kmemlab.boot.x86_init import X86InitOps
from kmemlab.hardware.bios import Bios
from kmemlab.hardware.mmu import Mmu
from kmemlab.hardware.mtrr import MemoryTypeRegisters
from kmemlab.hardware.ram import Ram
from kmemlab.hardware.spec import MachineSpec
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct, U64Cell
from kmemlab.types.config import CONFIGS, E820_MAX_ENTRIES_ZEROPAGE, KernelConfig
from kmemlab.types.errors import BadSpec
from kmemlab.types.pgtable import LAYOUTS, PAGE_OFFSET_L5, PMD


@invented("C's global variables are fields here, so that a machine can be copied and rewound")
class Boot(Struct):
    """What is known of the machine before there are zones. Built from the spec alone, all zero: the power-on state."""

    max_pfn = Cell()  # the page frame behind the last one of RAM
    max_low_pfn = Cell()  # the same for RAM in the direct map; below 4 GiB until that is built
    max_possible_pfn = Cell()  # the same for RAM that may be plugged in later
    max_pfn_mapped = Cell()  # how far the direct map reaches
    max_low_pfn_mapped = Cell()
    max_mem_size = U64Cell()  # bytes; what mem= allows, hotplug included
    userdef = Cell()  # the command line changed the memory map
    crashk_start = U64Cell()  # the range of crashkernel=, in bytes; both 0 without
    crashk_end = U64Cell()
    initrd_start = U64Cell()  # where the initrd is now (it may have moved), end not included
    initrd_end = U64Cell()
    e820_resources = Cell()  # the first of the resources that e820__reserve_resources made, and how many
    nr_e820_resources = Cell()
    mminit_loglevel = Cell()
    nr_nosave_regions = Cell()
    new_log_buf_len = Cell()  # bytes that the kernel log should have; 0: it stays as it is
    log_buf_len = Cell()  # bytes of the log that was taken from memblock; 0: the one in the image is used
    nogbpages = Cell()  # the command line wants no pages of 1 GiB in the direct map
    nosave_end_pfn = Cell()  # where the last registered nosave region ended
    pci_mem_start = U64Cell()
    # the bounce buffer below 4 GiB (kernel/dma/swiotlb.c); 0 slots or areas: not said yet
    no_iommu = Cell()
    x86_swiotlb_enable = Cell()
    swiotlb_force = Cell()
    default_nslabs = Cell()
    default_nareas = Cell()
    memory_block_size = Cell()  # bytes that go on and off line together
    highmem_given = Cell()  # i386: highmem= says how many pages are to be high
    highmem_pages = Cell()
    vmalloc_reserve = U64Cell()  # i386: bytes of addresses that vmalloc= keeps from the direct map; 0: the usual
    nopentium = Cell()  # i386: the command line wants no large pages (mem=nopentium)
    memtest_pattern = Cell()  # with how many patterns free memory is tested; 0: not at all

    efi_boot_services: Column

    def __init__(self, spec: MachineSpec, printk: Printk | None = None, max_pfn: int = 0) -> None:
        """`max_pfn` is the end of the highest memory that the machine can ever have; 0 if the direct map isn't wanted.

        Raises `BadSpec` for a machine that this version can't boot.
        """
        self.spec = spec
        self.config = bootable_config(spec)
        self.page_table_levels = page_table_levels(spec, self.config)
        self.page_offset_base = kaslr_base(spec, "page_offset_base") or page_offset(self.config, self.page_table_levels)
        self.printk = printk or Printk()
        self.bios = Bios(spec)
        self.boot_params = BootParams()
        self.setup_data = SetupData(len(spec.e820) - E820_MAX_ENTRIES_ZEROPAGE if spec.firmware == "UEFI" else 0)
        self.x86_init = X86InitOps()
        self.e820_table = E820Table(self.config.e820_max_entries, self.printk)
        self.e820_table_kexec = E820Table(self.config.e820_max_entries, self.printk)
        self.e820_table_firmware = E820Table(self.config.e820_max_entries, self.printk)
        self.firmware_map = FirmwareMap(self.config.e820_max_entries + len(spec.dimms))
        self.memblock = Memblock(self.printk, self.config)
        self.direct_map = DirectMap(max_pfn, LAYOUTS[self.page_table_levels].levels[PMD].shift)
        self.ram = Ram(max_pfn)
        self.swapper_pg_dir = PageTables(self.ram, self.page_table_levels)
        self.mmu = Mmu(self.ram, self.page_table_levels, spec.cpus.phys_bits, "pdpe1gb" in spec.cpus.flags, on=False)
        self.mtrr = MtrrState(MemoryTypeRegisters(spec))
        self.pat = PatState()
        # Which entries of the EFI memory map the kernel keeps, and may free later.
        self.efi_boot_services = column("B", len(spec.efi_memory_map))
        self.iomem_resource = ResourceTree(4 * self.config.e820_max_entries)

    @property
    def max_arch_pfn(self) -> int:
        """MAX_ARCH_PFN of this kernel with these page tables."""
        return self.config.max_arch_pfn(self.page_table_levels)


@invented("a machine that this version can't boot is refused before it starts")
def bootable_config(spec: MachineSpec) -> KernelConfig:
    """The configuration of the spec's kernel; raises `BadSpec` if machines like this can't be booted yet."""
    config = CONFIGS.get(spec.kernel)
    if config is None:
        refusal = f"kernel {spec.kernel!r} is not modelled: this is a model of Linux 6.1"
    elif spec.arch != config.arch:
        refusal = f"booting kernel {spec.kernel!r} on an {spec.arch} machine is not modelled"
    else:
        return config
    suited = " or ".join(f'"{key}"' for key, known in CONFIGS.items() if known.arch == spec.arch)
    raise BadSpec(refusal, where=f"machine {spec.name!r}", remedy=f'use "kernel": {suited}')


@invented("C asks CPUID and the command line while it still decompresses itself")
def page_table_levels(spec: MachineSpec, config: KernelConfig) -> int:
    """How deep page tables are: five levels if the CPU has la57 and nobody said no5lvl."""
    deep = "la57" in spec.cpus.flags and "no5lvl" not in spec.cmdline.split()
    return 5 if deep and 5 in config.page_table_levels else config.page_table_levels[0]


@invented("KASLR draws it by lot at each boot; the machine's description may tell what it drew", traced=False)
def kaslr_base(spec: MachineSpec, base: str) -> int | None:
    """Where KASLR put the area of a 64-bit kernel whose variable is `base`; None if it is off, or nobody has told."""
    if spec.arch == "i386" or "nokaslr" in spec.cmdline.split():
        return None
    told: int | None = getattr(spec.image, base)
    return told


@kernel(
    "arch/x86/include/asm/page_64_types.h",
    "__PAGE_OFFSET_BASE_L4",
    left_out="32 bit has a name of its own",
    traced=False,
)
def page_offset(config: KernelConfig, levels: int) -> int:
    """Where the direct map starts without KASLR, by the levels of page tables."""
    return PAGE_OFFSET_L5 if levels == 5 else config.page_offset
