"""Chapter 05: may a zone give? The test against the watermark, each of its laws at its edge.

A case states how many pages must be left; the judge tries just that many (no) and one more (yes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.buddy import CHAPTER, in_machine, runs_the_machine, with_machine
from kmemlab.course.tasks.buddy_fallback import H, M, R, U
from kmemlab.course.tasks.buddy_pressure import Block, pageblocks_with, pressure, told
from kmemlab.mm.zone_watermark_ok import (
    ALLOC_HIGHATOMIC,
    ALLOC_MIN_RESERVE,
    ALLOC_NON_BLOCK,
    ALLOC_OOM,
    zone_watermark_ok_inner,
)

FLAGS = {
    "ALLOC_MIN_RESERVE": ALLOC_MIN_RESERVE,
    "ALLOC_NON_BLOCK": ALLOC_NON_BLOCK,
    "ALLOC_OOM": ALLOC_OOM,
    "ALLOC_HIGHATOMIC": ALLOC_HIGHATOMIC,
}

ABOVE = "a zone may give while more pages are free than the mark says: as many are not enough"
ORDER = "of a block of order n all pages but one are gone before the mark is asked"
LOWMEM = "a zone keeps lowmem_reserve[highest_zoneidx] pages more from requests that could go higher"
HIGHATOMIC = "pages of the high-atomic reserve don't count as free for a request without a right to reserves"
RESERVE = "ALLOC_MIN_RESERVE goes down to half of the mark, and with ALLOC_NON_BLOCK to three eighths"
NON_BLOCK = "ALLOC_NON_BLOCK alone doesn't lower the mark"
OOM = "ALLOC_OOM halves what is left of the mark"
BLOCK = "above order 0 a free block of that order or a larger one must be there"
RESERVED = "a block on the high-atomic list helps only requests with ALLOC_HIGHATOMIC or ALLOC_OOM"


@dataclass(frozen=True)
class Ask:
    """A request at the edge: `least` is how many pages must be free and no more, for the answer to be no."""

    law: str
    least: int
    order: int = 0
    mark: int = 100
    flags: tuple[str, ...] = ()
    reserve: int = 0  # lowmem_reserve of the highest zone that the request may use
    highatomic: int = 0  # pages of the high-atomic reserve
    free: tuple[Block, ...] = ((0, 10, M),)
    block: bool = True  # whether there is a block for it
    lower: int = field(default=7)  # lowmem_reserve of the zone's own index: for others

    def text(self) -> str:
        """For a reader."""
        parts = [f"order {self.order}", f"mark {self.mark}"]
        parts += ["|".join(self.flags)] if self.flags else []
        parts += [f"lowmem_reserve[2] {self.reserve}"] if self.reserve else []
        parts += [f"{self.highatomic} pages in the high-atomic reserve"] if self.highatomic else []
        parts += [f"on the lists: {told(self.free)}"] if self.order else []
        return ", ".join(parts)


def judge_watermark(answer: Answer, case: Case) -> Verdict | None:
    """Just enough pages, one less, and many more."""
    if isinstance(case.value, int):
        return runs_the_machine(zone_watermark_ok_inner, answer, case.value, pressure, every=25)
    ask: Ask = case.value
    zone = pageblocks_with((M,) * 4, ask.free)
    zone.nr_reserved_highatomic = ask.highatomic
    zone.lowmem_reserve[0], zone.lowmem_reserve[2] = ask.lower, ask.reserve
    flags = sum(FLAGS[name] for name in ask.flags)
    for free_pages, want in ((ask.least, False), (ask.least + 1, ask.block), (ask.least + 5000, ask.block)):
        got = answer(zone, ask.order, ask.mark, 2, flags, free_pages)
        if got is not want:
            return Verdict(ask.law, f"with {free_pages} pages free the answer is {want}, yours is {got!r}")
    return None


def by_hand() -> list[Ask]:
    """Each law with figures that only it explains."""
    pair = ("ALLOC_MIN_RESERVE", "ALLOC_NON_BLOCK")
    return [
        Ask(ABOVE, 100),
        Ask(ABOVE, 0, mark=0),
        Ask(ORDER, 107, order=3),
        Ask(ORDER, 611, order=9),
        Ask(LOWMEM, 350, reserve=250),
        Ask(LOWMEM, 353, order=2, reserve=250),
        Ask(HIGHATOMIC, 612, highatomic=512),
        Ask(HIGHATOMIC, 100, highatomic=512, flags=("ALLOC_NON_BLOCK",)),
        Ask(NON_BLOCK, 100, flags=("ALLOC_NON_BLOCK",)),
        Ask(RESERVE, 50, flags=("ALLOC_MIN_RESERVE",)),
        Ask(RESERVE, 51, mark=101, flags=("ALLOC_MIN_RESERVE",)),
        Ask(RESERVE, 39, mark=101, flags=pair),
        Ask(RESERVE, 38, flags=pair),
        Ask(RESERVE, 288, flags=pair, reserve=250),
        Ask(OOM, 50, flags=("ALLOC_OOM",)),
        Ask(OOM, 26, mark=101, flags=("ALLOC_MIN_RESERVE", "ALLOC_OOM")),
        Ask(OOM, 19, flags=(*pair, "ALLOC_OOM")),
        Ask(BLOCK, 103, order=2, free=((0, 1, M), (8, 1, U), (16, 0, R)), block=False),
        Ask(BLOCK, 103, order=2, free=((0, 2, R),)),
        Ask(BLOCK, 101, order=1, free=((0, 0, M), (32, 5, U))),
        Ask(BLOCK, 100, order=0, free=(), block=True),
        Ask(RESERVED, 103, order=2, free=((0, 4, H),), block=False),
        Ask(RESERVED, 53, order=2, free=((0, 4, H),), flags=("ALLOC_MIN_RESERVE",), block=False),
        Ask(RESERVED, 41, order=2, free=((0, 4, H),), flags=(*pair, "ALLOC_HIGHATOMIC"), highatomic=512),
        Ask(RESERVED, 53, order=2, free=((0, 4, H),), flags=("ALLOC_OOM",)),
    ]


def drawn(rng: Random) -> Ask:
    """A request without rights, at any order."""
    order, mark, reserve, kept = rng.randrange(1, 8), rng.randrange(40, 900), rng.randrange(400), rng.randrange(3)
    least = mark + reserve + 512 * kept + 2**order - 1
    return Ask(ORDER, least, order=order, mark=mark, reserve=reserve, highatomic=512 * kept)


def cases_watermark(_given: None, rng: Random) -> list[Case]:
    """Each law at its edge, some drawn, then a machine under pressure."""
    asks = by_hand() + [drawn(rng) for _ in range(4)]
    return with_machine((Case(ask.text(), ask, at) for at, ask in enumerate(asks)), rng, "runs out of memory")


register(
    Task(
        "buddy.watermark",
        CHAPTER,
        "implement",
        20,
        (
            "Three steps: what of `free_pages` may this request count? How far down may it go? And, above order 0: is "
            "there a block? The first two are compared once: free > mark + reserve.",
            "Halving rounds in favour of the zone: take `m // 2` away from m, don't divide m. For the block look at "
            "`free_blocks(zone, order, type)` of all orders from the wanted one up, for the types 0 to 2.",
        ),
        judge_watermark,
        cases_watermark,
        inside=in_machine(zone_watermark_ok_inner, pressure),
        seconds=15.0,  # the whole machine, on a slow computer
    )
)
