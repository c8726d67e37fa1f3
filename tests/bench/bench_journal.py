"""What does recording cost?   python tests/bench/bench_journal.py FILE.ops [--repeat N]

Runs the timed part of an op file (bench_buddy.py tells the format) on a bare zone: before any recorder was there, after
one was started and stopped, and while one records (each operation a command). The last line printed is one JSON object:
`off_ratio` is the time after start and stop over the time before (1.0: recording that is off costs nothing).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

from bench_buddy import Player, read_ops

from kmemlab.mm.buddy import example_zone
from kmemlab.mm.mem_map import MAX_ORDER
from kmemlab.sim.journal import Journal
from kmemlab.sim.recorder import Recorder
from kmemlab.sim.timeline import Timeline


def prepared(path: Path) -> tuple[Player, list[int]]:
    pages, untimed, timed = read_ops(path)
    player = Player(example_zone(MAX_ORDER - 1, pages >> (MAX_ORDER - 1)))
    player.play(untimed)
    return player, list(timed)


def plain(path: Path) -> float:
    player, words = prepared(path)
    start = time.process_time()
    player.play(words)
    return time.process_time() - start


def recorded(path: Path) -> tuple[float, float, float]:
    """Operations a second, bytes an operation, and seconds to rewind all."""
    player, words = prepared(path)
    journal = Journal(lambda command: None, cap=1 << 40)
    recorder = Recorder(player.zone, journal)
    recorder.start()
    start = time.process_time()
    for number, word in enumerate(words):
        with recorder.command("op", (number,)):
            player.play((word,))
    seconds = time.process_time() - start
    start = time.process_time()
    Timeline(journal, recorder.listening).rewind(0)
    back = time.process_time() - start
    recorder.stop()
    return len(words) / seconds, memory(path), back


def memory(path: Path) -> float:
    """Bytes that Python holds more for each recorded operation, log and commands and all."""
    player, words = prepared(path)
    journal = Journal(lambda command: None, cap=1 << 40)
    recorder = Recorder(player.zone, journal)
    recorder.start()
    tracemalloc.start()
    for number, word in enumerate(words):
        with recorder.command("op", (number,)):
            player.play((word,))
    held = sum(
        stat.size
        for stat in tracemalloc.take_snapshot().statistics("filename")
        if "/sim/" in stat.traceback[0].filename.replace(os.sep, "/")
    )
    tracemalloc.stop()
    recorder.stop()
    return held / len(words)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ops", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    before = [plain(args.ops) for _ in range(args.repeat)]
    on = [recorded(args.ops) for _ in range(args.repeat)]
    after = [plain(args.ops) for _ in range(args.repeat)]
    print(
        json.dumps(
            {
                "off_ratio": round(statistics.median(after) / statistics.median(before), 3),
                "recorded_ops_per_s": round(statistics.median(row[0] for row in on)),
                "bytes_per_op": round(on[0][1], 1),
                "rewind_seconds": round(statistics.median(row[2] for row in on), 2),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
