"""Which allocator of objects a kernel is built with, and how it guards its freelists."""

from __future__ import annotations

from dataclasses import dataclass

from kmemlab.types.errors import BadSpec

SLAB_ALLOCATORS = ("SLUB", "SLAB", "SLAB_DEBUG")


@dataclass(frozen=True, slots=True)
class SlabConfig:
    """What Debian's kernels have, unless something else is said.

    `allocator` is CONFIG_SLUB, CONFIG_SLAB, or CONFIG_SLAB with CONFIG_DEBUG_SLAB. The other two are for SLUB:
    CONFIG_SLAB_FREELIST_HARDENED mixes the pointers in free objects, CONFIG_SLAB_FREELIST_RANDOM shuffles new slabs.
    Raises `BadSpec` for an allocator that there is not.
    """

    allocator: str = "SLUB"
    freelist_hardened: bool = True
    freelist_random: bool = True

    def __post_init__(self) -> None:
        if self.allocator not in SLAB_ALLOCATORS:
            raise BadSpec(
                f"no such allocator of objects: {self.allocator!r}",
                where="SlabConfig",
                remedy=f"choose one of {', '.join(SLAB_ALLOCATORS)}",
            )
