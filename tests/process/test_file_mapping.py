"""Programs map files: what they read, what the kernel counts, what becomes of what they write."""

from __future__ import annotations

import pytest

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.machine import procfs_lists
from kmemlab.machine.machine import Machine
from kmemlab.mm.address_space import filemap_get_folio
from kmemlab.mm.vmstat import NODE_STAT_NAMES
from kmemlab.process.fault import BusError, Segfault
from kmemlab.process.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, MS_ASYNC
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, OutOfMemory
from tests.process.space import PAGE, RW, R, machine_of, mm_of

SHARED, PRIVATE = MAP_SHARED, MAP_PRIVATE


@pytest.fixture
def machine() -> Machine:
    machine = machine_of()
    machine.create_file("data", 200)
    return machine


def vmstat(machine: Machine, name: str) -> int:
    rows = dict(line.split() for line in procfs_lists.vmstat(machine.kernel).splitlines())
    return int(rows[name])


def node_stat(machine: Machine, name: str) -> int:
    return sum(pgdat.vm_stat[NODE_STAT_NAMES.index(name)] for pgdat in machine.kernel.mm.node_data)


def byte_of(page: int) -> bytes:
    """What create_file puts into a page."""
    return bytes((page % 251 + 1,))


# -- what is read and written ------------------------------------------------------------------------------------------


def test_a_mapping_shows_the_file_from_its_offset_on(machine: Machine) -> None:
    pid = machine.spawn()
    for flags in (PRIVATE, SHARED):
        address = machine.mmap(pid, 20 * PAGE, R, flags, file="data", offset=30 * PAGE)
        for page in (0, 7, 19):
            assert machine.user_read(pid, address + page * PAGE, PAGE) == byte_of(30 + page) * PAGE


def test_a_shared_write_is_everybodys_and_a_private_one_nobody_elses(machine: Machine) -> None:
    one, two = machine.spawn(), machine.spawn()
    shared = machine.mmap(one, PAGE, RW, SHARED, file="data")
    also = machine.mmap(two, PAGE, R, SHARED, file="data")
    private = machine.mmap(two, PAGE, RW, PRIVATE, file="data")
    assert machine.user_read(two, private, 2) == machine.user_read(two, also, 2) == b"\1\1"
    machine.user_write(two, private, b"P")
    machine.user_write(one, shared, b"S")
    assert machine.user_read(two, also, 2) == b"S\1"
    assert machine.user_read(two, private, 2) == b"P\1"
    assert machine.read_file("data", 0, 2) == b"S\1"
    machine.write_file("data", 1, b"w")
    assert machine.user_read(one, shared, 3) == b"Sw\1"
    assert machine.user_pfn(one, shared) == machine.user_pfn(two, also) != machine.user_pfn(two, private)


def test_a_private_mapping_sees_the_file_until_it_writes(machine: Machine) -> None:
    pid = machine.spawn()
    private = machine.mmap(pid, PAGE, file="data")
    machine.user_read(pid, private)
    machine.write_file("data", 0, b"later")
    assert machine.user_read(pid, private, 5) == b"later"
    machine.user_write(pid, private + 5, b"!")
    machine.write_file("data", 0, b"again")
    assert machine.user_read(pid, private, 6) == b"later!"


def test_a_write_is_on_the_disk_after_msync_and_not_before(machine: Machine) -> None:
    pid, mm = machine.spawn(), machine.kernel.mm
    address = machine.mmap(pid, PAGE, RW, SHARED, file="data")
    machine.user_write(pid, address, b"new")
    block = mm.files.first_block[1]
    assert mm.disk.contents.read_bytes(block << 12, 3) == b"\1\1\1"
    machine.msync(pid, address, PAGE, MS_ASYNC)
    assert node_stat(machine, "nr_dirty") == 2  # the page, and the inode
    machine.msync(pid, address, PAGE)
    assert mm.disk.contents.read_bytes(block << 12, 3) == b"new"
    assert node_stat(machine, "nr_dirty") == 1
    faults = vmstat(machine, "pgfault")
    machine.user_write(pid, address, b"two")  # the entry lost the right to write, so that this makes it dirty anew
    assert vmstat(machine, "pgfault") == faults + 1
    assert node_stat(machine, "nr_dirty") == 2
    machine.sys_exit(pid)
    machine.sync()
    assert mm.disk.contents.read_bytes(block << 12, 3) == b"two"


