"""Commands for objects: what they tell, and that they rewind, fork and pickle."""

from __future__ import annotations

import pickle

import pytest

from kmemlab.alloc.kmem_cache import SLAB_STORE_USER
from kmemlab.alloc.slab_memory import KernelMemory
from kmemlab.machine.machine import Machine
from kmemlab.machine.slab_sysfs import slab_table
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.mm.context import interrupt
from kmemlab.types.errors import BadRequest, BadSpec, DoubleFree, KmemlabError, ObjectsRemain, OutOfMemory, WrongCache
from kmemlab.types.gfp import GFP_ATOMIC, GFP_DMA, GFP_KERNEL, GFP_KERNEL_ACCOUNT
from kmemlab.types.slab_config import SlabConfig
from tests.alloc.slab_helpers import small


def build(memory: KernelMemory, address: int) -> None:
    """A constructor that can be pickled."""
    memory.write(address, b"built")


def test_sizes_and_kinds_of_kmalloc() -> None:
    machine = small()
    rows = [
        (100, GFP_KERNEL, "kmalloc-128"),
        (96, GFP_KERNEL, "kmalloc-96"),
        (193, GFP_ATOMIC, "kmalloc-256"),
        (100, GFP_KERNEL_ACCOUNT, "kmalloc-cg-128"),
        (100, GFP_KERNEL | 0x10, "kmalloc-rcl-128"),
        (100, GFP_KERNEL_ACCOUNT | GFP_DMA, "dma-kmalloc-128"),
        (8192, GFP_KERNEL, "kmalloc-8k"),
    ]
    for size, gfp, name in rows:
        address = machine.kmalloc(size, gfp)
        machine.kmem_cache_free(name, address)  # a wrong name would raise WrongCache
    large = machine.kmalloc(9000)
    assert machine.ksize(large) == 16384
    assert large % 16384 == 0
    machine.kfree(large)
    with pytest.raises(OutOfMemory):
        machine.kmalloc((4 << 20) + 1)
    assert machine.kmalloc(0) == 16
    machine.check()


def test_krealloc_keeps_the_contents() -> None:
    machine = small(slab=SlabConfig())
    one = machine.kmalloc(40)
    machine.write(one, b"x" * 40)
    assert machine.krealloc(one, 60) == one  # there is room
    two = machine.krealloc(one, 200)
    assert two != one
    assert machine.read(two, 64) == b"x" * 40 + bytes(24)
    assert machine.krealloc(two, 0) == 16
    with pytest.raises(DoubleFree):
        machine.kfree(two)
    machine.check()


def test_bytes_are_written_and_read_across_pages_at_any_address() -> None:
    machine = small()
    address = machine.kmalloc(10000)
    data = bytes(range(256)) * 20
    machine.write(address + 4093, data)
    assert machine.read(address + 4093, len(data)) == data
    assert machine.read(address + 4090, 5) == b"\0\0\0" + data[:2]
    with pytest.raises(KmemlabError, match="page fault at 0x10"):
        machine.write(16, b"null")


def test_sleeping_where_nobody_may_is_reported() -> None:
    machine = small()
    with interrupt(machine.kernel.mm.current):
        machine.kfree(machine.kmalloc(64, GFP_ATOMIC))
        assert "BUG: sleeping" not in machine.dmesg()
        machine.kfree(machine.kmalloc(64, GFP_KERNEL))
    assert "BUG: sleeping function called from invalid context at include/linux/sched/mm.h:274" in machine.dmesg()


def test_a_double_free_names_both_call_sites_when_it_is_recorded() -> None:
    machine = small()
    machine.record()
    address = machine.kmalloc(64, caller="open_device")
    other = machine.kmalloc(64, caller="open_other")
    machine.kfree(address, caller="close_device")
    machine.kfree(other, caller="close_other")
    with pytest.raises(DoubleFree) as caught:
        machine.kfree(address, caller="close_again")
    machine.stop_recording()
    assert f"object {address:#x} of kmalloc-64 is free already" in caught.value.what
    assert "(allocated by open_device, freed by close_device)" in caught.value.what


def test_without_a_record_the_error_says_how_to_know() -> None:
    machine = small()
    address = machine.kmalloc(64)
    machine.kfree(address)
    with pytest.raises(DoubleFree) as caught:
        machine.kfree(address)
    assert "call machine.record() before the run, or boot with slub_debug=U" in caught.value.remedy


def test_who_called_is_the_python_function_and_line() -> None:
    machine = small("slub_debug=U")

    def my_driver() -> int:
        return machine.kmalloc(64)

    address = my_driver()
    machine.kfree(address)
    with pytest.raises(DoubleFree, match=r"allocated by my_driver:\d+, freed by test_who_called\w+:\d+"):
        machine.kfree(address)


