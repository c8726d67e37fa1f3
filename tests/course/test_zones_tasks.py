"""The tasks of chapter 04: right answers hold; for five wrong ones each the verdict names the law and a small input."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks import load_all
from kmemlab.course.tasks.zones_numbers import lost, real_zones
from kmemlab.course.tasks.zones_variant import VARIANTS
from kmemlab.course.tasks.zones_zonelist import fallback_orders, numa_machine, orders, table
from tests.course.judged import ADA, given_to

# -- right answers, each with ways to go wrong -------------------------------------------------------------------------


def span(ranges: Any, low: int, high: int, wrong: str = "") -> Any:
    if not ranges:
        return 0, 0, 0
    first, last = ranges[0][0], ranges[-1][1]
    if wrong == "limits":
        first, last = low, high
    start, end = max(first, low), min(last, high)
    if start >= end and wrong != "negative":
        return 0, 0, 0
    parts = [max(0, min(b, end) - max(a, start)) for a, b in ranges]
    if wrong == "unclipped":
        parts = [b - a for a, b in ranges if a < end and b > start]
    if wrong == "holes":
        parts = [end - start]
    spanned = end - start + (wrong == "inclusive")
    return (low if wrong == "start" else start), spanned, sum(parts)


def best(node: int, used: Any, distance: Any, load: Any, wrong: str = "") -> Any:
    if node not in used and wrong != "self":
        return node
    left = [n for n in range(len(distance)) if n not in used or wrong == "used"]
    if wrong == "self":
        left = [n for n in left if n != node]
    if not left:
        return -1 if wrong == "none" else None

    def key(n: int) -> tuple[int, ...]:
        below = 0 if wrong == "below" else int(n < node)
        return (distance[node][n] + below, 0 if wrong == "load" else load[n], n)

    return (max if wrong == "farthest" else min)(left, key=key)


def to_page(pfn: int, sections: Any, pages: int, size: int, wrong: str = "") -> Any:
    section, index = divmod(pfn, pages)
    if section == len(sections) if wrong == "behind" else section >= len(sections):
        return 0 if wrong == "beyond" else None
    if sections[section] is None:
        return 0 if wrong == "hole" else None
    if wrong == "flat":
        return sections[section] + pfn * size
    if wrong == "bytes":
        return sections[section] + index
    return sections[section] + (index + (wrong == "one")) * size


def to_pfn(page: int, flags: int, sections: Any, pages: int, size: int, wrong: str = "") -> Any:
    section = flags >> (44 if wrong == "shift" else 45)
    if wrong == "search":
        section = 0
    base = sections[section] or 0
    index = (page - base) // (1 if wrong == "bytes" else size)
    if wrong == "index":
        return index
    return section * (1 << 15 if wrong == "fixed" else pages) + index


def using(function: Any, wrong: str = "") -> Any:
    return lambda *args: function(*args, wrong=wrong)


RIGHT = {"zones.spans": span, "zones.zonelist": best, "zones.pfn_to_page": to_page, "zones.page_to_pfn": to_pfn}
SPANS, PRESENT = "a zone spans what lies in its limits", "present are the page frames of the span that are memory"
NEXT, OWN, NONE = (
    "the best node comes next",
    "each page frame has a struct page of its own",
    "a page frame of a section",
)
BACK = "page_to_pfn takes back what pfn_to_page did"
WRONG = [
    ("zones.spans", "limits", SPANS, "zone from 0 on, below 8"),
    ("zones.spans", "inclusive", SPANS, "zone from 0 on, below 8"),
    ("zones.spans", "negative", "", "memory at page frames"),
    ("zones.spans", "unclipped", PRESENT, "zone from 0 on, below 4"),
    ("zones.spans", "holes", PRESENT, "memory at page frames 0 to 1, 5 to 7"),
    ("zones.spans", "start", "start_pfn is the first page frame", "memory at page frames 2 to 5"),
    ("zones.zonelist", "self", "a node always comes first", "used []"),
    ("zones.zonelist", "used", "the next node is one that is not used yet", "node 1, used [1]"),
    ("zones.zonelist", "none", "when every node is used", "used [1, 0]"),
    ("zones.zonelist", "below", NEXT, "node 1, used [1]"),
    ("zones.zonelist", "load", NEXT, "node 0, used [0]"),
    ("zones.zonelist", "farthest", NEXT, "node 0, used [0]"),
    ("zones.pfn_to_page", "beyond", NONE, "4 pages a section"),
    ("zones.pfn_to_page", "behind", "", "4 pages a section"),
    ("zones.pfn_to_page", "hole", NONE, "None"),
    ("zones.pfn_to_page", "flat", OWN, "4 pages a section"),
    ("zones.pfn_to_page", "bytes", OWN, "64 bytes"),
    ("zones.pfn_to_page", "one", OWN, "section_mem_map [0]"),
    ("zones.page_to_pfn", "shift", "", "4 pages a section"),
    ("zones.page_to_pfn", "search", BACK, "[1000, None, 1256]"),
    ("zones.page_to_pfn", "bytes", BACK, "64 bytes"),
    ("zones.page_to_pfn", "index", BACK, "[1000, 1004]"),
    ("zones.page_to_pfn", "fixed", BACK, "[1000, 1004]"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_holds(name: str) -> None:
    result = result_of(name, using(RIGHT[name]), ADA)
    assert result.passed, (result.case, result.verdict)
    assert result.points == load_all().find(name).points


@pytest.mark.parametrize(("name", "wrong", "law", "case"), WRONG, ids=lambda value: str(value)[:20])
def test_a_wrong_answer_breaks_a_law_on_a_small_input(name: str, wrong: str, law: str, case: str) -> None:
    result = result_of(name, using(RIGHT[name], wrong), ADA)
    assert result.verdict is not None
    assert result.case is not None
    assert result.verdict.law.startswith(law)
    assert case in result.case.text
    assert result.case.size < 1000, "the whole machine is not the smallest input"
    assert result.points < load_all().find(name).points


@pytest.mark.parametrize("name", ["zones.spans", "zones.zonelist"])
def test_an_answer_that_only_the_machine_catches(name: str) -> None:
    def large_only(*args: Any) -> Any:
        if name == "zones.spans" and args[2] > 1000:
            return span(*args, wrong="holes")
        return best(*args, wrong="below") if name == "zones.zonelist" and len(args[2]) == 6 else RIGHT[name](*args)

    result = result_of(name, large_only, ADA)
    assert result.case is not None
    assert "machine" in result.case.text
    assert 0 < result.points < 15


# -- the variant -------------------------------------------------------------------------------------------------------


def linux(node: int, distance: Any, zones: Any) -> list[tuple[int, int]]:
    nearest = sorted(zones, key=lambda n: (distance[node][n], n))
    return [(n, z) for n in nearest for z in sorted(zones[n], reverse=True)]


def listed(rule: str, node: int, distance: Any, zones: Any) -> list[tuple[int, int]]:
    """A student's answer to the variant, straight from its words, with loops."""
    plain = linux(node, distance, zones)
    if rule == "zone":
        return [ref for index in (4, 3, 2, 1, 0) for ref in plain if ref[1] == index]
    if rule == "spare":
        return [ref for ref in plain if ref[1]] + [ref for ref in plain if not ref[1]]
    if rule == "low":
        nodes = list(dict.fromkeys(n for n, _ in plain))
        return [(n, z) for n in nodes for z in sorted(zones[n])]
    if rule == "ring":
        ring = [n for n in range(node, len(distance)) if n in zones] + [n for n in range(node) if n in zones]
        return [(n, z) for n in ring for z in sorted(zones[n], reverse=True)]
    return plain


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_held_by_its_own_rule_and_by_no_other(variant: str) -> None:
    students = map(Student, map(str, range(200)))
    student = next(s for s in students if given_to("zones.variant", s)["variant"] == variant)

    def answer_by(rule: str) -> Any:
        return lambda node, distance, zones: listed(rule, node, distance, zones)

    assert result_of("zones.variant", answer_by(variant), student).passed
    for other in {*VARIANTS, "linux"} - {variant}:
        result = result_of("zones.variant", answer_by(other), student)
        assert result.verdict is not None, other
        assert result.verdict.law == "the zones stand in the order of your rule"
    twice = result_of("zones.variant", lambda n, d, z: linux(n, d, z) * 2, student)
    assert twice.verdict is not None
    assert twice.verdict.law == "each zone that has memory stands in the list once"


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_predicted_orders_are_what_a_machine_prints(seed: int) -> None:
    distance = table(4 + seed % 2, Student(str(seed)).rng("distances"))
    said = [list(map(int, line.split(":")[1].split())) for line in fallback_orders(numa_machine(distance))]
    assert said == orders(distance)


