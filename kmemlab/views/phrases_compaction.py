"""Sentences for the steps of compaction: what the two scanners find, and what is moved."""

from __future__ import annotations

from kmemlab.alloc.isolate_migratepages import ISOLATE_SUCCESS
from kmemlab.views.told import Tell, Told


def _isolated(t: Told) -> str:
    found = (
        "takes pages that could move off their LRU lists" if t.call.value == ISOLATE_SUCCESS else "finds none to take"
    )
    return f"{t.by} goes up with the migrate scanner and {found}."


def _migrated(t: Told) -> str:
    left = t.call.value
    rest = f"; {left} of them could not be moved" if isinstance(left, int) and left > 0 else ""
    return f"{t.by} moves the pages to free ones that the free scanner takes, further up{rest}."


def _drained(t: Told) -> str:
    return f"{t.by} empties this CPU's lists, so that the pages that were left behind join in the buddy."


def _put_back(t: Told) -> str:
    return f"{t.by} puts the pages that could not be moved back on their LRU lists."


def _batches(t: Told) -> str:
    return f"{t.by} puts the pages that wait in this CPU's batches on their LRU lists."


def _released(t: Told) -> str:
    return f"{t.by} gives the free pages back that nobody was moved to."


def _from_both_ends(t: Told) -> str:
    return f"{t.by} lets the next run begin at both ends of the zone."


def _met(t: Told) -> str:
    return f"{t.name} looks where the scanners stand: they have met, so this run is over."


def _zone(t: Told) -> str:
    return f"{t.name} moves pages from one end of zone {t.args['zone'].name} to the other, until the scanners meet."


def _for_request(t: Told) -> str:
    return f"{t.name} wants a block of order {t.args['order']} to come about in zone {t.args['zone'].name}."


COMPACTION_EFFECTS: dict[str, Tell] = {
    "isolate_migratepages": _isolated,
    "migrate_pages": _migrated,
    "lru_add_drain_cpu_zone": _drained,
    "release_freepages": _released,
    "putback_movable_pages": _put_back,
    "lru_add_drain": _batches,
    "reset_cached_positions": _from_both_ends,
}
COMPACTION_ENTRIES: dict[str, Tell] = {
    "compact_zone": _zone,
    "compact_zone_order": _for_request,
    "__compact_finished": _met,  # told only where it changes something: the scanners have met
}
