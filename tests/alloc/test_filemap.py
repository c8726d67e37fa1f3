"""The page cache against a plain model of the files' bytes; readahead, write-back, its limits; rewind."""

from __future__ import annotations

import pickle
import random

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo
from kmemlab.mm.address_space import filemap_get_folio, page_cache_delete
from kmemlab.mm.check_page_cache import check_page_cache
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.lru import folio_add_lru
from kmemlab.mm.page_cache import filemap_add_folio
from kmemlab.mm.page_writeback import folio_clear_dirty_for_io, folio_mark_dirty, global_dirty_limits
from kmemlab.mm.vmstat import NR_FILE_DIRTY, NR_FILE_PAGES, NR_WRITEBACK
from kmemlab.mm.xarray import xa_set_mark
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.types.pageflags import PG_active, PG_dirty
from kmemlab.types.units import PAGE_SIZE


@pytest.fixture
def machine():
    return Machine.boot("tiny-128m")


def node(machine, item):
    return machine.kernel.mm.node_data[0].vm_stat[item]


def cached(machine, ino=1):
    mm = machine.kernel.mm
    return {
        i for i in range(mm.files.nr_pages[ino]) if filemap_get_folio(mm.mappings, mm.files.mapping[ino], i) is not None
    }


def window(machine, ino=1):
    files = machine.kernel.mm.files
    return files.ra_start[ino], files.ra_size[ino], files.ra_async_size[ino]


def test_the_window_grows_as_long_as_the_reader_goes_straight_on(machine):
    machine.create_file("data", 1000)
    seen = []
    for index in range(120):
        machine.read_file("data", index * PAGE_SIZE, PAGE_SIZE)
        if not seen or window(machine) != seen[-1]:
            seen.append(window(machine))
    assert seen == [(0, 4, 3), (4, 8, 8), (12, 16, 16), (28, 32, 32), (60, 32, 32), (92, 32, 32), (124, 32, 32)]


def test_a_random_reader_gets_what_he_asks_for(machine):
    machine.create_file("data", 1000)
    for index in (500, 20, 800, 333):
        machine.read_file("data", index * PAGE_SIZE, PAGE_SIZE)
    assert cached(machine) == {500, 20, 800, 333}


def test_a_reader_who_jumps_and_then_goes_straight_on_starts_with_a_small_window(machine):
    machine.create_file("data", 1000)
    for index in range(60):
        machine.read_file("data", index * PAGE_SIZE, PAGE_SIZE)
    assert window(machine)[1] == 32
    machine.read_file("data", 700 * PAGE_SIZE, PAGE_SIZE)
    machine.read_file("data", 701 * PAGE_SIZE, PAGE_SIZE)
    assert window(machine)[0] == 701
    assert window(machine)[1] < 32


def test_reading_straight_on_takes_less_time_than_jumping(machine):
    machine.create_file("data", 3000)
    current = machine.kernel.mm.current
    start = current.jiffies
    for index in range(500):
        machine.read_file("data", index * PAGE_SIZE, PAGE_SIZE)
    straight = current.jiffies - start
    start = current.jiffies
    for index in random.Random(1).sample(range(1000, 3000), 500):
        machine.read_file("data", index * PAGE_SIZE, PAGE_SIZE)
    assert current.jiffies - start > 20 * straight


def test_reading_a_page_twice_in_a_row_is_one_use_and_coming_back_is_another(machine):
    machine.create_file("data", 100)
    mm = machine.kernel.mm
    machine.read_file("data", 0, 1)
    machine.read_file("data", 1, 1)
    pfn = filemap_get_folio(mm.mappings, mm.files.mapping[1], 0)
    assert not mm.page.flags[pfn] >> PG_active & 1
    machine.read_file("data", 50 * PAGE_SIZE, 1)
    machine.read_file("data", 0, 1)
    assert mm.page.flags[pfn] >> PG_active & 1


def test_what_is_old_is_written_after_30_seconds(machine):
    machine.create_file("data", 100)
    machine.write_file("data", 0, b"x" * PAGE_SIZE * 10)
    machine.wait(20)
    assert node(machine, NR_FILE_DIRTY) == 11
    machine.wait(20)
    assert (node(machine, NR_FILE_DIRTY), node(machine, NR_WRITEBACK)) == (0, 0)
    machine.check()


def test_who_writes_too_much_waits(machine):
    machine.create_file("data", 12000)
    mm, most = machine.kernel.mm, 0
    for start in range(0, 12000, 500):
        machine.write_file("data", start * PAGE_SIZE, b"y" * PAGE_SIZE * 500)
        most = max(most, node(machine, NR_FILE_DIRTY) + node(machine, NR_WRITEBACK))
        background, thresh = global_dirty_limits(mm)
        assert node(machine, NR_FILE_DIRTY) + node(machine, NR_WRITEBACK) <= (background + thresh) // 2
    assert most > background // 2
    machine.sync()
    machine.check()
    assert machine.read_file("data", 11999 * PAGE_SIZE) == b"y" * PAGE_SIZE


