"""What SLUB says when it finds memory written that nobody may write, in the words of the kernel's log.

=============================================================================
BUG kmalloc-64 (Not tainted): Right Redzone overwritten
-----------------------------------------------------------------------------

0xffff888003a1c0c0-0xffff888003a1c0c3 @offset=192. First byte 0x41 instead of 0xcc
Allocated in driver_open age=12 cpu=0 pid=1
Slab 0xffffea00000e8700 objects=16 used=3 fp=0xffff888003a1c300 flags=0x200(slab|node=0|zone=1)
Object 0xffff888003a1c080 @offset=128 fp=0x0000000000000000

Redzone  ffff888003a1c040: cc cc …
Object   ffff888003a1c080: 00 00 …
FIX kmalloc-64: Restoring Right Redzone 0xffff888003a1c0c0-0xffff888003a1c0c3=0xcc
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import SLAB_CONSISTENCY_CHECKS, SLAB_RED_ZONE, SLAB_STORE_USER
from kmemlab.alloc.slab_bug import CORRUPT, OVERRUN, USE_AFTER_FREE
from kmemlab.alloc.slab_common import report_bug
from kmemlab.alloc.slab_memory import memset, read_memory
from kmemlab.alloc.slab_pages import slab_address
from kmemlab.alloc.slub_def import SlubCache
from kmemlab.alloc.slub_freelist import get_freepointer
from kmemlab.alloc.slub_layout import check_valid_pointer, get_info_end, orig_size_is_kept, size_from_object
from kmemlab.alloc.slub_track import print_tracking, sites
from kmemlab.alloc.taint import print_tainted, taint
from kmemlab.mm.pageflags_text import page_flags_text, pfn_to_page
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.units import PAGE_SIZE

BYTES_PER_LINE = 16


@invented("pr_err", traced=False)
def pr_err(cache: SlubCache, line: str) -> None:
    """Say one line."""
    cache.common.mm.boot.printk.info(line)


@kernel("lib/vsprintf.c", "pointer_string", left_out="hashing: C shows addresses only with slub_debug", traced=False)
def pointer_text(cache: SlubCache, address: int) -> str:
    """An address as %p prints it."""
    return f"{address:0{2 * cache.pages.pointer}x}"


@kernel("lib/hexdump.c", "print_hex_dump", traced=False)
def print_section(cache: SlubCache, text: str, address: int, length: int) -> None:
    """Print bytes, 16 a line, with their address and as characters."""
    for start in range(address, address + length, BYTES_PER_LINE):
        piece = read_memory(cache.pages, start, min(BYTES_PER_LINE, address + length - start))
        characters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        pr_err(cache, f"{text}{pointer_text(cache, start)}: {piece.hex(' '):<49}{characters}")


@kernel("mm/slub.c", "slab_bug", traced=False)
def slab_bug(cache: SlubCache, what: str) -> None:
    """The headline of a report."""
    pr_err(cache, "=" * 77)
    pr_err(cache, f"BUG {cache.name} ({print_tainted(cache)}): {what}")
    pr_err(cache, "-" * 77)
    pr_err(cache, "")


@kernel("mm/slub.c", "slab_fix", traced=False)
def slab_fix(cache: SlubCache, what: str) -> None:
    """Say how the damage is repaired, so that the kernel can go on."""
    pr_err(cache, f"FIX {cache.name}: {what}")


@kernel("mm/slub.c", "print_slab_info", traced=False)
def print_slab_info(cache: SlubCache, slab: int) -> None:
    """One line about a slab."""
    pages, mm = cache.pages, cache.common.mm
    pr_err(
        cache,
        f"Slab 0x{pointer_text(cache, pfn_to_page(mm, slab))} objects={pages.objects[slab]} used={pages.inuse[slab]} "
        f"fp=0x{pointer_text(cache, pages.freelist[slab])} flags={page_flags_text(mm, slab)}",
    )


@kernel("mm/slub.c", "print_trailer", left_out="the stack")
def print_trailer(cache: SlubCache, slab: int, obj: int) -> None:
    """All there is to know about an object: who had it, its slab, its bytes and what surrounds them."""
    base = slab_address(cache.pages, slab)
    print_tracking(cache, obj)
    print_slab_info(cache, slab)
    following = pointer_text(cache, get_freepointer(cache, obj))
    pr_err(cache, f"Object 0x{pointer_text(cache, obj)} @offset={obj - base} fp=0x{following}")
    pr_err(cache, "")
    if cache.flags & SLAB_RED_ZONE:
        print_section(cache, "Redzone  ", obj - cache.red_left_pad, cache.red_left_pad)
    elif obj > base + BYTES_PER_LINE:
        print_section(cache, "Bytes b4 ", obj - BYTES_PER_LINE, BYTES_PER_LINE)
    print_section(cache, "Object   ", obj, min(cache.object_size, PAGE_SIZE))
    if cache.flags & SLAB_RED_ZONE:
        print_section(cache, "Redzone  ", obj + cache.object_size, cache.inuse - cache.object_size)
    end = get_info_end(cache)
    if cache.flags & SLAB_STORE_USER:
        end += 2 * cache.track_size
    if orig_size_is_kept(cache):
        end += 4
    if end != size_from_object(cache):
        print_section(cache, "Padding  ", obj + end, size_from_object(cache) - end)


@kernel("mm/slub.c", "object_err")
def object_err(cache: SlubCache, slab: int, obj: int, reason: str, kind: str = CORRUPT) -> None:
    """Report that an object is damaged."""
    slab_bug(cache, reason)
    if obj and check_valid_pointer(cache, slab, obj):
        print_trailer(cache, slab, obj)
    else:
        print_slab_info(cache, slab)
        pr_err(cache, f"Invalid pointer 0x{pointer_text(cache, obj)}")
    taint(cache)
    report_bug(cache, kind, f"{reason}: object {obj:#x} of {cache.name}", obj, sites(cache, slab, obj))


@kernel("mm/slub.c", "slab_err")
def slab_err(cache: SlubCache, slab: int, what: str, kind: str = CORRUPT, obj: int = 0) -> None:
    """Report that a slab is damaged."""
    slab_bug(cache, what)
    print_slab_info(cache, slab)
    taint(cache)
    whose = f"object {obj:#x} of {cache.name}" if obj else cache.name
    report_bug(cache, kind, f"{what}: {whose}", obj or slab_address(cache.pages, slab), sites(cache, slab, obj))


@kernel("mm/slub.c", "freelist_corrupted", traced=False)
def freelist_corrupted(cache: SlubCache, slab: int, obj: int, following: int) -> bool:
    """Whether a free object names as the next one what is none of its slab; then the rest of the list is given up."""
    if not cache.flags & SLAB_CONSISTENCY_CHECKS or check_valid_pointer(cache, slab, following):
        return False
    object_err(cache, slab, obj, "Freechain corrupt")
    slab_fix(cache, "Isolate corrupted freechain")
    return True


@kernel("mm/slub.c", "restore_bytes", traced=False)
def restore_bytes(cache: SlubCache, what: str, value: int, start: int, end: int) -> None:
    """Write what should have stood there, and say so."""
    first, last = pointer_text(cache, start), pointer_text(cache, end - 1)
    slab_fix(cache, f"Restoring {what} 0x{first}-0x{last}=0x{value:x}")
    memset(cache.pages, start, value, end - start)


@invented("memchr_inv, and the loop back from the end", traced=False)
def damaged_part(cache: SlubCache, start: int, value: int, size: int) -> tuple[int, int] | None:
    """From the first byte that is not `value` to behind the last one; None if all are."""
    data = read_memory(cache.pages, start, size)
    expected = bytes([value])
    if data == expected * size:
        return None
    return start + size - len(data.lstrip(expected)), start + len(data.rstrip(expected))


@kernel("mm/slub.c", "check_bytes_and_report")
def check_bytes_and_report(cache: SlubCache, slab: int, obj: int, what: str, start: int, value: int, size: int) -> bool:
    """Whether `size` bytes all are `value`; if not it is reported and repaired."""
    damage = damaged_part(cache, start, value, size)
    if damage is None:
        return True
    fault, end = damage
    first = read_memory(cache.pages, fault, 1)[0]
    offset = fault - slab_address(cache.pages, slab)
    slab_bug(cache, f"{what} overwritten")
    pr_err(
        cache,
        f"0x{pointer_text(cache, fault)}-0x{pointer_text(cache, end - 1)} @offset={offset}. "
        f"First byte 0x{first:x} instead of 0x{value:x}",
    )
    print_trailer(cache, slab, obj)
    taint(cache)
    kind = USE_AFTER_FREE if "Poison" in what else OVERRUN
    where = f"{end - fault} bytes at {fault:#x}, {describe(fault - obj, cache.object_size)} of"
    report_bug(
        cache, kind, f"{what} overwritten: {where} object {obj:#x} of {cache.name}", obj, sites(cache, slab, obj)
    )
    restore_bytes(cache, what, value, fault, end)
    return False


@invented("for people", traced=False)
def describe(offset: int, object_size: int) -> str:
    """Where a place is, seen from an object.

    >>> describe(-8, 64), describe(3, 64), describe(66, 64)
    ('8 bytes before the start', 'at byte 3', '2 bytes behind the end')
    """
    if offset < 0:
        return f"{-offset} bytes before the start"
    if offset < object_size:
        return f"at byte {offset}"
    return f"{offset - object_size} bytes behind the end"
