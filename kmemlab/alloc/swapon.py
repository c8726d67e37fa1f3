"""swapon: a partition of the disk becomes a swap area.

block 0    | … version 1, last_page, nr_badpages … | SWAPSPACE2 |     the header, which mkswap wrote
block 1    the first slot
…
block n    the last one: last_page
"""

from __future__ import annotations

from kmemlab.alloc.filemap import bread
from kmemlab.alloc.vmalloc import vzalloc
from kmemlab.mm.address_space import address_space_init
from kmemlab.mm.files import FIRST_DATA_BLOCK
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_writeback import folio_mark_dirty
from kmemlab.mm.swap_cluster import cluster_of, free_cluster, swapfile_cluster
from kmemlab.mm.swap_info import (
    SWAP_ADDRESS_SPACE_SHIFT,
    SWAP_MAP_BAD,
    SWP_BLKDEV,
    SWP_SOLIDSTATE,
    SWP_USED,
    SWP_WRITEOK,
    SwapInfo,
    used_areas,
)
from kmemlab.mm.swap_range import add_to_avail_list
from kmemlab.mm.swap_slots import enable_swap_slots_cache
from kmemlab.mm.swapops import max_swapfile_pages
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.list_head import init_list_head
from kmemlab.types.errors import BadRequest, TooLarge
from kmemlab.types.units import KIB, PAGE_SHIFT, PAGE_SIZE, round_up

MAGIC = b"SWAPSPACE2"
INFO = 1024
"""Where the numbers of the header stand: behind room for a boot loader."""
SWAP_FLAG_PRIO_MAX = 0x7FFF


@invented("fdisk: areas lie at the end of the disk, files grow towards them")
def free_partition(mm: Mm, pages: int) -> int:
    """The first block of a stretch of the disk that no file and no other area has. Raises `BadRequest`."""
    align, top = swapfile_cluster(mm), mm.disk.nr_blocks
    top -= top % align
    size = round_up(pages, align)
    lowest = max(mm.files.next_block, FIRST_DATA_BLOCK)
    for si in sorted(used_areas(mm.swap), key=first_block_of, reverse=True):
        if top - size >= round_up(si.first_block + si.max, align):
            break
        top = si.first_block
    if top - size < lowest:
        raise BadRequest(
            f"the disk has no room for a swap area of {pages} pages",
            where="swapon",
            remedy=f"{max(0, top - lowest) // align * align} pages in a row are free",
        )
    return top - size


@invented("a key to sort by", traced=False)
def first_block_of(si: SwapInfo) -> int:
    """Where an area begins on the disk."""
    return si.first_block


@invented("the program mkswap")
def mkswap(mm: Mm, first_block: int, pages: int) -> None:
    """Write the header of a swap area. Raises `OutOfMemory`."""
    pfn = bread(mm, first_block)
    header = b"".join(number.to_bytes(4, "little") for number in (1, pages - 1, 0))
    page = header.rjust(INFO + len(header), b"\0").ljust(PAGE_SIZE - len(MAGIC), b"\0") + MAGIC
    mm.boot.ram.write_bytes(pfn << PAGE_SHIFT, page)
    folio_mark_dirty(mm, pfn)
    put_page(mm, pfn)


@kernel("mm/swapfile.c", "read_swap_header", left_out="the other byte order; bad pages")
def read_swap_header(mm: Mm, si: SwapInfo) -> int:
    """How many pages an area has by its header, the header counted. Raises `BadRequest`, `OutOfMemory`."""
    pfn = bread(mm, si.first_block)
    page = mm.boot.ram.read_bytes(pfn << PAGE_SHIFT, PAGE_SIZE)
    put_page(mm, pfn)
    version, last_page = (int.from_bytes(page[at : at + 4], "little") for at in (INFO, INFO + 4))
    fault = ""
    if not page.endswith(MAGIC):
        fault = "Unable to find swap-space signature"
    elif version != 1:
        fault = f"Unable to handle swap header version {version}"
    elif not last_page:
        fault = "Empty swap-file"
    if fault:
        mm.boot.printk.info(fault)
        raise BadRequest(fault, where="swapon", remedy="give the area two pages at least: one is its header")
    return min(last_page + 1, max_swapfile_pages(mm.boot.swapper_pg_dir.layout))


@kernel("mm/swapfile.c", "alloc_swap_info", lock="swap_lock")
def alloc_swap_info(mm: Mm) -> SwapInfo:
    """The first area that is not used. Raises `TooLarge` when all are."""
    for si in mm.swap.info:
        if not si.flags & SWP_USED:
            mm.swap.nr_swapfiles = max(mm.swap.nr_swapfiles, si.type + 1)
            si.flags = SWP_USED
            return si
    raise TooLarge(f"there are {len(mm.swap.info)} swap areas already", where="swapon", remedy="swapoff one of them")


