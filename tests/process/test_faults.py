"""Page faults: what the first read and the first write bring, copy on write, and what a program must not do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.lru import lru_add_drain_all
from kmemlab.mm.vm_event import PGFAULT
from kmemlab.mm.vmstat import NODE_STAT_NAMES
from kmemlab.process.fault import Segfault
from kmemlab.process.memory import my_zero_pfn
from kmemlab.process.rmap_walk import mapped_entries
from kmemlab.types.errors import BadRequest
from tests.process.space import NONE, PAGE, RW, R, machine_of, mm_of, ranges


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = machine_of()
    yield machine
    machine.check()


def node_stat(machine: Machine, name: str) -> int:
    return sum(pgdat.vm_stat[NODE_STAT_NAMES.index(name)] for pgdat in machine.kernel.mm.node_data)


def test_a_mapping_costs_nothing_until_it_is_touched(machine: Machine) -> None:
    pid = machine.spawn()
    before = machine.kernel.mm.vm_event[PGFAULT]
    machine.sysctl("vm.overcommit_memory", 1)
    address = machine.mmap(pid, 1 << 40)
    assert mm_of(machine, pid).total_vm == (1 << 28) + 33
    assert machine.kernel.mm.vm_event[PGFAULT] == before
    assert mm_of(machine, pid).pgtables_bytes == 0
    address = -(-address // (1 << 21)) << 21  # where one last table begins
    machine.touch(pid, address, 3 * PAGE)
    assert machine.kernel.mm.vm_event[PGFAULT] == before + 3
    assert mm_of(machine, pid).rss_stat[1] == 3
    assert mm_of(machine, pid).pgtables_bytes == 3 * PAGE  # one table each of level pud, pmd, pte
    assert node_stat(machine, "nr_page_table_pages") == 2
    assert node_stat(machine, "nr_anon_pages") == 3


def test_a_read_gets_the_zero_page_and_a_write_a_page_of_its_own(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 2 * PAGE)
    zero = my_zero_pfn(machine.kernel.mm)
    assert machine.user_read(pid, address, 2 * PAGE) == bytes(2 * PAGE)
    assert machine.user_pfn(pid, address) == machine.user_pfn(pid, address + PAGE) == zero
    assert mm_of(machine, pid).rss_stat[1] == 0
    machine.user_write(pid, address, b"x")
    assert machine.user_pfn(pid, address) not in (zero, None)
    assert machine.user_read(pid, address, 3) == b"x\0\0"
    assert machine.user_read(pid, address + PAGE, 1) == b"\0"
    assert machine.kernel.mm.boot.ram.read_bytes(zero * PAGE, PAGE) == bytes(PAGE)


def test_after_fork_both_share_until_one_writes(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 3 * PAGE)
    machine.user_write(pid, address, b"abc" * PAGE)
    child = machine.sys_fork(pid)
    page = machine.kernel.mm.page
    pfns = [machine.user_pfn(pid, address + nth * PAGE) for nth in range(3)]
    assert pfns == [machine.user_pfn(child, address + nth * PAGE) for nth in range(3)]
    assert [page.mapcount[pfn] for pfn in pfns if pfn is not None] == [2, 2, 2]
    machine.user_write(child, address + PAGE, b"!")
    assert machine.user_pfn(pid, address + PAGE) == pfns[1]
    assert machine.user_pfn(child, address + PAGE) != pfns[1]
    assert machine.user_read(pid, address, 3 * PAGE) == b"abc" * PAGE
    expected = bytearray(b"abc" * PAGE)
    expected[PAGE] = ord("!")
    assert machine.user_read(child, address, 3 * PAGE) == expected


def test_the_last_owner_writes_without_a_copy(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, PAGE)
    machine.user_write(pid, address, b"a")
    pfn = machine.user_pfn(pid, address)
    child = machine.sys_fork(pid)
    machine.sys_exit(child)
    reused = machine.kernel.processes.common.pgreuse
    machine.user_write(pid, address, b"b")
    assert machine.user_pfn(pid, address) == pfn
    assert machine.kernel.processes.common.pgreuse == reused + 1


def test_new_pages_come_to_the_lru_lists(machine: Machine) -> None:
    pid = machine.spawn()
    machine.touch(pid, machine.mmap(pid, 40 * PAGE), 40 * PAGE)
    lru_add_drain_all(machine.kernel.mm)
    assert node_stat(machine, "nr_inactive_anon") + node_stat(machine, "nr_active_anon") == 40
    machine.check()
    machine.sys_exit(pid)
    lru_add_drain_all(machine.kernel.mm)
    assert node_stat(machine, "nr_inactive_anon") + node_stat(machine, "nr_active_anon") == 0


def test_reverse_mappings_are_found(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 4 * PAGE)
    machine.touch(pid, address, 4 * PAGE)
    child = machine.sys_fork(pid)
    grandchild = machine.sys_fork(child)
    machine.user_write(child, address + PAGE, b"own")

    def owners(pfn: int | None) -> list[tuple[int, int]]:
        assert pfn is not None
        return [(mm.number, where) for mm, _, where, _ in mapped_entries(machine.kernel.mm, pfn)]

    mms = [mm_of(machine, who).number for who in (pid, child, grandchild)]
    assert owners(machine.user_pfn(pid, address)) == [(mm, address) for mm in mms]
    assert owners(machine.user_pfn(pid, address + PAGE)) == [(mms[0], address + PAGE), (mms[2], address + PAGE)]
    assert owners(machine.user_pfn(child, address + PAGE)) == [(mms[1], address + PAGE)]
    machine.munmap(pid, address, 2 * PAGE)
    assert owners(machine.user_pfn(child, address)) == [(mm, address) for mm in mms[1:]]


def test_the_stack_grows_to_its_limit_and_no_further(machine: Machine) -> None:
    pid = machine.spawn()
    top = 0x7FFFFFFFF000
    machine.user_write(pid, top - (1 << 20), b"deep")
    assert ranges(machine, pid)[-1][0] == top - (1 << 20)
    with pytest.raises(Segfault):
        machine.user_write(pid, top - (8 << 20) - 1, b"too deep")


def test_the_stack_stays_away_from_what_is_mapped_below(machine: Machine) -> None:
    pid = machine.spawn()
    top = 0x7FFFFFFFF000
    below = machine.mmap(pid, PAGE, addr=top - (4 << 20))
    machine.user_write(pid, below + PAGE + (1 << 20), b"a gap of 1 MiB")
    with pytest.raises(Segfault):
        machine.user_write(pid, below + (1 << 20), b"less than that")


@pytest.mark.parametrize(
    ("prot", "write", "touched", "error"),
    [(R, True, False, 6), (R, True, True, 7), (NONE, False, False, 4), (NONE, False, True, 4), (NONE, True, True, 6)],
)
def test_what_rights_forbid_is_a_segfault_in_the_kernels_words(
    machine: Machine, prot: int, write: bool, touched: bool, error: int
) -> None:
    pid = machine.spawn("crash")
    address = machine.mmap(pid, PAGE)
    if touched:
        machine.touch(pid, address, PAGE)
    machine.mprotect(pid, address, PAGE, prot)
    with pytest.raises(Segfault, match=f"touched {address + 8:#x}"):
        machine.touch(pid, address + 8, 1, write=write)
    line, code = machine.dmesg().splitlines()[-2:]
    assert line == (
        f"crash[{pid}]: segfault at {address + 8:x} ip 0000000000400000 sp 00007fffffffeff0 error {error:x} "
        "likely on CPU 0 (core 0, socket 0)"
    )
    assert code == "Code: Unable to access opcode bytes at 0x3fffd6."
    with pytest.raises(BadRequest, match="no process"):
        machine.user_read(pid, address)


@pytest.mark.parametrize("address", [0, 0x10, 0xFFFF888000000000, 0xFFFFFFFF81000000])
def test_neither_null_nor_the_kernel_may_be_touched(machine: Machine, address: int) -> None:
    pid = machine.spawn()
    with pytest.raises(Segfault):
        machine.user_read(pid, address)
    assert f"segfault at {address:x} " in machine.dmesg()
    assert machine.dmesg().splitlines()[-2].split("error ")[1][0] == ("5" if address >> 63 else "4")


def test_an_address_that_is_not_canonical_is_a_general_protection_fault(machine: Machine) -> None:
    pid = machine.spawn("wild")
    with pytest.raises(Segfault):
        machine.user_read(pid, 1 << 62)
    assert machine.dmesg().splitlines()[-1].startswith(f"traps: wild[{pid}] general protection fault ip:400000 sp:")


def test_prot_none_keeps_what_stood_there(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, PAGE)
    machine.user_write(pid, address, b"secret")
    machine.mprotect(pid, address, PAGE, NONE)
    machine.check()
    machine.mprotect(pid, address, PAGE, RW)
    assert machine.user_read(pid, address, 6) == b"secret"


def test_the_cpu_forgets_what_fork_took_away(machine: Machine) -> None:
    """A parent that has just written may not write into the shared page by what its TLB remembers."""
    pid = machine.spawn()
    address = machine.mmap(pid, PAGE)
    machine.user_write(pid, address, b"a")
    child = machine.sys_fork(pid)
    machine.user_write(pid, address, b"b")
    assert machine.user_read(child, address, 1) == b"a"
    assert machine.kernel.mm.boot.mmu.stale() == ()
