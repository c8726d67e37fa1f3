"""Chapter 08: the size of the reserve, kswapd's loop, the second chance; and a machine on which memory runs out.

What must hold is told by arithmetic and by hand; only the last case of each compares a whole machine with the same
machine unpatched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.buddy import PRESET, booted, in_machine, runs_the_machine
from kmemlab.machine.machine import Machine
from kmemlab.machine.workload import Run
from kmemlab.machine.workloads import anonymous_growth, file_streaming, random_reads
from kmemlab.mm.kswapd_wake import pgdat_balanced
from kmemlab.mm.lru import folio_mark_accessed, lru_add_drain
from kmemlab.mm.watermark import calculate_min_free_kbytes
from kmemlab.reclaim.kswapd import balance_by_priority, balance_pgdat, kswapd_age_node, kswapd_shrink_node
from kmemlab.reclaim.scan_control import ScanControl
from kmemlab.sim.livepatch import livepatch
from kmemlab.sim.timeline import Call
from kmemlab.types.pageflags import PG_active, PG_lru, PG_referenced, PG_unevictable
from kmemlab.views.panel import Panel
from kmemlab.views.panel_lru import LruPanel

CHAPTER = "08_kswapd"
SMALL = "mem=80M"  # 8,000 pages are free after boot


# -- a machine on which memory runs out --------------------------------------------------------------------------------


def runs_out(machine: Machine, seed: int) -> Iterator[str]:
    """A stream, a working set and a program that grows until memory is short; tells what is free, and who took it."""
    machine.sysctl("vm.watermark_boost_factor", 0)
    machine.swapon(1500)
    machine.sysctl("vm.swappiness", 150)
    work = random_reads(seed, pages=1500, reads=160) | anonymous_growth(seed, pages=7300)
    run = Run(machine, work + (file_streaming(seed, pages=2000) | random_reads(seed, pages=1200, reads=100)), every=8)
    told = ("pgscan", "pgsteal", "pgactivate", "refault", "swapped", "oom_kill")
    while not run.finished:
        last = run.advance(8).moments[-1]
        counts = ", ".join(f"{name} {last[name]}" for name in told)
        yield f"after step {last.step}: {last['free']} pages free, {counts}"


def survives(function: Callable[..., Any], answer: Answer, seed: int) -> Verdict | None:
    """The answer in the kernel's place, on a machine that runs out of memory."""
    return runs_the_machine(function, answer, seed, runs_out, every=20, cmdline=SMALL)


def in_short_machine(function: Callable[..., Any], **more: Any) -> Callable[[Case], Inside | None]:
    """The same machine, step by step."""
    return in_machine(function, runs_out, SMALL, **more)


def lru_panel(machine: Machine, _call: Call) -> Panel:
    """The LRU lists of the node."""
    return LruPanel(machine.kernel)


