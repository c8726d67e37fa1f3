"""Copy what the tests compare with out of a folder of captured machines.

    collect.py CAPTURES
    collect.py CAPTURES --more

CAPTURES holds one folder a machine: hardware.json (what the machine gave) and the texts that Linux printed. Of every
machine of kernel 6.1, whatever its firmware and architecture, machines/NAME gets its hardware.json and the texts of
TEXTS that tell about memory, unchanged, the long ones packed. `kmemlab compare machines/NAME` reads such a folder.

And slab.json: what SLUB's formulas need of each machine, and kmalloc's rows of /sys/kernel/slab (the fields of
SLAB_FIELDS). Machines with equal rows share a table.

With --more the machines go to more_machines/ instead, and of each only what `kmemlab compare` reads, all packed. Those
are Debian's kernels 6.1.0-50 under QEMU 7.2: shapes and parameters that the others do not have.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

KEPT = Path(__file__).parent / "machines"
MORE = Path(__file__).parent / "more_machines"
SLAB = Path(__file__).parent / "slab.json"
SLAB_FIELDS = ("object_size", "slab_size", "objs_per_slab", "order", "cpu_partial", "min_partial")
TEXTS = (
    "zoneinfo.txt",
    "meminfo.txt",
    "sys_vm.txt",
    "iomem.txt",
    "pagetypeinfo.txt",
    "vmstat.txt",
    "firmware_memmap.txt",
)
COMPARED_TEXTS = ("dmesg.txt", "zoneinfo.txt", "meminfo.txt", "sys_vm.txt", "iomem.txt", "slab_table.txt")
PACKED_TEXTS = ("dmesg.txt", "slab_table.txt", "slabinfo.txt", "vmallocinfo.txt")


def text(folder: Path, name: str) -> str:
    """A text of a machine, packed or not."""
    path = folder / name
    return path.read_text() if path.is_file() else gzip.decompress((folder / f"{name}.gz").read_bytes()).decode()


def collect(folder: Path, target: Path, plain: tuple[str, ...] = TEXTS, packed: tuple[str, ...] = PACKED_TEXTS) -> None:
    """Copy the files of one machine."""
    hardware = json.loads(text(folder, "hardware.json"))
    target.mkdir(parents=True, exist_ok=True)
    (target / "hardware.json").write_text(json.dumps(hardware, separators=(",", ":")) + "\n")
    for name in plain:
        (target / name).write_text(text(folder, name))
    for name in packed:
        # Without a time stamp, the same text packs to the same bytes.
        (target / f"{name}.gz").write_bytes(gzip.compress(text(folder, name).encode(), mtime=0))


def kmalloc_rows(slab_table: str) -> dict[str, list[int]]:
    """The geometry of kmalloc's caches, by name."""
    head, *rows = [line.split("\t") for line in slab_table.splitlines()]
    cells = [dict(zip(head, row, strict=True)) for row in rows]
    return {
        cell["name"]: [int(cell[field].split()[0]) for field in SLAB_FIELDS]
        for cell in cells
        if cell["name"].startswith(("kmalloc-", "dma-kmalloc-"))
    }


def collect_slab(captures: Path) -> None:
    """Write slab.json."""
    tables: list[dict[str, object]] = []
    for folder in sorted(path for path in captures.iterdir() if (path / "hardware.json").is_file()):
        hardware = json.loads(text(folder, "hardware.json"))
        if not hardware["kernel"].endswith("-6.1"):
            continue
        cpus = hardware["cpus"]
        machine = {
            "name": folder.name,
            "pointer": 8 if hardware["arch"] == "x86_64" else 4,
            "cpus": [cpus["present"], cpus["possible"]],
            "cache_line": cpus["cache_line"],
            "cmdline": hardware["cmdline"].rpartition("ignore_loglevel")[2].strip(),
        }
        rows = kmalloc_rows(text(folder, "slab_table.txt"))
        table = next((table for table in tables if table["rows"] == rows), None)
        if table is None:
            tables.append({"machines": [machine], "rows": rows})
        else:
            table["machines"].append(machine)
    SLAB.write_text(json.dumps(tables, separators=(",", ":")).replace('{"', '\n{"').replace('],"', '],\n"') + "\n")


def main(captures: Path, more: bool) -> int:
    """Collect every machine of kernel 6.1, and the slab tables of all."""
    if not more:
        collect_slab(captures)
    for folder in sorted(path for path in captures.iterdir() if (path / "hardware.json").is_file()):
        if not json.loads(text(folder, "hardware.json"))["kernel"].endswith("-6.1"):
            continue
        if more:
            collect(folder, MORE / folder.name, (), COMPARED_TEXTS)
        else:
            collect(folder, KEPT / folder.name)
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["--more"]):
        print(__doc__)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1]), len(sys.argv) == 3))
