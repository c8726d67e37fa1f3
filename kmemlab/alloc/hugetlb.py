"""hugepages=, hugepagesz=, default_hugepagesz=: pages of 2 MiB or 1 GiB set aside for programs (mm/hugetlb.c).

command line     hugepagesz=1G hugepages=2     pages of 1 GiB come from memblock, at once: later none is whole
hugetlb_init     hugepages=64                  pages of 2 MiB come from the page allocator
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner, page_zone
from kmemlab.boot.cmdline import next_arg, parameq
from kmemlab.boot.cpufeature import boot_cpu_has
from kmemlab.boot.memblock import memblock_alloc_try_nid_raw
from kmemlab.boot.numa import nodes_of
from kmemlab.mm.globals import Mm
from kmemlab.mm.hstate import (
    GIGANTIC_PAGE_ORDER,
    Hstate,
    Hugetlb,
    hstate_is_gigantic,
    huge_page_size_text,
)
from kmemlab.sim.column import Column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.gfp import __GFP_COMP, __GFP_NOWARN, __GFP_THISNODE, GFP_HIGHUSER, GFP_HIGHUSER_MOVABLE
from kmemlab.types.units import KIB, PAGE_SHIFT, PAGE_SIZE, get_order, memparse

RESERVED_VMEMMAP_PAGES = 1  # of each huge page's struct pages, one page must stay

MOST_PAGES = (1 << 52) - 1  # of 64 bits of addresses; as many as a command line can name still fit a counter


@invented("C calls a function for each parameter as it comes to it")
def parse_hugetlb_params(mm: Mm) -> None:
    """Hear the three parameters in the order of the command line; each depends on those before it."""
    known: dict[str, Callable[[Mm, str], None]] = {
        "hugepages": hugepages_setup,
        "hugepagesz": hugepagesz_setup,
        "default_hugepagesz": default_hugepagesz_setup,
    }
    mm.hugetlb.parsed_valid_hugepagesz = 1
    for name, value in next_arg(mm.boot.spec.cmdline):
        if name == "--":
            break
        for option, function in known.items():
            if parameq(name, option):
                function(mm, value or "")


@kernel("arch/x86/mm/hugetlbpage.c", "arch_hugetlb_valid_size", traced=False)
def arch_hugetlb_valid_size(mm: Mm, size: int) -> bool:
    """Whether the CPU has pages of this size."""
    order = get_order(size)
    if size != PAGE_SIZE << order:
        return False
    return order == hugetlb_page_order(mm) or (order == GIGANTIC_PAGE_ORDER and has_gigantic_pages(mm))


@kernel("arch/x86/include/asm/page_types.h", "HUGETLB_PAGE_ORDER", traced=False)
def hugetlb_page_order(mm: Mm) -> int:
    """The order of the ordinary huge pages: those that one entry of a PMD maps."""
    return mm.boot.direct_map.pmd_shift - PAGE_SHIFT


@kernel("arch/x86/mm/hugetlbpage.c", "gigantic_pages_init", traced=False)
def has_gigantic_pages(mm: Mm) -> bool:
    """Whether there are pages of 1 GiB: the CPU has them, and page tables have a level for them."""
    return boot_cpu_has(mm.boot, "pdpe1gb") and mm.boot.page_table_levels >= 4


@kernel("mm/hugetlb.c", "size_to_hstate", traced=False)
def size_to_hstate(hugetlb: Hugetlb, size: int) -> int | None:
    """The number of the pool with pages of `size` bytes, or None."""
    for nth, h in enumerate(hugetlb.registered()):
        if PAGE_SIZE << h.order == size:
            return nth
    return None


@kernel("mm/hugetlb.c", "hugetlb_add_hstate")
def hugetlb_add_hstate(mm: Mm, order: int) -> None:
    """Register a size of pages, if it isn't yet; a hugepages= that follows is for it."""
    hugetlb = mm.hugetlb
    if size_to_hstate(hugetlb, PAGE_SIZE << order) is not None:
        return
    h = hugetlb.hstates[hugetlb.hugetlb_max_hstate]
    h.order = order
    h.next_nid_to_alloc = min(memory_nodes(mm), default=0)
    hugetlb.parsed_hstate = hugetlb.hugetlb_max_hstate
    hugetlb.hugetlb_max_hstate += 1


