"""Chapter 03: programs whose every access is walked by the answer: it stands in the place of the CPU's own walk.

user_write 0x7f…  ─▶ TLB ─▶ the answer ─▶ ("page", physical address)   the TLB keeps it, the bytes go there
                                       ─▶ ("fault", error code)        the kernel mends it: a page, or a copy of one
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending, whole
from kmemlab.course.task import Case
from kmemlab.hardware.mmu import Mmu, PageFault, Translation
from kmemlab.machine.machine import Machine
from kmemlab.process.mman import PROT_READ, PROT_WRITE
from kmemlab.process.user_access import user_access
from kmemlab.sim.hook import Function, hook_of
from kmemlab.sim.timeline import Call, Timeline
from kmemlab.types.errors import BadRequest
from kmemlab.types.pgtable import PAGE_DIRTY
from kmemlab.types.trap_pf import X86_PF_USER, X86_PF_WRITE
from kmemlab.types.units import PAGE_SIZE

PRESET = "tiny-128m"
AREA = 16  # pages that a program asks for at first
MOST_FAULTS = 4  # of one access: the kernel mends what it can at once


def programs(machine: Machine, seed: int, steps: int = 80) -> Iterator[str]:
    """A program and its children write, read, fork and give rights up; yields what each step came to."""
    rng = Random(seed)
    first = machine.spawn("sh")
    areas = {first: machine.mmap(first, AREA * PAGE_SIZE)}
    yield f"sh has {AREA} pages at {areas[first]:#x}"
    for _ in range(steps):
        pid = rng.choice(sorted(areas))
        address = areas[pid] + rng.randrange(0, AREA * PAGE_SIZE, 8)
        what = rng.random()
        if what < 0.4:
            machine.user_write(pid, address, rng.randbytes(8))
            yield f"{pid} writes at {address:#x}; {kernels_view(machine, pid, address)}"
        elif what < 0.8:
            yield f"{pid} reads {machine.user_read(pid, address, 8).hex()} at {address:#x}"
        elif what < 0.88 and len(areas) < 5:
            child = machine.sys_fork(pid)
            areas[child] = areas[pid]
            yield f"{pid} forks: {child}"
        elif what < 0.94:
            page = address & -PAGE_SIZE
            machine.mprotect(pid, page, PAGE_SIZE, PROT_READ)
            machine.mprotect(pid, page, PAGE_SIZE, PROT_READ | PROT_WRITE)
            yield f"{pid} gives up writing at {page:#x}, and asks for it again"
        elif len(areas) > 1:
            del areas[pid]
            machine.sys_exit(pid)
            yield f"{pid} ends"
        else:
            machine.munmap(pid, areas[pid], AREA * PAGE_SIZE)
            areas[pid] = machine.mmap(pid, AREA * PAGE_SIZE)
            yield f"{pid} has other pages at {areas[pid]:#x}"
    for pid in sorted(areas):
        yield f"{pid} had {machine.page_faults(pid)[0]} faults"


def kernels_view(machine: Machine, pid: int, address: int) -> str:
    """The same 8 bytes as the kernel finds them, which knows the page frame by its own tables."""
    pfn = machine.user_pfn(pid, address)
    if pfn is None:
        return "no page is there"
    physical = pfn * PAGE_SIZE + address % PAGE_SIZE
    return f"{machine.kernel.boot.ram.read_bytes(physical, 8).hex()} stands at physical {physical:#x}"


def patched_walk(answer: Answer) -> Function:
    """A function in the place of the MMU's walk: programs' addresses go by the answer, the kernel's own as ever."""
    own = hook_of(Mmu.walk).pristine
    faults: list[tuple[int, int]] = []  # of the access that is tried now

    def walk(self: Mmu, address: int, access: int = 0) -> Translation:
        if not access & X86_PF_USER:
            found: Translation = own(self, address, access)
            return found
        top = self.cr3 & self.layout.address_mask
        outcome = answer(self.ram.read, top, address, bool(access & X86_PF_WRITE), True)
        kind, number = outcome if isinstance(outcome, (tuple, list)) and len(outcome) == 2 else ("", None)
        if kind == "page":
            faults.clear()
            return reached(self, address, access, whole(number))
        if kind != "fault":
            raise BadRequest(f"{outcome!r} is no page and no fault", where="your walk", remedy="return a pair")
        if faults and faults[-1] != (address, access):
            faults.clear()
        faults.append((address, access))
        if len(faults) > MOST_FAULTS:
            what = f"the access to {address:#x} faults again and again, at last with error code {number!r}"
            raise BadRequest(what, where="your walk", remedy="let it succeed once the kernel has mapped the page")
        raise self.fault(address, whole(number))

    return walk


def reached(mmu: Mmu, address: int, access: int, physical: int) -> Translation:
    """What the MMU makes of an address that is found: the TLB keeps it by the size and rights of what is mapped."""
    try:
        found, passed = mmu.descend(address, access)
    except PageFault as fault:
        what = f"nothing is mapped at {address:#x}, yours finds it at {physical:#x}"
        raise BadRequest(what, where="your walk", remedy="look at bit 0 of each entry") from fault
    entry = mmu.mark(passed, access)
    return Translation(physical, found.level, entry, found.rights | entry & PAGE_DIRTY)


def accessed(timeline: Timeline, command: int, call: Call) -> dict[str, Any]:
    """What an access of a program came to: the bytes that it saw, and what the TLB keeps of the walk."""
    told = ending(timeline, command, call)
    if isinstance(call.value, bytes) and call.value:
        told["reads"] = call.value.hex()
    for write in timeline.writes(command, call.enter, call.leave):
        if write.column in ("Tlb.frame", "Tlb.rights"):
            told[f"{write.column}[{write.index}]"] = hex(write.new % 2**64)
    return told


def inside_programs(case: Case) -> Inside | None:
    """For the case that is a seed: what the programs do, step by step."""
    if not isinstance(case.value, int):
        return None
    return Inside(
        Mmu.walk, partial(Machine, PRESET), partial(programs, seed=case.value),
        patch=lambda _, answer: patched_walk(answer), compared=accessed, seen=user_access, exact=True,
    )  # fmt: skip
