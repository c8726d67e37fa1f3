"""The distance table: a square of bytes, made when somebody first has a distance to tell."""

from __future__ import annotations

from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_phys_alloc_range, memblock_phys_free
from kmemlab.boot.numa import LOCAL_DISTANCE, REMOTE_DISTANCE, NumaInfo, nodes_of
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE


@kernel("arch/x86/mm/numa.c", "numa_reset_distance")
def numa_reset_distance(boot: Boot, numa: NumaInfo) -> None:
    """Forget all distances and give the table's memory back."""
    size = numa.distance_cnt * numa.distance_cnt
    if size:
        memblock_phys_free(boot.memblock, numa.distance_addr, size, caller="numa_reset_distance")
    numa.distance_cnt = 0
    numa.distance_addr = 0


@kernel("arch/x86/mm/numa.c", "numa_alloc_distance")
def numa_alloc_distance(boot: Boot, numa: NumaInfo) -> bool:
    """Make a table for all nodes heard of so far: 10 on the diagonal, 20 elsewhere. False if it finds no memory."""
    with_memory = {nid for _, _, nid in numa.meminfo.blocks()}
    cnt = 1 + max(with_memory.union(nodes_of(numa.nodes_parsed)), default=0)
    limit = boot.max_pfn_mapped << PAGE_SHIFT
    addr = memblock_phys_alloc_range(boot.memblock, cnt * cnt, PAGE_SIZE, 0, limit, caller="numa_alloc_distance")
    if not addr:
        boot.printk.info("NUMA: Warning: can't allocate distance table!")
        return False
    numa.distance_addr = addr
    numa.distance_cnt = cnt
    for i in range(cnt):
        for j in range(cnt):
            numa.distance[i * cnt + j] = LOCAL_DISTANCE if i == j else REMOTE_DISTANCE
    boot.printk.info(f"NUMA: Initialized distance table, cnt={cnt}")
    return True


@kernel("arch/x86/mm/numa.c", "numa_set_distance", left_out="warns each time, C once a boot")
def numa_set_distance(boot: Boot, numa: NumaInfo, source: int, target: int, distance: int) -> None:
    """Say how far `target` is from `source`; what no table can hold is ignored with a warning."""
    if not numa.distance_cnt and not numa_alloc_distance(boot, numa):
        return
    told = f"from={source} to={target} distance={distance}"
    if not (0 <= source < numa.distance_cnt and 0 <= target < numa.distance_cnt):
        boot.printk.info(f"NUMA: Warning: node ids are out of bound, {told}")
    elif not 0 <= distance <= 255 or (source == target and distance != LOCAL_DISTANCE):
        boot.printk.info(f"NUMA: Warning: invalid distance parameter, {told}")
    else:
        numa.distance[source * numa.distance_cnt + target] = distance
