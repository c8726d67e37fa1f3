"""fork and copy on write: what is drawn is what the page tables, read here by hand, and the columns of pages say."""

from __future__ import annotations

import re
import struct

import pytest

from kmemlab.machine.fork_snapshot import fork_snapshot
from kmemlab.machine.machine import Machine
from kmemlab.process.madvise import MADV_PAGEOUT
from kmemlab.process.mman import PROT_READ
from kmemlab.types.errors import BadRequest
from kmemlab.views.fork_view import ForkPanel, fork_figure, smaps_lines
from kmemlab.views.phrases_fork import TOLD_AS_ONE
from kmemlab.views.player import Player

PAGE, PAGES = 4096, 6


def entry_by_hand(machine: Machine, pid: int, address: int) -> int:
    """The last entry of a 64-bit process with four levels, read as the processor reads it."""
    processes = machine.kernel.processes
    task = next(task for task in processes.tasks if task.pid == pid)
    table: int = processes.mms[task.mm - 1].tables.pgd
    entry: int = 0
    for shift in (39, 30, 21, 12):
        at = table + 8 * (address >> shift & 511)
        (entry,) = struct.unpack("<Q", machine.kernel.mm.boot.ram.read_bytes(at, 8))
        if not entry & 1:
            return entry
        table = entry & 0x000F_FFFF_FFFF_F000
    return entry


Family = tuple[Machine, int, int, int]


def a_family() -> Family:
    """A process with a page that was written, some that were touched, one that was read, and one that is empty."""
    machine = Machine.boot("tiny-128m")
    pid = machine.spawn("sh")
    address = machine.mmap(pid, PAGES * PAGE)
    machine.user_write(pid, address, b"hello")
    machine.touch(pid, address + PAGE, 3 * PAGE)
    machine.touch(pid, address + 4 * PAGE, PAGE, write=False)
    machine.record()
    child = machine.sys_fork(pid)
    machine.user_write(child, address, b"J")
    machine.user_write(pid, address, b"x")
    return machine, pid, child, address


@pytest.fixture(scope="module")
def family() -> Family:
    return a_family()


def test_entries_are_those_of_the_page_tables(family: Family) -> None:
    machine, pid, child, address = family
    seen = fork_snapshot(machine.kernel, address, PAGES)
    assert [space.pids for space in seen.spaces] == [(pid,), (child,)]
    for space in seen.spaces:
        for page, entry in enumerate(space.entries):
            raw = entry_by_hand(machine, space.pids[0], address + page * PAGE)
            assert entry.pfn == ((raw & 0x000F_FFFF_FFFF_F000) >> 12 if raw & 1 else None)
            assert entry.state == ("W" if raw & 2 else "R") if raw & 1 else "-"
    assert [entry.state for entry in seen.spaces[0].entries] == ["W", "R", "R", "R", "R", "-"]


def test_mapcounts_are_how_many_entries_name_a_frame(family: Family) -> None:
    machine, _, _, address = family
    seen = fork_snapshot(machine.kernel, address, PAGES)
    named = [entry.pfn for space in seen.spaces for entry in space.entries if entry.pfn is not None]
    for frame in seen.frames:
        if frame.counted:
            assert frame.mapcount == named.count(frame.pfn) <= frame.refcount
            assert frame.exclusive == (frame.mapcount == 1)
    assert [frame.kind for frame in seen.frames if not frame.counted] == ["zero page"]
    assert {frame.first_bytes[:5] for frame in seen.frames if frame.exclusive} == {b"xello", b"Jello"}


def test_the_picture_says_what_the_text_says(family: Family) -> None:
    machine, _, _, address = family
    seen = fork_snapshot(machine.kernel, address, PAGES)
    figure = fork_figure(seen)
    svg, text = figure.svg(), figure.text()
    assert svg == fork_figure(fork_snapshot(machine.kernel, address, PAGES)).svg()
    for frame in seen.frames:
        assert f">pfn {frame.pfn}<" in svg
        assert f"pfn {frame.pfn}: " in text
        if frame.counted:
            assert f">mapcount {frame.mapcount}  ref {frame.refcount}<" in svg
    entries = [entry for space in seen.spaces for entry in space.entries]
    thick = svg.count('stroke-width="2.2"')
    assert thick == sum(entry.state == "W" for entry in entries), "a thick line for each entry that may be written"
    letters = re.findall(r'font-weight="600" text-anchor="middle"[^>]*>([A-Z])<', svg)
    assert letters == [entry.state for entry in entries if entry.state != "-"]
    assert "pid 3 sh: 1 may write, 4 only read, 1 no page yet" in figure.alt


