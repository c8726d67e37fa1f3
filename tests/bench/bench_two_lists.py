"""How fast are the bare two lists?   python tests/bench/bench_two_lists.py ACC.bin [--frames N] [--repeat N]

Plays a file of accesses (little-endian int32: page numbers below 65536) on the two lists. The last line printed is one
JSON object: accesses a second, the median of the runs, and the miss ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from array import array
from pathlib import Path

from kmemlab.reclaim.two_lists import TwoLists


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("accesses", type=Path)
    parser.add_argument("--frames", type=int, default=1024)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    accesses = array("i", args.accesses.read_bytes())
    speeds, missed = [], 0
    for _ in range(args.repeat):
        lists = TwoLists(65536, args.frames)
        start = time.process_time()
        missed = lists.misses(accesses)
        speeds.append(len(accesses) / (time.process_time() - start))
    ratio = round(missed / len(accesses), 4)
    print(json.dumps({"accesses_per_s": round(statistics.median(speeds)), "miss_ratio": ratio}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
