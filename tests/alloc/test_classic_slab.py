"""The SLAB allocator, request by request, against what mm/slab.c says by hand and against a real machine's slabinfo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kmemlab.alloc.kmem_cache import SLAB_HWCACHE_ALIGN, SLAB_NOLEAKTRACE, SLAB_RECLAIM_ACCOUNT
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.alloc.slab_array_cache import entries_of
from kmemlab.alloc.slab_bug import Oops
from kmemlab.alloc.slab_cache import SLABS_FREE, SLABS_FULL, SLABS_PARTIAL, SlabCache, get_node
from kmemlab.alloc.slab_freelist import slab_free_objects, slab_put_obj
from kmemlab.alloc.slab_lists import surplus_slabs
from kmemlab.alloc.slab_pages import slab_address, slab_nid, virt_to_slab
from kmemlab.alloc.slab_reap import slab_dead_cpu, slab_prepare_cpu
from kmemlab.alloc.slab_setup import do_tune_cpucache
from kmemlab.alloc.slab_size import CFLGS_OBJFREELIST_SLAB, CFLGS_OFF_SLAB
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.mm.globals import Mm
from kmemlab.sim.list_head import list_for_each
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, DoubleFree, ObjectsRemain, OutOfMemory, Overrun, UseAfterFree, WrongCache
from kmemlab.types.gfp import GFP_KERNEL
from tests.boot.captures import MACHINES

ROWS = {
    line.split()[0]: line.split()[1:7]
    for line in (Path(__file__).parent.parent / "data" / "slabinfo_slab.txt").read_text().splitlines()
    if not line.startswith("#")
}


def boot(preset: str = "tiny-128m", debug: bool = False) -> Machine:
    return Machine.boot(preset, slab="SLAB_DEBUG" if debug else "SLAB")


def cache_of(machine: Machine, name: str) -> SlabCache:
    found = next(cache for cache in machine.kernel.slab.existing() if cache.name == name)
    assert isinstance(found, SlabCache)
    return found


def array(cache: SlabCache, cpu: int = 0) -> tuple[int, ...]:
    return entries_of(cache.state.arrays, cache.first_cpu_cache + cpu)


def on_list(cache: SlabCache, which: int, nid: int = 0) -> list[int]:
    pages = cache.common.pages
    return list(list_for_each(pages.slab_list, pages.list_head(cache.number, nid, which)))


def slab_of(cache: SlabCache, address: int) -> int:
    slab = virt_to_slab(cache.common.pages, address)
    assert slab is not None
    return slab


def no_pages(mm: Mm, gfp: int, order: int, nid: int) -> int | None:
    return None


# -- what boot makes ---------------------------------------------------------------------------------------------------


def test_kmallocs_rows_are_those_of_a_real_machine() -> None:
    rows = {line.split()[0]: line.split() for line in slabinfo(boot("laptop-8g").kernel).splitlines()[2:]}
    names = [name for name in ROWS if name.startswith("kmalloc-") and name in rows]
    assert len(names) == 11
    for name in names:
        row = rows[name]
        assert [*row[3:6], *row[8:11]] == ROWS[name]


def test_caches_stand_in_the_order_in_which_slab_makes_them() -> None:
    lines = slabinfo(boot().kernel).splitlines()
    assert lines[0] == "slabinfo - version: 2.1"
    names = [line.split()[0] for line in lines[2:]]
    assert names[:3] == ["dma-kmalloc-8k", "dma-kmalloc-4k", "dma-kmalloc-2k"]
    # kmem_cache_node has no cache of its own: kmalloc-128 gives it, and is made before all others.
    assert names[-4:] == ["kmalloc-64", "kmalloc-32", "kmalloc-128", "kmem_cache"]
    assert "kmalloc-8" not in names


def test_on_i386_a_node_is_64_bytes() -> None:
    machine = Machine.boot(MACHINES / "i386-pae-1g" / "hardware.json", slab="SLAB")
    names = [cache.name for cache in machine.kernel.slab.existing()]
    assert names[-2:] == ["kmalloc-64", "kmem_cache"]
    machine.check()


def test_small_machines_have_small_slabs() -> None:
    small = {"cmdline": "", "e820": [[0, 0x9FBFF, "usable"], [0x100000, 0x3FFFFFF, "usable"]]}
    told = {**small, "cmdline": "slab_max_order=1"}
    for spec, order, num in (("tiny-128m", 1, 5), (small, 0, 2), (told, 1, 5)):
        machine = Machine.boot(spec, slab="SLAB")
        machine.kmem_cache_create("task", 1504)
        cache = cache_of(machine, "task")
        assert (cache.gfporder, cache.num) == (order, num)


# -- taking and giving back --------------------------------------------------------------------------------------------


def test_the_object_that_came_back_last_goes_out_first() -> None:
    machine = boot()
    first, second = machine.kmalloc(256), machine.kmalloc(256)
    machine.kfree(first)
    machine.kfree(second)
    assert (machine.kmalloc(256), machine.kmalloc(256)) == (second, first)


def test_a_quiet_cache_is_filled_by_16_then_by_batches() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 128, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    assert (cache.num, cache.limit, cache.batchcount) == (32, 120, 60)
    taken = [machine.kmem_cache_alloc("a")]
    assert len(array(cache)) == 15
    # The slab gives its objects from the first on, so the array hands out the sixteenth first.
    assert taken[0] == slab_address(cache.common.pages, slab_of(cache, taken[0])) + 15 * 128
    taken += [machine.kmem_cache_alloc("a") for _ in range(16)]
    # The second refill: 60 are wanted, the slab has 16 left, and a new slab is only made for an empty array.
    assert len(array(cache)) == 15
    assert on_list(cache, SLABS_FULL) == [slab_of(cache, taken[0])]
    machine.check()


def test_a_full_array_gives_its_oldest_batch_back() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 128, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    taken = [machine.kmem_cache_alloc("a") for _ in range(160)]
    before = array(cache)
    for address in taken[: 120 - len(before)]:
        machine.kmem_cache_free("a", address)
    full = array(cache)
    assert len(full) == 120
    machine.kmem_cache_free("a", taken[-1])
    assert array(cache) == (*full[60:], taken[-1])
    machine.check()


def test_two_cpus_share_what_one_has_too_much_of() -> None:
    machine = boot("laptop-8g")
    machine.kmem_cache_create("a", 128, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    taken = [machine.kmem_cache_alloc("a") for _ in range(200)]
    for address in taken:
        machine.kmem_cache_free("a", address)
    shared = entries_of(cache.state.arrays, cache.state.arrays.shared(cache.number, 0))
    assert len(shared) >= 60
    with machine.on_cpu(1):
        # A quiet CPU takes 16 at first, from the top of the shared array; no slab is asked.
        assert machine.kmem_cache_alloc("a") == shared[-1]
    assert array(cache, 1) == shared[-16:-1]
    machine.check()


def test_free_slabs_are_kept_up_to_a_limit() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 128, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    n = get_node(cache, 0)
    assert cache.state.nodes.free_limit[n] == (1 + 1) * 60 + 32
    taken = [machine.kmem_cache_alloc("a") for _ in range(2000)]
    for address in taken:
        machine.kmem_cache_free("a", address)
    assert cache.state.nodes.free_objects[n] <= 152
    assert cache.state.nodes.total_slabs[n] <= 1 + (120 + 152) // 32 + 1
    machine.check()


def test_a_slab_that_gets_an_object_back_goes_to_the_tail() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 4096, 0, SLAB_NOLEAKTRACE)
    machine.kmem_cache_create("b", 1024, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "b")
    assert do_tune_cpucache(cache, 1, 1, 0, GFP_KERNEL)  # no array to speak of: objects go straight to their slabs
    taken = [machine.kmem_cache_alloc("b") for _ in range(12)]
    slabs = [slab_of(cache, taken[at]) for at in (0, 4, 8)]
    for at in (0, 4, 8, 1):
        machine.kmem_cache_free("b", taken[at])
    # taken[1] still waits in the array; the others went back in their order.
    assert array(cache) == (taken[1],)
    assert on_list(cache, SLABS_PARTIAL) == slabs
    machine.check()


# -- slabs -------------------------------------------------------------------------------------------------------------


def test_slabs_begin_in_turn_at_every_colour() -> None:
    machine = boot()
    machine.kmem_cache_create("task", 1504)
    cache = cache_of(machine, "task")
    assert (cache.colour, cache.colour_off) == (10, 64)
    taken = [machine.kmem_cache_alloc("task") for _ in range(60)]
    slabs = list(dict.fromkeys(slab_of(cache, address) for address in taken))
    starts = [cache.common.pages.s_mem[slab] - slab_address(cache.common.pages, slab) for slab in slabs]
    assert starts == [64 * (turn % 10) for turn in range(1, 1 + len(slabs))]
    machine.check()


def test_the_list_of_who_is_next_travels_with_the_object_that_is_last() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 1024, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    pages = cache.common.pages
    assert cache.flags & CFLGS_OBJFREELIST_SLAB
    assert do_tune_cpucache(cache, 1, 1, 0, GFP_KERNEL)
    taken = [machine.kmem_cache_alloc("a")]
    slab = slab_of(cache, taken[0])
    assert pages.freelist[slab] == pages.s_mem[slab] + 3 * 1024
    assert machine.read(pages.freelist[slab], 4) == bytes([0, 1, 2, 3])
    taken += [machine.kmem_cache_alloc("a") for _ in range(3)]
    assert pages.freelist[slab] == 0  # full: nobody is next
    machine.kmem_cache_free("a", taken[1])
    machine.kmem_cache_free("a", taken[0])  # pushes the other one out of the array of one
    assert pages.freelist[slab] == taken[1]
    assert slab_free_objects(cache, slab) == [1]
    machine.check()


def test_off_the_slab_the_bytes_lie_in_an_object_of_kmallocs() -> None:
    machine = boot()
    made: list[int] = []
    machine.kmem_cache_create("a", 1024, ctor=lambda memory, address: made.append(address))
    cache = cache_of(machine, "a")
    assert cache.flags & CFLGS_OFF_SLAB
    small = cache_of(machine, "kmalloc-32")
    before = small.nr_held
    address = machine.kmem_cache_alloc("a")
    slabs = {slab_of(cache, objp) for objp in made}
    assert len(made) == 4 * len(slabs)
    assert small.nr_held == before + len(slabs)
    assert slab_of(small, cache.common.pages.freelist[slab_of(cache, address)])
    machine.kmem_cache_free("a", address)
    assert machine.kmem_cache_shrink("a") == 0
    assert small.nr_held == before
    machine.check()


def test_with_init_on_free_nothing_is_left_in_free_objects() -> None:
    spec = load_spec("tiny-128m")
    machine = Machine.boot(replace(spec, cmdline=f"{spec.cmdline} init_on_free=1 init_on_alloc=0"), slab="SLAB")
    machine.kmem_cache_create("a", 256, 0, SLAB_NOLEAKTRACE | SLAB_RECLAIM_ACCOUNT)
    taken = [machine.kmem_cache_alloc("a") for _ in range(200)]
    for address in taken:
        machine.write(address, b"secret" * 40)
        machine.kmem_cache_free("a", address)
    again = [machine.kmem_cache_alloc("a") for _ in range(200)]
    assert all(machine.read(address, 256) == bytes(256) for address in again)
    machine.check()


def test_reclaimable_slabs_are_counted_as_such_and_stay_small() -> None:
    machine = boot()
    machine.kmem_cache_create("inode", 1064, 0, SLAB_RECLAIM_ACCOUNT)
    cache = cache_of(machine, "inode")
    stat = machine.kernel.mm.node_data[0].vm_stat
    before = stat[5]  # nr_slab_reclaimable
    machine.kmem_cache_alloc("inode")
    assert (cache.num, cache.gfporder) == (3, 0)
    assert stat[5] == before + 1


def test_no_memory_is_no_object_and_nothing_is_lost() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 2000)
    with livepatch(alloc_pages_inner, no_pages), pytest.raises(OutOfMemory):
        machine.kmem_cache_alloc("a")
    machine.check()
    machine.kmem_cache_alloc("a")


def test_a_cache_that_gets_no_memory_is_not_made() -> None:
    machine = boot()
    taken = 0
    with livepatch(alloc_pages_inner, no_pages):
        while True:
            try:
                machine.kmem_cache_create(f"c{taken}", 300 + 8 * taken, 0, SLAB_NOLEAKTRACE)
            except BadRequest:
                break
            taken += 1
    assert taken < 200
    machine.check()
    machine.kmem_cache_create("now", 300)


# -- destroying, tuning ------------------------------------------------------------------------------------------------


def test_a_cache_with_objects_left_stays() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 200, 0, SLAB_NOLEAKTRACE)
    address = machine.kmem_cache_alloc("a")
    with pytest.raises(ObjectsRemain):
        machine.kmem_cache_destroy("a", caller="module_exit")
    words = "kmem_cache_destroy a: Slab cache still has objects when called from module_exit"
    assert words in machine.dmesg()
    machine.kmem_cache_free("a", address)
    machine.check()


def test_destroying_gives_everything_back() -> None:
    machine = boot("laptop-8g")
    machine.kmem_cache_create("warm", 200, 0, SLAB_NOLEAKTRACE)
    before = {cache.name: cache.nr_held for cache in machine.kernel.slab.existing()}
    machine.kmem_cache_create("a", 1024, ctor=lambda memory, address: None)
    taken = [machine.kmem_cache_alloc("a") for _ in range(50)]
    for address in taken:
        machine.kmem_cache_free("a", address)
    machine.kmem_cache_destroy("a")
    assert {cache.name: cache.nr_held for cache in machine.kernel.slab.existing()} == before
    machine.check()


def test_arrays_can_be_made_shorter() -> None:
    machine = boot("laptop-8g")
    taken = [machine.kmalloc(128) for _ in range(300)]
    for address in taken:
        machine.kfree(address)
    cache = cache_of(machine, "kmalloc-128")
    assert do_tune_cpucache(cache, 10, 5, 2, GFP_KERNEL)
    assert (cache.limit, cache.batchcount, cache.shared, array(cache)) == (10, 5, 2, ())
    machine.check()
    with pytest.raises(BadRequest, match="too long"):
        do_tune_cpucache(cache, 513, 5, 2, GFP_KERNEL)


def test_slabinfo_can_be_written() -> None:
    machine = boot("laptop-8g")
    machine.write_slabinfo("kmalloc-128 30 15 4\n")
    row = next(line for line in slabinfo(machine.kernel).splitlines() if line.startswith("kmalloc-128 "))
    assert " : tunables   30   15    4 : " in row
    machine.write_slabinfo("kmalloc-128 30 31 4")  # a batch above the limit: C takes it and does nothing
    cache = cache_of(machine, "kmalloc-128")
    assert (cache.limit, cache.batchcount, cache.shared) == (30, 15, 4)
    for text in ("kmalloc-128", "kmalloc-128 1 2", "kmalloc-128 a b c", "nobody 30 15 4", "x" * 129):
        with pytest.raises(BadRequest, match="does not take"):
            machine.write_slabinfo(text)
    with pytest.raises(BadRequest, match="SLUB"):
        Machine.boot("tiny-128m").write_slabinfo("kmalloc-128 30 15 4")
    machine.check()


# -- time and CPUs -----------------------------------------------------------------------------------------------------


def test_what_nobody_uses_is_given_back_in_time() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 128, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    taken = [machine.kmem_cache_alloc("a") for _ in range(200)]
    for address in taken:
        machine.kmem_cache_free("a", address)
    kept = len(array(cache))
    machine.wait(2)
    assert len(array(cache)) == kept  # it was used: that is only forgotten
    machine.wait(2)
    assert len(array(cache)) == kept - 24  # a fifth of the limit of 120
    machine.wait(120)
    assert array(cache) == ()
    assert cache.state.nodes.total_slabs[get_node(cache, 0)] == 0
    machine.check()


def test_objects_of_another_node_go_home() -> None:
    machine = boot("numa-2x4g")
    machine.kmem_cache_create("a", 512, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    mm, arrays = machine.kernel.mm, cache.state.arrays
    here = mm.numa.cpu_to_node[0]
    there = 1 - here
    foreign = [machine.kmem_cache_alloc("a", node=there) for _ in range(13)]
    assert {slab_nid(cache.common.pages, slab_of(cache, address)) for address in foreign} == {there}
    alien = arrays.alien(cache.number, here, there)
    for address in foreign[:12]:
        machine.kmem_cache_free("a", address)
    assert entries_of(arrays, alien) == tuple(foreign[:12])
    machine.kmem_cache_free("a", foreign[12])  # full: the 12 go to the other node's shared array
    assert entries_of(arrays, alien) == (foreign[12],)
    assert set(entries_of(arrays, arrays.shared(cache.number, there))) == set(foreign[:12])
    machine.check()
    machine.wait(10)
    assert entries_of(arrays, alien) == ()
    machine.check()


def test_without_aliens_they_go_home_at_once() -> None:
    spec = load_spec("numa-2x4g")
    machine = Machine.boot(replace(spec, cmdline=f"{spec.cmdline} noaliencache"), slab="SLAB")
    machine.kmem_cache_create("a", 512, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    there = 1 - machine.kernel.mm.numa.cpu_to_node[0]
    address = machine.kmem_cache_alloc("a", node=there)
    machine.kmem_cache_free("a", address)
    assert on_list(cache, SLABS_FREE, there) == [slab_of(cache, address)]
    machine.check()


def test_a_cpu_that_goes_leaves_nothing_behind() -> None:
    machine = boot("laptop-8g")
    common = machine.kernel.slab
    cache = cache_of(machine, "kmalloc-128")
    with machine.on_cpu(1):
        machine.kfree(machine.kmalloc(128))
    assert array(cache, 1)
    limit = cache.state.nodes.free_limit[get_node(cache, 0)]
    slab_dead_cpu(common, 1)
    assert array(cache, 1) == ()
    assert cache.state.nodes.free_limit[get_node(cache, 0)] == limit - 60
    machine.check()
    assert slab_prepare_cpu(common, 1)
    machine.check()


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_mistakes_have_names() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 200, 0, SLAB_NOLEAKTRACE)
    machine.kmem_cache_create("b", 200, 0, SLAB_NOLEAKTRACE)
    address = machine.kmem_cache_alloc("a")
    with pytest.raises(BadRequest, match="lies inside the object"):
        machine.kmem_cache_free("a", address + 8)
    with pytest.raises(WrongCache, match="of a was given back to b"):
        machine.kmem_cache_free("b", address)
    with pytest.raises(DoubleFree, match="free already"):
        machine.kmem_cache_free("a", address)
    machine.check()


def test_a_write_beyond_the_object_is_seen_when_it_comes_back() -> None:
    machine = boot(debug=True)
    machine.kmem_cache_create("a", 200)
    address = machine.kmem_cache_alloc("a", caller="driver_open")
    machine.write(address + 200, b"\x41")
    with pytest.raises(Overrun, match="driver_open"):
        machine.kmem_cache_free("a", address)
    log = machine.dmesg()
    assert "slab error in verify_redzone_free(): cache `a': memory outside object was overwritten\n" in log
    assert f"{address - 8:x}: redzone 1:0xd84156c5635688c0, redzone 2:0xd84156c563568841\n" in log
    machine.check()


def test_a_write_into_a_free_object_is_seen_when_it_goes_out() -> None:
    machine = boot(debug=True)
    machine.kmem_cache_create("a", 200)
    address = machine.kmem_cache_alloc("a")
    machine.kmem_cache_free("a", address)
    machine.write(address + 32, b"hello")
    with pytest.raises(UseAfterFree):
        machine.kmem_cache_alloc("a")
    lines = machine.dmesg().splitlines()
    at = lines.index(f"Slab corruption (Not tainted): a start={address:x}, len=200")
    assert lines[at + 1] == "Redzone: 0x9f911029d74e35b/0x9f911029d74e35b"
    assert lines[at + 3] == "020: 68 65 6c 6c 6f 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  hellokkkkkkkkkkk"
    assert any(line.startswith("Prev obj: start=") for line in lines[at:])


def test_one_flipped_bit_is_rather_the_memorys_fault() -> None:
    machine = boot(debug=True)
    machine.kmem_cache_create("a", 200)
    address = machine.kmem_cache_alloc("a")
    machine.kmem_cache_free("a", address)
    machine.write(address + 50, b"\x6a")
    with pytest.raises(UseAfterFree):
        machine.kmem_cache_alloc("a")
    assert "Single bit error detected. Probably bad RAM.\n" in machine.dmesg()


def test_giving_back_twice_is_told_by_the_red_zones() -> None:
    machine = boot(debug=True)
    machine.kmem_cache_create("a", 200)
    address = machine.kmem_cache_alloc("a")
    machine.kmem_cache_free("a", address)
    with pytest.raises(DoubleFree):
        machine.kmem_cache_free("a", address)
    assert "slab error in verify_redzone_free(): cache `a': double free detected\n" in machine.dmesg()
    machine.check()


def test_an_object_that_comes_back_to_its_slab_twice_is_a_bug() -> None:
    machine = boot(debug=True)
    machine.kmem_cache_create("a", 1024, 0, SLAB_HWCACHE_ALIGN)
    cache = cache_of(machine, "a")
    assert do_tune_cpucache(cache, 1, 1, 0, GFP_KERNEL)
    taken = [machine.kmem_cache_alloc("a") for _ in range(3)]
    machine.kmem_cache_free("a", taken[0])
    machine.kmem_cache_free("a", taken[1])
    with pytest.raises(Oops):
        slab_put_obj(cache, slab_of(cache, taken[0]), taken[0])
    assert f"slab: double free detected in cache 'a', objp {taken[0]:x}\n" in machine.dmesg()


def test_a_constructor_that_writes_too_far_is_told() -> None:
    machine = boot(debug=True)
    machine.kmem_cache_create("a", 200, flags=0x80000, ctor=lambda memory, at: memory.write(at + 200, b"\x01"))
    with pytest.raises(Overrun):
        machine.kmem_cache_alloc("a")
    words = "slab error in cache_init_objs_debug(): cache `a': constructor overwrote the end of an object\n"
    assert words in machine.dmesg()


def test_with_debugging_everything_still_works() -> None:
    machine = boot("laptop-8g", debug=True)
    machine.kmem_cache_create("a", 200)
    machine.kmem_cache_create("c", 300, ctor=lambda memory, address: memory.write(address, b"made"))
    taken = [(name, machine.kmem_cache_alloc(name)) for _ in range(120) for name in ("a", "c")]
    assert machine.read(taken[1][1], 4) == b"made"
    for name, address in taken:
        machine.kmem_cache_free(name, address)
    machine.wait(60)
    machine.check()
    machine.kmem_cache_destroy("a")
    machine.kmem_cache_destroy("c")
    assert "slab error" not in machine.dmesg()
    assert "corruption" not in machine.dmesg()
    machine.check()


def test_the_free_slab_that_is_found_last_is_destroyed_first() -> None:
    machine = boot()
    machine.kmem_cache_create("a", 512, 0, SLAB_NOLEAKTRACE)
    cache = cache_of(machine, "a")
    nodes, n = cache.state.nodes, get_node(cache, 0)
    for address in [machine.kmem_cache_alloc("a") for _ in range(120)]:
        machine.kmem_cache_free("a", address)
    free = on_list(cache, SLABS_FREE)
    assert len(free) > 2
    nodes.free_limit[n] = 0
    assert surplus_slabs(cache, 0) == free  # taken from the tail, each put before the others
