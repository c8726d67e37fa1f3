"""kmap on i386: slots by their counts, the round and its flush, waiting, and laws that catch what breaks them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmemlab.alloc import highmem
from kmemlab.alloc.check_highmem import check_pkmap
from kmemlab.alloc.highmem import (
    Pkmap,
    flush_all_zero_pkmaps,
    get_next_pkmap_nr,
    kmap,
    kmap_high_get,
    kunmap,
    pkmap_entry,
)
from kmemlab.alloc.page_address import page_address, pkmap_addr, set_page_address
from kmemlab.boot.pgtable import get_entry
from kmemlab.boot.tlbflush import flush_tlb_kernel_range
from kmemlab.hardware.mmu import Mmu, PageFault
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.context import preempt_disable
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, KmemlabError, MustWait
from kmemlab.types.gfp import GFP_KERNEL
from tests.alloc.kmap_bench import CLASSIC, PAE, check_resumed, high_pages, machine_of


@pytest.mark.parametrize(
    ("name", "base", "slots"), [(PAE, 0xFF000000, 512), (CLASSIC, 0xFEC00000, 1024)], ids=["pae", "two-level"]
)
def test_the_first_slot_is_number_1_and_the_area_is_where_linux_has_it(name: str, base: int, slots: int) -> None:
    machine = machine_of(name)
    first, second = high_pages(machine, 2)
    assert machine.kernel.pkmap.last_pkmap == slots
    assert machine.kmap(first) == base + 4096
    assert machine.kmap(second) == base + 2 * 4096
    assert machine.kmap(first) == base + 4096
    assert machine.kernel.pkmap.pkmap_count[:4].tolist() == [0, 3, 2, 0]
    check_pkmap(machine.kernel.pkmap)


def test_low_memory_has_its_own_address_and_takes_no_slot() -> None:
    machine = machine_of()
    pfn = machine.alloc_pages(GFP_KERNEL)
    assert machine.kmap(pfn) == 0xC0000000 + (pfn << 12) == machine.page_address(pfn)
    assert machine.kunmap(pfn) == ()
    assert not any(machine.kernel.pkmap.pkmap_count)


def test_on_64_bit_every_page_has_an_address() -> None:
    machine = Machine.boot("tiny-128m")
    pfn = machine.alloc_pages(GFP_KERNEL)
    assert machine.kmap(pfn) == machine.kmap_local(pfn) == machine.page_address(pfn) == 0xFFFF888000000000 + (pfn << 12)
    machine.kunmap_local(machine.page_address(pfn))
    assert len(machine.kernel.pkmap.pkmap_count) == 0
    address = machine.kmap_atomic(pfn)
    assert (address, machine.kernel.mm.current.preempt_count) == (machine.page_address(pfn), 1)
    machine.kunmap_atomic(address)
    assert machine.kernel.mm.current.preempt_count == machine.kernel.mm.current.pagefault_disabled == 0


def test_what_is_written_through_one_mapping_is_read_through_another() -> None:
    machine = machine_of()
    (pfn,) = high_pages(machine, 1)
    machine.store(machine.kmap(pfn) + 16, 0x123456789ABCDEF0)
    assert machine.load(machine.kmap_local(pfn) + 16) == 0x123456789ABCDEF0
    assert machine.kernel.boot.ram.read((pfn << 12) + 16) == 0x123456789ABCDEF0


def test_an_unmapped_page_stays_visible_until_the_round_is_over() -> None:
    machine = machine_of()
    pfn, *others = high_pages(machine, 513)
    address = machine.kmap(pfn)
    machine.store(address, 7)
    machine.kunmap(pfn)
    assert machine.load(address) == 7  # a user after kunmap gets away with it …
    assert machine.kernel.pkmap.pkmap_count[1] == 1
    for other in others:
        machine.kmap(other)
        machine.kunmap(other)
    assert machine.kernel.pkmap.pkmap_count[1] in (0, 1)
    assert machine.page_address(pfn) == 0
    machine.kmap_flush_unused()
    with pytest.raises(PageFault):
        machine.load(address)  # … until here


def test_a_page_that_comes_again_within_the_round_has_its_old_slot() -> None:
    machine = machine_of()
    first, second = high_pages(machine, 2)
    address = machine.kmap(first)
    machine.kunmap(first)
    machine.kmap(second)
    assert machine.kmap(first) == address
    assert kmap_high_get(machine.kernel.pkmap, first) == address
    assert machine.kernel.pkmap.pkmap_count[1] == 3
    assert kmap_high_get(machine.kernel.pkmap, high_pages(machine, 1)[0]) is None


def test_without_the_flush_the_tlb_shows_another_page() -> None:
    machine = machine_of()
    first, second, *others = high_pages(machine, 514)
    pkmap = machine.kernel.pkmap
    machine.load(machine.kmap(first))
    machine.kunmap(first)
    with livepatch(flush_tlb_kernel_range, lambda mmu, start, end: None):
        for other in others[:511]:
            machine.kmap(other)
            machine.kunmap(other)
        machine.kmap_flush_unused()
        assert machine.kernel.boot.mmu.stale()[0].frame == first << 12
        while pkmap.last_pkmap_nr:  # the round goes on to slot 1
            get_next_pkmap_nr(pkmap)
        machine.store(machine.kmap(second), 0xBAD)
    assert machine.page_address(second) == pkmap_addr(machine.kernel.mm, 1)
    assert machine.kernel.boot.ram.read(first << 12) == 0xBAD  # written into the page that was there before
    with pytest.raises(BrokenLaw, match="the TLB still shows"):
        check_pkmap(pkmap)


def test_all_slots_in_use_and_who_waits_is_woken() -> None:
    machine = machine_of()
    pages = high_pages(machine, 513)
    machine.run_task(7, comm="copier")
    for pfn in pages[:512]:
        machine.kmap(pfn)
    machine.run_task(8, comm="reader")
    with pytest.raises(MustWait, match=r"all 512 slots of kmap are in use \(512 by pid 7\): reader \(pid 8\) sleeps"):
        machine.kmap(pages[512])
    assert machine.kernel.pkmap.pkmap_map_wait.waiting() == (8,)
    check_pkmap(machine.kernel.pkmap)
    machine.run_task(7)
    assert machine.kunmap(pages[100]) == (8,)
    machine.run_task(8)
    assert machine.kmap(pages[512]) == pkmap_addr(machine.kernel.mm, 101)
    assert machine.page_address(pages[100]) == 0
    check_pkmap(machine.kernel.pkmap)


def test_a_wrong_kunmap_is_told() -> None:
    machine = machine_of()
    (pfn,) = high_pages(machine, 1)
    with pytest.raises(BadRequest, match=r"highmem.c:358! pfn \d+ is not mapped by kmap"):
        machine.kunmap(pfn)
    machine.kmap(pfn)
    machine.kunmap(pfn)
    with pytest.raises(BadRequest, match=r"highmem.c:368! pfn \d+ is mapped, but nobody uses it any more"):
        machine.kunmap(pfn)
    with pytest.raises(BadRequest, match="no page frame"):
        machine.kmap(1 << 40)
    with pytest.raises(BadRequest, match="whole number"):
        machine.kmap("x")  # type: ignore[arg-type]
    check_pkmap(machine.kernel.pkmap)


def test_kmap_where_nobody_may_sleep() -> None:
    machine = machine_of()
    (pfn,) = high_pages(machine, 1)
    machine.kernel.mm.current.system_state = 1
    with pytest.raises(BadRequest, match="kmap may sleep, and an interrupt handler can't"):
        machine.kmap(pfn, in_interrupt=True)
    assert "BUG: sleeping function called from invalid context" in machine.dmesg()
    said = len(machine.dmesg())
    preempt_disable(machine.kernel.mm.current)
    machine.kmap(pfn)  # reported, but done
    assert "in_atomic(): 1" in machine.dmesg()[said:]
    assert machine.kmap_local(pfn, in_interrupt=True)


def test_rewound_then_resumed_ends_like_a_straight_run() -> None:
    machine = machine_of()
    pages = high_pages(machine, 40)
    machine.record()
    rng = random.Random(3)
    for _ in range(120):
        name, args = rng.choice(
            [("kmap", (rng.choice(pages), 0)), ("kunmap", (rng.choice(pages),)), ("kmap_flush_unused", ())]
        )
        with contextlib.suppress(KmemlabError):
            machine._command(name, *args)
    check_resumed(machine, (100, 60, 3, 0), lambda: check_pkmap(machine.kernel.pkmap))


# -- against the shortest model that can be thought of -----------------------------------------------------------------

SLOTS = 8


class KmapModel(RuleBasedStateMachine):
    """Eight slots only, so that the round is short. The model: who shows what, who uses it, and a finger."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = machine_of()
        self.pages = high_pages(self.machine, 12)
        self.pkmap: Pkmap = self.machine.kernel.pkmap
        self.pkmap.__dict__["last_pkmap"] = SLOTS
        self.shown: list[int | None] = [None] * SLOTS
        self.users = [0] * SLOTS
        self.finger = 0

    def expected(self, pfn: int) -> int | None:
        """The slot that this page must get; None: wait."""
        if pfn in self.shown:
            return self.shown.index(pfn)
        seen_0 = 0
        for _ in range(2 * SLOTS):
            self.finger = (self.finger + 1) % SLOTS
            if self.finger == 0:
                seen_0 += 1
                self.drop_unused()
            if self.shown[self.finger] is None:
                return self.finger
            if seen_0 and self.finger == SLOTS - 1:
                return None
        return None

    def drop_unused(self) -> None:
        self.shown = [pfn if users else None for pfn, users in zip(self.shown, self.users, strict=True)]

    @rule(nth=st.integers(0, 11))
    def map(self, nth: int) -> None:
        slot = self.expected(self.pages[nth])
        if slot is None:
            with pytest.raises(MustWait):
                kmap(self.pkmap, self.pages[nth])
            return
        assert kmap(self.pkmap, self.pages[nth]) == pkmap_addr(self.machine.kernel.mm, slot)
        self.shown[slot] = self.pages[nth]
        self.users[slot] += 1

    @precondition(lambda self: any(self.users))
    @rule(data=st.data())
    def unmap(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from([slot for slot in range(SLOTS) if self.users[slot]]))
        pfn = self.shown[slot]
        assert pfn is not None
        kunmap(self.pkmap, pfn)
        self.users[slot] -= 1

    @rule()
    def flush(self) -> None:
        flush_all_zero_pkmaps(self.pkmap)
        self.drop_unused()

    @rule(nth=st.integers(0, 11))
    def touch(self, nth: int) -> None:
        address = page_address(self.pkmap.addresses, self.pages[nth])
        assert bool(address) == (self.pages[nth] in self.shown)
        if address:
            assert self.machine.kernel.boot.mmu.access(address) == self.pages[nth] << 12

    @invariant()
    def counts_are_the_models(self) -> None:
        expected = [0 if pfn is None else 1 + users for pfn, users in zip(self.shown, self.users, strict=True)]
        assert self.pkmap.pkmap_count[:SLOTS].tolist() == expected
        check_pkmap(self.pkmap)


