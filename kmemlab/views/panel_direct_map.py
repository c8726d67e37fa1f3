"""The panel of the direct map: it grows, window by window; at the right what /proc/meminfo would say of it."""

from __future__ import annotations

from itertools import pairwise

from kmemlab.boot.globals import Boot
from kmemlab.boot.page_tables import pfn_mapped
from kmemlab.machine.procfs import arch_report_meminfo
from kmemlab.machine.snapshot import Range
from kmemlab.sim.timeline import Call, Event
from kmemlab.types.units import size_text
from kmemlab.views.direct_map import direct_map_svg, direct_map_text, mapped_by_size
from kmemlab.views.panel import Sight, What
from kmemlab.views.told import told

_MAPS = ("init_memory_mapping", "kernel_physical_mapping_init", "phys_pmd_init", "phys_pte_init", "phys_pud_init")


class DirectMapPanel:
    """Which RAM can be reached, by pages of which size."""

    stage = "page tables"
    proc_name = "/proc/meminfo, if it were there"

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        self.reach: tuple[Range, ...] = ()

    def prepare(self, calls: list[Call]) -> None:
        """Learn what will be mapped, so that the picture keeps its scale from the first step on."""
        stories = [told((call,)).args for call in calls if call.name in _MAPS]
        cuts = sorted({edge for args in stories for edge in (args["start"], args["end"])})
        spans = [(args["start"], args["end"]) for args in stories]
        self.reach = tuple(
            Range(low, high - low, "reach")
            for low, high in pairwise(cuts)
            if any(start <= low and high <= end for start, end in spans)
        )

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the tables. The range that the innermost call is about is outlined."""
        tables = self.boot.direct_map
        runs = mapped_by_size(tables)
        picture = direct_map_svg(runs, self._now(stack), self.reach)
        pages = {size_text(run.size): 0 for run in runs}
        for run in runs:
            pages[size_text(run.size)] += run.pages
        facts = [(f"entries for pages of {name}", str(count)) for name, count in pages.items()]
        facts += [(f"pfn_mapped[{at}]", f"{start:#x}-{end:#x}") for at, (start, end) in enumerate(pfn_mapped(tables))]
        facts.append(("max_pfn_mapped", f"{self.boot.max_pfn_mapped:#x}"))
        facts.append(("min_pfn_mapped", f"{tables.min_pfn_mapped:#x}"))
        facts.append(("tables from the brk", str(tables.pgt_buf_end - tables.pgt_buf_start)))
        alt = f"Direct map: {direct_map_text(runs)}.".replace("\n", "; ")
        return Sight(picture, alt, "".join(arch_report_meminfo(self.boot)).rstrip(), tuple(facts))

    def wrote(self, event: Event) -> What | None:
        """Nothing: entries and counts are told by the functions that write them."""
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """Never asked for: no write has a step of its own here."""
        return f"{by} writes."

    def _now(self, stack: tuple[Call, ...]) -> tuple[int, int] | None:
        for at in range(len(stack), 0, -1):
            args = told(stack[:at]).args
            for low, high in (("start", "end"), ("r_start", "r_end")):
                if isinstance(args.get(low), int) and isinstance(args.get(high), int):
                    return args[low], args[high]
        return None
