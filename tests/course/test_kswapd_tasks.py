"""The tasks of chapter 08: right answers hold; for five wrong ones each the verdict names the law and a small input."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isqrt
from typing import Any

import pytest

from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks import load_all
from kmemlab.course.tasks.kswapd_diagnose import READINGS
from kmemlab.course.tasks.kswapd_numbers import MACHINES, available_truth
from kmemlab.course.tasks.kswapd_variant import VARIANTS
from kmemlab.course.your_machine import CAPTURES
from kmemlab.mm.kswapd_wake import pgdat_balanced
from kmemlab.mm.lru import folio_activate, lru_cache_activate_folio
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, set_page_flag
from kmemlab.mm.workingset import workingset_activation
from kmemlab.mm.zonelist import nr_free_zone_pages
from kmemlab.process.mm_struct import MM_SWAPENTS, MMF_OOM_SKIP, get_mm_counter, get_mm_rss
from kmemlab.process.oom_badness import LONG_MIN
from kmemlab.process.task_struct import task_mm
from kmemlab.reclaim.kswapd import kswapd_age_node, kswapd_shrink_node
from kmemlab.types.pageflags import PG_active, PG_lru, PG_referenced, PG_unevictable
from tests.course.judged import ADA, check_right, given_to


def with_(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    return lambda *args: function(*args, **changes)


# -- right answers; each keyword makes one wrong -----------------------------------------------------------------------


def min_free(
    mm: Any, *, kib: int = 4, least: int = 128, most: int = 262144, user: bool = True, same: bool = False
) -> None:
    wanted = isqrt(16 * kib * nr_free_zone_pages(mm, mm.boot.config.zone_normal))
    if not user or wanted > mm.user_min_free_kbytes or (same and wanted == mm.user_min_free_kbytes):
        mm.min_free_kbytes = max(least, min(most, wanted))


def accessed(
    mm: Any, pfn: int, *, clear: bool = True, at_once: bool = False, unevictable: bool = True, again: bool = False,
    never: bool = False,
) -> None:  # fmt: skip
    page = mm.page
    if not page_has_flag(page, pfn, PG_referenced) and not at_once:
        set_page_flag(page, pfn, PG_referenced)
        return
    if never or (page_has_flag(page, pfn, PG_active) and not again):
        return
    if unevictable and page_has_flag(page, pfn, PG_unevictable):
        return
    if again:
        clear_page_flag(page, pfn, PG_referenced)
    if page_has_flag(page, pfn, PG_lru):
        if not unevictable:
            set_page_flag(page, pfn, PG_active)
        folio_activate(mm, pfn)
    else:
        lru_cache_activate_folio(mm, pfn)
    if clear:
        clear_page_flag(page, pfn, PG_referenced)
    workingset_activation(mm, pfn)


def shares(
    swappiness: int, anon_cost: int, file_cost: int, *, both: bool = True, swapped: bool = False, of: int = 200,
    one: int = 1,
) -> tuple[int, int]:  # fmt: skip
    total = anon_cost + file_cost if both else 0
    a, f = total + anon_cost, total + file_cost
    if swapped:
        a, f = f, a
    return swappiness * (a + f + one) // (a + 1), (of - swappiness) * (a + f + one) // (f + 1)


def balance(
    mm: Any, pgdat: Any, sc: Any, nr_boost_reclaim: int, *, last: int = 1, freed: bool = True, enough: bool = True,
    reset: bool = True, ask: bool = True, age: bool = True,
) -> bool:  # fmt: skip
    while sc.priority >= last:
        if ask and pgdat_balanced(pgdat, sc.order, sc.reclaim_idx):
            return True
        if age:
            kswapd_age_node(mm, pgdat, sc)
        if reset:
            sc.nr_scanned = 0
        before = sc.nr_reclaimed
        did = kswapd_shrink_node(mm, pgdat, sc)
        if (enough and not did) or (freed and sc.nr_reclaimed == before):
            sc.priority -= 1
    return False


def badness(
    processes: Any, task: Any, totalpages: int, *, swap: bool = True, tables: bool = True, never: bool = True,
    skip: bool = True, floor: bool = False,
) -> int:  # fmt: skip
    mm = task_mm(processes, task)
    if mm is None or (never and task.oom_score_adj == -1000) or (skip and mm.flags >> MMF_OOM_SKIP & 1):
        return LONG_MIN
    pages = get_mm_rss(mm) + get_mm_counter(mm, MM_SWAPENTS) * swap + mm.pgtables_bytes // 4096 * tables
    points = pages + task.oom_score_adj * (totalpages // 1000)
    return max(points, 0) if floor else points


def my_marks(managed: list[int], pages_min: int, *, variant: str = "", step: int = 4, top: int = 2) -> list[Any]:
    variant = variant or given_to("kswapd.variant")["variant"]
    marks = []
    for size in managed:
        least = pages_min * size // sum(managed)
        if variant == "root":
            least = pages_min * isqrt(size) // sum(map(isqrt, managed))
        if variant == "floor":
            least = 8 if size < 256 else max(least, 32)
        gap = {"thirds": least // 3, "floor": max(least // step, 16)}.get(variant, max(least // step, size // 1000))
        marks.append((least, least + gap, least + top * gap))
        if variant == "doubling":
            marks[-1] = (least, 2 * least, 2 * least + size // 500)
    return marks


def prediction(student: Student = ADA, *, second: int = 2, keep: bool = False, turned: bool = False) -> dict[str, Any]:
    """By a state for each page, access by access."""
    states: dict[str, tuple[str, bool]] = {}
    for page in given_to("kswapd.predict", student)["accesses"]:
        where, flag = states.get(page, ("inactive", False))
        if where == "inactive" and flag and second == 2:
            states[page] = ("active", keep)
        else:
            states[page] = (where, True)
    inactive = [page for page, (where, _) in states.items() if where == "inactive"]
    return {
        "active": sorted(page for page, (where, _) in states.items() if where == "active"),
        "referenced": sorted(page for page, (_, flag) in states.items() if flag),
        "inactive": inactive[::-1] if turned else inactive,
    }


def available(student: Student = ADA, **changes: int) -> dict[str, int]:
    """By the kernel's steps in pages; `changes` are added."""
    mine = given_to("kswapd.available", student)
    kib = {line.split(":")[0]: int(line.split()[1]) for line in mine["meminfo"].splitlines()}
    reserved = low = 0
    for zone in mine["zoneinfo"].split("\nNode")[0:]:
        find = {name: re.search(rf"^ +{name} +(\d+)$", zone, re.MULTILINE) for name in ("managed", "high", "low")}
        protection = re.search(r"\((.+)\)", zone.split("pagesets")[0].partition("protection: ")[2])
        managed, high, at_low = (int(find[name][1]) if find[name] else 0 for name in ("managed", "high", "low"))  # type: ignore[index]
        if managed and protection:
            reserved += min(managed, high + max(map(int, protection[1].split(","))))
            low += at_low
    pages = kib["MemFree"] // 4 - reserved
    for part in (kib["Active(file)"] + kib["Inactive(file)"], kib["KReclaimable"]):
        pages += part // 4 - min(part // 8, low)
    found = {"reserved_pages": reserved, "low_pages": low, "available_kib": 4 * pages}
    return {name: number + changes.get(name, 0) for name, number in found.items()}


