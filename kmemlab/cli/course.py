"""`kmemlab course`: what the authors of notebooks need: build, run, format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from kmemlab.cli.places import clone
from kmemlab.types.errors import KmemlabError


def add_parser(commands: Any) -> None:
    """Add the command and its own commands to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "course", help="for authors: build exercises, run and format notebooks"
    )
    steps = parser.add_subparsers(required=True, metavar="STEP")
    build = steps.add_parser("build", help="build exercises/ from solutions/")
    build.add_argument("--check", action="store_true", help="write nothing; name the first difference and exit with 1")
    build.add_argument(
        "--root", type=Path, help="the folder that holds solutions/ (default: the clone, else this folder)"
    )
    build.set_defaults(run=run_build)
    run = steps.add_parser("run", help="run notebooks and store their outputs")
    run.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    run.add_argument("--seconds", type=int, default=120, help="the limit for each cell (default: 120)")
    run.set_defaults(run=run_run)
    tidy = steps.add_parser("format", help="write notebooks in their one spelling")
    tidy.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    tidy.set_defaults(run=run_format)


def run_build(options: argparse.Namespace) -> int:
    """Build, or compare with a fresh build."""
    from kmemlab.course.build import build, differences, pairs

    root = options.root or clone() or Path.cwd()
    if not (root / "solutions").is_dir():
        raise KmemlabError(
            f"{root} has no folder solutions/",
            where="kmemlab course build",
            remedy="run it in a clone of kmemlab, or give --root",
        )
    if options.check:
        found = list(differences(root))
        print("\n".join(found) if found else f"{len(pairs(root))} exercises equal a fresh build")
        return 1 if found else 0
    changed = build(root)
    for path in changed:
        print(f"built {path}")
    if not changed:
        print("nothing to build: every exercise is up to date")
    return 0


def run_run(options: argparse.Namespace) -> int:
    """Run the notebooks one after the other; stop at the first that fails."""
    from kmemlab.course.lint import problems
    from kmemlab.course.notebook import read
    from kmemlab.course.run import run_notebook

    untidy = 0
    for path in options.notebooks:
        print(f"{path}: {'stored' if run_notebook(path, options.seconds) else 'unchanged'}", flush=True)
        for problem in problems(read(path), outputs_stored=True):
            untidy += 1
            print(f"  {problem}")
    return 1 if untidy else 0


def run_format(options: argparse.Namespace) -> int:
    """Format the notebooks."""
    from kmemlab.course.run import format_notebook

    for path in options.notebooks:
        print(f"{path}: {'formatted' if format_notebook(path) else 'unchanged'}")
    return 0
