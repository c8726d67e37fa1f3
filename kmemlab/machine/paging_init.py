"""paging_init: page tables are there, so the memory map can be made, and zones on it."""

from __future__ import annotations

from kmemlab.boot.kernel_physical_mapping_32 import permanent_kmaps_init
from kmemlab.boot.x86_init import x86_init_call, x86_init_function
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.stage import Stage, run_column
from kmemlab.mm.free_area_init import zone_sizes_init
from kmemlab.mm.globals import Mm
from kmemlab.mm.sparse import sparse_init
from kmemlab.sim.kernel import invented, kernel


@invented("x86_init.paging.pagetable_init(), a line of setup_arch")
def pagetable_init(kernel: Kernel, until: str | None = None) -> bool:
    """Let the platform finish its page tables and set up what stands on them. True if stopped at `until`."""
    stopped: bool = x86_init_call(kernel.boot.x86_init, "paging.pagetable_init", kernel, until)
    return stopped


@x86_init_function
@kernel("arch/x86/mm/init_64.c", "paging_init", formerly=("native_pagetable_init",))
def paging_init(kernel: Kernel, until: str | None = None) -> bool:
    """The memory map, then zones. True if stopped at `until`."""
    return run_column(kernel, PAGING_INIT, until)


@x86_init_function
@kernel(
    "arch/x86/mm/init_32.c",
    "native_pagetable_init",
    left_out="unmapping what the boot tables map behind the end of memory; the devicetree of OLPCs",
)
def native_pagetable_init(kernel: Kernel, until: str | None = None) -> bool:
    """i386: a table for kmap first. True if stopped at `until`."""
    return paging_init(kernel, until)


@kernel("include/linux/nodemask.h", "node_clear_state")
def node_clear_state(mm: Mm) -> None:
    """Nobody has said yet that node 0 has memory; in C it had, from compiling."""
    mm.node_has_memory[0] = 0


# fmt: off
PAGING_INIT = (
    Stage(permanent_kmaps_init,        "boot",   "a page table for kmap", only="i386"),
    Stage(sparse_init,                 "mm",     "memory for the memory map itself", only="x86_64"),
    Stage(node_clear_state,            "mm",     "which nodes have memory is found out now", only="x86_64"),
    Stage(zone_sizes_init,             "mm",     "zones, and the memory map filled in"),
)
# fmt: on