def test_fork_shares_a_shared_mapping_and_copies_a_private_one(machine: Machine) -> None:
    pid = machine.spawn()
    shared = machine.mmap(pid, 4 * PAGE, RW, SHARED, file="data")
    private = machine.mmap(pid, 4 * PAGE, RW, PRIVATE, file="data", offset=4 * PAGE)
    for address in (shared, private):
        machine.user_write(pid, address, b"mine")
        machine.user_read(pid, address + PAGE)
    child = machine.sys_fork(pid)
    machine.user_write(child, shared, b"ours")
    machine.user_write(child, private, b"his?")
    assert machine.user_read(pid, shared, 4) == b"ours"
    assert machine.user_read(pid, private, 4) == b"mine"
    assert machine.user_read(child, private + PAGE, 1) == byte_of(5)
    machine.check()
    machine.sys_exit(pid)
    assert machine.user_read(child, private, 4) == b"his?"
    machine.sys_exit(child)
    assert node_stat(machine, "nr_mapped") == 0


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_major_fault_reads_around_and_begins_anew(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 200 * PAGE, file="data")
    task = machine.kernel.processes.tasks[0]
    before = [vmstat(machine, name) for name in ("pgfault", "pgmajfault")]
    machine.user_read(pid, address + 100 * PAGE)
    assert [vmstat(machine, name) for name in ("pgfault", "pgmajfault")] == [before[0] + 2, before[1] + 1]
    assert (task.min_flt, task.maj_flt) == (0, 1)
    cached = [index for index in range(200) if machine.kernel.mm.mappings.nrpages[1] and is_cached(machine, index)]
    assert cached == list(range(84, 116))  # 16 pages before, 16 from here on


def is_cached(machine: Machine, index: int) -> bool:
    mm = machine.kernel.mm
    return filemap_get_folio(mm.mappings, mm.files.mapping[1], index) is not None


def test_a_minor_fault_maps_the_pages_around(machine: Machine) -> None:
    machine.read_file("data", 0, 200 * PAGE)
    pid = machine.spawn()
    address = machine.mmap(pid, 200 * PAGE, R, file="data")
    machine.user_read(pid, address + 40 * PAGE)
    mapped = [page for page in range(200) if machine.user_pfn(pid, address + page * PAGE) is not None]
    first = (address + 40 * PAGE & -16 * PAGE) - address >> 12
    assert set(mapped) <= set(range(first, first + 16))
    assert 40 in mapped
    assert len(mapped) >= 15  # a page that is marked for readahead stays out
    task = machine.kernel.processes.tasks[0]
    assert (task.min_flt, task.maj_flt) == (1, 0)
    assert mm_of(machine, pid).rss_stat[0] == len(mapped) == node_stat(machine, "nr_mapped")


def test_fault_around_stays_within_its_mapping(machine: Machine) -> None:
    machine.read_file("data", 0, 200 * PAGE)
    pid = machine.spawn()
    address = machine.mmap(pid, 3 * PAGE, R, file="data", offset=50 * PAGE)
    machine.mmap(pid, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, address + 3 * PAGE)
    machine.user_read(pid, address + PAGE)
    assert mm_of(machine, pid).rss_stat[0] == 3


def test_readahead_ends_where_programs_miss_all_the_time(machine: Machine) -> None:
    mm = machine.kernel.mm
    pid = machine.spawn()
    address = machine.mmap(pid, 200 * PAGE, R, file="data")
    mm.files.mmap_miss[1] = 101
    machine.user_read(pid, address + 100 * PAGE)
    assert mm.mappings.nrpages[1] == 1
    assert machine.kernel.processes.tasks[0].maj_flt == 1


