"""The panel of compaction: two scanners go towards each other, and pages leave one end of memory for the other."""

from __future__ import annotations

from kmemlab.machine.snapshot import zone_snapshot
from kmemlab.mm.compact_control import CompactControl
from kmemlab.mm.globals import Mm
from kmemlab.mm.zone import Zone
from kmemlab.sim.timeline import Call, Event
from kmemlab.views.pageblocks import PageblockMap, alt_of, pageblock_map, pageblocks_svg
from kmemlab.views.panel import Sight, What
from kmemlab.views.text import buddyinfo_line, free_text


class CompactionPanel:
    """Some pageblocks of a zone, the two scanners, and what they hold."""

    stage = "buddy"
    proc_name = "/proc/buddyinfo"

    def __init__(self, mm: Mm, zone: Zone, start_pfn: int, end_pfn: int) -> None:
        """[start_pfn, end_pfn) is what is shown: whole pageblocks."""
        self.mm = mm
        self.zone = zone
        self.start_pfn, self.end_pfn = start_pfn, end_pfn

    def prepare(self, calls: list[Call]) -> None:
        """Nothing to choose: the window is given."""

    def running(self) -> CompactControl | None:
        """The run of compaction that is at work in the zone."""
        return next((cc for cc in self.mm.compact_controls if cc.running == self.zone.slot), None)

    def seen(self) -> PageblockMap:
        """The pageblocks as they are now."""
        return pageblock_map(self.zone, self.start_pfn, self.end_pfn, self.running())

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
        facts += [(f"nr_free[{order}]", str(count)) for order, count in enumerate(zone.nr_free) if count]
        alt = f"{alt_of(shown)} Zone {zone.name}: {free_text(zone.nr_free)}."
        picture = pageblocks_svg(shown, f"Pageblocks of zone {zone.name}")
        return Sight(picture, alt, buddyinfo_line(zone).rstrip(), tuple(facts), None)

    def wrote(self, event: Event) -> What | None:
        """No write is a step of its own: pages go by the dozen."""
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """What nobody asks for."""
        return f"{by} has written {what.kind}."
