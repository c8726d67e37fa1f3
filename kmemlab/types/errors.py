"""What goes wrong, told so that the reader knows what, where, and what to do."""

from __future__ import annotations


class KmemlabError(Exception):
    """Something of ours failed: `what` happened, `where`, and the `remedy`.

    >>> print(KmemlabError("no such preset: 'laptop-9g'", where="Machine.boot", remedy="try laptop-8g"))
    no such preset: 'laptop-9g'
      where:  Machine.boot
      remedy: try laptop-8g
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        lines = [what]
        if where:
            lines.append(f"  where:  {where}")
        if remedy:
            lines.append(f"  remedy: {remedy}")
        super().__init__("\n".join(lines))


class BadSpec(KmemlabError):
    """A machine's description is malformed: no JSON, a key missing, a value of the wrong kind."""


class BadCapture(KmemlabError):
    """Texts saved from a machine can't be used: a file is missing, breaks off, or is something else."""


class BadParameter(KmemlabError):
    """A parameter of the kernel's command line, or of ours, can't be read."""


class BadRequest(KmemlabError):
    """A request that no kernel function would take: an order out of range, an address never allocated."""


class DoubleFree(BadRequest):
    """A block was given back that is free already."""


class WrongCache(BadRequest):
    """An object was given back to a cache that it is not from."""


class ObjectsRemain(BadRequest):
    """A cache was destroyed while somebody still holds objects of it."""


class SlabCorruption(KmemlabError):
    """Memory of a cache was written where, or when, nobody may write. `result` is what the request returned."""

    result: object = None


class Overrun(SlabCorruption):
    """Somebody wrote beyond an object."""


class UseAfterFree(SlabCorruption):
    """Somebody wrote into an object that was free."""


class OutOfMemory(KmemlabError):
    """No page could be had: C's `NULL` or `-ENOMEM` where the caller doesn't branch on it."""


class MustWait(KmemlabError):
    """The caller would sleep until another task gives something back; here one task runs at a time."""


class TooLarge(KmemlabError):
    """The simulated machine needs more cells than this computer can hold."""


class SealedField(KmemlabError):
    """Code tried to rebind a field of a kernel struct, which the journal could not see."""


class BadPatch(KmemlabError):
    """`livepatch` was given a function that can't stand in for the kernel's."""


class BadRewind(KmemlabError):
    """A timeline was asked for a place that it doesn't have."""


class KernelPanic(KmemlabError):
    """The simulated kernel panicked, with the text that Linux prints."""
