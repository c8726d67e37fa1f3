"""Whom the OOM killer chooses, what happens to it, and that there is an end to every lack of memory."""

from __future__ import annotations

import pickle
import random
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kmemlab.alloc.page_slowpath import gfp_pfmemalloc_flags
from kmemlab.machine.machine import Machine
from kmemlab.mm.context import PF_KTHREAD
from kmemlab.mm.vm_event import OOM_KILL
from kmemlab.mm.vmstat import NR_SWAPCACHE
from kmemlab.mm.zone import WMARK_MIN
from kmemlab.mm.zone_watermark_ok import ALLOC_OOM
from kmemlab.process.mm_struct import MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS, MMF_OOM_SKIP, MmStruct
from kmemlab.process.oom_badness import LONG_MIN, oom_badness, proc_oom_score
from kmemlab.process.oom_kill import (
    constrained_alloc,
    mark_oom_victim,
    oom_evaluate_task,
    oom_killer,
    out_of_memory,
    select_bad_process,
)
from kmemlab.process.oom_report import OomControl
from kmemlab.process.signal import Killed
from kmemlab.process.task_struct import TaskStruct, find_task, living, running
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, KernelPanic, MustWait, OutOfMemory
from kmemlab.types.gfp import (
    __GFP_NOFAIL,
    __GFP_NORETRY,
    __GFP_NOWARN,
    __GFP_RETRY_MAYFAIL,
    __GFP_THISNODE,
    GFP_KERNEL,
    GFP_NOFS,
)
from tests.process.short import QUIET, exhaust, free_pages_of, grow, program, short_machine
from tests.process.space import PAGE, machine_of

MACHINES = Path(__file__).parents[1] / "data" / "machines"


def alive(machine: Machine) -> set[str]:
    return {row.name for row in machine.oom_tasks()}


def killed_names(machine: Machine) -> list[str]:
    """The victims, by the log."""
    lines = [line for line in machine.dmesg().splitlines() if ": Killed process " in line]
    return [line.split("(")[-1].split(")")[0] if "(oom_" not in line else line.split("(")[2].split(")")[0]
            for line in (line.split(" total-vm")[0] for line in lines)]  # fmt: skip


# -- points ------------------------------------------------------------------------------------------------------------


def points_of(rss: int, swap: int, table_bytes: int, adj: int, total: int) -> int | None:
    """The kernel's formula, written down once more: None for a task that must not be chosen."""
    if adj == -1000:
        return None
    return rss + swap + table_bytes // 4096 + adj * (total // 1000)


def score_of(points: int | None, total: int) -> int:
    """/proc/PID/oom_score: C divides towards zero."""
    if points is None:
        return 0
    return int((1000 + int(points * 1000 / total)) * 2 / 3)


def dress(mm: MmStruct, chance: random.Random, largest: int) -> tuple[int, int, int]:
    """Give an address space numbers that it does not have: (rss, swap, bytes of page tables)."""
    parts = [chance.randrange(largest) for _ in range(4)]
    for member, pages in zip((MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS), parts, strict=True):
        mm.rss_stat[member] = pages
    mm.pgtables_bytes = chance.randrange(1, 1 + min(largest, 2000)) * 4096
    return sum(parts[:3]), parts[3], mm.pgtables_bytes


@pytest.mark.parametrize("seed", range(12))
def test_the_worst_of_random_tasks(seed: int) -> None:
    compare_points(seed)


