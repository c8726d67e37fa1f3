"""Chapter 09: where MemTotal went on a real machine, and mapcounts after forks, writes and exits."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.whole import CHAPTER
from kmemlab.course.your_machine import CAPTURES

# -- whole.accounts ----------------------------------------------------------------------------------------------------

# Real machines; on x86-64 stacks are areas of vmalloc, on i386 they are plain pages.
MACHINES = {
    "amd64-4g-2cpu": True, "amd64-gbpages-8g": True, "amd64-la57-2g": True, "amd64-nopse-1g": True,
    "i386-1g": False, "i386-pae-1g": False,
}  # fmt: skip
ROWS = (
    "MemTotal", "MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Mapped", "Shmem", "KReclaimable", "Slab",
    "SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "VmallocUsed",
)  # fmt: skip
ACCOUNT_LAWS = {
    "programs_kib": "programs hold AnonPages; what they map of files is in the page cache already",
    "cache_kib": "the page cache is Buffers, Cached and SwapCached; Shmem and Mapped are within them",
    "kernel_kib": "each page of the kernel is counted once: SReclaimable and SUnreclaim are Slab, and stacks are "
    "counted by VmallocUsed where they are made with vmalloc",
    "rest_kib": "MemTotal is MemFree, programs, page cache, the kernel's rows, and the rest",
}


def numbers(meminfo: str) -> dict[str, int]:
    """Rows of a /proc/meminfo, in KiB."""
    return {line.split(":")[0]: int(line.split()[1]) for line in meminfo.splitlines() if line.strip()}


def meminfo_text(rows: dict[str, int]) -> str:
    """Rows in the kernel's format."""
    return "".join(f"{name + ':':<16}{kib:8} kB\n" for name, kib in rows.items())


def given_accounts(rng: Random) -> dict[str, Any]:
    """A real machine's rows, on which some programs have begun to work since."""
    machine = rng.choice(sorted(MACHINES))
    real = numbers((CAPTURES / machine / "proc/meminfo").read_text())
    rows = {name: real[name] for name in ROWS}
    memory, tables = 4 * rng.randrange(20000, 60000), 4 * rng.randrange(50, 150)
    read, disk = 4 * rng.randrange(10000, 40000), 4 * rng.randrange(100, 900)
    threads = rng.randrange(20, 90) * (16 if MACHINES[machine] else 8)
    inodes, lost = 4 * rng.randrange(500, 2000), 4 * rng.randrange(200, 1500)
    more = {
        "AnonPages": memory, "PageTables": tables, "Cached": read, "Mapped": read // 16 * 4, "Buffers": disk,
        "Slab": inodes, "SReclaimable": inodes, "KReclaimable": inodes, "KernelStack": threads,
        "VmallocUsed": threads if MACHINES[machine] else 0,
        "MemFree": -(memory + tables + read + disk + inodes + threads + lost),
    }  # fmt: skip
    rows = {name: kib + more.get(name, 0) for name, kib in rows.items()}
    return {"machine": machine, "stacks_by_vmalloc": MACHINES[machine], "meminfo": meminfo_text(rows)}


def accounts(given: dict[str, Any]) -> dict[str, int]:
    """Where MemTotal went."""
    kib = numbers(given["meminfo"])
    cache = kib["Buffers"] + kib["Cached"] + kib["SwapCached"]
    kernel = kib["Slab"] + kib["PageTables"] + kib["VmallocUsed"]
    kernel += 0 if given["stacks_by_vmalloc"] else kib["KernelStack"]
    rest = kib["MemTotal"] - kib["MemFree"] - kib["AnonPages"] - cache - kernel
    return {"programs_kib": kib["AnonPages"], "cache_kib": cache, "kernel_kib": kernel, "rest_kib": rest}


def judge_accounts(answer: Answer, case: Case) -> Verdict | None:
    """One account."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or type(told.get(part)) is not int:
        return Verdict("the answer is a dict with a whole number for each part", f"there is none for {part!r}")
    return None if told[part] == want else Verdict(ACCOUNT_LAWS[part], f"{part} is not {told[part]}")


def cases_accounts(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case an account."""
    return [Case(part, (part, want), at) for at, (part, want) in enumerate(accounts(given).items())]


