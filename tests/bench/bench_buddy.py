"""How fast is the bare buddy?   python tests/bench/bench_buddy.py FILE.ops [--repeat N] [--c BINARY]

Runs an op file (see below) on a bare zone with the functions that Machine uses: rmqueue_smallest and free_one_page.
The last line printed is one JSON object. With --c, a C reference that prints `best N Mops/s` for `BINARY buddy FILE N`
is run in turn with each of ours, and the median of the paired ratios is told too.

An op file is little-endian int32: [pages, untimed words, timed words], then the words. A word ≥ 0 takes a block of that
order into the next slot; a word < 0 gives back slot -word-1.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

from kmemlab.mm.buddy import example_zone, free_one_page, rmqueue_smallest
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.mm.zone import NR_FREE_PAGES, Zone
from kmemlab.types.migratetype import MIGRATE_MOVABLE


class Player:
    """Plays op words on a zone; remembers who holds what."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.slots: list[int | None] = []
        self.orders: list[int] = []

    def play(self, words: Sequence[int]) -> None:
        zone, slots, orders = self.zone, self.slots, self.orders
        for word in words:
            if word >= 0:
                pfn = rmqueue_smallest(zone, word, MIGRATE_MOVABLE)
                if pfn is not None:
                    zone.vm_stat[NR_FREE_PAGES] -= 1 << word
                slots.append(pfn)
                orders.append(word)
            else:
                held = slots[-word - 1]
                if held is not None:
                    free_one_page(zone, held, orders[-word - 1], MIGRATE_MOVABLE)


def read_ops(path: Path) -> tuple[int, array[int], array[int]]:
    words = array("i", path.read_bytes())
    pages, untimed, timed = words[:3]
    return pages, words[3 : 3 + untimed], words[3 + untimed : 3 + untimed + timed]


def run(path: Path) -> tuple[float, list[int]]:
    """Operations per second of the timed part, and the free blocks per order at the end."""
    pages, untimed, timed = read_ops(path)
    player = Player(example_zone(MAX_ORDER - 1, pages >> (MAX_ORDER - 1)))
    player.play(untimed)
    start = time.process_time()
    player.play(timed)
    seconds = time.process_time() - start
    return len(timed) / seconds, player.zone.nr_free.tolist()


def run_c(binary: str, path: Path) -> float:
    text = subprocess.run([binary, "buddy", str(path), "20"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"best ([0-9.]+) Mops/s", text)
    assert found, text
    return float(found[1]) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ops", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--c", metavar="BINARY", help="a C reference to run in turn with ours")
    args = parser.parse_args()
    speeds, ratios, free = [], [], []
    for _ in range(args.repeat):
        speed, free = run(args.ops)
        speeds.append(speed)
        if args.c:
            ratios.append(run_c(args.c, args.ops) / speed)
    result: dict[str, object] = {"ops_per_s": round(statistics.median(speeds)), "free_per_order": free}
    if ratios:
        result["c_times_faster"] = round(statistics.median(ratios), 1)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
