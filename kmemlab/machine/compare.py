"""Model and machine, family by family: where what the model says is what Linux said, and where it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.boot_files import boot_files
from kmemlab.machine.facts import READERS, TITLES, Fact, facts_of
from kmemlab.machine.machine import Machine
from kmemlab.machine.saved_text import read_text
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadCapture


@invented("model and machine are compared")
@dataclass(frozen=True, slots=True)
class Difference:
    """What Linux said, and what the model says instead; one of them may be empty."""

    linux: str
    model: str


@invented("model and machine are compared")
@dataclass(frozen=True, slots=True)
class Family:
    """Facts of one kind: how many each side has, how many of them agree, and those that don't.

    `first` is the first place at which the two sides, read in order, part.
    """

    name: str
    linux: int
    model: int
    agree: int
    differences: tuple[Difference, ...]
    first: Difference | None

    @property
    def title(self) -> str:
        """What the family is about."""
        return TITLES[self.name]

    @property
    def score(self) -> float:
        """The share of the facts of both sides that agree: 1 if nothing is missing and nothing too much."""
        return self.agree / (self.linux + self.model - self.agree)


@invented("model and machine are compared")
@dataclass(frozen=True, slots=True)
class Comparison:
    """A machine and its model; `absent` names the files that the capture doesn't have."""

    name: str
    kernel: str
    families: tuple[Family, ...]
    absent: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises `BadCapture` where there is nothing to compare."""
        if not self.families:
            raise BadCapture(
                "these texts tell nothing that could be compared: no line of them begins as Linux writes it",
                where=self.name,
                remedy="copy the files again as they are, with nothing in front of their lines",
            )

    @property
    def score(self) -> float:
        """The mean of the families' scores, so that no large family outweighs the others."""
        return sum(family.score for family in self.families) / len(self.families)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs, order included."""
        return all(not family.differences and family.first is None for family in self.families)

    def as_json(self) -> dict[str, Any]:
        """The comparison as an object of JSON."""
        return {
            "machine": self.name,
            "kernel": self.kernel,
            "score": round(self.score, 6),
            "agrees": self.agrees,
            "absent": list(self.absent),
            "families": {
                family.name: {
                    "title": family.title,
                    "linux": family.linux,
                    "model": family.model,
                    "agree": family.agree,
                    "score": round(family.score, 6),
                    "differences": [pair_json(pair) for pair in family.differences],
                    "first_in_order": None if family.first is None else pair_json(family.first),
                }
                for family in self.families
            },
        }


@invented("model and machine are compared", traced=False)
def pair_json(pair: Difference) -> dict[str, str | None]:
    """Both sides of a difference; null for one that says nothing."""
    return {"linux": pair.linux or None, "model": pair.model or None}


@invented("model and machine are compared")
def compare_capture(folder: str | Path) -> Comparison:
    """Boot the machine that a folder of saved texts is of, and compare what it shows with these texts.

    The folder holds hardware.json, and what there is of dmesg.txt, zoneinfo.txt, slab_table.txt, meminfo.txt,
    sys_vm.txt and iomem.txt, packed (.gz) or not. Raises `BadCapture` for a folder or a text that can't be used,
    `BadSpec` for a machine that can't be booted.
    """
    folder = Path(folder)
    texts = read_capture(folder)
    linux = facts_of(texts)  # before the boot: a broken file is told at once
    spec = load_spec(folder / "hardware.json")
    made = facts_of(boot_files(Machine.boot(spec).kernel))
    absent = tuple(name for name in READERS if name not in texts)
    wanted = [name for name in TITLES if name in linux or (name in made and not missing(name, absent))]
    families = tuple(compare_family(name, linux.get(name, ()), made.get(name, ())) for name in wanted)
    return Comparison(folder.absolute().name, spec.kernel_version, families, absent)


@invented("a part of compare_capture", traced=False)
def missing(family: str, absent: tuple[str, ...]) -> bool:
    """Whether a family can't be compared, because the file that tells of it was not saved."""
    file = {"dmesg": "dmesg.txt", "zone": "zoneinfo.txt", "slab": "slab_table.txt", "sysctl": "sys_vm.txt"}
    kind = family.partition(".")[0]
    return file.get(kind, f"{kind}.txt") in absent


@invented("model and machine are compared")
def read_capture(folder: Path) -> Mapping[str, str]:
    """The texts of a folder, by name. Raises `BadCapture` if it lacks hardware.json or texts, or one can't be read."""
    if not folder.is_dir():
        raise BadCapture("this is no folder", where=str(folder), remedy="give a folder that holds a hardware.json")
    if not (folder / "hardware.json").is_file():
        raise BadCapture(
            "there is no hardware.json, so nothing says which machine this is",
            where=str(folder),
            remedy="give the folder of one machine, with a hardware.json (kmemlab boot reads it, too)",
        )
    texts = {name: text for name in READERS if (text := read_text(folder, name)) is not None}
    if not texts:
        raise BadCapture(
            "there is nothing to compare with", where=str(folder), remedy=f"save one of {', '.join(READERS)} there"
        )
    return texts


@invented("model and machine are compared")
def compare_family(name: str, linux: tuple[Fact, ...], model: tuple[Fact, ...]) -> Family:
    """Count what both sides say, and pair what only one says with what the other says about the same thing."""
    have, want = Counter(model), Counter(linux)
    agree = sum((want & have).values())
    missed, surplus = list((want - have).elements()), list((have - want).elements())
    differences = []
    for fact in missed:
        other = next((made for made in surplus if made.what == fact.what), None)
        if other is not None:
            surplus.remove(other)
        differences.append(Difference(str(fact), "" if other is None else str(other)))
    differences += [Difference("", str(made)) for made in surplus]
    parted = next((pair for pair in zip_longest(linux, model) if pair[0] != pair[1]), None)
    first = None if parted is None else Difference(*("" if fact is None else str(fact) for fact in parted))
    return Family(name, len(linux), len(model), agree, tuple(differences), first)