def test_a_prediction_is_judged_line_by_line() -> None:
    right = orders(given_to("zones.predict")["distance"])
    assert result_of("zones.predict", right, ADA).passed
    swapped = [*right[:3], [right[3][0], right[3][2], right[3][1], right[3][3]]]
    assert result_of("zones.predict", swapped, ADA).points == 5 * 3 / 4
    naive = [[(node + step) % 4 for step in range(4)] for node in range(4)]
    for wrong in (None, right[:3], [list(range(4))] * 4, [row[::-1] for row in right], [row[:3] for row in right]):
        result = result_of("zones.predict", wrong, ADA)
        assert not result.passed
        assert result.verdict is not None
        assert result.verdict.law
    assert naive != right


def test_protection_counts_all_zones_above() -> None:
    mine = given_to("zones.protection")
    dma, dma32, normal, movable = mine["managed"].values()
    right = {
        "DMA": [0, dma32 // 256, (dma32 + normal) // 256, (dma32 + normal + movable) // 256],
        "DMA32": [0, 0, normal // 256, (normal + movable) // 256],
        "Normal": [0, 0, 0, movable // 32],
        "Movable": [0, 0, 0, 0],
    }
    assert result_of("zones.protection", right, ADA).passed
    assert dma
    mistakes = {
        "all zones above count together": right | {"DMA": [0, dma32 // 256, normal // 256, movable // 256]},
        "a zone keeps nothing back from": right | {"DMA": [dma // 256, *right["DMA"][1:]]},
        "kept back is the sum": right | {"Normal": [0, 0, 0, movable // 256]},
        "the answer has a row": {name: right[name] for name in ("DMA", "DMA32", "Normal")},
        "kept back": right | {"DMA32": [0, 0, normal // 256 + 1, (normal + movable) // 256]},
    }
    for law, wrong in mistakes.items():
        result = result_of("zones.protection", wrong, ADA)
        assert result.verdict is not None
        assert result.verdict.law.startswith(law)
        assert result.points == 5 * 3 / 4


def test_a_diagnosis_is_told_from_the_text_alone() -> None:
    mine = given_to("zones.diagnose")["zoneinfo"]
    right = {}
    for name, text in mine.items():
        sums = [
            sum(map(int, re.findall(rf"{word} +(\d+)", text))) for word in ("spanned", "present", "managed", "free")
        ]
        losses = [a - b for a, b in itertools.pairwise(sums)]
        right[name] = (("hole", "boot", "in use")[losses.index(max(losses))], max(losses))
    assert result_of("zones.diagnose", right, ADA).passed
    cause, pages = right["B"]
    other = "boot" if cause != "boot" else "hole"
    for wrong in (
        None,
        right | {"B": (other, pages)},
        right | {"B": (cause, pages - 1)},
        right | {"B": ("aliens", pages)},
        {name: right[name] for name in "AC"},
    ):
        result = result_of("zones.diagnose", wrong, ADA)
        assert result.verdict is not None
        assert result.case is not None
        assert wrong is None or "machine B" in result.case.text


def test_each_cause_is_dealt_out_and_is_the_greatest() -> None:
    """The real machine has a hole below 4 GiB; what was taken away besides must outweigh it."""
    assert lost(real_zones())["hole"] > 200_000
    seen = set()
    for number in range(12):
        for text in given_to("zones.diagnose", Student(str(number)))["zoneinfo"].values():
            sums = [
                sum(map(int, re.findall(rf"{word} +(\d+)", text))) for word in ("spanned", "present", "managed", "free")
            ]
            losses = [a - b for a, b in itertools.pairwise(sums)]
            assert sorted(losses)[2] > sorted(losses)[1]
            assert sums[3] > 0
            seen.add(losses.index(max(losses)))
    assert seen == {0, 1, 2}
