"""Names and inodes: made by using files, given up under pressure, and what the laws catch."""

from __future__ import annotations

import gzip
import random

import pytest

from kmemlab.alloc import dcache, inode
from kmemlab.alloc.check_vfs import check_vfs
from kmemlab.alloc.dcache import DCACHE_REFERENCED, dentry_kill, dput, opened, retain_dentry, super_cache_scan
from kmemlab.alloc.inode import evict, inode_add_lru, iput
from kmemlab.alloc.list_lru import list_lru_add, list_lru_del
from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.lru import lru_add_drain_all
from kmemlab.mm.vm_event import DROP_SLAB, KSWAPD_INODESTEAL, PGINODESTEAL, SLABS_SCANNED
from kmemlab.mm.zone import NR_FREE_PAGES
from kmemlab.reclaim.direct import try_to_free_pages
from kmemlab.reclaim.shrinker import SHRINK_STOP, SHRINKERS, ShrinkControl, do_shrink_slab
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOFS
from tests.boot.captures import MACHINES

FILES = 600


@pytest.fixture
def machine():
    machine = Machine.boot("tiny-128m")
    for number in range(FILES):
        machine.create_file(f"f{number}", 1)
    return machine


def in_memory(machine):
    sb = machine.kernel.super_block
    return sum(map(bool, sb.dentry)), sum(map(bool, sb.inode))


def may_go(machine):
    sb = machine.kernel.super_block
    return sb.s_dentry_lru.nr_items[0], sb.s_inode_lru.nr_items[0]


def kib(machine, field):
    return {line.split(":")[0]: int(line.split()[1]) for line in meminfo(machine.kernel).splitlines()}[field]


def kib_free(machine):
    return 4 * sum(zone.vm_stat[NR_FREE_PAGES] + zone.per_cpu_pageset.count[0] for zone in machine.zones)


def number():
    return [shrinker.name for shrinker in SHRINKERS].index("sb-disk")


@pytest.mark.parametrize("name", ["amd64-1g", "i386-pae-1g", "i386-256m"])
def test_the_caches_are_those_of_linux(name):
    machine = Machine.boot(MACHINES / name)
    machine.create_file("data", 1)
    real = gzip.decompress((MACHINES / name / "slabinfo.txt.gz").read_bytes()).decode().splitlines()
    mine = slabinfo(machine.kernel).splitlines()
    for cache in ("dentry", "inode_cache"):
        (ours,) = (line.split() for line in mine if line.split()[0] == cache)
        (theirs,) = (line.split() for line in real if line.split()[0] == cache)
        assert ours[3:6] == theirs[3:6]  # bytes of an object, objects of a slab, pages of a slab


def test_a_file_that_was_used_stays_in_memory_and_may_go(machine):
    assert in_memory(machine) == (FILES, FILES)
    assert may_go(machine) == (FILES, 0)  # names hold their inodes
    assert kib(machine, "SReclaimable") >= FILES * (192 + 632) // 1024
    before = in_memory(machine), may_go(machine)
    assert machine.stat_file("f5") == 1
    assert (in_memory(machine), may_go(machine)) == before
    assert machine.kernel.super_block.d_flags[6] & DCACHE_REFERENCED
    assert not machine.kernel.super_block.d_flags[7] & DCACHE_REFERENCED
    machine.check()


def test_what_was_used_twice_goes_once_more_round_and_what_is_open_stays(machine):
    mm, sb = machine.kernel.mm, machine.kernel.super_block
    machine.stat_file("f5")
    with opened(mm, 1):
        assert dcache.prune_dcache_sb(sb, 0, FILES) == FILES - 2
        assert in_memory(machine) == (2, FILES)
        assert may_go(machine) == (1, FILES - 2)
        check_vfs(sb)
    assert dcache.prune_dcache_sb(sb, 0, FILES) == 2
    assert inode.prune_icache_sb(sb, 0, FILES) == FILES
    assert in_memory(machine) == (0, 0)
    machine.check()


