"""Machines that can't be: what Linux does with them, or an error of ours; never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kmemlab.cli import main
from kmemlab.hardware.spec import preset_names

PRESETS = Path(__file__).parents[2] / "kmemlab" / "hardware" / "presets"
GIB = 1 << 30
assert {"tiny-128m", "numa-2x4g"} <= set(preset_names())


def preset(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((PRESETS / f"{name}.json").read_text())
    return spec


SMALL, NUMA = preset("tiny-128m"), preset("numa-2x4g")
NODES: list[list[int]] = NUMA["numa"]["nodes"]


def small(**changes: Any) -> dict[str, Any]:
    return {**SMALL, **changes}


def numa(**changes: Any) -> dict[str, Any]:
    return {**NUMA, "numa": {**NUMA["numa"], **changes}}


def image_at(start: int) -> dict[str, list[int]]:
    parts = {
        "code": (0, 0xE01D31),
        "rodata": (0x1000000, 0x18E6FFF),
        "data": (0x1A00000, 0x1C489BF),
        "bss": (0x230D000, 0x33FFFFF),
        "brk": (0x3400000, 0x3410FFF),
    }
    return {name: [start + first, start + last] for name, (first, last) in parts.items()}


BOOTS = {
    "nodes that overlap": (
        numa(nodes=[*NODES[:-1], [NODES[-1][0], NODES[-1][1] - (1 << 20), NODES[-1][2]]]),
        ["NUMA: node 0 [mem 0x100000000-0x13fffffff] overlaps with node 1", "No NUMA configuration found"],
    ),
    "a node that overlaps with itself": (
        numa(nodes=[*NODES, [0, 0x100000, 0x1FFFFF]]),
        ["NUMA: Warning: node 0 [mem 0x00000000-0x13fffffff] overlaps with itself [mem 0x00100000-0x001fffff]"],
    ),
    "distances of more nodes than there are": (
        numa(slit=[[10, 20, 30], [20, 10, 30], [30, 20, 10]]),
        ["NUMA: Initialized distance table, cnt=2", "Built 2 zonelists"],
    ),
    "distances of fewer nodes than there are": (numa(slit=[[10]]), ["Built 2 zonelists"]),
    "a node that is not at distance 10 from itself": (
        numa(slit=[[11, 20], [20, 10]]),
        ["ACPI: SLIT table looks invalid. Not used."],
    ),
    "an initrd outside RAM": (
        small(initrd=[1 << 40, (1 << 40) + 0xFFFFF]),
        ["RAMDISK: [mem 0x10000000000-0x100000fffff]", "Allocated new RAMDISK: [mem 0x07ec0000-0x07fbffff]"],
    ),
    "an initrd where no RAM is, but struct pages are": (
        small(initrd=[0xA0000, 0xBFFFF]),
        ["RAMDISK: [mem 0x000a0000-0x000bffff]", "Freeing initrd memory: 128K"],
    ),
    "a kernel image in reserved memory": (
        small(e820=[*SMALL["e820"], [0x1000000, 0x4FFFFFF, "reserved"]]),
        [".text .data .bss are not marked as E820_TYPE_RAM!"],
    ),
    "a DIMM that no page table reaches": (
        small(dimms=[[1 << 50, (1 << 50) + GIB - 1]]),
        [
            "Hotplug memory [0x4000000000000-0x400003fffffff] exceeds maximum addressable range [0x0-0x3fffffffffff]",
        ],
    ),
    "memmap= with a size and no place": (small(cmdline="memmap=,,,"), ["Memory: "]),
    "memmap= with signs and no numbers": (small(cmdline="memmap=$,@,!,#,%,%-+"), ["Memory: "]),
}


@pytest.mark.parametrize("case", BOOTS)
def test_linux_boots_and_says_what_is_wrong(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, said = BOOTS[case]
    (tmp_path / "hardware.json").write_text(json.dumps(spec))
    assert main(["boot", str(tmp_path / "hardware.json")]) == 0
    log = capsys.readouterr().out
    for words in said:
        assert any(line.startswith(words) for line in log.splitlines()), words


REFUSED = {
    "a table of distances that is not square": (numa(slit=[[10, 20]]), "not square"),
    "an initrd too large for the memory there is": (
        small(initrd=[1 << 40, (1 << 40) + (100 << 20) - 1]),
        "Cannot find place for new RAMDISK of size 104857600",
    ),
    "a kernel image where no memory is": (small(image=image_at(0x40000000)), "unable to handle page fault"),
    "a kernel image whose parts overlap": (small(image={"code": [0x2000000, 0x3000000]}), "out of order"),
    "a kernel image at address 0": (small(image={part: [0, 0] for part in image_at(0)}), "below 1 MiB"),
    "nothing usable": (small(e820=[[0, 0x9FBFF, "reserved"], [0x100000, 0x7FFFFFF, "reserved"]]), "alloc_low_pages"),
    "no e820, and no older call either": (small(e820=[], e801=None, e88=None), "alloc_low_pages"),
    "memory above MAX_ARCH_PFN": (small(e820=[*SMALL["e820"], [1 << 46, (1 << 46) + GIB - 1, "usable"]]), "no node"),
    "memory that all address bits reach": (small(e820=[[0, (1 << 64) - 1, "usable"]]), "alloc_low_pages"),
    "memmap=exactmap alone": (small(cmdline="memmap=exactmap"), "Invalid user supplied memory map"),
    # "g" is read as a suffix: memory ends at 0 GiB.
    "memmap=garbage": (small(cmdline="memmap=garbage"), "alloc_low_pages"),
    "memmap= that takes all memory": (small(cmdline="memmap=128M$0"), "alloc_low_pages"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_panic_or_an_error_of_ours_and_nothing_is_written(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, told = REFUSED[case]
    (tmp_path / "hardware.json").write_text(json.dumps(spec))
    assert main(["boot", str(tmp_path / "hardware.json"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "remedy:" in error
    assert not (tmp_path / "out").exists()
