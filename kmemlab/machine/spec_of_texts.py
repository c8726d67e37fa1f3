"""A machine's description made from what a running Linux shows of it: its log if that may be read, else its zones.

log, /sys/firmware/memmap ──▶ the firmware's map          (all that boot does is then the model's own)
/proc/zoneinfo            ──▶ ranges that make such zones (where addresses are hidden; the zones' sizes are input then)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kmemlab.machine.facts import STAMP
from kmemlab.machine.zoneinfo_text import ZoneText
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture
from kmemlab.types.units import MIB, PAGE_SHIFT

_N = r"\d{1,18}"  # a number that fits into the kernel's 64 bits
LOW_HOLE = (0xA0, 0x100)  # page frames of the BIOS, below 1 MiB, on every PC
_CPU_LIST = re.compile(r"(|[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*)")  # 8192 CPUs at most
PARTS = ("code", "rodata", "data", "bss")


@invented("a running machine describes itself")
def spec_of_log(log: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """The description that a kernel log gives, and whatever else is there of /proc: cmdline, cpuinfo, iomem, mtrr."""
    log = STAMP.sub("", log)
    tables = re.findall(r"ACPI: Reserving (\S+) table memory at \[mem (\S+)-(\S+)\]", log)
    nodes = re.findall(r"SRAT: Node (\d{1,9}) PXM \d+ \[mem (\S+)-(\S+)\](?! hotplug)", log)
    plugs = re.findall(r"SRAT: Node (\d{1,9}) PXM \d+ \[mem (\S+)-(\S+)\] hotplug", log)
    initrd = re.search(r"^RAMDISK: \[mem (\S+)-(\S+)\]", log, re.M)
    spec: dict[str, Any] = {
        "name": "your machine",
        "cmdline": texts.get("/proc/cmdline", "").strip(),
        "cpus": cpus_of_texts(texts, log),
        "numa": {"nodes": [_numbered(row) for row in nodes + plugs], "hotplug": [_numbered(row) for row in plugs]},
        "acpi_tables": [[name, int(start, 16), int(end, 16)] for name, start, end in tables],
        "image": image_of_texts(texts.get("/proc/iomem", ""), log),
        "mtrr": texts.get("/proc/mtrr", "").splitlines(),
        "ioapics": len(re.findall(r"^IOAPIC\[\d+\]: apic_id", log, re.M)) or 1,
        "hpet": "ACPI: HPET id:" in log,
    }
    if initrd:
        spec["initrd"] = [int(initrd[1], 16), int(initrd[2], 16)]
    return spec


def _numbered(row: tuple[str, str, str]) -> list[int]:
    return [int(row[0]), int(row[1], 16), int(row[2], 16)]


@invented("a running machine describes itself")
def cpus_of_texts(texts: Mapping[str, str], log: str = "") -> dict[str, Any]:
    """How many CPUs there are and could be, their flags, and the node of each, as far as the texts tell."""
    info = texts.get("/proc/cpuinfo", "")
    flags = re.search(r"^flags\s*:\s*(.*)$", info, re.M)
    bits = re.search(r"^address sizes\s*:\s*(\d{1,4}) bits physical, (\d{1,4}) bits virtual", info, re.M)
    line = re.search(r"^cache_alignment\s*:\s*(\d{1,9})", info, re.M)
    allowed = re.search(r"smpboot: Allowing (\d{1,9}) CPUs", log)
    online, ever = (cpu_list(texts, f"/sys/devices/system/cpu/{file}") for file in ("online", "possible"))
    present = len(online) or info.count("processor\t:") or 1
    possible = len(ever) or (int(allowed[1]) if allowed else 0)
    cpus: dict[str, Any] = {"present": present, "possible": max(present, possible)}
    node_of = {
        str(cpu): int(found[1])
        for path in texts
        if (found := re.fullmatch(r"/sys/devices/system/node/node(\d{1,4})/cpulist", path))
        for cpu in cpu_list(texts, path)
        if cpu < present
    }
    if node_of:
        cpus["node_of"] = node_of
    if flags:
        cpus["flags"] = flags[1].split()
    if bits:
        cpus |= {"phys_bits": int(bits[1]), "virt_bits": int(bits[2])}
    if line:
        cpus["cache_line"] = int(line[1])
    return cpus


@invented("a file of /sys, read", traced=False)
def cpu_list(texts: Mapping[str, str], path: str) -> list[int]:
    """The CPUs that a file names, none if it is not there. Raises `BadCapture` for another text."""
    text = texts.get(path, "").strip()
    if not _CPU_LIST.fullmatch(text):
        raise BadCapture(
            f"this is no list of CPUs: {text[:40]!r}",
            where=path,
            remedy='copy the file again: it has one line, such as "0-3,8"',
        )
    return listed(text)


@invented("C prints and reads such lists with %*pbl", traced=False)
def listed(text: str) -> list[int]:
    """The numbers of a list such as "0-3,8".

    >>> listed("0-3,8\\n"), listed("")
    ([0, 1, 2, 3, 8], [])
    """
    numbers: list[int] = []
    for first, _, last in (part.partition("-") for part in text.strip().split(",") if part):
        numbers += range(int(first), int(last or first) + 1)
    return numbers


@invented("a running machine describes itself")
def image_of_texts(iomem: str, log: str) -> dict[str, Any]:
    """Where the kernel lies, and how large its parts are, as far as the texts tell; what they don't is Debian's 6.1."""
    image: dict[str, Any] = {}
    places = {
        name: (int(a, 16), int(b, 16)) for a, b, name in re.findall(r"([0-9a-f]+)-([0-9a-f]+) : Kernel (\w+)", iomem)
    }
    if all(places.get(part, (0, 0))[1] for part in PARTS):
        image |= {part: list(places[part]) for part in PARTS}
        image["brk"] = [places["bss"][1] + 1, places["bss"][1] + 0x11000]
    sizes = re.search(rf"\(({_N})K kernel code, ({_N})K rwdata, ({_N})K rodata, ({_N})K init, ({_N})K bss", log)
    if sizes:
        image["kib"] = dict(zip(("code", "rwdata", "rodata", "init", "bss"), map(int, sizes.groups()), strict=True))
    percpu = re.search(rf"percpu: Embedded \d+ pages/cpu s({_N}) r({_N}) d({_N})", log)
    if percpu:
        image |= dict(
            zip(("percpu_static", "percpu_reserved", "percpu_dynamic"), map(int, percpu.groups()), strict=True)
        )
    for key, what in (("smp_locks_kib", "SMP alternatives"), ("decrypted_kib", "unused decrypted")):
        freed = re.search(rf"^Freeing {what} memory: ({_N})K", log, re.M)
        if freed:
            image[key] = int(freed[1])
    return image


@invented("addresses are hidden from ordinary users; the sizes of zones are not")
def spec_of_zones(zones: Sequence[ZoneText], texts: Mapping[str, str]) -> dict[str, Any]:
    """A machine whose zones have the sizes told: where the holes within a zone lie is a guess, and changes nothing.

    A zone's memory lies at its start, but for a last page at the end of its span; in ZONE_DMA above 1 MiB first.
    """
    ram = [(zone, span) for zone in zones for span in spans_of(zone)]
    highmem = any(zone.name == "HighMem" for zone in zones)
    cpus = cpus_of_texts(texts)
    cpus["present"] = max(len(zone.cpus) for zone in zones) or cpus["present"]
    cpus["possible"] = max(cpus["possible"], cpus["present"])
    cpus.setdefault("flags", ["pse"])  # without large pages there would be no huge pages either
    spec: dict[str, Any] = {
        "name": "your machine, from its zones",
        "e820": [[start << PAGE_SHIFT, (end << PAGE_SHIFT) - 1, "usable"] for _, (start, end) in ram],
        "cmdline": "nokaslr",
        "cpus": cpus,
    }
    if highmem or not any(zone.name == "DMA32" for zone in zones):
        spec |= {"arch": "i386", "kernel": "i386-pae-6.1"}
    if len({zone.node for zone in zones}) > 1:
        spec["numa"] = {"nodes": [[node, *span] for node, span in _nodes(ram)]}
    return spec


@invented("addresses are hidden from ordinary users; the sizes of zones are not", traced=False)
def spans_of(zone: ZoneText) -> Iterator[tuple[int, int]]:
    """Ranges of page frames that make a zone start, span and hold what is told."""
    start, spanned, present = (zone.fields.get(name, 0) for name in ("start_pfn", "spanned", "present"))
    if not present or zone.name in ("Movable", "Device"):
        return
    end = start + spanned
    if zone.name == "DMA" and start < LOW_HOLE[0] < LOW_HOLE[1] < end:
        above = min(present, end - LOW_HOLE[1])
        if present > above:
            yield start, start + present - above
        yield from _cut(LOW_HOLE[1], end, above)
    else:
        yield from _cut(start, end, present)


def _cut(start: int, end: int, present: int) -> Iterator[tuple[int, int]]:
    if present >= end - start:
        yield start, end
        return
    if present > 1:
        yield start, start + present - 1
    yield end - 1, end


def _nodes(ram: Iterable[tuple[ZoneText, tuple[int, int]]]) -> Iterator[tuple[int, list[int]]]:
    """The SRAT's ranges: from each node's first page frame to its last, zone by zone."""
    for zone, (start, end) in ram:
        first = 0 if end <= MIB >> PAGE_SHIFT else start << PAGE_SHIFT
        yield zone.node, [first, (end << PAGE_SHIFT) - 1]