def test_an_inode_stays_as_long_as_its_file_has_pages(machine):
    sb = machine.kernel.super_block
    machine.read_file("f3")
    machine.drop_caches(2)
    assert in_memory(machine) == (0, 1)
    assert may_go(machine) == (0, 0)
    assert machine.drop_caches(1) > 0  # its last page goes, and with that it may go, too
    assert may_go(machine) == (0, 1)
    check_vfs(sb)
    machine.drop_caches(2)
    assert in_memory(machine) == (0, 0)
    assert machine.read_file("f3", 0, 2) == b"\x01\x01"
    machine.check()


def test_with_highmem_an_inode_goes_before_its_pages():
    machine = Machine.boot(MACHINES / "i386-256m")
    machine.create_file("data", 8)
    machine.read_file("data")
    mm = machine.kernel.mm
    lru_add_drain_all(mm)  # a page that a CPU still has in a batch could not go
    assert machine.drop_caches(2) == 0  # used twice, by its maker and by its reader
    machine.drop_caches(2)
    assert mm.vm_event[PGINODESTEAL] == 8
    assert mm.vm_event[KSWAPD_INODESTEAL] == 0
    assert in_memory(machine) == (0, 1)
    assert machine.drop_caches(2) == 1
    machine.create_file("dirty", 8)
    machine.write_file("dirty", 0, b"x" * 4096)
    for _ in range(3):
        machine.drop_caches(2)
    assert in_memory(machine) == (0, 1)
    machine.sync()
    machine.drop_caches(3)
    machine.check()


def test_dropping_gives_slabs_back_to_the_page_allocator(machine):
    free, held = kib_free(machine), kib(machine, "SReclaimable")
    assert machine.drop_caches(2) == 2 * FILES
    assert kib(machine, "SReclaimable") < held // 4
    assert kib_free(machine) - free == held - kib(machine, "SReclaimable")
    assert machine.kernel.mm.vm_event[DROP_SLAB] == 1
    machine.check()
    with pytest.raises(BadRequest, match="nothing to drop"):
        machine.drop_caches(4)


def test_the_sysctl_tells_so_in_the_log_until_it_is_told_not_to(machine):
    assert machine.sysctl("vm.drop_caches", 2) == "2"
    assert in_memory(machine) == (0, 0)
    machine.sysctl("vm.drop_caches", 4)
    machine.sysctl("vm.drop_caches", 3)
    assert [line for line in machine.kernel.printk_lines if "drop_caches" in line] == [
        "swapper/0 (0): drop_caches: 2",
        "swapper/0 (0): drop_caches: 4",
    ]
    with pytest.raises(BadRequest, match="only be written"):
        machine.sysctl("vm.drop_caches")
    for wrong in (0, 5):
        with pytest.raises(BadRequest, match="from 1 to 4"):
            machine.sysctl("vm.drop_caches", wrong)


@pytest.mark.parametrize(("pressure", "asked"), [(0, 0), (50, 300), (100, 600), (200, 1200)])
def test_vfs_cache_pressure_says_how_many_objects_a_run_sees(machine, pressure, asked):
    machine.sysctl("vm.vfs_cache_pressure", pressure)
    mm = machine.kernel.mm
    assert dcache.super_cache_count(mm, ShrinkControl(GFP_KERNEL, 0)) == asked
    do_shrink_slab(mm, GFP_KERNEL, 0, number(), 2)  # a quarter, times 4 / 2
    assert mm.nr_deferred[number()] == asked // 4 * 2
    assert mm.vm_event[SLABS_SCANNED] == 0  # no whole batch of 1024


def test_who_works_in_a_file_system_must_not_enter_it(machine):
    assert super_cache_scan(machine.kernel.mm, ShrinkControl(GFP_NOFS, 0, 100)) == SHRINK_STOP
    assert in_memory(machine) == (FILES, FILES)