def play(machine, rng, steps, model, check=True):
    for _ in range(steps):
        name = rng.choice(sorted(model))
        at = rng.randrange(len(model[name]))
        size = rng.choice([1, 100, PAGE_SIZE, 5 * PAGE_SIZE])
        act = rng.randrange(10)
        if act < 4:
            assert machine.read_file(name, at, size) == bytes(model[name][at : at + size])
        elif act < 8:
            at = at // PAGE_SIZE * PAGE_SIZE if rng.random() < 0.5 else at
            data = rng.randbytes(16) * (size // 16 + 1)
            data = data[: min(size, len(model[name]) - at)]
            machine.write_file(name, at, data)
            model[name][at : at + len(data)] = data
        elif act == 8:
            (machine.drop_caches if rng.random() < 0.6 else machine.sync)()
        else:
            machine.tick(rng.randrange(300))
        if check:
            check_page_cache(machine.kernel.mm)
    machine.check()


def files(machine):
    model = {}
    for number, pages in enumerate((3, 40, 300)):
        machine.create_file(f"f{number}", pages)
        model[f"f{number}"] = bytearray(b"".join(bytes((n % 251 + 1,)) * PAGE_SIZE for n in range(pages)))
    return model


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_was_written_is_lost(machine, seed):
    model = files(machine)
    play(machine, random.Random(seed), 150, model)
    machine.sync()
    machine.drop_caches()
    assert node(machine, NR_FILE_PAGES) == 0
    for name, data in model.items():
        assert machine.read_file(name) == bytes(data)


def test_rewound_and_run_again_it_ends_the_same(machine):
    model = files(machine)
    with machine.recording() as timeline:
        play(machine, random.Random(9), 40, model)
        mm = machine.kernel.mm
        end = list(mm.page.flags), list(mm.vm_event), mm.current.jiffies, list(mm.disk.done_at)
        timeline.rewind(15)
        model_then = mm.current.jiffies
        assert model_then < end[2]
        machine.check()
        timeline.to_end()
        assert (list(mm.page.flags), list(mm.vm_event), mm.current.jiffies, list(mm.disk.done_at)) == end
    twin = machine.fork()
    assert twin.read_file("f1") == bytes(model["f1"])
    twin.check()
    assert pickle.loads(pickle.dumps(machine)).read_file("f2") == bytes(model["f2"])


def test_meminfo_tells_of_the_cache(machine):
    machine.create_file("data", 500)
    machine.read_file("data")
    machine.write_file("data", 0, b"x" * 2 * PAGE_SIZE)
    lines = dict(line.split(":") for line in meminfo(machine.kernel).splitlines())
    told = [int(lines[name].split()[0]) for name in ("Buffers", "Cached", "Dirty", "Writeback")]
    assert told == [4, 2000, 12, 0]  # two pages, and the inode's block


def test_mistakes_are_told(machine):
    machine.create_file("data", 3)
    with pytest.raises(BadRequest, match="no file"):
        machine.read_file("other")
    with pytest.raises(BadRequest, match="within the file"):
        machine.write_file("data", 3 * PAGE_SIZE, b"x")
    with pytest.raises(BadRequest, match="can't be used"):
        machine.create_file("data", 3)
    with pytest.raises(BadRequest, match="no room"):
        machine.create_file("huge", 1 << 40)


# -- seeded defects ----------------------------------------------------------------------------------------------------


def adds_without_lru(mm, pfn):
    pass


def forgets_the_shadow_of_a_count(mappings, mapping, index, shadow):
    page_cache_delete.original(mappings, mapping, index, shadow)
    mappings.nrpages[mapping] += 1


def cleans_uncounted(mm, pfn):
    was = mm.page.flags[pfn] >> PG_dirty & 1
    mm.page.flags[pfn] &= ~(1 << PG_dirty)
    return bool(was)


def dirties_uncounted(mm, pfn):
    was = mm.page.flags[pfn] >> PG_dirty & 1
    mm.page.flags[pfn] |= 1 << PG_dirty
    return not was


def tags_nothing(trees, tree, index, mark):
    pass


def adds_at_the_wrong_place(mm, mapping, pfn, index, gfp):
    filemap_add_folio.original(mm, mapping, pfn, index, gfp)
    mm.page.index[pfn] = index + 1


DEFECTS = (
    (folio_add_lru, adds_without_lru),
    (page_cache_delete, forgets_the_shadow_of_a_count),
    (folio_clear_dirty_for_io, cleans_uncounted),
    (folio_mark_dirty, dirties_uncounted),
    (xa_set_mark, tags_nothing),
    (filemap_add_folio, adds_at_the_wrong_place),
)


@pytest.mark.parametrize(("right", "wrong"), DEFECTS, ids=[wrong.__name__ for _, wrong in DEFECTS])
def test_the_law_catches(machine, right, wrong):
    model = files(machine)
    with livepatch(right, wrong), pytest.raises((BrokenLaw, AssertionError, KmemlabError)):
        play(machine, random.Random(2), 60, model)
