"""The tasks of chapter 09: right answers hold; for five wrong ones each the verdict names the law and a small input."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks.whole_variant import VARIANTS
from kmemlab.machine.machine import Machine
from kmemlab.types.units import PAGE_SIZE
from tests.course.judged import ADA, check_right, check_wrong, given_to, student_with

PAGES = 3


def cow(
    kind: str, exclusive: bool, references: int, in_swap_cache: bool, vm_shared: bool, *, alone: int = 1,
    swap: bool = True, flag: bool = True, shared: bool = True, files: bool = False,
) -> str:  # fmt: skip
    """The right answer; each keyword makes it wrong."""
    if kind == "file" and vm_shared and shared:
        return "shared"
    own = kind == "anonymous" or (files and kind == "file")
    last = (flag and exclusive) or references <= alone + (swap and in_swap_cache)
    return "reuse" if own and last else "copy"


def with_(function: Callable[..., Any], **changes: Any) -> Callable[..., Any]:
    return lambda *args: function(*args, **changes)


def mapcounts(student: Student = ADA, *, copies: bool = True, reuse: bool = True, ends: bool = True) -> dict[str, Any]:
    """The right prediction, by counters instead of sets; each keyword makes it wrong."""
    entries: dict[str, int] = {}
    mapped: list[int] = []
    made = 0
    for step in given_to("whole.mapcounts", student)["steps"]:
        who, does, *rest = step.split()
        if does == "writes":
            name = who + rest[1]
            if name in entries and (mapped[entries[name]] > 1 or not reuse):
                mapped[entries[name]] -= 1
                made += 1
            elif name in entries:
                continue
            if copies or name not in entries:
                entries[name] = len(mapped)
                mapped.append(1)
        elif does == "forks":
            for page in "012":
                entries[rest[0] + page] = entries[who + page]
                mapped[entries[who + page]] += 1
        elif ends:
            for page in "012":
                mapped[entries.pop(who + page)] -= 1
    return {
        "mapcounts": {name: mapped[frame] for name, frame in entries.items()},
        "frames": sum(count > 0 for count in mapped),
        "copies": made,
    }


def rows_of(text: str) -> dict[str, int]:
    return {line.partition(":")[0]: int(line.split()[1]) for line in text.splitlines()}


def accounts(student: Student = ADA) -> dict[str, int]:
    told = given_to("whole.accounts", student)
    kib = rows_of(told["meminfo"])
    stacks = 0 if told["stacks_by_vmalloc"] else kib["KernelStack"]
    found = {
        "programs_kib": kib["AnonPages"],
        "cache_kib": kib["Cached"] + kib["Buffers"] + kib["SwapCached"],
        "kernel_kib": kib["SReclaimable"] + kib["SUnreclaim"] + kib["PageTables"] + kib["VmallocUsed"] + stacks,
    }
    return found | {"rest_kib": kib["MemTotal"] - kib["MemFree"] - sum(found.values())}


def leaks(student: Student = ADA) -> dict[str, Any]:
    """The right diagnosis, row by row."""
    found: dict[str, Any] = {}
    for letter, (first, second) in given_to("whole.leak", student)["machines"].items():
        before, after = rows_of(first), rows_of(second)
        fell = before["MemFree"] - after["MemFree"]
        rows = ("Cached", "AnonPages", "SReclaimable", "SUnreclaim", "PageTables", "VmallocUsed")
        rowless = fell - sum(after[row] - before[row] for row in rows)
        large = [row for row in rows[3:] if after[row] - before[row] > 4000]
        found[letter] = {
            (): "none",
            ("SUnreclaim",): "slab",
            ("PageTables",): "page tables",
            ("VmallocUsed",): "vmalloc",
        }[tuple(large)]
        if after["KernelStack"] > before["KernelStack"]:
            found[letter] = "threads"
        if rowless:
            found |= {letter: "pages", "lost_kib": rowless}
    return found


def letter_of(kind: str) -> str:
    return next(letter for letter, told in leaks().items() if told == kind)


RIGHT: dict[str, Any] = {
    "whole.cow": cow,
    "whole.mapcounts": mapcounts(),
    "whole.accounts": accounts(),
    "whole.leak": leaks(),
}
SEEN = "what a process writes is read by no other"
WASTE = "a page that nobody else refers to is not copied"
MAPPED, FRAMES, COPIES = (
    "mapcount is how many page tables",
    "a frame is in use as long as",
    "a write makes a copy only if",
)
WRONG = [
    ("whole.cow", with_(cow, alone=2), SEEN, "2 references"),
    ("whole.cow", with_(cow, swap=False), WASTE, "one of them of the swap cache"),
    ("whole.cow", with_(cow, flag=False), WASTE, "exclusive True, 2 references"),
    ("whole.cow", with_(cow, shared=False), "what is written to a shared mapping", "mapped shared"),
    ("whole.cow", with_(cow, files=True), SEEN, "a page of a file: exclusive False, 1 references"),
    ("whole.cow", lambda *facts: facts[0], "the function returns", "a page of memory: exclusive True"),
    ("whole.mapcounts", mapcounts(ends=False), MAPPED, "the pages of"),
    ("whole.mapcounts", mapcounts() | {"copies": mapcounts(reuse=False)["copies"] + 1}, COPIES, "copies"),
    ("whole.mapcounts", mapcounts() | {"frames": 3}, FRAMES, "frames"),
    ("whole.mapcounts", mapcounts(copies=False), FRAMES, "frames"),
    ("whole.mapcounts", {"mapcounts": {}}, "the answer is a dict with mapcounts", "the pages of"),
    ("whole.accounts", accounts() | {"programs_kib": rows_of(given_to("whole.accounts")["meminfo"])["Mapped"]},
     "programs hold AnonPages", "programs_kib"),
    ("whole.accounts", accounts() | {"cache_kib": accounts()["cache_kib"] + 2632}, "the page cache is", "cache_kib"),
    ("whole.accounts", accounts() | {"kernel_kib": accounts()["kernel_kib"] + 4}, "each page of the kernel", "kernel"),
    ("whole.accounts", accounts() | {"rest_kib": 0}, "MemTotal is", "rest_kib"),
    ("whole.accounts", {"programs_kib": 1.0}, "the answer is a dict", "programs_kib"),
    ("whole.leak", leaks() | {letter_of("none"): "slab"}, "a page cache that grows is no leak", "machine"),
    ("whole.leak", leaks() | {letter_of("pages"): "none"}, "what a driver takes", "machine"),
    ("whole.leak", leaks() | {"lost_kib": leaks()["lost_kib"] // 4}, "what a driver takes", "lost_kib"),
    ("whole.leak", leaks() | {"A": "cache"}, "each machine is one of", "machine A"),
    ("whole.leak", {"A": leaks()["A"]}, "the answer has all parts", "machine B"),
]  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_holds(name: str) -> None:
    check_right(name, RIGHT[name])


@pytest.mark.parametrize(("name", "answer", "law", "case"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_breaks_a_law_on_a_small_input(name: str, answer: Any, law: str, case: str) -> None:
    check_wrong(name, answer, law, case)


@pytest.mark.parametrize("number", range(8))
def test_a_machine_lives_by_a_right_decision(number: int) -> None:
    assert result_of("whole.cow", cow, Student(str(number))).passed


def test_a_decision_that_only_the_machine_catches() -> None:
    """Right as long as few ask: then a write is seen by another process."""
    asked: list[str] = []

    def tired(*facts: Any) -> str:
        asked.append(facts[0])
        return "reuse" if len(asked) > 30 and facts[0] == "anonymous" else cow(*facts)

    result = result_of("whole.cow", tired, ADA)
    assert result.case is not None
    assert result.verdict is not None
    assert "machine" in result.case.text
    assert result.verdict.law.startswith(SEEN)
    assert 0 < result.points < 20


def test_a_wrong_kind_of_answer_is_told_not_crashed_on() -> None:
    answers: list[Any] = [7, None, [], {"mapcounts": [1]}]
    for answer in answers:
        for name in ("whole.mapcounts", "whole.accounts", "whole.leak"):
            assert not result_of(name, answer, ADA).passed


@pytest.mark.parametrize("number", range(10))
def test_the_prediction_is_what_a_machine_does(number: int) -> None:
    student, machine = Student(str(number)), Machine.boot("tiny-128m")
    told = given_to("whole.mapcounts", student)
    pids = {"A": machine.spawn("A")}
    start = machine.mmap(pids["A"], PAGES * PAGE_SIZE)
    copies = 0
    for step in told["steps"]:
        who, does, *rest = step.split()
        if does == "forks":
            pids[rest[0]] = machine.sys_fork(pids[who])
        elif does == "ends":
            machine.sys_exit(pids[who])
        else:
            address = start + PAGE_SIZE * int(rest[1])
            before = machine.user_pfn(pids[who], address)
            machine.user_write(pids[who], address)
            copies += before not in (None, machine.user_pfn(pids[who], address))
    pfns = {
        f"{who}{page}": machine.user_pfn(pids[who], start + page * PAGE_SIZE)
        for who in told["alive"]
        for page in range(PAGES)
    }
    counts = {name: machine.kernel.mm.page.mapcount[pfn] for name, pfn in pfns.items() if pfn is not None}
    truth = {"mapcounts": counts, "frames": len(set(pfns.values())), "copies": copies}
    assert truth == mapcounts(student)
    assert result_of("whole.mapcounts", truth, student).passed


def victim_by(rule: str) -> Callable[..., int | None]:
    """A student's answer to the variant, straight from its words."""

    def answer(tasks: list[dict[str, int]], need: int, now: int) -> int | None:
        parents = {task["pid"]: task["parent"] for task in tasks}

        def above(pid: int) -> list[int]:
            return [pid, *above(parents[pid])] if pid in parents else []

        sums = dict.fromkeys(parents, 0)
        for task in tasks:
            for pid in above(task["pid"]):
                sums[pid] += task["pages"]
        left = sorted((task for task in tasks if task["adj"] != -1000), key=lambda task: task["pid"])
        if not left:
            return None
        most = max(left, key=lambda task: task["pages"])
        if rule == "family":
            most = max(left, key=lambda task: sums[task["pid"]])
        if rule == "enough":
            most = min([task for task in left if task["pages"] >= need], key=lambda task: task["pages"], default=most)
        if rule == "youngest":
            large = [task for task in left if task["pages"] * 10 >= sum(each["pages"] for each in tasks)]
            most = max(large, key=lambda task: task["started"], default=most)
        if rule == "greedy":
            most = max(left, key=lambda task: Fraction(task["pages"], now - task["started"] + 1))
        return most["pid"]

    return answer


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_held_by_its_own_rule_and_by_no_other(variant: str) -> None:
    student = student_with("whole.variant", variant)
    right = result_of("whole.variant", victim_by(variant), student)
    assert right.passed, (right.case, right.verdict)
    for other in {*VARIANTS, "most pages"} - {variant}:
        wrong = result_of("whole.variant", victim_by(other), student)
        assert wrong.verdict is not None, other
        assert wrong.case is not None
        assert wrong.verdict.law.startswith("the victim is the one that your rule says")
        assert wrong.case.size <= 12


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_spares_who_may_not_be_killed_and_takes_the_lower_pid(variant: str) -> None:
    student, right = student_with("whole.variant", variant), victim_by(variant)

    def merciless(tasks: list[dict[str, int]], need: int, now: int) -> int | None:
        return right([task | {"adj": 0} for task in tasks], need, now)

    def last(tasks: list[dict[str, int]], need: int, now: int) -> int | None:
        found = right([task | {"pid": -task["pid"], "parent": -task["parent"]} for task in tasks], need, now)
        return None if found is None else -found

    for answer, law in ((merciless, "who has an adj of -1000"), (last, "of equals the one with the lower pid")):
        result = result_of("whole.variant", answer, student)
        assert result.verdict is not None
        assert result.verdict.law.startswith(law)


