"""sysctl and sysfs: the machine's knobs by the names that a shell would use, with the limits that the kernel sets.

vm.min_free_kbytes                         /proc/sys/vm/min_free_kbytes
kernel/mm/transparent_hugepage/enabled     /sys/kernel/mm/transparent_hugepage/enabled
kernel/debug/extfrag/extfrag_index         /sys/kernel/debug/extfrag/extfrag_index, which can only be read
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from kmemlab.alloc.compaction import compact_nodes
from kmemlab.alloc.drop_caches import drop_caches_sysctl_handler
from kmemlab.alloc.hugetlb import set_max_huge_pages
from kmemlab.alloc.kcompactd import compaction_proactiveness_sysctl_handler
from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.extfrag import extfrag_index, unusable_index
from kmemlab.mm.globals import Mm
from kmemlab.mm.sysctl import (
    dirty_background_bytes_handler,
    dirty_background_ratio_handler,
    dirty_bytes_handler,
    dirty_ratio_handler,
    dirty_writeback_centisecs_handler,
    lowmem_reserve_ratio_sysctl_handler,
    min_free_kbytes_sysctl_handler,
    percpu_pagelist_high_fraction_sysctl_handler,
    sysctl_min_slab_ratio_sysctl_handler,
    sysctl_min_unmapped_ratio_sysctl_handler,
    watermark_scale_factor_sysctl_handler,
)
from kmemlab.mm.watermark import THP_ALWAYS, THP_MADVISE, THP_NEVER, start_stop_khugepaged
from kmemlab.process.overcommit import overcommit_kbytes_handler, overcommit_ratio_handler
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import INT_MAX, PAGE_SIZE, U64_MAX

LONG_MAX = U64_MAX >> 1  # what a cell holds; C has an unsigned long there

THP_MODES = {"always": THP_ALWAYS, "madvise": THP_MADVISE, "never": THP_NEVER}


@kernel("include/linux/sysctl.h", "struct ctl_table", left_out="permissions, files and folders")
@dataclass(frozen=True, slots=True)
class CtlTable:
    """One number that can be written, and read unless `read` is None: who does it, and from `least` to `most`."""

    read: Callable[[Mm], int] | None
    write: Callable[[Mm, int], None]
    least: int = 0
    most: int = INT_MAX


@invented("proc_dointvec_minmax writes where the table points", traced=False)
def plain(cell: Cell, least: int = 0, most: int = INT_MAX) -> CtlTable:
    """A tunable that nothing is set off by: whoever needs it looks at it."""

    def write(mm: Mm, value: int) -> None:
        mm.cells[cell.index] = value

    return CtlTable(lambda mm: mm.cells[cell.index], write, least, most)


@kernel("mm/hugetlb.c", "hugetlb_sysctl_handler", left_out="reserved pages")
def hugetlb_sysctl_handler(mm: Mm, value: int) -> None:
    """Make the default pool as large as said, or as can be."""
    if mm.hugetlb.registered():
        set_max_huge_pages(mm, mm.hugetlb.default_hstate_idx, value)


@invented("a part of the default pool's sysctl", traced=False)
def nr_hugepages(mm: Mm) -> int:
    """The pages of the default pool."""
    pools = mm.hugetlb.registered()
    return pools[mm.hugetlb.default_hstate_idx].nr_huge_pages if pools else 0


@invented("proc_dointvec_minmax reads where the table points", traced=False)
def page_cluster(mm: Mm) -> int:
    """How many pages are read from swap at once at most, as a power of two."""
    return mm.swap.page_cluster


@invented("proc_dointvec_minmax writes where the table points")
def set_page_cluster(mm: Mm, value: int) -> None:
    """Set how many pages are read from swap at once at most: two to that power."""
    mm.swap.page_cluster = value


@kernel("mm/compaction.c", "sysctl_compaction_handler", traced=False)
def sysctl_compaction_handler(mm: Mm, value: int) -> None:
    """Compact all memory, whatever the number."""
    compact_nodes(mm)


VM_TABLE = {
    "vm.min_free_kbytes": CtlTable(lambda mm: mm.min_free_kbytes, min_free_kbytes_sysctl_handler),
    "vm.watermark_boost_factor": plain(Mm.watermark_boost_factor),
    "vm.watermark_scale_factor": CtlTable(
        lambda mm: mm.watermark_scale_factor, watermark_scale_factor_sysctl_handler, 1, 3000
    ),
    "vm.percpu_pagelist_high_fraction": CtlTable(
        lambda mm: mm.percpu_pagelist_high_fraction, percpu_pagelist_high_fraction_sysctl_handler
    ),
    "vm.min_unmapped_ratio": CtlTable(
        lambda mm: mm.sysctl_min_unmapped_ratio, sysctl_min_unmapped_ratio_sysctl_handler, most=100
    ),
    "vm.min_slab_ratio": CtlTable(lambda mm: mm.sysctl_min_slab_ratio, sysctl_min_slab_ratio_sysctl_handler, most=100),
    "vm.nr_hugepages": CtlTable(nr_hugepages, hugetlb_sysctl_handler),
    "vm.swappiness": plain(Mm.vm_swappiness, most=200),
    "vm.page-cluster": CtlTable(page_cluster, set_page_cluster, most=31),
    "vm.vfs_cache_pressure": plain(Mm.vfs_cache_pressure),
    "vm.drop_caches": CtlTable(None, drop_caches_sysctl_handler, 1, 4),
    "vm.dirty_ratio": CtlTable(lambda mm: mm.vm_dirty_ratio, dirty_ratio_handler, most=100),
    "vm.dirty_bytes": CtlTable(lambda mm: mm.vm_dirty_bytes, dirty_bytes_handler, 2 * PAGE_SIZE, U64_MAX),
    "vm.dirty_background_ratio": CtlTable(
        lambda mm: mm.dirty_background_ratio, dirty_background_ratio_handler, most=100
    ),
    "vm.dirty_background_bytes": CtlTable(
        lambda mm: mm.dirty_background_bytes, dirty_background_bytes_handler, 1, U64_MAX
    ),
    "vm.dirty_expire_centisecs": plain(Mm.dirty_expire_interval),
    "vm.dirty_writeback_centisecs": CtlTable(lambda mm: mm.dirty_writeback_interval, dirty_writeback_centisecs_handler),
    "vm.panic_on_oom": plain(Mm.panic_on_oom, most=2),
    "vm.oom_kill_allocating_task": plain(Mm.oom_kill_allocating_task),
    "vm.oom_dump_tasks": plain(Mm.oom_dump_tasks),
    "vm.overcommit_memory": plain(Mm.sysctl_overcommit_memory, most=2),
    "vm.overcommit_ratio": CtlTable(lambda mm: mm.sysctl_overcommit_ratio, overcommit_ratio_handler),
    "vm.overcommit_kbytes": CtlTable(lambda mm: mm.sysctl_overcommit_kbytes, overcommit_kbytes_handler, most=LONG_MAX),
    "vm.user_reserve_kbytes": plain(Mm.sysctl_user_reserve_kbytes),
}
VM_TABLE |= {
    "vm.compact_memory": CtlTable(None, sysctl_compaction_handler),
    "vm.compaction_proactiveness": CtlTable(
        lambda mm: mm.sysctl_compaction_proactiveness, compaction_proactiveness_sysctl_handler, most=100
    ),
    "vm.extfrag_threshold": plain(Mm.sysctl_extfrag_threshold, most=1000),
    "vm.compact_unevictable_allowed": plain(Mm.sysctl_compact_unevictable_allowed, most=1),
}
HIGHMEM_IS_DIRTYABLE = {"vm.highmem_is_dirtyable": plain(Mm.vm_highmem_is_dirtyable, most=1)}
LOWMEM_RESERVE_RATIO = "vm.lowmem_reserve_ratio"
THP_ENABLED = "kernel/mm/transparent_hugepage/enabled"
VMA_RA_ENABLED = "kernel/mm/swap/vma_ra_enabled"
SHOWN = {
    "kernel/debug/extfrag/extfrag_index": extfrag_index,
    "kernel/debug/extfrag/unusable_index": unusable_index,
}
"""Files below /sys that can only be read."""


@kernel("fs/proc/proc_sysctl.c", "proc_sys_call_handler")
def proc_sys_call_handler(kernel: Kernel, name: str, text: str | None) -> str:
    """Write `text` to a tunable, or read it if that is None; gives the value that it has then.

    Raises `BadRequest` for a name that there is not and for a value that the kernel refuses.
    """
    name = name.replace("/", ".")
    mm = kernel.mm
    if name == LOWMEM_RESERVE_RATIO:
        ratios = None if text is None else numbers_of(name, text)
        if any(abs(ratio) > INT_MAX for ratio in ratios or ()):
            raise BadRequest(
                f"{name} can't be {text!r}", where="sysctl", remedy=f"write numbers of {INT_MAX} at most: C has an int"
            )
        lowmem_reserve_ratio_sysctl_handler(mm, ratios)
        return "\t".join(str(ratio) for ratio in mm.lowmem_reserve_ratio)
    table = VM_TABLE.get(name) or (HIGHMEM_IS_DIRTYABLE if kernel.boot.config.highmem else {}).get(name)
    if table is None:
        known = ", ".join(sorted([*VM_TABLE, LOWMEM_RESERVE_RATIO]))
        raise BadRequest(f"there is no tunable {name!r}", where="sysctl", remedy=f"choose one of {known}")
    if text is not None:
        value = (numbers_of(name, text) or (0,))[0]
        if not table.least <= value <= table.most:
            raise BadRequest(
                f"{name} can't be {value}", where="sysctl", remedy=f"write a number from {table.least} to {table.most}"
            )
        table.write(mm, value)
    if table.read is not None:
        return str(table.read(mm))
    if text is None:
        raise BadRequest(f"{name} can only be written", where="sysctl", remedy="give a value")
    return text.strip()


@kernel("kernel/sysctl.c", "proc_dointvec", traced=False)
def numbers_of(name: str, text: str) -> tuple[int, ...]:
    """The numbers of a line; raises `BadRequest` for anything else.

    >>> numbers_of("vm.lowmem_reserve_ratio", "256 256 32")
    (256, 256, 32)
    """
    words = text.split()
    if not words or not all(re.fullmatch(r"-?[0-9]{1,20}", word) for word in words):
        raise BadRequest(f"{text!r} is no value for {name}", where="sysctl", remedy="write numbers with spaces between")
    return tuple(int(word) for word in words)


@kernel("mm/huge_memory.c", "enabled_store", left_out="its neighbours defrag, use_zero_page and khugepaged/")
def enabled_store(kernel: Kernel, text: str | None) -> str:
    """Switch transparent huge pages on or off, or read how they are switched; gives the line with brackets.

    Every write, one that changes nothing too, has khugepaged see to what is kept free. Raises `BadRequest` for another
    word.
    """
    mm = kernel.mm
    if text is not None:
        if text.strip() not in THP_MODES:
            raise BadRequest(f"{text!r} is no mode", where="sysfs", remedy=f"write one of {', '.join(THP_MODES)}")
        mm.transparent_hugepage = THP_MODES[text.strip()]
        start_stop_khugepaged(mm)
    return " ".join(f"[{mode}]" if mm.transparent_hugepage == number else mode for mode, number in THP_MODES.items())


@kernel("mm/swap_state.c", "vma_ra_enabled_store", formerly=("vma_ra_enabled_show",))
def vma_ra_enabled(kernel: Kernel, text: str | None) -> str:
    """Choose whether pages are read ahead from swap by address where no disk has an arm. Raises `BadRequest`."""
    if text is not None:
        word = text.strip().lower()
        if word[:1] not in ("y", "t", "1", "n", "f", "0") and word not in ("on", "off"):
            raise BadRequest(f"{text!r} is neither yes nor no", where="sysfs", remedy="write true or false")
        kernel.mm.swap.enable_vma_readahead = int(word[:1] in ("y", "t", "1") or word == "on")
    return "true" if kernel.mm.swap.enable_vma_readahead else "false"


@invented("the file system finds the file, and the file knows its own functions")
def sysfs_file(kernel: Kernel, name: str, text: str | None) -> str:
    """Read a file of /sys, or write it; gives what stands in it then.

    Raises `BadRequest` for a name that there is not (huge pages need a CPU with large pages), for what can't be written
    and for a value that the kernel refuses.
    """
    path = name.strip("/").removeprefix("sys/")
    if path in SHOWN:
        if text is not None:
            raise BadRequest(f"{name} can only be read", where="sysfs", remedy="leave the value out")
        return SHOWN[path](kernel.mm)
    if path == VMA_RA_ENABLED:
        return vma_ra_enabled(kernel, text)
    files = [THP_ENABLED, *SHOWN] if boot_cpu_has(kernel.boot, "pse") else [*SHOWN]
    if path not in files:
        raise BadRequest(
            f"there is no file {name!r}", where="sysfs", remedy=f"choose one of {', '.join([*files, VMA_RA_ENABLED])}"
        )
    return enabled_store(kernel, text)
