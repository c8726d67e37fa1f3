"""The resolver of memory types: against the registers themselves and the table of the manual."""

from __future__ import annotations

import pytest

from kmemlab.boot.mtrr_state import MtrrState
from kmemlab.machine.machine import Machine
from kmemlab.views.memory_type import memory_type_figure

# Rows: the type by the MTRRs; columns: entries 0 to 7 of the PAT as Linux sets it (WB WC UC- UC WB WP UC- WT).
MANUAL = {
    "WB": ["WB", "WC", "UC", "UC", "WB", "WP", "UC", "WT"],
    "UC": ["UC", "WC", "UC", "UC", "UC", "UC", "UC", "UC"],
}


@pytest.fixture(scope="module")
def state() -> MtrrState:
    return Machine.boot("laptop-8g", until="init_mem_mapping").kernel.boot.mtrr


@pytest.mark.parametrize(
    ("address", "by_range"),
    [(0x100000, "WB"), (0xE0000000, "UC"), (0x240000000, "UC"), (0xA0000, "UC"), (0x1000, "WB")],
)
def test_every_entry_at_five_addresses(state: MtrrState, address: int, by_range: str) -> None:
    for entry, end in enumerate(MANUAL[by_range]):
        figure = memory_type_figure(state, address, entry)
        lines = {
            line[:14].strip(): line[14:].split()[0] for line in figure.text().splitlines() if line[:2] in ("by", "in")
        }
        assert (lines["by the MTRRs"], lines["in the end"]) == (by_range, end)


def test_the_picture_names_what_covers_the_page(state: MtrrState) -> None:
    figure = memory_type_figure(state, 0xE0000000, 1)
    assert "reg00 [0x0-0x1ffffffff] write-back: covers it" in figure.text()
    assert "2 ranges cover it" in figure.svg()
    assert "in the end" in figure.alt
