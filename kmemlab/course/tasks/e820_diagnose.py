"""Chapter 01: three broken BIOSes. What did Linux do, and how much memory does it not see?

Each fault is built by hand together with what it costs, so that the expected answer doesn't come from a boot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from kmemlab.course.answer import Answer
from kmemlab.course.bios_log import ask
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.e820 import CHAPTER
from kmemlab.types.units import KIB, MIB

BELOW = 639  # KiB usable below 640 KiB, as the sound map has it
ASSUMED = 0x9F000 // KIB  # what Linux takes for granted there when it has no map
E801, E88, E820 = "BIOS-e801", "BIOS-88", "BIOS-e820"


_NOT_BELIEVED = "if the map is not believed, the larger of E801h's and 88h's number is"
WHO = {
    E820: "a map of two ranges or more, all signed and none that wraps, is believed as far as it goes",
    E801: _NOT_BELIEVED,
    E88: _NOT_BELIEVED,
}


@dataclass(frozen=True)
class Sound:
    """A machine whose memory is known: KiB from 1 MiB to a gap of 64 KiB, and behind that gap."""

    first: int
    second: int

    @property
    def installed(self) -> int:
        """KiB usable, if everybody told the truth."""
        return BELOW + self.first + self.second

    def ranges(self) -> list[list[Any]]:
        """The true map, in the words of a hardware.json."""
        gap = MIB + self.first * KIB
        return [
            [0, 0x9FBFF, "usable"],
            [0x9FC00, 0x9FFFF, "reserved"],
            [0xF0000, 0xFFFFF, "reserved"],
            [MIB, gap - 1, "usable"],
            [gap, gap + 64 * KIB - 1, "ACPI NVS"],
            [gap + 64 * KIB, gap + (64 + self.second) * KIB - 1, "usable"],
        ]

    def replies(self) -> list[dict[str, Any]]:
        """The true answers to E820h, to be spoiled."""
        ranges = self.ranges()
        return [{"range": item, "ebx": (at + 1) % len(ranges)} for at, item in enumerate(ranges)]


@dataclass(frozen=True)
class Patient:
    """A machine with a fault: its description, whom Linux quotes, and how many KiB it uses."""

    hardware: dict[str, Any]
    who: str
    usable: int


def by_e801(sound: Sound, rng: Random) -> tuple[dict[str, Any], int]:
    """E801h tells all memory up to the gap; in one pair of registers or in the other."""
    blocks = (sound.first - 15 * 1024) // 64
    pair = rng.choice((("ax", "bx"), ("cx", "dx")))
    return {"e801": {pair[0]: 15 * 1024, pair[1]: blocks}, "e88": 0xFC00}, ASSUMED + 15 * 1024 + blocks * 64


def no_e820(sound: Sound, rng: Random) -> Patient:
    """The BIOS is too old for E820h."""
    older, usable = by_e801(sound, rng)
    return Patient({"e820": [], **older}, E801, usable)


def forgets_the_signature(sound: Sound, rng: Random) -> Patient:
    """Half-way through the map EAX isn't SMAP any more: what was read is thrown away, too."""
    replies = sound.replies()
    replies[rng.randrange(2, 5)]["eax"] = 0xE820
    return Patient({"e820": [], "int15": {"e820": replies}, "e88": 0xFC00}, E88, ASSUMED + 0xFC00)


def says_one_range(sound: Sound, rng: Random) -> Patient:
    """Everything in a single range: fewer than two are not believed."""
    older, usable = by_e801(sound, rng)
    return Patient({"e820": [[0, MIB + sound.first * KIB - 1, "usable"]], **older}, E801, usable)


def wraps_around(sound: Sound, rng: Random) -> Patient:
    """One range goes around the end of the address space: the whole map is not believed."""
    older, usable = by_e801(sound, rng)
    ranges = sound.ranges()
    ranges[2] = [0xFFFFFFFFFFFF0000, 0xFFFF, "reserved"]
    return Patient({"e820": ranges, **older}, E801, usable)


