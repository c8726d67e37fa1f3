"""Columns: private, lazy, and refused with a size when they can't be."""

from __future__ import annotations

import os
import sys

import pytest

from kmemlab.sim.column import column, copy_column
from kmemlab.types.errors import TooLarge

posix = pytest.mark.skipif(sys.platform == "win32", reason="anonymous mappings are POSIX")


@pytest.mark.parametrize("cells", [10, 1 << 20])
@pytest.mark.parametrize("typecode", ["B", "H", "i", "I", "q", "Q"])
def test_cells_start_at_zero_and_hold_what_is_written(typecode: str, cells: int) -> None:
    cell = column(typecode, cells)
    assert len(cell) == cells
    assert not any(cell[:100])
    cell[cells - 1] = 200
    assert cell[cells - 1] == 200


@posix
def test_untouched_cells_take_no_memory() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cells = column("q", 1 << 34)  # 128 GiB of cells
    cells[1 << 33] = 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@posix
def test_a_forked_child_does_not_write_into_its_parents_machine() -> None:
    cells = column("i", 1 << 20)
    child = os.fork()
    if child == 0:
        cells[5] = 99
        os._exit(0)
    os.waitpid(child, 0)
    assert cells[5] == 0


def test_what_no_computer_holds_is_refused_with_its_size() -> None:
    with pytest.raises(TooLarge, match=r"576,460,752,303,423,488 cells"):
        column("q", 1 << 59)


def test_a_copy_is_equal_and_its_own() -> None:
    cells = column("i", 1 << 20)
    cells[0], cells[70_000], cells[(1 << 20) - 1] = 1, 2, 3
    copy = copy_column(cells)
    assert copy == cells
    copy[0] = 9
    assert cells[0] == 1
