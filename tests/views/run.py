"""A small recorded run to look at: a zone of 1,024 pages in which blocks were taken and given back."""

from __future__ import annotations

from tests.sim.bare import Bench


class Run(Bench):
    """take(0) splits down from order 10, give(0, 0) joins all the way up again."""

    def __init__(self, lines: bool = True) -> None:
        super().__init__(blocks=1, lines=lines)
