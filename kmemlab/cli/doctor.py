"""`kmemlab doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from kmemlab.cli import probes
from kmemlab.cli.probes import Finding

GROUPS = (
    ("Python", probes.python),
    ("Course", probes.course),
    ("JupyterLab and widgets", probes.lab),
    ("Graphviz", probes.graphviz),
    ("Tests", probes.tests),
    ("Browser", probes.browser),
    ("To run strangers' notebooks in", probes.sandbox),
)


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor", help="what is installed, what is missing, what to do"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the findings; the exit status is 0, whatever is missing: nothing is, until you need it."""
    for line in report():
        print(line, flush=True)
    return 0


def report() -> Iterator[str]:
    """The findings, group by group: what is there, and below it what to do."""
    for title, probe in GROUPS:
        yield title
        for finding in probe():
            yield from _lines(finding)


def _lines(finding: Finding) -> Iterator[str]:
    yield f"  {'ok' if finding.there else '--':<4}{finding.what}"
    if finding.remedy:
        yield f"      {finding.remedy}"
