"""The report of a kill against that of a real machine (Linux 6.1), line by line and field by field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.mm.ratelimit import DEFAULT_RATELIMIT_BURST, DEFAULT_RATELIMIT_INTERVAL
from kmemlab.process.oom_report import OomControl, dump_header, should_dump_unreclaim_slab
from kmemlab.process.signal import Killed
from kmemlab.types.gfp import GFP_KERNEL
from tests.process.short import grow, program, short_machine
from tests.process.space import PAGE, machine_of

REAL = (Path(__file__).parents[1] / "data" / "oom_report.txt").read_text(encoding="utf-8").splitlines()
STACK = slice(2, REAL.index("Mem-Info:"))  # the machine's name, the call trace, the registers


def report_of(machine: Machine) -> list[str]:
    """From `invoked oom-killer` to `Killed process`: the last one."""
    lines = machine.dmesg().splitlines()
    first = max(at for at, line in enumerate(lines) if "invoked oom-killer" in line)
    return lines[first:]


def killed() -> tuple[Machine, dict[int, tuple[int, int, int]]]:
    """A machine in which `capt` was killed while another process could not be, as on the real one.

    With what /proc said of all processes before the last request: pages in all, in memory, bytes of tables.
    """
    machine = short_machine()
    program(machine, "capt", 349, adj=-1000)
    capt = program(machine, "capt", 1700)
    while True:
        start = machine.mmap(capt, 1 << 20)
        for at in range(start, start + (1 << 20), PAGE):
            rows = {row.pid: (row.total_vm, row.rss, row.pgtables_bytes) for row in machine.oom_tasks()}
            try:
                machine.touch(capt, at, PAGE)
            except Killed:
                return machine, rows


@pytest.fixture(scope="module")
def a_kill() -> tuple[Machine, dict[int, tuple[int, int, int]]]:
    return killed()


def shape(line: str) -> str:
    """A line without its numbers: what stands between them, and how wide columns are."""
    line = re.sub(r"( N\*NkB| \([UMEHI]+\))+ = ", " … = ", re.sub(r"-?\d+", "N", line))
    return re.sub(r" +N", " N", line)


def test_every_line_is_there_and_in_its_place(a_kill) -> None:
    ours = report_of(a_kill[0])
    assert ours[1] == "CPU: 0 PID: 4 Comm: capt Not tainted 6.1.0-50-amd64"
    assert REAL[1].startswith("CPU: 0 PID: 113 Comm: capt Not tainted 6.1.0-50-amd64")
    real = [line for at, line in enumerate(REAL) if at not in range(*STACK.indices(len(REAL)))]
    assert [shape(line) for line in ours[:1] + ours[2:]] == [shape(line) for line in real[:1] + real[2:]]


def test_the_first_line_and_the_last_two_to_the_letter(a_kill) -> None:
    machine, _ = a_kill
    ours = report_of(machine)
    assert ours[0] == REAL[0]  # the same request by a program of the same name
    capt = re.search(r"pid=(\d+)", ours[-2])
    assert capt is not None
    assert ours[-2] == REAL[-2].replace("pid=113", f"pid={capt[1]}")
    fields = r"total-vm:(\d+)kB, anon-rss:(\d+)kB, file-rss:(\d+)kB, shmem-rss:(\d+)kB, UID:0 pgtables:(\d+)kB "
    line = rf"Out of memory: Killed process (\d+) \(capt\) {fields}oom_score_adj:0"
    assert re.fullmatch(line, REAL[-1])
    assert re.fullmatch(line, ours[-1])


def what_boot_decides(report: list[str]) -> list[str]:
    """Of each line of a report what doesn't depend on what ran: sizes of zones, marks, reserves, huge pages."""
    found = []
    for line in report:
        if re.match(r"Node \d+ \w+ free:", line):
            found += re.findall(r"(?:boost|min|low|high|present|managed|reserved_highatomic):\d+k?K?B", line)
        elif re.match(r"lowmem_reserve|Node \d+ hugepages|\d+ pages (RAM|HighMem|reserved|hwpoisoned)|.*swap", line):
            found.append(line)
    return found


def test_the_machine_of_the_real_report() -> None:
    """The same hardware, short of memory in another way: the same marks and sizes, and the same one is killed."""
    machine = short_machine(str(Path(__file__).parents[1] / "data/traces/oom-192m/hardware.json"))
    machine.sysctl("vm.lowmem_reserve_ratio")  # somebody had read it there, which works the reserves out anew
    program(machine, "capt", 349, adj=-1000)
    child = program(machine, "capt", 100)
    with pytest.raises(Killed):
        grow(machine, child)
    ours = report_of(machine)
    assert what_boot_decides(ours) == what_boot_decides(REAL)
    assert len(what_boot_decides(REAL)) == 25
    assert ours[-2].endswith(f"task=capt,pid={child},uid=0")


def columns(line: str) -> list[tuple[int, int]]:
    """Where the words of a line of the table end, and where the name begins."""
    return [(match.end(), 0) for match in re.finditer(r"\S+", line[:-5])]


