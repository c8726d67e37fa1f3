"""A comparison finds every seeded difference and names it; texts that can't be used are refused with a reason."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from kmemlab.machine.compare import Comparison, Family, compare_capture, compare_family
from kmemlab.machine.facts import READERS, TITLES, Fact, facts_of, log_facts, meminfo_facts, zone_facts
from kmemlab.types.errors import BadCapture, BadSpec
from tests.boot.captures import MACHINES, saved

NAME = "amd64-128m"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A copy of a real machine's folder, its texts unpacked."""
    folder = tmp_path / NAME
    folder.mkdir()
    shutil.copy(MACHINES / NAME / "hardware.json", folder)
    for name in READERS:
        (folder / name).write_text(saved(NAME, name))
    return folder


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def family(comparison: Comparison, name: str) -> Family:
    return next(family for family in comparison.families if family.name == name)


def test_the_machine_and_its_model_agree_in_every_family(capture: Path) -> None:
    comparison = compare_capture(capture)
    assert comparison.agrees
    assert comparison.score == 1
    assert [family.name for family in comparison.families] == list(TITLES)


@pytest.mark.parametrize(
    ("file", "old", "new", "name", "linux"),
    [
        ("dmesg.txt", "last_pfn = 0x7fe0 ", "last_pfn = 0x7fe1 ", "dmesg.pfn", "last_pfn = 0x7fe1 max_arch_pfn"),
        ("dmesg.txt", "-0x000000000009fbff]", "-0x000000000009fbfe]", "dmesg.e820", "9fbfe] usable"),
        ("dmesg.txt", "memblock_reserve: [0x", "memblock_reserve: [0x1", "dmesg.ledger", "memblock_reserve: [0x1"),
        ("zoneinfo.txt", "managed  3840", "managed  3841", "zone.size", "0/DMA managed 3841"),
        ("zoneinfo.txt", "batch: 1\n", "batch: 2\n", "zone.pcp", "0/DMA cpu 0 batch 2"),
        ("meminfo.txt", "MemTotal:  ", "MemTotal: 1", "meminfo", "MemTotal 1"),
        (
            "sys_vm.txt",
            "watermark_scale_factor: 10",
            "watermark_scale_factor: 11",
            "sysctl",
            "watermark_scale_factor 11",
        ),
        ("iomem.txt", "00001000-", "00002000-", "iomem", "System RAM 00002000-0009fbff"),
        ("slab_table.txt", "kmalloc-8\t-\t8\t", "kmalloc-8\t-\t9\t", "slab.kmalloc", "kmalloc-8 object_size=9"),
    ],
)
def test_one_changed_number_is_found_in_its_family_and_nowhere_else(
    capture: Path, file: str, old: str, new: str, name: str, linux: str
) -> None:
    change(capture / file, old, new)
    comparison = compare_capture(capture)
    differing = [family.name for family in comparison.families if family.differences]
    assert differing == [name]
    found = family(comparison, name)
    assert len(found.differences) == 1
    assert found.differences[0].linux.startswith(linux) or linux in found.differences[0].linux
    assert found.differences[0].model
    assert found.score == (found.linux - 1) / (found.linux + 1)
    assert not comparison.agrees


def test_a_watermark_is_compared_without_the_boost_of_the_moment() -> None:
    zone = (
        "Node 0, zone      DMA\n  pages free     9\n        boost    {boost}\n        min      {min}\n"
        "        low      200\n        high     300\n        spanned  1\n        present  1\n        managed  1\n"
    )
    calm, boosted = (zone_facts(zone.format(boost=b, min=50 + b))["zone.watermarks"][0] for b in (0, 25))
    assert calm == boosted == Fact("0/DMA min", "50")


def test_a_split_of_large_pages_is_no_difference() -> None:
    text = "MemTotal: 1 kB\nDirectMap4k: {} kB\nDirectMap2M: {} kB\n"
    assert meminfo_facts(text.format(100, 8192)) == meminfo_facts(text.format(100 + 2048, 8192 - 2048))
    assert meminfo_facts(text.format(100, 8192)) != meminfo_facts(text.format(104, 8192))


def test_order_is_told_when_nothing_else_differs() -> None:
    facts = tuple(Fact("line: x", str(nth)) for nth in range(3))
    found = compare_family("dmesg.ledger", facts, (facts[0], facts[2], facts[1]))
    assert (found.agree, found.differences, found.score) == (3, (), 1)
    assert found.first is not None
    assert (found.first.linux, found.first.model) == ("1", "2")


