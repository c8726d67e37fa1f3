"""Detection in real mode: BIOSes as they should be, and as they are."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from kmemlab.boot.boot_params import BootParams, pack_boot_e820_entry, unpack_boot_e820_entry
from kmemlab.boot.detect import detect_memory
from kmemlab.hardware.bios import Bios
from kmemlab.hardware.spec import load_spec


def detected(**machine: Any) -> tuple[list[tuple[int, int, int]], int, int]:
    """What the zero page says after detection, read where C lays its fields: e820 entries, alt_mem_k, ext_mem_k."""
    params = BootParams()
    detect_memory(Bios(load_spec({"e820": [], **machine})), params)
    page = bytes(params.zero_page)
    entries = [struct.unpack_from("<QQI", page, 0x2D0 + 20 * at) for at in range(page[0x1E8])]
    return entries, struct.unpack_from("<I", page, 0x1E0)[0], struct.unpack_from("<H", page, 0x002)[0]


LOW, HIGH = [0, 0x9FBFF, "usable"], [0x100000, 0x7FFFFFF, "usable"]
PACKED = [(0, 0x9FC00, 1), (0x100000, 0x7F00000, 1)]


def test_a_sound_bios() -> None:
    assert detected(e820=[LOW, HIGH], e801={"ax": 15360, "bx": 1792}, e88=64512) == (PACKED, 1792 * 64 + 15360, 64512)


def test_a_bios_that_knows_no_call() -> None:
    assert detected() == ([], 0, 0)


def test_128_entries_are_all_that_is_asked_for() -> None:
    entries, _, _ = detected(e820=[[at * 4096, at * 4096 + 4095, "usable"] for at in range(200)])
    assert entries == [(at * 4096, 4096, 1) for at in range(128)]


def reply(entry: list[Any], following: int, **more: Any) -> dict[str, Any]:
    """One raw reply to E820h."""
    return {"range": entry, "ebx": following, **more}


@pytest.mark.parametrize(
    ("replies", "found"),
    [
        ([reply(LOW, 7), reply(HIGH, 0)], PACKED),  # EBX is the BIOS's own affair
        ([reply(LOW, 1), reply(HIGH, 2), reply(HIGH, 0, carry=True)], PACKED),  # the end told by an error
        ([reply(LOW, 1), reply(HIGH, 0, eax=0xE820)], []),  # the signature is gone: believe nothing
        ([reply(LOW, 1), {"ebx": 0}], [PACKED[0], PACKED[0]]),  # a buffer that is not written keeps the last range
        ([{"carry": True}], []),
        ([reply(LOW, 5), reply(HIGH, 5)], [PACKED[0]] + [PACKED[1]] * 127),  # a BIOS that never ends
        ([reply(LOW, 0), reply(HIGH, 0)], PACKED[:1]),
        ([{"buffer": "00fc", "ebx": 0}], [(0xFC00, 0, 0)]),
    ],
)
def test_broken_bioses(replies: list[Any], found: list[tuple[int, int, int]]) -> None:
    assert detected(int15={"e820": replies})[0] == found


def test_a_range_that_wraps_is_handed_on_as_it_is() -> None:
    entries, _, _ = detected(e820=[LOW, [0xFFFFFFFFFFFFF000, 0xFFF, "reserved"]])
    assert entries[1] == (0xFFFFFFFFFFFFF000, 0x2000, 2)


@pytest.mark.parametrize(
    ("registers", "alt_mem_k"),
    [
        ({"ax": 15360, "bx": 1792}, 15360 + 1792 * 64),
        ({"ax": 1, "bx": 1, "cx": 15360, "dx": 2}, 15360 + 128),  # CX, DX win where either is not 0
        ({"cx": 15360, "dx": 2}, 15360 + 128),
        ({"ax": 8192, "bx": 1792}, 8192),  # a hole at 16 MiB: what lies above is not used
        ({"ax": 15361, "bx": 1792}, 0),  # more than fits between 1 and 16 MiB
    ],
)
def test_e801(registers: dict[str, int], alt_mem_k: int) -> None:
    assert detected(e801=registers)[1] == alt_mem_k


def test_raw_e801_and_88() -> None:
    raw = {"e801": {"eax": 15360, "ebx": 16, "carry": True}, "e88": {"eax": 0xFFFF}}
    assert detected(int15=raw)[1:] == (0, 0xFFFF)
    raw["e801"]["carry"] = False
    assert detected(int15=raw)[1:] == (15360 + 1024, 0xFFFF)


def test_fields_lie_where_c_lays_them() -> None:
    params = BootParams()
    params.ext_mem_k, params.alt_mem_k, params.e820_entries = 0x1234, 0x89ABCDEF, 0x1FF
    page = bytes(params.zero_page)
    assert len(page) == 4096
    assert page[0x002:0x004] == b"\x34\x12"
    assert page[0x1E0:0x1E4] == b"\xef\xcd\xab\x89"
    assert page[0x1E8:0x1EA] == b"\xff\x00"
    assert (params.ext_mem_k, params.alt_mem_k, params.e820_entries) == (0x1234, 0x89ABCDEF, 0xFF)
    packed = pack_boot_e820_entry(0x1122334455667788, 0x1000, 2)
    params.set_e820_entry(127, packed)
    assert (
        bytes(params.zero_page)[0x2D0 + 127 * 20 :][:20] == packed == struct.pack("<QQI", 0x1122334455667788, 0x1000, 2)
    )
    assert params.e820_entry(127) == unpack_boot_e820_entry(packed) == (0x1122334455667788, 0x1000, 2)
