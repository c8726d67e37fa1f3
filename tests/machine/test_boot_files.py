"""Files of a booted machine: all or nothing; and boot stops where it is told."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.boot_files import boot_files, write_files
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import BOOT_STAGES, start_kernel
from kmemlab.types.errors import BadRequest, KmemlabError


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    kernel = Kernel(load_spec("tiny-128m"))
    start_kernel(kernel)
    return kernel


def test_files_are_written_and_written_anew(kernel: Kernel, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    write_files(folder, boot_files(kernel))
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(boot_files(kernel))
    assert {"dmesg.txt", "slab_table.txt", "zoneinfo.txt"} <= set(names)
    (folder / "mine.txt").write_text("mine")
    write_files(folder, {"dmesg.txt": "new\n"})
    assert (folder / "dmesg.txt").read_text() == "new\n"
    assert (folder / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["b"]


def test_a_failure_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_files(folder, {"a.txt": "old", "c.txt": "old"})
    (folder / "b.txt").mkdir()
    (folder / "b.txt" / "x").write_text("somebody's")
    with pytest.raises(KmemlabError, match="can't be written"):
        write_files(folder / "a.txt", {"d.txt": "new"})  # a file, no folder
    with pytest.raises(KmemlabError, match="is a folder"):
        write_files(folder, {"a.txt": "new", "b.txt": "new"})
    assert [(folder / name).read_text() for name in ("a.txt", "b.txt/x", "c.txt")] == ["old", "somebody's", "old"]
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt", "c.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_was_moved_is_put_back(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    write_files(folder, {"a.txt": "old", "b.txt": "old"})
    replace = os.replace

    def no_b(source: Path, target: Path) -> None:
        if Path(source).parent.name == "new" and Path(source).name == "b.txt":
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", no_b)
    with pytest.raises((KmemlabError, KeyboardInterrupt)):
        write_files(folder, {"0.txt": "new", "a.txt": "new", "b.txt": "new"})
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a.txt": "old", "b.txt": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("stage", BOOT_STAGES)
def test_boot_stops_behind_every_stage_and_the_files_can_be_made(stage: str) -> None:
    kernel = Kernel(load_spec("numa-2x4g"))
    start_kernel(kernel, stage)
    whole = Kernel(kernel.boot.spec)
    start_kernel(whole)
    said = kernel.printk_lines
    assert said == whole.printk_lines[: len(said)]
    assert set(boot_files(kernel)) == set(boot_files(whole))


def test_stages_have_names_of_their_own() -> None:
    assert len(set(BOOT_STAGES)) == len(BOOT_STAGES)


def test_an_unknown_stage_is_refused_before_anything_runs() -> None:
    kernel = Kernel(load_spec("tiny-128m"))
    with pytest.raises(BadRequest, match="memblock_free_all"):
        start_kernel(kernel, "sanitize_e820_map")
    assert kernel.printk_lines == ()


def test_formats_are_the_kernels(kernel: Kernel) -> None:
    files = boot_files(kernel)
    assert re.match(
        r"Node 0, zone      DMA( {1,6}\d+){11} \nNode 0, zone    DMA32( {1,6}\d+){11} \n$", files["buddyinfo.txt"]
    )
    assert re.match(r"MemTotal: {7} {0,7}\d+ kB\nMemFree: {8}", files["meminfo.txt"])
    assert "lowmem_reserve_ratio: 256\t256\t32\t0\t0\n" in files["sys_vm.txt"]
    empty = (
        "Node 0, zone  Movable\n  pages free     0\n        boost    0\n        min      0\n        low      0\n"
        "        high     0\n        spanned  0\n        present  0\n        managed  0\n        cma      0\n"
        "        protection: (0, 0, 0, 0, 0)\nNode 0, zone   Device\n"
    )
    assert empty in files["zoneinfo.txt"]
    assert re.search(r"\n  node_unreclaimable:  0\n  start_pfn:           4096\n", files["zoneinfo.txt"])
