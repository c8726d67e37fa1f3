"""The LRU lists under random use, against a plain model, and their law against seeded defects."""

from __future__ import annotations

import random

import pytest

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.machine.machine import Machine
from kmemlab.mm import lru as lru_room
from kmemlab.mm.check_lru import check_lru
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.folio_batch import folio_batch_add, folio_batch_reinit
from kmemlab.mm.lru import (
    deactivate_page,
    folio_activate,
    folio_add_lru,
    folio_isolate_lru,
    folio_mark_accessed,
    folio_putback_lru,
    lru_add_drain,
    lru_add_drain_all,
)
from kmemlab.mm.lru_list import folio_clear_lru_flags, lruvec_add_folio, lruvec_del_folio, update_lru_size
from kmemlab.mm.lruvec import LRU_ACTIVE_FILE, LRU_INACTIVE_ANON, LRU_INACTIVE_FILE
from kmemlab.mm.page_free import put_page
from kmemlab.mm.page_state import clear_page_flag, page_has_flag, set_page_flag
from kmemlab.mm.vm_event import PGACTIVATE, PGDEACTIVATE
from kmemlab.sim.list_head import list_add, list_for_each
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.pageflags import PG_active, PG_lru, PG_mlocked, PG_referenced, PG_swapbacked


@pytest.fixture
def mm():
    return Machine.boot("tiny-128m").kernel.mm


def new_page(mm, anon=False):
    pfn = alloc_pages_inner(mm, GFP_KERNEL, 0, 0)
    if anon:
        set_page_flag(mm.page, pfn, PG_swapbacked)
    folio_add_lru(mm, pfn)
    return pfn


def on_list(mm, lru):
    return list(list_for_each(mm.page.lru, mm.node_data[0].lruvec.head + lru))


def test_a_page_waits_in_a_batch_until_15_have_come(mm):
    pages = [new_page(mm) for _ in range(14)]
    assert on_list(mm, LRU_INACTIVE_FILE) == []
    assert all(mm.page.refcount[pfn] == 2 for pfn in pages)
    pages.append(new_page(mm))
    assert on_list(mm, LRU_INACTIVE_FILE) == pages[::-1]
    assert all(mm.page.refcount[pfn] == 1 for pfn in pages)
    assert mm.node_data[0].vm_stat[LRU_INACTIVE_FILE] == 15
    check_lru(mm)


def test_two_touches_make_a_page_active(mm):
    pfn = new_page(mm)
    lru_add_drain(mm)
    folio_mark_accessed(mm, pfn)
    assert page_has_flag(mm.page, pfn, PG_referenced)
    folio_mark_accessed(mm, pfn)
    assert not page_has_flag(mm.page, pfn, PG_referenced)
    assert on_list(mm, LRU_ACTIVE_FILE) == []  # still in a batch
    lru_add_drain(mm)
    assert on_list(mm, LRU_ACTIVE_FILE) == [pfn]
    assert (mm.vm_event[PGACTIVATE], mm.node_data[0].lruvec.nonresident_age) == (1, 1)
    deactivate_page(mm, pfn)
    lru_add_drain(mm)
    assert on_list(mm, LRU_INACTIVE_FILE) == [pfn]
    assert mm.vm_event[PGDEACTIVATE] == 1


def test_a_page_touched_twice_before_it_is_on_a_list_comes_there_as_an_active_one(mm):
    pfn = new_page(mm)
    folio_mark_accessed(mm, pfn)
    folio_mark_accessed(mm, pfn)
    lru_add_drain(mm)
    assert on_list(mm, LRU_ACTIVE_FILE) == [pfn]


def test_a_page_that_is_freed_while_it_waits_goes_when_the_batch_goes(mm):
    pfn = new_page(mm)
    put_page(mm, pfn)
    assert mm.page.owned[pfn]
    lru_add_drain(mm)
    assert not mm.page.owned[pfn]
    check_lru(mm)


def test_a_page_locked_into_memory_is_on_no_list_but_counted(mm):
    pfn = new_page(mm)
    set_page_flag(mm.page, pfn, PG_mlocked)
    lru_add_drain(mm)
    assert mm.node_data[0].vm_stat[:5].tolist() == [0, 0, 0, 0, 1]
    check_lru(mm)
    clear_page_flag(mm.page, pfn, PG_mlocked)
    assert folio_isolate_lru(mm, pfn)
    folio_putback_lru(mm, pfn)
    lru_add_drain(mm)
    assert on_list(mm, LRU_INACTIVE_FILE) == [pfn]


