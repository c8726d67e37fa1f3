"""`kmemlab where NAME`: from a name of C, of an older kernel or of Python to the function, its file and its source."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from kmemlab.course.where import describe, find
from kmemlab.sim.kernel import VERSION, KernelMark, load_all
from kmemlab.types.errors import KmemlabError

TREE = "KMEMLAB_LINUX"


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "where", help="find a kernel function: in Python, in C, by its old name"
    )
    parser.add_argument(
        "name", metavar="NAME", help="a C name (__free_one_page), an older one (sanitize_e820_map), or a Python name"
    )
    parser.add_argument(
        "--c", action="store_true", help=f"print the C function from the source tree that {TREE} points to"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print everything known of the name."""
    marks = find(load_all(), options.name)
    tree = source_tree() if options.c else None
    for number, mark in enumerate(marks):
        print("\n" * (number > 0) + "\n".join(describe(mark)))
        if tree is not None and mark.file:
            print(f"\n{c_source(tree, mark)}")
    return 0


def source_tree() -> Path:
    """The kernel source tree that the reader points to."""
    named = os.environ.get(TREE, "")
    remedy = f"unpack Linux {VERSION} and set {TREE} to its folder: {TREE}=~/linux-6.1 kmemlab where NAME --c"
    if not named:
        raise KmemlabError(
            f"{TREE} is not set, so there is no C source to show", where="kmemlab where --c", remedy=remedy
        )
    tree = Path(named).expanduser()
    if not (tree / "mm" / "page_alloc.c").is_file():
        raise KmemlabError(
            f"{TREE} points to {named}, which holds no mm/page_alloc.c", where="kmemlab where --c", remedy=remedy
        )
    return tree


def c_source(tree: Path, mark: KernelMark) -> str:
    """The C text of the mark's function or struct, with the file and line it stands at."""
    from kmemlab.cli.c_extract import definitions

    path = tree / mark.file
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise KmemlabError(
            f"{path} can't be read: {error.strerror}", remedy=f"{TREE} must hold Linux {VERSION}"
        ) from None
    found = list(definitions(text, mark.name))
    if not found:
        raise KmemlabError(
            f"{mark.file} of your source tree doesn't define {mark.name}",
            where=str(path),
            remedy=f"{TREE} must hold Linux {VERSION}",
        )
    return "\n\n".join(f"/* {mark.file}:{line} */\n{source}" for line, source in found)
