"""How fast is vmalloc?   python tests/bench/bench_vmalloc.py [--pages N] [--held N] [--repeat N] [--c BINARY OPS]

Boots a machine; gives and frees areas of N pages by the functions that Machine uses, while `held` others are there.
The last line printed is one JSON object: pairs of vmalloc and vfree a second, and vmallocs alone. With --c, a C
reference that prints `best N Mops/s` for `BINARY buddy OPS N` is run in turn with ours, and the median of the paired
ratios to the pairs is told too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from kmemlab.alloc.vfree import run_vmap_work, vfree
from kmemlab.alloc.vmalloc import vmalloc
from kmemlab.machine.machine import Machine
from kmemlab.mm.globals import Mm
from kmemlab.types.units import PAGE_SIZE
from tests.bench.bench_buddy import run_c

PAIRS = 2000


def run(mm: Mm, pages: int) -> tuple[float, float]:
    """Pairs of vmalloc and vfree a second, and vmallocs a second."""
    clock, vmalloc_seconds, pair_seconds = time.process_time, 0.0, 0.0
    for _ in range(PAIRS):
        start = clock()
        address = vmalloc(mm, pages * PAGE_SIZE, "bench")
        half = clock()
        vfree(mm, address)
        run_vmap_work(mm)
        vmalloc_seconds += half - start
        pair_seconds += clock() - start
    return PAIRS / pair_seconds, PAIRS / vmalloc_seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", type=int, default=16)
    parser.add_argument("--held", type=int, default=100, help="areas that are busy meanwhile")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--c", nargs=2, metavar=("BINARY", "OPS"), help="a C reference to run in turn with ours")
    args = parser.parse_args()
    mm = Machine.boot("laptop-8g").kernel.mm
    for nth in range(args.held):
        vmalloc(mm, (1 + nth % 7) * PAGE_SIZE, "holder")
    runs, ratios = [], []
    for _ in range(args.repeat):
        runs.append(run(mm, args.pages))
        if args.c:
            ratios.append(run_c(args.c[0], Path(args.c[1])) / runs[-1][0])
    pairs, vmallocs = (statistics.median(column) for column in zip(*runs, strict=True))
    result: dict[str, object] = {"pages": args.pages, "pairs_per_s": round(pairs), "vmallocs_per_s": round(vmallocs)}
    if ratios:
        result["pairs_c_times_faster"] = round(statistics.median(ratios), 1)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
