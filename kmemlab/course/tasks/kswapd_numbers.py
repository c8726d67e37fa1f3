"""Chapter 08: shares of the lists, what is available, which page is where."""

from __future__ import annotations

import re
from fractions import Fraction
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.kswapd import CHAPTER, in_short_machine, lru_panel, survives, under_pressure
from kmemlab.course.your_machine import CAPTURES
from kmemlab.reclaim.scan_count import fractions
from kmemlab.reclaim.shrink_node import shrink_lruvec

# -- kswapd.shares -----------------------------------------------------------------------------------------------------

LISTS = ("shrink_inactive_list", "shrink_active_list")  # each is one step for a player
PAIR = "the function returns a pair of whole numbers: the share of anonymous memory, and that of files"
PRICE = "with no trouble on either side the shares are swappiness and 200 - swappiness"
TROUBLE = "each kind's share is its price divided by the trouble that it made, the sum of both added to each"
CUT = "the kernel has whole numbers: multiply by T + 1 first, then divide by cost + 1 and cut off"


def judge_shares(answer: Answer, case: Case) -> Verdict | None:
    """By exact fractions; the kernel's cutting off loses less than one."""
    if isinstance(case.value, int):
        return survives(fractions, answer, case.value)
    swappiness, anon, file = case.value
    got = answer(swappiness, anon, file)
    if not isinstance(got, (tuple, list)) or len(got) != 2 or any(type(each) is not int for each in got):
        return Verdict(PAIR, f"yours returns {got!r}")
    if (anon, file) == (0, 0):
        want = (swappiness, 200 - swappiness)
        return None if tuple(got) == want else Verdict(PRICE, f"they are {want}, yours are {tuple(got)}")
    both = anon + file
    costs = (both + anon, both + file)
    for kind, have, price, cost in zip(("anonymous memory", "files"), got, (swappiness, 200 - swappiness), costs,
                                       strict=True):  # fmt: skip
        exact = Fraction(price * (sum(costs) + 1), cost + 1)
        if not exact - 1 < have <= exact:
            law = CUT if abs(have - exact) < exact / 8 + 2 else TROUBLE
            return Verdict(law, f"the share of {kind} is {int(exact)}, yours is {have}")
    return None


def cases_shares(_given: None, rng: Random) -> list[Case]:
    """Without trouble, with trouble on one side, on both; then a machine."""
    sets = [(60, 0, 0), (0, 0, 0), (200, 0, 0), (60, 30, 10), (100, 50, 50), (100, 0, 7), (60, 1000, 0), (0, 5, 5)]
    sets += [(rng.randrange(201), rng.randrange(3000), rng.randrange(3000)) for _ in range(6)]
    cases = (
        Case(f"swappiness {swappiness}, trouble {anon} with anonymous memory and {file} with files",
             (swappiness, anon, file), anon + file + (swappiness != 60))
        for swappiness, anon, file in sets
    )  # fmt: skip
    return under_pressure(cases, rng)


register(
    Task(
        "kswapd.shares",
        CHAPTER,
        "implement",
        12,
        (
            "Add the sum of both costs to each cost first. So even a kind that made all the trouble keeps a third.",
            "With a = total + anon, f = total + file and T = a + f: the share of anonymous memory is "
            "swappiness · (T + 1) // (a + 1).",
        ),
        judge_shares,
        cases_shares,
        # fractions is too small to be recorded: what differs is which lists are looked at.
        inside=in_short_machine(fractions, seen=shrink_lruvec, panel=lru_panel, folded=LISTS),
        seconds=60.0,
    )
)

# -- kswapd.available --------------------------------------------------------------------------------------------------

MACHINES = ("amd64-4g-2cpu", "files-128m/before", "swap-160m/after", "oom-192m/after", "swap-160m/late")
ROWS = ("MemTotal", "MemFree", "Active(file)", "Inactive(file)", "KReclaimable", "SReclaimable")
AVAILABLE_LAWS = {
    "reserved_pages": "a zone holds back its high mark and its largest protection, but never more than it manages",
    "low_pages": "the low marks of all zones are added up",
    "available_kib": "of the cache, and of what slabs could give, half is left alone, or low if that is less",
}


def zones_of(text: str) -> list[dict[str, int]]:
    """min, low, high, managed and the largest protection of each zone of a /proc/zoneinfo."""
    zones = []
    for part in re.split(r"^(?=Node)", text, flags=re.MULTILINE)[1:]:
        numbers = {name: int(value) for name, value in re.findall(r"^ +(low|high|managed) +(\d+)$", part, re.MULTILINE)}
        found = re.search(r"protection: \((.*)\)", part)
        zones.append({**numbers, "protection": max(map(int, found[1].split(", "))) if found else 0})
    return zones


