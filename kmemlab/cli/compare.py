"""`kmemlab compare CAPTURE`: boot the machine of a folder of saved texts, and tell where model and machine agree."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare", help="boot the model of a real machine, and compare both"
    )
    parser.add_argument(
        "capture",
        metavar="CAPTURE",
        type=Path,
        help="a folder with hardware.json and what the machine showed: dmesg.txt, zoneinfo.txt, meminfo.txt, …",
    )
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Compare and print; 0 if all agrees, 1 if something differs."""
    from kmemlab.machine.compare import compare_capture
    from kmemlab.views.comparison import comparison_text

    comparison = compare_capture(options.capture)
    if options.json:
        print(json.dumps(comparison.as_json(), indent=1, ensure_ascii=False))
    else:
        print(comparison_text(comparison))
    return 0 if comparison.agrees else 1