def under_pressure(small: Iterable[Case], rng: Random) -> list[Case]:
    """The small cases, and a machine that runs out of memory as the last and largest."""
    cases = list(small)
    text = f"a machine ({PRESET}, mem=80M, 6 MiB of swap) that boots, and on which memory runs out"
    return [*cases, Case(text, rng.randrange(1 << 30), 1 << 20, points=max(1, len(cases) // 2))]


# -- kswapd.min_free ---------------------------------------------------------------------------------------------------

ROOT = "min_free_kbytes is four times the root of the low memory in KiB, cut off to a whole number"
CLAMPED = "it is never less than 128 and never more than 262144"
USERS = "what the user has set holds if it is as much or more"


def judge_min_free(answer: Answer, case: Case) -> Verdict | None:
    """The largest whole number whose square is not more than 16 times the KiB."""
    if isinstance(case.value, int):
        return survives(calculate_min_free_kbytes, answer, case.value)
    mib, managed, user = case.value
    mm = booted(f"mem={mib}M").kernel.mm
    zones = mm.populated_zones()
    for zone in zones:
        zone.managed_pages = zone.watermark[2] if zone is not zones[-1] else zone.watermark[2] + managed
    mm.user_min_free_kbytes, mm.min_free_kbytes = user, 777
    answer(mm)
    got, kib = mm.min_free_kbytes, 4 * managed
    if 16 * kib < (user + 1) ** 2:
        return None if got == 777 else Verdict(USERS, f"the user has set {user}, and min_free_kbytes became {got}")
    for limit, beyond in ((128, 16 * kib < 129**2), (262144, 16 * kib >= 262144**2)):
        if beyond:
            return None if got == limit else Verdict(CLAMPED, f"with {kib} KiB it is {limit}, yours is {got}")
    if not (got**2 <= 16 * kib < (got + 1) ** 2):
        return Verdict(ROOT, f"with {kib} KiB of low memory yours is {got}")
    return None


def cases_min_free(_given: None, rng: Random) -> list[Case]:
    """Around squares, at both ends, and with a user's choice."""
    pages = [1024, 2500, 256, 17, 4097, 1 << 20, 1 << 30, 1 << 32, rng.randrange(5000, 10**6)]
    asked = [(128, count, -1) for count in pages] + [(96, 4096, 511), (96, 4096, 512), (96, 4096, 513)]
    cases = [
        Case(f"{count} pages of low memory{f', and the user has set {user}' if user >= 0 else ''}", (mib, count, user),
             count.bit_length() + (50 if user >= 0 else 0))
        for mib, count, user in asked
    ]  # fmt: skip
    return under_pressure(cases, rng)


register(
    Task(
        "kswapd.min_free",
        CHAPTER,
        "implement",
        8,
        (
            "Pages to KiB, times 16, the root of that: `math.isqrt` gives the whole number. Is it more than what the "
            "user has set? If not, leave everything as it is.",
            "`max(128, min(262144, …))`. Set `mm.min_free_kbytes`; the function returns nothing.",
        ),
        judge_min_free,
        cases_min_free,
        inside=in_short_machine(calculate_min_free_kbytes),
        seconds=60.0,
    )
)


# -- kswapd.accessed ---------------------------------------------------------------------------------------------------

FIRST = "the first access sets PG_referenced, and that is all"
SECOND = "an access to an inactive page that has PG_referenced makes it active, and takes the flag away"
ACTIVE = "on the active list an access sets PG_referenced at most"
KEPT = "a page that is unevictable stays where it is"

STATES = {"inactive": 0, "active": 1 << PG_active, "unevictable": 1 << PG_unevictable}


def judge_accessed(answer: Answer, case: Case) -> Verdict | None:
    """Accesses to one page, one after the other."""
    if isinstance(case.value, int):
        return survives(folio_mark_accessed, answer, case.value)
    state, referenced, accesses = case.value
    machine = booted(SMALL)
    machine.create_file("f", 40)
    machine.read_file("f", 0, 30 * 4096)
    mm = machine.kernel.mm
    pfn = next(pfn for pfn in range(mm.page.max_pfn) if mm.page.flags[pfn] >> PG_lru & 1)
    mm.page.flags[pfn] = mm.page.flags[pfn] & ~(1 << PG_referenced | 1 << PG_active) | STATES[state]
    mm.page.flags[pfn] |= referenced << PG_referenced
    before = state
    for nth in range(1, accesses + 1):
        law = KEPT if state == "unevictable" else ACTIVE if state == "active" else SECOND if referenced else FIRST
        if law is SECOND:
            state, referenced = "active", 0
        else:
            referenced = 1
        answer(mm, pfn)
        lru_add_drain(mm)
        flags = mm.page.flags[pfn]
        got = ("unevictable" if flags >> PG_unevictable & 1 else "active" if flags >> PG_active & 1 else "inactive",
               flags >> PG_referenced & 1)  # fmt: skip
        if got != (state, referenced):
            return Verdict(law, f"access {nth} to a page that was {before} should leave it {_said(state, referenced)}, "
                                f"yours leaves it {_said(*got)}")  # fmt: skip
    return None


def _said(state: str, referenced: int) -> str:
    return f"{state} {'with' if referenced else 'without'} PG_referenced"


def cases_accessed(_given: None, rng: Random) -> list[Case]:
    """From each state, one to four accesses."""
    cases = [
        Case(f"a page that is {_said(state, referenced)}, and {accesses} accesses", (state, referenced, accesses),
             accesses * 10 + at)
        for accesses in (1, 2, 3, 4)
        for at, (state, referenced) in enumerate(
            (("inactive", 0), ("inactive", 1), ("active", 0), ("active", 1), ("unevictable", 0), ("unevictable", 1))
        )
    ]  # fmt: skip
    return under_pressure(cases, rng)


register(
    Task(
        "kswapd.accessed",
        CHAPTER,
        "implement",
        12,
        (
            "There are three ways out. No flag: set it. The flag, and the page is inactive and may go: make it active. "
            "Everything else: nothing at all.",
            "Take the flag away when the page becomes active. A page that still waits in a CPU's batch is not on a "
            "list yet: for that one there is `lru_cache_activate_folio`.",
        ),
        judge_accessed,
        cases_accessed,
        inside=in_short_machine(folio_mark_accessed),
        seconds=60.0,
    )
)


# -- kswapd.balance ----------------------------------------------------------------------------------------------------

STOPS = "it stops, and says True, as soon as the node is balanced: it asks before each turn"
HARDER = "a turn that scanned too little, or freed nothing, is followed by one with a priority less by one"
SAME = "a turn that scanned enough and freed something is followed by one with the same priority"
ENDS = "it gives up, and says False, when priority 1 was tried"
COUNTS = "each turn begins with nr_scanned 0"
AGES = "each turn ages the anonymous lists once, before it scans"


@dataclass
class Script:
    """A node that does as it is told: how many turns until it is balanced, and for each what comes of it."""

    turns: list[tuple[bool, int]]  # scanned enough, pages freed
    balanced_after: int
    seen: list[int] = field(default_factory=list)  # priorities of the turns
    aged: int = 0
    fresh: bool = True


def scripted_balanced(pgdat: Script, order: int, highest_zoneidx: int) -> bool:
    """What the script says."""
    return len(pgdat.seen) >= pgdat.balanced_after


def scripted_shrink(mm: Any, pgdat: Script, sc: ScanControl) -> bool:
    """One turn of the script."""
    pgdat.fresh = pgdat.fresh and sc.nr_scanned == 0
    pgdat.seen.append(sc.priority)
    enough, freed = pgdat.turns[min(len(pgdat.seen), len(pgdat.turns)) - 1]
    sc.nr_scanned += 100
    sc.nr_reclaimed += freed
    if len(pgdat.seen) > 100:
        raise RecursionError("more than a hundred turns")
    return enough


def scripted_age(mm: Any, pgdat: Script, sc: ScanControl) -> None:
    """Counts."""
    pgdat.aged += 1


def judge_balance(answer: Answer, case: Case) -> Verdict | None:
    """The priorities of the turns are those of the rule."""
    if isinstance(case.value, int):
        return survives(balance_by_priority, answer, case.value)
    turns, balanced_after = case.value
    want: list[int] = []
    priority = 12
    while priority >= 1 and len(want) < balanced_after:
        want.append(priority)
        enough, freed = turns[min(len(want), len(turns)) - 1]
        priority -= not (enough and freed)
    node = Script(list(turns), balanced_after)
    try:
        with (
            livepatch(pgdat_balanced, scripted_balanced),
            livepatch(kswapd_shrink_node, scripted_shrink),
            livepatch(kswapd_age_node, scripted_age),
        ):
            got = answer(None, node, ScanControl(0), 0)
    except RecursionError:
        law = STOPS if len(want) >= balanced_after else ENDS
        return Verdict(law, "yours is still at it after a hundred turns")
    return _priorities(node, want, got, turns, len(want) >= balanced_after)


def _priorities(node: Script, want: list[int], got: object, turns: Any, balanced: bool) -> Verdict | None:
    for nth, (have, right) in enumerate(zip(node.seen, want, strict=False), 1):
        if have != right:
            enough, freed = turns[min(max(nth - 1, 1), len(turns)) - 1]
            law = SAME if enough and freed else HARDER
            return Verdict(law, f"turn {nth} should have priority {right}, yours has {have}")
    if len(node.seen) != len(want):
        law = STOPS if balanced else ENDS
        return Verdict(law, f"it takes {len(want)} turns, yours takes {len(node.seen)}")
    if got is not balanced:
        return Verdict(STOPS if balanced else ENDS, f"the result is {balanced}, yours is {got!r}")
    if not node.fresh:
        return Verdict(COUNTS, "nr_scanned was left as the turn before had made it")
    if node.aged != len(want):
        return Verdict(AGES, f"there were {len(want)} turns, and the lists were aged {node.aged} times")
    return None


def cases_balance(_given: None, rng: Random) -> list[Case]:
    """From nothing to do to nothing to be done, and some drawn."""
    scripts: list[tuple[tuple[tuple[bool, int], ...], int]] = [
        (((True, 9),), 0),
        (((True, 9),), 1),
        (((True, 9),), 3),
        (((False, 9),), 3),
        (((True, 0),), 3),
        (((False, 0),), 99),
        (((True, 0),), 99),
        (((True, 5), (False, 5), (True, 0), (True, 7), (True, 7)), 6),
    ]
    for _ in range(4):
        turns = tuple((rng.random() < 0.6, rng.choice((0, 1, 40))) for _ in range(rng.randrange(3, 9)))
        scripts.append((turns, rng.randrange(2, 10)))
    return under_pressure((Case(_script(*script), script, at) for at, script in enumerate(scripts)), rng)


def _script(turns: tuple[tuple[bool, int], ...], balanced_after: int) -> str:
    told = ", ".join(f"{'enough' if enough else 'too little'} scanned and {freed} freed" for enough, freed in turns[:4])
    end = "never balanced" if balanced_after > 50 else f"balanced after {balanced_after} turns"
    return f"a node that is {end}; turn by turn: {told}" + (", …" if len(turns) > 4 else ", and so on")


register(
    Task(
        "kswapd.balance",
        CHAPTER,
        "implement",
        15,
        (
            "One loop, as long as `sc.priority` is 1 or more. What is asked first in each turn? What two things must "
            "be true of a turn for the priority to stay?",
            "Remember `sc.nr_reclaimed` before the turn: the difference is what it freed. `kswapd_shrink_node` tells "
            "whether enough was scanned. Don't forget `sc.nr_scanned = 0`.",
        ),
        judge_balance,
        cases_balance,
        inside=in_short_machine(
            balance_by_priority,
            seen=balance_pgdat,
            panel=lru_panel,
            folded=("kswapd_shrink_node", "kswapd_age_node", "pgdat_balanced"),
        ),
        seconds=60.0,
    )
)
