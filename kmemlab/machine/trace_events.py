"""What the fields of each trace event look like: the kernel's own print formats, read backwards.

    mm_page_free     page={pointer} pfn={hex} order={order}
                     page=ffffea0000197300 pfn=0x65cc order=1      ──▶  (0x65cc, 1)

A pointer to a `struct page` says no more than its pfn, so `{pointer}` is checked and left out of the values; the
address of an object is all that is known of it, so `{address}` is a value.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from kmemlab.sim.kernel import invented
from kmemlab.types import gfp as gfp_bits

_POINTER = r"[0-9a-f]{8,16}|\(null\)|\(____ptrval____\)"


class _Kind(NamedTuple):
    """How one kind of value is written, what it is called, and what Python value it becomes (None: none)."""

    pattern: str
    called: str
    read: Callable[[str], Any] | None


@functools.cache
@invented("C prints the flags of a request by their names", traced=False)
def gfp_of_names(text: str) -> int:
    """The bits of `gfp_flags=` as Linux prints them; flags of newer kernels that 6.1 doesn't have count as none.

    Raises `ValueError` for a word that is no flag.

    >>> hex(gfp_of_names("GFP_KERNEL|__GFP_ZERO")), gfp_of_names("none")
    ('0xdc0', 0)
    """
    if text == "none":
        return 0
    bits = 0
    for word in text.split("|"):
        if word.startswith("0x"):
            bits |= int(word, 16)
        elif word not in NEWER_GFP:
            value = vars(gfp_bits).get(word) if re.fullmatch(r"(__)?GFP_[A-Z0-9_]+", word) else None
            if not isinstance(value, int):
                raise ValueError(f"{word} is no flag of a request")
            bits |= value
    return bits


NEWER_GFP = (
    "__GFP_SKIP_ZERO",
    "__GFP_SKIP_KASAN",
    "__GFP_SKIP_KASAN_UNPOISON",
    "__GFP_SKIP_KASAN_POISON",
    "__GFP_NOLOCKDEP",
    "__GFP_NO_OBJ_EXT",
    "__GFP_CMA",
)

_KINDS = {
    "pointer": _Kind(_POINTER, "an address", None),
    "word": _Kind(r"\S+", "a word", str),
    "text": _Kind(r".*", "a text", str),
    "address": _Kind(_POINTER, "an address", lambda text: 0 if text[0] == "(" else int(text, 16)),
    "hex": _Kind(r"0x[0-9a-f]{1,16}", "a hexadecimal number", lambda text: int(text, 16)),
    "int": _Kind(r"-?\d{1,18}", "a number", int),
    "order": _Kind(r"10|\d", "an order from 0 to 10", int),
    "type": _Kind(r"[0-5]", "a mobility type from 0 to 5", int),
    "flag": _Kind(r"[01]", "0 or 1", int),
    "gfp": _Kind(r"\S+", "the flags of a request", gfp_of_names),
}


@invented("a format of the kernel's trace events, read backwards")
class EventFormat:
    """One event's fields: `read` gives their values in order.

    >>> EventFormat("page={pointer} pfn={hex} order={order}").read("page=ffffea0000197300 pfn=0x65cc order=1")
    (26060, 1)
    """

    def __init__(self, template: str) -> None:
        parts = re.split(r"\{(\w+)\}", template)
        self._pieces = tuple((parts[at], _KINDS[parts[at + 1]]) for at in range(0, len(parts) - 1, 2))
        self._end = parts[-1]
        pattern = "".join(
            re.escape(before) + (f"({kind.pattern})" if kind.read else f"(?:{kind.pattern})")
            for before, kind in self._pieces
        )
        self._match = re.compile(pattern + re.escape(self._end)).fullmatch
        self._readers = tuple(kind.read for _, kind in self._pieces if kind.read is not None)

    def read(self, text: str) -> tuple[Any, ...] | None:
        """The values, or None if the text does not have this format. A word that can't be read is a `ValueError`."""
        found = self._match(text)
        if found is None:
            return None
        return tuple([read(value) for read, value in zip(self._readers, found.groups(), strict=True)])

    def complaint(self, text: str) -> str:
        """What is wrong with a text that can't be read: the first field that is not as it should be.

        >>> EventFormat("pfn={hex} order={order}").complaint("pfn=0x65cc order=77")
        "order= must be an order from 0 to 10, not '77'"
        """
        at = 0
        for before, kind in self._pieces:
            if not text.startswith(before, at):
                return f"{before.strip()} is missing: the line has {text[at:][:40]!r} there"
            at += len(before)
            value = re.match(r"[^\s)]*", text[at:])[0] if kind.called != "a text" else text[at:]  # type: ignore[index]
            if not re.fullmatch(kind.pattern, value):
                return f"{before.strip()} must be {kind.called}, not {value!r}"
            at += len(value)
        return f"there is more behind the last field: {text[at:][:40]!r}"


_PAGE = "page={pointer} pfn={hex} order={order}"
_OBJECT = "call_site={word} ptr={address}"
_SIZES = " bytes_req={int} bytes_alloc={int} gfp_flags={gfp} node={int} accounted={word}"

# The events whose fields are read; of all others only the name, the time and who ran are known.
EVENT_FORMATS = {
    name: EventFormat(template)
    for name, template in {
        "mm_page_alloc": _PAGE + " migratetype={type} gfp_flags={gfp}",
        "mm_page_free": _PAGE,
        "mm_page_free_batched": _PAGE,
        "mm_page_alloc_zone_locked": _PAGE + " migratetype={type} percpu_refill={flag}",
        "mm_page_pcpu_drain": _PAGE + " migratetype={type}",
        "mm_page_alloc_extfrag": "page={pointer} pfn={hex} alloc_order={order} fallback_order={order} "
        "pageblock_order={order} alloc_migratetype={type} fallback_migratetype={type} fragmenting={flag} "
        "change_ownership={flag}",
        "mm_compaction_isolate_freepages": "range=({hex} ~ {hex}) nr_scanned={int} nr_taken={int}",
        "kmalloc": _OBJECT + _SIZES,
        "kmem_cache_alloc": _OBJECT + _SIZES,
        "kfree": _OBJECT,
        "kmem_cache_free": _OBJECT + " name={text}",
        "tracing_mark_write": "{text}",
    }.items()
}
