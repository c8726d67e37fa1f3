"""How fast is the whole way of a page?   python tests/bench/bench_page_alloc.py [--repeat N] [--c BINARY FILE.ops]

Takes and gives back single pages on a booted machine, with the functions that Machine uses and recording off: every
call is alloc_pages or free_pages from zonelist to per-CPU lists. Half of the time pages come back in the order of a
stack, half in any order. The last line printed is one JSON object. With --c, the C reference of bench_buddy.py (bare
buddy, op file W2) is run in turn with each of ours, and the median of the paired ratios is told too.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path

from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.machine.machine import Machine
from kmemlab.types.gfp import GFP_KERNEL
from tests.bench.bench_buddy import run_c

OPS = 200_000


def plan(seed: int = 1) -> list[int]:
    """-1 takes a page; another number gives back the page at that place of those held."""
    rng, held, steps = random.Random(seed), 0, []
    for at in range(OPS):
        if held < 100 or rng.random() < 0.5 + (5000 - held) / 20000:
            steps.append(-1)
            held += 1
        else:
            steps.append(rng.randrange(held) if at & 1 else held - 1)
            held -= 1
    return steps


def run(machine: Machine, steps: list[int]) -> float:
    """Operations per second of processor time; all pages are given back at the end, untimed."""
    mm, held = machine.kernel.mm, []
    alloc, free = alloc_pages_inner, free_pages_inner
    start = time.process_time()
    for step in steps:
        if step < 0:
            held.append(alloc(mm, GFP_KERNEL, 0, 0))
        else:
            held[step], held[-1] = held[-1], held[step]
            free(mm, held.pop(), 0)
    seconds = time.process_time() - start
    for pfn in held:
        free(mm, pfn, 0)
    return len(steps) / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--c", nargs=2, metavar=("BINARY", "OPS"), help="a C reference to run in turn with ours")
    args = parser.parse_args()
    machine, steps = Machine.boot("laptop-8g"), plan()
    speeds, ratios = [], []
    for _ in range(args.repeat):
        speeds.append(run(machine, steps))
        if args.c:
            ratios.append(run_c(args.c[0], Path(args.c[1])) / speeds[-1])
    machine.check()
    result: dict[str, object] = {"ops_per_s": round(statistics.median(speeds))}
    if ratios:
        result["c_times_faster"] = round(statistics.median(ratios), 1)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