KmapModel.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestKmapModel = KmapModel.TestCase


# -- the law catches what breaks it ------------------------------------------------------------------------------------


def forgets_entry(pkmap: Pkmap) -> None:
    for nr in range(pkmap.last_pkmap):
        if pkmap.pkmap_count[nr] == 1:
            pkmap.pkmap_count[nr] = 0
            set_page_address(pkmap.addresses, pkmap.addresses.pfn[nr], None)


def forgets_hash(pkmap: Pkmap) -> None:
    mm = pkmap.mm
    for nr in range(pkmap.last_pkmap):
        if pkmap.pkmap_count[nr] == 1:
            pkmap.pkmap_count[nr] = 0
            highmem.set_entry(mm.boot.swapper_pg_dir, pkmap_entry(mm, nr), 0)


def flushes_used_too(pkmap: Pkmap) -> None:
    mm = pkmap.mm
    for nr in range(pkmap.last_pkmap):
        if pkmap.pkmap_count[nr]:
            highmem.set_entry(mm.boot.swapper_pg_dir, pkmap_entry(mm, nr), 0)
    flush_tlb_kernel_range(mm.boot.mmu, pkmap_addr(mm, 0), pkmap_addr(mm, pkmap.last_pkmap))


def no_flush(mmu: Mmu, start: int, end: int) -> None:
    pass


