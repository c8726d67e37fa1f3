"""The list of what the firmware said of memory; `firmware_map` fills it. Apart, for Boot holds it and is used there."""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import kernel
from kmemlab.sim.struct import Cell, Struct


@kernel("drivers/firmware/memmap.c", "struct firmware_map_entry", left_out="its place in sysfs")
class FirmwareMap(Struct):
    """The entries in the order in which they were added: `start`, inclusive `end`, and the e820 type.

    The first `nr_early` are those of boot.
    """

    nr_entries = Cell()
    nr_early = Cell()

    start: Column
    end: Column
    type: Column

    def __init__(self, capacity: int) -> None:
        self.start = column("Q", capacity)
        self.end = column("Q", capacity)
        self.type = column("I", capacity)
