"""MTRRs: look-up against every page asked alone, the text of real machines, RAM that is lost, ranges that are added."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmemlab.boot.globals import Boot
from kmemlab.boot.mtrr import generic_get_mtrr, mtrr_bp_init, mtrr_lines, mtrr_type_lookup
from kmemlab.boot.mtrr_add import mtrr_add, mtrr_del, set_mtrr
from kmemlab.boot.mtrr_trim import mtrr_trim_uncached_memory
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.errors import BadRequest, BadSpec
from tests.boot.captures import MACHINES, NAMES, memory_map

GIB, MIB = 1 << 30, 1 << 20
UC, WC, WT, WP, WB = 0, 1, 4, 5, 6
FLAGS = ["mtrr", "pat"]
Range = tuple[int, int, int]  # base and size in bytes, type


def line(reg: int, base: int, size: int, name: str) -> str:
    return f"reg{reg:02}: base=0x{base >> 12:06x}000 ({base >> 20:5}MB), size={size >> 20:5}MB, count=1: {name}"


def machine(*lines: str, e820: tuple[tuple[int, int], ...] = ((0, GIB),), **more: object) -> dict[str, object]:
    ram = [[start, end - 1, "usable"] for start, end in e820]
    return {"e820": ram, "mtrr": list(lines), "cpus": {"flags": FLAGS, "phys_bits": 40}, **more}


def with_ranges(ranges: list[Range], default: str = "write-back") -> Boot:
    boot = Boot(load_spec(machine(mtrr_default=default)))
    boot.mtrr.msr.post()
    mtrr_bp_init(boot)
    for reg, (base, size, type) in enumerate(ranges):
        set_mtrr(boot.mtrr, reg, base >> 12, size >> 12, type)
    return boot


WORKED = [(0, 4 * GIB, WB), (3 * GIB, GIB, UC)]


@pytest.mark.parametrize(("addr", "type"), [(2 * GIB, WB), (7 * GIB // 2, UC), (9 * GIB // 2, UC)])
def test_write_back_below_4g_with_a_hole(addr: int, type: int) -> None:
    boot = with_ranges(WORKED, "uncachable")
    assert mtrr_type_lookup(boot.mtrr, addr, addr + 4096)[0] == type
    assert boot.mtrr.msr.type_of(addr) == type


def combined(types: set[int]) -> int:
    if len(types) == 1:
        return next(iter(types))
    return WT if types == {WB, WT} else UC


RANGES = st.lists(
    st.integers(0, 7).flatmap(
        lambda order: st.tuples(
            st.integers(0, 127).map(lambda at: 16 * MIB + (at >> order << order) * 4096),
            st.just(4096 << order),
            st.sampled_from([UC, WC, WT, WP, WB, WB]),
        )
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(RANGES, st.sampled_from(["write-back", "uncachable", "write-through"]), st.integers(0, 127), st.integers(1, 128))
def test_a_look_up_is_all_its_pages_together(ranges: list[Range], default: str, first: int, pages: int) -> None:
    boot = with_ranges(ranges, default)
    other = {"write-back": WB, "uncachable": UC, "write-through": WT}[default]
    start, end = 16 * MIB + first * 4096, 16 * MIB + (first + pages) * 4096
    of_page = []
    for addr in range(start, end, 4096):
        types = {type for base, size, type in ranges if base <= addr < base + size}
        of_page.append(frozenset(types or {other}))
        assert boot.mtrr.msr.type_of(addr) == combined(set(of_page[-1]))
    want = combined({combined(set(types)) for types in of_page})
    found, uniform = mtrr_type_lookup(boot.mtrr, start, end)
    assert found == want
    if uniform:
        assert len(set(of_page)) == 1


def test_below_1m_the_fixed_ranges_decide() -> None:
    boot = with_ranges([(0, 4 * GIB, WC)])
    found = [
        mtrr_type_lookup(boot.mtrr, addr, addr + 4096) for addr in (0, 0x9F000, 0xA0000, 0xBF000, 0xC0000, 0xFF000)
    ]
    assert [type for type, _ in found] == [WB, WB, UC, UC, WP, WP]
    assert not any(uniform for _, uniform in found)
    assert mtrr_type_lookup(boot.mtrr, MIB, 2 * MIB) == (WC, True)


def test_no_mtrrs_no_answer() -> None:
    boot = Boot(load_spec({"e820": [], "cpus": {"flags": []}}))
    boot.mtrr.msr.post()
    mtrr_bp_init(boot)
    assert mtrr_type_lookup(boot.mtrr, GIB, 2 * GIB) == (0xFF, True)
    assert boot.mtrr.msr.type_of(GIB) == UC


@pytest.mark.parametrize("name", NAMES)
def test_proc_mtrr_of_a_real_machine_comes_back(name: str) -> None:
    spec = load_spec(MACHINES / name)
    boot = Boot(spec)
    boot.mtrr.msr.post()
    mtrr_bp_init(boot)
    assert tuple(mtrr_lines(boot.mtrr)) == spec.mtrr


def trimmed(*lines: str, **more: object) -> tuple[Boot, list[str], bool]:
    spec = machine(*lines, **more)  # type: ignore[arg-type]
    boot = memory_map(spec)
    boot.mtrr.msr.post()
    mtrr_bp_init(boot)
    before = len(boot.printk.lines())
    changed = mtrr_trim_uncached_memory(boot, boot.max_pfn)
    return boot, list(boot.printk.lines()[before:]), changed


SIX_GIB = ((0, 0x9F000), (MIB, 3 * GIB), (4 * GIB, 6 * GIB))


def test_ram_that_no_range_covers_is_lost() -> None:
    lines = (line(0, 0, 4 * GIB, "write-back"), line(1, 3 * GIB, GIB, "uncachable"))
    boot, said, changed = trimmed(*lines, e820=SIX_GIB)
    assert changed
    assert said == [
        "e820: update [mem 0xc0000000-0x17fffffff] usable ==> reserved",
        "WARNING: BIOS bug: CPU MTRRs don't cover all of memory, losing 2048MB of RAM.",
        "update e820 for mtrr",
        "modified physical RAM map:",
        "modified: [mem 0x0000000000000000-0x0000000000000fff] reserved",
        "modified: [mem 0x0000000000001000-0x000000000009efff] usable",
        "modified: [mem 0x0000000000100000-0x00000000bfffffff] usable",
        "modified: [mem 0x0000000100000000-0x000000017fffffff] reserved",
    ]
    ram = [(entry.addr, entry.end) for entry in boot.e820_table.entries() if entry.type == 1]
    assert ram == [(0x1000, 0x9F000), (MIB, 3 * GIB)]


@pytest.mark.parametrize(
    ("lines", "more", "said"),
    [
        ((line(0, 3 * GIB, GIB, "uncachable"),), {}, []),  # the default is write-back
        ((line(0, 0, 8 * GIB, "write-back"),), {}, []),  # all is covered
        ((line(0, 0, 4 * GIB, "write-back"),), {"cmdline": "disable_mtrr_trim"}, []),
        ((line(0, 0, 4 * GIB, "write-back"), line(1, 4 * GIB, GIB, "write-combining")), {}, []),
        ((), {"mtrr_default": "uncachable"}, ["CPU MTRRs all blank - virtualized system."]),
    ],
)
def test_nothing_is_lost(lines: tuple[str, ...], more: dict[str, object], said: list[str]) -> None:
    boot, found, changed = trimmed(*lines, e820=SIX_GIB, **more)
    assert (found, changed) == (said, False)
    assert sum(entry.size for entry in boot.e820_table.entries() if entry.type == 1) > 5 * GIB - 2 * MIB


def test_a_machine_that_loses_ram_boots_with_the_rest() -> None:
    spec = machine(line(0, 0, 512 * MIB, "write-back"), e820=((0, 0x9F000), (MIB, GIB)), kernel="amd64-6.1")
    booted = Machine.boot(spec)
    assert "losing 512MB of RAM" in booted.dmesg()
    assert booted.kernel.boot.max_pfn == 512 * MIB >> 12


def test_a_range_is_added_used_twice_and_given_back() -> None:
    boot = with_ranges([(0, 4 * GIB, WB)])
    assert mtrr_add(boot, 0xD0000000, 256 * MIB, UC) == 1
    assert mtrr_add(boot, 0xD0000000, 256 * MIB, UC) == 1
    assert mtrr_lines(boot.mtrr)[1].endswith("base=0x0d0000000 ( 3328MB), size=  256MB, count=2: uncachable")
    assert mtrr_type_lookup(boot.mtrr, 0xD0000000, 0xD0001000)[0] == UC
    assert (mtrr_del(boot, -1, 0xD0000000, 256 * MIB), mtrr_del(boot, 1, 0, 0)) == (1, 1)
    assert len(mtrr_lines(boot.mtrr)) == 1
    assert mtrr_del(boot, -1, 0xD0000000, 256 * MIB) == -22
    with pytest.raises(BadRequest, match="MTRR 1 not used"):
        mtrr_del(boot, 1, 0, 0)


@pytest.mark.parametrize(
    ("base", "size", "type", "said"),
    [
        (0xD0000100, 4096, UC, "size and base must be multiples of 4 kiB"),
        (0xD0000000, 0, UC, "zero sized request"),
        (0xD0000000, 0x3000, UC, "base(0xd0000000) is not aligned on a size(0x3000) boundary"),
        (0x3000, 0x2000, UC, "base(0x3000) is not aligned on a size(0x2000) boundary"),
        (0xD0000000, 4096, 9, "type: 9 invalid"),
        (1 << 40, 4096, UC, "base or size exceeds the MTRR width"),
        (0, 4 * GIB, WC, "0x0000,0x100000000 overlaps existing 0x40000000,0x40000000"),
        (0x50000000, 4096, WC, "type mismatch for 50000000,1000 old: write-back new: write-combining"),
    ],
)
def test_what_is_refused(base: int, size: int, type: int, said: str) -> None:
    boot = with_ranges([(GIB, GIB, WB)])
    assert mtrr_add(boot, base, size, type) == -22
    assert boot.printk.lines()[-1] == said


def test_a_larger_range_of_the_same_type_takes_the_place_of_the_smaller() -> None:
    boot = with_ranges([(GIB, GIB, WB)])
    assert mtrr_add(boot, 0, 2 * GIB, WB) == 0
    assert [generic_get_mtrr(boot.mtrr, reg)[1] for reg in (0, 1)] == [2 * GIB >> 12, 0]


def test_there_are_eight() -> None:
    boot = with_ranges([])
    assert [mtrr_add(boot, reg * GIB, 4096, UC) for reg in range(9)] == [0, 1, 2, 3, 4, 5, 6, 7, -28]
    assert boot.printk.lines()[-1] == "no more MTRRs available"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("reg00: nonsense", "is no line of /proc/mtrr"),
        (line(0, GIB, 3 * MIB, "uncachable"), "no power of two"),
        (line(0, MIB, 2 * MIB, "uncachable"), "no multiple"),
        (line(0, 1 << 40, GIB, "uncachable"), "above the 40 address bits"),
        (line(40, GIB, GIB, "uncachable"), "a register that no CPU has"),
    ],
)
def test_a_line_that_no_register_holds_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadSpec, match=told):
        Boot(load_spec(machine(text)))
