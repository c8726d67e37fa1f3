"""What some addresses of several processes are mapped to, frozen for a view: entries, page frames, swap slots.

process 3   W ──────────▶ pfn 10751   mapcount 1      W: may be written
process 4   R ──▶ pfn 10750   mapcount 2 ◀── R        R: only read; the first write makes a copy, or finds it needs none
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from kmemlab.boot.pgtable import get_entry
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.snapshot import FROZEN
from kmemlab.mm.globals import Mm
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.swap_count import swp_swapcount
from kmemlab.mm.swapops import non_swap_entry, pte_to_swp_entry, swp_entry, swp_offset, swp_type
from kmemlab.process.memory import my_zero_pfn
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import pte_present
from kmemlab.process.pgtable import pte_offset_map
from kmemlab.process.rmap import page_anon_exclusive
from kmemlab.process.task_struct import Processes, for_each_process
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest
from kmemlab.types.pgtable import PAGE_PRESENT, PAGE_RW
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE
from kmemlab.types.vm_flags import VM_WRITE

MOST_PAGES = 16
FIRST_BYTES = 6

WRITABLE, READ_ONLY, SWAPPED, MOVING, NO_ACCESS, EMPTY, NO_VMA = "W", "R", "S", "M", "N", "-", ""
"""What an entry says; NO_VMA: the address is in no VMA."""


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class ForkEntry:
    """The last entry on the way to an address: what it says, and the page frame or swap slot that it names.

    `may_write` is what the VMA says: such a page that is read-only is copied on write.
    """

    address: int
    state: str
    pfn: int | None = None
    slot: tuple[int, int] | None = None
    may_write: bool = False


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class ForkSpace:
    """An address space: who uses it, and the entries of the addresses that are looked at.

    Without users it is just being made, or taken down.
    """

    number: int
    pids: tuple[int, ...]
    name: str
    entries: tuple[ForkEntry, ...]

    @property
    def title(self) -> str:
        """The processes by pid and name.

        >>> ForkSpace(1, (3,), "sh", ()).title, ForkSpace(2, (), "", ()).title
        ('pid 3 sh', 'no process')
        """
        if not self.pids:
            return "no process"
        return f"pid {', '.join(map(str, self.pids))} {self.name}"


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class ForkFrame:
    """A page frame that an entry names; `counted` is False for the zero page, whose users nobody counts."""

    pfn: int
    kind: str
    mapcount: int
    refcount: int
    exclusive: bool
    counted: bool
    first_bytes: bytes


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class ForkSlot:
    """A slot of a swap area that an entry names, and how many entries do."""

    area: int
    offset: int
    count: int


@invented(FROZEN)
@dataclass(frozen=True, slots=True)
class ForkSnapshot:
    """The address spaces, eldest first, and what their entries name, ascending."""

    address: int
    pages: int
    spaces: tuple[ForkSpace, ...]
    frames: tuple[ForkFrame, ...]
    slots: tuple[ForkSlot, ...]


@invented(FROZEN)
def fork_snapshot(kernel: Kernel, address: int, pages: int, pids: Collection[int] = ()) -> ForkSnapshot:
    """The pages from `address` on, of these processes, or of all that have a VMA there.

    An address space that fork is just making, or exit just taking down, belongs to them.
    Raises `BadRequest` for more than 16 pages.
    """
    if not 0 < pages <= MOST_PAGES or address % PAGE_SIZE:
        raise BadRequest(
            f"{pages} pages from {address:#x} on can't be shown",
            where="fork_snapshot",
            remedy=f"show 1 to {MOST_PAGES} pages, from the first byte of one on",
        )
    processes = kernel.processes
    spaces = []
    for mm, users, name in _spaces(processes, pids):
        entries = tuple(_entry(mm, address + page * PAGE_SIZE) for page in range(pages))
        if pids or any(entry.state != NO_VMA for entry in entries):
            spaces.append(ForkSpace(mm.number, users, name, entries))
    found = [entry for space in spaces for entry in space.entries]
    pfns = sorted({entry.pfn for entry in found if entry.pfn is not None})
    slots = sorted({entry.slot for entry in found if entry.slot is not None})
    return ForkSnapshot(
        address,
        pages,
        tuple(spaces),
        tuple(_frame(kernel.mm, pfn) for pfn in pfns),
        tuple(_slot(kernel.mm, area, offset) for area, offset in slots),
    )


def _spaces(processes: Processes, pids: Collection[int]) -> Iterator[tuple[MmStruct, tuple[int, ...], str]]:
    """Each address space with its users, eldest first; last the one that nobody has, as it is being made or ended."""
    users: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for task in for_each_process(processes):
        if task.mm:
            users.setdefault(task.mm - 1, []).append(task.pid)
            names.setdefault(task.mm - 1, task.name)
    for number, have in users.items():
        if not pids or set(have) & set(pids):
            yield processes.mms[number], tuple(have), names[number]
    for mm in processes.mms:
        if mm.mm_users and mm.tables.pgd and mm.number not in users:
            yield mm, (), ""


def _entry(mm: MmStruct, address: int) -> ForkEntry:
    vmas = mm.common.vmas
    vma = next((vma for vma in mm.vmas() if vmas.vm_start[vma] <= address < vmas.vm_end[vma]), 0)
    if not vma:
        return ForkEntry(address, NO_VMA)
    may_write = bool(vmas.vm_flags[vma] & VM_WRITE)
    ptep = pte_offset_map(mm.tables, address) if mm.tables.pgd else None
    pte = get_entry(mm.tables, ptep) if ptep is not None else 0
    if not pte:
        return ForkEntry(address, EMPTY, may_write=may_write)
    if pte_present(pte):
        pfn = (pte & mm.tables.layout.address_mask) >> PAGE_SHIFT
        rights = NO_ACCESS if not pte & PAGE_PRESENT else WRITABLE if pte & PAGE_RW else READ_ONLY
        return ForkEntry(address, rights, pfn, may_write=may_write)
    entry = pte_to_swp_entry(mm.tables.layout, pte)
    if non_swap_entry(entry):
        return ForkEntry(address, MOVING, may_write=may_write)
    return ForkEntry(address, SWAPPED, slot=(swp_type(entry), swp_offset(entry)), may_write=may_write)


def _frame(mm: Mm, pfn: int) -> ForkFrame:
    page, zero = mm.page, my_zero_pfn(mm)
    kind = "zero page" if pfn == zero else "anonymous" if page_anon(page, pfn) else "page cache"
    exclusive = kind == "anonymous" and page_anon_exclusive(page, pfn)
    first = mm.boot.ram.read_bytes(pfn << PAGE_SHIFT, FIRST_BYTES)
    return ForkFrame(pfn, kind, page.mapcount[pfn], page.refcount[pfn], exclusive, pfn != zero, first)


def _slot(mm: Mm, area: int, offset: int) -> ForkSlot:
    return ForkSlot(area, offset, swp_swapcount(mm, swp_entry(area, offset)))
