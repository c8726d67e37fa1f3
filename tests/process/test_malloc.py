"""A program's malloc: where small and large requests come from, and that chunks never overlap."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.types.errors import BadRequest, DoubleFree, OutOfMemory
from tests.process.space import PAGE, machine_of, mm_of, ranges

KIB = 1024


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = machine_of()
    yield machine
    machine.check()


def test_small_requests_come_from_the_heap(machine: Machine) -> None:
    pid = machine.spawn()
    start = machine.brk(pid)
    first, second = machine.malloc(pid, 24), machine.malloc(pid, 24)
    assert (first, second) == (start + 16, start + 48)
    # 32 bytes and 128 KiB more, in whole pages: what glibc's first brk takes, too.
    assert machine.brk(pid) == start + 132 * KIB
    assert [row[:2] for row in ranges(machine, pid)[:1]] == [(start, start + 132 * KIB)]


@pytest.mark.parametrize(("size", "mapped"), [(128 * KIB - 24, False), (128 * KIB - 23, True), (1 << 20, True)])
def test_from_128_kib_on_requests_are_mappings_of_their_own(machine: Machine, size: int, mapped: bool) -> None:
    pid = machine.spawn()
    start = machine.brk(pid)
    address = machine.malloc(pid, size)
    assert (address % PAGE == 16 and address > start + (1 << 40)) == mapped
    assert (machine.brk(pid) == start) == mapped
    before = len(ranges(machine, pid))
    machine.user_free(pid, address)
    assert len(ranges(machine, pid)) == before - mapped


def test_malloc_touches_only_the_page_with_its_word(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.malloc(pid, 1 << 20)
    assert mm_of(machine, pid).rss_stat[1] == 1
    machine.touch(pid, address, 1 << 20)
    assert mm_of(machine, pid).rss_stat[1] == 256


def test_freed_chunks_are_joined_and_used_again(machine: Machine) -> None:
    pid = machine.spawn()
    chunks = [machine.malloc(pid, 100) for _ in range(4)]
    for nth in (1, 2):
        machine.user_free(pid, chunks[nth])
    assert machine.malloc(pid, 210) == chunks[1]


def test_wrong_frees_are_told(machine: Machine) -> None:
    pid = machine.spawn()
    machine.user_free(pid, 0)
    first, second = machine.malloc(pid, 50), machine.malloc(pid, 200 * KIB)
    machine.user_free(pid, first)
    with pytest.raises(DoubleFree):
        machine.user_free(pid, first)
    for wrong in (first + 16, second + 16):
        with pytest.raises(BadRequest, match="invalid pointer"):
            machine.user_free(pid, wrong)
    assert machine.malloc(pid, 0) == first
    with pytest.raises(OutOfMemory):
        machine.malloc(pid, 1 << 47)


def test_an_overrun_of_the_program_is_found(machine: Machine) -> None:
    pid = machine.spawn()
    first = machine.malloc(pid, 16)
    machine.malloc(pid, 16)
    machine.user_write(pid, first, b"\xff" * 40)
    with pytest.raises(BadRequest, match="corrupted size"):
        machine.malloc(pid, 16)


def test_what_a_program_wrote_stays_whatever_else_comes_and_goes(machine: Machine) -> None:
    chance = random.Random(5)
    pid = machine.spawn()
    kept: dict[int, bytes] = {}
    for _ in range(120):
        if kept and chance.random() < 0.45:
            address = chance.choice(sorted(kept))
            data = kept.pop(address)
            assert machine.user_read(pid, address, len(data)) == data
            machine.user_free(pid, address)
        else:
            data = chance.randbytes(chance.choice((1, 30, 500, 5000, 140 * KIB)))
            address = machine.malloc(pid, len(data))
            assert address % 16 == 0
            assert all(address + len(data) <= other or other + len(was) <= address for other, was in kept.items())
            machine.user_write(pid, address, data)
            kept[address] = data
    for address, data in kept.items():
        assert machine.user_read(pid, address, len(data)) == data
