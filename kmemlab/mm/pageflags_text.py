"""A page as the kernel's reports show it: the address of its struct page, and page->flags in hex and by name."""

from __future__ import annotations

from kmemlab.boot.globals import kaslr_base
from kmemlab.mm.globals import Mm
from kmemlab.mm.mem_map import page_zone_id
from kmemlab.mm.page_flags import page_flags_layout
from kmemlab.mm.sparsemem_vmemmap import VMEMMAP_START
from kmemlab.sim.kernel import kernel
from kmemlab.types.memory_model import MemoryModelKind
from kmemlab.types.zone_type import MAX_NR_ZONES


@kernel(
    "include/asm-generic/memory_model.h",
    "__pfn_to_page",
    left_out="where boot put i386's memory map: it is shown as if it began where lowmem does",
    traced=False,
)
def pfn_to_page(mm: Mm, pfn: int) -> int:
    """The address of a page frame's struct page."""
    config = mm.boot.config
    start = VMEMMAP_START[mm.boot.page_table_levels] if config.sparsemem else config.page_offset
    start = kaslr_base(mm.boot.spec, "vmemmap_base") or start
    return start + pfn * config.sizeof_page


@kernel("lib/vsprintf.c", "format_page_flags", traced=False)
def page_flags_text(mm: Mm, pfn: int) -> str:
    """The flags of a page as %pGp prints them: `0x200(slab|node=0|zone=1)`."""
    config = mm.boot.config
    kind = MemoryModelKind.SPARSEMEM_VMEMMAP if config.sparsemem else MemoryModelKind.FLATMEM
    layout = page_flags_layout(config, kind, mm.boot.page_table_levels)
    word = mm.page.flags[pfn]
    words = [name.removeprefix("PG_") for bit, name in enumerate(layout.flags) if word >> bit & 1]
    slot = page_zone_id(mm.page, pfn) - 1
    never = (1 << layout.last_cpupid_width) - 1  # no process has touched the page yet
    values = {"node": slot // MAX_NR_ZONES, "zone": slot % MAX_NR_ZONES, "last_cpupid": never}
    for name, at, width in layout.parts():
        if width and name in values:
            word |= values[name] << at
            shown = f"0x{values[name]:x}" if name == "last_cpupid" else str(values[name])
            words.append(f"{name.replace('_', '')}={shown}")
    return f"0x{word:x}({'|'.join(words)})"
