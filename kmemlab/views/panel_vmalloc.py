"""The panel of vmalloc: areas appear, their pages are mapped one by one, and what is freed waits for a purge."""

from __future__ import annotations

from kmemlab.machine.kernel import Kernel
from kmemlab.machine.vmalloc_snapshot import LAZY, VmallocSnapshot, vmalloc_snapshot
from kmemlab.machine.vmallocinfo import vmallocinfo
from kmemlab.sim.recording import plain_column
from kmemlab.sim.timeline import Call, Event
from kmemlab.views.panel import Sight, What
from kmemlab.views.vmalloc_areas import IN_A_PANEL, drawn, runs_text, vmalloc_text

_MAPS = ("vmap_pages_pte_range", "vmap_range_noflush")
_GIVES = "vm_area_alloc_pages"


class VmallocPanel:
    """The areas, and the page frames behind them."""

    stage = "vmalloc"
    proc_name = "/proc/vmallocinfo"

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.window: tuple[int, int] | None = None

    def prepare(self, calls: list[Call]) -> None:
        """Learn which page frames will come, so that the lower row keeps its scale from the first step on."""
        pfns = [pfn for call in calls if call.name == _GIVES and isinstance(call.value, list) for pfn in call.value]
        self.window = (min(pfns), max(pfns)) if pfns else None

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the areas and the page tables."""
        vmalloc = vmalloc_snapshot(self.kernel.mm)
        alt = vmalloc_text(vmalloc).replace("\n", "; ")
        picture = drawn(vmalloc, self.window, IN_A_PANEL)
        return Sight(picture, alt, vmallocinfo(self.kernel).rstrip(), tuple(self._facts(vmalloc)))

    def wrote(self, event: Event) -> What | None:
        """A page-table entry of an area."""
        if event.column is plain_column(self.kernel.boot.ram.words) and event.stack[-1].name in _MAPS:
            return What("entry", event.index)
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """What the entry leads to now."""
        entry = self.kernel.boot.ram.words[what.number]
        pfn = (entry & self.kernel.boot.swapper_pg_dir.layout.address_mask) >> 12
        return f"{by} writes an entry: the next page of addresses leads to pfn {pfn}."

    def _facts(self, vmalloc: VmallocSnapshot) -> list[tuple[str, str]]:
        facts = [
            (
                f"{area.start:#x}",
                "waits for a purge" if area.kind == LAZY else runs_text(area.pfns, 4) if area.pfns else "taken",
            )
            for area in vmalloc.areas
        ]
        facts.append(("vmap_lazy_nr", str(vmalloc.lazy_pages)))
        facts.append(("purges", str(vmalloc.purges)))
        facts.append(("nr_vmalloc_pages", str(self.kernel.mm.vmalloc.nr_vmalloc_pages)))
        return facts
