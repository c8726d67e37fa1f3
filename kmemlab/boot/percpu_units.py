"""Where each CPU's copy of the per-CPU variables lies: the distances hold for the first chunk and for all later ones.

pcpu_base_addr + pcpu_unit_offsets[cpu] ──▶ the unit of a CPU

            base               + 1 MiB                    + 40 MiB
chunk        |  unit of CPU 0   |  unit of CPU 1   |  …    |  unit of CPU 2   |
             └──────────── group 0: node 0 ────────┘       └── group 1: node 1
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented
from kmemlab.sim.struct import Cell, Struct, U64Cell


@invented("C has these as variables of mm/percpu.c: pcpu_unit_map, pcpu_unit_offsets, pcpu_group_offsets, …")
class PcpuUnits(Struct):
    """All sizes and offsets in bytes. A group is what was allocated in one piece: the CPUs of a node."""

    base_addr = U64Cell()  # pcpu_base_addr: where the unit with the lowest address starts
    static_size = Cell()
    reserved_size = Cell()
    dyn_size = Cell()
    unit_size = Cell()
    atom_size = Cell()
    nr_units = Cell()  # those that no CPU has, too
    nr_groups = Cell()

    unit_map: Column
    unit_off: Column
    group_offset: Column
    group_size: Column

    def __init__(self, nr_cpus: int) -> None:
        self.unit_map = column("i", nr_cpus)  # the unit of a CPU
        self.unit_off = column("Q", nr_cpus)
        self.group_offset = column("Q", nr_cpus)
        self.group_size = column("Q", nr_cpus)

    @property
    def nr_cpus(self) -> int:
        """The possible CPUs."""
        return len(self.unit_map)

    @property
    def size_sum(self) -> int:
        """The bytes of a unit of the first chunk that are used: static, reserved and dynamic area."""
        return self.static_size + self.reserved_size + self.dyn_size

    def groups(self) -> list[tuple[int, int]]:
        """(offset, size) of each group."""
        return [(self.group_offset[nth], self.group_size[nth]) for nth in range(self.nr_groups)]