@pytest.mark.parametrize("number", range(20))
def test_accounts_and_readings_add_up_for_every_student(number: int) -> None:
    student = Student(str(number))
    assert result_of("whole.accounts", accounts(student), student).passed
    assert accounts(student)["rest_kib"] > 0
    truth = leaks(student)
    assert result_of("whole.leak", truth, student).passed
    assert {"none", "pages"} < {truth[letter] for letter in "ABCD"}
    assert len({truth[letter] for letter in "ABCD"}) == 4
    for first, second in given_to("whole.leak", student)["machines"].values():
        before, after = rows_of(first), rows_of(second)
        assert after["MemFree"] < before["MemFree"]
        assert after["Slab"] == after["SReclaimable"] + after["SUnreclaim"]
        cache = after["Cached"] - before["Cached"]
        assert cache > max(after[row] - before[row] for row in ("Slab", "PageTables", "VmallocUsed", "KernelStack"))


def test_numbers_are_the_students_own() -> None:
    for name in ("whole.mapcounts", "whole.accounts", "whole.leak"):
        assert any(given_to(name, Student(str(other))) != given_to(name) for other in range(5))
    half = result_of("whole.accounts", accounts() | {"rest_kib": 0, "kernel_kib": 0}, ADA)
    assert half.points == 4
