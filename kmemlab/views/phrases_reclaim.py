"""Sentences for the steps of reclaim: who looks at which list, what is taken into hand, what of it goes."""

from __future__ import annotations

from kmemlab.machine.lru_snapshot import LIST_NAMES
from kmemlab.views.told import Tell, Told


def _list(t: Told) -> str:
    return LIST_NAMES[t.args["lru"]]


def _taken_in_hand(t: Told) -> str:
    return f"{t.by} takes up to {t.args['nr_to_scan']} pages into its hands, from the tail of {_list(t)}."


def _judged(t: Told) -> str:
    freed, _ = t.call.value
    pages = "1 page" if freed == 1 else f"{freed} pages"
    return f"{t.by} looks at each page in hand: {pages} can go, and go."


def _put_back(t: Told) -> str:
    return f"{t.by} puts the pages that stay back on the lists that their flags say now."


def _inactive(t: Told) -> str:
    return f"{t.name} is to scan {t.args['nr_to_scan']} pages of {_list(t)}."


def _active(t: Told) -> str:
    return f"{t.name} is to age {t.args['nr_to_scan']} pages of {_list(t)}: they go to the inactive list."


def _balance(t: Told) -> str:
    return f"{t.name} is kswapd's work: reclaim, harder at each turn, until a zone is above its high mark."


def _one_turn(t: Told) -> str:
    return f"{t.name} begins a turn; where the one before freed too little, this one scans more."


def _lists(t: Told) -> str:
    return f"{t.name} works out how many pages of each list to scan, and scans them 32 at a time."


def _node(t: Told) -> str:
    return f"{t.name} goes through the lists of a node, and then the caches of objects."


def _slabs(t: Told) -> str:
    return f"{t.by} asks the caches of objects to give some back."


def _trouble(t: Told) -> str:
    pages = t.args["nr_pages"]
    return f"{t.by} notes the trouble that reclaim made: {pages} pages written, or read again."


RECLAIM_EFFECTS: dict[str, Tell] = {
    "isolate_lru_folios": _taken_in_hand,
    "shrink_folio_list": _judged,
    "move_folios_to_lru": _put_back,
    "shrink_slab": _slabs,
    "lru_note_cost": _trouble,
}
RECLAIM_ENTRIES: dict[str, Tell] = {
    "shrink_inactive_list": _inactive,
    "shrink_active_list": _active,
    "balance_pgdat": _balance,
    "kswapd_shrink_node": _one_turn,
    "shrink_node": _node,
    "shrink_lruvec": _lists,
}
TOLD_AS_ONE = (
    "lru_add_drain", "lru_add_drain_cpu", "free_unref_page_list", "prepare_scan_count", "get_scan_count", "vmpressure",
    "lru_note_cost", "wakeup_kcompactd", "snapshot_refaults",
)  # fmt: skip
"""What a player of reclaim folds: `Player(…, folded=TOLD_AS_ONE)`."""