def given_available(rng: Random) -> dict[str, str]:
    """Two texts of a real machine. Some of its cache was dropped or filled, as much as is drawn."""
    folder = CAPTURES / rng.choice(MACHINES) / "proc"
    kib = {line.split(":")[0]: int(line.split()[1]) for line in (folder / "meminfo").read_text().splitlines()}
    moved = 4 * rng.randrange(min(kib["Inactive(file)"], 40000) // 4 + 1)
    kib["MemFree"] += moved
    kib["Inactive(file)"] -= moved
    meminfo = "".join(f"{name + ':':<16}{kib[name]:>8} kB\n" for name in ROWS if name in kib)
    return {"meminfo": meminfo, "zoneinfo": (folder / "zoneinfo").read_text()}


def available_truth(given: dict[str, str]) -> dict[str, int]:
    """The formula of the lecture, on the texts."""
    kib = {line.split(":")[0]: int(line.split()[1]) for line in given["meminfo"].splitlines()}
    zones = [zone for zone in zones_of(given["zoneinfo"]) if zone.get("managed")]
    reserved = sum(min(zone["managed"], zone["protection"] + zone["high"]) for zone in zones)
    low = sum(zone["low"] for zone in zones)
    parts = (kib["Active(file)"] + kib["Inactive(file)"], kib.get("KReclaimable", kib["SReclaimable"]))
    available = kib["MemFree"] - 4 * reserved + sum(part - 4 * min(part // 8, low) for part in parts)
    return {"reserved_pages": reserved, "low_pages": low, "available_kib": available}


def judge_parts(laws: dict[str, str], answer: Answer, case: Case) -> Verdict | None:
    """One part of an answer that is a dict."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or part not in told:
        return Verdict("the answer has all parts", f"the key {part!r} is missing")
    if told[part] != want or type(told[part]) is not type(want):
        return Verdict(laws[part], f"{part} is not {told[part]!r}")
    return None


def judge_available(answer: Answer, case: Case) -> Verdict | None:
    """One number."""
    return judge_parts(AVAILABLE_LAWS, answer, case)


def cases_available(given: dict[str, str], _rng: Random) -> list[Case]:
    """Each number for itself."""
    return [Case(f"{part}, of your machine", (part, value), at) for at, (part, value) in
            enumerate(available_truth(given).items())]  # fmt: skip


register(
    Task(
        "kswapd.available",
        CHAPTER,
        "compute",
        8,
        (
            "zoneinfo counts in pages, meminfo in KiB: 4 KiB to a page. Take zones without managed pages as nothing. "
            "The protection of a zone is the largest number of its row.",
            "MemFree - reserved + (cache - min(cache / 2, low)) + (slab - min(slab / 2, low)), where cache is both "
            "file lists and slab is KReclaimable. Halves of pages are cut off.",
        ),
        judge_available,
        cases_available,
        given=given_available,
    )
)

# -- kswapd.predict ----------------------------------------------------------------------------------------------------

PAGES = "ABCDEFGH"
PREDICT_LAWS = {
    "active": "the second access makes a page active",
    "referenced": "an access sets the flag, and becoming active takes it away",
    "inactive": "the inactive list is in the order in which the pages came to memory, the oldest at the tail",
}


def given_predict(rng: Random) -> dict[str, Any]:
    """Accesses to eight pages, each read from disk at its first one."""
    accesses = list(PAGES) + [rng.choice(PAGES[:5]) for _ in range(rng.randrange(6, 10))]
    rng.shuffle(accesses)
    return {"accesses": accesses}


def predict_truth(given: dict[str, Any]) -> dict[str, list[str]]:
    """The lists after all accesses, by counting: odd and even, once and more often."""
    accesses: list[str] = given["accesses"]
    counts = {page: accesses.count(page) for page in dict.fromkeys(accesses)}
    return {
        "active": sorted(page for page, count in counts.items() if count >= 2),
        "referenced": sorted(page for page, count in counts.items() if count != 2),
        "inactive": [page for page, count in counts.items() if count == 1],
    }


def judge_predict(answer: Answer, case: Case) -> Verdict | None:
    """One list."""
    return judge_parts(PREDICT_LAWS, answer, case)


def cases_predict(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Each list for itself."""
    return [Case(f"{part}, after your accesses", (part, value), at) for at, (part, value) in
            enumerate(predict_truth(given).items())]  # fmt: skip


register(
    Task(
        "kswapd.predict",
        CHAPTER,
        "predict",
        5,
        (
            "Make a row for each page, and write down its state after each access. No page is ever taken back to the "
            "inactive list here: memory is plentiful.",
            "The four states follow one another: inactive, inactive with the flag, active, active with the flag. "
            "Reading a page in from disk is its first access.",
        ),
        judge_predict,
        cases_predict,
        given=given_predict,
    )
)