def test_missing_and_surplus_facts_both_cost() -> None:
    one, two, three = (Fact(str(nth), "x") for nth in range(3))
    found = compare_family("iomem", (one, two), (one, three))
    assert (found.linux, found.model, found.agree, found.score) == (2, 2, 1, 1 / 3)
    assert [(pair.linux, pair.model) for pair in found.differences] == [("1 x", ""), ("", "2 x")]


def test_time_stamps_and_gaps_do_not_count() -> None:
    assert log_facts("[    0.000000] BIOS-e820: [mem 0x0-0x1]  usable \n") == log_facts(
        "BIOS-e820: [mem 0x0-0x1] usable\n"
    )


def test_a_file_that_was_not_saved_is_told_and_not_compared(capture: Path) -> None:
    (capture / "zoneinfo.txt").unlink()
    comparison = compare_capture(capture)
    assert comparison.absent == ("zoneinfo.txt",)
    assert not [family for family in comparison.families if family.name.startswith("zone.")]
    assert comparison.agrees


def test_json_has_the_same_facts(capture: Path) -> None:
    change(capture / "zoneinfo.txt", "managed  3840", "managed  3841")
    told = json.loads(json.dumps(compare_capture(capture).as_json()))
    assert (told["machine"], told["agrees"]) == (NAME, False)
    assert told["families"]["zone.size"]["differences"] == [
        {"linux": "0/DMA managed 3841", "model": "0/DMA managed 3840"}
    ]
    assert told["families"]["iomem"]["score"] == 1


# -- what can't be used ------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def test_a_folder_without_hardware_json(capture: Path) -> None:
    (capture / "hardware.json").unlink()
    with pytest.raises(BadCapture, match="no hardware"):
        compare_capture(capture)
    with pytest.raises(BadCapture, match="no folder"):
        compare_capture(capture / "nowhere")


def test_a_folder_without_texts(capture: Path) -> None:
    for name in READERS:
        (capture / name).unlink()
    with pytest.raises(BadCapture, match="nothing to compare with"):
        compare_capture(capture)


@pytest.mark.parametrize("name", READERS)
def test_a_text_that_breaks_off(capture: Path, name: str) -> None:
    cut(capture / name)
    with pytest.raises(BadCapture, match="breaks off in line") as raised:
        compare_capture(capture)
    assert name in str(raised.value)


@pytest.mark.parametrize("name", READERS)
def test_an_empty_text(capture: Path, name: str) -> None:
    (capture / name).write_text("")
    with pytest.raises(BadCapture, match="empty"):
        compare_capture(capture)


def test_a_text_that_is_none(capture: Path) -> None:
    (capture / "meminfo.txt").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(BadCapture, match="no text"):
        compare_capture(capture)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: b"x" + packed, lambda packed: b""])
def test_a_packed_text_that_is_damaged(capture: Path, damage: object) -> None:
    packed = gzip.compress((capture / "dmesg.txt").read_bytes())
    (capture / "dmesg.txt").unlink()
    (capture / "dmesg.txt.gz").write_bytes(damage(packed))  # type: ignore[operator]
    with pytest.raises(BadCapture, match=r"dmesg\.txt"):
        compare_capture(capture)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("zoneinfo.txt", "Node 0, zone      DMA\n  pages free     9\n", "zone 0/DMA has no number"),
        ("zoneinfo.txt", "hello\n", "line 1 is not the head of a zone"),
        ("iomem.txt", "00000000-00000000 : System RAM\n00000000-00000000 : Reserved\n", "only root"),
        ("iomem.txt", "hello\n", "line 1 is no range"),
        ("meminfo.txt", "MemFree: 1 kB\n", "no MemTotal"),
        ("meminfo.txt", "MemTotal: 1 kB\nDirectMap4k: many kB\n", "DirectMap4k"),
        ("slab_table.txt", "name\tobject_size\nkmalloc-8\t8\t9\n", "line 2 has 3 cells"),
        ("slab_table.txt", "name\torder\nkmalloc-8\t8\n", "cells under a head"),
    ],
)
def test_a_text_of_another_kind(name: str, text: str, told: str) -> None:
    with pytest.raises(BadCapture, match=told):
        facts_of({name: text})


def test_a_machine_of_another_kernel_is_refused(capture: Path) -> None:
    hardware = json.loads((capture / "hardware.json").read_text())
    (capture / "hardware.json").write_text(json.dumps(hardware | {"kernel": "amd64-6.12"}))
    with pytest.raises(BadSpec, match=r"amd64-6\.12.*Linux 6\.1"):
        compare_capture(capture)
