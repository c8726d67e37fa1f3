"""Chapter 03: what does an access find when the tables change under the TLB?"""

from __future__ import annotations

from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.page_tables import CHAPTER

Deed = tuple[str, str, int | None]  # what, which page, and for a change of an entry its new frame (None: empty)

TOLD = {
    "read": "the CPU reads page {page}",
    "set": "the kernel writes page {page}'s entry: frame {frame}",
    "clear": "the kernel empties page {page}'s entry",
    "invlpg": "the kernel executes INVLPG for page {page}",
    "cr3": "the kernel writes CR3 with the value it has",
    "all": "the kernel calls __flush_tlb_all()",
}


def given_tlb(rng: Random) -> dict[str, Any]:
    """Two pages, one of them global, and fourteen deeds of which eight are reads."""
    frames = iter(rng.sample(range(16, 100), 12))
    first = {"A": next(frames), "B": next(frames)}
    deeds: list[Deed] = [("read", "A", None), ("read", "B", None)]
    # Each change is followed by a read that may be stale, by a flush that may not reach, and by a read again.
    flushes = ["invlpg", "cr3", "all"]
    pages = ["A", "B", rng.choice("AB")]
    rng.shuffle(flushes)
    rng.shuffle(pages)
    emptied = rng.randrange(3)
    for nth, (flush, page) in enumerate(zip(flushes, pages, strict=True)):
        new = None if nth == emptied else next(frames)
        deeds.append(("set" if new else "clear", page, new))
        deeds.append(("read", page, None))
        deeds.append((flush, page if flush == "invlpg" else "", None))
        deeds.append(("read", page, None))
    text = [TOLD[what].format(page=page, frame=frame) for what, page, frame in deeds]
    return {"frames": first, "deeds": deeds, "text": text}


def outcomes(given: dict[str, Any]) -> list[tuple[str, int | None, str]]:
    """For each read: the page, what it finds (None: a fault), and why."""
    entries: dict[str, int | None] = dict(given["frames"])
    tlb: dict[str, int] = {}
    found: list[tuple[str, int | None, str]] = []
    for what, page, frame in given["deeds"]:
        if what == "read":
            why = "hit" if page in tlb and tlb[page] == entries[page] else "stale" if page in tlb else "walk"
            if page not in tlb and entries[page] is not None:
                tlb[page] = entries[page]  # type: ignore[assignment]
            found.append((page, tlb.get(page), why))
        elif what in ("set", "clear"):
            entries[page] = frame
        elif what == "invlpg":
            tlb.pop(page, None)
        elif what == "cr3":
            tlb.pop("A", None)  # B is global
        else:
            tlb.clear()
    return found


LAWS = {
    "stale": "a translation that the TLB has is used, whatever the tables say by now: nobody tells it of a change",
    "hit": "a translation that the TLB has is used",
    "walk": "where the TLB has nothing, the CPU walks the tables as they are now; an empty entry is a fault, and "
    "a fault is not remembered",
}


def judge_tlb(answer: Answer, case: Case) -> Verdict | None:
    """One read."""
    at, count, page, want, why = case.value
    told = answer.value
    if not isinstance(told, (list, tuple)) or len(told) != count:
        return Verdict(f'the answer is a list of {count}: for each read a frame, or "fault"', f"it is {told!r}")
    got = told[at]
    if got == (want if want is not None else "fault") and not isinstance(got, bool):
        return None
    law = LAWS[why]
    if page == "B" and why != "walk":
        law += "; a global page stays when CR3 is written"
    elif page == "A" and why == "walk":
        law += "; writing CR3 drops all pages that are not global"
    return Verdict(law, f"read {at + 1}, of page {page}: {got!r}")


def cases_tlb(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a read."""
    found = outcomes(given)
    return [
        Case(f"read {at + 1}, of page {page}", (at, len(found), page, frame, why), at)
        for at, (page, frame, why) in enumerate(found)
    ]


register(
    Task(
        "page_tables.tlb",
        CHAPTER,
        "predict",
        10,
        (
            "Keep two columns while you go through the list: what the entries say, and what the TLB remembers. A "
            "change of an entry touches the first column only.",
            "A read takes from the second column; if it is empty there, it copies from the first. Then ask of each "
            "flush: does it reach a page that is global?",
        ),
        judge_tlb,
        cases_tlb,
        given=given_tlb,
    )
)
