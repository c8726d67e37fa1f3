"""What goes wrong with objects: the kernel says it in its log and goes on, or stops; a command raises our error."""

from __future__ import annotations

from typing import NamedTuple

from kmemlab.boot.printk import Printk
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import KmemlabError


class Oops(KmemlabError):
    """Kernel code did what a CPU stops at: a BUG(), or an access to where nothing is."""


@invented("what the kernel found wrong, for the error that a command raises")
class SlabBug(NamedTuple):
    """One finding. `kind` is one of `KINDS`; `sites` says who took and gave back the object, where that is known."""

    kind: str
    what: str
    cache: str
    address: int
    sites: str = ""


DOUBLE_FREE, WRONG_CACHE, OVERRUN, USE_AFTER_FREE, LEAK, BAD_POINTER, CORRUPT = KINDS = (
    "double free", "wrong cache", "overrun", "use after free", "leak", "bad pointer", "corrupt",
)  # fmt: skip


@invented("BUG() is an illegal instruction, and what the trap handler prints begins with the place", traced=False)
def bug_at(printk: Printk, place: str, what: str) -> Oops:
    """Say `kernel BUG at FILE:LINE!` and hand back the exception that ends the request."""
    printk.info(f"kernel BUG at {place}!")
    return Oops(what, where=place, remedy="the task that ran is dead; a real machine is better restarted")
