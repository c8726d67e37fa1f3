"""The log of `int 0x15`: every call, and the BIOS answers as if nobody listened."""

from __future__ import annotations

import struct

import pytest

from kmemlab.boot.boot_params import BootParams
from kmemlab.boot.detect import detect_memory
from kmemlab.course.bios_log import ask
from kmemlab.hardware.bios import Bios
from kmemlab.hardware.spec import load_spec, preset_names


@pytest.mark.parametrize("preset", preset_names())
def test_listening_changes_nothing(preset: str) -> None:
    _, heard = ask(preset)
    alone = BootParams()
    detect_memory(Bios(load_spec(preset)), alone)
    assert bytes(heard.zero_page) == bytes(alone.zero_page)


def test_one_call_a_range_and_the_two_older_ones() -> None:
    log, _ = ask("laptop-8g")
    ranges = load_spec("laptop-8g").e820
    assert [before.ax for before, _ in log.calls] == [0xE820] * len(ranges) + [0xE801, 0x8800]
    lines = log.text().splitlines()
    assert len(lines) == 1 + len(log.calls)
    for item, line in zip(ranges, lines[1:], strict=False):
        shown = bytes.fromhex("".join(line.split()[5:8]))
        assert struct.unpack("<QQI", shown) == (item.start, item.size, item.type)
    assert "+" not in log.text(decoded=False)


def test_a_call_in_full_shows_the_password_and_both_sides() -> None:
    log, _ = ask("laptop-8g")
    text = log.call_text(1)
    assert text.count("SMAP") == 2
    assert [line.split()[1:3] for line in text.splitlines() if line.startswith("EBX")] == [["1", "2"]]


def test_an_error_leaves_nothing_to_read() -> None:
    log, _ = ask({"e820": []})
    assert log.text().splitlines()[1].split() == ["E820h", "00000000", "1", "00008600", "00000000", "-"]
