"""setup_per_cpu_areas: x86's part of per-CPU memory, and the masks of CPUs that are no variables (MAXSMP)."""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_alloc_or_panic
from kmemlab.boot.numa import NumaInfo, nodes_of
from kmemlab.boot.percpu import bitmap_bytes, pcpu_embed_first_chunk
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.sim.kernel import kernel


@kernel("arch/x86/kernel/setup_percpu.c", "setup_per_cpu_areas", left_out="percpu_alloc=page; filling the areas")
def setup_per_cpu_areas(boot: Boot, numa: NumaInfo) -> None:
    """Give each possible CPU its own copy of the kernel's per-CPU variables."""
    possible = num_possible_cpus(boot.spec)
    boot.printk.info(
        f"setup_percpu: NR_CPUS:{boot.config.nr_cpus} nr_cpumask_bits:{possible} nr_cpu_ids:{possible} "
        f"nr_node_ids:{nr_node_ids(numa)}"
    )
    pcpu_embed_first_chunk(boot, numa, boot.spec.image.percpu_dynamic, boot.config.percpu_atom_size)
    if boot.config.cpumask_offstack:
        setup_node_to_cpumask_map(boot, numa)
        setup_cpu_local_masks(boot)


@kernel("mm/page_alloc.c", "setup_nr_node_ids", traced=False)
def nr_node_ids(numa: NumaInfo) -> int:
    """One more than the highest possible node."""
    return max(nodes_of(numa.node_possible), default=0) + 1


@kernel("arch/x86/mm/numa.c", "setup_node_to_cpumask_map", left_out="filling the masks")
def setup_node_to_cpumask_map(boot: Boot, numa: NumaInfo) -> None:
    """Take a mask of CPUs for each node."""
    for _ in range(nr_node_ids(numa)):
        alloc_bootmem_cpumask_var(boot)


@kernel("arch/x86/kernel/cpu/common.c", "setup_cpu_local_masks")
def setup_cpu_local_masks(boot: Boot) -> None:
    """Take the four masks by which CPUs are brought up."""
    for _ in ("cpu_initialized_mask", "cpu_callin_mask", "cpu_callout_mask", "cpu_sibling_setup_mask"):
        alloc_bootmem_cpumask_var(boot)


@kernel("lib/cpumask.c", "alloc_bootmem_cpumask_var")
def alloc_bootmem_cpumask_var(boot: Boot) -> None:
    """Take one mask, a bit a possible CPU."""
    memblock_alloc_or_panic(boot.memblock, bitmap_bytes(num_possible_cpus(boot.spec)), 64, "alloc_bootmem_cpumask_var")
