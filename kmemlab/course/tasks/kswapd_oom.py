"""Chapter 08: whom the OOM killer chooses."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.buddy import PRESET, in_machine, runs_the_machine
from kmemlab.course.tasks.kswapd import CHAPTER, SMALL
from kmemlab.machine.machine import Machine
from kmemlab.process.mm_struct import MM_SWAPENTS, MMF_OOM_SKIP, add_mm_counter
from kmemlab.process.oom_badness import LONG_MIN, oom_badness
from kmemlab.process.signal import Killed
from kmemlab.process.task_struct import living
from kmemlab.types.units import PAGE_SIZE

SUM = "the points are pages in memory, pages in swap and pages of page tables, all added up"
ADJUST = "oom_score_adj counts in thousandths of all pages: times totalpages // 1000"
NEVER = "a task with oom_score_adj -1000 gets LONG_MIN, however much it has"
SKIPPED = "a task whose memory was taken already (MMF_OOM_SKIP) gets LONG_MIN: killing it again frees nothing"

Program = tuple[str, int, int, int, bool]  # name, pages, pages in swap, oom_score_adj, whether its memory was taken


def started(machine: Machine, programs: tuple[Program, ...]) -> list[int]:
    """Let programs run; their pids."""
    pids = []
    for name, pages, swapped, adj, skipped in programs:
        pid = machine.spawn(name)
        if pages:
            machine.touch(pid, machine.mmap(pid, pages * PAGE_SIZE), pages * PAGE_SIZE)
        machine.proc_oom_score_adj(pid, adj)
        _, mm = living(machine.kernel.processes, pid)
        add_mm_counter(mm, MM_SWAPENTS, swapped)
        mm.flags |= skipped << MMF_OOM_SKIP
        pids.append(pid)
    return pids


def kills(machine: Machine, seed: int) -> Iterator[str]:
    """Programs take all memory, one after the other; tells who was killed each time."""
    rng = Random(seed)
    names = ["browser", "editor", "database", "mail", "player", "shell", "backup"]
    rng.shuffle(names)
    pids: dict[int, str] = {}
    for name in names:
        pid = machine.spawn(name)
        pids[pid] = name
        machine.proc_oom_score_adj(pid, rng.choice((-1000, -300, 0, 0, 0, 200, 500)))
        wanted = rng.randrange(800, 2800)
        try:
            for _ in range(0, wanted, 200):
                machine.touch(pid, machine.mmap(pid, 200 * PAGE_SIZE), 200 * PAGE_SIZE)
        except Killed:
            pass
        alive = {task.pid for task in machine.oom_tasks()}
        gone = [f"{name} ({pid})" for pid, name in pids.items() if pid not in alive]
        yield f"{name} takes {wanted} pages; killed so far: {', '.join(gone) or 'nobody'}"


def judge_oom(answer: Answer, case: Case) -> Verdict | None:
    """Each program's points by the sum of what /proc tells of it."""
    if isinstance(case.value, int):
        return runs_the_machine(oom_badness, answer, case.value, kills, cmdline=SMALL)
    programs, totalpages = case.value
    machine = Machine.boot(PRESET)
    pids = started(machine, programs)
    told = {task.pid: task for task in machine.oom_tasks()}
    for pid, (name, _, _, adj, skipped) in zip(pids, programs, strict=True):
        task, _ = living(machine.kernel.processes, pid)
        got = answer(machine.kernel.processes, task, totalpages)
        if adj == -1000 or skipped:
            if got != LONG_MIN:
                return Verdict(SKIPPED if skipped else NEVER, f"{name} gets {got!r}")
            continue
        row = told[pid]
        tables = row.pgtables_bytes // PAGE_SIZE
        if got != row.rss + row.swapents + tables + adj * (totalpages // 1000):
            seen = f"{name} has {row.rss} pages, {row.swapents} in swap, {tables} of page tables, adj {adj}"
            return Verdict(ADJUST if adj else SUM, f"{seen}; all pages: {totalpages}; yours gives {got!r}")
    return None


def cases_oom(_given: None, rng: Random) -> list[Case]:
    """One thing at a time, then all of them, then a machine on which programs are killed."""
    asked: list[tuple[tuple[Program, ...], int]] = [
        ((("sh", 0, 0, 0, False),), 20000),
        ((("editor", 300, 0, 0, False),), 20000),
        ((("editor", 5, 700, 0, False),), 20000),
        ((("editor", 30, 0, 500, False),), 20999),
        ((("editor", 30, 0, -500, False),), 20999),
        ((("sshd", 30, 0, -1000, False),), 20000),
        ((("sshd", 30, 0, -999, False),), 20000),
        ((("gone", 30, 9, 0, True),), 20000),
        ((("gone", 30, 9, 1000, True),), 20000),
    ]
    for _ in range(3):
        programs = tuple(
            (name, rng.randrange(400), rng.randrange(900), rng.choice((0, 0, -300, 250, -1000)), False)
            for name in ("browser", "editor", "database")
        )
        asked.append((programs, rng.randrange(20000, 10**6)))
    cases = [
        Case("; ".join(map(_program, programs)) + f"; totalpages {total}", (programs, total), at)
        for at, (programs, total) in enumerate(asked)
    ]
    machine = f"a machine ({PRESET}, mem=80M) that boots, and on which programs take all memory"
    return [*cases, Case(machine, rng.randrange(1 << 30), 1 << 20, points=len(cases) // 2)]


def _program(program: Program) -> str:
    name, pages, swapped, adj, skipped = program
    parts = [f"{name}: {pages} pages"] + [f"{swapped} in swap"] * bool(swapped) + [f"adj {adj}"] * bool(adj)
    return ", ".join(parts + ["its memory was taken already"] * skipped)


register(
    Task(
        "kswapd.oom",
        CHAPTER,
        "implement",
        12,
        (
            "First who can't be chosen: no address space, oom_score_adj -1000, MMF_OOM_SKIP in `mm.flags`. Then a sum "
            "of three counts. Then the adjustment.",
            "A flag is a bit: `mm.flags >> MMF_OOM_SKIP & 1`. The tables are counted in bytes, 4,096 to a page. The "
            "adjustment may make the points negative, and that is right.",
        ),
        judge_oom,
        cases_oom,
        inside=in_machine(oom_badness, kills, SMALL, every=1),
        seconds=60.0,
    )
)
