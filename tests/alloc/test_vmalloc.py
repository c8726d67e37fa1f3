"""vmalloc on whole machines: addresses, scattered pages, guard pages, the TLB, exhaustion."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from kmemlab.alloc.alloc_vmap_area import purge_vmap_area_lazy_inner
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.alloc.vm_map_ram import vb_alloc
from kmemlab.alloc.vmalloc import vmalloc_inner, vmalloc_node
from kmemlab.alloc.vmap_pages import vmap_small_pages_range_noflush, vunmap_range
from kmemlab.hardware.mmu import PageFault
from kmemlab.machine.machine import Machine
from kmemlab.mm.context import SYSTEM_SCHEDULING, preempt_disable, preempt_enable
from kmemlab.mm.page_free import page_zone
from kmemlab.mm.vmalloc import find_vm_area, is_vmalloc_addr
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, DoubleFree, OutOfMemory
from kmemlab.types.gfp import __GFP_HIGHMEM, __GFP_ZERO, GFP_KERNEL
from kmemlab.types.pgtable import PMD, PTE
from tests.boot.captures import MACHINES

PAGE, MIB = 4096, 1 << 20
MODES = {"amd64-1g": 4, "amd64-la57-2g": 5, "i386-pae-1g": 3, "i386-1g": 2}
STARTS = {"amd64-1g": 0xFFFFC90000000000, "amd64-la57-2g": 0xFFA0000000000000}


@cache
def booted(name: str) -> Machine:
    return Machine.boot(MACHINES / name if (MACHINES / name).exists() else name)


def machine(name: str = "tiny-128m") -> Machine:
    return booted(name).fork()


def said(box: Machine, before: int) -> list[str]:
    return box.dmesg().splitlines()[before:]


@pytest.mark.parametrize("name", MODES)
def test_addresses_follow_one_another_and_pages_need_not(name: str) -> None:
    box = machine(name)
    holes = [box.alloc_pages(GFP_KERNEL | __GFP_HIGHMEM) for _ in range(64)]
    for pfn in holes[::2]:
        box.free_pages(pfn)
    address = box.vmalloc(16 * PAGE)
    if name in STARTS:
        assert address == STARTS[name]
    pfns = [box.vmalloc_to_pfn(address + nth * PAGE) for nth in range(17)]
    assert pfns[16] is None
    assert len({pfn for pfn in pfns[:16] if pfn}) == 16
    assert any(two != one + 1 for one, two in pairwise(pfns) if one and two)
    for nth in range(16):
        box.store(address + nth * PAGE + 8, 1000 + nth)
    for nth, pfn in enumerate(pfns[:16]):
        assert pfn is not None
        assert box.kernel.boot.ram.read((pfn << 12) + 8) == 1000 + nth
    box.check()


@pytest.mark.parametrize("name", MODES)
def test_the_guard_page_faults_with_linuxs_words(name: str) -> None:
    box = machine(name)
    address = box.vmalloc(3 * PAGE)
    box.store(address + 3 * PAGE - 8, 7)
    before = len(box.dmesg().splitlines())
    with pytest.raises(PageFault) as fault:
        box.store(address + 3 * PAGE, 7)
    assert (fault.value.address, fault.value.error_code) == (address + 3 * PAGE, 2)
    assert box.kernel.boot.mmu.cr2 == address + 3 * PAGE
    digits = 16 if MODES[name] > 3 else 8
    assert said(box, before)[:3] == [
        f"BUG: unable to handle page fault for address: {address + 3 * PAGE:0{digits}x}",
        "#PF: supervisor write access in kernel mode",
        "#PF: error_code(0x0002) - not-present page",
    ]
    with pytest.raises(PageFault) as fault:
        box.load(address + 3 * PAGE)
    assert fault.value.error_code == 0


def test_the_worked_example_of_i386() -> None:
    # PAE, 2 GiB: VMALLOC_START is 8 MiB above lowmem's end.
    box = machine("i386-pae-2g-2cpu")
    assert box.kernel.mm.vmalloc.start == 0xF77FE000
    first, second = box.vmalloc(10000), box.vmalloc(10000)
    taken = len(box.vmallocinfo().splitlines()) - 2
    assert second == first + 4 * PAGE
    box.vfree(first)
    box.vfree(second)
    assert box.vmalloc(10000) == second + 4 * PAGE
    box.vm_unmap_aliases()
    assert box.vmalloc(10000) == first
    assert taken >= 0


def test_high_pages_are_used_first_on_i386() -> None:
    box = machine("i386-pae-2g-2cpu")
    address = box.vmalloc(50 * PAGE)
    high = box.zone("HighMem").zone_start_pfn
    assert all((box.vmalloc_to_pfn(address + nth * PAGE) or 0) >= high for nth in range(50))
    low = box.vmalloc_32(4 * PAGE)
    assert all((box.vmalloc_to_pfn(low + nth * PAGE) or high) < high for nth in range(4))


def test_pages_below_4_gib_for_vmalloc_32() -> None:
    box = machine("laptop-8g")
    address = box.vmalloc_32(20 * PAGE)
    assert all((box.vmalloc_to_pfn(address + nth * PAGE) or 1 << 20) < 1 << 20 for nth in range(20))


def test_zeroed_memory_is_zero_though_it_was_written() -> None:
    box = machine()
    for make in (box.vzalloc, box.vmalloc_user):
        dirty = box.vmalloc(8 * PAGE)
        pfns = [box.vmalloc_to_pfn(dirty + nth * PAGE) for nth in range(8)]
        for nth in range(8):
            box.store(dirty + nth * PAGE, 0x5A5A)
        box.vfree(dirty)
        clean = make(8 * PAGE)
        again = [box.vmalloc_to_pfn(clean + nth * PAGE) for nth in range(8)]
        assert set(pfns) & set(again)
        assert [box.load(clean + nth * PAGE) for nth in range(8)] == [0] * 8


def test_user_memory_is_told_so() -> None:
    box = machine()
    box.vmalloc_user(PAGE)
    assert box.vmallocinfo() == "0x(____ptrval____)-0x(____ptrval____)    8192 student pages=1 vmalloc user N0=1\n"


def test_a_long_list_of_pages_is_an_area_itself() -> None:
    box = machine()
    box.vmalloc(512 * PAGE)
    box.vmalloc(513 * PAGE, caller="pcpu_create_chunk")
    assert [line.split(maxsplit=1)[1] for line in box.vmallocinfo().splitlines()] == [
        "2101248 student pages=512 vmalloc N0=512",
        "2105344 pcpu_create_chunk pages=513 vmalloc vpages N0=513",
        "12288 pcpu_create_chunk pages=2 vmalloc N0=2",
    ]
    box.check()


def test_what_is_freed_can_be_had_again_and_is_still_translated_until_the_purge() -> None:
    box = machine()
    mm = box.kernel.mm
    address = box.vmalloc(PAGE)
    box.store(address, 42)
    pfn = box.vmalloc_to_pfn(address)
    free = sum(zone.nr_owned for zone in box.zones)
    box.vfree(address)
    assert sum(zone.nr_owned for zone in box.zones) == free - 1
    # The page is free, the entry is cleared, and the TLB still leads there: a use after free that nothing stops.
    assert box.vmalloc_to_pfn(address) is None
    assert box.load(address) == 42
    stale = box.kernel.boot.mmu.stale()
    assert [(entry.address, entry.frame >> 12, entry.now) for entry in stale] == [(address, pfn, None)]
    assert box.vmalloc(PAGE) > address
    assert mm.vmalloc.vmap_lazy_nr == 2
    box.vm_unmap_aliases()
    assert (mm.vmalloc.vmap_lazy_nr, mm.vmalloc.nr_purges, box.kernel.boot.mmu.stale()) == (0, 1, ())
    with pytest.raises(PageFault):
        box.load(address)
    assert box.vmalloc(PAGE) == address
    box.check()


@pytest.mark.parametrize(("name", "lazy_max"), [("tiny-128m", 8192), ("i386-pae-2g-2cpu", 16384)])
def test_the_purge_comes_when_too_many_wait(name: str, lazy_max: int) -> None:
    box = machine(name)
    vmalloc = box.kernel.mm.vmalloc
    assert vmalloc.lazy_max_pages == lazy_max
    pages = 1000
    while vmalloc.nr_purges == 0:
        waited = vmalloc.vmap_lazy_nr
        box.vfree(box.vmalloc((pages - 1) * PAGE))
    # The array of the pages is an area, too, of three pages.
    assert waited <= lazy_max < waited + pages + 3
    assert vmalloc.vmap_lazy_nr == 0


def test_i386s_small_range_is_exhausted_and_a_purge_makes_room() -> None:
    box = machine("i386-pae-1g")
    mib = 1 << 20
    total = box.kernel.mm.vmalloc.end - box.kernel.mm.vmalloc.start
    assert total == 122880 << 10
    before = len(box.dmesg().splitlines())
    first = box.vmalloc(100 * mib)
    with pytest.raises(OutOfMemory, match="vmalloc error: size 31457280, vm_struct allocation failed"):
        box.vmalloc(30 * mib)
    assert said(box, before)[:2] == [
        "vmap allocation for size 31461376 failed: use vmalloc=<size> to increase size",
        "swapper/0: vmalloc error: size 31457280, vm_struct allocation failed, mode:0xcc0(GFP_KERNEL), "
        "nodemask=(null),cpuset=/,mems_allowed=0",
    ]
    box.vfree(first)
    assert box.kernel.mm.vmalloc.nr_purges == 1  # nothing waited before; now too much did
    assert box.vmalloc(110 * mib) == first
    box.check()


def test_lazily_freed_addresses_are_purged_before_a_request_fails() -> None:
    box = machine("i386-pae-2g-2cpu")
    vmalloc = box.kernel.mm.vmalloc
    first = box.vmalloc(60 * MIB)
    box.vfree(first)
    assert (vmalloc.nr_purges, vmalloc.vmap_lazy_nr > 15000) == (0, True)
    assert box.vmalloc(90 * MIB) == first
    assert vmalloc.nr_purges == 1


def test_more_than_all_memory_is_refused() -> None:
    box = machine()
    before = len(box.dmesg().splitlines())
    with pytest.raises(OutOfMemory, match="vmalloc error: size 134217728, exceeds total pages"):
        box.vmalloc(128 * MIB)
    words = "swapper/0: vmalloc error: size 134217728, exceeds total pages, mode:0xcc0(GFP_KERNEL), nodemask=(null),"
    assert said(box, before)[0].startswith(words)
    with pytest.raises(OutOfMemory, match="nothing was asked for"):
        box.vmalloc(0)
    with pytest.raises(BadRequest, match="can't be had"):
        box.vmalloc(-1)


def test_too_few_pages_give_back_what_there_was() -> None:
    box = machine()
    held = sum(zone.nr_owned for zone in box.zones)
    with pytest.raises(OutOfMemory, match=r"vmalloc error: size \d+, page order 0, failed to allocate pages"):
        box.vmalloc(box.kernel.mm.totalram_pages * PAGE)
    # Page tables for those few pages that were mapped would stay; none was.
    assert sum(zone.nr_owned for zone in box.zones) - held <= 3
    assert box.kernel.mm.vmalloc.nr_vmalloc_pages == 0
    assert "student" not in box.vmallocinfo()
    box.check()


def test_no_page_for_a_table_gives_back_everything() -> None:
    box = machine()

    def no_table(mm: Any, address: int, end: int, prot: int, pfns: Any) -> None:
        vmap_small_pages_range_noflush.original(mm, address, end - PAGE, prot, pfns[:-1])
        raise OutOfMemory("no table", where="test")

    with livepatch(vmap_small_pages_range_noflush, no_table), pytest.raises(OutOfMemory, match="failed to map pages"):
        box.vmalloc(5 * PAGE)
    assert box.kernel.mm.vmalloc.nr_vmalloc_pages == 0
    box.check()


def test_large_pages_where_they_are_asked_for_and_fit() -> None:
    box = machine("laptop-8g")
    mmu = box.kernel.boot.mmu
    small, large, odd = box.vmalloc(4 * MIB), box.vmalloc_huge(4 * MIB), box.vmalloc_huge(MIB)
    levels = [mmu.walk(address).level for address in (small, large, odd)]
    assert levels == [PTE, PMD, PTE]
    assert large % (2 * MIB) == 0
    pfn = box.vmalloc_to_pfn(large + 5 * PAGE)
    assert pfn is not None
    assert pfn % 512 == 5
    box.store(large + 3 * MIB, 99)
    assert box.load(large + 3 * MIB) == 99
    for address in (small, large, odd):
        box.vfree(address)
    box.check()


def test_large_pages_fall_back_to_small_ones() -> None:
    box = machine()

    def single_pages_only(mm: Any, gfp: int, order: int, nid: int) -> int | None:
        return None if order else alloc_pages_inner.original(mm, gfp, order, nid)

    with livepatch(alloc_pages_inner, single_pages_only):
        address = box.vmalloc_huge(4 * MIB)
    assert box.kernel.boot.mmu.walk(address).level == PTE
    box.check()


def test_large_pages_only_on_64_bit() -> None:
    box = machine("i386-pae-1g")
    assert box.kernel.boot.mmu.walk(box.vmalloc_huge(4 * MIB)).level == PTE


def test_vfree_in_an_interrupt_is_left_to_a_worker() -> None:
    box = machine()
    one, two = box.vmalloc(PAGE), box.vmalloc(PAGE)
    mm = box.kernel.mm
    preempt_disable(mm.current)
    box.vfree(one, in_interrupt=True)
    assert mm.vmalloc.vfree_deferred
    assert find_vm_area(mm.vmalloc, one)
    preempt_enable(mm.current)
    box.vfree(two, in_interrupt=True)
    assert not mm.vmalloc.vfree_deferred
    assert mm.vmalloc.nr_vmalloc_pages == 0
    box.check()


def test_who_must_not_sleep_must_not_call_vmalloc() -> None:
    box = machine()
    before = len(box.dmesg().splitlines())
    box.kernel.mm.current.system_state = SYSTEM_SCHEDULING
    preempt_disable(box.kernel.mm.current)
    box.vmalloc(PAGE)
    assert said(box, before)[0] == "BUG: sleeping function called from invalid context at mm/vmalloc.c"


def test_wrong_frees_are_named() -> None:
    box = machine()
    address = box.vmalloc(2 * PAGE)
    before = len(box.dmesg().splitlines())
    with pytest.raises(BadRequest, match=r"bad address \(ffffc90000000008\)"):
        box.vfree(address + 8)
    with pytest.raises(BadRequest, match="nonexistent vm area"):
        box.vfree(address + 64 * PAGE)
    box.vfree(address)
    with pytest.raises(DoubleFree, match="nonexistent vm area"):
        box.vfree(address)
    assert said(box, before) == [
        "Trying to vfree() bad address (ffffc90000000008)",
        "Trying to vfree() nonexistent vm area (ffffc90000040000)",
        "Trying to vfree() nonexistent vm area (ffffc90000000000)",
    ]
    box.vfree(0)


def test_vmap_maps_given_pages_and_leaves_them() -> None:
    box = machine()
    pfns = [box.alloc_pages(GFP_KERNEL) for _ in range(3)]
    address = box.vmap([pfns[2], pfns[0], pfns[1]])
    assert [box.vmalloc_to_pfn(address + nth * PAGE) for nth in range(4)] == [pfns[2], pfns[0], pfns[1], None]
    assert "   16384 student vmap\n" in box.vmallocinfo()
    box.vunmap(address)
    for pfn in pfns:
        box.free_pages(pfn)
    box.check()


def test_vmap_can_take_the_pages_over() -> None:
    box = machine()
    pfns = [box.alloc_pages(GFP_KERNEL) for _ in range(3)]
    address = box.vmap(pfns, put_pages=True)
    assert "student pages=3 vmap N0=3" in box.vmallocinfo()
    box.vfree(address)
    assert box.kernel.mm.vmalloc.nr_vmalloc_pages == 0
    with pytest.raises(BadRequest):
        box.free_pages(pfns[0])
    box.check()


def test_vmap_of_what_is_no_page_is_refused() -> None:
    with pytest.raises(BadRequest, match="no page frame"):
        machine().vmap([1 << 40])


def test_short_mappings_share_a_block() -> None:
    box = machine()
    blocks = box.kernel.mm.vmalloc.blocks
    pfns = [box.alloc_pages(GFP_KERNEL) for _ in range(3)]
    one, two = box.vm_map_ram(pfns), box.vm_map_ram(pfns[:1])
    assert (blocks.pages, one % (blocks.pages * PAGE), two) == (256, 0, one + 4 * PAGE)
    assert [line.split(maxsplit=2)[1:] for line in box.vmallocinfo().splitlines()] == [["1048576", "vm_map_ram"]]
    box.store(one, 5)
    box.vm_unmap_ram(one, 3)
    assert box.load(one) == 5  # the block is dirty there, and nobody has told the TLB
    box.check()
    box.vm_unmap_ram(two, 1)
    box.vm_unmap_aliases()  # nothing in the block is mapped any more, so it goes as a whole
    assert box.vmallocinfo() == ""
    with pytest.raises(PageFault):
        box.load(one)
    with pytest.raises(BadRequest, match="not mapped by vm_map_ram"):
        box.vm_unmap_ram(two, 1)
    box.check()


def test_a_block_that_was_used_up_goes_when_all_of_it_is_dirty() -> None:
    box = machine("i386-pae-1g")
    blocks = box.kernel.mm.vmalloc.blocks
    pfns = [box.alloc_pages(GFP_KERNEL) for _ in range(32)]
    assert blocks.pages == 64
    mapped = [box.vm_map_ram(pfns) for _ in range(3)]
    assert mapped[1] == mapped[0] + 32 * PAGE
    assert vb_alloc(box.kernel.mm, PAGE) == mapped[2] + 32 * PAGE
    for address in mapped[:2]:
        box.vm_unmap_ram(address, 32)
    assert [line.split(maxsplit=1)[1] for line in box.vmallocinfo().splitlines()] == [
        "262144 vm_map_ram", "262144 unpurged vm_area"
    ]  # fmt: skip


def test_many_pages_get_an_area_of_their_own() -> None:
    box = machine()
    pfns = [box.alloc_pages(GFP_KERNEL) for _ in range(65)]
    address = box.vm_map_ram(pfns)
    assert box.vmallocinfo().split()[1:] == [str(65 * PAGE), "vm_map_ram"]
    box.vm_unmap_ram(address, 65)
    assert box.vmallocinfo() == ""  # with no busy area left C doesn't come to the lazy ones
    box.check()


def test_only_the_areas_of_vmalloc_are() -> None:
    box = machine()
    vmalloc = box.kernel.mm.vmalloc
    address = box.vmalloc(PAGE)
    found = [is_vmalloc_addr(vmalloc, each) for each in (address, 0xFFFF888000000000, vmalloc.end)]
    assert found == [True, False, False]


def test_a_rewound_run_goes_on_as_it_would_have() -> None:
    box = machine()
    timeline = box.record()

    def work() -> list[int]:
        kept = [box.vmalloc((1 + nth % 5) * PAGE) for nth in range(12)]
        for address in kept[::3]:
            box.vfree(address)
        box.vm_unmap_aliases()
        kept.append(box.ioremap(0xFED00000, PAGE))
        kept.append(box.vm_map_ram([box.alloc_pages(GFP_KERNEL)]))
        return kept

    straight, end = work(), box.vmallocinfo()
    timeline.rewind(3)
    timeline.to_end()
    assert box.vmallocinfo() == end
    timeline.rewind()
    assert box.vmallocinfo() == ""
    assert work() == straight
    assert box.vmallocinfo() == end
    box.check()


def test_purging_nothing_is_nothing() -> None:
    assert not purge_vmap_area_lazy_inner(machine().kernel.mm, 0, 0)


def test_before_vmalloc_init_there_are_no_addresses() -> None:
    box = Machine.boot("tiny-128m", until="mem_init")
    with pytest.raises(BadRequest, match="no addresses yet"):
        box.vmalloc(PAGE)


def test_pages_may_be_asked_for_from_one_node() -> None:
    box = machine("numa-2x4g")
    mm = box.kernel.mm
    for nid in (0, 1):
        address = vmalloc_node(mm, 8 * PAGE, nid, "a_test")
        zones = [page_zone(mm, box.vmalloc_to_pfn(address + nth * PAGE) or 0) for nth in range(8)]
        assert {zone.node for zone in zones if zone} == {nid}


def test_flags_choose_what_the_pages_are() -> None:
    box = machine()
    mm = box.kernel.mm
    dirty = box.alloc_pages(GFP_KERNEL)
    box.kernel.boot.ram.write(dirty << 12, 0xDEAD)
    box.free_pages(dirty)
    address = vmalloc_inner(mm, PAGE, GFP_KERNEL | __GFP_ZERO, "a_test")
    assert box.load(address) == 0


def test_a_range_that_is_unmapped_faults_at_once() -> None:
    box = machine()
    address = box.vmalloc(4 * PAGE)
    box.store(address + PAGE, 7)
    vunmap_range(box.kernel.mm, address + PAGE, address + 2 * PAGE)
    with pytest.raises(PageFault):
        box.load(address + PAGE)
    box.store(address, 1)
    box.store(address + 2 * PAGE, 1)
