"""Who took an object and who gave it back: two notes behind each object (slub_debug=U).

struct track   address of the caller │ its stack │ CPU │ process │ when, in jiffies
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import SLAB_STORE_USER
from kmemlab.alloc.slab_common import caller_text
from kmemlab.alloc.slab_memory import memset, read_number, write_number
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.alloc.slub_layout import check_valid_pointer, get_info_end, orig_size_is_kept
from kmemlab.sim.kernel import invented, kernel

TRACK_ALLOC, TRACK_FREE = range(2)
TRACK_NAMES = ("Allocated", "Freed")
KERNEL_TEXT = {8: 0xFFFFFFFF81000000, 4: 0xC1000000}
BYTES_PER_CALLER = 16  # as if every place that calls were as long


@kernel("mm/slub.c", "get_track", traced=False)
def get_track(cache: SlubCache, obj: int, which: int) -> int:
    """The address of an object's note."""
    return obj + get_info_end(cache) + which * cache.track_size


@kernel("mm/slub.c", "set_track", left_out="the whole stack: only who called is kept")
def set_track(cache: SlubCache, obj: int, which: int, caller: int) -> None:
    """Note who took an object or gave it back, where, and when."""
    pages, current = cache.pages, cache.common.mm.current
    pointer = pages.pointer
    at = get_track(cache, obj, which)
    write_number(pages, at, KERNEL_TEXT[pointer] + caller * BYTES_PER_CALLER, pointer)
    write_number(pages, at + pointer, 0, 4)
    write_number(pages, at + pointer + 4, current.cpu, 4)
    write_number(pages, at + pointer + 8, current.pid, 4)
    write_number(pages, at + cache.track_size - pointer, current.jiffies & (1 << 8 * pointer) - 1, pointer)


@kernel("mm/slub.c", "init_tracking", traced=False)
def init_tracking(cache: SlubCache, obj: int) -> None:
    """Nobody has had this object yet."""
    if cache.flags & SLAB_STORE_USER:
        memset(cache.pages, get_track(cache, obj, TRACK_ALLOC), 0, 2 * cache.track_size)


@invented("the note as text", traced=False)
def track_text(cache: SlubCache, obj: int, which: int) -> tuple[str, int, int, int] | None:
    """Who, how many jiffies ago, on which CPU, for which process; None if nobody yet."""
    pages, pointer = cache.pages, cache.pages.pointer
    at = get_track(cache, obj, which)
    address = read_number(pages, at, pointer)
    if not address:
        return None
    caller = caller_text(cache.common, (address - KERNEL_TEXT[pointer]) // BYTES_PER_CALLER)
    age = cache.common.mm.current.jiffies - read_number(pages, at + cache.track_size - pointer, pointer)
    return caller, age, read_number(pages, at + pointer + 4, 4), read_number(pages, at + pointer + 8, 4)


@kernel("mm/slub.c", "print_tracking", left_out="the stacks")
def print_tracking(cache: SlubCache, obj: int) -> None:
    """Print both notes of an object."""
    if not cache.flags & SLAB_STORE_USER:
        return
    for which, name in enumerate(TRACK_NAMES):
        found = track_text(cache, obj, which)
        if found:
            caller, age, cpu, pid = found
            cache.common.mm.boot.printk.info(f"{name} in {caller} age={age} cpu={cpu} pid={pid}")


@invented("both call sites for the error that a command raises", traced=False)
def sites(cache: SlubCache, slab: int, obj: int) -> str:
    """Who took an object and who gave it back, if that is tracked."""
    if not cache.flags & SLAB_STORE_USER or not obj or not check_valid_pointer(cache, slab, obj):
        return ""
    found = [(name.lower(), track_text(cache, obj, which)) for which, name in enumerate(TRACK_NAMES)]
    return ", ".join(f"{name} by {note[0]}" for name, note in found if note)


# -- how much was asked for --------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "set_orig_size", traced=False)
def set_orig_size(cache: SlubCache, obj: int, orig_size: int) -> None:
    """Remember how many bytes kmalloc was asked for."""
    if orig_size_is_kept(cache):
        write_number(cache.pages, get_track(cache, obj, 2), orig_size, 4)
