"""Chapter 09: decide what a write to a read-only page leads to, and run a machine by it.

What must hold is told by who refers to the page. The last case lets the answer decide inside a machine: there what one
process writes must not be read by another, and no page may be copied that nobody else has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.machine.machine import Machine
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.mm.lru import lru_add_drain
from kmemlab.mm.page_mapping import page_anon
from kmemlab.mm.swap_state import folio_free_swap, folio_test_swapcache
from kmemlab.process.fault_page import VM_FAULT_WRITE, wp_page_reuse
from kmemlab.process.file_fault import wp_page_shared
from kmemlab.process.memory import do_wp_page, wp_page_copy
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import MAP_SHARED
from kmemlab.process.rmap import page_anon_exclusive, page_move_anon_rmap
from kmemlab.process.zap import vm_normal_page
from kmemlab.sim.livepatch import livepatch
from kmemlab.sim.timeline import Call, Timeline
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.types.units import PAGE_SIZE
from kmemlab.types.vm_flags import VM_SHARED

CHAPTER = "09_boot_to_reclaim"
PRESET = "tiny-128m"
PAGES, PROCESSES = 3, 5  # of each mapping, and at most at a time
MACHINE_SIZE = 1 << 20  # a machine is the largest case
CHOICES = ("reuse", "copy", "shared")
WAYS = ("wp_page_reuse", "wp_page_copy", "wp_page_shared")  # what each of them is done by

NOT_LOST = "what a process writes is read by no other, unless the mapping is shared"
NO_WASTE = "a page that nobody else refers to is not copied"
TO_ALL = "what is written to a shared mapping of a file is read by all"
RETURNS = "the function returns 'reuse', 'copy' or 'shared'"


@dataclass(frozen=True, slots=True)
class Written:
    """The page that is written to: what it is, and who refers to it besides the writer."""

    kind: str  # zero, file or anonymous
    exclusive: bool = False
    others: int = 0
    in_swap_cache: bool = False
    vm_shared: bool = False

    @property
    def references(self) -> int:
        """How many refer to the page: the writer, the others, and the swap cache."""
        return 1 + self.others + self.in_swap_cache

    def text(self) -> str:
        """The page for a reader."""
        what = {"zero": "the page of zeros", "file": "a page of a file", "anonymous": "a page of memory"}[self.kind]
        mapped = ", mapped shared" if self.vm_shared else ""
        told = f"{what}{mapped}: exclusive {self.exclusive}, {self.references} references"
        return told + (", one of them of the swap cache" if self.in_swap_cache else "")


def right_choice(page: Written) -> str:
    """By who would see the write: nobody else, somebody who shall, or somebody who must not."""
    if page.kind == "file" and page.vm_shared:
        return "shared"
    # The page of zeros is the kernel's, and a file's page the page cache's: both keep it.
    kept_by = {"zero": 2, "file": 2, "anonymous": page.others}[page.kind]
    return "reuse" if page.exclusive or not kept_by else "copy"


def choice_verdict(got: Any, page: Written) -> Verdict | None:
    """Which law a choice breaks."""
    want = right_choice(page)
    if got == want:
        return None
    if got not in CHOICES or not isinstance(got, str):
        return Verdict(RETURNS, f"it returned {got!r}")
    if want == "shared":
        return Verdict(TO_ALL, f"{page.text()}: yours says {got!r}")
    law = NO_WASTE if want == "reuse" else NOT_LOST
    return Verdict(law, f"{page.text()}: yours says {got!r}")


def judge_cow(answer: Answer, case: Case) -> Verdict | None:
    """One page, or a whole machine."""
    if isinstance(case.value, int):
        return cow_in_machine(answer, case.value)
    page: Written = case.value
    got = answer(page.kind, page.exclusive, page.references, page.in_swap_cache, page.vm_shared)
    return choice_verdict(got, page)


# -- inside a machine --------------------------------------------------------------------------------------------------


def patched_wp(machine: Machine, answer: Answer, broken: list[Verdict]) -> Any:
    """A function in the place of `do_wp_page`: it looks, asks the answer, and does what that says."""

    def wp_page(mm: MmStruct, vma: int, address: int, ptep: int, entry: int, flags: int) -> int:
        common = mm.common.mm
        pfn = vm_normal_page(mm.tables, entry)
        shared = bool(mm.common.vmas.vm_flags[vma] & VM_SHARED)
        if pfn is None:
            page = Written("zero", vm_shared=shared)
        else:
            lru_add_drain(common)  # else a batch may still refer to the page
            anonymous = page_anon(common.page, pfn)
            swapped = folio_test_swapcache(common, pfn)
            others = common.page.refcount[pfn] - 1 - swapped
            exclusive = anonymous and page_anon_exclusive(common.page, pfn)
            page = Written("anonymous" if anonymous else "file", exclusive, others, swapped, shared)
        choice = answer(page.kind, page.exclusive, page.references, page.in_swap_cache, page.vm_shared)
        verdict = choice_verdict(choice, page)
        if verdict and (choice not in CHOICES or verdict.law != NOT_LOST):
            broken.append(verdict)
        if choice == "reuse" and pfn is not None:
            if not page.exclusive and page.kind == "anonymous":
                folio_free_swap(common, pfn)
                page_move_anon_rmap(mm.common, pfn, vma)
            wp_page_reuse(mm, vma, address, ptep, entry)
            return VM_FAULT_WRITE
        if choice == "shared" and page.kind == "file" and shared and pfn is not None:
            return wp_page_shared(mm, vma, address, ptep, pfn, flags)
        if choice != "copy":
            raise BadRequest(f"{choice!r} can't be done with {page.text()}", where="your function")
        return wp_page_copy(mm, vma, address, ptep, pfn)

    return wp_page


def chosen(timeline: Timeline, command: int, call: Call) -> dict[str, Any]:
    """What was done with the page."""
    does = (inner.name for inner in call.calls if inner.name in WAYS)
    return ending(timeline, command, call) | {"the page": next(does, "nothing")}


def inside_machine(case: Case) -> Inside | None:
    """For the case that is a seed: forks, writes and exits, step by step."""
    if not isinstance(case.value, int):
        return None
    return Inside(
        do_wp_page, partial(Machine, PRESET), lambda machine: (step for step, _ in cow_load(machine, case.value)),
        patch=lambda machine, answer: patched_wp(machine, answer, []), compared=chosen,
    )  # fmt: skip


def cow_in_machine(answer: Answer, seed: int) -> Verdict | None:
    """Processes fork, write, read and end by the answer, beside a table of what each should read."""
    machine, step, broken = Machine.boot(PRESET), "boot", list[Verdict]()
    try:
        with livepatch(do_wp_page, patched_wp(machine, answer, broken)):
            for step, differs in cow_load(machine, seed):
                if differs:
                    return Verdict(NOT_LOST, f"{step}: {differs}")
                if broken:
                    return Verdict(broken[0].law, f"{step}: {broken[0].seen}")
            machine.check()
    except BrokenLaw as error:
        return Verdict(error.what, f"after {step}")
    except (KmemlabError, AssertionError) as error:
        return Verdict("the machine goes on as with the kernel's own", f"after {step}: {error}")
    return None


def cow_load(machine: Machine, seed: int, steps: int = 70) -> Any:
    """A seeded mix of reads, writes, forks and ends; yields each step, and what was read that should not be."""
    rng = Random(seed)
    machine.create_file("data", pages=PAGES)
    first = machine.spawn("first")
    own = machine.mmap(first, PAGES * PAGE_SIZE)
    places = {
        "own": own,
        "private": machine.mmap(first, PAGES * PAGE_SIZE, file="data"),
        "shared": machine.mmap(first, PAGES * PAGE_SIZE, flags=MAP_SHARED, file="data"),
    }
    file = {at: machine.read_file("data", at * PAGE_SIZE, 1)[0] for at in range(PAGES)}
    seen: dict[int, dict[tuple[str, int], int]] = {first: {}}  # what a process has written for itself

    def expected(pid: int, where: str, at: int) -> int:
        return seen[pid].get((where, at), 0 if where == "own" else file[at])

    for number in range(steps):
        pid = rng.choice(sorted(seen))
        dice = rng.random()
        if dice < 0.15 and len(seen) < PROCESSES:
            child = machine.sys_fork(pid)
            seen[child] = dict(seen[pid])
            yield f"pid {pid} forks pid {child}", ""
        elif dice < 0.22 and len(seen) > 1 and pid != first:
            machine.sys_exit(pid)
            del seen[pid]
            yield f"pid {pid} ends", ""
        else:
            where, at = rng.choice(sorted(places)), rng.randrange(PAGES)
            address = places[where] + at * PAGE_SIZE
            if dice < 0.45:
                machine.user_read(pid, address)
                step = f"pid {pid} reads page {at} of its {where} mapping"
            else:
                value = number % 250 + 2
                step = f"pid {pid} writes page {at} of its {where} mapping"
                machine.user_write(pid, address, bytes([value]))
                if where == "shared":
                    file[at] = value
                else:
                    seen[pid][where, at] = value
            wrong = [who for who in sorted(seen) if machine.user_read(who, address)[0] != expected(who, where, at)]
            yield step, f"afterwards pid {wrong[0]} reads something else there" if wrong else ""


def cases_cow(_given: None, rng: Random) -> list[Case]:
    """Each kind of page, alone and shared, then a machine."""
    pages = [
        Written("anonymous", exclusive=True),
        Written("anonymous"),
        Written("anonymous", others=1),
        Written("anonymous", in_swap_cache=True),
        Written("anonymous", exclusive=True, in_swap_cache=True),
        Written("anonymous", exclusive=True, others=1),  # somebody looks at it for a moment
        Written("anonymous", others=1, in_swap_cache=True),
        Written("anonymous", others=2),
        Written("anonymous", others=rng.randrange(3, 9), in_swap_cache=rng.random() < 0.5),
        Written("zero"),
        Written("file", others=1),
        Written("file", others=0),
        Written("file", others=rng.randrange(2, 9)),
        Written("file", others=1, vm_shared=True),
        Written("file", others=rng.randrange(2, 9), vm_shared=True),
    ]
    cases = [Case(page.text(), page, at) for at, page in enumerate(pages)]
    text = f"a machine ({PRESET}) with 70 forks, reads, writes and exits"
    return [*cases, Case(text, rng.randrange(1 << 30), MACHINE_SIZE, points=len(cases))]


register(
    Task(
        "whole.cow",
        CHAPTER,
        "implement",
        20,
        (
            "Ask first what the page is: only memory of programs can be reused. Then ask who would see the write: "
            "nobody, somebody who shall (shared), somebody who must not (copy).",
            "A page of memory may be reused in two cases: it is exclusive; or the references are all accounted for, "
            "by the writer and, where `in_swap_cache` is True, by the swap cache.",
        ),
        judge_cow,
        cases_cow,
        inside=inside_machine,
    )
)
