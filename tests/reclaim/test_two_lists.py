"""The bare two lists against a C program's miss ratios on a million accesses, and against plain Python lists."""

from __future__ import annotations

import random

import pytest

from kmemlab.reclaim.two_lists import TwoLists

np = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def accesses():
    """A million accesses to 65,536 pages, the n-th most popular one used 1/n as often as the first."""
    generator, pages = np.random.default_rng(7), 65536
    weights = 1 / np.arange(1, pages + 1)
    weights /= weights.sum()
    return generator.permutation(pages)[generator.choice(pages, size=1_000_000, p=weights)].tolist()


@pytest.mark.parametrize(("frames", "ratio"), [(1024, 0.4045), (16384, 0.1563)])
def test_the_miss_ratios_of_c(accesses, frames, ratio):
    assert round(TwoLists(65536, frames).misses(accesses) / len(accesses), 4) == ratio


def plain(accesses, frames):
    """The same policy with lists whose first entry is the head."""
    active, inactive, referenced, missed = [], [], set(), 0
    for page in accesses:
        if page in active or page in inactive:
            if page in inactive and page in referenced:
                inactive.remove(page)
                active.insert(0, page)
                referenced.discard(page)
            else:
                referenced.add(page)
            continue
        missed += 1
        if len(active) + len(inactive) == frames:
            while len(inactive) < len(active) or not inactive:
                old = active.pop()
                (active if old in referenced else inactive).insert(0, old)
                referenced.discard(old)
            while inactive[-1] in referenced:
                referenced.discard(inactive[-1])
                inactive.insert(0, inactive.pop())
            inactive.pop()
        inactive.insert(0, page)
    return missed


@pytest.mark.parametrize("seed", range(20))
def test_like_plain_lists(seed):
    rng = random.Random(seed)
    frames, pages = rng.randrange(1, 12), rng.randrange(2, 30)
    accesses = [min(rng.randrange(pages), rng.randrange(pages)) for _ in range(600)]
    assert TwoLists(pages, frames).misses(accesses) == plain(accesses, frames)
