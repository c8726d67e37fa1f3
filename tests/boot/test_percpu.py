"""The first chunk of per-CPU memory, on the layouts that Linux printed for real machines, and by its own laws."""

from __future__ import annotations

import pytest

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_add, memblock_init
from kmemlab.boot.numa import NumaInfo
from kmemlab.boot.percpu import pcpu_build_alloc_info, pcpu_dump_alloc_info, pcpu_embed_first_chunk
from kmemlab.hardware.spec import load_spec
from kmemlab.types.errors import KernelPanic

MIB = 1 << 20


def machine(nodes: list[int], ram: int = 1 << 30) -> tuple[Boot, NumaInfo]:
    """CPU i is of node nodes[i]; all memory is of node 0."""
    boot = Boot(load_spec({"e820": [], "cpus": {"present": len(nodes)}}))
    memblock_init(boot.memblock)
    memblock_add(boot.memblock, 0, ram)
    numa = NumaInfo(max(nodes) + 1, len(nodes))
    for cpu, nid in enumerate(nodes):
        numa.cpu_to_node[cpu] = nid
        numa.node_online[nid] = 1
    boot.memblock.memory.nid[0] = 0
    return boot, numa


@pytest.mark.parametrize(
    ("nodes", "unit", "lines"),
    [
        ([0], 2 * MIB, ["[0] 0 "]),
        ([0, 0], MIB, ["[0] 0 1 "]),
        ([0, 0, 1, 1], MIB, ["[0] 0 1 [1] 2 3 "]),
        ([0, 1, 0, 1], MIB, ["[0] 0 2 [1] 1 3 "]),
        ([0] * 8, MIB // 4, ["[0] 0 1 2 3 4 5 6 7 "]),
        # Seven CPUs: eight units of 256 KiB in one allocation, one of them for nobody.
        ([0] * 7, MIB // 4, ["[0] 0 1 2 3 4 5 6 - "]),
        # Eight characters each: seven fit into 60, and the next lower power of two is 4.
        (list(range(12)), 2 * MIB, ["".join(f"[{n:02}] {n:02} " for n in range(at, at + 4)) for at in (0, 4, 8)]),
    ],
)
def test_units_and_groups(nodes: list[int], unit: int, lines: list[str]) -> None:
    boot, numa = machine(nodes)
    info = pcpu_build_alloc_info(boot, numa, 28672, 2 * MIB)
    assert (info.static_size, info.reserved_size, info.dyn_size, info.unit_size) == (217088, 8192, 28672, unit)
    pcpu_dump_alloc_info(boot, info)
    assert boot.printk.lines()[0] == f"pcpu-alloc: s217088 r8192 d28672 u{unit} alloc=1*2097152"
    assert [line.removeprefix("pcpu-alloc: ") for line in boot.printk.lines()[1:]] == lines


@pytest.mark.parametrize("cpus", [1, 2, 3, 5, 7, 8, 9, 24, 64])
def test_what_stays_reserved_is_what_the_cpus_need(cpus: int) -> None:
    boot, numa = machine([0] * cpus)
    pcpu_embed_first_chunk(boot, numa, 28672, 2 * MIB)
    units = sum(size for _, size, _, _ in boot.memblock.reserved.regions()) - cpus * 253952
    # Small tables only: offsets and sizes of one group, 12 bytes a CPU, slots, and the two chunks' maps.
    slots = boot.printk.lines()[0].rpartition("u")[2]
    shifts = int(slots).bit_length() - 3 + 4
    assert units == 8 + 8 + 12 * cpus + 16 * shifts + (144 + 256 + 264 + 64) + (144 + 896 + 904 + 224)


def test_no_room_is_a_panic() -> None:
    boot, numa = machine([0] * 4, ram=MIB)
    with pytest.raises(KernelPanic, match="cannot initialize percpu area"):
        pcpu_embed_first_chunk(boot, numa, 28672, 2 * MIB)
