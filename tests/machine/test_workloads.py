"""The six workloads: they do the same again, stop behind a step, rewind, and their series adds up."""

from __future__ import annotations

import csv
import io
import os
import signal
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs_lists import vmstat
from kmemlab.machine.time_series import Moment, TimeSeries
from kmemlab.machine.workload import Run
from kmemlab.machine.workloads import (
    WORKLOADS,
    anonymous_growth,
    file_streaming,
    fork_storm,
    mixed,
    random_reads,
    thrashing,
)
from kmemlab.types.errors import BadRequest


@pytest.fixture(scope="module")
def booted() -> Machine:
    return Machine.boot("tiny-128m")


def state(machine: Machine) -> tuple[object, ...]:
    """What the machine looks like from outside."""
    return vmstat(machine.kernel), tuple(machine.oom_tasks()), machine.kernel.mm.current.jiffies


def free(machine: Machine) -> int:
    return sum(zone.vm_stat[0] for zone in machine.zones)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_same_seed_does_the_same_and_another_does_not(name: str, booted: Machine) -> None:
    seen = []
    for seed in (1, 1, 2):
        machine = booted.fork()
        Run(machine, WORKLOADS[name](seed=seed)).advance(steps=40)
        machine.check()
        seen.append((state(machine), [(command.name, command.args) for command in machine.commands]))
    assert seen[0] == seen[1]
    if name != "file_streaming":  # a stream has no choice unless a part of it is written
        assert seen[0][1] != seen[2][1]


def test_each_presses_in_its_own_way(booted: Machine) -> None:
    sums: dict[str, dict[str, int]] = {}
    for name, workload in {
        "stream": file_streaming(pages=free(booted) + 2000),
        "fits": random_reads(reads=600),
        "thrash": thrashing(rounds=2),
        "grows": anonymous_growth(),
        "forks": fork_storm(pages=200, children=20),
    }.items():
        machine = booted.fork()
        run = Run(machine, workload)
        series = run.advance()
        machine.check()
        assert run.finished
        assert series.moments[-1].step == run.done
        names = ("pgscan", "pgsteal", "refault", "pgfault", "oom_kill")
        sums[name] = {column: sum(series.rate(column)) for column in names}
        sums[name]["left"] = free(machine)
    assert sums["stream"]["pgsteal"] > 2000 - 500
    assert sums["stream"]["refault"] == 0
    assert sums["fits"]["pgscan"] == 0 == sums["fits"]["refault"]
    assert sums["thrash"]["refault"] > 5000
    assert sums["thrash"]["pgsteal"] > 5000
    assert sums["grows"]["oom_kill"] == 1
    assert sums["grows"]["pgfault"] > 15000
    assert sums["grows"]["left"] > 19000, "what it had is free again"
    # 200 pages written by the parent, and copies of some of them for each child.
    assert 200 + 20 < sums["forks"]["pgfault"] < 200 + 20 * 220
    assert sums["forks"]["oom_kill"] == 0


def test_all_children_of_a_storm_are_gone_at_its_end(booted: Machine) -> None:
    machine = booted.fork()
    Run(machine, fork_storm(pages=50, children=15, alive=4)).advance()
    (make,) = machine.oom_tasks()
    assert machine.children(make.pid) == ()
    forks = [command for command in machine.commands if command.name == "sys_fork"]
    assert len(forks) == 15


def test_one_after_the_other_and_by_turns(booted: Machine) -> None:
    def order(workload: object) -> str:
        machine = booted.fork()
        before = len(machine.commands)
        Run(machine, workload).advance()  # type: ignore[arg-type]
        done = [command.args[0] for command in machine.commands[before:] if command.name == "read_file"]
        return "".join(name[0] for name in done)  # s of stream, r of rows

    stream, rows = file_streaming(pages=320), random_reads(pages=40, reads=30)
    assert order(stream + rows) == "s" * 10 + "r" * 30
    turns = order(stream | rows)
    assert sorted(turns) == sorted("s" * 10 + "r" * 30)
    for at in range(4, 41, 4):  # they stay abreast: 1 to 3
        assert abs(turns[:at].count("s") - at / 4) <= 1


