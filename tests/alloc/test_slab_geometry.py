"""kmalloc's caches as real machines have them, and slabs that hold what they should."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.alloc.kmalloc_caches import (
    ARCH_KMALLOC_MINALIGN,
    KMALLOC_FLAGS,
    KMALLOC_PREFIXES,
    KMALLOC_SIZES,
    size_name,
)
from kmemlab.alloc.kmem_cache import (
    DEBUG_DEFAULT_FLAGS,
    SLAB_CACHE_DMA,
    SLAB_CONSISTENCY_CHECKS,
    SLAB_KMALLOC,
    SLAB_POISON,
    SLAB_RECLAIM_ACCOUNT,
    SLAB_RED_ZONE,
    SLAB_STORE_USER,
    SLAB_TYPESAFE_BY_RCU,
    SlubParams,
)
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.slab_geometry import calculate_alignment, calculate_order, set_geometry
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.alloc.slub_params import kmem_cache_flags, parse_slub_params
from kmemlab.boot.printk import Printk
from kmemlab.boot.smp import num_possible_cpus, num_present_cpus
from kmemlab.machine.machine import Machine
from kmemlab.types.errors import KernelPanic
from tests.boot.captures import MACHINES as CAPTURES
from tests.boot.captures import saved

TABLES = json.loads((Path(__file__).parent.parent / "data" / "slab.json").read_text())
MACHINES = [(machine, table["rows"]) for table in TABLES for machine in table["machines"]]


def params_of(cmdline: str = "", cpus: int = 1, pointer: int = 8, cache_line: int = 64) -> SlubParams:
    params = SlubParams(cmdline, pointer, cache_line)
    parse_slub_params(params, Printk())
    params.nr_cpus = cpus
    return params


@functools.cache
def common() -> SlabCommon:
    """Caches without a kernel around them: slot 1 is laid out anew by each test."""
    return Machine("tiny-128m").kernel.slab


def layout(params: SlubParams, size: int, flags: int = 0, name: str = "kmalloc") -> SlubCache:
    """A cache as kmalloc makes them."""
    cache = common().caches[1]
    assert isinstance(cache, SlubCache)
    cache.object_size = size
    align = max(ARCH_KMALLOC_MINALIGN, size) if size & size - 1 == 0 else ARCH_KMALLOC_MINALIGN
    cache.align = calculate_alignment(flags, align, size, params.cache_line, params.pointer)
    assert set_geometry(params, cache, kmem_cache_flags(params, flags | SLAB_KMALLOC, name))
    return cache


def fields(cache: SlubCache) -> list[int]:
    return [cache.object_size, cache.size, cache.objects, cache.order, cache.cpu_partial, cache.min_partial]


@pytest.mark.parametrize(("machine", "rows"), MACHINES, ids=[machine["name"] for machine, _ in MACHINES])
def test_kmallocs_caches_are_those_of_the_real_machine(machine: dict[str, Any], rows: dict[str, list[int]]) -> None:
    present, possible = machine["cpus"]
    cpus = present if present > 1 else possible
    params = params_of(machine["cmdline"], cpus, machine["pointer"], machine["cache_line"])
    made = {}
    for prefix, flags in zip(KMALLOC_PREFIXES, KMALLOC_FLAGS, strict=True):
        for size in KMALLOC_SIZES[1:]:
            name = f"{prefix}-{size_name(size)}"
            made[name] = fields(layout(params, size, flags, name))
    assert made == rows


def test_a_booted_machine_has_them_all_and_says_so() -> None:
    machine = Machine.boot("tiny-128m", until="mem_init_print_info")
    assert list(machine.kernel.slab.existing()) == []
    machine = Machine.boot("tiny-128m")
    slab = machine.kernel.slab
    names = [cache.name for cache in slab.existing()]
    assert len([name for name in names if "kmalloc-" in name]) == 4 * 13
    assert slab.caches[slab.kmem_cache].size == 256  # 216 bytes and a pointer for one node, on cache lines
    assert "SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=1, Nodes=1\n" in machine.dmesg()


@pytest.mark.parametrize(
    ("size", "cpus", "order"),
    [(640, 1, 1), (640, 2, 1), (640, 4, 2), (6208, 1, 3), (6208, 4, 3), (512, 1, 0), (512, 2, 1), (2048, 2, 3)],
)
def test_orders_that_were_seen(size: int, cpus: int, order: int) -> None:
    assert calculate_order(params_of(cpus=cpus), size) == order


@given(st.integers(8, 1 << 22), st.integers(1, 8192), st.integers(0, 10), st.integers(0, 64))
def test_the_order_is_the_best_of_all(size: int, cpus: int, max_order: int, min_objects: int) -> None:
    size = (size + 7) // 8 * 8
    order = calculate_order(params_of(f"slub_max_order={max_order} slub_min_objects={min_objects}", cpus), size)
    wanted = min_objects or 4 * (cpus.bit_length() + 1)
    most = min(wanted, (4096 << max_order) // size)
    # As many objects as wanted, or as few less as can be; then little waste; then a low order.
    good = [
        (most - objects, -fraction, tried)
        for objects in range(2, most + 1)
        for fraction in (16, 8, 4)
        for tried in range(max_order + 1)
        if 4096 << tried >= objects * size and fraction * ((4096 << tried) % size) <= 4096 << tried
    ]
    one = next(tried for tried in range(11) if 4096 << tried >= size)
    assert order == (min(good)[2] if good else one)


@pytest.mark.parametrize(
    ("size", "slot", "order", "objects", "min_partial"),
    [
        (8, 112, 0, 36, 5),
        (96, 200, 0, 20, 5),
        (192, 296, 0, 13, 5),
        (256, 768, 1, 10, 5),
        (4096, 12288, 3, 2, 6),
        (8192, 24576, 3, 1, 7),
    ],
)
def test_debugging_makes_slots_larger(size: int, slot: int, order: int, objects: int, min_partial: int) -> None:
    cache = layout(params_of("slub_debug"), size)
    assert fields(cache) == [size, slot, objects, order, 0, min_partial]


def test_debugging_can_be_had_for_some_caches_or_not_at_the_cost_of_order() -> None:
    some = params_of("slub_debug=ZF,kmalloc-6*,dentry;P,kmalloc-8")
    assert kmem_cache_flags(some, 0, "kmalloc-64") == SLAB_RED_ZONE | SLAB_CONSISTENCY_CHECKS
    assert kmem_cache_flags(some, 0, "kmalloc-8") == SLAB_POISON
    assert kmem_cache_flags(some, 0, "kmalloc-8k") == 0
    both = params_of("slub_debug=U,kmalloc-8;Z")
    assert kmem_cache_flags(both, 0, "kmalloc-8") == SLAB_STORE_USER
    assert kmem_cache_flags(both, 0, "dentry") == SLAB_RED_ZONE
    assert params_of("slub_debug=,dentry").slub_debug == 0
    assert params_of("slub_debug").slub_debug == DEBUG_DEFAULT_FLAGS
    assert params_of("slub_debug=FZPU slub-debug=-").slub_debug == 0
    low = params_of("slub_debug=FZPUO")
    for size, watched in ((64, True), (4096, False)):
        cache = layout(low, size)
        assert bool(cache.flags & SLAB_POISON) == watched
        assert cache.flags & SLAB_CONSISTENCY_CHECKS


def test_a_letter_that_is_none_is_named() -> None:
    printk = Printk()
    params = SlubParams("slub_debug=Fx", 8, 64)
    parse_slub_params(params, printk)
    assert printk.lines() == ("slub_debug option 'x' unknown. skipped",)
    assert params.slub_debug == SLAB_CONSISTENCY_CHECKS


def test_parameters_are_read_as_c_reads_them() -> None:
    params = params_of("slub_max_order=99 slub_min_objects=0x10 slub_min_order=2x -- slub_min_order=5")
    assert (params.slub_max_order, params.slub_min_objects, params.slub_min_order) == (10, 16, 2)
    assert params_of("slub_max_order").slub_max_order == 3
    assert params_of("slub_min_objects=1" + "0" * 4999 + "7").slub_min_objects == 7  # 2**32 divides the rest
    assert params_of("slub_min_objects=09").slub_min_objects == 0  # 0… is octal, and 9 none of its digits


def test_a_slab_above_every_order_is_a_panic() -> None:
    with pytest.raises(KernelPanic, match="Creation of kmalloc slab kmem_cache_node size=64 failed"):
        Machine.boot(
            {"e820": [[0, 0x9FBFF, "usable"], [0x100000, 0x7FFFFFF, "usable"]], "cmdline": "slub_min_order=20"}
        )


def test_no_caches_for_control_groups_that_pay_nothing() -> None:
    machine = Machine({"e820": [[0, 0x9FBFF, "usable"], [0x100000, 0x7FFFFFF, "usable"]], "cmdline": ""})
    machine.start_kernel()
    charged = [cache.name for cache in machine.kernel.slab.existing() if "-cg-" in cache.name]
    spec = {"e820": [[0, 0x9FBFF, "usable"], [0x100000, 0x7FFFFFF, "usable"]], "cmdline": "cgroup.memory=nokmem"}
    free = [cache.name for cache in Machine.boot(spec).kernel.slab.existing() if "-cg-" in cache.name]
    assert (len(charged), free) == (13, [])


SAVED = [path.name for path in sorted(CAPTURES.iterdir()) if list(path.glob("slab_table.txt*"))]


@pytest.mark.parametrize("name", SAVED)
def test_every_cache_of_a_real_machine_is_laid_out_as_linux_did(name: str) -> None:
    slab = Machine(CAPTURES / name).kernel.slab
    parse_slub_params(slab.params, Printk())
    present = num_present_cpus(slab.mm.boot.spec)
    slab.params.nr_cpus = present if present > 1 else num_possible_cpus(slab.mm.boot.spec)
    head, *rows = [line.split("\t") for line in saved(name, "slab_table.txt").splitlines()]
    wrong, seen = [], 0
    for row in (dict(zip(head, cells, strict=True)) for cells in rows):
        if row["link"] != "-" or row["name"].startswith(":"):
            # Shared by several: object_size is that of the largest, and with it the slot is the same.
            continue
        cache = slab.caches[1]
        assert isinstance(cache, SlubCache)
        cache.object_size, cache.align, cache.ctor = int(row["object_size"]), int(row["align"]), int(row["ctor"] != "-")
        flags = sum(flag for column, flag in FLAGS.items() if row[column] == "1")
        flags |= SLAB_KMALLOC if "kmalloc-" in row["name"] else 0
        assert set_geometry(slab.params, cache, flags)
        ours = [cache.size, cache.objects, cache.order, cache.cpu_partial, cache.min_partial]
        theirs = [int(row[column]) for column in ("slab_size", "objs_per_slab", "order", "cpu_partial", "min_partial")]
        seen += 1
        if ours != theirs:
            wrong.append((row["name"], ours, theirs))
    assert wrong == []
    assert seen > 50


FLAGS = {
    "reclaim_account": SLAB_RECLAIM_ACCOUNT,
    "cache_dma": SLAB_CACHE_DMA,
    "destroy_by_rcu": SLAB_TYPESAFE_BY_RCU,
    "red_zone": SLAB_RED_ZONE,
    "poison": SLAB_POISON,
    "store_user": SLAB_STORE_USER,
    "sanity_checks": SLAB_CONSISTENCY_CHECKS,
}
