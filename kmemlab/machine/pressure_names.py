"""Names of sysfs that were in memory when a trace began: the first thing that a real machine's kswapd takes long for.

Whoever saved the machine's state read /sys/kernel/slab, a directory a cache, and a link for each alias. The dentries of
all these stay on the LRU list of sysfs, which asks no disk for them (seeks 0), so each run of kswapd wants half of it:

dentry LRU    │ used again: to the end, once │ used once: freed, with its inode │   in batches of 1024
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kmemlab.alloc.dcache import SUPER_BATCH
from kmemlab.machine.saved_text import read_text
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_event import SLABS_SCANNED
from kmemlab.reclaim.scan_control import DEF_PRIORITY
from kmemlab.reclaim.shrinker import (
    SHRINK_STOP,
    SHRINKERS,
    ShrinkControl,
    Shrinker,
    do_shrink_slab,
    registered_shrinker,
)
from kmemlab.sim.kernel import invented
from kmemlab.types.gfp import __GFP_FS as GFP_FS
from kmemlab.types.gfp import GFP_KERNEL

# Names that are read before and after the tables that are saved: of devices, modules and the kernel's own. They were
# chosen so that all names are as many as Linux counted in four traces; in sixteen others they are, too, to one.
EARLIER, LATER = 91, 71
AT_ONCE = 16  # names, after which whoever frees them may lose the CPU


@invented("the LRU list of dentries of sysfs, as it was when a trace began")
class SavedNames:
    """The names on the list, oldest first: whether each was used again since it came there."""

    def __init__(self, used_again: list[bool], scanned: int = 0) -> None:
        """`scanned` tells how many had been looked at before the trace."""
        self.used_again = deque(used_again)
        self.scanned = scanned

    def look_at(self, names: int) -> int:
        """Look at so many of the oldest; how many of them go."""
        kept = sum(self.used_again.popleft() for _ in range(names))
        self.used_again.extend([False] * kept)
        return names - kept

    @contextmanager
    def in_force(self, mm: Mm, looked_at: Callable[[int, int], None]) -> Iterator[None]:
        """While this lasts reclaim asks here, too; `looked_at` is told how many names went, and how many stayed."""
        in_time = False

        def count(mm: Mm, sc: ShrinkControl) -> int:
            return 0 if sc.nid else len(self.used_again)

        def scan(mm: Mm, sc: ShrinkControl) -> int:
            if not sc.gfp_mask & GFP_FS:
                return SHRINK_STOP
            freed, wanted = 0, min(sc.nr_to_scan + 1, len(self.used_again))  # C stops after the next, too
            for at in range(0, wanted, AT_ONCE):
                names = min(AT_ONCE, wanted - at, len(self.used_again))
                went = self.look_at(names)
                freed += went
                if in_time:
                    looked_at(went, names - went)
            return freed

        with registered_shrinker(Shrinker("sb-sysfs", count, scan, seeks=0, batch=SUPER_BATCH)):
            self.catch_up(mm)
            in_time = True
            yield

    def catch_up(self, mm: Mm) -> None:
        """Do what was done before the trace: some names have gone already, and some work was put off."""
        number, before = len(SHRINKERS) - 1, -1
        until = mm.vm_event[SLABS_SCANNED] + self.scanned
        while before < mm.vm_event[SLABS_SCANNED] < until:
            before = mm.vm_event[SLABS_SCANNED]
            do_shrink_slab(mm, GFP_KERNEL, 0, number, DEF_PRIORITY)


@invented("what saved tables tell of names in memory")
def saved_names(folder: Path) -> SavedNames:
    """The names that were looked up to write a machine's tables, in that order; none where slab_table.txt is missing.

    Names of a cache with aliases were used again, by way of these; so were the links themselves.
    """
    rows = [line.split("\t") for line in lines_of(folder, "slab_table.txt")]
    counters = dict(line.split()[:2] for line in (read_text(folder / "before", "vmstat.txt") or "").splitlines())
    scanned = int(counters.get("slabs_scanned", 0))
    if not rows:
        return SavedNames([], scanned)
    columns = max(len(row) for row in rows) - 2
    aliased = {row[1] for row in rows}
    names = [False] * (1 + 3 * len(lines_of(folder, "firmware_memmap.txt")) + EARLIER)
    for name, target in (row[:2] for row in rows):
        names += [name in aliased] * columns if target == "-" else [True]
    nodes = len(list((folder / "nodes").glob("node*_meminfo.txt")))
    names += [False] * (4 * len(lines_of(folder, "memory_blocks.txt")) + 5 * nodes + 6)
    names += [True] * (9 + len(lines_of(folder, "sys_kernel_mm.txt")))
    return SavedNames(names + [False] * LATER, scanned)


@invented("a part of saved_names", traced=False)
def lines_of(folder: Path, name: str) -> list[str]:
    """The lines of a saved table below its first."""
    return (read_text(folder, name) or "").splitlines()[1:]
