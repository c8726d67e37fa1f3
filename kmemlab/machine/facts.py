"""Facts: what a machine's texts say about memory, one by one, so that two machines can be compared.

    zoneinfo.txt                      facts
    Node 0, zone    DMA32             zone.size        0/DMA32 managed    754605
      pages free     749826    ──▶    zone.watermarks  0/DMA32 low        2356
            low      2356             zone.pcp         0/DMA32 cpu 0 high 1178
            managed  754605

What changes while a machine runs (free pages, counters) is no fact: two boots of one machine differ in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture


@invented("what is compared")
@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: what it is about, and its value. Of a line of the log, its words and the line itself."""

    what: str
    value: str

    def __str__(self) -> str:
        return self.value if self.what.startswith("line: ") else f"{self.what} {self.value}"


Facts = dict[str, tuple[Fact, ...]]

# Lines of the log that tell about memory: the family, what it is about, and how its lines start.
LOG_FAMILIES = (
    (
        "dmesg.e820",
        "the firmware's memory map",
        r"BIOS-provided physical RAM map:|BIOS-(e820|e801|88): |(user-defined|extended) physical RAM map:|user: "
        r"|e820: (update|remove|reserve)|reserve setup_data: ",
    ),
    (
        "dmesg.pfn",
        "where memory ends, where the initrd lies",
        r"last_pfn = |Using GB pages|\d+MB (HIGHMEM|LOWMEM) available|  (mapped low|low) ram: |Warning only"
        r"|Use a HIGHMEM|RAMDISK: ",
    ),
    (
        "dmesg.numa",
        "which memory is of which node",
        r"No NUMA configuration|NUMA turned off|NUMA: |Faking |NODE_DATA\(|(ACPI: )?SRAT: Node|  node \d+ bind"
        r"|Fallback order",
    ),
    (
        "dmesg.memblock",
        "memblock's regions",
        r"MEMBLOCK configuration:| memory size = | (memory|reserved)(\.cnt|\[0x)",
    ),
    (
        "dmesg.zones",
        "the borders of zones",
        r"Zone ranges:|  (DMA|DMA32|Normal|HighMem|Device|Movable) +(\[mem|empty)|Movable zone start|  Node \d+: 0x"
        r"|Early memory node|  node +\d+: \[mem|Initmem setup node|On node \d+|mminit::(memmap_init|pageflags)",
    ),
    (
        "dmesg.zonelists",
        "in which order zones are asked",
        r"mminit::zonelist|Built \d+ zonelists|Policy zone",
    ),
    ("dmesg.percpu", "the per-CPU areas", r"percpu: Embedded|pcpu-alloc: "),
    (
        "dmesg.init",
        "the Memory: line, hash tables, caches",
        r"Memory: \d+K|(Dentry |Inode-)cache hash table|SLUB: |SLAB: |mem auto-init|HugeTLB: |x86/PAT: Configuration",
    ),
    ("dmesg.ledger", "each early allocation, in order", r"memblock_reserve: "),
)
TITLES = {name: title for name, title, _ in LOG_FAMILIES} | {
    "zone.size": "zones: spanned, present, managed pages",
    "zone.watermarks": "watermarks and protection",
    "zone.pcp": "limits of the per-CPU lists",
    "slab.kmalloc": "the geometry of kmalloc's caches",
    "meminfo": "totals, and how memory is mapped",
    "sysctl": "tunables of /proc/sys/vm",
    "iomem": "who claims which addresses",
}

_LINES = tuple((name, re.compile(pattern)) for name, _, pattern in LOG_FAMILIES)
STAMP = re.compile(r"^\[\s*\d+\.\d+\]\s?", re.M)  # of a line of the kernel log, by its own clock
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
_RESERVED = re.compile(r"(memblock_reserve: \[\S+\])")


@invented("what is compared")
def log_facts(text: str) -> Facts:
    """The lines of the kernel log that tell about memory; time stamps and the width of gaps don't count."""
    facts: dict[str, list[Fact]] = {name: [] for name, _ in _LINES}
    for line in text.splitlines():
        line = STAMP.sub("", line, count=1)
        family = next((name for name, starts in _LINES if starts.match(line)), None)
        if family is None:
            continue
        # Who asks for memory is named by a return address, which only a build knows.
        asked = _RESERVED.match(line) if family == "dmesg.ledger" else None
        words = " ".join((asked[1] if asked else line).split())
        facts[family].append(Fact(f"line: {_NUMBER.sub('…', words)}", words))
    return {name: tuple(found) for name, found in facts.items() if found}


