"""HighMem: memory that the kernel can use, but that has no address of its own in the direct map (i386)."""

from __future__ import annotations

from kmemlab.mm.globals import Mm
from kmemlab.mm.zone import Zone
from kmemlab.sim.kernel import invented, kernel

HIGHMEM = "HighMem"


@kernel("include/linux/mmzone.h", "is_highmem", traced=False)
def is_highmem(mm: Mm, zone: Zone) -> bool:
    """Whether a zone's pages lie above the direct map: HighMem, and Movable where that is cut from HighMem."""
    names = mm.boot.config.zone_names
    return zone.name == HIGHMEM or (zone.name == "Movable" and names[mm.movable_zone] == HIGHMEM)


@invented("C writes for_each_zone and asks each", traced=False)
def highmem_zones(mm: Mm) -> list[Zone]:
    """The zones above the direct map."""
    return [zone for zone in mm.zones() if is_highmem(mm, zone)]
