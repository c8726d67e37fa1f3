"""`kmemlab lab`: open the course in JupyterLab, on notebooks that belong to the student."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from kmemlab.cli.places import FOLDERS, WORKING_COPY, clone, originals
from kmemlab.course.working_copy import fill_up
from kmemlab.types.errors import KmemlabError

LAST_PORT = 65535
NEEDED = ("jupyterlab", "ipywidgets", "anywidget", "graphviz")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser("lab", help="open the course in JupyterLab")
    parser.add_argument(
        "--no-browser", action="store_true", help="don't open a browser; print the address (for servers)"
    )
    parser.add_argument("--port", type=port_number, help="the port to listen on (default: JupyterLab chooses)")
    parser.add_argument(
        "--dir", type=Path, help=f"where to work (default: the clone, else {WORKING_COPY}/ in this folder)"
    )
    parser.set_defaults(run=run)


def port_number(text: str) -> int:
    """The port that `--port` names, a number of 16 bits."""
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no port: write a number from 0 (any) to {LAST_PORT}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Prepare the folder, and hand over to JupyterLab."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise KmemlabError(
            f"JupyterLab's side of kmemlab is not installed: {', '.join(missing)}",
            where="kmemlab lab",
            remedy="pip install 'kmemlab[lab]', or in a clone: pip install -c constraints.txt -e '.[lab]'",
        )
    folder = course_folder(options.dir)
    trust_lectures(folder)
    return _hand_over(command(folder, options.no_browser, options.port))


def course_folder(chosen: Path | None) -> Path:
    """The folder to work in: the clone itself, or a working copy that is filled up and brought up to date."""
    source = originals()
    if source is None:
        raise KmemlabError(
            "the course's notebooks are not there: neither a clone nor an installed course",
            where="kmemlab lab",
            remedy="install kmemlab anew, or run it from a clone",
        )
    if chosen is None and clone() is not None:
        return source
    folder = (chosen or Path.cwd() / WORKING_COPY).expanduser().resolve()
    try:
        filled = fill_up(folder, source, FOLDERS)
    except OSError as error:
        raise KmemlabError(
            f"the working copy {folder} can't be written: {error.strerror}",
            where="kmemlab lab",
            remedy="choose another with --dir",
        ) from None
    print(f"{folder}: {filled}. To begin an exercise anew: kmemlab course reset NAME", flush=True)
    return folder


def trust_lectures(folder: Path) -> None:
    """Sign the lectures that are as they were written: JupyterLab hides stored figures of what it doesn't trust.

    A notebook that somebody changed is not signed; its figures come when its cells are run.
    """
    from nbformat import read
    from nbformat.sign import NotebookNotary

    source = originals()
    notary = NotebookNotary()  # type: ignore[no-untyped-call]
    for place in sorted((folder / "notebooks").glob("*.ipynb")):
        written = source / "notebooks" / place.name if source else None
        if written is not None and written.is_file() and written.read_bytes() == place.read_bytes():
            with suppress(ValueError):  # not JSON: JupyterLab will say so when it is opened
                notary.sign(read(str(place), as_version=4))  # type: ignore[no-untyped-call]


def command(folder: Path, no_browser: bool, port: int | None) -> list[str]:
    """The command line that starts JupyterLab on a folder."""
    line = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    first = next(iter(sorted((folder / "notebooks").glob("*.ipynb"))), None)
    if first is not None:
        line.append(f"--LabApp.default_url=/lab/tree/notebooks/{first.name}")
    if no_browser:
        line.append("--no-browser")
    if port is not None:
        line.append(f"--port={port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        line.append("--allow-root")  # in a container everybody is root, and JupyterLab would refuse
    return line


def _hand_over(line: list[str]) -> int:
    from kmemlab.course.run import kernel_environment

    if os.name == "posix":  # become JupyterLab: signals then reach it, and nothing stays behind
        os.execve(line[0], line, kernel_environment())
    return subprocess.call(line, env=kernel_environment())
