"""Chapter 06: four reports of slub_debug without their headlines: which crime was it, and how many bytes are wrong?

Each report is printed by a machine on which the crime was committed; what the student must find is what was done to it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.slab import CHAPTER, PRESET
from kmemlab.hardware.spec import load_spec
from kmemlab.machine.machine import Machine
from kmemlab.types.errors import KmemlabError

OVERRUN, UNDERRUN, LATE, TWICE = "overrun", "underrun", "use after free", "double free"
CRIMES = (OVERRUN, UNDERRUN, LATE, TWICE)
NAMES = ("inode_note", "packet_head", "tty_line", "disk_request", "timer_slot", "route_entry")
TELLS = ("BUG ", "====", "----", "0x", "FIX ")  # lines that say it in words


def commit(crime: str, machine: Machine, cache: str, size: int, wrong: bytes, offset: int) -> None:
    """Do it, and let the kernel find it."""
    machine.kmem_cache_alloc(cache, caller=f"{cache}_init:1")  # a slab without objects in use is reported otherwise
    obj = machine.kmem_cache_alloc(cache, caller=f"{cache}_open:{10 + size}")
    if crime == OVERRUN:
        machine.write(obj + size, wrong)
    elif crime == UNDERRUN:
        machine.write(obj - len(wrong), wrong)
    else:
        machine.kmem_cache_free(cache, obj, caller=f"{cache}_close:{90 + size}")
    if crime == LATE:
        machine.write(obj + offset, wrong)
        machine.kmem_cache_alloc(cache, caller=f"{cache}_open:{10 + size}")
    else:
        machine.kmem_cache_free(cache, obj, caller=f"{cache}_exit:{200 + size}")


def report_of(crime: str, cache: str, size: int, wrong: bytes, offset: int) -> str:
    """What a machine with slub_debug prints of it, without the lines that name it."""
    spec = load_spec(PRESET)
    machine = Machine.boot(replace(spec, cmdline=f"{spec.cmdline} slub_debug=FZPU"))
    machine.kmem_cache_create(cache, size)
    before = len(machine.dmesg().splitlines())
    with suppress(KmemlabError):  # it was found: that is what is wanted
        commit(crime, machine, cache, size, wrong, offset)
    lines = machine.dmesg().splitlines()[before:]
    return "\n".join(line for line in lines if line and not line.startswith(TELLS))


def given_report(rng: Random) -> dict[str, Any]:
    """Four reports, one for each crime, and what was done."""
    crimes, caches = rng.sample(CRIMES, len(CRIMES)), rng.sample(NAMES, len(CRIMES))
    shown, truth = {}, {}
    for name, crime, cache in zip("abcd", crimes, caches, strict=True):
        size = 8 * rng.randrange(4, 12)
        wrong = bytes(rng.randrange(0x20, 0x60) for _ in range(rng.randrange(1, 8)))
        shown[name] = report_of(crime, cache, size, wrong, rng.randrange(size - 8))
        truth[name] = (crime, 0 if crime == TWICE else len(wrong))
    return {"reports": shown, "truth": truth}


LAWS = {
    OVERRUN: "the red zone behind an object that is in use is cc; other bytes there are an overrun",
    UNDERRUN: "the red zone before an object that is in use is cc; other bytes there are an underrun",
    LATE: "a free object is 6b, and a5 at its end; other bytes in it are a use after free",
    TWICE: "where red zones (bb) and poison (6b) of a free object are whole, it was freed a second time",
}


def judge_report(answer: Answer, case: Case) -> Verdict | None:
    """One report: the crime, and how many bytes are not what they should be."""
    name, crime, count = case.value
    told = answer.value
    got = told.get(name) if isinstance(told, dict) else None
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        return Verdict("the answer has (the crime, how many bytes are wrong) for each report", f"{name}: {got!r}")
    if got[0] != crime:
        return Verdict(LAWS[crime], f"{name}: it was no {got[0]!r}")
    if got[1] != count:
        law = "a wrong byte is one that is not what the red zone or the poison has there"
        return Verdict(law, f"{name}: not {got[1]!r} bytes")
    return None


def cases_report(given: dict[str, Any], _rng: Random) -> list[Case]:
    """One case a report."""
    return [Case(f"report {name}", (name, *truth), at) for at, (name, truth) in enumerate(given["truth"].items())]


register(
    Task(
        "slab.report",
        CHAPTER,
        "diagnose",
        8,
        (
            "First: is the object free or in use? Its red zones tell: bb or cc. Then look for bytes that don't belong.",
            "The Redzone line above the Object lies before it, the one below behind it. In a free object each byte is "
            "6b but for the last one, a5. Nothing wrong at all? Then somebody gave it back twice.",
        ),
        judge_report,
        cases_report,
        given=given_report,
        hidden=("truth",),
    )
)
