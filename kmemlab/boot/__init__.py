"""Floor 3: the kernel before it has a page allocator: detection, e820, memblock, NUMA."""
