"""Chapter 03: read what the kernel says when it touches what it may not."""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.boot.fault import show_fault_oops
from kmemlab.boot.pgtable import PageTables
from kmemlab.boot.printk import Printk
from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.page_tables import CHAPTER, DIRECT_MAP, Page, tables_of
from kmemlab.hardware.mmu import CR4_PGE, CR4_PSE, CR4_SMAP, Mmu, PageFault
from kmemlab.hardware.ram import Ram
from kmemlab.types.pgtable import PAGE_ACCESSED, PAGE_DIRTY, PAGE_NX, PAGE_RW, PAGE_USER
from kmemlab.types.units import GIB, KIB, MIB, PAGE_SIZE

READ, WRITE, FETCH = 0, 2, 16
WHAT = {READ: "read", WRITE: "write", FETCH: "fetch"}
CAUSES = ("nothing there", "read-only", "no execution", "program's page", "reserved bit")
PHYS_BITS = 40
Truth = tuple[str, str, int | None]  # what was tried, why it failed, where it would have gone
_MORE = PAGE_ACCESSED | PAGE_DIRTY


def drawn_page(rng: Random, cause: str) -> tuple[Page, int]:
    """A page on which an access fails for this cause, and the access."""
    size = rng.choice((4 * KIB, 2 * MIB)) if cause != "nothing there" else 4 * KIB
    frame = rng.randrange(8, 200) * 2 * MIB + (rng.randrange(512) * PAGE_SIZE if size == 4 * KIB else 0)
    address = DIRECT_MAP + rng.randrange(4, 60) * GIB + rng.randrange(512) * 2 * MIB
    address += rng.randrange(512) * PAGE_SIZE if size == 4 * KIB else 0
    page = Page(address, frame, size, PAGE_RW, PAGE_RW | PAGE_USER, _MORE | PAGE_NX)
    if cause == "read-only":
        return Page(address, frame, size, 0, page.above, page.more), WRITE
    if cause == "no execution":
        return page, FETCH
    if cause == "program's page":
        user = address - DIRECT_MAP
        return Page(user, frame, size, PAGE_RW | PAGE_USER, page.above, page.more), rng.choice((READ, WRITE))
    if cause == "reserved bit":
        return Page(address, frame, size, PAGE_RW, page.above, page.more | 1 << rng.randrange(44, 51)), READ
    return page, rng.choice((READ, WRITE))


def oops_of(page: Page, cause: str, offset: int, access: int) -> tuple[list[str], int]:
    """What the kernel prints of it, and the address: boot nothing, fault once."""
    ram = Ram(1 << 12)
    for entryp, entry in tables_of((page,)).items():
        ram.write(entryp, entry)
    mmu = Mmu(ram, 4, PHYS_BITS)
    mmu.write_cr4(CR4_PSE | CR4_PGE | CR4_SMAP)
    mmu.write_cr3(0x1000)
    address = page.address + (PAGE_SIZE if cause == "nothing there" else 0) + offset
    printk = Printk()
    try:
        mmu.access(address, access)
    except PageFault as fault:
        show_fault_oops(printk, PageTables(ram, 4, 0x1000), fault.error_code, address)
        return list(printk.lines()), address
    raise AssertionError("this access does not fault")


def drawn_oopses(seed: int) -> tuple[dict[str, str], dict[str, Truth]]:
    """Five oopses, one for each cause, without the words that tell it; and what is behind each."""
    rng = Random(seed)
    causes = list(CAUSES)
    rng.shuffle(causes)
    shown: dict[str, str] = {}
    truth: dict[str, Truth] = {}
    for name, cause in zip("abcde", causes, strict=True):
        page, access = drawn_page(rng, cause)
        lines, address = oops_of(page, cause, rng.randrange(8, PAGE_SIZE - 8) & -8, access)
        kept = [
            line.split(" - ")[0] for line in lines if not line.startswith(("#PF: super", "#PF: user", "kernel tried"))
        ]
        shown[name] = "\n".join(kept).rstrip()
        truth[name] = (WHAT[access], cause, None if cause == "nothing there" else page.frame + address - page.address)
    return shown, truth


def given_oops(rng: Random) -> dict[str, Any]:
    """What the kernel printed, and the seed that it was drawn from: not the causes, which are asked for."""
    seed = rng.getrandbits(32)
    return {"seed": seed, "oops": drawn_oopses(seed)[0]}


def judge_oops(answer: Answer, case: Case) -> Verdict | None:
    """One oops: what was tried, why it failed, and where it would have gone."""
    name, what, why, where = case.value
    told = answer.value
    got = told.get(name) if isinstance(told, dict) else None
    if not isinstance(got, (list, tuple)) or len(got) != 3:
        return Verdict("the answer has (what was tried, why it failed, physical address) for each oops",
                       f"{name}: {got!r}")  # fmt: skip
    if got[0] != what:
        return Verdict("bit 1 of the error code is set for a write, bit 4 for the fetch of an instruction",
                       f"{name}: it was no {got[0]!r}")  # fmt: skip
    if got[1] != why:
        law = "bit 0 clear: nothing there. Bit 3: a reserved bit. Else the last entry says what it forbids: RW, NX, US"
        return Verdict(law, f"{name}: not {got[1]!r}")
    if got[2] == where and type(got[2]) is type(where):
        return None
    seen = f"{got[2]:#x}" if type(got[2]) is int else repr(got[2])
    if where is None:
        return Verdict("where no entry is, there is no physical address", f"{name}: {seen}")
    return Verdict("the last entry's address bits (no flags, no reserved bits), and the offset in a page of its size",
                   f"{name}: {seen}")  # fmt: skip


def cases_oops(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case an oops."""
    truth = drawn_oopses(given["seed"])[1]
    return [Case(f"oops {name}", (name, *causes), at) for at, (name, causes) in enumerate(truth.items())]


register(
    Task(
        "page_tables.oops",
        CHAPTER,
        "diagnose",
        10,
        (
            "Write the error code in binary. Bit 0: was the page there? Bit 1: a write? Bit 3: a reserved bit? Bit 4: "
            "a fetch? Then take the last entry that is printed, and write down its bits 1 (RW), 2 (US) and 63 (NX).",
            f"The name of the last entry tells the size of the page: PMD with bit 7 is 2 MiB. The address is in the "
            f"entry's bits up to {PHYS_BITS - 1} on this CPU; what is set between {PHYS_BITS} and 51 is reserved.",
        ),
        judge_oops,
        cases_oops,
        given=given_oops,
        hidden=("seed",),
    )
)
