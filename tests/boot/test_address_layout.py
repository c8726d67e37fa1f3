"""The map of addresses: by the kernel's documentation, and by where real kernels put things."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from kmemlab.boot.address_layout import areas_32, areas_64, random_places, short_size, with_holes
from kmemlab.boot.globals import Boot
from kmemlab.cli import main
from kmemlab.machine.machine import Machine
from tests.boot.captures import ALL, MACHINES, saved

TIB, PIB, GIB, MIB = 1 << 40, 1 << 50, 1 << 30, 1 << 20

# Documentation/x86/x86_64/mm.rst of Linux 6.1: first and last address of the kernel's areas.
FOUR_LEVELS = {
    "guard hole": (0xFFFF800000000000, 0xFFFF87FFFFFFFFFF),
    "LDT": (0xFFFF880000000000, 0xFFFF887FFFFFFFFF),
    "direct map": (0xFFFF888000000000, 0xFFFFC87FFFFFFFFF),
    "vmalloc": (0xFFFFC90000000000, 0xFFFFE8FFFFFFFFFF),
    "vmemmap": (0xFFFFEA0000000000, 0xFFFFEAFFFFFFFFFF),
    "CPU entry": (0xFFFFFE0000000000, 0xFFFFFE7FFFFFFFFF),
    "%esp": (0xFFFFFF0000000000, 0xFFFFFF7FFFFFFFFF),
    "EFI": (0xFFFFFFEF00000000, 0xFFFFFFFEFFFFFFFF),
    "vsyscall": (0xFFFFFFFFFF600000, 0xFFFFFFFFFF600FFF),
}
FIVE_LEVELS = FOUR_LEVELS | {
    "guard hole": (0xFF00000000000000, 0xFF0FFFFFFFFFFFFF),
    "LDT": (0xFF10000000000000, 0xFF10FFFFFFFFFFFF),
    "direct map": (0xFF11000000000000, 0xFF90FFFFFFFFFFFF),
    "vmalloc": (0xFFA0000000000000, 0xFFD1FFFFFFFFFFFF),
    "vmemmap": (0xFFD4000000000000, 0xFFD5FFFFFFFFFFFF),
}


def early(name: str) -> Boot:
    return Machine.boot(MACHINES / name, until="init_mem_mapping").kernel.boot


@pytest.mark.parametrize(("name", "table"), [("amd64-1g", FOUR_LEVELS), ("amd64-la57-2g", FIVE_LEVELS)])
def test_the_kernel_s_documentation_says_the_same(name: str, table: dict[str, tuple[int, int]]) -> None:
    areas = areas_64(early(name))
    for what, (start, end) in table.items():
        assert [(area.start, area.end) for area in areas if what in area.what] == [(start, end)], what


@pytest.mark.parametrize("name", ["amd64-1g", "amd64-la57-2g", "i386-pae-1g", "i386-256m", "i386-pae-vmalloc256-1g"])
def test_every_address_is_in_one_row(name: str) -> None:
    boot = early(name)
    wide = name.startswith("amd64")
    areas = areas_64(boot) if wide else [area for area in areas_32(boot) if not area.what.startswith("  ")]
    rows = with_holes(areas, (1 << (64 if wide else 32)) - 1)
    assert rows[0].start == 0
    assert rows[-1].end == (1 << (64 if wide else 32)) - 1
    assert all(before.end + 1 == after.start for before, after in itertools.pairwise(rows))


@pytest.mark.parametrize("name", [name for name in ALL if "kaslr" not in name])
def test_vmalloc_is_as_large_as_proc_meminfo_says(name: str) -> None:
    boot = early(name)
    areas = areas_64(boot) if name.startswith("amd64") else areas_32(boot)
    size = next(area.end + 1 - area.start for area in areas if area.what.startswith("vmalloc"))
    told = next(line for line in saved(name, "meminfo.txt").splitlines() if line.startswith("VmallocTotal:"))
    # On 64 bit VMALLOC_END is the last byte, so the kernel's sum is one short.
    assert (size - int(name.startswith("amd64"))) // 1024 == int(told.split()[1])


# The first address of /proc/vmallocinfo under no_hash_pointers: machines of 1 GiB, Debian's kernels 6.1.0-50.
FIRST_OF_VMALLOC = {
    ("amd64-6.1", False): 0xFFFFC90000000000,
    ("amd64-6.1", True): 0xFFA0000000000000,
    ("i386-pae-6.1", False): 0xF77FE000,
    ("i386-6.1", False): 0xF73FE000,
}


@pytest.mark.parametrize(("kernel", "la57"), FIRST_OF_VMALLOC)
def test_real_kernels_begin_their_vmalloc_area_there(kernel: str, la57: bool) -> None:
    boot = early(
        {"i386-pae-6.1": "i386-pae-1g", "i386-6.1": "i386-1g"}.get(kernel, "amd64-la57-2g" if la57 else "amd64-1g")
    )
    areas = areas_64(boot) if kernel.startswith("amd64") else areas_32(boot)
    start = next(area.start for area in areas if area.what.startswith("vmalloc"))
    assert start == FIRST_OF_VMALLOC[kernel, la57]


def kaslr(levels: int, **image: Any) -> Machine:
    spec = {"e820": [[0, 0x9FBFF, "usable"], [0x100000, GIB - 1, "usable"]], "image": image, "cmdline": "quiet"}
    return Machine.boot(
        {**spec, "cpus": {"flags": ["pse", "la57"] if levels == 5 else ["pse"]}}, until="init_mem_mapping"
    )


@pytest.mark.parametrize(
    ("levels", "vmalloc_base"),
    [(4, 0xFFFFCCBA00000000), (5, 0xFF55CFC500000000)],  # two real boots with KASLR
)
def test_kaslr_moved_real_kernels_to_where_it_may(levels: int, vmalloc_base: int) -> None:
    lowest, highest, step = random_places(kaslr(levels).kernel.boot)["vmalloc_base"]
    assert lowest <= vmalloc_base <= highest
    assert (vmalloc_base - lowest) % step == 0


@pytest.mark.parametrize("levels", [4, 5])
def test_the_highest_lots_still_fit_below_the_cpu_entry_areas(levels: int) -> None:
    places = random_places(kaslr(levels).kernel.boot)
    sizes = {4: (64, 32, 1), 5: (4096, 12800, 64)}[levels]
    bases = ("page_offset_base", "vmalloc_base", "vmemmap_base")
    for base, size, following in zip(bases, sizes, [*bases[1:], None], strict=True):
        behind = places[base][1] + size * TIB
        assert behind <= (places[following][1] if following else FOUR_LEVELS["CPU entry"][0] + 3 * GIB)
    assert places["text"] == (0xFFFFFFFF81000000, places["text"][1], 2 * MIB)


def test_a_base_that_is_told_is_used_and_others_are_said_to_be_unknown() -> None:
    text = kaslr(4, vmalloc_base=0xFFFFCCBA00000000).address_space()
    assert "ffffccba00000000 - ffffecb9ffffffff      32 TiB   vmalloc and ioremap\n" in text
    assert "vmalloc_base      0xffffccba00000000, as the machine's description says" in text
    assert "direct map of all memory *\n" in text
    assert "page_offset_base  0xffff888000000000 … " in text
    assert "nokaslr" not in text


def test_without_kaslr_nothing_moves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", str(MACHINES / "amd64-2g-uefi"), "--addresses"]) == 0
    out = capsys.readouterr().out
    assert "KASLR is off" in out
    assert "*" not in out
    assert "its text at 0xffffffff81000000" in out  # wherever the loader put it: there it runs


def test_sizes() -> None:
    assert [short_size(size) for size in (1, PIB // 2, 12800 * TIB, 444 * GIB)] == [
        "1 bytes",
        "512 TiB",
        "12.5 PiB",
        "444 GiB",
    ]
