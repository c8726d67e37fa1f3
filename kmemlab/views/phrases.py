"""One true sentence for each step: who did what to which block or entry, written from the recorded call."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from kmemlab.mm.zone import Zone
from kmemlab.sim.journal import Command
from kmemlab.sim.timeline import Call
from kmemlab.types.e820_type import e820_type_text
from kmemlab.types.gfp import gfp_text
from kmemlab.types.migratetype import MIGRATETYPE_NAMES
from kmemlab.types.units import PAGE_SHIFT, U64_MAX, size_text
from kmemlab.views.phrases_compaction import COMPACTION_EFFECTS, COMPACTION_ENTRIES
from kmemlab.views.phrases_fallback import FALLBACK_ENTRIES, FALLBACK_FOLDED, FALLBACK_VERDICTS
from kmemlab.views.phrases_fork import FORK_ENTRIES, FORK_FOLDED
from kmemlab.views.phrases_reclaim import RECLAIM_EFFECTS, RECLAIM_ENTRIES
from kmemlab.views.told import Tell, Told, told

Block = tuple[int, int]
Stop = tuple[str, int, tuple[int, ...]]  # a sentence, a place, and what is open there


# -- effects: leaves that change something; told when they are done, as the deed of their caller --------------------


def _put(where: str) -> Tell:
    def tell(t: Told) -> str:
        if t.caller and t.caller.name == "expand":
            return f"{t.by} gives the upper half back: {t.block}, goes to the {where} of its list."
        return f"{t.by} puts the free block at {t.block}, at the {where} of its list."

    return tell


def _taken(t: Told) -> str:
    if t.caller and t.caller.name == "__free_one_page":
        order = t.args["order"]
        return f"{t.by} takes the free buddy at {t.block}, off its list: both become one block of order {order + 1}."
    return f"{t.by} takes the free block at {t.block}, off its list."


def _handed(t: Told) -> str:
    return f"{t.by} hands the block at {t.block}, to its new owner, with one reference on its first page."


def _range_added(t: Told) -> str:
    start, size = t.args["start"], t.args["size"]
    end = (start + size - 1) & U64_MAX
    return f"{t.by} appends [mem {start:#010x}-{end:#010x}], {size_text(size)}, {e820_type_text(t.args['type'])}."


def _memory(t: Told) -> str:
    """The range of bytes that the arguments name, as memblock prints it but without padding."""
    base, size = t.args["base"], t.args["size"]
    return f"[{base:#x}-{base + size - 1:#x}]"


def _inserted(t: Told) -> str:
    return f"{t.by} puts {_memory(t)}, {size_text(t.args['size'])}, into the list as region {t.args['idx']}."


def _region_removed(t: Told) -> str:
    return f"{t.by} takes region {t.args['idx']} out of the list."


def _merged(t: Told) -> str:
    return f"{t.by} makes one region of neighbours that touch."


def _isolated(t: Told) -> str:
    return f"{t.by} cuts the regions in two where {_memory(t)} starts and ends."


def _table_taken(t: Told) -> str:
    return f"{t.by} needs a table: it gets page frame {t.call.value:#x}."


def _table_entered(t: Told) -> str:
    name = ("pgd", "p4d", "pud", "pmd")[t.args["level"]]
    return f"{t.by} lets the {name}'s entry for {t.args['paddr']:#x} name the table in page frame {t.args['pfn']:#x}."


def _pages_entered(t: Told) -> str:
    size = t.args["boot"].swapper_pg_dir.layout.levels[t.args["level"]].size
    count = t.args["last"] - t.args["first"]
    entries = "1 entry: a page" if count == 1 else f"{count} entries: pages"
    return f"{t.by} fills {entries} of {size_text(size)}, from {t.args['first'] * size:#x} on."


def _range_mapped(t: Told) -> str:
    start, end = t.args["start_pfn"] << PAGE_SHIFT, t.args["end_pfn"] << PAGE_SHIFT
    return f"{t.by} notes that [{start:#x}-{end - 1:#x}] is mapped: tables may lie there from now on."


EFFECTS: dict[str, Tell] = {
    "alloc_low_pages": _table_taken,
    "enter_table": _table_entered,
    "enter_pages": _pages_entered,
    "add_pfn_range_mapped": _range_mapped,
    "memblock_insert_region": _inserted,
    "memblock_remove_region": _region_removed,
    "memblock_merge_regions": _merged,
    "memblock_isolate_range": _isolated,
    "add_to_free_list": _put("front"),
    "add_to_free_list_tail": _put("end"),
    "del_page_from_free_list": _taken,
    "prep_new_page": _handed,
    "__e820__range_add": _range_added,
    **RECLAIM_EFFECTS,
    **COMPACTION_EFFECTS,
}
FOLDED: dict[str, Tell] = {**FORK_FOLDED, **FALLBACK_FOLDED}
"""The same for calls that are told as a whole only where a player folds them."""


# -- verdicts: calls that only look, but whose answer decides ----------------------------------------------------------


def _watermark(t: Told) -> str:
    may = "may give" if t.call.value else "may not give"
    zone, order, mark = t.args["zone"], t.args["order"], t.args["mark"]
    return f"{t.by} asks if zone {zone.name} stays above its mark of {mark} pages: it {may} a block of order {order}."


def _next_best(t: Told) -> str:
    node, found = t.args["node"], t.call.value
    if found is None:
        return f"{t.by} asks for the next best node for node {node}: none is left."
    if found == node:
        return f"{t.by} asks for the best node for node {node}: that is itself."
    return f"{t.by} asks for the next best node for node {node}: {found}."


def _found(t: Told) -> str:
    size, align = size_text(t.args["size"]), t.args["align"]
    if not t.call.value:
        return f"{t.by} asks for {size} aligned to {align:#x}: no free place is large enough."
    side = "lowest" if t.args["memblock"].bottom_up else "highest"
    return f"{t.by} asks for {size} aligned to {align:#x}: the {side} free place is at {t.call.value:#x}."


def _split(t: Told) -> str:
    names = ((3, "1 GiB"), (2, size_text(t.args["boot"].direct_map.pmd_size)), (0, "4 KiB"))
    pieces = [
        f"[{start:#x}-{end - 1:#x}] by {next(name for bit, name in names if not bit or mask & 1 << bit)}"
        for start, end, mask in t.call.value
    ]
    return f"{t.name} cuts it where the size of pages changes: {', '.join(pieces)}."


VERDICTS: dict[str, Tell] = {
    "split_mem_range": _split,
    "zone_watermark_fast": _watermark,
    "find_next_best_node": _next_best,
    "memblock_find_in_range_node": _found,
    **FALLBACK_VERDICTS,
}


# -- lists of places that a caller is about to walk: a step for each ---------------------------------------------------


def _stops(t: Told) -> list[Stop]:
    """The stops of the sweep over an e820 table, each with the entries that are open behind it."""
    entries = t.args["entries"]
    told_stops = []
    open_entries: set[int] = set()
    for addr, index in t.call.value:
        starts = addr == entries[index].addr
        open_entries = open_entries | {index} if starts else open_entries - {index}
        names = ", ".join(f"{at} ({e820_type_text(entries[at].type)})" for at in sorted(open_entries))
        kind = e820_type_text(entries[index].type)
        where = f"where entry {index} ({kind}) {'starts' if starts else 'ends'}"
        covered = f"open now: {names}" if names else "no entry is open now"
        told_stops.append((f"{t.by} stops at {addr:#x}, {where}; {covered}.", addr, tuple(sorted(open_entries))))
    return told_stops


# e820_change_points is what we have for C's sorting of change points with cpcompare().
WALKS: dict[str, Callable[[Told], list[Stop]]] = {"cpcompare": _stops}


# -- entering ----------------------------------------------------------------------------------------------------------


def _expand(t: Told) -> str:
    low, high = t.args["low"], t.args["high"]
    if low == high:
        return f"{t.name} has nothing to split: the block at pfn {t.args['pfn']} is of order {low} already."
    return (
        f"{t.name} splits the block at pfn {t.args['pfn']}, order {high}, until a block of order {low} is left there."
    )


def _smallest(t: Told) -> str:
    kind = _migratetype(t.args["migratetype"])
    return f"{t.name} looks for the smallest free block of order {t.args['order']} or more on the {kind} lists."


def _free_one(t: Told) -> str:
    buddy = t.args["pfn"] ^ (1 << t.args["order"])
    return f"{t.name} gives back the block at {t.block}; its buddy is at pfn {buddy}."


def _append_table(t: Told) -> str:
    count = t.args["boot_params"].e820_entries
    return f"{t.name} takes over what the setup code left in the zero page: {count} entries, one by one."


def _update_table(t: Told) -> str:
    return f"{t.name} sorts the entries and takes the overlaps out: the highest type wins."


def _alloc(t: Told) -> str:
    return (
        f"{t.name} wants a block of order {t.args['order']} for {gfp_text(t.args['gfp'])}, near node {t.args['nid']}."
    )


def _freelist(t: Told) -> str:
    return f"{t.name} walks the zonelist of node {t.args['nid']}: the first zone that may give and has a block, gives."


def _rmqueue(t: Told) -> str:
    kind = _migratetype(t.args["migratetype"])
    return f"{t.name} takes a block of order {t.args['order']} from the {kind} lists of zone {t.args['zone'].name}."


def _rmqueue_inner(t: Told) -> str:
    kind = _migratetype(t.args["migratetype"])
    return f"{t.name} tries the {kind} lists first; other types lend only if these are empty."


def _free_pages(t: Told) -> str:
    return f"{t.name} drops the reference on the block at {t.block}."


def _free_pages_ok(t: Told) -> str:
    return f"{t.name} gives the block at {t.block}, back to zone {t.args['zone'].name}."


def _for_whom(t: Told) -> str:
    caller = t.args.get("caller") or (t.caller.name if t.caller else "")
    return f", for `{caller}`" if caller else ""


def _memblock_add(t: Told) -> str:
    return f"{t.name} says that {_memory(t)}, {size_text(t.args['size'])}, is memory{_for_whom(t)}."


def _memblock_reserve(t: Told) -> str:
    return f"{t.name} says that {_memory(t)}, {size_text(t.args['size'])}, is taken{_for_whom(t)}."


def _memblock_free(t: Told) -> str:
    return f"{t.name} gives {_memory(t)}, {size_text(t.args['size'])}, back{_for_whom(t)}."


def _memblock_asked(t: Told) -> str:
    return f"{t.name} wants {size_text(t.args['size'])}, aligned to {t.args['align']:#x}{_for_whom(t)}."


def _memblock_add_range(t: Told) -> str:
    return f"{t.name} adds to the list `{t.args['type'].name}` what it doesn't cover yet of {_memory(t)}."


def _map_range(t: Told) -> str:
    start, end = t.args["start"], t.args["end"]
    return f"{t.name} is to map [{start:#x}-{end - 1:#x}], {size_text(end - start)}."


def _map_window(t: Told) -> str:
    start, end = t.args["r_start"], t.args["r_end"]
    return f"{t.name} maps the window [{start:#x}-{end - 1:#x}], {size_text(end - start)}: only what is RAM of it."


def _map_level(t: Told) -> str:
    start, end = t.args["start"], t.args["end"]
    level = {"phys_p4d_init": "512 GiB", "phys_pud_init": "1 GiB", "phys_pmd_init": "2 MiB", "phys_pte_init": "4 KiB"}
    return f"{t.name} goes over the entries for {level[t.call.name]} each that [{start:#x}-{end - 1:#x}] touches."


ENTRIES: dict[str, Tell] = {
    "init_memory_mapping": _map_range,
    "kernel_physical_mapping_init": _map_range,
    "init_range_memory_mapping": _map_window,
    "phys_p4d_init": _map_level,
    "phys_pud_init": _map_level,
    "phys_pmd_init": _map_level,
    "phys_pte_init": _map_level,
    "memblock_add_range": _memblock_add_range,
    "memblock_add": _memblock_add,
    "memblock_reserve": _memblock_reserve,
    "memblock_phys_free": _memblock_free,
    "memblock_phys_alloc_range": _memblock_asked,
    "memblock_alloc_range_nid": _memblock_asked,
    "__alloc_pages": _alloc,
    "get_page_from_freelist": _freelist,
    "rmqueue": _rmqueue,
    "__rmqueue": _rmqueue_inner,
    "__free_pages": _free_pages,
    "__free_pages_ok": _free_pages_ok,
    "expand": _expand,
    "__rmqueue_smallest": _smallest,
    "__free_one_page": _free_one,
    "append_e820_table": _append_table,
    "e820__update_table": _update_table,
    **RECLAIM_ENTRIES,
    **COMPACTION_ENTRIES,
    **FORK_ENTRIES,
    **FALLBACK_ENTRIES,
}


def entering(t: Told) -> str:
    """What a function is about to do: its own sentence, or the first one of its docstring."""
    if t.call.name in ENTRIES:
        return ENTRIES[t.call.name](t)
    first = (inspect.getdoc(t.call.function) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".")
    note = note_of(t)
    with_what = f" ({note})" if note else ""
    return (
        f"{t.name} is called{with_what}: {first[:1].lower() + first[1:]}."
        if first
        else f"{t.name} is called{with_what}."
    )


# -- returning ---------------------------------------------------------------------------------------------------------


def leaving(t: Told) -> str | None:
    """What came of a call, where that is worth a step."""
    call = t.call
    if call.raised:
        return f"{t.name} failed."
    if call.name == "__rmqueue_smallest":
        if call.value is None:
            return f"{t.name} finds nothing: the lists from order {t.args['order']} up are empty."
        return f"{t.name} returns pfn {call.value}: a block of order {t.args['order']} for its caller."
    if call.name == "__alloc_pages" and isinstance(call.value, int):
        return f"{t.name} returns pfn {call.value}, the first of {1 << t.args['order']} in a row."
    if t.caller is None and call.name in VERDICTS:
        return VERDICTS[call.name](t)
    if t.caller is None and call.value is not None and not isinstance(call.value, (tuple, list, dict)):
        return f"{t.name} returns {_plain(call.value)}."
    return None


def focus_of(t: Told) -> Block | None:
    """The block of page frames that a call is about."""
    args = t.args
    gives = t.call.name in ("__rmqueue_smallest", "__alloc_pages") and isinstance(t.call.value, int)
    pfn = t.call.value if gives else args.get("pfn")
    order = args.get("order", args.get("high"))
    return (pfn, order) if isinstance(pfn, int) and isinstance(order, int) else None


# -- notes in the call tree ------------------------------------------------------------------------------------------


def note_of(t: Told) -> str:
    """The arguments that say most, short enough for a line of the call tree."""
    if t.call.name == "expand":
        return f"order {t.args['high']} → {t.args['low']}"
    parts = []
    for name, value in t.args.items():
        if isinstance(value, Zone):
            parts.append(f"zone {value.name}")
        elif name == "migratetype" and isinstance(value, int):
            parts.append(_migratetype(value))
        elif name == "gfp" and isinstance(value, int):
            parts.append(gfp_text(value))
        elif isinstance(value, (int, str)) and not isinstance(value, bool):
            parts.append(f"{name} {_plain(value)}")
    return ", ".join(parts[:3])


def command_text(command: Command) -> str:
    """A command as one would write it."""
    gfp = next((arg for name, arg in zip(command.names, command.args, strict=False) if name == "gfp"), None)
    return str(command).replace(f"gfp={gfp:#x}", gfp_text(gfp)) if isinstance(gfp, int) else str(command)


def call_line(call: Call, caller: Call | None, depth: int) -> str:
    """A line of the call tree."""
    note = note_of(told((caller, call) if caller else (call,)))
    return f"{'  ' * depth}{'└ ' if depth else ''}{call.name}{f'   {note}' if note else ''}"


def _migratetype(value: int) -> str:
    return MIGRATETYPE_NAMES[value] if 0 <= value < len(MIGRATETYPE_NAMES) else f"type {value}"


def _plain(value: object) -> str:
    return hex(value) if isinstance(value, int) and value >= 1 << 20 else str(value)