def test_the_wrong_cache_is_told_even_where_linux_would_not_notice() -> None:
    machine = small()
    machine.kmem_cache_create("mine", 64, flags=SLAB_STORE_USER)
    address = machine.kmem_cache_alloc("mine", caller="maker")
    with pytest.raises(WrongCache, match=r"of mine was given back to kmalloc-64 \(allocated by maker\)"):
        machine.kmem_cache_free("kmalloc-64", address)


def test_names_that_share_a_cache_are_all_good() -> None:
    machine = small()
    machine.kmem_cache_create("first", 100)
    machine.kmem_cache_create("second", 104)
    address = machine.kmem_cache_alloc("second")
    machine.kmem_cache_free("first", address)
    rows = [line.split("\t") for line in slab_table(machine.kernel).splitlines()]
    assert [row[1] for row in rows if row[0] in ("first", "second")] == [":0000104", ":0000104"]
    assert "first " in slabinfo(machine.kernel)
    assert "second " not in slabinfo(machine.kernel)


def test_a_leak_at_the_end_is_told_and_can_be_mended() -> None:
    machine = small()
    machine.kmem_cache_create("leaky", 700)
    leaked = [machine.kmem_cache_alloc("leaky") for _ in range(3)]
    with pytest.raises(ObjectsRemain, match="3 objects of leaky are still held"):
        machine.kmem_cache_destroy("leaky")
    assert "BUG leaky (Not tainted): Objects remaining in leaky on __kmem_cache_shutdown()" in machine.dmesg()
    for obj in leaked:
        machine.kmem_cache_free("leaky", obj)
    machine.check()


def test_a_run_of_objects_rewinds_and_goes_on_as_before() -> None:
    straight, rewound = small(slab=SlabConfig()), small(slab=SlabConfig())
    timeline = rewound.record()

    def first(machine: Machine) -> list[int]:
        machine.kmem_cache_create("inode", 300, 0, 0, build)
        return [machine.kmem_cache_alloc("inode") for _ in range(30)]

    def rest(machine: Machine, objects: list[int]) -> None:
        for obj in objects[::2]:
            machine.kmem_cache_free("inode", obj)
        machine.write(objects[1], b"hello")
        machine.kmem_cache_shrink("inode")
        machine.kmalloc(5000)

    objects = first(straight)
    rest(straight, objects)
    assert first(rewound) == objects
    place = len(timeline.commands)
    before = slabinfo(rewound.kernel)
    rest(rewound, objects)
    timeline.rewind(place)
    assert slabinfo(rewound.kernel) == before
    rewound.check()
    rest(rewound, objects)
    assert slabinfo(rewound.kernel) == slabinfo(straight.kernel)
    assert rewound.read(objects[1], 5) == straight.read(objects[1], 5) == b"hello"
    rewound.check()
    timeline.rewind(0)
    assert "inode" not in slabinfo(rewound.kernel)
    timeline.to_end()
    assert rewound.kmalloc(64) == straight.kmalloc(64)
    rewound.stop_recording()


@pytest.mark.parametrize("slab", [SlabConfig(), SlabConfig("SLUB", False, False)])
def test_forks_and_pickles_have_their_own_objects(slab: SlabConfig) -> None:
    machine = small(slab=slab)
    machine.kmem_cache_create("built", 300, 0, 0, build)
    one = machine.kmem_cache_alloc("built")
    for twin in (machine.fork(), pickle.loads(pickle.dumps(machine))):
        assert slabinfo(twin.kernel) == slabinfo(machine.kernel)
        assert twin.read(one, 5) == b"built"
        twin.write(one, b"other")
        twin.kmem_cache_free("built", one)
        twin.check()
        assert machine.read(one, 5) == b"built"
        assert twin.slab_config == slab
    machine.kmem_cache_free("built", one)
    machine.check()


def test_requests_that_make_no_sense() -> None:
    machine = small()
    with pytest.raises(BadRequest, match="no cache"):
        machine.kmem_cache_create("none", 0)
    with pytest.raises(BadRequest, match="are no size"):
        machine.kmalloc(-1)
    with pytest.raises(BadRequest, match="there is no node 7"):
        machine.kmalloc(64, GFP_KERNEL, 7)
    with pytest.raises(BadRequest, match="whole number"):
        machine.kmalloc("64")  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="does not work yet"):
        Machine.boot("tiny-128m", until="mem_init").kmalloc(64)
    with pytest.raises(BadSpec, match="no such allocator of objects: 'SLOB'"):
        Machine.boot("tiny-128m", slab="SLOB")
    machine.check()


def test_there_is_an_end_to_caches() -> None:
    machine = small("slab_nomerge")
    with pytest.raises(KmemlabError, match="this machine can have 255 caches"):
        [machine.kmem_cache_create(f"cache-{nth}", 64) for nth in range(256)]
