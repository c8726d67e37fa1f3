"""slub_debug: what is written around and into objects, and looked at each time one is taken or given back.

                     left red zone   object              right red zone   padding
    free             bb bb bb …      6b 6b 6b … 6b a5    bb bb bb …       5a 5a 5a …
    in use           cc cc cc …      (the owner's)       cc cc cc …       5a 5a 5a …

A byte that differs was written by somebody who had no business there: an overrun, or a use after the free.
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import SLAB_CONSISTENCY_CHECKS, SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TRACE
from kmemlab.alloc.slab_bug import BAD_POINTER, DOUBLE_FREE, OVERRUN, WRONG_CACHE
from kmemlab.alloc.slab_memory import memset, write_memory
from kmemlab.alloc.slab_pages import PG_SLAB_MASK, slab_address, slab_order
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.alloc.slub_freelist import get_freepointer, set_freepointer
from kmemlab.alloc.slub_layout import (
    check_valid_pointer,
    for_each_object,
    freeptr_outside_object,
    get_info_end,
    objects_are_poisoned,
    orig_size_is_kept,
    size_from_object,
)
from kmemlab.alloc.slub_report import (
    check_bytes_and_report,
    damaged_part,
    object_err,
    pointer_text,
    pr_err,
    print_section,
    restore_bytes,
    slab_err,
    slab_fix,
)
from kmemlab.alloc.slub_track import TRACK_FREE, init_tracking, set_orig_size, set_track
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.poison import POISON_END, POISON_FREE, POISON_INUSE
from kmemlab.types.units import PAGE_SIZE

SLUB_RED_INACTIVE, SLUB_RED_ACTIVE = 0xBB, 0xCC


# -- writing -----------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "setup_slab_debug", traced=False)
def setup_slab_debug(cache: SlubCache, slab: int) -> None:
    """Fill a new slab with the pattern for "nobody's"."""
    if cache.flags & SLAB_POISON:
        size = PAGE_SIZE << slab_order(cache.pages, slab)
        memset(cache.pages, slab_address(cache.pages, slab), POISON_INUSE, size)


@kernel("mm/slub.c", "setup_object_debug", traced=False)
def setup_object_debug(cache: SlubCache, obj: int) -> None:
    """Prepare an object of a new slab."""
    if cache.flags & (SLAB_STORE_USER | SLAB_RED_ZONE) or objects_are_poisoned(cache):
        init_object(cache, obj, SLUB_RED_INACTIVE)
        init_tracking(cache, obj)


@kernel("mm/slub.c", "init_object", traced=False)
def init_object(cache: SlubCache, obj: int, value: int) -> None:
    """Fill an object's red zones with `value`, and the object with poison."""
    pages, size = cache.pages, cache.object_size
    if cache.flags & SLAB_RED_ZONE:
        memset(pages, obj - cache.red_left_pad, value, cache.red_left_pad)
    if objects_are_poisoned(cache):
        write_memory(pages, obj, bytes([POISON_FREE]) * (size - 1) + bytes([POISON_END]))
    if cache.flags & SLAB_RED_ZONE:
        memset(pages, obj + size, value, cache.inuse - size)


# -- looking -----------------------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "check_pad_bytes", traced=False)
def check_pad_bytes(cache: SlubCache, slab: int, obj: int) -> bool:
    """Whether what is left of a slot is untouched."""
    end = get_info_end(cache)
    if cache.flags & SLAB_STORE_USER:
        end += 2 * cache.track_size + (4 if orig_size_is_kept(cache) else 0)
    rest = size_from_object(cache) - end
    return not rest or check_bytes_and_report(cache, slab, obj, "Object padding", obj + end, POISON_INUSE, rest)


@kernel("mm/slub.c", "slab_pad_check", traced=False)
def slab_pad_check(cache: SlubCache, slab: int) -> None:
    """Whether what is left of a slab behind its last slot is untouched."""
    base = slab_address(cache.pages, slab)
    length = PAGE_SIZE << slab_order(cache.pages, slab)
    remainder = length % cache.size
    if not cache.flags & SLAB_POISON or not remainder:
        return
    pad = base + length - remainder
    damage = damaged_part(cache, pad, POISON_INUSE, remainder)
    if damage is None:
        return
    first, last = pointer_text(cache, damage[0]), pointer_text(cache, damage[1] - 1)
    slab_err(cache, slab, f"Padding overwritten. 0x{first}-0x{last} @offset={damage[0] - base}", OVERRUN)
    print_section(cache, "Padding ", pad, remainder)
    restore_bytes(cache, "slab padding", POISON_INUSE, *damage)


