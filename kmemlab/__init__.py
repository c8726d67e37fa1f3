"""Linux memory management from the BIOS to the OOM killer, as one machine you can step through.

>>> from kmemlab import GFP_KERNEL, Machine
>>> machine = Machine.boot("laptop-8g")
>>> machine.alloc_pages(GFP_KERNEL, order=0) * 4096 >= 4 << 30
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# What a notebook needs most, found when it is asked for: a room of the simulator must be importable without all others.
_HOME = {
    "Machine": "kmemlab.machine.machine",
    "ZoneLab": "kmemlab.machine.zone_lab",
    "livepatch": "kmemlab.sim.livepatch",
    "GFP_ATOMIC": "kmemlab.types.gfp",
    "GFP_DMA": "kmemlab.types.gfp",
    "GFP_HIGHUSER_MOVABLE": "kmemlab.types.gfp",
    "GFP_KERNEL": "kmemlab.types.gfp",
}
__all__ = sorted([*_HOME, "__version__"])

if TYPE_CHECKING:
    from kmemlab.machine.machine import Machine as Machine
    from kmemlab.machine.zone_lab import ZoneLab as ZoneLab
    from kmemlab.sim.livepatch import livepatch as livepatch
    from kmemlab.types.gfp import GFP_ATOMIC as GFP_ATOMIC
    from kmemlab.types.gfp import GFP_DMA as GFP_DMA
    from kmemlab.types.gfp import GFP_HIGHUSER_MOVABLE as GFP_HIGHUSER_MOVABLE
    from kmemlab.types.gfp import GFP_KERNEL as GFP_KERNEL


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
