"""Where the course's notebooks are: in a clone, or inside the installed package."""

from __future__ import annotations

from pathlib import Path

import kmemlab

PACKAGE = Path(kmemlab.__file__).resolve().parent
SHIPPED = PACKAGE / "_course"  # the wheel puts notebooks/ and exercises/ there
FOLDERS = ("notebooks", "exercises")


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