register(
    Task(
        "whole.accounts",
        CHAPTER,
        "compute",
        8,
        (
            "Many rows count the same pages twice. Ask of each row: is it part of another one? Draw the rows as boxes "
            "in boxes.",
            "Mapped and Shmem lie within the page cache, SReclaimable and SUnreclaim are the two halves of Slab, and "
            "KReclaimable is SReclaimable once more. "
            "`stacks_by_vmalloc` says whether KernelStack lies within VmallocUsed.",
        ),
        judge_accounts,
        cases_accounts,
        given=given_accounts,
    )
)

# -- whole.mapcounts ---------------------------------------------------------------------------------------------------

PAGES = 3
Frames = dict[int, set[str]]  # frame: who maps it


def given_mapcounts(rng: Random) -> dict[str, Any]:
    """Forks, writes and one exit; afterwards three processes live."""
    steps = [f"A writes page {at}" for at in range(PAGES)]
    steps += ["A forks B", write("B", rng), rng.choice(("A forks C", "B forks C")), write("A", rng), write("C", rng)]
    gone, last = rng.sample("ABC", 2)
    steps += [f"{last} forks D", write("D", rng), f"{gone} ends"]
    left = sorted({"A", "B", "C", "D"} - {gone})
    return {"steps": [*steps, write(rng.choice(left), rng), write(rng.choice(left), rng)], "alive": left}


def write(who: str, rng: Random) -> str:
    """A write to one of the pages."""
    return f"{who} writes page {rng.randrange(PAGES)}"


def after_all(given: dict[str, Any]) -> dict[str, Any]:
    """Carry the steps out on sets: who maps which frame."""
    frames: Frames = {}
    table: dict[tuple[str, int], int] = {}
    copies = 0
    for step in given["steps"]:
        who, does, *what = step.split()
        if does == "writes":
            place = (who, int(what[1]))
            sharers = {other for other, frame in table.items() if place in table and frame == table[place]} - {place}
            copies += bool(sharers)
            if sharers or place not in table:
                table[place] = len(frames)
                frames[table[place]] = set()
        elif does == "forks":
            table |= {(what[0], at): table[who, at] for at in range(PAGES)}
        else:
            table = {place: frame for place, frame in table.items() if place[0] != who}
    held = list(table.values())
    counts = {f"{who}{at}": held.count(table[who, at]) for who in given["alive"] for at in range(PAGES)}
    return {"mapcounts": counts, "frames": len(set(held)), "copies": copies}


MAPCOUNT_LAW = "mapcount is how many page tables map the frame that this page of this process lies in"
WHOLE_LAWS = {
    "frames": "a frame is in use as long as a page table maps it, however many do",
    "copies": "a write makes a copy only if somebody else maps the frame at that moment",
}


def judge_mapcounts(answer: Answer, case: Case) -> Verdict | None:
    """The counts of one process, or one of the two sums."""
    part, want = case.value
    told = answer.value
    if not isinstance(told, dict) or (part in WHOLE_LAWS and type(told.get(part)) is not int):
        return Verdict("the answer is a dict with mapcounts, frames and copies", f"there is no {part}")
    if part in WHOLE_LAWS:
        return None if told[part] == want else Verdict(WHOLE_LAWS[part], f"{part} is not {told[part]}")
    counts = told.get("mapcounts")
    if not isinstance(counts, dict) or any(type(counts.get(name)) is not int for name in want):
        return Verdict("the answer is a dict with mapcounts, frames and copies", f"a mapcount of {part} is missing")
    wrong = [name for name in want if counts[name] != want[name]]
    return Verdict(MAPCOUNT_LAW, f"{wrong[0]}: not {counts[wrong[0]]}") if wrong else None


def cases_mapcounts(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a process, then the sums."""
    truth = after_all(given)
    of = {who: {name: count for name, count in truth["mapcounts"].items() if name[0] == who} for who in given["alive"]}
    cases = [Case(f"the pages of {who}", (who, of[who]), at) for at, who in enumerate(given["alive"])]
    sums = [Case(part, (part, truth[part]), 10 + at) for at, part in enumerate(WHOLE_LAWS)]
    return [*cases, *sums]


register(
    Task(
        "whole.mapcounts",
        CHAPTER,
        "predict",
        10,
        (
            "Draw a column of frames, and a letter beside a frame for each process that maps it. fork adds letters "
            "and no frame.",
            "At a write look at the frame's letters: if the writer stands alone there, nothing changes; else its "
            "letter moves to a new frame. At an exit all its letters go, and frames without a letter are free.",
        ),
        judge_mapcounts,
        cases_mapcounts,
        given=given_mapcounts,
    )
)