@invented("node_states[N_MEMORY]", traced=False)
def memory_nodes(mm: Mm) -> list[int]:
    """The nodes that have memory."""
    return nodes_of(mm.node_has_memory)


@kernel("mm/hugetlb.c", "hugepagesz_setup")
def hugepagesz_setup(mm: Mm, value: str) -> None:
    """hugepagesz=SIZE: a hugepages= that follows means pages of this size."""
    hugetlb, size = mm.hugetlb, memparse(value)[0]
    hugetlb.parsed_valid_hugepagesz = 0
    if not arch_hugetlb_valid_size(mm, size):
        mm.boot.printk.info(f"HugeTLB: unsupported hugepagesz={value}")
        return
    known = size_to_hstate(hugetlb, size)
    if known is None:
        hugetlb_add_hstate(mm, get_order(size))
    else:
        # Naming a size twice makes no sense, except that the default size may have come without a number.
        default = hugetlb.parsed_default_hugepagesz and known == hugetlb.default_hstate_idx
        if not default or hugetlb.hstates[known].max_huge_pages:
            mm.boot.printk.info(f"HugeTLB: hugepagesz={value} specified twice, ignoring")
            return
        hugetlb.parsed_hstate = known
    hugetlb.parsed_valid_hugepagesz = 1


@kernel("mm/hugetlb.c", "default_hugepagesz_setup")
def default_hugepagesz_setup(mm: Mm, value: str) -> None:
    """default_hugepagesz=SIZE: the size that programs get which name none, and that /proc/meminfo tells about."""
    hugetlb, size = mm.hugetlb, memparse(value)[0]
    hugetlb.parsed_valid_hugepagesz = 0
    if hugetlb.parsed_default_hugepagesz:
        mm.boot.printk.info(f"HugeTLB: default_hugepagesz previously specified, ignoring {value}")
        return
    if not arch_hugetlb_valid_size(mm, size):
        mm.boot.printk.info(f"HugeTLB: unsupported default_hugepagesz={value}")
        return
    hugetlb_add_hstate(mm, get_order(size))
    hugetlb.parsed_valid_hugepagesz = hugetlb.parsed_default_hugepagesz = 1
    hugetlb.default_hstate_idx = size_to_hstate(hugetlb, size) or 0
    if hugetlb.default_hstate_max_huge_pages:
        h = hugetlb.hstates[hugetlb.default_hstate_idx]
        want_default_pages(hugetlb, h)
        hugetlb.default_hstate_max_huge_pages = 0
        if hstate_is_gigantic(h):
            hugetlb_hstate_alloc_pages(mm, hugetlb.default_hstate_idx)


@invented("lines that hugetlb_init and default_hugepagesz_setup share")
def want_default_pages(hugetlb: Hugetlb, h: Hstate) -> None:
    """A hugepages= that came before any size was meant for this pool."""
    h.max_huge_pages = hugetlb.default_hstate_max_huge_pages
    for nid, count in enumerate(hugetlb.default_hugepages_in_node):
        h.max_huge_pages_node[nid] = count


