"""Whatever mistakes a student makes, the machine answers with an error that says so, and never hangs or breaks off."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.types.errors import KmemlabError
from kmemlab.types.slab_config import SlabConfig
from tests.alloc.slab_helpers import PLAIN, small

MACHINES = {
    "hardened": ("", SlabConfig()),
    "plain": ("init_on_alloc=0", PLAIN),
    "F": ("slub_debug=F", PLAIN),
    "P": ("slub_debug=P", PLAIN),
    "FZPU": ("slub_debug=FZPU", SlabConfig()),
}


def mistake(machine: Machine, dice: random.Random, ever: list[int]) -> None:
    """One request, or one mistake: a second free, a free of what is no object, a write beyond, a pointer forged."""
    what = dice.random()
    some = dice.choice(ever)
    if what < 0.35:
        ever.append(machine.kmalloc(dice.choice((8, 40, 64, 250, 3000, 9000))))
    elif what < 0.45:
        ever.append(machine.kmem_cache_alloc("mine"))
    elif what < 0.70:
        machine.kfree(some + dice.choice((0, 0, 0, 8, 3, 4096)))
    elif what < 0.78:
        machine.kmem_cache_free(dice.choice(("mine", "kmalloc-64")), some + dice.choice((0, 0, 16)))
    elif what < 0.95:
        forged = (dice.choice(ever) + dice.choice((0, -8, 4, 1 << 30))).to_bytes(8, "little")
        machine.write(some + dice.randrange(-20, 120), dice.choice((forged, dice.randbytes(40))))
    elif what < 0.98:
        machine.kmem_cache_shrink(dice.choice(("mine", "kmalloc-64", "kmalloc-8")))
    else:
        machine.krealloc(some, dice.choice((10, 5000)))


@pytest.mark.parametrize("name", MACHINES)
def test_no_mistake_breaks_the_machine(name: str) -> None:
    cmdline, slab = MACHINES[name]
    booted = small(cmdline, slab=slab)
    booted.kmem_cache_create("mine", 72)
    for seed in range(12):
        machine, dice = booted.fork(), random.Random(seed)
        ever = [machine.kmalloc(64)]
        for _ in range(300):
            with suppress(KmemlabError):
                mistake(machine, dice, ever)
        with suppress(KmemlabError):
            machine.check()
