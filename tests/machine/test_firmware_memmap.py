"""/sys/firmware/memmap, line by line as on real machines."""

from __future__ import annotations

import pytest

from kmemlab.machine.firmware_memmap import firmware_memmap
from kmemlab.machine.machine import Machine
from tests.boot.captures import ALL, MACHINES, saved


@pytest.mark.parametrize("name", ALL)
def test_every_line(name: str) -> None:
    assert firmware_memmap(Machine.boot(MACHINES / name).kernel) == saved(name, "firmware_memmap.txt")


def test_the_command_line_changes_nothing() -> None:
    spec = {"e820": [[0, 0x9FBFF, "usable"], [0x100000, 0x7FFFFFF, "usable"]]}
    plain = firmware_memmap(Machine.boot(spec).kernel)
    assert firmware_memmap(Machine.boot({**spec, "cmdline": "mem=100M memmap=1M$0x5000000"}).kernel) == plain
    assert plain.splitlines()[2] == "1\t0x100000\t0x7ffffff\tSystem RAM"


def test_before_it_is_known_there_is_none() -> None:
    early = Machine.boot("tiny-128m", until="e820__memblock_setup")
    assert firmware_memmap(early.kernel) == "name\tstart\tend\ttype\n"