@kernel("mm/slub.c", "check_object")
def check_object(cache: SlubCache, slab: int, obj: int, value: int) -> bool:
    """Whether everything around an object, and in it if it is free, is as it was left; `value` fills its red zones."""
    flags, size = cache.flags, cache.object_size
    if flags & SLAB_RED_ZONE:
        left = obj - cache.red_left_pad
        if not check_bytes_and_report(cache, slab, obj, "Left Redzone", left, value, cache.red_left_pad):
            return False
        if not check_bytes_and_report(cache, slab, obj, "Right Redzone", obj + size, value, cache.inuse - size):
            return False
    elif flags & SLAB_POISON and size < cache.inuse:
        check_bytes_and_report(cache, slab, obj, "Alignment padding", obj + size, POISON_INUSE, cache.inuse - size)
    if flags & SLAB_POISON:
        if value != SLUB_RED_ACTIVE and objects_are_poisoned(cache) and not check_poison(cache, slab, obj):
            return False
        check_pad_bytes(cache, slab, obj)
    if value == SLUB_RED_ACTIVE and not freeptr_outside_object(cache):
        return True  # the owner's bytes stand where the pointer was
    if not check_valid_pointer(cache, slab, get_freepointer(cache, obj)):
        object_err(cache, slab, obj, "Freepointer corrupt")
        set_freepointer(cache, obj, 0)
        return False
    return True


@invented("two lines of check_object", traced=False)
def check_poison(cache: SlubCache, slab: int, obj: int) -> bool:
    """Whether a free object still holds its poison."""
    last = cache.object_size - 1
    return check_bytes_and_report(cache, slab, obj, "Poison", obj, POISON_FREE, last) and check_bytes_and_report(
        cache, slab, obj, "End Poison", obj + last, POISON_END, 1
    )


@kernel("mm/slub.c", "check_slab")
def check_slab(cache: SlubCache, slab: int) -> bool:
    """Whether what is noted about a slab can be true."""
    pages = cache.pages
    if not pages.page.flags[slab] & PG_SLAB_MASK:
        slab_err(cache, slab, "Not a valid slab page")
        return False
    maxobj = (PAGE_SIZE << slab_order(pages, slab)) // cache.size
    if pages.objects[slab] > maxobj:
        slab_err(cache, slab, f"objects {pages.objects[slab]} > max {maxobj}")
        return False
    if pages.inuse[slab] > pages.objects[slab]:
        slab_err(cache, slab, f"inuse {pages.inuse[slab]} > max {pages.objects[slab]}")
        return False
    if pages.frozen[slab]:
        slab_err(cache, slab, "Slab disabled since SLUB metadata consistency check failed")
        return False
    slab_pad_check(cache, slab)
    return True


@kernel("mm/slub.c", "on_freelist")
def on_freelist(cache: SlubCache, slab: int, search: int) -> bool:
    """Whether an object is on its slab's freelist; a list that is broken is cut, counts that are wrong are mended."""
    pages = cache.pages
    obj, following, count = 0, pages.freelist[slab], 0
    while following and count <= pages.objects[slab]:
        if following == search:
            return True
        if not check_valid_pointer(cache, slab, following):
            if not obj:
                slab_err(cache, slab, "Freepointer corrupt")
                pages.freelist[slab], pages.inuse[slab] = 0, pages.objects[slab]
                slab_fix(cache, "Freelist cleared")
                return False
            object_err(cache, slab, obj, "Freechain corrupt")
            set_freepointer(cache, obj, 0)
            break
        obj, following = following, get_freepointer(cache, following)
        count += 1
    mend_counts(cache, slab, count)
    return search == 0


