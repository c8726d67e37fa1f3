"""Six workloads that press on memory, each in its own way. Without a size, the machine's free pages decide.

file_streaming     reads a file once, from its beginning to its end        pages are used once
random_reads       reads here and there in a set that fits                 pages are used again
thrashing          reads a set that doesn't fit, again and again           pages are gone when they are wanted
anonymous_growth   one program takes memory and keeps it                   only swap, or the OOM killer, helps
fork_storm         a program forks and forks; the children write           copies, page tables, stacks
mixed              a stream beside a working set beside a program that grows
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from kmemlab.machine.commanded import whole_numbers
from kmemlab.machine.machine import Machine
from kmemlab.machine.workload import Plan, Workload
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.process.signal import Killed
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import PAGE_SIZE

CHUNK = 32  # pages that one step reads or writes
PIECE = 512  # pages that a program asks for at a time: more than RAM and swap together is never promised at once

Make = Callable[..., Workload]


@invented("what free(1) calls free", traced=False)
def free_pages_of(machine: Machine) -> int:
    """Pages that are free now, in all zones."""
    return sum(zone.vm_stat[NR_FREE_PAGES] for zone in machine.zones)


@invented("kill(pid, 0)", traced=False)
def runs_still(machine: Machine, pid: int) -> bool:
    """Whether a program still runs. The OOM killer may have ended it while another one worked."""
    return any(task.pid == pid for task in machine.oom_tasks())


def _size(machine: Machine, pages: int | None, part: float) -> int:
    """So many pages as were asked for, or a part of what is free."""
    whole_numbers("a workload", pages=1 if pages is None else pages)
    if pages is not None and pages < 1:
        raise BadRequest(f"{pages} pages are no work", where="a workload", remedy="give 1 page or more")
    return pages or max(CHUNK, int(free_pages_of(machine) * part))


def _file(machine: Machine, name: str, pages: int) -> str:
    """A new file for a workload; its name has a number, so that a workload can run twice on one machine."""
    name = f"{name}-{machine.kernel.mm.files.nr_files + 1}"
    machine.create_file(name, pages)
    return name


def _read(machine: Machine, name: str, page: int, pages: int) -> None:
    machine.read_file(name, page * PAGE_SIZE, pages * PAGE_SIZE)


@invented("cat FILE > /dev/null")
def file_streaming(seed: int = 0, pages: int | None = None, written: float = 0.0) -> Workload:
    """Read a file once from its beginning to its end (1.5 times the free pages); `written` is the part of it that is
    written instead."""

    def plan(machine: Machine) -> Plan:
        random, size = Random(f"file_streaming {seed}"), _size(machine, pages, 1.5)

        def steps() -> Iterator[str]:
            name = _file(machine, "stream", size)
            for page in range(0, size, CHUNK):
                count = min(CHUNK, size - page)
                if random.random() < written:
                    machine.write_file(name, page * PAGE_SIZE, random.randbytes(8) * (count * PAGE_SIZE // 8))
                else:
                    _read(machine, name, page, count)
                yield ""

        return Plan(-(-size // CHUNK), steps())

    return Workload("file_streaming", "Reads a file once, from its beginning to its end.", plan)


@invented("a database whose hot rows fit into memory")
def random_reads(seed: int = 0, pages: int | None = None, reads: int = 4000, hot: float = 0.2) -> Workload:
    """Read single pages of a working set (half the free pages); four of five reads go to its `hot` part."""

    def plan(machine: Machine) -> Plan:
        random, size = Random(f"random_reads {seed}"), _size(machine, pages, 0.5)

        def steps() -> Iterator[str]:
            name, border = _file(machine, "rows", size), max(1, int(size * hot))
            for _ in range(reads):
                _read(machine, name, random.randrange(border if random.random() < 0.8 else size), 1)
                yield ""

        return Plan(reads, steps())

    return Workload("random_reads", "Reads here and there in a working set that fits.", plan)


@invented("a working set that does not fit")
def thrashing(seed: int = 0, pages: int | None = None, rounds: int = 3) -> Workload:
    """Read a set of 1.3 times the free pages in `rounds`, each in another order of its pieces of 8 pages."""

    def plan(machine: Machine) -> Plan:
        random, size, piece = Random(f"thrashing {seed}"), _size(machine, pages, 1.3), 8

        def steps() -> Iterator[str]:
            name = _file(machine, "set", size)
            pieces = list(range(0, size, piece))
            for number in range(rounds):
                random.shuffle(pieces)
                for at, page in enumerate(pieces):
                    _read(machine, name, page, min(piece, size - page))
                    yield f"round {number + 1} begins" if not at else ""

        return Plan(rounds * -(-size // piece), steps())

    return Workload("thrashing", "Reads a set that does not fit, again and again.", plan)


@invented("a program that leaks")
def anonymous_growth(seed: int = 0, pages: int | None = None, name: str = "grower") -> Workload:
    """One program takes twice the free pages, 2 MiB of addresses at a time, and writes all of them, in runs of a length
    that the seed decides."""

    def plan(machine: Machine) -> Plan:
        random, size = Random(f"anonymous_growth {seed}"), _size(machine, pages, 2.0)

        def steps() -> Iterator[str]:
            pid = machine.spawn(name)
            start = at = 0
            while at < size:
                if not runs_still(machine, pid):
                    yield f"{name} ({pid}) was killed meanwhile"
                    return
                if at % PIECE == 0:
                    start = machine.mmap(pid, min(PIECE, size - at) * PAGE_SIZE) - at * PAGE_SIZE
                count = min(random.randint(1, 2 * CHUNK - 1), PIECE - at % PIECE, size - at)
                machine.touch(pid, start + at * PAGE_SIZE, count * PAGE_SIZE)
                at += count
                yield ""

        return Plan(-(-size // CHUNK), steps())

    return Workload("anonymous_growth", "One program takes memory and keeps it.", plan)


@invented("make -j")
def fork_storm(seed: int = 0, pages: int | None = None, children: int = 60, alive: int = 12) -> Workload:
    """A program of a twentieth of the free pages forks `children` times; each writes some of its pages, and at most
    `alive` live at a time."""

    def plan(machine: Machine) -> Plan:
        random, size = Random(f"fork_storm {seed}"), _size(machine, pages, 0.05)

        def steps() -> Iterator[str]:
            parent = machine.spawn("make")
            start = machine.mmap(parent, size * PAGE_SIZE)
            machine.touch(parent, start, size * PAGE_SIZE)
            yield ""
            living: list[int] = []
            for _ in range(children):
                if not runs_still(machine, parent):
                    yield f"make ({parent}) was killed meanwhile"
                    break
                living.append(machine.sys_fork(parent))
                yield _write_some(machine, random, living, start, size)
                while len(living) >= alive or (living and random.random() < 0.3):
                    _end(machine, parent, living, random.randrange(len(living)))
                    yield ""
            while living:
                _end(machine, parent, living, 0)
                yield ""

        return Plan(2 * children + 1, steps())

    return Workload("fork_storm", "A program forks and forks; its children write.", plan)


def _write_some(machine: Machine, random: Random, living: list[int], start: int, size: int) -> str:
    """The youngest child writes a run of its pages. The OOM killer may end it; the storm goes on without."""
    child, first = living[-1], random.randrange(size)
    try:
        machine.touch(child, start + first * PAGE_SIZE, random.randint(1, size - first) * PAGE_SIZE)
    except Killed as error:
        living.remove(child)
        return error.what
    return ""


def _end(machine: Machine, parent: int, living: list[int], which: int) -> None:
    """A child ends, and its parent waits for it; one that was killed meanwhile is only waited for."""
    child = living.pop(which)
    if runs_still(machine, child):
        machine.sys_exit(child)
    if runs_still(machine, parent):
        machine.sys_wait(parent)


@invented("a desktop")
def mixed(seed: int = 0) -> Workload:
    """A stream beside a working set beside a program that grows up to half of what is free."""

    def plan(machine: Machine) -> Plan:
        free = free_pages_of(machine)
        parts = (
            file_streaming(seed, pages=free, written=0.2)
            | random_reads(seed, pages=max(CHUNK, free // 4), reads=free // 16)
            | anonymous_growth(seed, pages=max(CHUNK, free // 2))
        )
        return parts.plan(machine)

    return Workload("mixed", "A stream beside a working set beside a program that grows.", plan)


WORKLOADS: dict[str, Make] = {
    make.__name__: make for make in (file_streaming, random_reads, thrashing, anonymous_growth, fork_storm, mixed)
}
"""The workloads by name."""
