"""The laws between counters hold in an ordinary run, and catch whoever counts wrongly."""

from __future__ import annotations

import pytest

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import si_mem_available
from kmemlab.mm.lru_list import update_lru_size
from kmemlab.mm.page_cache import filemap_add_folio
from kmemlab.mm.page_writeback import count_pending, folio_end_writeback
from kmemlab.mm.reclaim_table import try_to_free_pages
from kmemlab.mm.vm_event import ALLOCSTALL, PGPGOUT, PGSCAN_FILE, PGSCAN_SKIP, PGSTEAL_FILE
from kmemlab.mm.vmstat import NR_FILE_PAGES, NR_ISOLATED_ANON
from kmemlab.mm.wait import submit_bio
from kmemlab.mm.workingset import WORKINGSET_ACTIVATE_BASE, workingset_refault
from kmemlab.reclaim.shrink_list import shrink_inactive_list
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.gfp import __GFP_NOWARN, GFP_HIGHUSER_MOVABLE
from tests.reclaim.counter_laws import check_counters, counters
from tests.reclaim.test_pressure_machine import SMALL

PAGE = 4096


def run(machine):
    """Files are read twice, written and streamed, and pages are taken, with the laws looked at in between."""
    told = check_counters(machine)
    for number, pages in enumerate((400, 3000)):
        machine.create_file(f"f{number}", pages)
    for start in range(0, 400, 40):
        machine.write_file("f0", start * PAGE, b"x" * 20 * PAGE)
        told = check_counters(machine, told)
    held = [alloc_pages_inner(machine.kernel.mm, GFP_HIGHUSER_MOVABLE | __GFP_NOWARN, 0, 0) for _ in range(3000)]
    for _ in range(2):
        for start in range(0, 3000, 500):
            machine.read_file("f1", start * PAGE, 500 * PAGE)
            told = check_counters(machine, told)
    machine.sync()
    told = check_counters(machine, told)
    while (pfn := alloc_pages_inner(machine.kernel.mm, GFP_HIGHUSER_MOVABLE | __GFP_NOWARN, 0, 0)) is not None:
        held.append(pfn)
    told = check_counters(machine, told)
    machine.drop_caches(3)
    return check_counters(machine, told)


def test_in_an_ordinary_run_all_counters_agree():
    machine = Machine.boot(SMALL)
    told = run(machine)
    for name in ("pgsteal_kswapd", "pgsteal_direct", "workingset_refault_file", "nr_written"):
        assert told[name] > 0, name
    assert counters(machine) == told
    machine.check()


# -- seeded defects ----------------------------------------------------------------------------------------------------


def counts_the_node_alone(mm, pfn, lru, nr_pages):
    mm.node_data[0].vm_stat[lru] += nr_pages


def forgets_the_zone(mm, pfn, item, nr_pages):
    mm.node_data[0].vm_stat[item] += nr_pages


def counts_no_file_page(mm, mapping, pfn, index, gfp):
    filemap_add_folio.original(mm, mapping, pfn, index, gfp)
    mm.node_data[0].vm_stat[NR_FILE_PAGES] -= 1


def says_twice_what_it_writes(mm, pfn, block, write):
    submit_bio.original(mm, pfn, block, write)
    mm.vm_event[PGPGOUT] += 4 * write


def forgets_what_was_written(mm, pfn):
    node = mm.node_data[0]
    before = list(node.vm_stat)
    folio_end_writeback.original(mm, pfn)
    for item, count in enumerate(before):
        if node.vm_stat[item] == count + 1:
            node.vm_stat[item] = count


def counts_no_stall(mm, gfp, order, nid, highest_zoneidx):
    before = list(mm.vm_event)
    freed = try_to_free_pages.original(mm, gfp, order, nid, highest_zoneidx)
    for item in range(ALLOCSTALL, PGSCAN_SKIP):
        mm.vm_event[item] = before[item]
    return freed


def boasts_of_what_it_freed(mm, pgdat, nr_to_scan, lru, sc):
    freed = shrink_inactive_list.original(mm, pgdat, nr_to_scan, lru, sc)
    mm.vm_event[PGSTEAL_FILE] += 1
    return freed


def looks_uncounted(mm, pgdat, nr_to_scan, lru, sc):
    before = mm.vm_event[PGSCAN_FILE]
    freed = shrink_inactive_list.original(mm, pgdat, nr_to_scan, lru, sc)
    mm.vm_event[PGSCAN_FILE] = before
    return freed


def keeps_pages_isolated(mm, pgdat, nr_to_scan, lru, sc):
    freed = shrink_inactive_list.original(mm, pgdat, nr_to_scan, lru, sc)
    pgdat.vm_stat[NR_ISOLATED_ANON + 1] += 1
    return freed


def activates_what_never_came_back(mm, pfn, shadow):
    workingset_refault.original(mm, pfn, shadow)
    mm.node_data[0].vm_stat[WORKINGSET_ACTIVATE_BASE + 1] += 3


def promises_the_reserves(kernel):
    return si_mem_available.original(kernel) + kernel.mm.totalreserve_pages


DEFECTS = (
    (update_lru_size, counts_the_node_alone),
    (count_pending, forgets_the_zone),
    (filemap_add_folio, counts_no_file_page),
    (submit_bio, says_twice_what_it_writes),
    (folio_end_writeback, forgets_what_was_written),
    (try_to_free_pages, counts_no_stall),
    (shrink_inactive_list, boasts_of_what_it_freed),
    (shrink_inactive_list, looks_uncounted),
    (shrink_inactive_list, keeps_pages_isolated),
    (workingset_refault, activates_what_never_came_back),
    (si_mem_available, promises_the_reserves),
)


@pytest.mark.parametrize(("right", "wrong"), DEFECTS, ids=[wrong.__name__ for _, wrong in DEFECTS])
def test_a_law_catches(right, wrong):
    machine = Machine.boot(SMALL)
    with livepatch(right, wrong), pytest.raises(AssertionError):
        run(machine)
