"""What does boot cost as machines grow?   python tests/bench/bench_boot.py [--repeat N] [--plot FILE.svg]

Boots machines from 64 MiB to 64 TiB, each in a process of its own, and prints for each the seconds of the boot (the
best of N) and the most memory that the process ever had. The last line is one JSON object. With --plot (needs
matplotlib), a picture of the growth.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MIB, GIB = 1 << 20, 1 << 30
SIZES = tuple(1 << shift for shift in range(26, 47, 2))
LOW = 3 * GIB  # what is more lies above 4 GiB

# Debian's kernel as QEMU's CPU "max" runs it; the flags decide page sizes and levels of the direct map.
FLAGS = ("fpu", "pse", "tsc", "msr", "pae", "mtrr", "pge", "pat", "nx", "pdpe1gb", "lm", "la57")


def machine_of(size: int) -> dict[str, Any]:
    """A machine of one node with `size` bytes of RAM."""
    low = min(size, LOW)
    e820: list[list[Any]] = [
        [0, 0x9FBFF, "usable"],
        [0x9FC00, 0x9FFFF, "reserved"],
        [0xF0000, 0xFFFFF, "reserved"],
        [0x100000, low - 1, "usable"],
        [0xFFFC0000, 0xFFFFFFFF, "reserved"],
    ]
    if size > low:
        e820.append([4 * GIB, 4 * GIB + size - low - 1, "usable"])
    return {
        "name": f"bench-{size // MIB}m",
        "e820": e820,
        "cmdline": "quiet nokaslr",
        "cpus": {"present": 4, "possible": 4, "flags": list(FLAGS), "phys_bits": 52, "virt_bits": 57},
    }


def boot_once(size: int) -> dict[str, float]:
    """Boot here; the seconds that it took, and the most memory that this process has had."""
    from kmemlab.machine.machine import Machine

    source = machine_of(size)
    start = time.perf_counter()
    machine = Machine.boot(source)
    seconds = time.perf_counter() - start
    assert machine.kernel.mm.totalram_pages * 4096 > size // 8
    return {"seconds": seconds, "peak_mib": peak_bytes() / MIB}


def peak_bytes() -> int:
    """The most memory that this program has had resident."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would tell of the process that started this one, if that was larger
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(size: int, repeat: int) -> dict[str, float]:
    """The best of some boots, each in a fresh process."""
    command = [sys.executable, __file__, "--one", str(size)]
    root = Path(__file__).parents[2]
    runs = [
        json.loads(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)
        for _ in range(repeat)
    ]
    best = {key: min(run[key] for run in runs) for key in runs[0]}
    return {"gib": size / GIB, "seconds": round(best["seconds"], 4), "peak_mib": round(best["peak_mib"], 1)}


def plot(rows: list[dict[str, float]], target: Path) -> None:
    """Seconds and memory over the size of the machine, the size by powers of two."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    sizes = [row["gib"] for row in rows]
    for axis, key, title in zip(axes, ("seconds", "peak_mib"), ("boot, seconds", "peak memory, MiB"), strict=True):
        axis.plot(sizes, [row[key] for row in rows], marker="o", color="#1f5fa8")
        axis.set_xscale("log", base=2)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("RAM of the machine, GiB")
        axis.set_title(title)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(target)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the growth into FILE (.svg, .png)")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(boot_once(args.one)))
        return 0
    rows = []
    for size in SIZES:
        rows.append(measure(size, args.repeat))
        print(f"{rows[-1]['gib']:10.2f} GiB  {rows[-1]['seconds']:8.4f} s  {rows[-1]['peak_mib']:7.1f} MiB", flush=True)
    if args.plot:
        plot(rows, args.plot)
    print(json.dumps({"boots": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
