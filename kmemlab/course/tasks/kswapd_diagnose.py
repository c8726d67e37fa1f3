"""Chapter 08: four readings of real machines; which of them is short of memory, and which one swaps for no reason?"""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.kswapd import CHAPTER
from kmemlab.course.tasks.kswapd_numbers import judge_parts
from kmemlab.course.your_machine import CAPTURES

READINGS = {
    "rereads": ("files-128m/before", "files-128m/after"),
    "swaps": ("swap-160m/before", "swap-160m/pressed"),
    "past": ("swap-160m/late", "swap-160m/after"),
    "killed": ("oom-192m/before", "oom-192m/after"),
}
"""What each machine does, and where its two readings are."""
COUNTERS = (
    "pgpgin", "pgpgout", "pswpin", "pswpout", "pgfault", "pgmajfault", "pgscan_kswapd", "pgscan_direct",
    "pgsteal_kswapd", "pgsteal_direct", "workingset_refault_anon", "workingset_refault_file", "allocstall_movable",
    "oom_kill",
)  # fmt: skip
SIZES = ("MemTotal", "MemFree", "MemAvailable", "Cached", "AnonPages", "SwapTotal", "SwapFree")
LAWS = {
    "rereads": "a machine whose cache is too small reads pages of files again: workingset_refault_file grows",
    "swaps": "a machine that is short now writes to swap between the readings: pswpout grows, and little is available",
    "past": "swap in use is history: what counts is what was written between the readings, and what is available now",
    "killed": "oom_kill counts the programs that were killed",
    "scans_for_one": "how hard it is: pages scanned for each page taken, kswapd's and direct reclaim's together",
    "swap_kib": "swap in use is SwapTotal - SwapFree of the second reading",
}


def _rows(folder: str, file: str, names: tuple[str, ...]) -> str:
    """Some lines of a text, as they stand there."""
    lines = (CAPTURES / folder / "proc" / file).read_text().splitlines()
    return "".join(f"{line}\n" for line in lines if line.split()[0].rstrip(":") in names)


def given_diagnose(rng: Random) -> dict[str, Any]:
    """The four machines under letters that are drawn."""
    kinds = sorted(READINGS)
    rng.shuffle(kinds)
    machines = {
        letter: [
            {"vmstat": _rows(folder, "vmstat", COUNTERS), "meminfo": _rows(folder, "meminfo", SIZES)}
            for folder in READINGS[kind]
        ]
        for letter, kind in zip("ABCD", kinds, strict=True)
    }
    return {"machines": machines}


def numbers(text: str) -> dict[str, int]:
    """Name and number of each line."""
    return {line.split()[0].rstrip(":"): int(line.split()[1]) for line in text.splitlines()}


def diagnose_truth(given: dict[str, Any]) -> dict[str, Any]:
    """Each letter's kind, told by what grew; and two numbers."""
    found: dict[str, Any] = {}
    for letter, (first, second) in given["machines"].items():
        before, after = numbers(first["vmstat"]), numbers(second["vmstat"])
        grown = {name: after[name] - before[name] for name in after}
        if grown["oom_kill"]:
            found[letter] = "killed"
        elif grown["pswpout"]:
            found[letter] = "swaps"
            scans, steals = (
                sum(grown[f"{what}_{who}"] for who in ("kswapd", "direct")) for what in ("pgscan", "pgsteal")
            )
            found["scans_for_one"] = scans // steals
        elif grown["workingset_refault_file"]:
            found[letter] = "rereads"
        else:
            found[letter] = "past"
            sizes = numbers(second["meminfo"])
            found["swap_kib"] = sizes["SwapTotal"] - sizes["SwapFree"]
    return found


def judge_diagnose(answer: Answer, case: Case) -> Verdict | None:
    """One letter, or one number."""
    part, want = case.value
    return judge_parts({part: LAWS[want if isinstance(want, str) else part]}, answer, case)


def cases_diagnose(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Letters first."""
    truth = sorted(diagnose_truth(given).items(), key=lambda item: (len(item[0]) > 1, item[0]))
    return [Case(f"machine {part}" if len(part) == 1 else part, (part, value), at, 2 if len(part) == 1 else 1)
            for at, (part, value) in enumerate(truth)]  # fmt: skip


register(
    Task(
        "kswapd.diagnose",
        CHAPTER,
        "diagnose",
        10,
        (
            "Counters never fall: only the difference between the two readings says what went on between them. Sizes "
            "(of meminfo) say how it is now.",
            "Begin with the rarest: whose oom_kill grew? Then: whose pswpout grew? Of the two that are left one drops "
            "pages of files and reads them again, and the other has memory available.",
        ),
        judge_diagnose,
        cases_diagnose,
        given=given_diagnose,
    )
)
