"""`kmemlab boot SPEC`: boot a machine, print its log, and write the texts that Linux would show."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("boot", help="boot a machine and print its kernel log")
    parser.add_argument("spec", metavar="SPEC", help="a preset (laptop-8g), or the path of a hardware.json")
    parser.add_argument(
        "--out", type=named_folder, metavar="DIR", help="also write dmesg.txt, buddyinfo.txt, zoneinfo.txt, … into DIR"
    )
    parser.add_argument(
        "--until", metavar="STAGE", help="stop behind a function of start_kernel, such as memblock_free_all"
    )
    parser.add_argument(
        "--addresses", action="store_true", help="print the map of virtual addresses instead of the kernel log"
    )
    parser.set_defaults(run=run)


def named_folder(text: str) -> Path:
    """The folder that `--out` names. An empty name (of a variable that is not set, say) would be this folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty: name a folder, or write . for this one")
    return Path(text)


def run(options: argparse.Namespace) -> int:
    """Boot, write, print: a machine that doesn't boot leaves no file behind."""
    from kmemlab.machine.boot_files import boot_files, write_files
    from kmemlab.machine.machine import Machine

    machine = Machine.boot(options.spec, until=options.until)
    if options.out is not None:
        files = boot_files(machine.kernel)
        write_files(options.out, files)
        tell_left_out(files)
    print((machine.address_space() if options.addresses else machine.dmesg()).rstrip("\n"))
    return 0


def tell_left_out(files: Mapping[str, str]) -> None:
    """Say what Linux would show in these files and the model doesn't have."""
    from kmemlab.machine.procfs_lists import LEFT_OUT

    for name, missing in LEFT_OUT.items():
        if name in files:
            print(f"kmemlab: {name} leaves out: {missing}", file=sys.stderr)
