"""Traces of real machines that tests replay, and small ones that are written on the spot."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from kmemlab.machine.replay import ReplayReport, replay

TRACES = Path(__file__).parents[1] / "data" / "traces"
HEADER = "# tracer: nop\n#\n"


@cache
def replayed(name: str) -> ReplayReport:
    """A trace's report; it is replayed once."""
    return replay(TRACES / name)


def line(event: str, fields: str, cpu: int = 0, flags: str = ".....", time: float = 1.0) -> str:
    """One line of a trace."""
    return f"{'task':>16}-{'7':<7} [{cpu:03}] {flags} {time:12.6f}: {event}: {fields}"


def page(pfn: int, order: int, more: str = "") -> str:
    """The fields that all page events begin with."""
    return f"page=ffffea{pfn * 64:010x} pfn=0x{pfn:x} order={order}{more}"


ZONEINFO = """Node 0, zone   Normal
  pages free     {free}
        min      8
        low      16
        high     24
        spanned  4096
        present  4096
        managed  4096
        protection: (0)
  pagesets
    cpu: 0
              count: 0
              high:  60
              batch: 15
  start_pfn:           0
"""


def write_state(folder: Path, free: Sequence[tuple[int, int]]) -> None:
    """A saved state of a zone of 4096 pages, of which the ranges [start, end) are free."""
    folder.mkdir(parents=True)
    (folder / "zoneinfo.txt").write_text(ZONEINFO.format(free=sum(end - start for start, end in free)))
    (folder / "buddyinfo.txt").write_text("Node 0, zone   Normal " + "     0 " * 11 + "\n")
    runs = "".join(f"{start:x} {end - start} 400 0\n" for start, end in free)
    (folder / "kpageflags_rle.txt.gz").write_bytes(gzip.compress(runs.encode()))


def write_trace(
    folder: Path, lines: Sequence[str], before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]
) -> Path:
    """A trace folder: `lines` between the marks, and the free ranges before and after."""
    write_state(folder / "before", before)
    write_state(folder / "after", after)
    marked = [line("tracing_mark_write", "before end"), *lines, line("tracing_mark_write", "after end")]
    (folder / "events.txt").write_text(HEADER + "\n".join(marked) + "\n")
    return folder


def copy_of(name: str, folder: Path) -> Path:
    """A copy of a real trace that a test may spoil."""
    return shutil.copytree(TRACES / name, folder / name)
