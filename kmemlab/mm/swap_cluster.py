"""Clusters of a solid-state swap area: each CPU fills one of its own, slot by slot, so that none waits for another.

clusters     │ full │ CPU 0 ▶ │ free │ CPU 1 ▶ │ free │ half │      free ones are on a list
                                └─────────────────▶│
A disk with an arm has none: there the next slot on the disk is the best one.
"""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.swap_info import CLUSTER_FLAG_FREE, SMALLEST_CLUSTER, SWP_SOLIDSTATE, Swap, SwapInfo
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import list_add_tail, list_del


@kernel("mm/swapfile.c", "SWAPFILE_CLUSTER", traced=False)
def swapfile_cluster(mm: Mm) -> int:
    """Slots of a cluster: as many as a huge page has pages where huge pages are swapped whole (64 bits), else 256."""
    return 512 if mm.boot.config.sizeof_pointer == 8 else SMALLEST_CLUSTER


@invented("C adds the index to the pointer cluster_info", traced=False)
def cluster_of(mm: Mm, si: SwapInfo, offset: int) -> int:
    """The number of a slot's cluster among all of the disk: partitions begin where clusters do."""
    return (si.first_block + offset) // swapfile_cluster(mm)


@invented("the part of setup_swap_map_and_extents that marks a cluster free; also __free_cluster", traced=False)
def free_cluster(swap: Swap, si: SwapInfo, cluster: int) -> None:
    """Nothing is in use in a cluster: it comes to the end of the list of free ones."""
    swap.cluster_flags[cluster] |= CLUSTER_FLAG_FREE
    list_add_tail(swap.free_clusters, cluster, swap.free_clusters_head(si.type))


@kernel("mm/swapfile.c", "cluster_list_first", traced=False)
def first_free_cluster(swap: Swap, si: SwapInfo) -> int | None:
    """The first free cluster, or None if the list is empty."""
    head = swap.free_clusters_head(si.type)
    first = swap.free_clusters.next[head]
    return None if first == head else first


@kernel("mm/swapfile.c", "inc_cluster_info_page", lock="cluster_info->lock")
def inc_cluster_info_page(mm: Mm, si: SwapInfo, offset: int) -> None:
    """A slot comes into use; its cluster is no longer free."""
    if not si.flags & SWP_SOLIDSTATE:
        return
    swap, cluster = mm.swap, cluster_of(mm, si, offset)
    if swap.cluster_flags[cluster] & CLUSTER_FLAG_FREE:
        assert first_free_cluster(swap, si) == cluster, f"cluster {cluster} is taken from the middle of the list"
        list_del(swap.free_clusters, cluster)
        swap.cluster_flags[cluster] &= ~CLUSTER_FLAG_FREE
    swap.cluster_count[cluster] += 1


@kernel("mm/swapfile.c", "dec_cluster_info_page", left_out="discarding", lock="cluster_info->lock")
def dec_cluster_info_page(mm: Mm, si: SwapInfo, offset: int) -> None:
    """A slot is free again, and perhaps its cluster."""
    if not si.flags & SWP_SOLIDSTATE:
        return
    swap, cluster = mm.swap, cluster_of(mm, si, offset)
    swap.cluster_count[cluster] -= 1
    if not swap.cluster_count[cluster]:
        free_cluster(swap, si, cluster)


@kernel("mm/swapfile.c", "scan_swap_map_ssd_cluster_conflict", lock="si->lock")
def scan_swap_map_ssd_cluster_conflict(mm: Mm, si: SwapInfo, offset: int) -> bool:
    """Whether a slot lies in a free cluster that is not the first of the list: it must not be begun with yet."""
    swap, first = mm.swap, first_free_cluster(mm.swap, si)
    cluster = cluster_of(mm, si, offset)
    if first is None or cluster == first or not swap.cluster_flags[cluster] & CLUSTER_FLAG_FREE:
        return False
    si.percpu_index[mm.current.cpu] = 0
    return True


@kernel("mm/swapfile.c", "scan_swap_map_try_ssd_cluster", left_out="discarding", lock="si->lock")
def scan_swap_map_try_ssd_cluster(mm: Mm, si: SwapInfo) -> int | None:
    """The next free slot of this CPU's cluster, or of the first free cluster, which is its own now. None: no such."""
    swap, cpu, size = mm.swap, mm.current.cpu, swapfile_cluster(mm)
    while True:
        if not si.percpu_index[cpu]:
            first = first_free_cluster(swap, si)
            if first is None:
                return None
            si.percpu_index[cpu] = 1 + first
            si.percpu_next[cpu] = first * size - si.first_block
        end = min(si.max, si.percpu_index[cpu] * size - si.first_block)
        for offset in range(si.percpu_next[cpu], end):
            if not swap.swap_map[si.first_block + offset]:
                si.percpu_next[cpu] = offset + 1
                return offset
        si.percpu_index[cpu] = 0
