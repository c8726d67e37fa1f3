"""`kmemlab where NAME`: from a name of C, of an older kernel or of Python to the function, its file and its source."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmemlab.sim.kernel import VERSION, KernelMark, Registry, load_all
from kmemlab.types.errors import KmemlabError

TREE = "KMEMLAB_LINUX"


class UnknownName(KmemlabError):
    """A name that no kernel function of ours bears."""


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


def find(registry: Registry, name: str) -> list[KernelMark]:
    """The marks that the name means, the exact C name first. Raises `UnknownName` with the nearest names."""
    marks = registry.find(name)
    if marks:
        return sorted(marks, key=lambda mark: (mark.name != name, mark.python_path))
    known = sorted({known for mark in registry for known in (mark.name, mark.function.__qualname__, *mark.formerly)})
    folded = {known_name.lower(): known_name for known_name in reversed(known)}
    near = [folded[hit] for hit in difflib.get_close_matches(name.lower(), folded, n=5, cutoff=0.5)]
    raise UnknownName(
        f"no kernel function of kmemlab is named {name!r}, now or formerly",
        where="kmemlab where",
        remedy=f"nearest names: {', '.join(near)}"
        if near
        else "give a function of Linux's memory management, such as __free_one_page",
    )


def describe(mark: KernelMark) -> Iterator[str]:
    """What one mark says, a fact a line."""
    kind = mark.name if mark.name.startswith(("struct ", "enum ", "union ")) else f"{mark.name}()"
    yield kind if mark.file else f"{mark.function.__qualname__} (not in C)"
    facts = [
        ("Python", mark.python_path),
        ("C", f"{mark.file} (Linux {VERSION})" if mark.file else ""),
        ("source", mark.link),
        ("left out", mark.left_out or ("nothing" if mark.file else "")),
        ("lock", mark.lock),
        ("formerly", ", ".join(mark.formerly)),
        ("why", mark.why),
        ("says", _first_sentence(mark)),
    ]
    for name, fact in facts:
        if fact:
            yield f"  {name + ':':<10}{fact}"


def _first_sentence(mark: KernelMark) -> str:
    return (mark.function.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


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
