"""Who sits in front of the notebook: an id from which everything that is the student's own is drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random

SELF_STUDY = "self-study"


@dataclass(frozen=True)
class Student:
    """A student, known by an id. The same id always draws the same machines and variants, on every computer."""

    id: str = SELF_STUDY

    def rng(self, purpose: str) -> Random:
        """Random numbers of this student for one purpose; another purpose has numbers of its own.

        >>> Student("ada").rng("e820.last_pfn").random() == Student("ada").rng("e820.last_pfn").random()
        True
        >>> Student("ada").rng("e820.last_pfn").random() == Student("bob").rng("e820.last_pfn").random()
        False
        """
        # Not hash(): that differs from one run of Python to the next.
        digest = hashlib.sha256(f"{self.id}\0{purpose}".encode()).digest()
        return Random(int.from_bytes(digest, "big"))