def compare_points(seed: int) -> None:
    """Random tasks, many times: their points, their scores, the ranking, and the one that is chosen."""
    chance = random.Random(seed)
    machine = machine_of()
    processes, mm = machine.kernel.processes, machine.kernel.mm
    pids = [machine.spawn(f"task{nth}") for nth in range(chance.randrange(1, 12))]
    largest = chance.choice((2, 400, 9000))
    for _ in range(25):
        mm.totalram_pages, mm.total_swap_pages = chance.randrange(1000, 90000), chance.choice((0, 5000, 260000))
        total = mm.totalram_pages + mm.total_swap_pages
        worst: tuple[int, int] | None = None
        for pid in pids:
            task, space = living(processes, pid)
            task.oom_score_adj = chance.choice((-1000, -999, -500, -17, 0, 0, 0, 1, 250, 1000))
            rss, swap, tables = dress(space, chance, largest)
            points = points_of(rss, swap, tables, task.oom_score_adj, total)
            assert oom_badness(processes, task, total) == (LONG_MIN if points is None else points)
            assert proc_oom_score(processes, task) == score_of(points, total)
            if points is not None and (worst is None or points >= worst[0]):
                worst = points, pid  # of two that are equal, the one that began later
        oc = OomControl(GFP_KERNEL, 0, totalpages=total)
        select_bad_process(processes, oc)
        assert (oc.chosen.pid if oc.chosen else None) == (worst[1] if worst else None)
        ranking = machine.oom_ranking()
        assert [rank.pid for rank in ranking][:1] == ([worst[1]] if worst else [rank.pid for rank in ranking][:1])
        assert [rank.points for rank in ranking if rank.killable] == sorted(
            (rank.points for rank in ranking if rank.points is not None), reverse=True
        )


def no_swap(processes, task, totalpages):
    points = oom_badness.original(processes, task, totalpages)
    return points - living(processes, task.pid)[1].rss_stat[MM_SWAPENTS] if points != LONG_MIN else points


def no_tables(processes, task, totalpages):
    points = oom_badness.original(processes, task, totalpages)
    return points - living(processes, task.pid)[1].pgtables_bytes // PAGE if points != LONG_MIN else points


