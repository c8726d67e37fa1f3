"""Copy recorded traces of real machines, with the states saved before, during and after them.

    collect_traces.py CAPTURES NAME …
    collect_traces.py CAPTURES NAME:MARK …    the events up to a mark of the trace only, as NAME-until-SAMPLE

CAPTURES holds one folder a trace. Of each NAME, traces/NAME gets the events (packed anew, xz), hardware.json,
version.txt, the tables that tell which names of sysfs were in memory, the texts of before/ and after/ that a replay
compares with, and zoneinfo.txt of each of samples/.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import sys
from pathlib import Path

KEPT = Path(__file__).parent / "traces"
STATE = ("zoneinfo.txt", "buddyinfo.txt", "pagetypeinfo.txt", "slabinfo.txt", "kpageflags_rle.txt.gz")
MACHINE = ("hardware.json", "version.txt", "before/vmstat.txt")
TABLES = ("slab_table.txt", "firmware_memmap.txt", "memory_blocks.txt", "sys_kernel_mm.txt", "nodes/node0_meminfo.txt")


def collect(trace: Path, mark: str = "") -> None:
    """Copy one trace, or its events up to a mark: what follows is left out, but for the marks of the end."""
    lines = gzip.decompress((trace / "events.txt.gz").read_bytes()).decode().splitlines(keepends=True)
    to = KEPT / trace.name
    if mark:
        to = KEPT / f"{trace.name}-until-{mark.split()[0].rpartition('/')[2]}"
        cut = next(at for at, line in enumerate(lines) if line.endswith(f": {mark}\n")) + 1
        lines = lines[:cut] + [line for line in lines[cut:] if "tracing_mark_write: after" in line]
    wanted = [trace / name for name in MACHINE + TABLES]
    wanted += [trace / moment / name for moment in ("before", "after") for name in STATE]
    wanted += sorted(trace.glob("samples/*/zoneinfo.txt"))
    for path in wanted:
        copy = to / path.relative_to(trace)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    (to / "events.txt.xz").write_bytes(lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        collect(Path(sys.argv[1]) / name.partition(":")[0], name.partition(":")[2])
