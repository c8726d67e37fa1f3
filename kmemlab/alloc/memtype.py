"""memtype_reserve: before physical addresses are mapped somewhere, their type is noted; one type for all mappings.

request WB on a range that the MTRRs leave uncached        ──▶ UC-
request WC on a range that somebody has mapped as UC-      ──▶ UC-: the first one decides
"""

from __future__ import annotations

from kmemlab.boot.direct_map import ISA_END_ADDRESS
from kmemlab.boot.globals import Boot
from kmemlab.boot.mtrr import mtrr_type_lookup
from kmemlab.boot.pat import UC_MINUS, WB, WC, WT
from kmemlab.mm.context import task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.memtype import insert_memtype, memtype_erase, overlapping
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.mtrr_type import MTRR_TYPE_WRBACK, PAT_NAMES
from kmemlab.types.pgtable import PAGE_PAT, PAGE_PCD, PAGE_PWT

ISA_START_ADDRESS = 0xA0000
CATTR_NAMES = {0: "uncached", 1: "write-combining", 4: "write-through", 5: "write-protected", 6: "write-back"}


@kernel("arch/x86/include/asm/memtype.h", "pat_enabled", traced=False)
def pat_enabled(boot: Boot) -> bool:
    """Whether page-table entries can choose all of the types."""
    return bool(boot.pat.pat_bp_enabled)


@kernel("arch/x86/include/asm/e820/api.h", "is_ISA_range", traced=False)
def is_isa_range(start: int, end: int) -> bool:
    """Whether [start, end) lies between 640 KiB and 1 MiB, where nobody keeps track."""
    return start >= ISA_START_ADDRESS and end <= ISA_END_ADDRESS


@kernel("arch/x86/mm/init.c", "cachemode2protval", traced=False)
def cachemode2protval(boot: Boot, mode: int) -> int:
    """The bits of a page-table entry that choose a memory type: the first entry of the PAT that has it, else UC-."""
    pat = boot.mtrr.msr.pat
    index = next((entry for entry in range(8) if pat >> 8 * entry & 7 == mode), 2)
    return (PAGE_PWT if index & 1 else 0) | (PAGE_PCD if index & 2 else 0) | (PAGE_PAT if index & 4 else 0)


@kernel("arch/x86/mm/pat/memtype.c", "pat_x_mtrr_type", traced=False)
def pat_x_mtrr_type(boot: Boot, start: int, end: int, req_type: int) -> int:
    """The type to note: write-back only where the MTRRs allow it."""
    if req_type == WB and mtrr_type_lookup(boot.mtrr, start, end)[0] != MTRR_TYPE_WRBACK:
        return UC_MINUS
    return req_type


@kernel("arch/x86/mm/pat/memtype.c", "memtype_reserve", left_out="ranges of RAM, whose pages keep their type")
def memtype_reserve(mm: Mm, start: int, end: int, req_type: int) -> int:
    """Note that [start, end) is mapped as `req_type`; gives the type that it must be mapped as.

    Raises `BadRequest` where it overlaps ranges of several types.
    """
    if not pat_enabled(mm.boot):
        return req_type
    if is_isa_range(start, end):
        return WB
    actual = pat_x_mtrr_type(mm.boot, start, end, req_type)
    types = {mm.memtypes.type[at] for at in overlapping(mm.memtypes, start, end)}
    if len(types) > 1:
        raise conflict(mm, start, end, *sorted(types)[:2])
    new_type = types.pop() if types else actual
    insert_memtype(mm.memtypes, start, end, new_type)
    return new_type


@invented("the messages of memtype_check_conflict and memtype_reserve", traced=False)
def conflict(mm: Mm, start: int, end: int, found: int, other: int) -> BadRequest:
    """Say that a range is of several types already, and make an error of it."""
    who = f"{task_comm(mm.current)}:{mm.current.pid}"
    names = f"{cattr_name(found)}<->{cattr_name(other)}"
    mm.boot.printk.info(f"x86/PAT: {who} conflicting memory types {start:x}-{end:x} {names}")
    return BadRequest(
        f"conflicting memory types {start:x}-{end:x} {names}",
        where="memtype_reserve",
        remedy="map the parts one by one, each as it is mapped elsewhere",
    )


@kernel("arch/x86/mm/pat/memtype.h", "cattr_name", traced=False)
def cattr_name(type: int) -> str:
    """A memory type's name in the log."""
    return CATTR_NAMES.get(type, "uncached-minus" if PAT_NAMES.get(type) == "UC-" else "broken")


@kernel("arch/x86/mm/pat/memtype.c", "memtype_free")
def memtype_free(mm: Mm, start: int, end: int) -> None:
    """Forget that a range is mapped."""
    if not pat_enabled(mm.boot) or is_isa_range(start, end):
        return
    if not memtype_erase(mm.memtypes, start, end):
        who = f"{task_comm(mm.current)}:{mm.current.pid}"
        mm.boot.printk.info(f"x86/PAT: {who} freeing invalid memtype [mem {start:#010x}-{end - 1:#010x}]")


@kernel("arch/x86/include/asm/pgtable.h", "is_new_memtype_allowed", traced=False)
def is_new_memtype_allowed(start: int, end: int, pcm: int, new_pcm: int) -> bool:
    """Whether who asked for one type can live with another: nobody who wants no cache gets one."""
    if is_isa_range(start, end):
        return True
    return (pcm, new_pcm) not in ((UC_MINUS, WB), (WC, WB), (WT, WB), (WT, WC))
