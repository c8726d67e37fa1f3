"""The panel of a cache of SLUB: its slabs, the CPU's slab, and the freelist through the objects."""

from __future__ import annotations

from typing import Any

from kmemlab.alloc.slub_def import SlubCache
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.slab_snapshot import find_cache
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.machine.slub_snapshot import SlubShot, slub_shot
from kmemlab.sim.recording import plain_column
from kmemlab.sim.timeline import Call, Event
from kmemlab.types.errors import BadRequest
from kmemlab.views.panel import Sight, What
from kmemlab.views.slub_view import chain_text, keeper_text, slub_alt, slub_svg


class SlubPanel:
    """One cache of SLUB, by its name."""

    stage = "slab"
    proc_name = "/proc/slabinfo"

    def __init__(self, kernel: Kernel, name: str) -> None:
        """Raises `BadRequest` unless the machine has such a cache, and SLUB."""
        cache = find_cache(kernel.slab, name)
        if not isinstance(cache, SlubCache):
            raise BadRequest(
                f"SLUB has no cache {name!r} of its own", where="SlubPanel",
                remedy="boot with SLUB, and make the cache before you look at it",
            )  # fmt: skip
        self.kernel = kernel
        self.cache = cache
        self.rows = 0

    def prepare(self, calls: list[Call]) -> None:
        """Leave room for the slabs that will come."""
        self.rows = 1 + sum(call.name == "new_slab" for call in calls)

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the cache."""
        shot = slub_shot(self.cache)
        facts: list[tuple[str, str]] = []
        per_cpu, row = self.cache.per_cpu, self.cache.cpu_slab
        for cpu in range(per_cpu.nr_cpus):
            slab = per_cpu.slab[row + cpu]
            facts.append((f"CPU {cpu}'s slab", f"pfn {slab}" if slab else "none"))
        for slab_shot in shot.slabs:
            name = f"pfn {slab_shot.pfn}"
            facts.append((f"{name} is", keeper_text(slab_shot)))
            facts.append((f"{name} freelist (CPU)", chain_text(slab_shot.cpu_freelist) or "empty"))
            facts.append((f"{name} freelist (slab)", chain_text(slab_shot.freelist) or "empty"))
            facts.append((f"{name} inuse", str(self.cache.pages.inuse[slab_shot.pfn])))
        current = what.number if what and what.kind == "slab" else per_cpu.slab[row + self.cache.current.cpu]
        return Sight(slub_svg(shot, self.rows, current), slub_alt(shot), self._proc(shot), tuple(facts))

    def _proc(self, shot: SlubShot) -> str:
        line = next(line for line in slabinfo(self.kernel).splitlines() if line.split()[0] == shot.name)
        return line.partition(" : tunables")[0]

    def wrote(self, event: Event) -> What | None:
        """A CPU's slab or freelist of this cache, or a slab's own freelist."""
        per_cpu, pages = self.cache.per_cpu, self.cache.pages
        rows = range(self.cache.cpu_slab, self.cache.cpu_slab + per_cpu.nr_cpus)
        per_cpu_columns: tuple[tuple[str, Any], ...] = (
            ("cpu freelist", per_cpu.freelist), ("cpu slab", per_cpu.slab), ("cpu partial", per_cpu.partial),
        )  # fmt: skip
        for kind, column in per_cpu_columns:
            if event.column is plain_column(column) and event.index in rows:
                return What(kind, event.index - rows.start)
        if event.column is plain_column(pages.freelist) and pages.slab_cache[event.index] == self.cache.number:
            return What("slab", event.index)
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """What the list or the slab is now."""
        shot = slub_shot(self.cache)
        if what.kind == "slab":
            own = next((slab.freelist for slab in shot.slabs if slab.pfn == what.number), ())
            return f"{by} sets the own freelist of the slab at pfn {what.number}: {chain_text(own) or 'empty'}."
        per_cpu, row = self.cache.per_cpu, self.cache.cpu_slab + what.number
        slab = per_cpu.slab[row]
        if what.kind == "cpu slab":
            told = f"the slab at pfn {slab}" if slab else "no slab"
            return f"{by} gives CPU {what.number} {told}."
        if what.kind == "cpu partial":
            first = per_cpu.partial[row]
            return f"{by} sets CPU {what.number}'s reserve: " + (
                f"first the slab at pfn {first}." if first else "none."
            )
        mine = next((item.cpu_freelist for item in shot.slabs if item.pfn == slab), ())
        return f"{by} sets CPU {what.number}'s freelist: {chain_text(mine) or 'empty'}."