def test_a_touch_behind_the_end_is_a_bus_error(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 10 * PAGE, RW, SHARED, file="data", offset=195 * PAGE)
    machine.user_write(pid, address + 4 * PAGE, b"last")
    with pytest.raises(BusError, match="behind the end"):
        machine.user_write(pid, address + 5 * PAGE, b"x")
    with pytest.raises(BadRequest):
        machine.proc_maps(pid)
    machine.check()


def test_rights_hold_for_mapped_files(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, PAGE, R, SHARED, file="data")
    machine.user_read(pid, address)
    machine.mprotect(pid, address, PAGE, RW)
    machine.user_write(pid, address, b"now")
    machine.mprotect(pid, address, PAGE, R)
    machine.mprotect(pid, address, PAGE, RW)
    faults = vmstat(machine, "pgfault")
    machine.user_write(pid, address, b"yes")  # the entry is dirty, so it got RW back at once
    assert vmstat(machine, "pgfault") == faults
    machine.mprotect(pid, address, PAGE, R)
    with pytest.raises(Segfault):
        machine.user_write(pid, address, b"no")
    assert machine.read_file("data", 0, 3) == b"yes"


# -- truncation --------------------------------------------------------------------------------------------------------


def test_truncation_takes_pages_away(machine: Machine) -> None:
    pid = machine.spawn()
    shared = machine.mmap(pid, 10 * PAGE, RW, SHARED, file="data")
    private = machine.mmap(pid, 10 * PAGE, RW, PRIVATE, file="data")
    machine.touch(pid, shared, 10 * PAGE)
    machine.touch(pid, private, 10 * PAGE)
    machine.truncate_file("data", 4)
    assert mm_of(machine, pid).rss_stat[0] == 4  # shared
    assert mm_of(machine, pid).rss_stat[1] == 4  # private copies
    machine.check()
    assert machine.read_file("data", 0) == (b"\1" + byte_of(0) * 4095 + b"".join(
        b"\1" + byte_of(page) * 4095 for page in range(1, 4)))  # fmt: skip
    child = machine.sys_fork(pid)
    with pytest.raises(BusError):
        machine.user_read(child, shared + 4 * PAGE)
    with pytest.raises(BusError):
        machine.user_read(pid, private + 9 * PAGE)


def test_a_file_that_grows_again_has_zeros_there(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 10 * PAGE, RW, SHARED, file="data")
    machine.touch(pid, address, 10 * PAGE)
    machine.truncate_file("data", 3)
    machine.truncate_file("data", 8)
    assert machine.user_read(pid, address + 2 * PAGE, 2) == b"\1\3"
    assert machine.user_read(pid, address + 3 * PAGE, 2 * PAGE) == bytes(2 * PAGE)
    with pytest.raises(BadRequest, match="200 blocks"):
        machine.truncate_file("data", 201)


# -- texts, and what is refused ----------------------------------------------------------------------------------------


def test_maps_names_the_file(machine: Machine) -> None:
    pid = machine.spawn()
    machine.mmap(pid, 3 * PAGE, RW, SHARED, file="data", offset=16 * PAGE)
    line = machine.proc_maps(pid).splitlines()[0]
    assert line == "7ffff7ffc000-7ffff7fff000 rw-s 00010000 08:01 1                          /data"


def test_neighbours_are_one_only_if_they_go_on_in_the_file(machine: Machine) -> None:
    machine.create_file("other", 10)
    pid = machine.spawn()
    at = 0x10000000
    for nth, (name, offset) in enumerate((("data", 0), ("data", 1), ("data", 3), ("other", 4))):
        machine.mmap(pid, PAGE, R, PRIVATE | MAP_FIXED, at + nth * PAGE, file=name, offset=offset * PAGE)
    lines = [line.split()[0] for line in machine.proc_maps(pid).splitlines()]
    assert lines[:3] == ["10000000-10002000", "10002000-10003000", "10003000-10004000"]


