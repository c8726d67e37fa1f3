"""What Debian configured into its three kernels: the options, and the sizes of structs, that decide numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kmemlab.types.units import PAGE_SHIFT
from kmemlab.types.zone_type import ZONE_NAMES_AMD64, ZONE_NAMES_I386

E820_MAX_ENTRIES_ZEROPAGE = 128  # what fits into the zero page
NUMA_NO_NODE = -1


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """One kernel configuration; sizes in bytes.

    >>> CONFIGS["amd64-6.1"].e820_max_entries, hex(CONFIGS["amd64-6.1"].max_arch_pfn(levels=4))
    (3200, '0x400000000')
    """

    key: str
    arch: str
    zone_names: tuple[str, ...]
    numa: bool
    nodes_shift: int
    nr_cpus: int
    highmem: bool
    phys_addr_bits: int  # the width of phys_addr_t
    physmem_bits: tuple[tuple[int, int], ...]  # page-table levels and the physical address bits they reach
    sparsemem: bool
    section_size_bits: int  # 0 without SPARSEMEM
    deferred_struct_page_init: bool
    pageblock_order: int
    physical_align: int
    page_offset: int  # where the direct map starts without KASLR; with 4 levels on amd64
    sizeof_page: int
    sizeof_pglist_data: int
    sizeof_resource: int
    sizeof_memblock_region: int
    sizeof_pointer: int
    sizeof_pte: int
    sizeof_mem_section: int
    sizeof_mem_section_usage: int  # with the map of pageblock types of one section
    sizeof_nosave_region: int
    sizeof_firmware_map_entry: int
    thread_size: int
    cpu_entry_area: int  # for each possible CPU
    init_pgt_buf_pages: int  # INIT_PGD_PAGE_COUNT: pages of the brk for the first page tables
    percpu_atom_size: int  # allocations of per-CPU units are multiples of it
    cpumask_offstack: bool  # masks of CPUs are too large for variables
    swiotlb: bool
    sizeof_io_tlb_slot: int
    sizeof_io_tlb_area: int
    sizeof_pcpu_chunk: int  # without its bitmap of populated pages

    @property
    def max_numnodes(self) -> int:
        """How many nodes node masks have room for; also the nid that means *not set*."""
        return 1 << self.nodes_shift

    @property
    def zone_normal(self) -> int:
        """The index of ZONE_NORMAL: the highest zone that the kernel can use for itself."""
        return self.zone_names.index("Normal")

    @property
    def e820_max_entries(self) -> int:
        """The capacity of an e820 table: what the zero page holds, and three more a node."""
        return E820_MAX_ENTRIES_ZEROPAGE + 3 * self.max_numnodes

    @property
    def phys_addr_max(self) -> int:
        """The largest number that a phys_addr_t holds."""
        return (1 << self.phys_addr_bits) - 1

    @property
    def page_table_levels(self) -> tuple[int, ...]:
        """The depths of page tables that this kernel can run with, the usual one first."""
        return tuple(levels for levels, _ in self.physmem_bits)

    def max_physmem_bits(self, levels: int) -> int:
        """The physical address bits that page tables of this depth reach."""
        return dict(self.physmem_bits)[levels]

    def max_arch_pfn(self, levels: int) -> int:
        """MAX_ARCH_PFN: the page frame behind the last one that the kernel can use at all."""
        return 1 << (self.max_physmem_bits(levels) - PAGE_SHIFT)


AMD64 = KernelConfig(
    key="amd64-6.1",
    arch="x86_64",
    zone_names=ZONE_NAMES_AMD64,
    numa=True,
    nodes_shift=10,
    nr_cpus=8192,
    highmem=False,
    phys_addr_bits=64,
    physmem_bits=((4, 46), (5, 52)),
    sparsemem=True,
    section_size_bits=27,
    deferred_struct_page_init=True,
    pageblock_order=9,
    physical_align=2 << 20,
    page_offset=0xFFFF888000000000,
    sizeof_page=64,
    sizeof_pglist_data=174208,
    sizeof_resource=64,
    sizeof_memblock_region=24,
    sizeof_pointer=8,
    sizeof_pte=8,
    sizeof_mem_section=32,
    sizeof_mem_section_usage=56,
    sizeof_nosave_region=32,
    sizeof_firmware_map_entry=104,
    thread_size=16384,
    cpu_entry_area=241664,
    init_pgt_buf_pages=16,
    percpu_atom_size=2 << 20,
    cpumask_offstack=True,
    swiotlb=True,
    sizeof_io_tlb_slot=24,
    sizeof_io_tlb_area=16,
    sizeof_pcpu_chunk=136,
)

I386_PAE = KernelConfig(
    key="i386-pae-6.1",
    arch="i386",
    zone_names=ZONE_NAMES_I386,
    numa=False,
    nodes_shift=0,
    nr_cpus=32,
    highmem=True,
    phys_addr_bits=64,
    physmem_bits=((3, 36),),
    sparsemem=False,
    section_size_bits=0,
    deferred_struct_page_init=False,
    pageblock_order=9,
    physical_align=16 << 20,
    page_offset=0xC0000000,
    sizeof_page=40,
    sizeof_pglist_data=4416,
    sizeof_resource=40,
    sizeof_memblock_region=20,
    sizeof_pointer=4,
    sizeof_pte=8,
    sizeof_mem_section=0,
    sizeof_mem_section_usage=0,
    sizeof_nosave_region=16,
    sizeof_firmware_map_entry=64,
    thread_size=8192,
    cpu_entry_area=176128,
    init_pgt_buf_pages=6,
    percpu_atom_size=4096,
    cpumask_offstack=False,
    swiotlb=True,
    sizeof_io_tlb_slot=16,
    sizeof_io_tlb_area=12,
    sizeof_pcpu_chunk=92,
)

# Without PAE: two levels of page tables, entries and physical addresses of 32 bits, large pages of 4 MiB.
I386 = replace(
    I386_PAE,
    key="i386-6.1",
    phys_addr_bits=32,
    physmem_bits=((2, 32),),
    pageblock_order=10,
    swiotlb=False,
    sizeof_resource=32,
    sizeof_memblock_region=12,
    sizeof_pte=4,
)

CONFIGS = {config.key: config for config in (AMD64, I386_PAE, I386)}