def ends_in_an_error(sound: Sound, _rng: Random) -> Patient:
    """A call fails amid the map: what came before it is believed."""
    replies = sound.replies()
    replies[5]["carry"] = True
    return Patient({"e820": [], "int15": {"e820": replies}, "e88": 0xFC00}, E820, BELOW + sound.first)


def has_a_hole(_sound: Sound, rng: Random) -> Patient:
    """E801h knows of a hole below 16 MiB, so what lies above it doesn't count; 88h may know more."""
    more = rng.choice((0, 0x7C00))
    hardware = {"e820": [], "e801": {"ax": 14 * 1024, "bx": 4096}, "e88": more}
    return Patient(hardware, E88 if more else E801, ASSUMED + (more or 14 * 1024))


FAULTS: tuple[Callable[[Sound, Random], Patient], ...] = (
    no_e820,
    forgets_the_signature,
    says_one_range,
    wraps_around,
    ends_in_an_error,
    has_a_hole,
)


def patients(rng: Random) -> dict[str, tuple[Sound, Patient]]:
    """Three machines with three different faults."""
    drawn = {}
    for name, fault in zip("ABC", rng.sample(FAULTS, 3), strict=True):
        sound = Sound(rng.randrange(128, 768) * 1024, rng.randrange(16, 64) * 1024)
        drawn[name] = sound, fault(sound, rng)
    return drawn


def given_diagnose(rng: Random) -> dict[str, Any]:
    """For each machine what is installed, and what its BIOS said; `seed` draws the same three again."""
    seed = rng.randrange(1 << 30)
    drawn = patients(Random(seed))
    return {
        "seed": seed,
        "installed_kib": {name: sound.installed for name, (sound, _) in drawn.items()},
        "bios": {name: ask(patient.hardware)[0].text() for name, (_, patient) in drawn.items()},
    }


def judge_diagnose(answer: Answer, case: Case) -> Verdict | None:
    """Whom Linux quotes, and what it loses."""
    name, part, want = case.value
    told = answer.value
    row = told.get(name) if isinstance(told, dict) else None
    if not isinstance(row, (tuple, list)) or len(row) != 2:
        return Verdict("the answer has (who, lost_kib) for each machine", f"for {name} it is {row!r}")
    if part == "who" and row[0] != want:
        return Verdict(WHO[want], f"for {name} you have {row[0]!r}")
    if part == "lost_kib" and row[1] != want:
        law = "what is lost is what is installed less what the kernel's map then calls usable"
        return Verdict(law, f"for {name} you have {row[1]!r}")
    return None


def cases_diagnose(given: dict[str, Any], _rng: Random) -> list[Case]:
    """Two for each machine."""
    cases = []
    for place, (name, (sound, patient)) in enumerate(patients(Random(given["seed"])).items()):
        lost = sound.installed - patient.usable
        cases.append(Case(f"machine {name}: whom Linux quotes", (name, "who", patient.who), 2 * place))
        cases.append(Case(f"machine {name}: KiB that Linux does not see", (name, "lost_kib", lost), 2 * place + 1))
    return cases


register(
    Task(
        "e820.diagnose",
        CHAPTER,
        "diagnose",
        10,
        (
            "Read the E820h lines of one machine from the top, as the setup code does. Does the carry flag end the "
            "walk, does EAX lose its signature, does EBX come back as 0? How many ranges are there then, and does "
            "one of them wrap?",
            "If the map is not believed, Linux assumes 636 KiB below 640 KiB and takes one number for all above 1 "
            "MiB: of E801h (AX or CX in KiB up to 16 MiB, BX or DX in blocks of 64 KiB above, which count only if "
            "there is no hole below) or of 88h, whichever is larger.",
        ),
        judge_diagnose,
        cases_diagnose,
        given=given_diagnose,
        hidden=("seed",),
    )
)
