"""RAM keeps what is written, costs what is touched, and rewinds."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.hardware.ram import WORDS, Ram
from kmemlab.sim.journal import Command, Journal
from kmemlab.sim.recorder import Recorder
from kmemlab.sim.timeline import Timeline
from kmemlab.types.errors import TooLarge

WRITES = st.lists(
    st.tuples(st.integers(0, 64 * 1024 - 1), st.sampled_from([4, 8]), st.integers(0, 2**64 - 1)), max_size=60
)


@given(WRITES)
def test_ram_is_an_array_of_bytes(writes: list[tuple[int, int, int]]) -> None:
    ram, plain = Ram(16), bytearray(64 * 1024)
    for addr, size, value in writes:
        addr -= addr % size
        value &= (1 << 8 * size) - 1
        ram.write(addr, value, size)
        plain[addr : addr + size] = value.to_bytes(size, "little")
    for addr in range(0, len(plain), 8):
        assert ram.read(addr) == int.from_bytes(plain[addr : addr + 8], "little")
    for addr in {addr - addr % 4 for addr, _, _ in writes}:
        assert ram.read(addr, 4) == int.from_bytes(plain[addr : addr + 4], "little")
    touched = dict.fromkeys(addr >> 12 for addr, _, _ in writes)
    assert ram.frames() == tuple(touched)


@given(st.lists(st.tuples(st.integers(0, 18 * 4096), st.binary(max_size=9000)), max_size=12))
def test_bytes_are_written_at_any_address_and_length(writes: list[tuple[int, bytes]]) -> None:
    ram, plain = Ram(16), bytearray(b"\xff" * (32 * 4096))
    plain[: 16 * 4096] = bytes(16 * 4096)
    for addr, data in writes:
        ram.write_bytes(addr, data)
        kept = data[: max(0, 16 * 4096 - addr)]  # beyond RAM they are lost
        plain[addr : addr + len(kept)] = kept
    for addr, data in writes:
        assert ram.read_bytes(addr, len(data) + 5) == plain[addr : addr + len(data) + 5]
    assert ram.read_bytes(0, 18 * 4096) == plain[: 18 * 4096]


def test_nobody_answers_where_there_is_no_ram() -> None:
    ram = Ram(16)
    ram.write(16 << 12, 5)
    assert ram.read(16 << 12) == 2**64 - 1
    assert ram.read(16 << 12, 4) == 2**32 - 1
    assert ram.frames() == ()


def test_a_page_is_cleared_in_its_place() -> None:
    ram = Ram(16)
    ram.write(0x3008, 7)
    ram.write(0x4FF8, 8)
    ram.clear_page(3)
    ram.clear_page(9)
    assert (ram.read(0x3008), ram.read(0x4FF8), ram.frames()) == (0, 8, (3, 4))


def test_too_many_frames_are_refused_by_name() -> None:
    ram = Ram(16, nr_places=2)
    ram.write(0, 1)
    ram.write(0x1000, 1)
    with pytest.raises(TooLarge, match="more than 2 page frames"):
        ram.write(0x2000, 1)


def test_a_copy_goes_its_own_way_and_is_small() -> None:
    ram = Ram(1 << 34)  # 64 TiB
    ram.write(5 << 40, 1)
    twin = copy.deepcopy(ram)
    ram.write(5 << 40, 2)
    twin.write(0, 3)
    assert (ram.read(5 << 40), twin.read(5 << 40), ram.read(0), twin.read(0)) == (2, 1, 0, 3)
    assert (ram.nr_places, twin.nr_places) == (1, 2)
    assert len(twin.words) == len(ram.words) > WORDS


def test_contents_rewind_and_come_back() -> None:
    ram = Ram(16)

    def carry_out(command: Command) -> None:
        for addr, value in command.args:
            ram.write(addr, value, 4)

    journal = Journal(carry_out)
    recorder = Recorder(ram, journal)
    timeline = Timeline(journal, recorder.listening)
    recorder.start()
    try:
        for writes in (((0x1000, 2**32 - 1), (0x1004, 2**32 - 1)), ((0x1004, 9), (0x2000, 8))):
            with recorder.command("write", writes):
                carry_out(Command("write", writes))
        timeline.rewind(1)
        assert (ram.read(0x1000), ram.read(0x2000), ram.frames()) == (2**64 - 1, 0, (1,))
        assert copy.deepcopy(ram).read(0x1000) == 2**64 - 1
        timeline.rewind(0)
        assert (ram.read(0x1000), ram.frames()) == (0, ())
        timeline.to_end()
        assert (ram.read(0x1000), ram.read(0x2000), ram.frames()) == (0x9FFFFFFFF, 8, (1, 2))
    finally:
        recorder.stop()