def test_a_page_that_was_shared_says_so_until_somebody_writes() -> None:
    machine = Machine.boot("tiny-128m")
    pid = machine.spawn("sh")
    address = machine.mmap(pid, PAGE)
    machine.touch(pid, address, PAGE)
    child = machine.sys_fork(pid)
    assert "anonymous, shared" in fork_figure(fork_snapshot(machine.kernel, address, 1)).text()
    machine.user_write(child, address, b"c")
    seen = fork_snapshot(machine.kernel, address, 1)
    assert {(frame.mapcount, frame.exclusive) for frame in seen.frames} == {(1, False), (1, True)}
    assert ">was shared<" in fork_figure(seen).svg()
    machine.user_write(pid, address, b"p")
    assert "was shared" not in fork_figure(fork_snapshot(machine.kernel, address, 1)).svg()


def test_swapped_pages_have_a_slot_that_counts() -> None:
    machine = Machine.boot("tiny-128m")
    machine.swapon(256)
    pid = machine.spawn("sh")
    address = machine.mmap(pid, 2 * PAGE)
    machine.touch(pid, address, 2 * PAGE)
    machine.madvise(pid, address, PAGE, MADV_PAGEOUT)
    machine.sys_fork(pid)
    seen = fork_snapshot(machine.kernel, address, 2)
    assert [[entry.state for entry in space.entries] for space in seen.spaces] == [["S", "R"], ["S", "R"]]
    assert [slot.count for slot in seen.slots] == [2]
    assert "2 entries hold it" in fork_figure(seen).svg()


def test_pages_that_must_not_be_written_bear_no_bar() -> None:
    machine = Machine.boot("tiny-128m")
    pid = machine.spawn("sh")
    address = machine.mmap(pid, PAGE, prot=PROT_READ)
    machine.touch(pid, address, PAGE, write=False)
    machine.spawn("other")
    seen = fork_snapshot(machine.kernel, address, 1)
    assert [(entry.state, entry.may_write) for entry in seen.spaces[0].entries] == [("R", False)]
    assert len(seen.spaces) == 1, "the other process has nothing there"
    assert len(fork_snapshot(machine.kernel, address, 1, pids=(pid + 1,)).spaces) == 1


def test_windows_that_cannot_be_shown_are_refused(family: Family) -> None:
    machine, _, _, address = family
    for start, pages in ((address, 0), (address, 17), (address + 1, 1)):
        with pytest.raises(BadRequest, match="can't be shown"):
            fork_snapshot(machine.kernel, start, pages)


def test_the_player_tells_fork_and_both_writes(family: Family) -> None:
    machine, _, child, address = family
    player = Player(machine.timeline, ForkPanel(machine.kernel, address, PAGES), folded=TOLD_AS_ONE)
    said = [step.said for step in player.steps]
    assert all(" is done." not in text for text in said)
    assert sum("gives the child the same entry" in text for text in said) == 5, "a step for each entry"
    assert sum("looks who refers to" in text for text in said) == 2
    assert sum("copies the 4,096 bytes" in text for text in said) == 1, "the second writer has the page alone"
    assert any("needs no copy" in text for text in said)
    words = [step.sight.alt for step in player.steps]
    assert "no process: " in " ".join(words), "the child's address space is there before the child"
    assert f"pid {child} sh: 1 may write" in words[-1]
    assert "Private_Dirty:" in player.text()
    changed = [line for step in player.steps for line in step.changed]
    assert any("mapcount 1, refcount 2 → mapcount 2, refcount 3" in " ".join(line.split()) for line in changed)
    assert len(player.html()) < 200_000


def test_frames_keep_their_place_from_step_to_step(family: Family) -> None:
    machine, _, _, address = family
    player = Player(machine.timeline, ForkPanel(machine.kernel, address, PAGES), folded=TOLD_AS_ONE)
    tops: dict[str, set[float]] = {}
    for step in player.steps:
        for mark in step.sight.picture.marks:  # type: ignore[union-attr]
            if mark.kind == "text" and re.fullmatch(r"pfn \d+", mark.text):
                tops.setdefault(mark.text, set()).add(mark.at[1])
    assert len(tops) == 6
    assert all(len(places) == 1 for places in tops.values())
    assert len({places.copy().pop() for places in tops.values()}) == len(tops), "no two at one place"


def test_looking_changes_nothing(family: Family) -> None:
    machine, _, _, address = family
    before = machine.kernel.mm.boot.ram.read_bytes(0, 1 << 24), bytes(machine.kernel.mm.page.mapcount[:])
    fork_figure(fork_snapshot(machine.kernel, address, PAGES)).svg()
    assert before == (machine.kernel.mm.boot.ram.read_bytes(0, 1 << 24), bytes(machine.kernel.mm.page.mapcount[:]))


def test_of_smaps_one_area_is_shown(family: Family) -> None:
    machine, pid, _, address = family
    lines = smaps_lines(machine.proc_smaps(pid), address, pid).splitlines()
    assert lines[0] == f"# /proc/{pid}/smaps"
    assert lines[1].startswith(f"{address:x}-")
    assert [line.split()[0] for line in lines[2:4]] == ["Rss:", "Pss:"]
    assert smaps_lines(machine.proc_smaps(pid), 0x1000, pid) == ""
