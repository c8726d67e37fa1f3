"""A crowded machine: next to nothing is free but single pages between those of a program.

driver   ▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨▨          ▨▨▨▨   whose pages can't move
programs                         ●○○●○●●○○         stay (●) and end (○)
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from kmemlab.machine.machine import Machine
from kmemlab.types.errors import OutOfMemory
from kmemlab.types.gfp import __GFP_RECLAIM, GFP_HIGHUSER_MOVABLE
from kmemlab.types.units import PAGE_SIZE

QUICK = GFP_HIGHUSER_MOVABLE & ~__GFP_RECLAIM
"""Take what is there, and wait for nothing."""
FIRST, LAST = 27648, 30720
"""The six pageblocks of tiny-128m that the programs share."""
LARGEST = 10


class Crowded(NamedTuple):
    """The machine, the program that stayed, and where its pages begin."""

    machine: Machine
    pid: int
    area: int


def taken(machine: Machine, order: int) -> list[int]:
    """Take blocks of an order, without waiting, until there is none left."""
    blocks = []
    try:
        while True:
            blocks.append(machine.alloc_pages(QUICK, order))
    except OutOfMemory:
        return blocks


def crowded(stays: int, goes: int) -> Crowded:
    """A driver takes all memory but six pageblocks; two programs take so many pages there by turns; the second ends."""
    machine = Machine.boot("tiny-128m")
    pages = {machine.spawn("stays"): stays, machine.spawn("goes"): goes}
    areas = {pid: machine.mmap(pid, count * PAGE_SIZE) for pid, count in pages.items()}
    for pid, count in pages.items():
        for page in range(0, count, 256):  # so that there are page tables, before memory is scarce
            machine.touch(pid, areas[pid] + page * PAGE_SIZE, PAGE_SIZE)
    blocks = {order: taken(machine, order) for order in range(LARGEST, -1, -1)}
    for pfn in blocks[LARGEST]:
        if FIRST <= pfn < LAST:
            machine.free_pages(pfn, LARGEST)
    turns = [(pid, page) for pid, count in pages.items() for page in range(count)]
    Random(6).shuffle(turns)
    for pid, page in turns:
        machine.touch(pid, areas[pid] + page * PAGE_SIZE, PAGE_SIZE)
    program, other = pages
    machine.sys_exit(other)
    return Crowded(machine, program, areas[program])
