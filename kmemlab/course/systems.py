"""What the course covers: every system of Linux's memory management from the BIOS to the OOM killer, and the names by
which a reader may look for it. Where a name is an old one, today's stands beside it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """One thing that the course covers, the chapter that it belongs to, and the names that must appear there."""

    title: str
    chapter: str
    names: tuple[str, ...]


SYSTEMS = (
    System("the whole way of memory, in one picture", "00", ("start_kernel", "MemTotal", "free")),
    System(
        "asking the BIOS: int 0x15 with E820h, E801h and 88h",
        "01",
        ("detect_memory", "detect_memory_e820", "detect_memory_e801", "detect_memory_88", "SMAP", "e820entry"),
    ),
    System("the packed entries and the zero page", "01", ("boot_params", "boot_e820_entry", "e820map")),
    System("hooks of the platform", "01", ("x86_init", "memory_setup")),
    System(
        "the kernel's own map of memory",
        "01",
        (
            "setup_memory_map", "e820__memory_setup", "sanitize_e820_map", "e820__update_table", "append_e820_map",
            "append_e820_table", "e820_add_region", "e820__range_add", "e820_print_map", "e820__print_table", "mem=",
            "memmap=",
        ),
    ),
    System(
        "where memory ends",
        "01",
        ("e820_end_of_ram_pfn", "e820__end_of_ram_pfn", "e820_end_pfn", "max_pfn", "max_low_pfn", "MAX_ARCH_PFN"),
    ),
    System("what the firmware said, for everybody to read", "01", ("/proc/iomem", "/sys/firmware/memmap", "dmesg")),
    System("memory before there is an allocator", "02", ("memblock", "memblock_add_range", "memblock_reserve")),
    System("its forerunner's bitmap", "02", ("bootmem", "node_active_region")),
    System(
        "what boot reserves, in order",
        "02",
        (
            "setup_real_mode", "memblock_set_current_limit", "reserve_initrd", "acpi_boot_table_init", "initmem_init",
            "early_trap_pf_init",
        ),
    ),
    System("which memory may be cached, and how", "02", ("mtrr_bp_init", "/proc/mtrr", "PAT", "WB", "UC")),
    System("memory that is tested early", "02", ("early_memtest",)),
    System("the hand-over to the page allocator", "02", ("memblock_free_all",)),
    System("page tables of two, three, four and five levels", "03", ("PAE", "folded", "pgd_populate", "PGD", "PTE")),
    System(
        "the direct map",
        "03",
        (
            "init_mem_mapping", "probe_page_size_mask", "init_gbpages", "init_memory_mapping", "split_mem_range",
            "kernel_physical_mapping_init", "add_pfn_range_mapped", "DirectMap2M",
        ),
    ),
    System("CR3, the TLB and faults", "03", ("load_cr3", "__flush_tlb_all", "CR3", "TLB", "page fault")),
    System("where user space ends and the kernel begins", "03", ("TASK_SIZE", "PAGE_OFFSET", "__va", "__pa")),
    System(
        "from the map of memory to nodes and zones",
        "04",
        (
            "paging_init", "pagetable_init", "sparse_init", "node_clear_state", "zone_sizes_init",
            "free_area_init_nodes", "free_area_init", "build_all_zonelists", "page_alloc_init",
        ),
    ),
    System("one memory or several: UMA and NUMA", "04", ("UMA", "NUMA", "pg_data_t", "SLIT")),
    System(
        "zones",
        "04",
        ("ZONE_DMA", "ZONE_DMA32", "ZONE_NORMAL", "ZONE_HIGHMEM", "ZONE_MOVABLE", "ZONE_DEVICE", "/proc/zoneinfo"),
    ),
    System("struct page", "04", ("struct page", "flags", "_count", "_mapcount", "mapping", "virtual", "private")),
    System("page frames and their numbers", "04", ("PAGE_SHIFT", "PAGE_SIZE", "PAGE_MASK", "pfn", "mem_map")),
    System(
        "memory models",
        "04",
        (
            "FLATMEM", "DISCONTIGMEM", "SPARSEMEM", "SPARSEMEM_VMEMMAP", "VMEMMAP_START", "page_to_pfn", "pfn_to_page",
            "CONFIG_SPARSEMEM",
        ),
    ),
    System(
        "asking for pages",
        "05",
        (
            "alloc_pages", "alloc_page", "__get_free_pages", "__get_free_page", "get_zeroed_page", "__free_pages",
            "free_pages", "free_page", "page_address",
        ),
    ),
    System("the buddy system", "05", ("order", "buddy", "expand", "fragmentation", "/proc/buddyinfo")),
    System("kinds of pages and where they are kept", "05", ("migratetype", "pageblock", "per-CPU", "compaction")),
    System(
        "objects smaller than a page",
        "06",
        ("kmalloc", "kzalloc", "kfree", "GFP_ATOMIC", "__GFP_ZERO", "__GFP_DMA"),
    ),
    System(
        "caches of objects",
        "06",
        (
            "kmem_cache_create", "kmem_cache_alloc", "kmem_cache_free", "kmem_cache_destroy", "SLUB", "SLAB",
            "constructor",
        ),
    ),
    System("processes and their task_struct", "06", ("fork_init", "dup_task_struct", "task_struct")),
    System("data of each CPU", "06", ("alloc_percpu", "free_percpu", "get_cpu_var", "put_cpu_var")),
    System("reserves for emergencies", "06", ("mempool_create", "mempool_alloc", "mempool_free", "mempool_destroy")),
    System("rows of scattered pages", "07", ("vmalloc", "vfree", "VMALLOC_START", "VMALLOC_END", "/proc/vmallocinfo")),
    System("high memory", "07", ("kmap", "kunmap", "kmap_atomic", "pkmap")),
    System("kernel stacks", "07", ("THREAD_SIZE", "guard page")),
    System("the page cache", "08", ("page cache", "Buffers", "Cached", "Dirty", "free", "top")),
    System(
        "who gives memory back",
        "08",
        (
            "kswapd", "kswapd_init", "kthread_run", "PG_referenced", "pages_min", "pages_low", "pages_high",
            "watermark", "min_free_kbytes", "init_per_zone_wmark_min", "lowmem_reserve",
        ),
    ),
    System("when nothing is left", "08", ("swap", "oom_badness", "OOM")),
    System("user space reaching pages", "09", ("malloc", "brk", "mmap", "copy on write")),
    System("which allocator to call", "09", ("which allocator", "page frame", "getconf PAGE_SIZE")),
)  # fmt: skip
