"""Copy recorded traces of real machines, with the states saved before, during and after them.

    collect_traces.py CAPTURES NAME …

CAPTURES holds one folder a trace. Of each NAME, traces/NAME gets the events (packed anew, xz), hardware.json,
version.txt, slab_table.txt, the texts of before/ and after/ that a replay compares with, and zoneinfo.txt of each of
samples/.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import sys
from pathlib import Path

KEPT = Path(__file__).parent / "traces"
STATE = ("zoneinfo.txt", "buddyinfo.txt", "pagetypeinfo.txt", "slabinfo.txt", "kpageflags_rle.txt.gz")
MACHINE = ("hardware.json", "version.txt", "slab_table.txt")


def collect(trace: Path) -> None:
    """Copy one trace."""
    to = KEPT / trace.name
    wanted = [trace / name for name in MACHINE]
    wanted += [trace / moment / name for moment in ("before", "after") for name in STATE]
    wanted += sorted(trace.glob("samples/*/zoneinfo.txt"))
    for path in wanted:
        copy = to / path.relative_to(trace)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    text = gzip.decompress((trace / "events.txt.gz").read_bytes())
    (to / "events.txt.xz").write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        collect(Path(sys.argv[1]) / name)
