"""`your_machine`: the shipped machine by default, the reader's own where it may be read, and it is said which."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kmemlab.course import your_machine as module
from kmemlab.course.your_machine import SHIPPED, YourMachine, ranges_of_log, shipped, your_machine
from kmemlab.hardware.spec import E820Range
from kmemlab.types.errors import BadRequest


def test_the_shipped_map_is_that_of_the_machines_own_log_and_description() -> None:
    machine = shipped()
    described = json.loads(machine.read("/hardware.json"))["e820"]
    said = [(item.start, item.end) for item in machine.e820()]
    assert said == [(start, end) for start, end, _ in described]
    assert tuple(ranges_of_log(machine.dmesg())) == machine.e820()


def test_the_shipped_machine_is_the_default_and_mine_must_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KMEMLAB_MACHINE", raising=False)
    assert your_machine().name == SHIPPED
    monkeypatch.setenv("KMEMLAB_MACHINE", "capture")
    assert your_machine().name == SHIPPED
    monkeypatch.setenv("KMEMLAB_MACHINE", "mine")
    assert your_machine().is_live
    assert not your_machine(mine=False).is_live


def a_computer(root: Path, **files: str) -> YourMachine:
    for path, text in files.items():
        at = root / path.replace("__", "/")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)
    return YourMachine("a computer", root)


def test_memmap_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    files = {}
    for number in (10, 9, 0):
        start = number * 0x1000
        files |= {
            f"sys__firmware__memmap__{number}__start": f"{start:#x}\n",
            f"sys__firmware__memmap__{number}__end": f"{start + 0xFFF:#x}\n",
            f"sys__firmware__memmap__{number}__type": "System RAM\n" if number else "ACPI Tables\n",
        }
    machine = a_computer(tmp_path, **files)
    assert machine.e820() == (E820Range(0, 0xFFF, 3), E820Range(0x9000, 0x9FFF, 1), E820Range(0xA000, 0xAFFF, 1))
    assert machine.notes == []


def test_without_memmap_the_log_will_do(tmp_path: Path) -> None:
    machine = a_computer(tmp_path, dmesg="[    0.0] BIOS-e820: [mem 0x0000000000000000-0x0000000000000fff] usable\n")
    assert machine.e820() == (E820Range(0, 0xFFF, 1),)


def test_what_may_not_be_read_is_the_shipped_machines_and_is_said_once(tmp_path: Path) -> None:
    machine = a_computer(tmp_path)
    assert machine.e820() == shipped().e820()
    assert machine.read("/proc/buddyinfo") == shipped().read("/proc/buddyinfo")
    machine.read("/proc/buddyinfo")
    assert len(machine.notes) == 2
    assert all(note in machine.text() for note in machine.notes)
    assert "does not let you read /proc/buddyinfo" in machine.text()


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may read everything")
def test_a_file_without_permission_is_told_too(tmp_path: Path) -> None:
    machine = a_computer(tmp_path, proc__buddyinfo="secret")
    (tmp_path / "proc/buddyinfo").chmod(0)
    assert machine.read("/proc/buddyinfo") == shipped().read("/proc/buddyinfo")


def test_a_log_that_may_not_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> str:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "kernel_log", refused)
    machine = YourMachine("this computer", Path("/"))
    assert machine.dmesg() == shipped().dmesg()
    assert "does not let you read the kernel log" in machine.text()


def test_a_file_that_nobody_has_is_an_error_with_a_remedy() -> None:
    with pytest.raises(BadRequest, match="/proc/nothing is not among the files") as error:
        shipped().read("/proc/nothing")
    assert "KMEMLAB_MACHINE=mine" in str(error.value)


@pytest.mark.parametrize("pasted", [5, "x", {"/proc/meminfo": None}, {"/proc/meminfo": b"MemTotal"}, {5: "x"}])
def test_what_is_pasted_must_be_texts_by_their_paths(pasted: Any) -> None:
    with pytest.raises(BadRequest, match="texts by the paths"):
        your_machine(pasted=pasted)
