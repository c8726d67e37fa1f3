"""Chapter 04: what a low zone keeps back, and where the memory of three machines went."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.zones import CHAPTER
from kmemlab.course.your_machine import shipped
from kmemlab.types.units import MIB, PAGE_SIZE

# -- zones.protection --------------------------------------------------------------------------------------------------

RATIOS = {"DMA": 256, "DMA32": 256, "Normal": 32, "Movable": 0}
ZONES = ("DMA", "DMA32", "Normal", "Movable")


def given_protection(rng: Random) -> dict[str, Any]:
    """Managed pages of a machine of one's own, with a ZONE_MOVABLE."""
    return {
        "managed": {
            "DMA": rng.randrange(3800, 3990),
            "DMA32": rng.randrange(400_000, 800_000),
            "Normal": rng.randrange(1_000_000, 4_000_000),
            "Movable": rng.randrange(200_000, 900_000),
        },
        "lowmem_reserve_ratio": dict(RATIOS),
    }


def protection(managed: dict[str, int], ratios: dict[str, int], zone: str) -> list[int]:
    """What a zone keeps back from a request that could be met in each zone up to that one."""
    own = ZONES.index(zone)
    row = []
    for highest in range(len(ZONES)):
        above = [managed[name] for name in ZONES[own + 1 : highest + 1]]
        row.append(sum(above) // ratios[zone] if ratios[zone] else 0)
    return row


def judge_protection(answer: Answer, case: Case) -> Verdict | None:
    """One zone's row; the usual mistakes are told by the law that they break."""
    zone, want, managed = case.value
    told = answer.value
    row = told.get(zone) if isinstance(told, dict) else None
    if not isinstance(row, (list, tuple)) or len(row) != len(ZONES):
        return Verdict("the answer has a row of four numbers for each zone", f"for {zone} it is {row!r}")
    for at, (have, right) in enumerate(zip(row, want, strict=True)):
        if have == right:
            continue
        if at <= ZONES.index(zone):
            law = "a zone keeps nothing back from a request that can't go higher than itself"
        elif have == managed[ZONES[at]] // (RATIOS[zone] or 1):
            law = "all zones above count together, up to the highest that the request may use"
        else:
            law = "kept back is the sum of managed pages above, divided by the zone's own ratio; 0 for a ratio of 0"
        return Verdict(law, f"for {zone}, the entry for {ZONES[at]} is {have!r}")
    return None


def cases_protection(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One row a zone."""
    managed, ratios = given["managed"], given["lowmem_reserve_ratio"]
    return [
        Case(f"what {zone} keeps back", (zone, protection(managed, ratios, zone), managed), -place)
        for place, zone in enumerate(ZONES)
    ]


register(
    Task(
        "zones.protection",
        CHAPTER,
        "compute",
        5,
        (
            "A request that may use Normal could be met by Normal and by DMA32. How many pages are there above DMA "
            "that it might take instead?",
            "The entry for zone j in the row of zone i is the managed pages of zones i + 1 to j together, divided "
            "(without rest) by the ratio of zone i. Up to j = i it is 0.",
        ),
        judge_protection,
        cases_protection,
        given=given_protection,
    )
)

# -- zones.diagnose ----------------------------------------------------------------------------------------------------

FIELDS = re.compile(r"(pages free|spanned|present|managed|Node \d+, zone) +(\w+)")
WORDS = ("hole", "boot", "in use")
LAWS = {
    "hole": "addresses without memory are spanned, but not present",
    "boot": "what boot kept for good is present, but not managed",
    "in use": "what somebody holds is managed, but not free",
}


def real_zones() -> list[dict[str, Any]]:
    """The zones that a real machine's /proc/zoneinfo tells of: name, and pages free, spanned, present, managed."""
    zones: list[dict[str, Any]] = []
    for name, value in FIELDS.findall(shipped().read("/proc/zoneinfo")):
        if name.startswith("Node"):
            zones.append({"name": value})
        else:
            zones[-1][name.removeprefix("pages ")] = int(value)
    return [zone for zone in zones if zone["present"]]


def zoneinfo_text(zones: list[dict[str, Any]]) -> str:
    """The lines of /proc/zoneinfo that tell where pages went."""
    lines = []
    for zone in zones:
        lines.append(f"Node 0, zone {zone['name']:>8}")
        lines.append(f"  pages free     {zone['free']}")
        lines += [f"        {field:<8} {zone[field]}" for field in ("spanned", "present", "managed")]
    return "\n".join(lines)


def patient(cause: str, rng: Random) -> list[dict[str, Any]]:
    """The real machine with much of one zone gone, by one cause; a little is gone by the others."""
    zones = [dict(zone) for zone in real_zones()]
    chosen = next(zone for zone in zones if zone["name"] == "DMA32")
    pages = rng.randrange(1100, 2200) * MIB // PAGE_SIZE
    fields = {"hole": ("present", "managed", "free"), "boot": ("managed", "free"), "in use": ("free",)}
    for field in fields[cause]:
        chosen[field] -= pages
    for zone in zones:
        zone["free"] -= rng.randrange(100, 1000)
    return zones


def lost(zones: list[dict[str, Any]]) -> dict[str, int]:
    """How many pages each cause took, over all zones."""
    return {
        "hole": sum(zone["spanned"] - zone["present"] for zone in zones),
        "boot": sum(zone["present"] - zone["managed"] for zone in zones),
        "in use": sum(zone["managed"] - zone["free"] for zone in zones),
    }


def patients(seed: int) -> dict[str, list[dict[str, Any]]]:
    """Three machines; the causes are dealt out anew for each student, and one may come twice."""
    rng = Random(seed)
    return {name: patient(rng.choice(WORDS), rng) for name in "ABC"}


def given_diagnose(rng: Random) -> dict[str, Any]:
    """The lines of three machines; `seed` draws the same three again."""
    seed = rng.randrange(1 << 30)
    return {"seed": seed, "zoneinfo": {name: zoneinfo_text(zones) for name, zones in patients(seed).items()}}


def judge_diagnose(answer: Answer, case: Case) -> Verdict | None:
    """Which cause took most, and how much."""
    name, part, pages = case.value
    told = answer.value
    row = told.get(name) if isinstance(told, dict) else None
    if not isinstance(row, (tuple, list)) or len(row) != 2:
        return Verdict("the answer has (cause, pages) for each machine", f"for {name} it is {row!r}")
    cause = max(pages, key=lambda word: pages[word])
    if part == "cause" and row[0] != cause:
        seen = f"for {name} you have {row[0]!r}"
        return Verdict(LAWS[row[0]], seen) if row[0] in WORDS else Verdict(f"a cause is one of {WORDS}", seen)
    if part == "pages" and row[1] != pages[cause]:
        return Verdict("pages are counted over all zones of the machine", f"for {name} you have {row[1]!r}")
    return None


def cases_diagnose(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Two for each machine."""
    cases = []
    for place, (name, zones) in enumerate(patients(given["seed"]).items()):
        for at, (part, words) in enumerate((("cause", "what took most"), ("pages", "how many pages it took"))):
            cases.append(Case(f"machine {name}: {words}", (name, part, lost(zones)), 2 * place + at))
    return cases


register(
    Task(
        "zones.diagnose",
        CHAPTER,
        "diagnose",
        10,
        (
            "Each field counts less than the one before: spanned, present, managed, free. What became of a page that "
            "is in one and no longer in the next?",
            "Work out the three differences for each zone, and add each of them up over all zones of the machine.",
        ),
        judge_diagnose,
        cases_diagnose,
        given=given_diagnose,
        hidden=("seed",),
    )
)
