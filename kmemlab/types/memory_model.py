"""The memory models of Linux: ways from a page frame's number to its `struct page`, and back."""

from __future__ import annotations

from enum import Enum


class MemoryModelKind(Enum):
    """One choice of the kernel's configuration.

    `versions` says for which kernels a machine like a PC could choose it, as far as the course tells.
    """

    FLATMEM = ("FLATMEM", "x86-32 without NUMA; x86-64 without NUMA until 2.6.24")
    DISCONTIGMEM = ("DISCONTIGMEM", "x86-32 with NUMA until 5.13; x86-64 until 2.6.24")
    SPARSEMEM_STATIC = ("SPARSEMEM (static)", "x86-32")
    SPARSEMEM_EXTREME = ("SPARSEMEM (extreme)", "x86-64 without 5-level page tables")
    SPARSEMEM_VMEMMAP = ("SPARSEMEM_VMEMMAP", "x86-64 since 2.6.25")

    def __init__(self, title: str, versions: str) -> None:
        self.title = title
        self.versions = versions

    @property
    def sparse(self) -> bool:
        """Whether the memory map is cut into sections."""
        return self in (self.SPARSEMEM_STATIC, self.SPARSEMEM_EXTREME, self.SPARSEMEM_VMEMMAP)

    @property
    def classic(self) -> bool:
        """Whether each page must know its section (CONFIG_SPARSEMEM without CONFIG_SPARSEMEM_VMEMMAP)."""
        return self in (self.SPARSEMEM_STATIC, self.SPARSEMEM_EXTREME)
