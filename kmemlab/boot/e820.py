"""The e820 table: what physical addresses are good for, as the firmware says it, and as the kernel puts it in order.

    the firmware says                       sanitised
    usable    |███████████████████|         usable    |███████|     |███|
    reserved          |█████|               reserved          |█████|

Where ranges overlap, the higher type number wins: reserved (2) over usable (1), so a doubtful page is never used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from kmemlab.boot.printk import Printk
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.config import AMD64
from kmemlab.types.e820_type import E820_TYPE_PRAM, E820_TYPE_RAM, E820_TYPE_SOFT_RESERVED, e820_type_text
from kmemlab.types.units import PAGE_SHIFT, U64_MAX


@kernel("arch/x86/include/asm/e820/types.h", "struct e820_entry", formerly=("struct e820entry", "e820entry"))
class E820Entry(NamedTuple):
    """One entry, copied out of the table: `size` bytes from `addr` on are of `type`."""

    addr: int
    size: int
    type: int

    @property
    def end(self) -> int:
        """The first byte behind the entry."""
        return self.addr + self.size


@kernel("arch/x86/include/asm/e820/types.h", "struct e820_table", formerly=("struct e820map", "e820map"))
class E820Table(Struct):
    """An array of entries, sorted or not; `nr_entries` of them count. `printk` hears of changes.

    >>> table = E820Table.of([(0x1000, 0x1000, 1), (0, 0x1000, 2)])
    >>> e820__update_table(table)
    0
    >>> table.entries()
    (E820Entry(addr=0, size=4096, type=2), E820Entry(addr=4096, size=4096, type=1))
    """

    nr_entries = Cell()

    addr: Column
    size: Column
    type: Column

    def __init__(self, capacity: int = AMD64.e820_max_entries, printk: Printk | None = None) -> None:
        self.capacity = capacity
        self.printk = printk or Printk()
        self.addr = column("Q", capacity)
        self.size = column("Q", capacity)
        self.type = column("I", capacity)

    @classmethod
    def of(cls, entries: Iterable[tuple[int, int, int]], capacity: int = AMD64.e820_max_entries) -> Self:
        """A table with these entries (addr, size, type), for examples and tests."""
        table = cls(capacity)
        table.write(entries)
        return table

    def entries(self) -> tuple[E820Entry, ...]:
        """The entries that count, in the order of the array."""
        return tuple(E820Entry(self.addr[i], self.size[i], self.type[i]) for i in range(self.nr_entries))

    def write(self, entries: Iterable[tuple[int, int, int]]) -> None:
        """Replace all entries; those beyond the capacity are lost."""
        count = 0
        for addr, size, type in entries:
            if count == self.capacity:
                break
            self.addr[count], self.size[count], self.type[count] = addr, size, type
            count += 1
        self.nr_entries = count


@kernel("arch/x86/kernel/e820.c", "__e820__range_add", formerly=("e820_add_region", "__e820_add_region"))
def e820__range_add(table: E820Table, start: int, size: int, type: int) -> None:
    """Append an entry; the table is no longer in order then. A full table says so and ignores the entry."""
    count = table.nr_entries
    if count >= table.capacity:
        end = (start + size - 1) & U64_MAX
        table.printk.info(f"too many entries; ignoring [mem {start:#010x}-{end:#010x}]")
        return
    table.addr[count], table.size[count], table.type[count] = start, size, type
    table.nr_entries = count + 1


@kernel("arch/x86/kernel/e820.c", "e820__update_table", formerly=("sanitize_e820_map", "update_e820"))
def e820__update_table(table: E820Table) -> int:
    """Sort the entries and take the overlaps out: in an overlap the highest type wins, equal neighbours become one.

    Returns 0, or -1 (with the table as it was) if it has fewer than two entries or one that wraps around.

    A line is swept over the addresses. It stops where an entry starts or ends, and between two stops the open entries
    say what the addresses are:

        A  usable    |──────────────────|
        B  reserved         |─────|
                     ↑      ↑     ↑     ↑
        open         A      A B   A     –
        type         1      2     1     0 (nothing)
    """
    entries = table.entries()
    if len(entries) < 2 or any(entry.end > U64_MAX for entry in entries):
        return -1

    merged: list[E820Entry] = []
    open_entries: list[int] = []
    last_type = last_addr = 0  # what the line left behind at its last stop, and since where
    for addr, index in e820_change_points(entries):
        if addr == entries[index].addr:
            open_entries.append(index)
        else:
            open_entries.remove(index)
        current_type = max((entries[i].type for i in open_entries), default=0)
        if current_type == last_type and not e820_nomerge(current_type):
            continue
        if last_type and addr > last_addr:
            merged.append(E820Entry(last_addr, addr - last_addr, last_type))
            if len(merged) == table.capacity:
                break
        last_type, last_addr = current_type, addr

    table.write(merged)
    return 0


@kernel("arch/x86/kernel/e820.c", "cpcompare", left_out="C heap-sorts pointers with this comparison")
def e820_change_points(entries: tuple[E820Entry, ...]) -> list[tuple[int, int]]:
    """Where the sweep stops: (address, index of the entry) of each start and end, starts before ends at one address."""
    points = []
    for index, entry in enumerate(entries):
        if entry.size:
            points.append((entry.addr, False, index))
            points.append((entry.end, True, index))
    return [(addr, index) for addr, _, index in sorted(points)]


@kernel("arch/x86/kernel/e820.c", "e820_nomerge", traced=False)
def e820_nomerge(type: int) -> bool:
    """Whether neighbours of this type stay apart: for persistent memory each range is a device of its own."""
    return type in (E820_TYPE_PRAM, E820_TYPE_SOFT_RESERVED)


@kernel("arch/x86/kernel/e820.c", "__e820__range_update", formerly=("e820_update_range", "__e820_update_range"))
def e820__range_update(table: E820Table, start: int, size: int, old_type: int, new_type: int) -> int:
    """Make `new_type` of what is `old_type` within the range; returns how many bytes that were."""
    assert old_type != new_type
    end = start + min(size, U64_MAX - start)
    change = f"{e820_type_text(old_type)} ==> {e820_type_text(new_type)}"
    table.printk.info(f"e820: update [mem {start:#010x}-{(end - 1) & U64_MAX:#010x}] {change}")
    updated = 0
    index = 0
    while index < table.nr_entries:  # pieces that are appended on the way are looked at too
        addr, entry_end = table.addr[index], (table.addr[index] + table.size[index]) & U64_MAX
        first, last = max(start, addr), min(end, entry_end)
        if table.type[index] != old_type:
            pass
        elif start <= addr and entry_end <= end:
            updated += table.size[index]
            table.type[index] = new_type
        elif first < last or addr < start == end < entry_end:  # an empty range cuts an entry in two, too
            updated += last - first
            e820__range_add(table, first, last - first, new_type)
            e820_cut(table, index, first, last)
        index += 1
    return updated


@kernel("arch/x86/kernel/e820.c", "e820__range_remove", formerly=("e820_remove_range",))
def e820__range_remove(table: E820Table, start: int, size: int, old_type: int, check_type: bool) -> int:
    """Take the range out of the table, only what is `old_type` if `check_type`; returns how many bytes that were."""
    end = start + min(size, U64_MAX - start)
    what = e820_type_text(old_type) if check_type else ""
    table.printk.info(f"e820: remove [mem {start:#010x}-{(end - 1) & U64_MAX:#010x}] {what}")
    removed = 0
    index = 0
    while index < table.nr_entries:
        addr, entry_end = table.addr[index], (table.addr[index] + table.size[index]) & U64_MAX
        first, last = max(start, addr), min(end, entry_end)
        if check_type and table.type[index] != old_type:
            pass
        elif start <= addr and entry_end <= end:
            removed += table.size[index]
            table.addr[index] = table.size[index] = table.type[index] = 0  # the next sanitising drops it
        elif first < last or addr < start == end < entry_end:  # an empty range cuts an entry in two, too
            removed += last - first
            e820_cut(table, index, first, last)
        index += 1
    return removed


@invented("C writes these lines in e820__range_update and e820__range_remove alike", traced=False)
def e820_cut(table: E820Table, index: int, first: int, last: int) -> None:
    """Take [first, last) out of entry `index`: off its head or tail, or out of its middle (a piece is appended)."""
    addr, end = table.addr[index], table.addr[index] + table.size[index]
    if addr < first and last < end:
        e820__range_add(table, last, end - last, table.type[index])
        table.size[index] = first - addr
        return
    table.size[index] -= last - first
    if addr == first:
        table.addr[index] = last


@kernel("arch/x86/kernel/e820.c", "e820__print_table", formerly=("e820_print_map",))
def e820__print_table(table: E820Table, who: str) -> None:
    """Print one line an entry; `who` says where the table comes from."""
    for addr, size, type in table.entries():
        end = (addr + size - 1) & U64_MAX
        table.printk.info(f"{who}: [mem {addr:#018x}-{end:#018x}] {e820_type_text(type)}")


@kernel("arch/x86/kernel/e820.c", "e820__mapped_any", formerly=("e820_any_mapped",))
def e820__mapped_any(table: E820Table, start: int, end: int, type: int) -> bool:
    """Whether any byte of [start, end) is of this type (0: of any type)."""
    return any((not type or entry.type == type) and entry.addr < end and start < entry.end for entry in table.entries())


@kernel("arch/x86/kernel/e820.c", "e820__mapped_all", formerly=("e820_all_mapped",))
def e820__mapped_all(table: E820Table, start: int, end: int, type: int) -> bool:
    """Whether every byte of [start, end) is of this type. The table must be in order."""
    for entry in table.entries():
        if (type and entry.type != type) or entry.addr >= end or entry.end <= start:
            continue
        if entry.addr <= start:
            start = entry.end
        if start >= end:
            return True
    return False


@kernel("arch/x86/kernel/e820.c", "e820_end_pfn")
def e820_end_pfn(table: E820Table, limit_pfn: int, type: int, max_arch_pfn: int) -> int:
    """The page frame behind the last one of this type below `limit_pfn` that the kernel can use; also prints it."""
    last_pfn = 0
    for entry in table.entries():
        start_pfn, end_pfn = entry.addr >> PAGE_SHIFT, entry.end >> PAGE_SHIFT
        if entry.type != type or start_pfn >= limit_pfn:
            continue
        if end_pfn > limit_pfn:
            last_pfn = limit_pfn
            break
        last_pfn = max(last_pfn, end_pfn)
    last_pfn = min(last_pfn, max_arch_pfn)
    table.printk.info(f"last_pfn = {last_pfn:#x} max_arch_pfn = {max_arch_pfn:#x}")
    return last_pfn


@kernel("arch/x86/kernel/e820.c", "e820__end_of_ram_pfn", formerly=("e820_end_of_ram_pfn",))
def e820__end_of_ram_pfn(table: E820Table, max_arch_pfn: int) -> int:
    """max_pfn: the page frame behind the last one of RAM."""
    return e820_end_pfn(table, max_arch_pfn, E820_TYPE_RAM, max_arch_pfn)


@kernel("arch/x86/kernel/e820.c", "e820__end_of_low_ram_pfn", formerly=("e820_end_of_low_ram_pfn",))
def e820__end_of_low_ram_pfn(table: E820Table, max_arch_pfn: int) -> int:
    """The page frame behind the last one of RAM below 4 GiB."""
    return e820_end_pfn(table, 1 << (32 - PAGE_SHIFT), E820_TYPE_RAM, max_arch_pfn)
