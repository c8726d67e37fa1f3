"""What holds between the kernel's counters, worked out of the texts that it prints: vmstat, meminfo, zoneinfo."""

from __future__ import annotations

import re

from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import meminfo, zoneinfo
from kmemlab.machine.procfs_lists import vmstat

LISTS = ("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")


def counters(machine: Machine) -> dict[str, int]:
    return {name: int(count) for name, count in (line.split() for line in vmstat(machine.kernel).splitlines())}


def sizes(machine: Machine) -> dict[str, int]:
    """/proc/meminfo, in pages."""
    lines = (line.split() for line in meminfo(machine.kernel).splitlines())
    return {words[0].rstrip(":"): int(words[1]) // 4 for words in lines if words[-1] == "kB"}


def zones_told(machine: Machine) -> list[dict[str, int]]:
    zones = []
    for zone in re.split(r"(?m)^Node ", zoneinfo(machine.kernel))[1:]:
        if "pagesets" in zone:
            told = {name: int(count) for name, count in re.findall(r"(?m)^ +(?:pages )?(\w+) +(\d+)$", zone)}
            told["protection"] = max(map(int, re.search(r"protection: \((.*)\)", zone)[1].split(",")))
            zones.append(told)
    return zones


def boosts(machine: Machine) -> list[int]:
    return [zone["boost"] for zone in zones_told(machine)]


def available(machine: Machine, boosted: list[int]) -> int:
    """MemAvailable by the kernel's documentation: free, and half of what is over the low marks at least, less reserves.

    Reserves are not worked out anew when a boost comes or goes: `boosted` are those of each zone when they were.
    """
    zones, now = zones_told(machine), counters(machine)
    low = sum(zone["low"] for zone in zones)
    reserve = sum(
        min(zone["managed"], zone["protection"] + zone["high"] - zone["boost"] + boost)
        for zone, boost in zip(zones, boosted, strict=True)
    )
    files = now["nr_inactive_file"] + now["nr_active_file"]
    slabs = now["nr_slab_reclaimable"] + now["nr_kernel_misc_reclaimable"]
    free = sum(zone["free"] for zone in zones)
    return max(0, free - reserve + files - min(files // 2, low) + slabs - min(slabs // 2, low))


def check_counters(
    machine: Machine, before: dict[str, int] | None = None, boosted: list[int] | None = None
) -> dict[str, int]:
    """Assert all laws; returns the counters. With `before`, events must have gone forward since.

    `boosted`: see `available`.
    """
    now, size = counters(machine), sizes(machine)
    events = list(now)[list(now).index("pgpgin") :]
    if before is not None:
        assert all(now[name] >= before[name] for name in events)
    for act in ("pgscan", "pgsteal"):
        by_whom = now[f"{act}_kswapd"] + now[f"{act}_direct"]
        assert by_whom + now.get(f"{act}_khugepaged", 0) == now[f"{act}_anon"] + now[f"{act}_file"]
    assert all(now[f"pgsteal_{what}"] <= now[f"pgscan_{what}"] for what in ("kswapd", "direct", "anon", "file"))
    stalls = sum(now[name] for name in now if name.startswith("allocstall_"))
    assert stalls or not now["pgscan_direct"]
    assert now["pageoutrun"] or not now["pgscan_kswapd"]
    for what in ("anon", "file"):
        assert now[f"workingset_restore_{what}"] <= now[f"workingset_activate_{what}"]
        assert now[f"workingset_activate_{what}"] <= now[f"workingset_refault_{what}"] <= now[f"pgsteal_{what}"]
        assert now[f"nr_isolated_{what}"] == 0
    check_lists(now, size)
    check_cache(now, size)
    assert size["MemAvailable"] == available(machine, boosted or [0] * len(machine.zones))
    assert size["MemFree"] == now["nr_free_pages"] == sum(zone["free"] for zone in zones_told(machine))
    assert size["Slab"] == now["nr_slab_reclaimable"] + now["nr_slab_unreclaimable"]
    return now


def check_lists(now: dict[str, int], size: dict[str, int]) -> None:
    """The lists of nodes are those of zones, and meminfo's."""
    assert all(now[f"nr_{name}"] == now[f"nr_zone_{name}"] for name in LISTS)
    assert size["Active"] + size["Inactive"] + size["Unevictable"] == sum(now[f"nr_{name}"] for name in LISTS)
    assert size["Active"] == size["Active(anon)"] + size["Active(file)"]
    assert size["Inactive"] == size["Inactive(anon)"] + size["Inactive(file)"]


def check_cache(now: dict[str, int], size: dict[str, int]) -> None:
    """Pages of files, and what becomes of those that were changed; without truncation and swap."""
    assert size["Cached"] == now["nr_file_pages"] - now["nr_swapcached"] - size["Buffers"]
    assert (size["Dirty"], size["Writeback"]) == (now["nr_dirty"], now["nr_writeback"])
    assert now["nr_zone_write_pending"] == now["nr_dirty"] + now["nr_writeback"]
    if not now["pswpout"]:
        assert now["nr_dirtied"] == now["nr_dirty"] + now["nr_writeback"] + now["nr_written"]
        assert now["pgpgout"] == 4 * (now["nr_written"] + now["nr_writeback"])
    on_lists = now["nr_inactive_file"] + now["nr_active_file"]
    # A batch of 15 pages a CPU waits to come to the lists.
    assert on_lists <= now["nr_file_pages"] - now["nr_shmem"] <= on_lists + now["nr_unevictable"] + 15