def count_to_zero(pkmap: Pkmap, pfn: int) -> tuple[int, ...]:
    pkmap.pkmap_count[highmem.pkmap_nr(pkmap.mm, page_address(pkmap.addresses, pfn))] = 0
    return ()


def hashes_nothing(addresses: Any, pfn: int, nr: int | None) -> None:
    pass


def wakes_nobody(queue: Any) -> bool:
    return False


DEFECTS: list[tuple[Callable[..., Any], Callable[..., Any]]] = [
    (flush_all_zero_pkmaps, forgets_entry),
    (flush_all_zero_pkmaps, forgets_hash),
    (flush_all_zero_pkmaps, flushes_used_too),
    (flush_tlb_kernel_range, no_flush),
    (highmem.kunmap_high, count_to_zero),
    (set_page_address, hashes_nothing),
    (highmem.waitqueue_active, wakes_nobody),
]


@pytest.mark.parametrize(("function", "defect"), DEFECTS, ids=lambda thing: thing.__name__)
def test_the_law_catches_a_defect(function: Callable[..., Any], defect: Callable[..., Any]) -> None:
    machine = machine_of()
    pages = high_pages(machine, 12)
    pkmap = machine.kernel.pkmap
    pkmap.__dict__["last_pkmap"] = SLOTS
    with livepatch(function, defect), pytest.raises((BrokenLaw, AssertionError)):
        work(pkmap, pages)


def work(pkmap: Pkmap, pages: list[int]) -> None:
    held: list[int] = []
    rng = random.Random(5)
    for _ in range(300):
        try:
            if held and rng.random() < 0.45:
                kunmap(pkmap, held.pop(rng.randrange(len(held))))
            else:
                pfn = rng.choice(pages)
                pkmap.mm.boot.mmu.access(kmap(pkmap, pfn))
                held.append(pfn)
        except (MustWait, PageFault, BadRequest):
            pass
        check_pkmap(pkmap)


def test_the_same_work_without_a_defect_keeps_the_law() -> None:
    machine = machine_of()
    pages = high_pages(machine, 12)
    machine.kernel.pkmap.__dict__["last_pkmap"] = SLOTS
    work(machine.kernel.pkmap, pages)
    assert get_entry(machine.kernel.boot.swapper_pg_dir, pkmap_entry(machine.kernel.mm, 1))
