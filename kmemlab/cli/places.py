"""Where the course's notebooks are: in a clone, or inside the installed package."""

from __future__ import annotations

from pathlib import Path

import kmemlab
from kmemlab.types.errors import KmemlabError

PACKAGE = Path(kmemlab.__file__).resolve().parent
SHIPPED = PACKAGE / "_course"  # the wheel puts notebooks/ and exercises/ there
FOLDERS = ("notebooks", "exercises")
WORKING_COPY = "kmemlab-course"


def clone() -> Path | None:
    """The folder of the clone that this package runs from; None when it was installed."""
    root = PACKAGE.parent
    try:
        ours = 'name = "kmemlab"' in (root / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return None
    return root if ours and (root / "notebooks").is_dir() else None


def originals() -> Path | None:
    """The folder that holds the notebooks as they were written: the clone's, else the package's own."""
    return clone() or (SHIPPED if SHIPPED.is_dir() else None)


def working_folder(chosen: Path | None) -> Path:
    """Where the student works: the folder chosen, the clone, or the working copy in or above this folder.

    Raises `KmemlabError` where there is none.
    """
    here = Path.cwd()
    tried = [chosen.expanduser()] if chosen else [*filter(None, [clone()]), here / WORKING_COPY, here, *here.parents]
    for folder in tried:
        if (folder / "exercises").is_dir():
            return folder
    raise KmemlabError(
        f"{tried[0]} holds no course: it has no folder exercises/",
        where="the working folder",
        remedy="run `kmemlab lab` once, which makes one, or name it with --dir",
    )
