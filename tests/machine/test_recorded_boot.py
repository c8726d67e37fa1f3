"""Boot itself can be recorded and rewound: to power-on, where all is as before, and back to the end."""

from __future__ import annotations

import pytest

from kmemlab.machine.machine import Machine
from tests.machine.cells import cells_of


def state(machine: Machine) -> dict[tuple[int, str, int], bytes]:
    return cells_of(machine.kernel)


@pytest.mark.parametrize("preset", ["tiny-128m", "numa-2x4g", "old-bios-e801"])
def test_boot_rewinds_to_power_on_and_comes_back(preset: str) -> None:
    machine = Machine.boot(preset, record=True)
    plain = Machine.boot(preset)
    end, log = state(machine), machine.dmesg()
    assert (end, log) == (state(plain), plain.dmesg())
    machine.timeline.rewind(0)
    assert state(machine) == state(Machine(preset))
    assert machine.dmesg() == ""
    machine.timeline.to_end()
    assert (state(machine), machine.dmesg()) == (end, log)
