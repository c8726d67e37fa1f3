"""Copy what real kernels took for their memory map out of a folder of captured machines.

    collect_memory_maps.py CAPTURES

Writes memory_maps.json beside this file, one machine a line (machines that agree in everything are kept once):

    kernel, levels, pse   the configuration, the levels of its page tables, whether it had 2 MiB pages
    ranges                the lines "node N: [mem …]": first pfn, pfn behind, node
    max_low_pfn           where low memory ended (i386)
    maps                  each piece of the memory map: node, bytes, physical address
    usemaps               bytes of each map of pageblock types (x86-64: with what a section's usage keeps beside it)
    roots, tables         bytes of the table of sections, and of page tables for vmemmap (x86-64)
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "memory_maps.json"
RANGE = re.compile(r"  node +(\d+): \[mem 0x(\w+)-0x(\w+)\]$")
LOW = re.compile(r"  low ram: 0 - (\w+)$")
ALLOC = re.compile(r"memblock_alloc_\w+: (\d+) bytes align=\w+ nid=(-?\d+) .* ([\w.]+)\+0x\w+/0x\w+$")
RESERVE = re.compile(r"memblock_reserve: \[0x(\w+)-")
STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s?")


def log_of(folder: Path) -> list[str]:
    """The kernel log without its time stamps."""
    plain = folder / "dmesg.txt"
    text = plain.read_text() if plain.exists() else gzip.decompress((folder / "dmesg.txt.gz").read_bytes()).decode()
    return [STAMP.sub("", line).rstrip() for line in text.splitlines()]


def facts_of(folder: Path) -> dict[str, Any]:
    """What one machine's log says of its memory map."""
    spec = json.loads((folder / "hardware.json").read_text())
    flags, five = spec["cpus"]["flags"], "no5lvl" not in spec["cmdline"]
    levels = {"i386-6.1": 2, "i386-pae-6.1": 3}.get(spec["kernel"], 5 if "la57" in flags and five else 4)
    facts: dict[str, Any] = {"kernel": spec["kernel"], "levels": levels, "pse": "pse" in flags}
    facts |= {"ranges": [], "maps": [], "usemaps": [], "roots": 0, "tables": 0}
    lines = log_of(folder)
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if found := RANGE.match(line):
            nid, start, last = int(found[1]), int(found[2], 16), int(found[3], 16)
            facts["ranges"].append([start >> 12, last + 1 >> 12, nid])
        elif found := LOW.match(line):
            facts["max_low_pfn"] = int(found[1], 16) >> 12
        elif found := ALLOC.match(line):
            size, nid, caller = int(found[1]), int(found[2]), found[3]
            if caller == "memmap_alloc" or (caller == "sparse_init_nid" and "exact_nid_raw" in line):
                place = RESERVE.match(following)
                assert place, f"{folder.name}: {line} took nothing"
                facts["maps"].append([nid, size, int(place[1], 16)])
            elif caller in ("setup_usemap", "sparse_init_nid"):
                facts["usemaps"].append(size)
            elif caller in ("sparse_init", "sparse_index_alloc"):
                facts["roots"] += size
            elif caller.startswith("vmemmap_alloc_block"):
                facts["tables"] += size
    return facts


def main(captures: Path) -> None:
    """Collect all machines of kernel 6.1."""
    kept: dict[str, str] = {}
    for folder in sorted(captures.iterdir()):
        if "6.1" in json.loads((folder / "hardware.json").read_text())["kernel"].split("-"):
            kept.setdefault(json.dumps(facts_of(folder)), folder.name)
    TARGET.write_text("{\n" + ",\n".join(f'"{name}": {facts}' for facts, name in kept.items()) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
