"""What CONFIG_DEBUG_SLAB watches: the neighbourhood of each object, its contents while it is free, and who had it last.

slot of a free object      09f911029d74e35b │ 6b 6b 6b … 6b a5 │ 09f911029d74e35b │ who gave it back
slot of one that is held   d84156c5635688c0 │ 5a, then whatever │ d84156c5635688c0 │ who took it
                           red zone           the object          red zone

SLUB has its own kind of this, which can be switched on when a machine boots; this one is compiled in or not.
"""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import SLAB_POISON, SLAB_RED_ZONE, SLAB_STORE_USER
from kmemlab.alloc.slab_bug import OVERRUN, USE_AFTER_FREE, bug_at
from kmemlab.alloc.slab_cache import SlabCache
from kmemlab.alloc.slab_common import caller_text, report_bug
from kmemlab.alloc.slab_memory import memset, read_memory, read_number, write_number
from kmemlab.alloc.slab_size import REDZONE_ALIGN
from kmemlab.alloc.taint import print_tainted, taint
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.poison import POISON_END, POISON_FREE

RED_INACTIVE = 0x09F911029D74E35B
RED_ACTIVE = 0xD84156C5635688C0
BYTES_OF_A_LINE = 16
MOST_LINES = 5


@kernel("mm/slab.c", "__slab_error", left_out="the stack")
def slab_error(cache: SlabCache, function: str, message: str) -> None:
    """Say what is wrong with a cache."""
    cache.common.mm.current.printk.info(f"slab error in {function}(): cache `{cache.name}': {message}")
    taint(cache)


@kernel("mm/slab.c", "dbg_redzone1", traced=False)
def dbg_redzone1(cache: SlabCache, objp: int) -> int:
    """Where the red zone before an object lies; `objp` is the slot."""
    return objp + cache.obj_offset - 8


@kernel("mm/slab.c", "dbg_redzone2", traced=False)
def dbg_redzone2(cache: SlabCache, objp: int) -> int:
    """Where the red zone behind an object lies."""
    return objp + cache.size - 8 - (REDZONE_ALIGN if cache.flags & SLAB_STORE_USER else 0)


@kernel("mm/slab.c", "dbg_userword", traced=False)
def dbg_userword(cache: SlabCache, objp: int) -> int:
    """Where it stands who had the object last: the last word of the slot."""
    return objp + cache.size - cache.common.params.pointer


@invented("two loads, as everywhere in mm/slab.c's checks", traced=False)
def redzones(cache: SlabCache, objp: int) -> tuple[int, int]:
    """What stands in both red zones of a slot."""
    pages = cache.pages
    return read_number(pages, dbg_redzone1(cache, objp), 8), read_number(pages, dbg_redzone2(cache, objp), 8)


@invented("two stores", traced=False)
def set_redzones(cache: SlabCache, objp: int, value: int) -> None:
    """Mark a slot as held (RED_ACTIVE) or free (RED_INACTIVE)."""
    pages = cache.pages
    write_number(pages, dbg_redzone1(cache, objp), value, 8)
    write_number(pages, dbg_redzone2(cache, objp), value, 8)


@invented("a store", traced=False)
def set_user(cache: SlabCache, objp: int, caller: int) -> None:
    """Note who has the object, or had it last: C an address of code, here a number of `common.callers`."""
    write_number(cache.pages, dbg_userword(cache, objp), caller, cache.common.params.pointer)


@kernel("mm/slab.c", "poison_obj")
def poison_obj(cache: SlabCache, objp: int, val: int) -> None:
    """Fill an object with one value; the last byte says that the filling came to the end."""
    start, size = objp + cache.obj_offset, cache.object_size
    memset(cache.pages, start, val, size)
    memset(cache.pages, start + size - 1, POISON_END, 1)


@kernel("mm/slab.c", "dump_line", traced=False)
def dump_line(cache: SlabCache, data: bytes, offset: int) -> None:
    """Print 16 bytes of an object; a single flipped bit is more likely bad RAM than a bad program."""
    line = data[offset : offset + BYTES_OF_A_LINE]
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
    printk = cache.common.mm.current.printk
    printk.info(f"{offset:03x}: {line.hex(' '):<47}  {text}")
    wrong = [byte for byte in line if byte != POISON_FREE]
    if len(wrong) == 1 and (wrong[0] ^ POISON_FREE).bit_count() <= 1:
        printk.info("Single bit error detected. Probably bad RAM.")
        printk.info("Run memtest86+ or a similar memory test tool.")


@kernel("mm/slab.c", "print_objinfo")
def print_objinfo(cache: SlabCache, objp: int, lines: int) -> None:
    """Print an object's red zones, its last user, and some lines of it."""
    printk = cache.common.mm.current.printk
    if cache.flags & SLAB_RED_ZONE:
        before, behind = redzones(cache, objp)
        printk.info(f"Redzone: {before:#x}/{behind:#x}")
    if cache.flags & SLAB_STORE_USER:
        printk.info(f"Last user: ({last_user(cache, objp)})")
    data = read_memory(cache.pages, objp + cache.obj_offset, cache.object_size)
    for offset in range(0, min(cache.object_size, lines * BYTES_OF_A_LINE), BYTES_OF_A_LINE):
        dump_line(cache, data, offset)


@invented("C prints the symbol at the address", traced=False)
def last_user(cache: SlabCache, objp: int) -> str:
    """Who has an object or had it last, as text."""
    return caller_text(cache.common, read_number(cache.pages, dbg_userword(cache, objp), cache.common.params.pointer))


