"""Chapter 03: cut a range where the size of pages changes; then let boots be cut by it.

The judge asks each 2 MiB of a range which is the largest page that lies in the range altogether.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from random import Random
from typing import Any

from kmemlab.boot.direct_map import BIT_1G, BIT_2M, adjust_range_page_size_mask, merge_equal, split_mem_range
from kmemlab.boot.globals import Boot
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.memblock import PRESET, boots
from kmemlab.course.tasks.page_tables import CHAPTER
from kmemlab.course.your_machine import CAPTURES, SHIPPED
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.machine.procfs import arch_report_meminfo
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError
from kmemlab.types.units import GIB, MIB, PAGE_SIZE

GBPAGES = "amd64-gbpages-8g"
BLOCK = 2 * MIB
Piece = tuple[int, int, int]  # start, end, mask


def by_blocks(start: int, end: int, mask: int) -> list[Piece]:
    """The pieces, found by asking each block of 2 MiB; neighbours that are alike are one."""
    row: list[Piece] = []
    for block in range(start // BLOCK * BLOCK, end, BLOCK):
        allowed = 0
        if start <= block and block + BLOCK <= end:
            allowed = mask & BIT_2M
            whole = block // GIB * GIB
            if start <= whole and whole + GIB <= end:
                allowed = mask
        row.append((max(block, start), min(block + BLOCK, end), allowed))
    groups = [list(group) for _, group in groupby(row, key=lambda piece: piece[2])]
    return [(group[0][0], group[-1][1], group[0][2]) for group in groups]


def judge_split(answer: Answer, case: Case) -> Verdict | None:
    """The pieces, or a boot in which they are used."""
    if isinstance(case.value, str):
        return splits_machine(answer, case.value)
    start, end, mask = case.value
    got = answer(start, end, mask)
    shaped = isinstance(got, list) and all(isinstance(p, (tuple, list)) and len(p) == 3 for p in got)
    if not shaped or not all(type(number) is int for piece in got for number in piece):
        return Verdict("the result is a list of (start, end, mask)", f"it is {got!r}")
    law = _broken_split([tuple(piece) for piece in got], start, end, mask)
    return Verdict(law, f"it returned {pieces_text(got)}") if law else None


def _broken_split(got: list[Piece], start: int, end: int, mask: int) -> str:
    """The first law that the pieces break, or nothing."""
    edges = [start, *(piece[1] for piece in got)]
    if any(low >= high for low, high, _ in got):
        return "no piece is empty"
    if [piece[0] for piece in got] != edges[:-1] or edges[-1] != end:
        return "the pieces lie in order, side by side, and cover the range exactly"
    if any(allowed & ~mask for _, _, allowed in got):
        return "only sizes are allowed that the CPU has: those of mask"
    if any(allowed & BIT_2M and (low % BLOCK or high % BLOCK) for low, high, allowed in got):
        return "a piece with pages of 2 MiB starts and ends at multiples of 2 MiB"
    if any(allowed & BIT_1G and (low % GIB or high % GIB) for low, high, allowed in got):
        return "a piece with pages of 1 GiB starts and ends at multiples of 1 GiB"
    if merge_equal(got) == by_blocks(start, end, mask):
        return ""
    if any(allowed == BIT_1G for _, _, allowed in got):
        return "where pages of 1 GiB fit, mask has the bit of 2 MiB too"
    return "each page is as large as fits: 1 GiB where a whole one lies in the range, else 2 MiB, else 4 KiB"


def pieces_text(pieces: Any) -> str:
    """Pieces in one line."""
    names = {0: "4k", BIT_2M: "2M", BIT_1G: "1G only", BIT_2M | BIT_1G: "2M+1G"}
    return ", ".join(f"[{low:#x}-{high - 1:#x}] {names.get(mask, mask)}" for low, high, mask in pieces) or "no pieces"


def patched_split(answer: Answer) -> Any:
    """A function in the place of `split_mem_range`, which adds what the answer leaves to others."""

    def split(boot: Boot, start: int, end: int) -> list[Piece]:
        pieces = [(low, high, mask) for low, high, mask in answer(start, end, boot.direct_map.page_size_mask)]
        return merge_equal(pieces if boot.direct_map.after_bootmem else adjust_range_page_size_mask(boot, pieces))

    return split


def inside_boot(case: Case) -> Inside | None:
    """For the cases that are a machine: its boot, step by step."""
    if not isinstance(case.value, str):
        return None
    spec = load_spec(CAPTURES / case.value if case.value in (GBPAGES, SHIPPED) else case.value)
    return Inside(
        split_mem_range, partial(Machine, spec), until="init_mem_mapping",
        patch=lambda _, answer: patched_split(answer), compared=ending,
    )  # fmt: skip


def splits_machine(answer: Answer, name: str) -> Verdict | None:
    """Boot with the answer in split_mem_range: memblock's log, or the direct map, must be what they are without it."""
    patched = patched_split(answer)
    if name != GBPAGES:
        found = boots(split_mem_range, Answer(patched), name)
        if found or name == SHIPPED:
            return found
    spec = load_spec(CAPTURES / name if name == GBPAGES else name)
    want = "".join(arch_report_meminfo(Machine.boot(spec, until="init_mem_mapping").kernel.boot))
    law = "with your function in the kernel, /proc/meminfo tells the same of the direct map"
    try:
        with livepatch(split_mem_range, patched):
            got = "".join(arch_report_meminfo(Machine.boot(spec, until="init_mem_mapping").kernel.boot))
    except KmemlabError as error:
        return Verdict(law, f"{name} does not boot: {error.what}")
    return None if got == want else Verdict(law, f"{name} says {' '.join(got.split())}")


