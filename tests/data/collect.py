"""Copy what the tests compare with out of a folder of captured machines.

    collect.py CAPTURES

CAPTURES holds one folder a machine: hardware.json (what the machine gave) and the texts that Linux printed. Kept is the
x86-64 BIOS machines of kernel 6.1: machines/NAME/hardware.json, and machines/NAME/expected.json with

    dmesg   the lines that tell about memory, in order, without time stamps and without code offsets
    zones   {"node/zone": {"spanned": …, "present": …, "managed": …, "start_pfn": …}} of /proc/zoneinfo
    iomem   the rows of /proc/iomem that memory set-up made

and slab.json, for every machine of kernel 6.1, whatever its firmware and architecture: what SLUB's formulas need of
the machine, and kmalloc's rows of /sys/kernel/slab (the fields of SLAB_FIELDS). Machines with equal rows share a table.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path

KEPT = Path(__file__).parent / "machines"
SLAB = Path(__file__).parent / "slab.json"
SLAB_FIELDS = ("object_size", "slab_size", "objs_per_slab", "order", "cpu_partial", "min_partial")
LEFT_OUT = {"amd64-dimm-online-movable-2g-plus-1g"}  # memory that is plugged in after boot

STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s?")
OFFSET = re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+$")
LINES = re.compile(
    r"BIOS-|user-defined physical RAM map:|user: |e820: |extended physical RAM map:|reserve setup_data: "
    r"|last_pfn = |Using GB pages|RAMDISK: |Allocated new RAMDISK|Move RAMDISK|found SMP MP-table"
    r"|No NUMA configuration|NUMA turned off|Faking |NODE_DATA\(|(ACPI: )?SRAT: |NUMA: |Fallback order|ACPI: Reserving"
    r"|MEMBLOCK configuration:| memory size = | memory\.cnt| memory\[0x| reserved\.cnt| reserved\[0x"
    r"|memblock_(add|reserve|remove|phys_free): |PM: hibernation: Registered nosave|Reserving \d+MB|.*available for PCI"
    r"|Zone ranges:|  (DMA|DMA32|Normal|HighMem|Device|Movable) +(\[mem|empty)|Movable zone start|  Node \d+: 0x"
    r"|Early memory node|  node +\d+: \[mem|Initmem setup node|Initializing node|On node \d+"
    r"|mminit::|Built \d+ zonelists|Policy zone"
    r"|percpu: Embedded|pcpu-alloc: |Memory: \d+K|(Dentry |Inode-)cache hash table|software IO TLB"
    r"|SLUB: |x86/PAT: |Disabled$|mtrr: "
)
IOMEM = re.compile(
    r"^\s*[0-9a-f]+-[0-9a-f]+ : (System RAM|Reserved|ACPI .*|Kernel \w+|Crash kernel|Unusable .*|Persistent .*)$"
)


def text(folder: Path, name: str) -> str:
    """A text of a machine, packed or not."""
    path = folder / name
    return path.read_text() if path.is_file() else gzip.decompress((folder / f"{name}.gz").read_bytes()).decode()


def zones(zoneinfo: str) -> dict[str, dict[str, int]]:
    """The sizes of each zone in /proc/zoneinfo."""
    found: dict[str, dict[str, int]] = {}
    for line in zoneinfo.splitlines():
        head = re.match(r"^Node (\d+), zone +(\S+)", line)
        if head:
            zone = found.setdefault(f"{head[1]}/{head[2]}", {})
        size = re.match(r"^\s+(spanned|present|managed|start_pfn):? +(\d+)$", line)
        if size:
            zone[size[1]] = int(size[2])
    return found


def collect(folder: Path, target: Path) -> None:
    """Write both files of one machine."""
    hardware = json.loads(text(folder, "hardware.json"))
    dmesg = [OFFSET.sub("", STAMP.sub("", line).rstrip()) for line in text(folder, "dmesg.txt").splitlines()]
    expected = {
        "dmesg": [line for line in dmesg if LINES.match(line)],
        "zones": zones(text(folder, "zoneinfo.txt")),
        "iomem": [line.strip() for line in text(folder, "iomem.txt").splitlines() if IOMEM.match(line)],
    }
    target.mkdir(parents=True, exist_ok=True)
    (target / "hardware.json").write_text(json.dumps(hardware, separators=(",", ":")) + "\n")
    (target / "expected.json").write_text(json.dumps(expected, indent=0) + "\n")


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


def main(captures: Path) -> int:
    """Collect every machine that can be booted, and the slab tables of all."""
    collect_slab(captures)
    for folder in sorted(path for path in captures.iterdir() if (path / "hardware.json").is_file()):
        hardware = json.loads(text(folder, "hardware.json"))
        wanted = (hardware["firmware"], hardware["kernel"]) == ("BIOS", "amd64-6.1")
        if wanted and folder.name not in LEFT_OUT:
            collect(folder, KEPT / folder.name)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1])))