@kernel("mm/hugetlb.c", "hugepages_setup")
def hugepages_setup(mm: Mm, value: str) -> None:
    """hugepages=N, or hugepages=NODE:N,NODE:N: how many pages of the size named last, or of the default size."""
    hugetlb = mm.hugetlb
    if not hugetlb.parsed_valid_hugepagesz:
        mm.boot.printk.info(f"HugeTLB: hugepages={value} does not follow a valid hugepagesz, ignoring")
        hugetlb.parsed_valid_hugepagesz = 1
        return
    named = hugetlb.hugetlb_max_hstate > 0
    this_mhp = 1 + hugetlb.parsed_hstate if named else -1
    if this_mhp == hugetlb.last_mhp:
        mm.boot.printk.info(
            f"HugeTLB: hugepages= specified twice without interleaving hugepagesz=, ignoring hugepages={value}"
        )
        return
    h = hugetlb.hstates[hugetlb.parsed_hstate]
    in_node = h.max_huge_pages_node if named else hugetlb.default_hugepages_in_node
    wanted = h.max_huge_pages if named else hugetlb.default_hstate_max_huge_pages
    wanted, rest = note_hugepages(mm, in_node, wanted, value)
    if named:
        h.max_huge_pages = wanted
    else:
        hugetlb.default_hstate_max_huge_pages = wanted
    if rest:
        mm.boot.printk.info(f"HugeTLB: Invalid hugepages parameter {rest}")
        for nid in range(len(in_node)):
            in_node[nid] = 0
        return
    if named and hstate_is_gigantic(h):
        hugetlb_hstate_alloc_pages(mm, hugetlb.parsed_hstate)
    hugetlb.last_mhp = this_mhp


@invented("sscanf's %lu", traced=False)
def number_of(digits: str) -> int:
    """A number of pages or of a node; of one that no machine has, the most that a counter holds.

    >>> number_of("0012"), number_of("9" * 5000) == MOST_PAGES
    (12, True)
    """
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) < len(str(MOST_PAGES)) else MOST_PAGES


@invented("the loop of hugepages_setup")
def note_hugepages(mm: Mm, in_node: Column, wanted: int, value: str) -> tuple[int, str]:
    """Read N or NODE:N,NODE:N; gives how many pages are wanted in all then, and the text that can't be read."""
    rest = value
    while found := re.match(r"\s*(\d+)(?::\s*(\d+))?", rest):
        number, count = found.groups()
        if count is None:
            return (number_of(number), "") if rest is value and rest[found.end() :][:1] != ":" else (wanted, rest)
        if number_of(number) not in nodes_of(mm.numa.node_online):
            return wanted, rest
        in_node[number_of(number)] = number_of(count)
        wanted += number_of(count)
        if not rest[found.end() :].startswith(","):
            return wanted, ""
        rest = rest[found.end() + 1 :]
    return wanted, rest


@kernel("mm/hugetlb.c", "hugetlb_hstate_alloc_pages", left_out="hugetlb_cma=")
def hugetlb_hstate_alloc_pages(mm: Mm, which: int) -> None:
    """Take the pages that are wanted, from the nodes in turn unless numbers were given for single nodes."""
    h = mm.hugetlb.hstates[which]
    single = [(nid, count) for nid, count in enumerate(h.max_huge_pages_node) if count]
    for nid, count in single:
        got = 0
        while got < count and alloc_one(mm, which, [nid]):
            got += 1
        if got < count:
            size = huge_page_size_text(h)
            mm.boot.printk.info(
                f"HugeTLB: allocating {count} of page size {size} failed node{nid}.  Only allocated {got} hugepages."
            )
            h.max_huge_pages -= count - got
            h.max_huge_pages_node[nid] = got
    if single:
        return
    got = 0
    while got < h.max_huge_pages and alloc_one(mm, which, memory_nodes(mm)):
        got += 1
    if got < h.max_huge_pages:
        size = huge_page_size_text(h)
        mm.boot.printk.info(
            f"HugeTLB: allocating {h.max_huge_pages} of page size {size} failed.  Only allocated {got} hugepages."
        )
        h.max_huge_pages = got


@invented("C has a function for each of the two allocators, with the same loop over nodes")
def alloc_one(mm: Mm, which: int, nodes: list[int]) -> bool:
    """Take one page, from memblock or from the page allocator; False if there is none."""
    h = mm.hugetlb.hstates[which]
    if hstate_is_gigantic(h):
        return alloc_bootmem_huge_page(mm, which, nodes)
    return any(alloc_fresh_huge_page(mm, h, hstate_next_node_to_alloc(h, nodes)) for _ in nodes)


