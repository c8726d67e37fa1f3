"""A memory test finds every word that does not keep a pattern, and nobody is given one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.boot.early_memtest import PATTERNS, early_memtest
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_add, memblock_init, memblock_reserve
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.errors import BadParameter, BadSpec

MIB = 1 << 20
BASE, SIZE = MIB, 64 * 8
WORDS = st.integers(0, SIZE // 8 - 1)


def brute(taken: set[int], bad: dict[int, int], tests: int) -> set[int]:
    """Write and read every word, one by one."""
    for number in range(tests - 1, -1, -1):
        pattern = PATTERNS[number % 17]
        for word in range(SIZE // 8):
            if word not in taken and pattern & ~bad.get(word, 0) != pattern:
                taken.add(word)
    return taken


@settings(deadline=None)
@given(
    st.sets(WORDS, max_size=12),
    st.lists(st.tuples(WORDS, st.integers(0, 6), st.sampled_from([1, 2, 0x8000000000000000, 2**64 - 1])), max_size=5),
    st.integers(0, 40),
)
def test_the_words_that_are_kept_back_are_those_that_fail(
    reserved: set[int], bad_ram: list[tuple[int, int, int]], tests: int
) -> None:
    rows = [[BASE + 8 * word, min(BASE + 8 * (word + more) + 7, BASE + SIZE - 1), bits] for word, more, bits in bad_ram]
    boot = Boot(load_spec({"e820": [], "bad_ram": rows}))
    memblock_init(boot.memblock)
    memblock_add(boot.memblock, BASE, SIZE)
    for word in reserved:
        memblock_reserve(boot.memblock, BASE + 8 * word, 8)
    boot.memtest_pattern = tests
    early_memtest(boot, 0, BASE + SIZE)
    bad: dict[int, int] = {}
    for start, end, bits in rows:
        for word in range((start - BASE) // 8, (end - BASE) // 8 + 1):
            bad[word] = bad.get(word, 0) | bits
    kept = {
        word
        for at in range(boot.memblock.reserved.cnt)
        for word in range((boot.memblock.reserved.base[at] - BASE) // 8, (boot.memblock.reserved.end(at) - BASE) // 8)
        if boot.memblock.reserved.size[at]
    }
    want = brute(set(reserved), bad, tests)
    assert kept <= want
    # A bad word that joins two reserved regions makes C's walk, and so ours, step over the next gap in this pass.
    if not any(word + near in reserved for word in bad for near in (-1, 1)):
        assert kept == want


def test_what_linux_says() -> None:
    boot = Boot(
        load_spec({"e820": [], "bad_ram": [[BASE + 0x2004, BASE + 0x200F, 1], [BASE + 0x5000, BASE + 0x5000, 2]]})
    )
    memblock_init(boot.memblock)
    memblock_add(boot.memblock, BASE, 0x10000)
    memblock_reserve(boot.memblock, BASE + 0x8000, 0x1000)
    boot.memtest_pattern = 3
    early_memtest(boot, 0, BASE + 0xC000)
    assert list(boot.printk.lines()) == [
        "early_memtest: # of tests: 3",
        "  0x0000000000100000 - 0x0000000000108000 pattern 5555555555555555",
        "  5555555555555555 bad mem addr 0x0000000000102000 - 0x0000000000102010 reserved",
        "  0x0000000000102010 - 0x0000000000108000 pattern 5555555555555555",
        "  0x0000000000109000 - 0x000000000010c000 pattern 5555555555555555",
        "  0x0000000000100000 - 0x0000000000102000 pattern ffffffffffffffff",
        "  0x0000000000102010 - 0x0000000000108000 pattern ffffffffffffffff",
        "  ffffffffffffffff bad mem addr 0x0000000000105000 - 0x0000000000105008 reserved",
        "  0x0000000000105008 - 0x0000000000108000 pattern ffffffffffffffff",
        "  0x0000000000109000 - 0x000000000010c000 pattern ffffffffffffffff",
        "  0x0000000000100000 - 0x0000000000102000 pattern 0000000000000000",
        "  0x0000000000102010 - 0x0000000000105000 pattern 0000000000000000",
        "  0x0000000000105008 - 0x0000000000108000 pattern 0000000000000000",
        "  0x0000000000109000 - 0x000000000010c000 pattern 0000000000000000",
    ]


def spec(cmdline: str) -> dict[str, object]:
    ram = [[0, 0x9FBFF, "usable"], [MIB, 128 * MIB - 1, "usable"]]
    return {"e820": ram, "cmdline": cmdline, "bad_ram": [[0x5000123, 0x5000123, 0x100]]}


@pytest.mark.parametrize(("cmdline", "passes"), [("", 0), ("memtest", 17), ("memtest=0x2", 2), ("memtest=0", 0)])
def test_a_bad_frame_is_nobodys(cmdline: str, passes: int) -> None:
    machine = Machine.boot(spec(cmdline))
    assert machine.dmesg().count("early_memtest:") == bool(passes)
    firsts = [text for text in machine.dmesg().splitlines() if "  0x0000000000001000 - " in text and "pattern" in text]
    assert len(firsts) in (0, passes)
    whole = Machine.boot(spec("")).kernel.mm.totalram_pages
    assert machine.kernel.mm.totalram_pages == whole - bool(passes)
    assert ("bad mem addr 0x0000000005000120 - 0x0000000005000128 reserved" in machine.dmesg()) == bool(passes)
    machine.check()


def test_numbers_that_are_none_and_tests_without_end() -> None:
    assert "Malformed early option 'memtest'\n" in Machine.boot(spec("memtest=many")).dmesg()
    with pytest.raises(BadParameter, match="4000000000 times"):
        Machine.boot(spec("memtest=4000000000"))


def test_bad_ram_needs_bits() -> None:
    with pytest.raises(BadSpec, match="must have 3 items"):
        load_spec({"e820": [], "bad_ram": [[0, 7]]})
    with pytest.raises(BadSpec, match="outside 1"):
        load_spec({"e820": [], "bad_ram": [[0, 7, 0]]})
