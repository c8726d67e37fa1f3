"""`kmemlab boot SPEC`: boot a machine, print its log, and write the texts that Linux would show."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmemlab.types.errors import KmemlabError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("boot", help="boot a machine and print its kernel log")
    parser.add_argument("spec", metavar="SPEC", help="a preset (laptop-8g), or the path of a hardware.json")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also write dmesg.txt, buddyinfo.txt, zoneinfo.txt, … into DIR"
    )
    parser.add_argument(
        "--until", metavar="STAGE", help="stop behind a function of start_kernel, such as memblock_free_all"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Boot, write, print: a machine that doesn't boot leaves no file behind."""
    from kmemlab.machine.boot_files import boot_files
    from kmemlab.machine.machine import Machine

    machine = Machine.boot(options.spec, until=options.until)
    if options.out is not None:
        write_all(options.out, boot_files(machine))
    print(machine.dmesg().rstrip("\n"))
    return 0


def write_all(folder: Path, files: Mapping[str, str]) -> None:
    """Write every file into the folder, or none: all are written beside it first, then moved."""
    folder = folder.expanduser()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for name, text in files.items():
                (beside / name).write_text(text, encoding="utf-8", newline="\n")
            folder.mkdir(exist_ok=True)
            for name in files:
                os.replace(beside / name, folder / name)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise KmemlabError(
            f"{folder} can't be written: {error.strerror}",
            where="kmemlab boot --out",
            remedy="name a folder that you may write into",
        ) from None