def diagnosis(student: Student = ADA, **changes: Any) -> dict[str, Any]:
    """By what is known of where the texts come from: a machine is told by its whole memory and its first count."""
    known = {}
    for kind, (folder, _) in READINGS.items():
        words = (CAPTURES / folder / "proc" / "meminfo").read_text().split()
        steals = re.search(r"pgsteal_kswapd (\d+)", (CAPTURES / folder / "proc" / "vmstat").read_text())
        assert steals is not None
        known[words[1], steals[1]] = kind
    found: dict[str, Any] = {}
    for letter, (first, second) in given_to("kswapd.diagnose", student)["machines"].items():
        steals = re.search(r"pgsteal_kswapd (\d+)", first["vmstat"])
        assert steals is not None
        found[letter] = known[first["meminfo"].split()[1], steals[1]]
        if found[letter] == "past":
            sizes = dict(re.findall(r"(\w+): +(\d+) kB", second["meminfo"]))
            found["swap_kib"] = int(sizes["SwapTotal"]) - int(sizes["SwapFree"])
    found["scans_for_one"] = 5
    return found | changes


def letter(kind: str) -> str:
    return next(name for name, what in diagnosis().items() if what == kind)


RIGHT: dict[str, Any] = {
    "kswapd.min_free": min_free,
    "kswapd.variant": my_marks,
    "kswapd.predict": prediction(),
    "kswapd.accessed": accessed,
    "kswapd.shares": shares,
    "kswapd.balance": balance,
    "kswapd.available": available(),
    "kswapd.oom": badness,
    "kswapd.diagnose": diagnosis(),
}
ROOT, CLAMPED, USERS = "four times the root", "never less than 128", "what the user has set holds"
FIRST, SECOND, ACTIVE, KEPT = "the first access sets", "makes it active", "on the active list", "unevictable stays"
WRONG = [
    ("kswapd.min_free", with_(min_free, kib=1), ROOT, "pages of low memory"),
    ("kswapd.min_free", with_(min_free, least=0), CLAMPED, "17 pages"),
    ("kswapd.min_free", with_(min_free, most=1 << 40), CLAMPED, "4294967296 pages"),
    ("kswapd.min_free", with_(min_free, user=False), USERS, "the user has set 512"),
    ("kswapd.min_free", with_(min_free, same=True), USERS, "the user has set 512"),
    ("kswapd.accessed", with_(accessed, clear=False), SECOND, "inactive with PG_referenced"),
    ("kswapd.accessed", with_(accessed, at_once=True), FIRST, "inactive without PG_referenced, and 1"),
    ("kswapd.accessed", with_(accessed, never=True), SECOND, "inactive with PG_referenced, and 1"),
    ("kswapd.accessed", with_(accessed, again=True), ACTIVE, "active with PG_referenced, and 1"),
    ("kswapd.accessed", with_(accessed, unevictable=False), KEPT, "unevictable with PG_referenced, and 1"),
    ("kswapd.shares", with_(shares, both=False), "divided by the trouble", "trouble"),
    ("kswapd.shares", with_(shares, swapped=True), "divided by the trouble", "trouble"),
    ("kswapd.shares", with_(shares, of=100), "swappiness and 200 - swappiness", "trouble 0"),
    ("kswapd.shares", with_(shares, one=0), "200 - swappiness", "trouble 0"),
    ("kswapd.shares", lambda *args: [each + 0.5 for each in shares(*args)], "a pair of whole numbers", "trouble 0"),
    ("kswapd.balance", with_(balance, last=2), "when priority 1 was tried", "never balanced"),
    ("kswapd.balance", with_(balance, freed=False), "a priority less by one", "0 freed"),
    ("kswapd.balance", with_(balance, enough=False), "a priority less by one", "too little scanned"),
    ("kswapd.balance", with_(balance, reset=False), "each turn begins with nr_scanned 0", "balanced after 3"),
    ("kswapd.balance", with_(balance, ask=False), "as soon as the node is balanced", "balanced after 0"),
    ("kswapd.balance", with_(balance, age=False), "ages the anonymous lists once", "balanced after 1"),
    ("kswapd.oom", with_(badness, swap=False), "all added up", "700 in swap"),
    ("kswapd.oom", with_(badness, tables=False), "all added up", "editor: 300 pages"),
    ("kswapd.oom", with_(badness, never=False), "-1000 gets LONG_MIN", "adj -1000"),
    ("kswapd.oom", with_(badness, skip=False), "killing it again frees nothing", "was taken already"),
    ("kswapd.oom", with_(badness, floor=True), "in thousandths of all pages", "adj -500"),
    ("kswapd.predict", prediction(second=3), "the second access makes a page active", "active"),
    ("kswapd.predict", prediction(keep=True), "becoming active takes it away", "referenced"),
    ("kswapd.predict", prediction(turned=True), "the oldest at the tail", "inactive"),
    ("kswapd.predict", {**prediction(), "active": []}, "the second access makes a page active", "active"),
    ("kswapd.predict", {"active": prediction()["active"]}, "all parts", "referenced"),
    ("kswapd.available", available(reserved_pages=1), "never more than it manages", "reserved_pages"),
    ("kswapd.available", available(low_pages=-4), "the low marks of all zones", "low_pages"),
    ("kswapd.available", available(available_kib=4), "half is left alone, or low", "available_kib"),
    ("kswapd.available", {"low_pages": 3}, "all parts", "reserved_pages"),
    ("kswapd.available", 7, "all parts", "reserved_pages"),
    ("kswapd.diagnose", diagnosis(**{letter("past"): "swaps"}), "swap in use is history", letter("past")),
    ("kswapd.diagnose", diagnosis(**{letter("swaps"): "rereads"}), "pswpout grows", letter("swaps")),
    ("kswapd.diagnose", diagnosis(**{letter("rereads"): "swaps"}), "workingset_refault_file grows", letter("rereads")),
    ("kswapd.diagnose", diagnosis(**{letter("killed"): "past"}), "oom_kill counts", letter("killed")),
    ("kswapd.diagnose", diagnosis(swap_kib=261584), "SwapTotal - SwapFree", "swap_kib"),
    ("kswapd.diagnose", diagnosis(scans_for_one=4), "pages scanned for each page taken", "scans_for_one"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_hold(name: str) -> None:
    check_right(name, RIGHT[name])


@pytest.mark.parametrize(("name", "answer", "law", "case"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_breaks_a_law_on_a_small_input(name: str, answer: Any, law: str, case: str) -> None:
    result = result_of(name, answer, ADA)
    assert result.verdict is not None
    assert result.case is not None
    assert law in result.verdict.law
    assert case in result.case.text
    assert result.case.size < 10000, "the whole machine is not the smallest input"
    assert result.points < load_all().find(name).points


def test_a_variant_that_is_not_mine_is_refused() -> None:
    mine = given_to("kswapd.variant")["variant"]
    for other in sorted(set(VARIANTS) - {mine}):
        assert not result_of("kswapd.variant", with_(my_marks, variant=other), ADA).passed


@pytest.mark.parametrize("wrong", [{"step": 8}, {"top": 3}])
def test_slips_within_the_variant_are_found(wrong: dict[str, int]) -> None:
    student = next(
        student for student in map(Student, "abcdefghij") if given_to("kswapd.variant", student)["variant"] == "floor"
    )
    answer = with_(my_marks, variant="floor", **wrong)
    assert result_of("kswapd.variant", with_(my_marks, variant="floor"), student).passed
    verdict = result_of("kswapd.variant", answer, student).verdict
    assert verdict is not None
    assert verdict.law.endswith("as your rule says")


@pytest.mark.parametrize("machine", MACHINES)
def test_the_formula_gives_what_the_real_machine_printed(machine: str) -> None:
    folder = CAPTURES / machine / "proc"
    meminfo = (folder / "meminfo").read_text()
    said = re.search(r"MemAvailable: +(\d+) kB", meminfo)
    assert said is not None
    text = "".join(f"{line}\n" for line in meminfo.splitlines() if "MemAvailable" not in line)
    found = available_truth({"meminfo": text, "zoneinfo": (folder / "zoneinfo").read_text()})["available_kib"]
    assert abs(found - int(said[1])) <= 4 * 32, "the two files were read a moment apart"


@pytest.mark.parametrize("name", ["kswapd.predict", "kswapd.available", "kswapd.diagnose"])
def test_other_students_have_other_numbers(name: str) -> None:
    answers = {"kswapd.predict": prediction, "kswapd.available": available, "kswapd.diagnose": diagnosis}[name]
    students = [Student(f"s{number}") for number in range(5)]
    assert len({str(answers(student)) for student in students}) > 1  # type: ignore[operator]
    for student in students:
        result = result_of(name, answers(student), student)  # type: ignore[operator]
        assert result.passed, (result.case, result.verdict)