@invented("the second half of on_freelist", traced=False)
def mend_counts(cache: SlubCache, slab: int, free: int) -> None:
    """Report and mend the counts of a slab on whose freelist `free` objects were found."""
    pages = cache.pages
    most = min((PAGE_SIZE << slab_order(pages, slab)) // cache.size, 32767)
    if pages.objects[slab] != most:
        slab_err(cache, slab, f"Wrong number of objects. Found {pages.objects[slab]} but should be {most}")
        pages.objects[slab] = most
        slab_fix(cache, "Number of objects adjusted")
    used = max(pages.objects[slab] - free, 0)
    if pages.inuse[slab] != used:
        slab_err(cache, slab, f"Wrong object count. Counter is {pages.inuse[slab]} but counted were {used}")
        pages.inuse[slab] = used
        slab_fix(cache, "Object count adjusted")


# -- taking and giving back --------------------------------------------------------------------------------------------


@kernel("mm/slub.c", "trace", left_out="the stack", traced=False)
def trace(cache: SlubCache, slab: int, obj: int, is_alloc: bool) -> None:
    """slub_debug=T: say each time an object is taken or given back."""
    if not cache.flags & SLAB_TRACE:
        return
    pages = cache.pages
    pr_err(
        cache,
        f"TRACE {cache.name} {'alloc' if is_alloc else 'free'} 0x{pointer_text(cache, obj)} "
        f"inuse={pages.inuse[slab]} fp=0x{pointer_text(cache, pages.freelist[slab])}",
    )
    if not is_alloc:
        print_section(cache, "Object ", obj, cache.object_size)


@kernel("mm/slub.c", "alloc_consistency_checks", traced=False)
def alloc_consistency_checks(cache: SlubCache, slab: int, obj: int) -> bool:
    """Whether an object that is about to be given out is as it was left when it came back."""
    if not check_slab(cache, slab):
        return False
    if not check_valid_pointer(cache, slab, obj):
        object_err(cache, slab, obj, "Freelist Pointer check fails")
        return False
    return check_object(cache, slab, obj, SLUB_RED_INACTIVE)


@kernel("mm/slub.c", "alloc_debug_processing")
def alloc_debug_processing(cache: SlubCache, slab: int, obj: int, orig_size: int) -> bool:
    """Look at an object that is about to be given out. False: it is damaged; then its whole slab is set aside."""
    pages = cache.pages
    if cache.flags & SLAB_CONSISTENCY_CHECKS and not alloc_consistency_checks(cache, slab, obj):
        slab_fix(cache, "Marking all objects used")
        pages.inuse[slab], pages.freelist[slab], pages.frozen[slab] = pages.objects[slab], 0, 1
        return False
    trace(cache, slab, obj, is_alloc=True)
    set_orig_size(cache, obj, orig_size)
    init_object(cache, obj, SLUB_RED_ACTIVE)
    return True


@kernel("mm/slub.c", "free_consistency_checks")
def free_consistency_checks(cache: SlubCache, slab: int, obj: int) -> bool:
    """Whether an object that comes back is one, is not free already, and nobody wrote beyond it."""
    if not check_valid_pointer(cache, slab, obj):
        slab_err(cache, slab, f"Invalid object pointer 0x{pointer_text(cache, obj)}", BAD_POINTER, obj)
        return False
    if on_freelist(cache, slab, obj):
        object_err(cache, slab, obj, "Object already free", DOUBLE_FREE)
        return False
    if not check_object(cache, slab, obj, SLUB_RED_ACTIVE):
        return False
    if cache.pages.slab_cache[slab] != cache.number:
        object_err(cache, slab, obj, "page slab pointer corrupt.", WRONG_CACHE)
        return False
    return True


@kernel("mm/slub.c", "free_debug_processing")
def free_debug_processing(cache: SlubCache, slab: int, objects: tuple[int, ...], caller: int) -> bool:
    """Look at objects that come back. False: one of them is wrong; then none of them is taken."""
    checks = cache.flags & SLAB_CONSISTENCY_CHECKS
    wrong = objects[0]
    if checks and not check_slab(cache, slab):
        slab_fix(cache, f"Object at 0x{pointer_text(cache, wrong)} not freed")
        return False
    inuse = cache.pages.inuse[slab]
    if inuse < len(objects):
        what = f"Slab has {inuse} allocated objects but {len(objects)} are to be freed"
        slab_err(cache, slab, what, DOUBLE_FREE, wrong)
        slab_fix(cache, f"Object at 0x{pointer_text(cache, wrong)} not freed")
        return False
    for obj in objects:
        if checks and not free_consistency_checks(cache, slab, obj):
            slab_fix(cache, f"Object at 0x{pointer_text(cache, obj)} not freed")
            return False
        if cache.flags & SLAB_STORE_USER:
            set_track(cache, obj, TRACK_FREE, caller)
        trace(cache, slab, obj, is_alloc=False)
        init_object(cache, obj, SLUB_RED_INACTIVE)
    return True


@invented("the first lines of __free_slab", traced=False)
def check_before_discard(cache: SlubCache, slab: int) -> None:
    """Look at all objects of a slab before its pages go."""
    if cache.flags & SLAB_CONSISTENCY_CHECKS:
        slab_pad_check(cache, slab)
        for obj in for_each_object(cache, slab):
            check_object(cache, slab, obj, SLUB_RED_INACTIVE)