def test_names_and_inodes_go_in_proportion(machine):
    sb = machine.kernel.super_block
    dcache.prune_dcache_sb(sb, 0, 200)
    assert may_go(machine) == (400, 200)
    freed = super_cache_scan(machine.kernel.mm, ShrinkControl(GFP_KERNEL, 0, 60))
    assert freed == (60 * 400 // 601 + 1) + (60 * 200 // 601 + 1)
    check_vfs(sb)


def test_a_request_under_pressure_lives_on_what_slabs_give_back():
    machine = Machine.boot("tiny-128m")
    for number in range(3900):
        machine.create_file(f"f{number}", 1)
    mm, held = machine.kernel.mm, []
    before = kib(machine, "SReclaimable")
    while (pfn := alloc_pages_inner(mm, GFP_HIGHUSER_MOVABLE, 0, 0)) is not None:
        held.append(pfn)
    assert in_memory(machine) == (0, 0)
    assert mm.vm_event[SLABS_SCANNED] >= 2 * 3900
    assert kib(machine, "SReclaimable") < before // 10
    machine.check()
    for pfn in held:
        machine.free_pages(pfn)
    assert machine.stat_file("f7") == 1
    machine.check()


def test_with_pressure_0_they_stay_to_the_end(machine):
    machine.sysctl("vm.vfs_cache_pressure", 0)
    while alloc_pages_inner(machine.kernel.mm, GFP_HIGHUSER_MOVABLE, 0, 0) is not None:
        pass
    assert in_memory(machine) == (FILES, FILES)
    machine.check()


def test_it_rewinds_and_is_copied(machine):
    sb = machine.kernel.super_block
    with machine.recording() as timeline:
        machine.drop_caches(2)
        machine.read_file("f9")
        end = list(sb.dentry), list(sb.inode), list(sb.s_dentry_lru.links.next)
        timeline.rewind(0)
        assert in_memory(machine) == (FILES, FILES)
        machine.check()
        timeline.to_end()
        assert (list(sb.dentry), list(sb.inode), list(sb.s_dentry_lru.links.next)) == end
    twin = machine.fork()
    twin.drop_caches(3)
    assert in_memory(twin) == (0, 0)
    assert in_memory(machine) == (1, 1)
    twin.check()


def play(machine, seed):
    rng = random.Random(seed)
    for _ in range(40):
        act, name = rng.randrange(5), f"f{rng.randrange(FILES)}"
        if act == 0:
            machine.read_file(name)
        elif act == 1:
            machine.write_file(name, 0, b"w")
        elif act == 2:
            machine.stat_file(name)
        elif act == 3:
            machine.drop_caches(rng.randrange(1, 4))
        else:
            try_to_free_pages(machine.kernel.mm, GFP_KERNEL, 0, 0)
        check_vfs(machine.kernel.super_block)
    machine.check()


# -- seeded defects ----------------------------------------------------------------------------------------------------


def forgets_the_list(sb, ino):
    pass


def forgets_the_inode(sb, ino):
    address, sb.dentry[ino] = sb.dentry[ino], 0
    dcache.kmem_cache_free(sb.slab.caches[sb.dentry_cachep], address)


def frees_and_keeps(sb, ino):
    address = sb.dentry[ino]
    dentry_kill.original(sb, ino)
    sb.dentry[ino] = address


def counts_nobody_out(sb, ino):
    inode_add_lru(sb, ino, rotate=True)


def throws_out_too_early(sb, ino):
    iput.original(sb, ino)
    if sb.s_inode_lru.place[ino]:
        evict(sb, ino)


def leaves_the_inode_nowhere(sb, ino, rotate):
    pass


def uncounted(lru, item):
    gone = list_lru_del.original(lru, item)
    if gone:
        lru.nr_items[0] += 1
    return gone


def says_nothing_of_it(lru, item, nid):
    done = list_lru_add.original(lru, item, nid)
    lru.place[item] = 0
    return done


DEFECTS = (
    (retain_dentry, forgets_the_list),
    (dentry_kill, forgets_the_inode),
    (dentry_kill, frees_and_keeps),
    (iput, counts_nobody_out),
    (iput, throws_out_too_early),
    (inode_add_lru, leaves_the_inode_nowhere),
    (list_lru_del, uncounted),
    (list_lru_add, says_nothing_of_it),
)


@pytest.mark.parametrize("seed", range(3))
def test_at_random(machine, seed):
    play(machine, seed)


@pytest.mark.parametrize(("right", "wrong"), DEFECTS, ids=[wrong.__name__ for _, wrong in DEFECTS])
def test_the_laws_catch(machine, right, wrong):
    with livepatch(right, wrong), pytest.raises((BrokenLaw, AssertionError, KmemlabError)):
        play(machine, 1)


def test_a_name_is_used_by_somebody_before_it_is_let_go(machine):
    with pytest.raises(AssertionError, match="nobody uses dentry 1"):
        dput(machine.kernel.super_block, 1)
