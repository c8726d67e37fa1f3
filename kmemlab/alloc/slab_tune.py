"""Writing to /proc/slabinfo: how much a cache of SLAB may keep in its arrays.

echo "kmalloc-128 30 15 4" > /proc/slabinfo       limit, batchcount, sharedfactor
"""

from __future__ import annotations

from kmemlab.alloc.slab_cache import SlabCache
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.slab_setup import do_tune_cpucache
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL

MAX_SLABINFO_WRITE = 128


@kernel("mm/slab.c", "slabinfo_write", lock="slab_mutex")
def slabinfo_write(common: SlabCommon, text: str) -> None:
    """Give a cache arrays of another size; what they held goes back to the slabs.

    Numbers that make no sense (a limit below 1, a batch above the limit) change nothing, as in C. Raises `BadRequest`
    where C returns -EINVAL, and on a kernel with SLUB, whose file can't be written; `OutOfMemory`.
    """
    if common.engine.name != "SLAB":
        raise refused(text, "this kernel has SLUB: the file can only be read")
    name, _, rest = text.partition(" ")
    words = rest.split()[:3]
    if len(text) > MAX_SLABINFO_WRITE or len(words) < 3 or not all(word.lstrip("-").isdecimal() for word in words):
        raise refused(text, "a name and three numbers are wanted")
    limit, batchcount, shared = map(int, words)
    cache = next((cache for cache in common.existing() if cache.name == name), None)
    if cache is None:
        raise refused(text, f"there is no cache {name!r}")
    assert isinstance(cache, SlabCache)
    if limit < 1 or batchcount < 1 or batchcount > limit or shared < 0:
        return
    if not do_tune_cpucache(cache, limit, batchcount, shared, GFP_KERNEL):
        raise OutOfMemory(f"no memory for the arrays of {name}", where="slabinfo_write", remedy="free some memory")


@invented("-EINVAL or -EACCES", traced=False)
def refused(text: str, why: str) -> BadRequest:
    """The error for a text that /proc/slabinfo does not take."""
    remedy = "write a cache's name, limit, batchcount and sharedfactor"
    return BadRequest(f"/proc/slabinfo does not take {text!r}: {why}", where="slabinfo_write", remedy=remedy)
