"""Mapped files against a brute-force model: files are lists of pages, a program's private page is a copy or none yet.

Reclaim, write-back, swapping, compaction and dropping come in between at any time, and must never be seen by a program.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kmemlab.mm.lru import lru_add_drain_all
from kmemlab.mm.vmstat import NODE_STAT_NAMES
from kmemlab.process.fault import BusError
from kmemlab.process.mman import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, MS_ASYNC, MS_SYNC
from kmemlab.reclaim.direct import try_to_free_pages
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE
from tests.process.space import PAGE, RW, R, machine_of

LOW = 0x10000000 - 10 * PAGE  # the pages lie on both sides of a border between two last tables (2 MiB)
PAGES, FILE_PAGES = 24, 40
NAMES = ("a", "b")
NR_MAPPED = NODE_STAT_NAMES.index("nr_mapped")
where = st.integers(0, PAGES - 1)
lengths = st.integers(1, 12)
which = st.integers(0, 7)
offsets = st.integers(0, PAGE - 4)
pieces = st.binary(min_size=1, max_size=4)
file_pages = st.integers(0, FILE_PAGES - 1)


@dataclass
class Place:
    """What a program has at one of its pages."""

    name: str
    index: int
    shared: bool
    prot: int
    copy: bytes | None = None


def patched(old: bytes, offset: int, data: bytes) -> bytes:
    return old[:offset] + data + old[offset + len(data) :]


class Mappings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.machine = machine_of()
        self.files: dict[str, list[bytes]] = {}
        for name in NAMES:
            self.machine.create_file(name, FILE_PAGES)
            self.files[name] = [bytes((page + 1,)) * PAGE for page in range(FILE_PAGES)]
        self.spaces: dict[int, dict[int, Place]] = {}

    def pid(self, nth: int) -> int:
        return sorted(self.spaces)[nth % len(self.spaces)]

    # -- programs ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.spaces) < 3)
    @rule()
    def spawn(self) -> None:
        self.spaces[self.machine.spawn()] = {}

    @precondition(lambda self: self.spaces and len(self.spaces) < 4)
    @rule(nth=which)
    def fork(self, nth: int) -> None:
        pid = self.pid(nth)
        child = self.machine.sys_fork(pid)
        self.spaces[child] = {
            page: Place(place.name, place.index, place.shared, place.prot, place.copy)
            for page, place in self.spaces[pid].items()
        }

    @precondition(lambda self: len(self.spaces) > 1)
    @rule(nth=which)
    def exit(self, nth: int) -> None:
        pid = self.pid(nth)
        self.machine.sys_exit(pid)
        del self.spaces[pid]

    @precondition(lambda self: self.spaces)
    @rule(nth=which, first=where, pages=lengths, name=st.sampled_from(NAMES), index=file_pages, shared=st.booleans(),
          prot=st.sampled_from((RW, RW, R)))  # fmt: skip
    def mmap(self, nth: int, first: int, pages: int, name: str, index: int, shared: bool, prot: int) -> None:
        pid = self.pid(nth)
        flags = MAP_FIXED | (MAP_SHARED if shared else MAP_PRIVATE)
        self.machine.mmap(pid, pages * PAGE, prot, flags, LOW + first * PAGE, file=name, offset=index * PAGE)
        for page in range(pages):
            self.spaces[pid][first + page] = Place(name, index + page, shared, prot)

    @precondition(lambda self: self.spaces)
    @rule(nth=which, first=where, pages=lengths)
    def munmap(self, nth: int, first: int, pages: int) -> None:
        pid = self.pid(nth)
        self.machine.munmap(pid, LOW + first * PAGE, pages * PAGE)
        for page in range(first, first + pages):
            self.spaces[pid].pop(page, None)

    @precondition(lambda self: self.spaces)
    @rule(nth=which, at=where, prot=st.sampled_from((RW, R)))
    def mprotect(self, nth: int, at: int, prot: int) -> None:
        pid = self.pid(nth)
        pages = sorted(self.spaces[pid])
        if pages:
            page = pages[at % len(pages)]
            self.machine.mprotect(pid, LOW + page * PAGE, PAGE, prot)
            self.spaces[pid][page].prot = prot

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def expected(self, place: Place) -> bytes | None:
        """What a program sees at one of its pages; None behind the end of the file."""
        pages = self.files[place.name]
        if place.copy is not None:
            return place.copy
        return pages[place.index] if place.index < len(pages) else None

    @precondition(lambda self: self.spaces)
    @rule(stores=st.lists(st.tuples(which, where, offsets, pieces), min_size=1, max_size=4))
    def write(self, stores: list[tuple[int, int, int, bytes]]) -> None:
        for nth, at, offset, data in stores:
            pid = self.pid(nth)
            pages = [page for page, place in sorted(self.spaces[pid].items())
                     if place.prot == RW and self.expected(place) is not None]  # fmt: skip
            if pages:
                page = pages[at % len(pages)]
                place = self.spaces[pid][page]
                self.machine.user_write(pid, LOW + page * PAGE + offset, data)
                now = patched(self.expected(place) or b"", offset, data)
                if place.shared:
                    self.files[place.name][place.index] = now
                else:
                    place.copy = now

    @precondition(lambda self: self.spaces)
    @rule(nth=which, at=where)
    def read(self, nth: int, at: int) -> None:
        pid = self.pid(nth)
        pages = sorted(self.spaces[pid])
        if pages:
            page = pages[at % len(pages)]
            wanted = self.expected(self.spaces[pid][page])
            try:
                assert self.machine.user_read(pid, LOW + page * PAGE, PAGE) == wanted
            except BusError:
                assert wanted is None
                del self.spaces[pid]

    @rule(name=st.sampled_from(NAMES), index=file_pages, offset=offsets, data=pieces)
    def write_file(self, name: str, index: int, offset: int, data: bytes) -> None:
        if index < len(self.files[name]):
            self.machine.write_file(name, index * PAGE + offset, data)
            self.files[name][index] = patched(self.files[name][index], offset, data)

    @rule(name=st.sampled_from(NAMES))
    def read_file(self, name: str) -> None:
        assert self.machine.read_file(name) == b"".join(self.files[name])

    @rule(name=st.sampled_from(NAMES), pages=st.integers(0, FILE_PAGES))
    def truncate(self, name: str, pages: int) -> None:
        self.machine.truncate_file(name, pages)
        kept = self.files[name][:pages]
        self.files[name] = kept + [bytes(PAGE)] * (pages - len(kept))
        if pages == len(kept):
            for space in self.spaces.values():
                for place in space.values():
                    if place.name == name and place.index >= pages:
                        place.copy = None

    # -- what no program may notice ------------------------------------------------------------------------------------

    @initialize(swap=st.booleans())
    def swapon(self, swap: bool) -> None:
        if swap:
            self.machine.swapon(200)
            self.machine.sysctl("vm.swappiness", 200)

    @rule()
    def compact(self) -> None:
        self.machine.sysctl("vm.compact_memory", 1)

    @precondition(lambda self: self.spaces)
    @rule(nth=which, at=where, lock=st.booleans())
    def mlock(self, nth: int, at: int, lock: bool) -> None:
        pid = self.pid(nth)
        pages = [page for page, place in sorted(self.spaces[pid].items()) if self.expected(place) is not None]
        if pages:
            address = LOW + pages[at % len(pages)] * PAGE
            (self.machine.mlock if lock else self.machine.munlock)(pid, address, PAGE)
            place = self.spaces[pid][pages[at % len(pages)]]
            if lock and place.prot == RW and not place.shared:
                place.copy = self.expected(place)  # a private page is copied when it is locked

    @rule(rounds=st.integers(1, 5))
    def reclaim(self, rounds: int) -> None:
        lru_add_drain_all(self.machine.kernel.mm)
        for _ in range(rounds):
            try_to_free_pages(self.machine.kernel.mm, GFP_HIGHUSER_MOVABLE, 0, 0)

    @rule()
    def sync(self) -> None:
        self.machine.sync()

    @rule()
    def drop_caches(self) -> None:
        self.machine.drop_caches()

    @rule(jiffies=st.integers(1, 2000))
    def tick(self, jiffies: int) -> None:
        self.machine.tick(jiffies)

    @precondition(lambda self: self.spaces)
    @rule(nth=which, at=where, flags=st.sampled_from((MS_SYNC, MS_ASYNC)))
    def msync(self, nth: int, at: int, flags: int) -> None:
        pid = self.pid(nth)
        pages = sorted(self.spaces[pid])
        if pages:
            self.machine.msync(pid, LOW + pages[at % len(pages)] * PAGE, PAGE, flags)

    @invariant()
    def the_laws_hold(self) -> None:
        self.machine.check()
        mm = self.machine.kernel.mm
        mapped = {self.machine.user_pfn(pid, LOW + page * PAGE) for pid, space in self.spaces.items()
                  for page, place in space.items() if place.copy is None} - {None}  # fmt: skip
        assert sum(pgdat.vm_stat[NR_MAPPED] for pgdat in mm.node_data) == len(mapped)

    def teardown(self) -> None:
        for pid, space in sorted(self.spaces.items()):
            for page, place in sorted(space.items()):
                wanted = self.expected(place)
                if wanted is not None:
                    assert self.machine.user_read(pid, LOW + page * PAGE, PAGE) == wanted
        for pid in sorted(self.spaces):
            self.machine.sys_exit(pid)
        self.machine.sync()
        mm = self.machine.kernel.mm
        for ino, name in enumerate(NAMES, 1):
            first = mm.files.first_block[ino]
            for index, content in enumerate(self.files[name]):
                assert mm.disk.contents.read_bytes(first + index << 12, PAGE) == content
        self.machine.check()


TestMappings = Mappings.TestCase
TestMappings.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