@kernel("mm/swapfile.c", "setup_swap_map_and_extents", left_out="bad pages; files, whose blocks lie scattered")
def setup_swap_map(mm: Mm, si: SwapInfo, maxpages: int) -> None:
    """All slots are free but the header; a solid-state area has its clusters on a list."""
    si.max, si.pages = maxpages, maxpages - 1
    si.lowest_bit, si.highest_bit = 1, maxpages - 1
    si.cluster_next, si.cluster_nr = 1, 0
    mm.swap.swap_map[si.first_block] = SWAP_MAP_BAD
    if si.flags & SWP_SOLIDSTATE:
        setup_clusters(mm, si)


@invented("the part of setup_swap_map_and_extents about clusters")
def setup_clusters(mm: Mm, si: SwapInfo) -> None:
    """Put whole clusters on the list of free ones, those next to each other far apart on it.

    CPUs take clusters from the list in turn; so they don't write into the same line of cluster_info, nor into the same
    64 MiB of the swap cache.
    """
    swap, size = mm.swap, swapfile_cluster(mm)
    init_list_head(swap.free_clusters, swap.free_clusters_head(si.type))
    first, nr_clusters = cluster_of(mm, si, 0), -(-si.max // size)
    swap.cluster_count[first] += 1  # the header
    swap.cluster_count[first + nr_clusters - 1] += nr_clusters * size - si.max
    columns = max(8, (1 << SWAP_ADDRESS_SPACE_SHIFT) // size)
    for column in range(columns):
        for cluster in range(first + column, first + nr_clusters, columns):
            if not swap.cluster_count[cluster]:
                free_cluster(swap, si, cluster)
    for cpu in range(swap.nr_cpus):
        si.cluster_next_cpu[cpu] = 1  # C takes one by chance, so that no part of the device wears out first
        si.percpu_index[cpu] = 0


@kernel("mm/swap_state.c", "init_swap_address_space")
def init_swap_address_space(mm: Mm, si: SwapInfo) -> None:
    """Each 64 MiB of an area have a mapping of their own. Those of an earlier area with this number serve again."""
    swap = mm.swap
    for at in range(-(-si.max >> SWAP_ADDRESS_SPACE_SHIFT) or 1):
        row = si.type * swap.spaces_per_area + at
        if not swap.swapper_spaces[row]:
            swap.swapper_spaces[row] = address_space_init(mm.mappings, "swap", si.type)


@kernel("mm/swapfile.c", "enable_swap_info", formerly=("setup_swap_info", "_enable_swap_info"), lock="swap_lock")
def enable_swap_info(mm: Mm, si: SwapInfo, prio: int) -> None:
    """Pages may go to an area from now on. One without a priority gets the lowest so far, less one."""
    swap = mm.swap
    if prio < 0:
        swap.least_priority -= 1
        prio = swap.least_priority
    si.prio = prio
    si.flags |= SWP_WRITEOK
    mm.nr_swap_pages += si.pages
    mm.total_swap_pages += si.pages
    add_to_avail_list(swap, si)


@kernel("mm/swapfile.c", "sys_swapon", left_out="swap files, discarding, rights; the memory of cluster_info")
def swapon(mm: Mm, pages: int, prio: int, solid_state: bool) -> SwapInfo:
    """Make a partition of `pages` pages, and a swap area of it. Raises `BadRequest`, `TooLarge`, `OutOfMemory`."""
    first_block = free_partition(mm, pages)
    mkswap(mm, first_block, pages)
    si = alloc_swap_info(mm)
    try:
        si.first_block = first_block
        maxpages = read_swap_header(mm, si)
        si.map_address = vzalloc(mm, maxpages, "__do_sys_swapon")
    except Exception:
        si.flags = 0
        raise
    si.flags |= SWP_BLKDEV
    if solid_state:
        si.flags |= SWP_SOLIDSTATE
    else:
        mm.swap.nr_rotate_swap += 1
    setup_swap_map(mm, si, maxpages)
    init_swap_address_space(mm, si)
    enable_swap_info(mm, si, prio)
    size = si.pages * PAGE_SIZE // KIB
    mm.boot.printk.info(
        f"Adding {size}k swap on {si.name}.  Priority:{si.prio} extents:1 across:{size}k "
        f"{'SS' if solid_state else ''}FS"
    )
    enable_swap_slots_cache(mm)
    return si