@invented("who had an object last, from its last word", traced=False)
def call_sites(cache: SlabCache, address: int) -> str:
    """Who took an object or gave it back last; "" if the cache doesn't note it."""
    if not cache.flags & SLAB_STORE_USER:
        return ""
    return f"last user: {last_user(cache, address - cache.obj_offset)}"


@invented("for the error that the command raises", traced=False)
def report_write(cache: SlabCache, kind: str, objp: int, what: str) -> None:
    """Keep that memory in or around an object was written by somebody who may not."""
    address = objp + cache.obj_offset
    report_bug(cache, kind, f"{what} object {address:#x} of {cache.name}", address, call_sites(cache, address))


@kernel("mm/slab.c", "check_poison_obj", left_out="objects that lie in pages of their own")
def check_poison_obj(cache: SlabCache, objp: int, neighbours: tuple[int | None, int | None]) -> bool:
    """Whether a free object is as it was left; if not, print what was written into it and what lies beside it.

    `neighbours` are the slots before and behind it in its slab, None where there is none.
    """
    size, start = cache.object_size, objp + cache.obj_offset
    data = read_memory(cache.pages, start, size)
    expected = bytes([POISON_FREE]) * (size - 1) + bytes([POISON_END])
    if data == expected:
        return True
    printk = cache.common.mm.current.printk
    printk.info(f"Slab corruption ({print_tainted(cache)}): {cache.name} start={start:x}, len={size}")
    print_objinfo(cache, objp, 0)
    starts = range(0, size, BYTES_OF_A_LINE)
    wrong = [at for at in starts if data[at : at + BYTES_OF_A_LINE] != expected[at : at + BYTES_OF_A_LINE]]
    for offset in wrong[: MOST_LINES + 1]:
        dump_line(cache, data, offset)
    for which, beside in zip(("Prev", "Next"), neighbours, strict=True):
        if beside is not None:
            printk.info(f"{which} obj: start={beside + cache.obj_offset:x}, len={size}")
            print_objinfo(cache, beside, 2)
    report_write(cache, USE_AFTER_FREE, objp, "somebody wrote into the free")
    return False


@kernel("mm/slab.c", "verify_redzone_free")
def verify_redzone_free(cache: SlabCache, objp: int) -> bool:
    """Whether both red zones of an object that comes back say that it was held; if not, say which mistake it was."""
    zones = redzones(cache, objp)
    if zones == (RED_ACTIVE, RED_ACTIVE):
        return True
    twice = zones == (RED_INACTIVE, RED_INACTIVE)
    wrong = "double free detected" if twice else "memory outside object was overwritten"
    slab_error(cache, "verify_redzone_free", wrong)
    print_redzones(cache, objp, zones)
    return False


@invented("a line that two functions print", traced=False)
def print_redzones(cache: SlabCache, objp: int, zones: tuple[int, int]) -> None:
    """Print what stands in both red zones."""
    cache.common.mm.current.printk.info(f"{objp:x}: redzone 1:{zones[0]:#x}, redzone 2:{zones[1]:#x}")


@invented("the part of cache_alloc_debugcheck_after that watches red zones", traced=False)
def verify_redzone_alloc(cache: SlabCache, objp: int) -> bool:
    """Whether both red zones of an object that is handed out say that it was free."""
    zones = redzones(cache, objp)
    if zones == (RED_INACTIVE, RED_INACTIVE):
        return True
    slab_error(cache, "cache_alloc_debugcheck_after", "double free, or memory outside object was overwritten")
    print_redzones(cache, objp, zones)
    report_write(cache, OVERRUN, objp, "somebody wrote around the free")
    return False


@invented("the check at the head of slab_put_obj", traced=False)
def check_double_free(cache: SlabCache, objp: int, objnr: int, free: list[int]) -> None:
    """Raise `Oops` (C's BUG()) if an object that comes back to its slab is on the slab's freelist already."""
    if objnr in free:
        printk = cache.common.mm.current.printk
        message = f"slab: double free detected in cache '{cache.name}', objp {objp:x}"
        printk.info(message)
        raise bug_at(printk, "mm/slab.c:2527", message)


@invented("the end of slab_destroy_debugcheck, and of cache_init_objs_debug", traced=False)
def check_red_zones(cache: SlabCache, objp: int, function: str, words: tuple[str, str]) -> None:
    """Whether both red zones of a free object are whole; `words` say what is wrong with the one before, or behind."""
    for zone, message in zip(redzones(cache, objp), words, strict=True):
        if zone != RED_INACTIVE:
            slab_error(cache, function, message)
            report_write(cache, OVERRUN, objp, "somebody wrote around the free")


@kernel("mm/slab.c", "cache_init_objs_debug")
def init_obj_debug(cache: SlabCache, objp: int) -> None:
    """An object of a new slab: nobody's, between red zones."""
    if cache.flags & SLAB_STORE_USER:
        set_user(cache, objp, 0)
    if cache.flags & SLAB_RED_ZONE:
        set_redzones(cache, objp, RED_INACTIVE)


@invented("the second half of cache_init_objs_debug", traced=False)
def check_constructed(cache: SlabCache, objp: int) -> None:
    """Whether the constructor kept to the object; then poison it."""
    if cache.flags & SLAB_RED_ZONE:
        what = "constructor overwrote the {} of an object"
        check_red_zones(cache, objp, "cache_init_objs_debug", (what.format("start"), what.format("end")))
    if cache.flags & SLAB_POISON:
        poison_obj(cache, objp, POISON_FREE)
