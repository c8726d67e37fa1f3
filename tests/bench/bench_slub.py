"""How fast are objects?   python tests/bench/bench_slub.py [--slab SLUB] [--repeat N] [--c BINARY OPS]

Takes and gives back objects with the functions that Machine uses, recording off. Three workloads:

pairs    take one, give it back: always the fast path
waves    take a thousand, give them back in the same order
mix      a thousand objects are held; one is taken or given back at random, in three sizes: all paths

The last line printed is one JSON object. With --c, a C reference that prints `best N Mops/s` for `BINARY buddy OPS N`
is run in turn with ours, and the median of the paired ratios is told too.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path

from kmemlab.alloc.kmalloc import kfree, kmalloc
from kmemlab.alloc.slab_common import SlabCommon, kmem_cache_alloc, kmem_cache_free
from kmemlab.alloc.slab_create import kmem_cache_create
from kmemlab.machine.machine import Machine
from kmemlab.types.gfp import GFP_KERNEL
from tests.bench.bench_buddy import run_c

OPERATIONS = 200_000


def pairs(common: SlabCommon, operations: int) -> float:
    """Seconds for `operations` requests and frees in turn."""
    cache = kmem_cache_create(common, "bench", 128)
    assert cache is not None
    start = time.process_time()
    for _ in range(operations // 2):
        address = kmem_cache_alloc(cache, GFP_KERNEL)
        assert address is not None
        kmem_cache_free(cache, address)
    return time.process_time() - start


def waves(common: SlabCommon, operations: int) -> float:
    """Seconds for `operations` requests and frees, a thousand of each in turn."""
    cache = kmem_cache_create(common, "bench", 128)
    assert cache is not None
    start = time.process_time()
    for _ in range(operations // 2000):
        for address in [kmem_cache_alloc(cache, GFP_KERNEL) for _ in range(1000)]:
            assert address is not None
            kmem_cache_free(cache, address)
    return time.process_time() - start


def mix(common: SlabCommon, operations: int) -> float:
    """Seconds for `operations` requests and frees at random, when a thousand objects are held."""
    dice = random.Random(1)
    plan = [(dice.random() < 0.5, dice.randrange(1000), dice.choice((32, 100, 500))) for _ in range(operations)]
    held = [kmalloc(common, 100, GFP_KERNEL) for _ in range(1000)]
    start = time.process_time()
    for take, at, size in plan:
        if take or len(held) < 500:
            held.append(kmalloc(common, size, GFP_KERNEL))
        else:
            address = held[at % len(held)]
            held[at % len(held)] = held[-1]
            held.pop()
            assert address is not None
            kfree(common, address)
    return time.process_time() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slab", default="SLUB")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--c", nargs=2, metavar=("BINARY", "OPS"), help="a C reference to run in turn with ours")
    args = parser.parse_args()
    result: dict[str, object] = {"slab": args.slab}
    for workload in (pairs, waves, mix):
        speeds, ratios = [], []
        for _ in range(args.repeat):
            common = Machine.boot("tiny-128m", slab=args.slab).kernel.slab
            speed = OPERATIONS / workload(common, OPERATIONS)
            speeds.append(speed)
            if args.c:
                ratios.append(run_c(args.c[0], Path(args.c[1])) / speed)
        result[f"{workload.__name__}_ops_per_s"] = round(statistics.median(speeds))
        if ratios:
            result[f"{workload.__name__}_c_times_faster"] = round(statistics.median(ratios), 1)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