def test_smaps_tells_shared_from_private(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 4 * PAGE, RW, PRIVATE, file="data")
    machine.user_write(pid, address, b"copy")
    machine.user_read(pid, address + PAGE)
    rows = dict(line.split()[:2] for line in machine.proc_smaps(pid).splitlines()[1:14])
    assert rows["Anonymous:"] == "4"
    assert int(rows["Rss:"]) == 4 * mm_of(machine, pid).rss_stat[0] + 4
    assert rows["Private_Dirty:"] == "4"
    machine.sys_fork(pid)
    rows = dict(line.split()[:2] for line in machine.proc_smaps(pid).splitlines()[1:14])
    assert rows["Shared_Dirty:"] == "4"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"file": "nothing"}, "no file"),
        ({"file": "data", "offset": 5}, "offset 5"),
        ({"file": "data", "flags": MAP_PRIVATE | MAP_ANONYMOUS}, "flags"),
        ({"flags": MAP_SHARED | MAP_ANONYMOUS}, "flags"),
        ({"file": "data", "flags": MAP_PRIVATE | MAP_SHARED}, "flags"),
        ({"offset": PAGE}, "no file"),
    ],
)
def test_what_makes_no_sense_is_refused(machine: Machine, more: dict[str, int], message: str) -> None:
    pid = machine.spawn()
    with pytest.raises(BadRequest, match=message):
        machine.mmap(pid, PAGE, **more)  # type: ignore[arg-type]
    machine.check()


def test_msync_says_where_nothing_is_mapped(machine: Machine) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 3 * PAGE, RW, SHARED, file="data")
    machine.user_write(pid, address + 2 * PAGE, b"x")
    machine.munmap(pid, address + PAGE, PAGE)
    with pytest.raises(OutOfMemory):
        machine.msync(pid, address, 3 * PAGE)
    block = machine.kernel.mm.files.first_block[1] + 2
    assert machine.kernel.mm.disk.contents.read_bytes(block << 12, 1) == b"x"
    with pytest.raises(BadRequest):
        machine.msync(pid, address, PAGE, 5)


# -- when memory is short ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [SHARED, PRIVATE])
@pytest.mark.parametrize("write", [True, False])
def test_a_fault_that_gets_no_page_leaves_nothing_behind(machine: Machine, flags: int, write: bool) -> None:
    pid = machine.spawn()
    address = machine.mmap(pid, 60 * PAGE, RW, flags, file="data")
    for nth in range(1, 9):
        asked = [0]

        def pages(mm, gfp, order, nid, asked=asked, nth=nth):
            asked[0] += 1
            return None if asked[0] >= nth else alloc_pages_inner.original(mm, gfp, order, nid)

        where = address + 7 * nth * PAGE
        try:
            with livepatch(alloc_pages_inner, pages):
                machine.touch(pid, where, 1, write=write)
        except OutOfMemory:
            machine.check()
            assert asked[0] >= nth
        machine.touch(pid, where, 1, write=write)
        assert machine.user_read(pid, where + 1) == byte_of(7 * nth)
        machine.drop_caches()
        machine.check()


# -- rewind ------------------------------------------------------------------------------------------------------------


def test_rewind_and_go_on(machine: Machine) -> None:
    def life(machine: Machine) -> tuple[object, ...]:
        address = machine.mmap(pid, 20 * PAGE, RW, SHARED, file="data")
        machine.user_write(pid, address + 3 * PAGE, b"three")
        child = machine.sys_fork(pid)
        machine.msync(child, address, PAGE)
        machine.truncate_file("data", 10)
        machine.user_write(child, address + 9 * PAGE, b"nine")
        machine.sys_exit(child)
        content = machine.read_file("data")
        return machine.proc_smaps(pid), procfs_lists.vmstat(machine.kernel), content

    pid = machine.spawn()
    straight = life(machine.fork())
    with machine.recording() as timeline:
        before = procfs_lists.vmstat(machine.kernel)
        assert life(machine) == straight
        timeline.rewind()
        assert procfs_lists.vmstat(machine.kernel) == before
        machine.check()
        timeline.to_end()
        assert (machine.proc_smaps(pid), procfs_lists.vmstat(machine.kernel)) == straight[:2]
        machine.check()
