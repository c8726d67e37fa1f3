"""Sentences for the steps of stealing: a mobility type has nothing left, and takes from another one."""

from __future__ import annotations

from kmemlab.types.migratetype import MIGRATETYPE_NAMES
from kmemlab.views.told import Tell, Told


def _type(migratetype: int) -> str:
    return MIGRATETYPE_NAMES[migratetype]


def _fallback(t: Told) -> str:
    wanted = _type(t.args["start_migratetype"])
    return f"{t.name} has found nothing on the {wanted} lists: another type must lend, its largest block first."


def _lender(t: Told) -> str:
    order, lender = t.args["order"], t.call.value
    if lender is None:
        return f"{t.by} asks who has a block of order {order}: no lender."
    return f"{t.by} asks who has a block of order {order}: {_type(lender)}."


def _may_steal(t: Told) -> str:
    if t.call.value:
        return f"{t.by} may take over more than the request needs: the whole pageblock, if it is mostly free."
    return f"{t.by} may take no more than the block: pages that can move do little harm anywhere."


def _steal(t: Told) -> str:
    wanted = _type(t.args["start_migratetype"])
    return f"{t.name} brings the free block at pfn {t.args['pfn']} to the {wanted} lists."


def _boost(t: Told) -> str:
    what = "are raised for a while, so that kswapd frees more" if t.call.value else "stay as they are"
    return f"{t.by} mixes types in a pageblock: the zone's watermarks {what}."


def _moved(t: Told) -> str:
    return f"{t.by} moves the {t.call.value} free pages of the pageblock to the {_type(t.args['migratetype'])} lists."


FALLBACK_ENTRIES: dict[str, Tell] = {"__rmqueue_fallback": _fallback, "steal_suitable_fallback": _steal}
FALLBACK_VERDICTS: dict[str, Tell] = {"find_suitable_fallback": _lender, "can_steal_fallback": _may_steal}
FALLBACK_FOLDED: dict[str, Tell] = {"boost_watermark": _boost, "move_freepages_block": _moved}
TOLD_AS_ONE = tuple(FALLBACK_FOLDED)
"""What a player of stealing folds: `Player(…, within="__rmqueue_fallback", folded=TOLD_AS_ONE)`."""