SPLITS: list[Piece] = [
    (0, PAGE_SIZE, BIT_2M),
    (0, MIB, BIT_2M),
    (0, BLOCK, BIT_2M),
    (0, BLOCK, 0),
    (0, BLOCK + MIB, BIT_2M),
    (MIB, BLOCK, BIT_2M),
    (MIB, 2 * BLOCK, BIT_2M),
    (MIB, BLOCK + MIB, BIT_2M),
    (MIB, 3 * MIB + PAGE_SIZE, BIT_2M),
    (MIB, 3 * BLOCK - PAGE_SIZE, BIT_2M),
    (BLOCK, 3 * BLOCK, BIT_2M | BIT_1G),
    (0, GIB, BIT_2M | BIT_1G),
    (0, GIB, BIT_2M),
    (0, GIB + BLOCK, BIT_2M | BIT_1G),
    (BLOCK, 2 * GIB, BIT_2M | BIT_1G),
    (GIB - BLOCK, 2 * GIB + BLOCK, BIT_2M | BIT_1G),
    (GIB - MIB, 2 * GIB + MIB, BIT_2M | BIT_1G),
    (GIB - 3 * MIB, 3 * GIB + 3 * MIB, BIT_2M | BIT_1G),
    (GIB - 3 * MIB, 3 * GIB + 3 * MIB, BIT_2M),
    (GIB - BLOCK, GIB + BLOCK, BIT_2M | BIT_1G),
    (GIB - MIB, GIB + MIB, BIT_2M | BIT_1G),
]


def drawn_split(rng: Random) -> Piece:
    """A range with ragged ends, near borders of GiB or not."""
    start = rng.randrange(3) * GIB + rng.choice((0, rng.randrange(1, 2000) * PAGE_SIZE, rng.randrange(64) * BLOCK))
    size = rng.choice((rng.randrange(1, 4000) * PAGE_SIZE, rng.randrange(1, 2 * GIB // PAGE_SIZE) * PAGE_SIZE))
    return start, start + size, rng.choice((BIT_2M, BIT_2M | BIT_1G, BIT_2M | BIT_1G))


def cases_split(_given: None, rng: Random) -> list[Case]:
    """Small ranges first, then large ones; then three boots."""
    cases = [split_case(*piece) for piece in [*SPLITS, *(drawn_split(rng) for _ in range(12))]]
    cases.append(Case(f"{PRESET}, up to mem_init", PRESET, 10_000, points=4))
    cases.append(Case(f"{SHIPPED}, against the log of the real machine", SHIPPED, 10_001, points=4))
    cases.append(Case(f"{GBPAGES}, with pages of 1 GiB", GBPAGES, 10_002, points=4))
    return cases


def split_case(start: int, end: int, mask: int) -> Case:
    """A range and the sizes that the CPU has, as a case."""
    sizes = {0: "4k only", BIT_2M: "4k and 2M", BIT_2M | BIT_1G: "4k, 2M and 1G"}[mask]
    return Case(f"[{start:#x}-{end - 1:#x}], pages of {sizes}", (start, end, mask), 1 + (end - start) // BLOCK)


def smaller_split(case: Case) -> Iterator[Case]:
    """The same with an end that is nearer, or without the larger pages."""
    if isinstance(case.value, str):
        return
    start, end, mask = case.value
    for unit in (GIB, BLOCK, PAGE_SIZE):
        if end - start > unit:
            yield split_case(start, end - unit, mask)
    if start >= GIB:
        yield split_case(start - GIB, end - GIB, mask)
    if mask & BIT_1G:
        yield split_case(start, end, BIT_2M)


register(
    Task(
        "page_tables.split_mem_range",
        CHAPTER,
        "implement",
        20,
        (
            "Work out four borders first: start rounded up to 2 MiB, and to 1 GiB; end rounded down to 1 GiB, and to "
            "2 MiB. Draw them on a line. What if some of them change places because the range is short?",
            "Keep a position. A ragged head goes up to the first 2 MiB border (or to the end); then 2 MiB up to the "
            "first GiB border; then GiB; then 2 MiB again; then the ragged rest. Skip what would be empty.",
        ),
        judge_split,
        cases_split,
        inside=inside_boot,
        smaller=smaller_split,
    )
)