def test_the_table_of_tasks(a_kill) -> None:
    machine, rows = a_kill
    ours, real = ([line for line in report if re.match(r"\[ +\d", line)] for report in (report_of(machine), REAL))
    assert columns(ours[0])[1:] == columns(real[0])[1:]  # right-aligned in the same columns
    assert len(ours[0]) == len(real[0])
    found = {}
    for line in ours:
        pid, _uid, tgid, total_vm, rss, tables, swapents, adj, name = re.findall(r"[^\s\[\]]+", line)
        found[int(pid)] = int(total_vm), int(rss), int(tables)
        assert (tgid, swapents, name) == (pid, "0", "capt")
        assert adj == ("-1000" if int(pid) == min(rows) else "0")
    assert found == rows


def test_the_numbers_agree_with_one_another(a_kill) -> None:
    machine, rows = a_kill
    text = "\n".join(report_of(machine))
    victim = max(rows)
    total, rss, tables = rows[victim]
    kib = {name: int(count) for name, count in re.findall(r"([\w-]+):(\d+)kB", text.splitlines()[-1])}
    assert (kib["total-vm"], kib["anon-rss"], kib["pgtables"]) == (total * 4, rss * 4, tables // 1024)
    counts = {name: int(count) for name, count in re.findall(r"(\w+):(\d+)(?= |$)", text.split("Node 0 ")[0], re.M)}
    zones = re.findall(r"^Node 0 (DMA\d*) free:(\d+)kB .*min:(\d+)kB .*inactive_anon:(\d+)kB", text, re.M)
    assert sum(int(zone[1]) for zone in zones) == counts["free"] * 4
    assert sum(int(zone[3]) for zone in zones) == counts["inactive_anon"] * 4
    # All pages of programs are on the LRU lists, but for those in a batch on their way there.
    assert 0 <= sum(row[1] for row in rows.values()) - counts["inactive_anon"] <= 15
    for name, free, _, _ in zones:
        line = re.search(rf"^Node 0 {name}: (.*) = (\d+)kB$", text, re.M)
        assert line is not None
        assert line[2] == free
        assert sum(int(n) * int(size) for n, size in re.findall(r"(\d+)\*(\d+)kB", line[1])) == int(free)
    present = int(re.search(r"(\d+) pages RAM", text)[1])
    reserved = int(re.search(r"(\d+) pages reserved", text)[1])
    assert present - reserved == machine.kernel.mm.totalram_pages


def test_no_zone_had_more_than_its_mark(a_kill) -> None:
    """Why somebody had to be killed: free pages were below min, with what is kept for other zones."""
    text = "\n".join(report_of(a_kill[0]))
    reserves = [int(line.split()[3]) for line in text.splitlines() if line.startswith("lowmem_reserve")]
    for (free, low), reserve in zip(re.findall(r"free:(\d+)kB boost:\d+kB min:(\d+)kB", text), reserves, strict=True):
        assert int(free) <= int(low) + 4 * reserve


def test_without_the_table() -> None:
    machine = short_machine()
    machine.sysctl("vm.oom_dump_tasks", 0)
    hog = program(machine, "hog", 100)
    with pytest.raises(Killed):
        grow(machine, hog)
    report = report_of(machine)
    assert not [line for line in report if "Tasks state" in line or line.startswith("[")]
    assert report[-2].startswith("oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),")


def test_the_kernels_own_objects_are_to_blame() -> None:
    machine = machine_of()
    mm, processes = machine.kernel.mm, machine.kernel.processes
    assert should_dump_unreclaim_slab(mm)  # no program yet: whatever the slabs have is more
    before = len(machine.dmesg().splitlines())
    dump_header(processes, OomControl(GFP_KERNEL, 0), None)
    said = machine.dmesg().splitlines()[before:]
    at = said.index("Unreclaimable slab info:")
    assert said[at + 1] == "Name                      Used          Total"
    rows = [re.fullmatch(r"(\S+) +(\d+)KB +(\d+)KB", line) for line in said[at + 2 : said.index(
        "Tasks state (memory values in pages):")]]  # fmt: skip
    assert all(rows)
    names = {row[1] for row in rows if row}
    assert "kmalloc-64" in names
    assert not any(name.startswith("kmalloc-rcl") for name in names)
    assert all(int(row[2]) <= int(row[3]) for row in rows if row)
    slabs = int(re.search(r"SUnreclaim: +(\d+) kB", meminfo(machine.kernel))[1])
    assert sum(int(row[3]) for row in rows if row) <= slabs
    program(machine, "sh", 400)
    machine.wait(1)
    assert not should_dump_unreclaim_slab(mm)


def test_many_kills_are_not_all_reported() -> None:
    machine = machine_of()
    for _ in range(DEFAULT_RATELIMIT_BURST + 3):
        program(machine, "sh", 1)
        machine.sysrq_f()
    log = machine.dmesg()
    assert log.count("invoked oom-killer") == DEFAULT_RATELIMIT_BURST
    assert log.count("Killed process") == DEFAULT_RATELIMIT_BURST + 3
    machine.wait(DEFAULT_RATELIMIT_INTERVAL // 250 + 1)
    program(machine, "sh", 1)
    machine.sysrq_f()
    assert "oom_kill_process: 3 callbacks suppressed" in machine.dmesg()
    assert machine.dmesg().count("invoked oom-killer") == DEFAULT_RATELIMIT_BURST + 1
