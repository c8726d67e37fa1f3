"""How much memory programs are promised: the three policies, CommitLimit of real machines, and what adds up."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.process import mmap as process_mmap
from kmemlab.process import overcommit
from kmemlab.process.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import OutOfMemory
from tests.process.space import PAGE, RW, R, machine_of, ranges

MACHINES = Path(__file__).parents[1] / "data" / "machines"
STACK = 33
MIB = 1 << 20
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


def field(text: str, name: str) -> int:
    return int(re.search(rf"^{name}: +(\d+) kB$", text, re.M)[1])


def committed(machine: Machine) -> int:
    """Committed_AS in pages."""
    return field(meminfo(machine.kernel), "Committed_AS") // 4


@pytest.fixture
def machine() -> Machine:
    return machine_of()


@pytest.mark.parametrize(
    "name", ["amd64-96m", "amd64-1g", "amd64-hugepages64-1g", "amd64-numa2-4g-4cpu", "i386-256m", "i386-pae-4g"]
)
def test_the_limit_of_real_machines(name: str) -> None:
    real = (MACHINES / name / "meminfo.txt").read_text()
    ours = meminfo(Machine.boot(MACHINES / name / "hardware.json").kernel)
    assert field(ours, "CommitLimit") == field(real, "CommitLimit")


def test_private_pages_that_may_be_written_are_promised(machine: Machine) -> None:
    pid = machine.spawn()
    assert committed(machine) == STACK
    machine.mmap(pid, 10 * PAGE)
    assert committed(machine) == STACK + 10
    rest = machine.mmap(pid, 20 * PAGE, R)
    machine.mmap(pid, 40 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)
    assert committed(machine) == STACK + 10
    machine.mprotect(pid, rest, 5 * PAGE, RW)
    assert committed(machine) == STACK + 15
    machine.mprotect(pid, rest, 5 * PAGE, R)  # it may have been written, so it stays promised
    assert committed(machine) == STACK + 15
    machine.brk(pid, machine.brk(pid) + 3 * PAGE)
    child = machine.sys_fork(pid)
    assert committed(machine) == 2 * (STACK + 18)
    machine.user_write(child, 0x7FFFFFFFF000 - (STACK + 7) * PAGE, b"x")  # the stack grows
    assert committed(machine) == 2 * (STACK + 18) + 7
    machine.munmap(child, rest, 20 * PAGE)
    assert committed(machine) == 2 * (STACK + 18) + 2
    machine.check()
    machine.sys_exit(pid)
    machine.sys_exit(child)
    assert committed(machine) == 0
    machine.check()


def test_a_guess_refuses_only_what_is_larger_than_the_machine(machine: Machine) -> None:
    pid = machine.spawn("big")
    total = machine.kernel.mm.totalram_pages * PAGE
    with pytest.raises(OutOfMemory, match="can't be promised"):
        machine.mmap(pid, total + PAGE)
    line = f"__vm_enough_memory: pid: {pid}, comm: big, no enough memory for the allocation"
    assert machine.dmesg().splitlines()[-1] == line
    for _ in range(3):
        machine.mmap(pid, total)
    assert committed(machine) > 3 * total // PAGE
    machine.swapon(10)  # nine pages and a header
    machine.mmap(pid, total + 9 * PAGE)
    with pytest.raises(OutOfMemory, match="can't be promised"):
        machine.mmap(pid, total + 10 * PAGE)
    machine.sysctl("vm.overcommit_memory", 1)
    machine.mmap(pid, 1 << 40)
    machine.check()


def test_a_strict_limit(machine: Machine) -> None:
    pid = machine.spawn()
    mm = machine.kernel.mm
    machine.sysctl("vm.overcommit_memory", 2)
    limit = mm.totalram_pages * 50 // 100
    reserve = mm.sysctl_user_reserve_kbytes // 4
    assert 0 < reserve < mm.totalram_pages // 32
    left = limit - min(STACK // 32, reserve) - STACK
    with pytest.raises(OutOfMemory, match="can't be promised"):
        machine.mmap(pid, left * PAGE)
    assert committed(machine) == STACK
    machine.mmap(pid, (left - 1) * PAGE)
    with pytest.raises(OutOfMemory):
        machine.mmap(pid, PAGE)
    with pytest.raises(OutOfMemory):
        machine.sys_fork(pid)
    with pytest.raises(OutOfMemory):
        machine.mmap(pid, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)  # strict is strict
    machine.mmap(pid, 100 * MIB, R)
    assert machine.brk(pid, machine.brk(pid) + PAGE) == machine.brk(pid)
    machine.check()
    machine.sysctl("vm.overcommit_kbytes", 4 * mm.totalram_pages)
    assert machine.sysctl("vm.overcommit_ratio") == "0"
    assert field(meminfo(machine.kernel), "CommitLimit") == 4 * mm.totalram_pages
    machine.mmap(pid, 100 * PAGE)
    machine.sysctl("vm.overcommit_ratio", 10)
    assert machine.sysctl("vm.overcommit_kbytes") == "0"
    with pytest.raises(OutOfMemory):
        machine.mmap(pid, PAGE)
    machine.check()


@pytest.mark.parametrize("seed", range(4))
def test_what_adds_up(machine: Machine, seed: int) -> None:
    """Committed_AS against /proc/PID/maps: every private range that may be written, of all processes."""
    chance = random.Random(seed)
    machine.sysctl("vm.overcommit_memory", chance.choice((0, 1, 2)))
    pids = [machine.spawn()]
    for _ in range(60):
        pid, length = chance.choice(pids), chance.randrange(1, 40) * PAGE
        where = 0x10000000 + chance.randrange(100) * PAGE
        try:
            match chance.randrange(6):
                case 0 | 1:
                    machine.mmap(pid, length, chance.choice((R, RW)), FIXED, where)
                case 2:
                    machine.munmap(pid, where, length)
                case 3:
                    machine.brk(pid, machine.brk(pid) + chance.randrange(-5, 20) * PAGE)
                case 4 if len(pids) < 5:
                    pids.append(machine.sys_fork(pid))
                case 5 if len(pids) > 1:
                    machine.sys_exit(pid)
                    pids.remove(pid)
        except OutOfMemory:
            pass
        promised = sum(end - start for pid in pids for start, end, rights in ranges(machine, pid) if rights == "rw-p")
        assert committed(machine) == promised // PAGE
    machine.check()


DEFECTS = {
    "nothing is taken back": (overcommit.vm_unacct_memory, lambda mm, pages: None),
    "a page too many is taken back": (
        overcommit.vm_unacct_memory, lambda mm, pages: overcommit.vm_unacct_memory.original(mm, pages + 1),
    ),
    "nothing is promised": (overcommit.vm_enough_memory, lambda mm, pages: True),
    "a page too many is promised": (
        overcommit.vm_enough_memory, lambda mm, pages: overcommit.vm_enough_memory.original(mm, pages + 1),
    ),
    "unmapped ranges stay promised": (process_mmap.remove_mt, None),
}  # fmt: skip


def forgetful_remove_mt(mm, vmas_gone):
    before = mm.common.mm.vm_committed_as
    process_mmap.remove_mt.original(mm, vmas_gone)
    mm.common.mm.vm_committed_as = before


@pytest.mark.parametrize("name", DEFECTS)
def test_the_law_catches(machine: Machine, name: str) -> None:
    function, defect = DEFECTS[name]
    pid = machine.spawn()
    with livepatch(function, defect or forgetful_remove_mt):
        machine.munmap(pid, machine.mmap(pid, 5 * PAGE), 2 * PAGE)
    with pytest.raises(BrokenLaw, match="promised"):
        overcommit.check_committed(machine.kernel.processes)