_DECIMAL = re.compile(r"[0-9]{1,20}")  # of 64 bits
_ZONE = re.compile(r"Node (\d{1,4}), zone +(\S+)$")
_SIZES, _MARKS = ("spanned", "present", "managed"), ("min", "low", "high")


@invented("what is compared")
def zone_facts(text: str) -> Facts:
    """Sizes, watermarks and per-CPU limits of each zone; a boost of the moment is no part of a watermark."""
    facts: dict[str, list[Fact]] = {"zone.size": [], "zone.watermarks": [], "zone.pcp": []}
    for zone, lines in zones_of(text):
        fields = {}
        cpu = ""
        for line in lines:
            key, _, value = " ".join(line.split()).partition(" ")
            if key == "cpu:":
                cpu = value
            elif cpu and key in ("high:", "batch:"):
                facts["zone.pcp"].append(Fact(f"{zone} cpu {cpu} {key[:-1]}", value))
            elif not cpu:
                fields[key] = value
            if key == "start_pfn:":
                facts["zone.size"].append(Fact(f"{zone} start_pfn", value))
        boost = number_of(fields, "boost", zone, 0)
        facts["zone.size"] += [Fact(f"{zone} {key}", str(number_of(fields, key, zone))) for key in _SIZES]
        facts["zone.watermarks"] += [Fact(f"{zone} {key}", str(number_of(fields, key, zone) - boost)) for key in _MARKS]
        facts["zone.watermarks"].append(Fact(f"{zone} protection", fields.get("protection:", "none")))
    return {name: tuple(found) for name, found in facts.items()}


@invented("a part of zone_facts", traced=False)
def zones_of(text: str) -> Iterator[tuple[str, list[str]]]:
    """The zones of /proc/zoneinfo, each as node/name, and the lines of each without those of its node's counters."""
    zone, lines = "", list[str]()
    for line in text.splitlines():
        head = _ZONE.match(line)
        if head:
            if zone:
                yield zone, lines
            zone, lines = f"{head[1]}/{head[2]}", []
        elif zone:
            lines.append(line)
        else:
            raise BadCapture("line 1 is not the head of a zone", where="zoneinfo.txt", remedy="copy /proc/zoneinfo")
    if zone:
        yield zone, lines


@invented("a part of zone_facts", traced=False)
def number_of(fields: Mapping[str, str], key: str, zone: str, default: int | None = None) -> int:
    """The number that a zone's field holds."""
    value = fields.get(key, "" if default is None else str(default))
    return int(value) if _DECIMAL.fullmatch(value) else lacks(zone, key)


@invented("a part of zone_facts", traced=False)
def lacks(zone: str, key: str) -> int:
    """Raise: without this a zone can't be compared."""
    raise BadCapture(
        f"zone {zone} has no number {key!r}", where="zoneinfo.txt", remedy="copy /proc/zoneinfo again, whole"
    )


_SLAB_FIELDS = ("object_size", "slab_size", "objs_per_slab", "order", "cpu_partial", "min_partial")


@invented("what is compared")
def slab_facts(text: str) -> Facts:
    """The geometry of kmalloc's caches. Other caches belong to subsystems that the model doesn't have."""
    head, *rows = [line.split("\t") for line in text.splitlines()]
    facts = []
    for nth, row in enumerate(rows, 2):
        cell = dict(zip(head, row, strict=False))
        if len(row) != len(head) or not {"name", *_SLAB_FIELDS} <= cell.keys():
            raise BadCapture(
                f"line {nth} has {len(row)} cells under a head of {len(head)}",
                where="slab_table.txt",
                remedy=f"give a table with tabs, and columns for name and {', '.join(_SLAB_FIELDS)}",
            )
        if cell["name"].startswith(("kmalloc-", "dma-kmalloc-")):
            values = (f"{field}={(cell[field].split() or ['-'])[0]}" for field in _SLAB_FIELDS)
            facts.append(Fact(cell["name"], " ".join(values)))
    return {"slab.kmalloc": tuple(facts)}


_TOTALS = ("MemTotal", "HighTotal", "LowTotal", "VmallocTotal", "HugePages_Total", "Hugepagesize")
_MAPPED_BY = {"DirectMap4k": 4, "DirectMap2M": 2 << 10, "DirectMap4M": 4 << 10, "DirectMap1G": 1 << 20}  # KiB a page


