"""Looks at one thing each, and changes nothing."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from kmemlab import __version__
from kmemlab.cli.places import PACKAGE, clone, originals

LAB = "pip install 'kmemlab[lab]' (in a clone: pip install -c constraints.txt -e '.[lab]')"
TEST = "pip install 'kmemlab[test]' (in a clone: pip install -c constraints.txt -e '.[test]')"
PROBE_SECONDS = 10


@dataclass(frozen=True)
class Finding:
    """One fact, and what to do where something is missing."""

    what: str
    there: bool = True
    remedy: str = ""


def python() -> Iterator[Finding]:
    """The interpreter, and this package."""
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    yield Finding(f"Python {version} at {sys.executable}", ok, "" if ok else "kmemlab needs Python 3.11 or newer")
    yield Finding(f"kmemlab {__version__} at {PACKAGE}")


def course() -> Iterator[Finding]:
    """Where `kmemlab lab` takes the notebooks from."""
    source = originals()
    if source is None:
        yield Finding("no notebooks", False, "install kmemlab anew, or run it from a clone")
        return
    count = len(list((source / "notebooks").glob("*.ipynb")))
    yield Finding(f"{count} lectures in {'the clone' if clone() else 'the package'}, {source}")


def lab() -> Iterator[Finding]:
    """What the notebooks need."""
    for package in (
        "jupyterlab",
        "ipykernel",
        "ipywidgets",
        "anywidget",
        "numpy",
        "matplotlib",
        "nbformat",
        "nbclient",
        "nbval",
    ):
        yield _package(package, LAB)


def tests() -> Iterator[Finding]:
    """What the tests need besides."""
    for package in ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "playwright", "mypy", "ruff"):
        yield _package(package, TEST)


def _package(name: str, remedy: str) -> Finding:
    try:
        return Finding(f"{name} {importlib.metadata.version(name)}")
    except importlib.metadata.PackageNotFoundError:
        return Finding(f"{name} is not installed", False, remedy)


def graphviz() -> Iterator[Finding]:
    """Who writes DOT, and who renders it."""
    yield _package("graphviz", LAB)
    yield _renderer()


def _renderer() -> Finding:
    from kmemlab.views.dot import render, renderers

    found = [f"{kind} ({path})" for kind, path in renderers()]
    if not found:
        return Finding("no renderer: diagrams are shown as stored pictures, or as DOT text", False, LAB)
    if render("digraph { a -> b }") is None:
        return Finding(f"no renderer works: {', '.join(found)}", False, f"unset KMEMLAB_DOT if it is wrong, or {LAB}")
    return Finding(f"renderer: {found[0]}, tried")


def browser() -> Iterator[Finding]:
    """A browser to work in, and Chromium for the browser test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            yield Finding(f"Chromium at {path}")
            return
    yield Finding(
        "no Chromium: the browser test is skipped; any browser is good to work in",
        False,
        "apt-get install chromium, or playwright install chromium",
    )


def sandbox() -> Iterator[Finding]:
    """What can hold a stranger's code when it is graded: a check in a notebook runs in that notebook's own process."""
    yield Finding("pytest --nbval-lax: a process of its own for each notebook, a time limit for each check")
    yield _rlimits()
    yield _bubblewrap()


def _rlimits() -> Finding:
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return Finding("no resource limits on this system", False, "grade on Linux, or in a container")
    bounds = [name for name in ("AS", "CPU", "FSIZE", "NOFILE", "NPROC") if hasattr(resource, f"RLIMIT_{name}")]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    remedy = (
        "you are root, whom the limit on processes doesn't bind: run strangers' notebooks as another user"
        if root
        else ""
    )
    return Finding(f"resource limits: {', '.join(bounds)}", True, remedy)


def _bubblewrap() -> Finding:
    path = shutil.which("bwrap")
    install = "apt-get install bubblewrap: the graded code then has no network and can write nowhere else"
    if path is None:
        return Finding("bubblewrap is not installed", False, install)
    probe = [path, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", sys.executable, "-I", "-c", "pass"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(f"bubblewrap at {path} doesn't run: {error}", False, "do without, or in a container")
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return Finding(
            f"bubblewrap at {path} doesn't work here: {reason}",
            False,
            "user namespaces are closed to you: ask the administrator, or grade without",
        )
    return Finding(f"bubblewrap at {path}: no network, read-only files (tried)")
