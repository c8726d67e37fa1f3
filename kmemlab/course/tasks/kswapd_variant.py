"""Chapter 08: watermarks by rules that Linux does not have, drawn for each student."""

from __future__ import annotations

from math import isqrt
from random import Random

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, one_of, register
from kmemlab.course.tasks.kswapd import CHAPTER

VARIANTS = {
    "thirds": "min is the zone's share of pages_min, as in Linux. low is a third of min above min (cut off), and high "
    "is as far above low. The size of the zone plays no part in the step.",
    "doubling": "min is the zone's share of pages_min, as in Linux. low is twice min. high is low and 0.2 % of the "
    "zone's managed pages (cut off) more.",
    "floor": "min is the zone's share of pages_min, as in Linux, but at least 32 pages; a zone with fewer than 256 "
    "managed pages gets 8 instead. The step is a quarter of that min (cut off), or 16 pages if that is more.",
    "root": "pages_min is shared out by the ROOTS of the zones' sizes, each cut off to a whole number: a zone's min is "
    "pages_min times its root, divided by the sum of all roots (cut off). The step is as in Linux: a quarter of min, "
    "or 0.1 % of the zone if that is more.",
}
SIZES = ((4000,), (4000, 100), (3840, 400000), (200, 3000), (3840, 505000, 1500000), (16, 255, 256, 100000))
ORDER, MIN, LOW, HIGH = (
    "the function returns a list with a triple (min, low, high) for each zone, in their order",
    "min is shared out over the zones as your rule says",
    "low lies above min as your rule says",
    "high lies above low as your rule says",
)


def marks(variant: str, managed: tuple[int, ...], pages_min: int) -> list[tuple[int, int, int]]:
    """The rule, carried out."""
    found = []
    for size in managed:
        share = pages_min * size // sum(managed)
        step = max(share // 4, size // 1000)
        if variant == "thirds":
            step = share // 3
        elif variant == "floor":
            share = 8 if size < 256 else max(share, 32)
            step = max(share // 4, 16)
        elif variant == "root":
            share = pages_min * isqrt(size) // sum(map(isqrt, managed))
            step = max(share // 4, size // 1000)
        if variant == "doubling":
            found.append((share, 2 * share, 2 * share + size // 500))
        else:
            found.append((share, share + step, share + 2 * step))
    return found


def judge_variant(answer: Answer, case: Case) -> Verdict | None:
    """Mark by mark, zone by zone."""
    variant, managed, pages_min = case.value
    got = answer(list(managed), pages_min)
    if not isinstance(got, (list, tuple)) or len(got) != len(managed) or any(
        not isinstance(each, (list, tuple)) or len(each) != 3 for each in got
    ):  # fmt: skip
        return Verdict(ORDER, f"yours returns {got!r}")
    for zone, (have, want) in enumerate(zip(got, marks(variant, managed, pages_min), strict=True)):
        for law, name, mine, right in zip((MIN, LOW, HIGH), ("min", "low", "high"), have, want, strict=True):
            if mine != right:
                return Verdict(law, f"{name} of zone {zone} ({managed[zone]} pages) should be {right}, yours is {mine}")
    return None


def cases_variant(given: dict[str, str], rng: Random) -> list[Case]:
    """One to four zones, small and large reserves."""
    asked = [(sizes, pages_min) for sizes in SIZES for pages_min in (250, 1000 + rng.randrange(16000))]
    return [
        Case(
            f"zones of {', '.join(map(str, sizes))} pages, pages_min {pages_min}",
            (given["variant"], sizes, pages_min),
            len(sizes) * 100000 + pages_min,
        )
        for sizes, pages_min in asked
    ]


register(
    Task(
        "kswapd.variant",
        CHAPTER,
        "implement",
        10,
        (
            "Work one zone out on paper first: its share, then the step, then low and high.",
            "`//` cuts off. A zone's share in Linux is pages_min * managed // (managed of all zones together).",
        ),
        judge_variant,
        cases_variant,
        given=one_of(VARIANTS),
    )
)
