"""/proc/zoneinfo of any kernel, read: zones with their numbers, those that we don't know included.

Node 0, zone    DMA32          ──▶  ZoneText(node=0, name="DMA32",
  pages free     749826                      fields={"free": 749826, "min": 16873, …},
        min      16873                       protection=(0, 0, 945, 945, 945),
  …                                          cpus=({"count": 128, "high": 5366, "batch": 63}, …))
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture

NEEDED = ("spanned", "present", "managed", "min", "low", "high", "start_pfn")
_HEAD = re.compile(r"Node +(\d+), zone +(\S+)$")
_PROTECTION = re.compile(r"protection: \(([\d, ]*)\)$")
_FIELD = re.compile(r"(?:pages )?([a-z_]\w*|vm stats threshold):? +(-?\d+)$")


@invented("a zone as a text tells of it")
@dataclass(frozen=True, slots=True)
class ZoneText:
    """A zone of /proc/zoneinfo; a field that a kernel doesn't print is not in `fields`."""

    node: int
    name: str
    fields: Mapping[str, int]
    protection: tuple[int, ...]
    cpus: tuple[Mapping[str, int], ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """What we need and this kernel does not print; of a zone without pages Linux itself leaves most out."""
        needed = NEEDED if self.fields.get("present", 1) else ("spanned", "present")
        return tuple(name for name in needed if name not in self.fields)


@invented("a zone as a text tells of it")
def parse_zoneinfo(text: str, where: str = "/proc/zoneinfo") -> tuple[ZoneText, ...]:
    """The zones of a text, in its order. Raises `BadCapture` for a text that is none, or that breaks off.

    >>> zones = parse_zoneinfo("Node 0, zone      DMA\\n  pages free     3840\\n        present  3998\\n")
    >>> zones[0].fields, zones[0].missing[:2]
    ({'free': 3840, 'present': 3998}, ('spanned', 'managed'))
    """
    long = re.search(r"\d{19,}", text)
    if long:
        raise BadCapture(
            f"a number there has {len(long[0])} digits: no machine has so much memory",
            where=where,
            remedy="copy the file again",
        )
    blocks = re.split(r"(?m)^(?=Node )", text)
    if blocks[0].strip() or len(blocks) < 2:
        raise BadCapture("this is no /proc/zoneinfo: it doesn't begin with a zone", where=where, remedy="copy it whole")
    zones = tuple(_zone(block.splitlines(), where) for block in blocks[1:])
    if all(zone.fields.get("present", 0) == 0 for zone in zones):
        raise BadCapture("no zone has any memory", where=where, remedy="copy the whole file")
    return zones


def _zone(lines: list[str], where: str) -> ZoneText:
    head = _HEAD.match(lines[0].rstrip())
    if head is None:
        raise BadCapture(f"{lines[0]!r} is no head of a zone", where=where, remedy="copy the file again, whole")
    fields: dict[str, int] = {}
    cpus: list[dict[str, int]] = []
    protection: tuple[int, ...] = ()
    for line in map(str.strip, lines[1:]):
        row = _PROTECTION.match(line)
        field = _FIELD.match(line)
        if row:
            protection = tuple(int(number) for number in row[1].split(",") if number.strip())
        elif line.startswith("cpu:"):
            cpus.append({})
        elif field:
            # After the first CPU come the CPUs' own fields, and behind the last one again some of the zone's.
            own = bool(cpus) and field[1] not in ("node_unreclaimable", "start_pfn", "all_unreclaimable")
            (cpus[-1] if own else fields).setdefault(field[1], int(field[2]))
    return ZoneText(int(head[1]), head[2], fields, protection, tuple(cpus))