def adj_of_a_fixed_size(processes, task, totalpages):
    points = oom_badness.original(processes, task, totalpages)
    return points + task.oom_score_adj * (50 - totalpages // 1000) if points != LONG_MIN else points


def all_can_be_killed(processes, task, totalpages):
    return max(oom_badness.original(processes, task, totalpages), -totalpages)


def earlier_of_two(processes, task, oc):
    chosen, points = oc.chosen, oc.chosen_points
    oom_evaluate_task.original(processes, task, oc)
    if chosen is not None and oc.chosen_points == points:
        oc.chosen = chosen
    return False


def unscaled(processes, task):
    return max(0, oom_badness(processes, task, processes.common.mm.totalram_pages))


@pytest.mark.parametrize(
    ("function", "defect"),
    [
        (oom_badness, no_swap), (oom_badness, no_tables), (oom_badness, adj_of_a_fixed_size),
        (oom_badness, all_can_be_killed), (oom_evaluate_task, earlier_of_two), (proc_oom_score, unscaled),
    ],
)  # fmt: skip
def test_wrong_points_are_found_out(function: Callable[..., int], defect: Callable[..., int]) -> None:
    def some_seeds() -> None:
        for seed in range(12):
            compare_points(seed)

    with livepatch(function, defect), pytest.raises(AssertionError):
        some_seeds()


def test_scores_stay_within_their_range() -> None:
    machine = machine_of()
    task, space = living(machine.kernel.processes, machine.spawn())
    total = machine.kernel.mm.totalram_pages
    scores = []
    for adj, rss in ((-1000, total), (-999, 0), (0, 0), (0, total // 2), (1000, total)):
        task.oom_score_adj, space.rss_stat[MM_ANONPAGES] = adj, rss
        scores.append(proc_oom_score(machine.kernel.processes, task))
    assert scores[0] == 0
    assert scores == sorted(scores)
    assert scores[2] == 666
    assert 1950 < scores[-1] <= 2000  # all of a machine's pages, and all of oom_score_adj


def test_who_is_never_chosen() -> None:
    machine = machine_of()
    processes = machine.kernel.processes
    task, space = living(processes, machine.spawn())
    space.rss_stat[MM_ANONPAGES] = 900
    assert oom_badness(processes, task, 1000) == 900 + space.pgtables_bytes // 4096

    def hopeless(change: str, value: int, what: TaskStruct | MmStruct = task) -> bool:
        before = getattr(what, change)
        setattr(what, change, value)
        points = oom_badness(processes, task, 1000)
        setattr(what, change, before)
        return points == LONG_MIN

    assert hopeless("flags", PF_KTHREAD)
    assert hopeless("pid", 1)
    assert hopeless("oom_score_adj", -1000)
    assert not hopeless("oom_score_adj", -999)
    assert hopeless("mm", 0)
    assert hopeless("flags", 1 << MMF_OOM_SKIP, space)


def test_a_child_of_vfork_is_spared_while_its_parent_waits() -> None:
    machine = short_machine()
    parent = program(machine, "parent", 300)
    child = machine.sys_vfork(parent)
    assert [(rank.pid, rank.killable, rank.rss) for rank in machine.oom_ranking()] == [
        (parent, True, 300), (child, False, 300),
    ]  # fmt: skip
    with pytest.raises(MustWait, match="sleeps until its child"):
        machine.user_write(parent, 0x1000)
    machine.check()
    machine.sysrq_f()  # the parent is chosen, and with it goes who uses its memory
    assert alive(machine) == set()
    assert machine.kernel.processes.oom_victims == 0
    machine.check()


# -- kills -------------------------------------------------------------------------------------------------------------


def test_the_largest_goes_though_another_one_asked() -> None:
    machine = short_machine()
    before = free_pages_of(machine)
    program(machine, "big", 1500)
    small = program(machine, "small", 100)
    with pytest.raises(Killed, match="small"):  # later it is the largest itself
        grow(machine, small)
    assert killed_names(machine) == ["big", "small"]
    assert machine.kernel.mm.vm_event[OOM_KILL] == 2
    assert alive(machine) == set()
    machine.check()
    assert before - free_pages_of(machine) < 200  # slabs, cached stacks and per-CPU lists stay


def test_swap_is_used_up_first_and_what_lies_there_counts() -> None:
    machine = short_machine()
    machine.swapon(1000)
    small = program(machine, "small", 100)
    hog = program(machine, "hog", 400)
    with pytest.raises(Killed, match="hog"):
        grow(machine, hog)
    log = machine.dmesg()
    assert "Free swap  = 0kB" in log
    assert "Total swap = 3996kB" in log  # the first page says what the others are
    rows = {int(row[1]): [int(field) for field in row[2].split()] for row in re.finditer(
        r"^\[ +(\d+)\](( +-?\d+){7}) \w+$", log, re.M)}  # fmt: skip
    swapents = {pid: fields[5] for pid, fields in rows.items()}
    assert swapents[small] + swapents[hog] == 999
    assert rows[hog][3] + swapents[hog] > machine.kernel.mm.totalreserve_pages + 1000
    # What is left in swap is the other one's, or of pages that are on their way there still: nobody's any more.
    left = field_of_swaps(machine) // 4 - living(machine.kernel.processes, small)[1].rss_stat[MM_SWAPENTS]
    assert 0 <= left <= sum(pgdat.vm_stat[NR_SWAPCACHE] for pgdat in machine.kernel.mm.node_data)
    machine.check()


def field_of_swaps(machine: Machine) -> int:
    """KiB of swap in use, by /proc/swaps."""
    return int(machine.proc_swaps().splitlines()[1].split()[3])


def test_a_protected_task_is_passed_over() -> None:
    machine = short_machine()
    program(machine, "precious", 1200, adj=-1000)
    program(machine, "spare", 60, adj=1000)
    hog = program(machine, "hog", 100)
    with pytest.raises(Killed, match="hog"):
        grow(machine, hog)
    assert killed_names(machine) == ["spare", "hog"]
    assert alive(machine) == {"precious"}
    machine.check()


def test_the_one_that_asks_may_be_killed_for_it() -> None:
    machine = short_machine()
    machine.sysctl("vm.oom_kill_allocating_task", 1)
    program(machine, "big", 1200)
    small = program(machine, "small", 100)
    with pytest.raises(Killed, match="small"):
        grow(machine, small)
    assert "Out of memory (oom_kill_allocating_task): Killed process" in machine.dmesg()
    assert alive(machine) == {"big"}
    protected = program(machine, "protected", 100, adj=-1000)
    grow(machine, protected, steps=5)
    assert alive(machine) == {"protected"}  # it can't be killed, so the worst was
    machine.check()


@pytest.mark.parametrize("name", ["amd64-96m", "amd64-256m", "i386-256m", "i386-pae-256m", "amd64-nopse-1g"])
def test_growth_ends_on_every_small_machine(name: str) -> None:
    machine = short_machine(str(MACHINES / name / "hardware.json"))
    for nth in range(3):
        program(machine, f"task{nth}", 150 + 100 * nth)
    hog = program(machine, "hog", 10)
    with pytest.raises(Killed, match="hog"):
        grow(machine, hog)
    assert killed_names(machine)[-1] == "hog"
    machine.check()
    program(machine, "next", 500)  # life goes on
    machine.check()


def test_a_request_of_the_kernel_kills_too_and_panics_when_nobody_is_left() -> None:
    machine = short_machine()
    program(machine, "one", 700)
    program(machine, "two", 300)
    with pytest.raises(KernelPanic, match="System is deadlocked on memory"):
        exhaust(machine, GFP_KERNEL)
    assert killed_names(machine) == ["one", "two"]
    assert machine.dmesg().splitlines()[-2:] == [
        "Out of memory and no killable processes...",
        "Kernel panic - not syncing: System is deadlocked on memory",
    ]
    machine.check()


def test_before_the_first_program_a_request_fails() -> None:
    machine = short_machine()
    with pytest.raises(OutOfMemory):
        exhaust(machine, GFP_KERNEL)
    assert "invoked oom-killer" not in machine.dmesg()
    assert not oom_killer(machine.kernel.mm, GFP_KERNEL, 0, 0)


@pytest.mark.parametrize(
    ("gfp", "order"),
    [
        (GFP_KERNEL | __GFP_NORETRY, 0),
        (GFP_KERNEL | __GFP_RETRY_MAYFAIL, 0),
        (GFP_KERNEL | __GFP_THISNODE, 0),
        (GFP_KERNEL, 4),
    ],
)
def test_requests_that_may_fail_kill_nobody(gfp: int, order: int) -> None:
    machine = short_machine()
    program(machine, "big", 1000)
    with pytest.raises(OutOfMemory):
        exhaust(machine, gfp | __GFP_NOWARN, order)
    assert alive(machine) == {"big"}
    machine.check()


def test_without_files_nobody_is_killed_and_the_request_ends_all_the_same() -> None:
    machine = short_machine()
    program(machine, "big", 1000)
    with pytest.raises(MustWait, match="tries again until another task frees pages"):
        exhaust(machine, GFP_NOFS | __GFP_NOWARN)
    assert alive(machine) == {"big"}
    machine.check()


def test_a_request_that_must_not_fail_gets_the_last_pages() -> None:
    machine = short_machine()
    program(machine, "big", 1000, adj=-1000)
    program(machine, "other", 10)
    with pytest.raises((MustWait, KernelPanic)):
        exhaust(machine, GFP_KERNEL | __GFP_NOFAIL)
    assert alive(machine) == {"big"}
    machine.check()


def test_a_victim_gets_below_the_mark() -> None:
    """ALLOC_OOM: half of what lies below min; the others stay above."""
    machine = short_machine()
    processes, mm = machine.kernel.processes, machine.kernel.mm
    pid = program(machine, "victim", 10)
    task = find_task(processes, pid)
    with running(mm.current, task):
        assert not gfp_pfmemalloc_flags(mm.current, GFP_KERNEL)
        mark_oom_victim(processes, task)
        assert gfp_pfmemalloc_flags(mm.current, GFP_KERNEL) == ALLOC_OOM
        mark_oom_victim(processes, task)
        assert processes.oom_victims == 1
    assert not gfp_pfmemalloc_flags(mm.current, GFP_KERNEL)  # others are no victims
    with pytest.raises(OutOfMemory):
        exhaust(machine, QUIET)
    before = free_pages_of(machine)
    task.sigkill = 1
    with running(mm.current, task):
        got = [machine.alloc_pages(QUIET & ~__GFP_NORETRY) for _ in range(20)]
    assert len(got) == 20
    assert before - free_pages_of(machine) <= 20 + 63
    zone = machine.zone("DMA32")
    assert zone.vm_stat[0] < zone.watermark[WMARK_MIN] + zone.watermark_boost
    machine.kill(pid)
    assert processes.oom_victims == 0
    machine.check()


def test_fork_in_the_midst_of_which_memory_runs_out() -> None:
    machine = short_machine()
    parent = program(machine, "parent", 200)
    for _ in range(25):
        with suppress(Killed, OutOfMemory):
            child = machine.sys_fork(parent)
            grow(machine, child, steps=1)
    machine.check()
    assert "parent" in killed_names(machine)
    assert machine.kernel.processes.oom_victims == 0


def test_a_fork_ends_when_its_parent_is_killed() -> None:
    """The parent is chosen while its own child is being made: no child is left, and nothing of it."""
    machine = short_machine(left=500)
    machine.sysctl("vm.oom_kill_allocating_task", 1)
    pids = [program(machine, "parent", 5)]
    before = machine.kernel.processes.total_forks

    def fork_bomb() -> None:
        while True:
            pids.append(machine.sys_fork(pids[0]))

    with pytest.raises(Killed, match="parent"):
        fork_bomb()
    assert machine.kernel.processes.total_forks - before == len(pids) - 1
    assert sorted(row.pid for row in machine.oom_tasks()) == pids[1:]
    machine.check()


def test_a_system_call_of_the_victim_ends_with_the_victim() -> None:
    machine = short_machine()
    machine.sysctl("vm.oom_kill_allocating_task", 1)
    hog = program(machine, "hog", 0)

    def live() -> None:
        while True:
            machine.malloc(hog, 200_000)
            grow(machine, hog, steps=1)

    with pytest.raises(Killed) as caught:
        live()
    assert caught.value.what == f"process {hog} (hog) was killed: memory ran out, and the OOM killer chose it"
    with pytest.raises(BadRequest, match="no process"):
        machine.user_read(hog, 0x1000)
    machine.check()


def test_a_parent_hears_that_its_child_was_killed() -> None:
    machine = short_machine()
    shell = program(machine, "shell", 10)
    child = machine.sys_fork(shell)
    with pytest.raises(Killed):
        grow(machine, child)
    assert machine.sys_wait(shell) == (child, 9)
    machine.check()


# -- panic_on_oom and constraints --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "nodes", "panics"),
    [(0, None, False), (1, None, True), (2, None, True), (1, frozenset({0}), False), (2, frozenset({0}), True)],
)
def test_panic_on_oom(how: int, nodes: frozenset[int] | None, panics: bool) -> None:
    machine = machine_of("numa-2x4g" if nodes else "tiny-128m")
    pid = program(machine, "one", 5)
    machine.sysctl("vm.panic_on_oom", how)
    oc = OomControl(GFP_KERNEL, 0, nodemask=nodes)
    if panics:
        kind = "compulsory" if how == 2 else "system-wide"
        with pytest.raises(KernelPanic, match=f"Out of memory: {kind} panic_on_oom is enabled"):
            out_of_memory(machine.kernel.processes, oc)
        assert not find_task(machine.kernel.processes, pid).sigkill
    else:
        assert out_of_memory(machine.kernel.processes, oc)
        assert find_task(machine.kernel.processes, pid).sigkill


def test_what_counts_as_all_pages() -> None:
    machine = machine_of("numa-2x4g")
    mm = machine.kernel.mm
    mm.total_swap_pages = 1000
    nodes = [pgdat.node_id for pgdat in mm.node_data if pgdat.node_present_pages]
    everything = OomControl(GFP_KERNEL, 0)
    assert constrained_alloc(mm, everything) == "CONSTRAINT_NONE"
    assert everything.totalpages == mm.totalram_pages + 1000
    some = OomControl(GFP_KERNEL, 0, nodemask=frozenset(nodes[:1]))
    assert constrained_alloc(mm, some) == "CONSTRAINT_MEMORY_POLICY"
    assert some.totalpages == mm.node_data[nodes[0]].node_present_pages + 1000
    all_nodes = OomControl(GFP_KERNEL, 0, nodemask=frozenset(nodes))
    assert constrained_alloc(mm, all_nodes) == "CONSTRAINT_NONE"
    this = OomControl(GFP_KERNEL | __GFP_THISNODE, 0, nodemask=frozenset(nodes[:1]))
    assert constrained_alloc(mm, this) == "CONSTRAINT_NONE"


def test_somebody_who_dies_already_is_waited_for() -> None:
    machine = machine_of()
    processes = machine.kernel.processes
    first, second = (find_task(processes, program(machine, name, 5)) for name in ("first", "second"))
    mark_oom_victim(processes, first)
    oc = OomControl(GFP_KERNEL, 0)
    assert out_of_memory(processes, oc)
    assert oc.aborted
    assert not second.sigkill
    living(processes, first.pid)[1].flags |= 1 << MMF_OOM_SKIP  # it was reaped: the next one, then
    assert out_of_memory(processes, OomControl(GFP_KERNEL, 0))
    assert second.sigkill


def test_a_task_that_ends_already_gets_the_reserves_and_nobody_is_killed() -> None:
    machine = machine_of()
    processes = machine.kernel.processes
    task = find_task(processes, program(machine, "leaving", 5))
    task.sigkill = 1
    with running(machine.kernel.mm.current, task):
        assert out_of_memory(processes, OomControl(GFP_KERNEL, 0))
        assert machine.kernel.mm.current.oom_victim
    assert machine.kernel.mm.vm_event[OOM_KILL] == 0
    assert "oom-killer" not in machine.dmesg()


# -- by hand, and in history -------------------------------------------------------------------------------------------


def test_the_key_of_the_keyboard() -> None:
    machine = machine_of()
    machine.sysrq_f()
    assert machine.dmesg().splitlines()[-1] == "OOM request ignored. No task eligible"
    program(machine, "one", 5)
    program(machine, "two", 50)
    machine.sysctl("vm.panic_on_oom", 2)  # not for the key
    machine.sysrq_f()
    assert alive(machine) == {"one"}
    assert "order=-1, oom_score_adj=0" in machine.dmesg()
    machine.check()


def test_rewind_over_a_kill() -> None:
    machine = short_machine()
    machine.record()
    program(machine, "big", 1200)
    small = program(machine, "small", 100)
    commands = len(machine.commands)
    free, points = free_pages_of(machine), machine.oom_ranking()
    with pytest.raises(Killed):
        grow(machine, small)
    end, log = free_pages_of(machine), machine.dmesg()
    place = machine.timeline.place()
    machine.timeline.rewind(commands - len(machine._done))
    assert (free_pages_of(machine), machine.oom_ranking()) == (free, points)
    assert alive(machine) == {"big", "small"}
    machine.check()
    machine.timeline.to_end()
    assert (free_pages_of(machine), machine.dmesg(), machine.timeline.place()) == (end, log, place)
    machine.check()


def test_the_history_of_a_machine_has_its_kills() -> None:
    machine = short_machine()
    program(machine, "one", 700)
    with pytest.raises(KernelPanic):
        exhaust(machine, GFP_KERNEL)
    twin = pickle.loads(pickle.dumps(machine))
    assert twin.dmesg() == machine.dmesg()
    assert free_pages_of(twin) == free_pages_of(machine)
