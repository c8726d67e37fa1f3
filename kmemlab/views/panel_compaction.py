"""The panel of pageblocks: what happens to them while memory is compacted, and while one type takes from another.

compaction   two scanners go towards each other, and pages leave one end of memory for the other
stealing     a type has nothing left: it takes a block of another one, and perhaps the whole pageblock with it
"""

from __future__ import annotations

from kmemlab.machine.snapshot import zone_snapshot
from kmemlab.mm.compact_control import CompactControl
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import PAGEBLOCK_ORDER
from kmemlab.mm.zone import Zone, get_pageblock_migratetype
from kmemlab.sim.recording import plain_column
from kmemlab.sim.timeline import Call, Event
from kmemlab.types.migratetype import MIGRATETYPE_NAMES
from kmemlab.views.pageblocks import PageblockMap, alt_of, pageblock_map, pageblocks_svg
from kmemlab.views.panel import Sight, What
from kmemlab.views.text import buddyinfo_line, free_text


class CompactionPanel:
    """Some pageblocks of a zone, how full they are and of which type, the two scanners, and what they hold.

    Pageblocks whose type changes are marked from then on.
    """

    stage = "buddy"
    proc_name = "/proc/buddyinfo"

    def __init__(self, mm: Mm, zone: Zone, start_pfn: int, end_pfn: int) -> None:
        """[start_pfn, end_pfn) is what is shown: whole pageblocks."""
        self.mm = mm
        self.zone = zone
        self.start_pfn, self.end_pfn = start_pfn, end_pfn
        self._first: PageblockMap | None = None  # what the first step shows

    def prepare(self, calls: list[Call]) -> None:
        """Nothing to choose: the window is given."""
        self._first = None

    def running(self) -> CompactControl | None:
        """The run of compaction that is at work in the zone."""
        return next((cc for cc in self.mm.compact_controls if cc.running == self.zone.slot), None)

    def seen(self) -> PageblockMap:
        """The pageblocks as they are now."""
        seen = pageblock_map(self.zone, self.start_pfn, self.end_pfn, self.running(), self._first)
        self._first = self._first or seen
        return seen

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the zone and the scanners."""
        shown, zone, cc = self.seen(), zone_snapshot(self.zone), self.running()
        facts = [("free pages", str(zone.free))]
        if cc is not None:
            facts += [
                ("migrate scanner", f"pfn {cc.migrate_pfn}"),
                ("free scanner", f"pfn {cc.free_pfn}"),
                ("pages that wait to move", str(cc.nr_migratepages)),
                ("free pages in hand", str(cc.nr_freepages)),
            ]
        facts += [(f"pageblock {block.pfn}", MIGRATETYPE_NAMES[block.migratetype]) for block in shown.blocks]
        facts += [(f"nr_free[{order}]", str(count)) for order, count in enumerate(zone.nr_free) if count]
        alt = f"{alt_of(shown)} Zone {zone.name}: {free_text(zone.nr_free)}."
        picture = pageblocks_svg(shown, f"Pageblocks of zone {zone.name}")
        return Sight(picture, alt, buddyinfo_line(zone).rstrip(), tuple(facts), None)

    def wrote(self, event: Event) -> What | None:
        """A pageblock's type; no other write is a step of its own, as pages go by the dozen."""
        if event.column is plain_column(self.zone.page.pageblock):
            return What("pageblock", event.index << PAGEBLOCK_ORDER)
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """The type that the pageblock has now."""
        name = MIGRATETYPE_NAMES[get_pageblock_migratetype(self.zone.page, what.number)]
        return f"{by} writes down that the pageblock at pfn {what.number} is {name} from now on."
