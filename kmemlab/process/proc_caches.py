"""The caches that the structs of processes come from, and taking structs of them.

task_struct   6208 bytes    kernel/fork.c: fork_init          vm_area_struct  152    kernel/fork.c: mmap_init …
mm_struct     1152          kernel/fork.c: proc_caches_init   anon_vma         96    mm/rmap.c: anon_vma_init

What the kernel has in these structs is in columns here; the objects are there so that memory is used as it is there.
"""

from __future__ import annotations

from typing import Any

from kmemlab.alloc.kmem_cache import SLAB_ACCOUNT, SLAB_HWCACHE_ALIGN, SLAB_PANIC, SLAB_TYPESAFE_BY_RCU
from kmemlab.alloc.slab_common import kmem_cache_alloc, kmem_cache_free
from kmemlab.alloc.slab_create import kmem_cache_create
from kmemlab.boot.globals import Boot
from kmemlab.process.mm_struct import ProcessMemory
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import GFP_KERNEL

# What Debian's three kernels have: amd64, 686-pae, 686.
TASK_STRUCT = {4: 6208, 5: 6208, 3: 3008, 2: 2944}
MM_STRUCT = {4: 1152, 5: 1152, 3: 576, 2: 576}
VM_AREA_STRUCT = {4: 152, 5: 152, 3: 80, 2: 72}
ANON_VMA = {8: 96, 4: 52}
TASK_ALIGN = 64


@invented("C's compiler knows: sizeof")
def struct_size(boot: Boot, sizes: dict[int, int]) -> int:
    """The bytes of a struct, by how many levels the page tables of this kernel have."""
    return sizes[boot.page_table_levels]


@kernel("kernel/fork.c", "fork_init", left_out="limits on the number of tasks; the CPU's larger floating-point states")
def fork_init(common: ProcessMemory) -> None:
    """Make the cache that task_structs come from."""
    size = struct_size(common.mm.boot, TASK_STRUCT)
    cache = kmem_cache_create(common.slab, "task_struct", size, TASK_ALIGN, SLAB_PANIC | SLAB_ACCOUNT)
    assert cache is not None
    common.task_struct_cachep = cache.number


@kernel("kernel/fork.c", "proc_caches_init", left_out="sighand_cache, signal_cache, files_cache, fs_cache")
def proc_caches_init(common: ProcessMemory) -> None:
    """Make the caches that mm_structs and VMAs come from."""
    boot = common.mm.boot
    flags = SLAB_HWCACHE_ALIGN | SLAB_PANIC | SLAB_ACCOUNT
    mm_cachep = kmem_cache_create(common.slab, "mm_struct", struct_size(boot, MM_STRUCT), 0, flags)
    vm_area_cachep = kmem_cache_create(
        common.slab, "vm_area_struct", struct_size(boot, VM_AREA_STRUCT), 0, SLAB_PANIC | SLAB_ACCOUNT
    )
    assert mm_cachep is not None
    assert vm_area_cachep is not None
    common.mm_cachep, common.vm_area_cachep = mm_cachep.number, vm_area_cachep.number


@kernel("mm/rmap.c", "anon_vma_ctor", traced=False)
def anon_vma_ctor(memory: Any, address: int) -> None:
    """A new object of the cache: its lock and its tree are empty, which is all zeros."""


@kernel("mm/rmap.c", "anon_vma_init", left_out="the cache of anon_vma_chains")
def anon_vma_init(common: ProcessMemory) -> None:
    """Make the cache that anon_vmas come from."""
    size = ANON_VMA[common.mm.boot.config.sizeof_pointer]
    flags = SLAB_TYPESAFE_BY_RCU | SLAB_PANIC | SLAB_ACCOUNT
    cache = kmem_cache_create(common.slab, "anon_vma", size, 0, flags, anon_vma_ctor)
    assert cache is not None
    common.anon_vma_cachep = cache.number


@invented("C does it at boot; here boot keeps the slabs it had, and the first process brings the caches")
def caches_for_processes(common: ProcessMemory) -> None:
    """Make the four caches, unless they are there."""
    if not common.task_struct_cachep:
        anon_vma_init(common)
        fork_init(common)
        proc_caches_init(common)


@invented("a line that each of C's …_alloc has", traced=False)
def new_object(common: ProcessMemory, cachep: int) -> int:
    """The address of an object of a cache; 0 if there is no memory."""
    return kmem_cache_alloc(common.slab.caches[cachep], GFP_KERNEL) or 0


@invented("a line that each of C's …_free has", traced=False)
def free_object(common: ProcessMemory, cachep: int, address: int) -> None:
    """Give an object back to its cache."""
    kmem_cache_free(common.slab.caches[cachep], address)
