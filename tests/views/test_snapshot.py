"""Snapshots against what was done by hand: frozen, hashable, the same text twice, and right frame by frame."""

from __future__ import annotations

import dataclasses
import random

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.snapshot import HEAD, HOLE, IN_USE, ON_PCP, RESERVED, frame_map, machine_snapshot, zone_snapshot
from kmemlab.mm.buddy import example_zone, free_one_page, rmqueue_smallest
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.migratetype import MIGRATE_MOVABLE


def test_a_zone_with_one_page_taken() -> None:
    zone = example_zone(order=3)
    rmqueue_smallest(zone, 0, MIGRATE_MOVABLE)
    assert frame_map(zone, 0, 8).cells == bytes([IN_USE, HEAD, HEAD | 1, 1, HEAD | 2, 2, 2, 2])
    assert [(item.order, item.pfns) for item in zone_snapshot(zone).lists] == [(0, (1,)), (1, (2,)), (2, (4,))]


def test_snapshots_are_frozen_hashable_and_say_the_same_twice() -> None:
    first, second = zone_snapshot(example_zone(order=4)), zone_snapshot(example_zone(order=4))
    assert first == second
    assert hash(first) == hash(second)
    assert repr(first) == repr(second)
    assert " at 0x" not in repr(first)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "Movable"  # type: ignore[misc]


def test_a_window_that_cuts_a_block_and_leaves_the_zone() -> None:
    zone = example_zone(order=4)
    end = zone.spanned_pages
    rmqueue_smallest(zone, 3, MIGRATE_MOVABLE)
    assert frame_map(zone, 12, 2).cells == bytes([3, 3])  # the middle of the upper half
    assert frame_map(zone, 4, 8).cells == bytes([IN_USE] * 4 + [HEAD | 3, 3, 3, 3])
    assert frame_map(zone, end - 1, 3).cells[1:] == bytes([HOLE] * 2)


def test_the_map_agrees_with_a_model_kept_by_hand() -> None:
    zone, rng = example_zone(order=10, blocks=4), random.Random(7)
    held: dict[int, int] = {}
    for _ in range(400):
        if held and rng.random() < 0.45:
            pfn = rng.choice(sorted(held))
            free_one_page(zone, pfn, held.pop(pfn), MIGRATE_MOVABLE)
        else:
            order = rng.randrange(5)
            pfn = rmqueue_smallest(zone, order, MIGRATE_MOVABLE)
            if pfn is not None:
                held[pfn] = order
    used = {pfn + at for pfn, order in held.items() for at in range(1 << order)}
    frames = frame_map(zone)
    assert {pfn for pfn, cell in enumerate(frames.cells) if cell & IN_USE} == used
    runs = list(frames.runs())
    assert sum(count for _, count, _ in runs) == len(frames.cells)
    free = sorted((pfn, count) for pfn, count, cell in runs if not cell & IN_USE)
    assert free == sorted((pfn, 1 << order) for pfn, order, _ in zone_snapshot(zone).blocks())


def test_a_fragmented_zone_of_65536_frames() -> None:
    zone = example_zone(order=10, blocks=64)
    for _ in range(1 << 16):
        rmqueue_smallest(zone, 0, MIGRATE_MOVABLE)
    for pfn in range(0, 1 << 16, 2):
        free_one_page(zone, pfn, 0, MIGRATE_MOVABLE)
    assert frame_map(zone).cells == bytes([HEAD, IN_USE]) * (1 << 15)


def test_a_machine_tells_what_boot_kept_from_what_was_allocated() -> None:
    machine = Machine.boot("tiny-128m")
    pfn = machine.alloc_pages(GFP_KERNEL, 2)
    zone = next(z for z in machine.zones if z.zone_start_pfn <= pfn < z.zone_start_pfn + z.spanned_pages)
    frames = frame_map(zone, memblock=machine.kernel.boot.memblock)
    at = pfn - frames.start_pfn
    assert frames.cells[at : at + 4] == bytes([IN_USE | HEAD | 2, *[IN_USE | 2] * 3])
    count = {kind: sum(bool(cell & kind) for cell in frames.cells) for kind in (RESERVED, HOLE)}
    free = sum(cell < IN_USE for cell in frames.cells)
    assert free == zone_snapshot(zone).free
    on_pcp = frames.cells.count(ON_PCP)
    assert on_pcp == sum(zone.per_cpu_pageset.count) > 0
    assert count[RESERVED] + count[HOLE] + free + on_pcp + zone.nr_owned == zone.spanned_pages
    snapshot = machine_snapshot(machine.kernel)
    assert hash(snapshot) == hash(machine_snapshot(machine.kernel))
    assert sum(z.present for node in snapshot.nodes for z in node.zones) == sum(z.present_pages for z in machine.zones)
