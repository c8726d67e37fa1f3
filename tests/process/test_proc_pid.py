"""/proc/PID: the texts have the form of real ones."""

from __future__ import annotations

from tests.process.space import PAGE, R, machine_of

# Lines of process 1 on real machines (Debian's amd64 kernel).
REAL_MAPS = """\
005e5000-005ec000 rw-p 00000000 00:00 0 
25086000-250a8000 rw-p 00000000 00:00 0                                  [heap]
7ffef3515000-7ffef3536000 rw-p 00000000 00:00 0                          [stack]
"""
REAL_STATUS = """\
VmPeak:	    2260 kB
VmSize:	    2260 kB
VmLck:	       0 kB
VmPin:	       0 kB
VmHWM:	    1600 kB
VmRSS:	    1600 kB
RssAnon:	      60 kB
RssFile:	       4 kB
RssShmem:	    1536 kB
VmData:	     176 kB
VmStk:	     132 kB
VmExe:	    1552 kB
VmLib:	       8 kB
VmPTE:	      28 kB
VmSwap:	       0 kB
"""


def test_maps_have_the_form_of_real_ones() -> None:
    machine = machine_of()
    pid = machine.spawn()
    machine.brk(pid, machine.brk(pid) + 34 * PAGE)
    machine.mmap(pid, 7 * PAGE, addr=0x5E5000)
    lines = machine.proc_maps(pid).splitlines()
    real = REAL_MAPS.splitlines()
    heap = next(line for line in lines if line.endswith("[heap]"))
    stack = next(line for line in lines if line.endswith("[stack]"))
    plain = next(line for line in lines if not line.endswith("]"))
    assert plain == real[0]
    assert (heap.index("["), heap[17:]) == (real[1].index("["), real[1][17:])
    assert (stack.index("["), stack[25:]) == (real[2].index("["), real[2][25:])


def test_status_has_the_lines_of_a_real_one() -> None:
    machine = machine_of()
    pid = machine.spawn("init")
    address = machine.mmap(pid, 100 * PAGE)
    machine.touch(pid, address, 50 * PAGE)
    machine.munmap(pid, address, 60 * PAGE)
    text = machine.proc_status(pid)
    memory = [line for line in text.splitlines() if line.startswith(("Vm", "Rss"))]
    real = REAL_STATUS.splitlines()
    assert [line.split("\t")[0] for line in memory] == [line.split("\t")[0] for line in real]
    assert {len(line.split("\t")[1]) for line in memory} == {len(line.split("\t")[1]) for line in real} == {11}
    values = {line.split(":")[0]: int(line.split()[1]) for line in memory}
    assert (values["VmPeak"], values["VmSize"], values["VmStk"]) == (532, 292, 132)
    assert (values["VmHWM"], values["VmRSS"], values["VmData"]) == (200, 0, 160)


def test_smaps_say_who_shares_what() -> None:
    machine = machine_of()
    pid = machine.spawn()
    address = machine.mmap(pid, 8 * PAGE)
    machine.touch(pid, address, 6 * PAGE)
    child = machine.sys_fork(pid)
    machine.touch(child, address, 2 * PAGE)
    machine.mprotect(child, address + 7 * PAGE, PAGE, R)
    part = machine.proc_smaps(child).split(f"{address:x}-")[1].split("\n7ff")[0]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in part.splitlines()[1:]}
    assert (sizes["Size"], sizes["Rss"], sizes["Pss"]) == (28, 24, 8 + 8)
    assert (sizes["Shared_Dirty"], sizes["Private_Dirty"], sizes["Anonymous"]) == (16, 8, 24)
    assert part.splitlines()[1] == "Size:                 28 kB"
    assert "Private_Hugetlb:       0 kB" in part


def test_the_oom_killer_sees_who_has_how_much() -> None:
    machine = machine_of()
    small, large = machine.spawn("small"), machine.spawn("large")
    machine.touch(large, machine.mmap(large, 64 * PAGE), 64 * PAGE)
    machine.sys_exit(machine.sys_fork(small))
    rows = machine.oom_tasks()
    assert [(row.pid, row.name, row.rss) for row in rows] == [(small, "small", 0), (large, "large", 64)]
