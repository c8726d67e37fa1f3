"""Grading can't be fooled: of a right answer's mutants only those pass that are right, too."""

from __future__ import annotations

import pytest

from tests.course.judged import result_of, student_with
from tests.course.mutants import function_of, mutants

CHOOSE = """
def choose(tasks, need, now):
    best = None
    for task in sorted(tasks, key=lambda task: task["pid"]):
        if task["adj"] == -1000:
            continue
        {points}
        if best is None or points > best[0]:
            best = points, task["pid"]
    return best[1] if best else None
"""
FAMILY = """family = {task["pid"]}
        for _ in tasks:
            family |= {each["pid"] for each in tasks if each["parent"] in family}
        points = sum(each["pages"] for each in tasks if each["pid"] in family)"""
ENOUGH = """points = (1, -task["pages"]) if task["pages"] >= need else (0, task["pages"])"""
YOUNGEST = """total = sum(each["pages"] for each in tasks)
        points = (1, task["started"]) if 10 * task["pages"] >= total else (0, task["pages"])"""
GREEDY = """points = task["pages"] / (now - task["started"] + 1)"""

HOLES = """
def find(busy, size, vstart, vend, last):
    holes, mark = [], vstart
    for low, high in [*busy, (vend, vend)]:
        if low > mark:
            holes.append((mark, low))
        mark = max(mark, high)
    {rule}
"""
TOP_DOWN = """return next((high - size for low, high in holes[::-1] if high - low >= size), None)"""
BOTH_SIDES = """return next((low + 4096 for low, high in holes if high - low >= size + 8192), None)"""
BEST_FIT = """fit = [(high - low, low) for low, high in holes if high - low >= size]
    return min(fit)[1] if fit else None"""
NEXT_FIT = """for low, high in holes:
        if max(low, last) + size <= high:
            return max(low, last)
    return next((low for low, high in holes if low + size <= high), None)"""

WALK = """
def walk(read, root, address):
    table = root
    for level, (shift, bits) in enumerate({levels}):
        entry = read(table + (address >> shift & (1 << bits) - 1) * {size})
        {decode}
        if page:
            return table & -(1 << shift) | address & (1 << shift) - 1
        if not named:
            return None
    return None
"""
ARM64_16K = """page = level == 2 and entry & 3 == 3 or level == 1 and entry & 3 == 1
        named = entry & 3 == 3
        table = entry & (1 << 48) - (1 << 14)"""
ARM64_64K = """page = level == 1 and entry & 3 == 3 or level == 0 and entry & 3 == 1
        named = entry & 3 == 3
        table = entry & (1 << 48) - (1 << 16)"""
SV39 = """page = entry & 1 and entry & 14
        named = entry & 15 == 1
        table = (entry >> 10 & (1 << 44) - 1) << 12"""
ARM32 = """page = entry & 3 == 2
        named = level == 0 and entry & 3 == 1
        table = entry & -(1 << 10)"""

FIELDS = ("pages", "started", "pid", "parent")
RIGHT = {
    ("whole.variant", "family"): CHOOSE.replace("{points}", FAMILY),
    ("whole.variant", "enough"): CHOOSE.replace("{points}", ENOUGH),
    ("whole.variant", "youngest"): CHOOSE.replace("{points}", YOUNGEST),
    ("whole.variant", "greedy"): CHOOSE.replace("{points}", GREEDY),
    ("vmalloc.variant", "top_down"): HOLES.replace("{rule}", TOP_DOWN),
    ("vmalloc.variant", "both_sides"): HOLES.replace("{rule}", BOTH_SIDES),
    ("vmalloc.variant", "best_fit"): HOLES.replace("{rule}", BEST_FIT),
    ("vmalloc.variant", "next_fit"): HOLES.replace("{rule}", NEXT_FIT),
    ("page_tables.variant", "arm64_16k"): WALK.format(levels=((36, 11), (25, 11), (14, 11)), size=8, decode=ARM64_16K),
    ("page_tables.variant", "arm64_64k"): WALK.format(levels=((29, 13), (16, 13)), size=8, decode=ARM64_64K),
    ("page_tables.variant", "sv39"): WALK.format(levels=((30, 9), (21, 9), (12, 9)), size=8, decode=SV39),
    ("page_tables.variant", "arm32"): WALK.format(levels=((20, 12), (12, 8)), size=4, decode=ARM32),
}
EQUAL = {
    'task["adj"] == -1000: │ LtE',  # no adj is less
    '1, -task["pages"]) if task["pages"] >= need else (0, task["pages"]) │ 1+1',  # more than 0, as 1 is
    '1, task["started"]) if 10 * task["pages"] >= total else (0, task["pages"]) │ 1+1',
    '0, task["pages"]) │ 0-1',  # less than 1, as 0 is
    "if low > mark: │ if True",  # a hole without a page, which no request fits
    "low > mark: │ GtE",
    "low > mark: │ NotEq",
    "8192), None) │ 8192-1",  # sizes are whole pages
    "entry & 3 == 3 │ GtE",  # two bits are 3 at most
    "entry & 3 == 3 or level == 1 and entry & 3 == 1 │ GtE",
    "entry & 3 == 3 or level == 0 and entry & 3 == 1 │ GtE",
    "level == 2 and entry & 3 == 3 or level == 1 and entry & 3 == 1 │ GtE",  # there is no level behind the last
    "level == 1 and entry & 3 == 3 or level == 0 and entry & 3 == 1 │ GtE",
    "level == 0 and entry & 3 == 1 │ GtE",  # the entry of a last table that names a table: the walk is over
    "level == 0 and entry & 3 == 1 │ LtE",
    "11), (25, 11), (14, 11))): │ 11+1",  # no address has more bits
    "13), (16, 13))): │ 13+1",
    "9), (21, 9), (12, 9))): │ 9+1",
    "12), (12, 8))): │ 12+1",
}


@pytest.mark.parametrize(("task", "variant"), RIGHT)
def test_no_mutant_passes_but_those_that_are_right(task: str, variant: str) -> None:
    source, student = RIGHT[task, variant], student_with(task, variant)
    right = result_of(task, function_of(source), student)
    assert right.passed, (right.verdict, right.case)
    passed = {told for told, mutant in mutants(source, FIELDS) if result_of(task, mutant, student).passed}
    assert passed - EQUAL == set()
