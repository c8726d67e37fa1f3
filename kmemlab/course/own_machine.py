"""The reader's own machine as a model: described by what it lets them read, booted, and compared.

what may be read                       what the model is given           what is compared
the log, or /sys/firmware/memmap  ──▶  the firmware's map, the image     all that boot makes of it
/proc/zoneinfo alone              ──▶  the sizes of the zones            watermarks, reserves, limits of the CPUs' lists
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kmemlab.course.your_machine import YourMachine
from kmemlab.machine.adopt import adopt_sizes, adopt_tunables, managed_at_boot
from kmemlab.machine.boot_files import boot_files
from kmemlab.machine.compare import Comparison, compare_family
from kmemlab.machine.facts import Fact, Facts, facts_of, zone_facts
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import zoneinfo
from kmemlab.machine.spec_of_texts import spec_of_log, spec_of_zones
from kmemlab.machine.zoneinfo_text import ZoneText, parse_zoneinfo
from kmemlab.types.e820_type import e820_type_text
from kmemlab.types.errors import BadRequest
from kmemlab.views.comparison import ComparisonTable

FROM_ZONES = ("zone.watermarks", "zone.pcp")
"""What follows from the sizes of zones, and so can be compared where these sizes are given."""

FROM_MAP = ("dmesg.pfn", "dmesg.numa", "dmesg.zones", "dmesg.percpu", "zone.size", *FROM_ZONES, "meminfo", "iomem")
"""What follows from the firmware's map."""

_FILES = {"dmesg.txt": "/dmesg", "zoneinfo.txt": "/proc/zoneinfo", "meminfo.txt": "/proc/meminfo"}


@dataclass(frozen=True)
class OwnMachine:
    """A model of the reader's machine: what it was made from, the machine, and where both agree."""

    given: tuple[str, ...]
    machine: Machine
    comparison: Comparison

    def text(self) -> str:
        """What was given to the model (and so isn't counted as agreement), and the comparison."""
        return "\n".join([f"Given to the model: {', '.join(self.given)}.", "", self._table().text()])

    def _table(self) -> ComparisonTable:
        return ComparisonTable(self.comparison)

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, str]:
        told = f"<p>Given to the model: {', '.join(self.given)}.</p>"
        return {"text/html": told + self._table().html(), "text/plain": self.text()}


def own_machine(yours: YourMachine) -> OwnMachine:
    """Describe, boot and compare the machine that `yours` reads; by its firmware's map if that is shown.

    Raises `BadRequest` where neither map nor zones may be read, `BadCapture` for texts that break off.
    """
    if "i386" not in yours.own("/proc/version") and yours.shows_map():
        return by_map(yours)
    if yours.own("/proc/zoneinfo"):
        return by_zones(yours)
    raise BadRequest(
        "there is neither a map of memory nor /proc/zoneinfo to read",
        where="own_machine",
        remedy='on Linux /proc/zoneinfo is open to all; else paste one: your_machine(pasted={"/proc/zoneinfo": …})',
    )


def by_map(yours: YourMachine) -> OwnMachine:
    """The model boots from the firmware's map, with what the log tells of kernel, initrd and tables."""
    texts = yours.texts()
    spec = spec_of_log(texts.get("/dmesg", ""), texts)
    spec["e820"] = [[item.start, item.end, e820_type_text(item.type)] for item in yours.e820()]
    machine = Machine.boot(spec)
    said = {name: texts[path].rstrip("\n") + "\n" for name, path in _FILES.items() if path in texts}
    if yours.shows_addresses():
        said["iomem.txt"] = texts["/proc/iomem"]
    made = facts_of(boot_files(machine.kernel))
    given = ["the firmware's map", "its command line and CPUs"]
    if texts.get("/dmesg"):
        given.append("what the log says of the kernel's size, the initrd and ACPI's tables")
    return _compared(yours, machine, given, facts_of(said), made, FROM_MAP)


def by_zones(yours: YourMachine) -> OwnMachine:
    """The model boots with zones of these sizes, and computes what follows from them.

    Linux worked its watermarks out during boot, before the last pages came back. How many those were, zoneinfo tells
    to within 256 pages a zone; the model tries the ends of these ranges, and agrees with what lies between.
    """
    texts = yours.texts()
    told = as_of_6_1(texts["/proc/zoneinfo"])
    zones = parse_zoneinfo(told)
    machine = Machine.boot(spec_of_zones(zones, texts))
    tries: list[Facts] = []
    tunables: dict[str, None] = {}
    for managed in possible_sizes(zones):
        adopt_sizes(machine.kernel, zones, managed)
        tunables |= dict.fromkeys(adopt_tunables(machine.kernel, texts))
        tries.append(zone_facts(zoneinfo(machine.kernel)))
    given = ["the sizes of the zones", "the number of CPUs", *tunables]
    linux = zone_facts(told)
    made = {name: tuple(between(tries, name, fact) for fact in linux[name]) for name in FROM_ZONES}
    return _compared(yours, machine, given, linux, made, FROM_ZONES)


def possible_sizes(zones: Sequence[ZoneText]) -> Iterator[tuple[int, ...]]:
    """Managed pages of each zone at the ends of what is possible: as today, one less, all but one, all less."""
    now, least = tuple(zone.fields.get("managed", 0) for zone in zones), managed_at_boot(zones)
    yield now
    for at in (at for at in range(len(zones)) if now[at] != least[at]):
        yield (*now[:at], least[at], *now[at + 1 :])
        yield (*least[:at], now[at], *least[at + 1 :])
    yield least


def as_of_6_1(text: str) -> str:
    """A newer kernel's text in the words of 6.1. Since 6.7 `high` moves by itself; later ones tell its lowest."""
    if "high_min:" in text:
        return re.sub(r"\n +high: +\d+", "", text).replace("high_min:", "high:")
    return re.sub(r"\n +high: +\d+", "", text) if re.search(r"\n +high: +0\n", text) else text


def between(tries: Sequence[Facts], name: str, linux: Fact) -> Fact:
    """Linux's own fact if its numbers lie between the least and the most of what the model says, else what it says."""
    said = [next((fact.value for fact in facts[name] if fact.what == linux.what), "") for facts in tries]
    ranges = [(min(row), max(row)) for row in zip(*map(numbers_in, said), strict=True)]
    numbers = numbers_in(linux.value)
    if len(numbers) == len(ranges) and all(low <= at <= high for (low, high), at in zip(ranges, numbers, strict=True)):
        return linux
    return Fact(linux.what, " ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in ranges))


def numbers_in(text: str) -> tuple[int, ...]:
    """The whole numbers of a text.

    >>> numbers_in("(0, 2938, 3891)")
    (0, 2938, 3891)
    """
    return tuple(map(int, re.findall(r"\d+", text)))


def _compared(
    yours: YourMachine, machine: Machine, given: list[str], linux: Facts, made: Facts, names: tuple[str, ...]
) -> OwnMachine:
    families = tuple(compare_family(name, linux[name], _told_by(linux, made, name)) for name in names if name in linux)
    return OwnMachine(tuple(given), machine, Comparison(yours.name, yours.kernel_version(), families, ()))


def _told_by(linux: Facts, made: Facts, name: str) -> tuple[Fact, ...]:
    """What the model says about things that this kernel tells of at all; a newer one may have dropped a field."""
    facts = made.get(name, ())
    if name.startswith("dmesg."):
        return facts
    known = {fact.what for fact in linux[name]}
    return tuple(fact for fact in facts if fact.what in known)
