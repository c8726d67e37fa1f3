"""The indices of fragmentation against real machines: their buddyinfo gives their extfrag_index and unusable_index.

The data are those lines of the captures that were taken without an allocation in between (300 of 320).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.mm.extfrag import extfrag_index, unusable_index

REAL = json.loads((Path(__file__).parents[1] / "data" / "extfrag.json").read_text())
LINES = [(name, *pair) for texts in REAL.values() for name, pairs in texts.items() for pair in pairs]


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine.boot("laptop-8g")


@pytest.mark.parametrize(("name", "buddyinfo", "index"), LINES)
def test_a_real_zone(machine: Machine, name: str, buddyinfo: str, index: str) -> None:
    twin = machine.fork()
    wanted = buddyinfo.split()[3]
    zone = twin.zone(wanted)
    for order, count in enumerate(buddyinfo.split()[4:]):
        zone.nr_free[order] = int(count)
    text = (extfrag_index if name.startswith("extfrag") else unusable_index)(twin.kernel.mm)
    ours = next(line for line in text.splitlines() if f"zone {wanted:>8}" in line)
    assert ours == index


def test_nothing_free(machine: Machine) -> None:
    twin = machine.fork()
    zone = twin.zone("DMA")
    for order in range(11):
        zone.nr_free[order] = 0
    assert extfrag_index(twin.kernel.mm).splitlines()[0].split()[4:] == ["0.000"] * 11
    assert unusable_index(twin.kernel.mm).splitlines()[0].split()[4:] == ["1.000"] * 11