def play(mm, seed, steps=400, every=20):
    rng, pages, isolated = random.Random(seed), [], []
    for step in range(steps):
        mm.current.cpu = 0
        act = rng.randrange(8)
        if act < 3 or not pages:
            pages.append(new_page(mm, anon=rng.random() < 0.4))
        elif act == 3:
            put_page(mm, pages.pop(rng.randrange(len(pages))))
        elif act == 4:
            folio_activate(mm, rng.choice(pages))
        elif act == 5:
            deactivate_page(mm, rng.choice(pages))
        elif act == 6:
            folio_mark_accessed(mm, rng.choice(pages))
        else:
            pfn = rng.choice(pages)
            if folio_isolate_lru(mm, pfn):
                isolated.append(pfn)
                folio_putback_lru(mm, isolated.pop())
        if step % every == 0:
            check_lru(mm)
    lru_add_drain_all(mm)
    check_lru(mm)
    return pages


@pytest.mark.parametrize("seed", range(4))
def test_no_page_is_lost_or_on_two_lists_whatever_is_done(mm, seed):
    pages = play(mm, seed)
    listed = [pfn for lru in range(4) for pfn in on_list(mm, lru)]
    assert sorted(listed) == sorted(pages)
    for pfn in pages:
        put_page(mm, pfn)
    lru_add_drain_all(mm)
    assert [on_list(mm, lru) for lru in range(4)] == [[]] * 4
    assert mm.node_data[0].vm_stat[:5].tolist() == [0] * 5


# -- seeded defects ----------------------------------------------------------------------------------------------------


def adds_uncounted(mm, pfn):
    list_add(mm.page.lru, pfn, mm.node_data[0].lruvec.head + LRU_INACTIVE_FILE)


def adds_to_the_wrong_list(mm, pfn):
    lruvec_add_folio.original(mm, pfn)
    mm.page.flags[pfn] ^= 1 << PG_swapbacked


def leaves_it_listed(mm, pfn):
    update_lru_size(mm, pfn, lru_room_list(mm, pfn), -1)


def lru_room_list(mm, pfn):
    flags = mm.page.flags[pfn]
    anon = flags >> PG_swapbacked & 1
    return (LRU_INACTIVE_ANON if anon else LRU_INACTIVE_FILE) + (flags >> PG_active & 1)


def activates_without_moving(mm, pfn):
    set_page_flag(mm.page, pfn, PG_active)


def counts_the_node_only(mm, pfn, lru, nr_pages):
    mm.node_data[0].vm_stat[lru] += nr_pages


def forgets_the_batch(mm, cpu, kind):
    for pfn in lru_room.folio_batch(mm.cpu_fbatches, cpu, kind):
        set_page_flag(mm.page, pfn, PG_lru)
        put_page(mm, pfn)
    folio_batch_reinit(mm.cpu_fbatches, cpu, kind)


def frees_a_listed_page(mm, pfn):
    folio_clear_lru_flags(mm.page, pfn)


def batches_twice(batches, cpu, kind, pfn):
    folio_batch_add.original(batches, cpu, kind, pfn)
    return folio_batch_add.original(batches, cpu, kind, pfn)


DEFECTS = (
    (lruvec_add_folio, adds_uncounted),
    (lruvec_add_folio, adds_to_the_wrong_list),
    (lruvec_del_folio, leaves_it_listed),
    (lru_room.folio_activate_fn, activates_without_moving),
    (update_lru_size, counts_the_node_only),
    (lru_room.folio_batch_move_lru, forgets_the_batch),
    (lruvec_del_folio, frees_a_listed_page),
    (folio_batch_add, batches_twice),
)


@pytest.mark.parametrize(("right", "wrong"), DEFECTS, ids=[wrong.__name__ for _, wrong in DEFECTS])
def test_the_law_catches(mm, right, wrong):
    with livepatch(right, wrong), pytest.raises((BrokenLaw, KmemlabError)):
        play(mm, 1, steps=150, every=1)