@invented("what is compared")
def meminfo_facts(text: str) -> Facts:
    """The fields of /proc/meminfo that boot decides."""
    fields = dict(keyed(text))
    if "MemTotal" not in fields:
        raise BadCapture("there is no MemTotal", where="meminfo.txt", remedy="copy /proc/meminfo again, whole")
    mapped = {}
    for key in _MAPPED_BY:
        if key in fields:
            kib = fields[key].removesuffix(" kB")
            if not _DECIMAL.fullmatch(kib):
                raise BadCapture(
                    f"{key} is {fields[key][:40]!r}, no size",
                    where="meminfo.txt",
                    remedy="copy /proc/meminfo again, whole",
                )
            mapped[key] = int(kib)
    totals = tuple(Fact(key, fields[key]) for key in _TOTALS if key in fields)
    return {"meminfo": totals + direct_map_facts(mapped)}


@invented("what is compared", traced=False)
def direct_map_facts(kib: Mapping[str, int]) -> tuple[Fact, ...]:
    """What is left of boot's direct map on a machine that runs: it splits large pages now and then.

    A split turns one large page into small ones: the sum stays, and so does the rest of the small ones against a page
    of the next size.
    """
    if not kib:
        return ()
    sizes = sorted(kib, key=lambda key: _MAPPED_BY[key])
    facts = [Fact("page sizes of the direct map", " ".join(sizes)), Fact("direct map", f"{sum(kib.values())} kB")]
    small = 0
    for key, larger in pairwise(sizes):
        small += kib[key]
        facts.append(Fact(f"direct map up to {key}, modulo {larger}", f"{small % _MAPPED_BY[larger]} kB"))
    return tuple(facts)


_SYSCTLS = (
    "min_free_kbytes",
    "lowmem_reserve_ratio",
    "watermark_scale_factor",
    "watermark_boost_factor",
    "percpu_pagelist_high_fraction",
)


@invented("what is compared")
def sysctl_facts(text: str) -> Facts:
    """The tunables that decide watermarks."""
    return {"sysctl": tuple(Fact(key, value) for key, value in keyed(text) if key in _SYSCTLS)}


@invented("a part of meminfo_facts and sysctl_facts", traced=False)
def keyed(text: str) -> Iterator[tuple[str, str]]:
    """Lines of the form `key: value`, gaps within the value made one blank."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), " ".join(value.split())


_CLAIM = re.compile(r"\s*([0-9a-f]+-[0-9a-f]+) : (.*)$")
_OWNERS = re.compile(
    r"(System RAM|Reserved|ACPI .*|Kernel (code|rodata|data|bss)|Unusable memory|Persistent Memory.*|Crash kernel)$"
)


@invented("what is compared")
def iomem_facts(text: str) -> Facts:
    """Memory in /proc/iomem; devices are not the model's to know."""
    claims = []
    for nth, line in enumerate(text.splitlines(), 1):
        claim = _CLAIM.match(line)
        if claim is None:
            raise BadCapture(f"line {nth} is no range", where="iomem.txt", remedy="copy /proc/iomem again, whole")
        claims.append((claim[1], claim[2]))
    if all(set(where) <= set("0-") for where, _ in claims):
        raise BadCapture(
            "all addresses are 0: only root is told the true ones", where="iomem.txt", remedy="copy it as root"
        )
    return {"iomem": tuple(Fact(owner, where) for where, owner in claims if _OWNERS.match(owner))}


READERS: dict[str, Callable[[str], Facts]] = {
    "dmesg.txt": log_facts,
    "zoneinfo.txt": zone_facts,
    "slab_table.txt": slab_facts,
    "meminfo.txt": meminfo_facts,
    "sys_vm.txt": sysctl_facts,
    "iomem.txt": iomem_facts,
}


@invented("what is compared")
def facts_of(texts: Mapping[str, str]) -> Facts:
    """All facts of a machine's texts, by family. Raises `BadCapture` for a text that breaks off or is none of ours."""
    facts: Facts = {}
    for name, read in READERS.items():
        text = texts.get(name)
        if text is None:
            continue
        if not text.strip():
            raise BadCapture("this file is empty", where=name, remedy="copy it again, or take it away")
        if not text.endswith("\n"):
            nth = text.count("\n") + 1
            raise BadCapture(
                f"this file breaks off in line {nth}", where=name, remedy="copy it again; every line ends in a newline"
            )
        facts |= read(text)
    return facts