@kernel("mm/hugetlb.c", "hstate_next_node_to_alloc", traced=False)
def hstate_next_node_to_alloc(h: Hstate, nodes: list[int]) -> int:
    """The node whose turn it is; the next one will be the next time's."""
    nid = h.next_nid_to_alloc if h.next_nid_to_alloc in nodes else nodes[0]
    if len(nodes) > 1:
        h.next_nid_to_alloc = nodes[(nodes.index(nid) + 1) % len(nodes)]
    return nid


@kernel("mm/hugetlb.c", "__alloc_bootmem_huge_page")
def alloc_bootmem_huge_page(mm: Mm, which: int, nodes: list[int]) -> bool:
    """Take a gigantic page from memblock; the pool gets it later, when its struct pages are there."""
    hugetlb = mm.hugetlb
    h = hugetlb.hstates[which]
    nid = hstate_next_node_to_alloc(h, nodes)
    size = PAGE_SIZE << h.order
    addr = memblock_alloc_try_nid_raw(mm.boot.memblock, size, size, nid=nid, caller="__alloc_bootmem_huge_page")
    if not addr:
        return False
    hugetlb.boot_page[hugetlb.nr_boot_pages] = addr >> PAGE_SHIFT
    hugetlb.boot_page_hstate[hugetlb.nr_boot_pages] = which
    hugetlb.nr_boot_pages += 1
    return True


@kernel("mm/hugetlb.c", "htlb_alloc_mask", left_out="pages of 1 GiB: the buddy has none", traced=False)
def htlb_alloc_mask(mm: Mm) -> int:
    """Huge pages can be migrated on x86-64, so they may lie where all is movable; not on i386."""
    return GFP_HIGHUSER_MOVABLE if mm.boot.config.arch == "x86_64" else GFP_HIGHUSER


@kernel("mm/hugetlb.c", "alloc_fresh_huge_page", left_out="preparing the compound page")
def alloc_fresh_huge_page(mm: Mm, h: Hstate, nid: int) -> bool:
    """Take a page of the node from the page allocator into the pool."""
    gfp = htlb_alloc_mask(mm) | __GFP_THISNODE | __GFP_COMP | __GFP_NOWARN
    pfn = alloc_pages_inner(mm, gfp, h.order, nid)
    if pfn is None:
        return False
    enqueue_huge_page(h, pfn)
    return True


@kernel("mm/hugetlb.c", "enqueue_huge_page", traced=False)
def enqueue_huge_page(h: Hstate, pfn: int) -> None:
    """Put a page into the pool."""
    h.free_page[h.free_huge_pages] = pfn
    h.nr_huge_pages += 1
    h.free_huge_pages += 1


@kernel("mm/hugetlb.c", "remove_pool_huge_page")
def remove_pool_huge_page(mm: Mm, h: Hstate, nid: int) -> bool:
    """Give the page of the node that was put into the pool last back to the page allocator; False if it has none."""
    for at in reversed(range(h.free_huge_pages)):
        pfn = h.free_page[at]
        zone = page_zone(mm, pfn)
        if zone is not None and zone.node == nid:
            for later in range(at, h.free_huge_pages - 1):
                h.free_page[later] = h.free_page[later + 1]
            h.nr_huge_pages -= 1
            h.free_huge_pages -= 1
            free_pages_inner(mm, pfn, h.order)
            return True
    return False


@kernel("mm/hugetlb.c", "set_max_huge_pages", left_out="gigantic pages at run time; surplus and reserved pages")
def set_max_huge_pages(mm: Mm, which: int, count: int) -> None:
    """Let a pool grow or shrink to `count` pages, from the nodes in turn; it may stay short."""
    h, nodes = mm.hugetlb.hstates[which], memory_nodes(mm)
    if hstate_is_gigantic(h):
        return
    while h.nr_huge_pages < count and alloc_one(mm, which, nodes):
        pass
    while h.nr_huge_pages > count:
        if not any(remove_pool_huge_page(mm, h, hstate_next_node_to_alloc(h, nodes)) for _ in nodes):
            break
    h.max_huge_pages = h.nr_huge_pages


