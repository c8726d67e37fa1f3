"""How fast is vmalloc?   python tests/bench/bench_vmalloc.py [--pages N] [--held N] [--repeat N]

Boots a machine; gives and frees areas of N pages by the functions that Machine uses, while `held` others are there.
The last line printed is one JSON object: pairs of vmalloc and vfree a second, and calls (two a pair).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from kmemlab.alloc.vfree import run_vmap_work, vfree
from kmemlab.alloc.vmalloc import vmalloc
from kmemlab.machine.machine import Machine
from kmemlab.mm.globals import Mm
from kmemlab.types.units import PAGE_SIZE

PAIRS = 2000


def run(mm: Mm, pages: int) -> float:
    """Pairs of vmalloc and vfree a second."""
    start = time.process_time()
    for _ in range(PAIRS):
        vfree(mm, vmalloc(mm, pages * PAGE_SIZE, "bench"))
        run_vmap_work(mm)
    return PAIRS / (time.process_time() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pages", type=int, default=16)
    parser.add_argument("--held", type=int, default=100, help="areas that are busy meanwhile")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    mm = Machine.boot("laptop-8g").kernel.mm
    for nth in range(args.held):
        vmalloc(mm, (1 + nth % 7) * PAGE_SIZE, "holder")
    pairs = statistics.median(run(mm, args.pages) for _ in range(args.repeat))
    print(json.dumps({"pages": args.pages, "pairs_per_s": round(pairs), "calls_per_s": round(2 * pairs)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
