"""slub_debug: each mistake is found, said in the kernel's words, repaired, and told with both call sites."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmemlab.alloc.kmem_cache import SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER
from kmemlab.alloc.slab_check import check_slab
from kmemlab.alloc.slab_memory import read_memory
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.types.errors import (
    BadRequest,
    DoubleFree,
    KmemlabError,
    ObjectsRemain,
    Overrun,
    SlabCorruption,
    UseAfterFree,
    WrongCache,
)
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.slab_config import SlabConfig
from tests.alloc.slab_helpers import PLAIN, new_cache, partial_of, small


def watched(options: str = "FZPU") -> Machine:
    return small(f"slub_debug={options}", slab=SlabConfig())


def take_many(machine: Machine) -> None:
    """More objects of 64 bytes than a slab has."""
    for _ in range(64):
        machine.kmalloc(64)


def report(machine: Machine) -> list[str]:
    """The last report in the log."""
    lines = machine.dmesg().splitlines()
    start = len(lines) - 1 - lines[::-1].index("=" * 77)
    return lines[start:]


def overrun(machine: Machine, at: int) -> KmemlabError:
    address = machine.kmalloc(50, caller="taker")
    machine.write(address + at, b"A" * 4)
    with pytest.raises(KmemlabError) as caught:
        machine.kfree(address, caller="giver")
    return caught.value


def test_a_write_behind_the_object_is_found_when_it_comes_back() -> None:
    machine = watched()
    error = overrun(machine, 64)
    assert isinstance(error, Overrun)
    assert "Right Redzone overwritten: 4 bytes" in error.what
    assert "0 bytes behind the end of object" in error.what
    assert "allocated by taker" in error.what
    lines = report(machine)
    address = next(line for line in lines if line.startswith("Object 0x")).split()[1].removeprefix("0x")
    end = int(address, 16) + 64
    assert lines[1] == "BUG kmalloc-64 (Not tainted): Right Redzone overwritten"
    assert lines[2:4] == ["-" * 77, ""]
    offset = end % 4096
    assert lines[4] == f"0x{end:016x}-0x{end + 3:016x} @offset={offset}. First byte 0x41 instead of 0xcc"
    assert lines[5] == "Allocated in taker age=0 cpu=0 pid=0"
    assert lines[6].startswith("Slab 0xffffea00")
    assert "objects=16 used=" in lines[6]
    assert "(slab|node=0|zone=1|lastcpupid=0x1fffff)" in lines[6]
    assert f"Redzone  {end:016x}: 41 41 41 41 cc cc cc cc                          AAAA...." in lines
    assert f"FIX kmalloc-64: Restoring Right Redzone 0x{end:016x}-0x{end + 3:016x}=0xcc" in lines
    assert lines[-1] == f"FIX kmalloc-64: Object at 0x{address} not freed"
    machine.check()


def test_a_write_before_the_object_is_found() -> None:
    machine = watched()
    error = overrun(machine, -4)
    assert isinstance(error, Overrun)
    assert "Left Redzone overwritten" in error.what
    assert "4 bytes before the start" in error.what
    assert "BUG kmalloc-64 (Not tainted): Left Redzone overwritten" in report(machine)


def test_a_write_into_what_lies_between_the_slots_is_found() -> None:
    machine = watched()
    error = overrun(machine, 64 + 8 + 8 + 64 + 4 + 2)  # red zone, free pointer, two notes, what was asked for
    assert isinstance(error, Overrun)
    assert "Object padding overwritten" in error.what
    assert "BUG kmalloc-64 (Not tainted): Object padding overwritten" in report(machine)
    machine.check()


def test_a_write_behind_the_last_slot_is_found() -> None:
    machine = watched("FZPU")
    cache = new_cache(machine.kernel.slab, size=1000)
    pages = 4096 << cache.order
    assert pages % cache.size
    address = machine.kmem_cache_alloc("test")
    base = address & -pages
    machine.write(base + pages - 8, b"oops")
    with pytest.raises(Overrun, match="Padding overwritten"):
        machine.kmem_cache_free("test", address)
    lines = report(machine)
    assert lines[1].startswith("BUG test (Not tainted): Padding overwritten. 0x")
    assert any(line.startswith("FIX test: Restoring slab padding") for line in lines)
    assert machine.read(base + pages - 8, 8) == b"Z" * 8


def test_a_use_after_free_is_found_when_the_object_is_given_out_again() -> None:
    machine = watched()
    address = machine.kmalloc(64, caller="taker")
    machine.kfree(address, caller="giver")
    machine.write(address + 10, b"late")
    with pytest.raises(UseAfterFree) as caught:
        take_many(machine)
    assert "4 bytes at" in caught.value.what
    assert "at byte 10 of object" in caught.value.what
    assert "allocated by taker, freed by giver" in caught.value.what
    assert isinstance(caught.value.result, int)  # the request itself got another object
    assert caught.value.result != address
    lines = report(machine)
    assert lines[1] == "BUG kmalloc-64 (Not tainted): Poison overwritten"
    assert "Freed in giver age=0 cpu=0 pid=0" in lines
    assert "First byte 0x6c instead of 0x6b" in lines[4]
    assert lines[-1] == "FIX kmalloc-64: Marking all objects used"
    machine.check()


def test_the_last_byte_of_poison_is_another_one() -> None:
    machine = watched()
    address = machine.kmalloc(64)
    assert machine.read(address, 64) == b"k" * 63 + b"\xa5"  # nobody cleared it: poison is worth more
    machine.kfree(address)
    machine.write(address + 63, b"k")
    with pytest.raises(UseAfterFree, match="End Poison overwritten"):
        take_many(machine)


def test_the_second_free_is_refused() -> None:
    machine = watched()
    address = machine.kmalloc(64, caller="taker")
    machine.kfree(address, caller="first")
    with pytest.raises(DoubleFree) as caught:
        machine.kfree(address, caller="second")
    assert "allocated by taker, freed by first" in caught.value.what
    assert "BUG kmalloc-64 (Not tainted): Object already free" in report(machine)
    machine.check()


def test_once_something_went_wrong_the_kernel_is_tainted() -> None:
    machine = watched()
    overrun(machine, 64)
    overrun(machine, 64)
    assert report(machine)[1] == "BUG kmalloc-64 (Tainted: G    B             ): Right Redzone overwritten"


def test_an_address_within_an_object_is_no_object() -> None:
    machine = watched()
    address = machine.kmalloc(64)
    with pytest.raises(BadRequest, match="Invalid object pointer"):
        machine.kfree(address + 8)
    assert report(machine)[1] == f"BUG kmalloc-64 (Not tainted): Invalid object pointer 0x{address + 8:016x}"
    machine.kfree(address)
    machine.check()


def test_a_pointer_that_was_overwritten_is_found_and_cut() -> None:
    machine = watched("F")
    cache = new_cache(machine.kernel.slab, size=256)
    one, two = machine.kmem_cache_alloc("test"), machine.kmem_cache_alloc("test")
    machine.kmem_cache_free("test", two)
    machine.kmem_cache_free("test", one)
    machine.write(one + cache.offset, b"\x41" * 8)
    with pytest.raises(SlabCorruption, match="Freepointer corrupt"):
        machine.kmem_cache_alloc("test")
    assert any("Freepointer corrupt" in line for line in report(machine))


def test_a_freelist_that_is_a_circle_is_found() -> None:
    machine = small("slub_debug=F")
    cache = new_cache(machine.kernel.slab, size=256)
    objects = [machine.kmem_cache_alloc("test") for _ in range(4)]
    for obj in objects[:3]:
        machine.kmem_cache_free("test", obj)
    # The first one freed is the last of the three on the list; let it lead back to the newest.
    machine.write(objects[0] + cache.offset, objects[2].to_bytes(8, "little"))
    with pytest.raises(SlabCorruption, match="Wrong object count"):
        machine.kmem_cache_free("test", objects[3])
    assert "Object count adjusted" in machine.dmesg()


def test_the_wrong_cache_is_told() -> None:
    machine = small(slab=SlabConfig())
    address = machine.kmalloc(64)
    with pytest.raises(WrongCache, match=r"object 0x[0-9a-f]+ of kmalloc-64 was given back to kmalloc-128"):
        machine.kmem_cache_free("kmalloc-128", address)
    assert "cache_from_obj: Wrong slab cache. kmalloc-128 but object is from kmalloc-64" in machine.dmesg()
    machine.check()  # it went back to where it belongs


def test_objects_left_keep_a_cache_alive_and_are_listed() -> None:
    machine = watched("U")
    machine.kmem_cache_create("leaky", 200)
    one, two = (machine.kmem_cache_alloc("leaky", caller=f"taker{n}") for n in (1, 2))
    machine.kmem_cache_free("leaky", one)
    with pytest.raises(ObjectsRemain) as caught:
        machine.kmem_cache_destroy("leaky", caller="unload")
    assert f"1 objects of leaky are still held: {two:#x}" in caught.value.what
    assert "allocated by taker2" in caught.value.what
    lines = report(machine)
    assert lines[1] == "BUG leaky (Not tainted): Objects remaining in leaky on __kmem_cache_shutdown()"
    assert f"Object 0x{two:016x} @offset={two & 4095}" in lines
    assert "Allocated in taker2 age=0 cpu=0 pid=0" in lines
    assert lines[-1] == "kmem_cache_destroy leaky: Slab cache still has objects when called from unload"


@pytest.mark.parametrize(("options", "flags"), [("Z", SLAB_RED_ZONE), ("P", SLAB_POISON), ("U", SLAB_STORE_USER)])
def test_each_option_alone_leaves_owners_their_bytes(options: str, flags: int) -> None:
    machine = watched(options)
    common = machine.kernel.slab
    cache = new_cache(common, size=100)
    assert cache.flags & (SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER) == flags
    objects = [machine.kmem_cache_alloc("test") for _ in range(60)]
    for nth, obj in enumerate(objects):
        machine.write(obj, bytes([nth]) * 100)
    for nth, obj in enumerate(objects):
        assert machine.read(obj, 100) == bytes([nth]) * 100
        machine.kmem_cache_free("test", obj)
    check_slab(common)
    machine.kmem_cache_destroy("test")
    machine.check()


def test_one_cache_can_be_watched_alone() -> None:
    machine = small("slub_debug=FZ,kmalloc-64")
    overrun(machine, 64)
    assert report(machine)[1].startswith("BUG kmalloc-64")
    address = machine.kmalloc(128)
    machine.write(address, bytes(136))  # nobody looks
    machine.kfree(address)


def test_tracing_says_each_request() -> None:
    machine = watched("T,test")
    new_cache(machine.kernel.slab, size=64)
    address = machine.kmem_cache_alloc("test")
    machine.kmem_cache_free("test", address)
    traces = [line for line in machine.dmesg().splitlines() if line.startswith("TRACE")]
    assert [line.split()[1:3] for line in traces] == [["test", "alloc"], ["test", "free"]]
    assert f"0x{address:016x} inuse=1 fp=0x" in traces[0]


# -- what Linux finds without slub_debug, and what it doesn't ----------------------------------------------------------


def test_hardened_an_object_freed_twice_in_a_row_is_a_bug() -> None:
    machine = small(slab=SlabConfig())
    address = machine.kmalloc(64)
    machine.kfree(address)
    with pytest.raises(DoubleFree):
        machine.kfree(address)
    assert "kernel BUG at mm/slub.c:419!" in machine.dmesg()
    machine.check()  # the second free did nothing


@pytest.mark.parametrize("slab", [SlabConfig(), PLAIN], ids=["hardened", "plain"])
def test_a_double_free_that_linux_overlooks_is_told_and_breaks_the_law(slab: SlabConfig) -> None:
    machine = small("init_on_alloc=0", slab=slab)  # else the pointer is cleared with the object
    one, two = machine.kmalloc(64), machine.kmalloc(64)
    machine.kfree(one)
    machine.kfree(two)
    with pytest.raises(DoubleFree, match="is free already"):
        machine.kfree(one)
    with pytest.raises(KmemlabError):
        machine.check()
    # The freelist is a circle: the same object is given out twice. Nothing follows it for ever.
    assert [machine.kmalloc(64) for _ in range(4)] == [one, two, one, two]


def test_a_circle_is_never_followed_for_ever() -> None:
    machine = small()
    cache = new_cache(machine.kernel.slab)
    objects = [machine.kmem_cache_alloc("test") for _ in range(3)]
    for obj in objects[:2]:
        machine.kmem_cache_free("test", obj)
    with pytest.raises(DoubleFree):
        machine.kmem_cache_free("test", objects[0])
    with pytest.raises(DoubleFree, match="is a circle"):
        machine.kmem_cache_shrink("test")
    assert "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [swapper/0:0]" in machine.dmesg()
    assert cache.nr_held == 0


def reserve_in_a_circle(machine: Machine, slabs: int, free_each: int) -> SlubCache:
    """A cache whose CPU has so many slabs in reserve, each with so many objects free; the last one leads to the first.

    Every slab was full, so the first object that came back to it put it there.
    """
    cache = new_cache(machine.kernel.slab)
    held = [machine.kmem_cache_alloc("test") for _ in range((slabs + 1) * cache.objects)]
    for nth in range(slabs):
        for obj in held[nth * cache.objects :][:free_each]:
            machine.kmem_cache_free("test", obj)
    reserve = partial_of(cache)
    assert len(reserve) == slabs
    cache.pages.next[reserve[-1]] = reserve[0]
    return cache


@pytest.mark.parametrize("slabs", [1, 2, 3])
def test_a_reserve_that_is_a_circle_is_found_when_the_cpu_gives_it_up(slabs: int) -> None:
    machine = small()
    reserve_in_a_circle(machine, slabs, free_each=1)
    with pytest.raises(SlabCorruption, match="the CPU's partial list leads to a slab twice"):
        machine.kmem_cache_shrink("test")
    assert "kernel BUG at mm/slub.c:2569!" in machine.dmesg()


@pytest.mark.parametrize("slabs", [1, 2, 3])
def test_a_reserve_that_is_a_circle_is_found_when_objects_are_taken(slabs: int) -> None:
    machine = small()
    cache = reserve_in_a_circle(machine, slabs, free_each=2)
    for _ in range(2 * slabs):  # all that are free
        machine.kmem_cache_alloc("test")
    with pytest.raises(SlabCorruption, match=f"of {cache.name} is a CPU's, but not frozen"):
        machine.kmem_cache_alloc("test")
    assert "kernel BUG at mm/slub.c:2983!" in machine.dmesg()


def test_a_reserve_that_is_a_circle_breaks_the_law() -> None:
    machine = small()
    reserve_in_a_circle(machine, slabs=2, free_each=1)
    with pytest.raises(BrokenLaw, match=r"counts 1 slabs in a CPU's reserve from itself on"):
        machine.check()


def test_hardened_an_overwritten_pointer_leads_nowhere_plain_where_the_writer_wants() -> None:
    for slab, victim in ((SlabConfig(), False), (PLAIN, True)):
        machine = small(slab=slab)
        cache = new_cache(machine.kernel.slab)
        target = machine.kmalloc(512)
        one = machine.kmem_cache_alloc("test")
        machine.kmem_cache_free("test", one)
        machine.write(one + cache.offset, target.to_bytes(8, "little"))
        assert machine.kmem_cache_alloc("test") == one if victim else True
        if victim:
            assert machine.kmem_cache_alloc("test") == target  # somebody else's memory
            continue
        with pytest.raises(KmemlabError, match="somebody wrote into a free object"):
            [machine.kmem_cache_alloc("test") for _ in range(2)]
        assert "general protection fault, probably for non-canonical address" in machine.dmesg()


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda m, a: m.kfree(a + 8), BadRequest, "lies 8 bytes into object"),
        (lambda m, a: m.kfree(0xFFFF888000000000), BadRequest, "belongs to no slab"),
        (lambda m, a: m.kfree(0x1234), BadRequest, "no address of the direct map"),
        (lambda m, a: m.kmem_cache_free("kmalloc-64", 0x1234), BadRequest, "lies in no slab"),
        (lambda m, a: m.kmem_cache_free("nobody", a), BadRequest, "there is no cache 'nobody'"),
    ],
)
def test_addresses_that_are_none(wrong: Callable[[Machine, int], None], error: type[KmemlabError], says: str) -> None:
    machine = small()
    address = machine.kmalloc(64)
    with pytest.raises(error, match=says):
        wrong(machine, address)


def test_nothing_is_wrong_with_null() -> None:
    machine = small()
    machine.kfree(0)
    machine.kfree(machine.kmalloc(0, GFP_KERNEL))
    machine.check()


def test_what_debugging_writes_stands_where_it_should() -> None:
    machine = watched()
    cache = new_cache(machine.kernel.slab, size=100)
    address = machine.kmem_cache_alloc("test")
    slot = read_memory(cache.pages, address - cache.red_left_pad, cache.size)
    left = cache.red_left_pad
    assert slot[:left] == b"\xcc" * left
    assert slot[left + 100 : left + cache.inuse] == b"\xcc" * (cache.inuse - 100)
    machine.kmem_cache_free("test", address)
    slot = read_memory(cache.pages, address - cache.red_left_pad, cache.size)
    assert slot[:left] == b"\xbb" * left
    assert slot[left : left + 100] == b"k" * 99 + b"\xa5"
