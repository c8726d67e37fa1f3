"""`kmemlab course`: for students progress and reset; for who writes notebooks build, run and format."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kmemlab.cli.places import clone, originals, working_folder
from kmemlab.types.errors import BadRequest, KmemlabError


def add_parser(commands: Any) -> None:
    """Add the command and its own commands to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "course", help="see your progress, begin an exercise anew; for authors: build, run, format"
    )
    steps = parser.add_subparsers(required=True, metavar="STEP")
    done = steps.add_parser("progress", help="solved tasks, chapter by chapter")
    done.add_argument("--json", action="store_true", help="print it as JSON")
    again = steps.add_parser("reset", help="begin an exercise anew; what you have is kept aside")
    again.add_argument("name", metavar="NAME", help="such as 03_page_tables, or just 03")
    again.add_argument("--lecture", action="store_true", help="the lecture, not the exercise")
    for step, do in ((done, run_progress), (again, run_reset)):
        step.add_argument("--dir", type=Path, help="your course folder (default: the clone, else kmemlab-course/)")
        step.set_defaults(run=do)
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


def run_progress(options: argparse.Namespace) -> int:
    """Print what the saved exercises say."""
    from kmemlab.course.progress import progress

    found = progress(working_folder(options.dir))
    if options.json:
        print(json.dumps([asdict(chapter) for chapter in found.chapters], indent=1))
    else:
        print(found.text())
    return 0


def run_reset(options: argparse.Namespace) -> int:
    """Put a fresh notebook in the place of the student's."""
    from kmemlab.course.working_copy import reset

    folder = working_folder(options.dir)
    name = Path("notebooks" if options.lecture else "exercises") / _notebook_name(options.name, options.lecture)
    aside = reset(folder, name, _fresh(folder, name))
    print(f"{folder / name} is as it was handed out." + (f" What you had is in {folder / aside}" if aside else ""))
    return 0


def _notebook_name(asked: str, lecture: bool) -> str:
    """The one notebook of the course that begins as asked. Raises `BadRequest`."""
    source = originals() or Path.cwd()
    names = sorted(path.name for path in (source / ("notebooks" if lecture else "exercises")).glob("*.ipynb"))
    found = [name for name in names if name.startswith(asked.removesuffix(".ipynb"))]
    if len(found) == 1:
        return found[0]
    raise BadRequest(
        f"{len(found)} notebooks begin with {asked!r}" if found else f"no notebook begins with {asked!r}",
        where="kmemlab course reset",
        remedy=f"name one of {', '.join(name.removesuffix('.ipynb') for name in found or names)}",
    )


def _fresh(folder: Path, name: Path) -> dict[str, Any]:
    """The notebook as it was handed out: in a clone the exercise is built anew."""
    from kmemlab.course.build import Pair
    from kmemlab.course.notebook import read

    source = originals()
    assert source is not None  # _notebook_name found the notebook in it
    if source != folder:
        return read(source / name)
    if name.parent.name == "exercises":
        return Pair(source / "solutions" / name.name, source / name).fresh()
    raise BadRequest(
        "in a clone git keeps the lectures", where=str(name), remedy=f"run: git checkout -- {name.as_posix()}"
    )


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
        print("\n".join(found) if found else f"{len(pairs(root))} exercises and the pages equal a fresh build")
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