def test_a_run_stops_goes_on_and_rewinds(booted: Machine) -> None:
    machine = booted.fork()
    timeline = machine.record()
    machine.create_file("before", 3)
    before, commands = state(machine), len(timeline.commands)
    run = Run(machine, mixed(seed=3))
    run.advance(steps=40)
    middle = state(machine)
    run.advance(steps=25)
    assert run.done == 65
    assert [moment.step for moment in run.series.moments] == [0, 16, 32, 40, 48, 64, 65]
    run.rewind()
    assert state(machine) == before
    assert timeline.place()[0] == commands
    assert run.done == 0
    run.advance(steps=40)
    assert state(machine) == middle


def test_a_run_that_was_not_recorded_says_so(booted: Machine) -> None:
    run = Run(booted.fork(), random_reads())
    with pytest.raises(BadRequest, match="not recorded"):
        run.rewind()


@pytest.mark.skipif(os.name == "nt", reason="os.kill with SIGINT ends a process on Windows")
def test_an_interrupt_ends_it_behind_a_whole_step(booted: Machine) -> None:
    machine = booted.fork()
    run = Run(machine, file_streaming(pages=3200), every=8)

    def press(done: int, length: int) -> None:
        assert length == 100
        if done == 24:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    series = run.advance(progress=press)
    assert run.done in (24, 25)
    assert not run.finished
    assert series.moments[-1].step == run.done
    assert signal.getsignal(signal.SIGINT) is before
    machine.check()
    run.advance()
    assert run.finished
    assert run.done == 100


def test_moments_say_what_proc_says(booted: Machine) -> None:
    machine = booted.fork()
    series = Run(machine, thrashing(pages=900, rounds=1)).advance()
    last = series.moments[-1]
    told = dict(line.split() for line in vmstat(machine.kernel).splitlines())
    assert {name: str(number) for name, number in last.counters.items()} == told
    assert last["free"] == int(told["nr_free_pages"])
    assert sum(series.rate("pgpgin")) == last["pgpgin"] - series.moments[0]["pgpgin"]
    with pytest.raises(BadRequest, match="pgfualt"):
        series.level("pgfualt")


def test_tables(booted: Machine) -> None:
    moments = [Moment(step, 10 * step, (), {"pgscan_kswapd": step * step, "pgscan_direct": 1}) for step in range(40)]
    series = TimeSeries("squares", moments, [(7, "seven")])
    rows = list(csv.DictReader(io.StringIO(series.csv(("jiffies", "pgscan")))))
    assert [int(row["pgscan"]) for row in rows] == [0, *(2 * step - 1 for step in range(1, 40))]
    few = series.table(("jiffies", "pgscan"), rows=5).splitlines()
    assert [int(line.split()[0]) for line in few[2:7]] == [0, 10, 20, 29, 39]
    # What a thinned table leaves out is not lost: each line tells what came since the line before.
    assert sum(int(line.split()[2]) for line in few[2:7]) == 39 * 39
    assert few[-1] == "step 7: seven"


def test_what_is_no_work_is_refused(booted: Machine) -> None:
    with pytest.raises(BadRequest, match="-3 pages"):
        Run(booted.fork(), file_streaming(pages=-3))
    with pytest.raises(BadRequest, match="every 0"):
        Run(booted.fork(), file_streaming(), every=0)
    with pytest.raises(BadRequest, match="nothing can work"):
        Run(Machine.boot("tiny-128m", until="memblock_free_all"), file_streaming())


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(WORKLOADS)),
    other=st.sampled_from(sorted(WORKLOADS)),
    seed=st.integers(0, 1 << 16),
    mib=st.integers(70, 96),
    swap=st.sampled_from((0, 300, 1500)),
    slab=st.sampled_from(("SLUB", "SLAB")),
)
def test_any_work_ends_with_all_laws_holding(name: str, other: str, seed: int, mib: int, swap: int, slab: str) -> None:
    """Each request is met, or pages are taken for it, or a program is killed; nothing goes on for ever."""
    machine = Machine.boot(replace(load_spec("tiny-128m"), cmdline=f"mem={mib}M"), slab=slab)
    if swap:
        machine.swapon(swap)
    run = Run(machine, WORKLOADS[name](seed) | WORKLOADS[other](seed + 1), every=64)
    run.advance(steps=400)
    machine.check()
    before, after = run.series.moments[0], run.series.moments[-1]
    assert after["pgsteal"] - before["pgsteal"] <= after["pgscan"] - before["pgscan"]
    started = sum(command.name in ("spawn", "sys_fork") for command in machine.commands)
    assert after["oom_kill"] <= started, "nobody is killed twice"
