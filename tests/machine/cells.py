"""Every cell of a machine, to compare one moment or one machine with another."""

from __future__ import annotations

from kmemlab.sim.recording import plain_column
from kmemlab.sim.struct import Struct, structs_of

PIECE = 1 << 16


def cells_of(root: Struct) -> dict[tuple[int, str, int], bytes]:
    """All that is not 0 under `root`, by struct, column and place: RAM's words alone are 2 GiB, and nearly all 0."""
    found, empty = {}, bytes(PIECE)
    for number, struct in enumerate(structs_of(root)):
        for name, view in struct.columns():
            raw = plain_column(view).cast("B")
            for start in range(0, len(raw), PIECE):
                piece = bytes(raw[start : start + PIECE])
                if piece != empty[: len(piece)]:
                    found[number, name, start] = piece
    return found