@kernel("mm/hugetlb.c", "hugetlb_init", left_out="sysfs, cgroups, fault mutexes, hugetlb_cma=")
def hugetlb_init(mm: Mm) -> None:
    """Make the pools whole: sizes that nobody named, pages of 2 MiB, and the gigantic pages that memblock gave."""
    hugetlb = mm.hugetlb
    if not boot_cpu_has(mm.boot, "pse"):
        if hugetlb.hugetlb_max_hstate or hugetlb.default_hstate_max_huge_pages:
            mm.boot.printk.info("HugeTLB: huge pages not supported, ignoring associated command-line parameters")
        return
    if has_gigantic_pages(mm):
        hugetlb_add_hstate(mm, GIGANTIC_PAGE_ORDER)  # gigantic_pages_init, an arch initcall
    hugetlb_add_hstate(mm, hugetlb_page_order(mm))
    if not hugetlb.parsed_default_hugepagesz:
        hugetlb.default_hstate_idx = size_to_hstate(hugetlb, PAGE_SIZE << hugetlb_page_order(mm)) or 0
        set_default_hugepages(mm)
    for which, h in enumerate(hugetlb.registered()):
        if not hstate_is_gigantic(h):
            hugetlb_hstate_alloc_pages(mm, which)
    gather_bootmem_prealloc(mm)
    report_hugepages(mm)


@invented("a part of hugetlb_init")
def set_default_hugepages(mm: Mm) -> None:
    """A hugepages= before any size was named is for the default size, whatever else was said of that."""
    hugetlb = mm.hugetlb
    wanted = hugetlb.default_hstate_max_huge_pages
    h = hugetlb.hstates[hugetlb.default_hstate_idx]
    if not wanted:
        return
    if h.max_huge_pages:
        size = huge_page_size_text(h)
        mm.boot.printk.info(f"HugeTLB: Ignoring hugepages={h.max_huge_pages} associated with {size} page size")
        mm.boot.printk.info(f"HugeTLB: Using hugepages={wanted} for number of default huge pages")
    want_default_pages(hugetlb, h)


@kernel("mm/hugetlb.c", "gather_bootmem_prealloc")
def gather_bootmem_prealloc(mm: Mm) -> None:
    """Put the gigantic pages into their pool: reserved so far, now managed by their zone, and held."""
    hugetlb = mm.hugetlb
    for nth in range(hugetlb.nr_boot_pages):
        h, pfn = hugetlb.hstates[hugetlb.boot_page_hstate[nth]], hugetlb.boot_page[nth]
        zone = page_zone(mm, pfn)
        assert zone is not None
        zone.managed_pages += 1 << h.order
        mm.totalram_pages += 1 << h.order
        zone.page.refcount[pfn] = 1
        zone.page.owned[pfn] = 1 + h.order
        zone.nr_owned += 1 << h.order
        enqueue_huge_page(h, pfn)


@kernel("mm/hugetlb.c", "report_hugepages")
def report_hugepages(mm: Mm) -> None:
    """Say which pools there are, and how much of the memory map their pages could do without."""
    for h in mm.hugetlb.registered():
        size = huge_page_size_text(h)
        spare = 0
        if mm.boot.config.sparsemem:  # only what is mapped page by page can be given back
            spare = (mm.boot.config.sizeof_page << h.order) - RESERVED_VMEMMAP_PAGES * PAGE_SIZE
        mm.boot.printk.info(f"HugeTLB: registered {size} page size, pre-allocated {h.free_huge_pages} pages")
        mm.boot.printk.info(f"HugeTLB: {spare // KIB} KiB vmemmap can be freed for a {size} page")
