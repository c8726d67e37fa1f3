"""From a name of C, of an older kernel or of Python to a kernel function: its file, its source, what is left out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from kmemlab.sim.kernel import VERSION, KernelMark, Registry, load_all
from kmemlab.types.errors import KmemlabError


class UnknownName(KmemlabError):
    """A name that no kernel function of ours bears."""


def where(name: str) -> None:
    """Print everything known of a kernel function, by its C name, an older one, or its Python name.

    Raises `UnknownName` with the nearest names.

    >>> where("sanitize_e820_map")  # doctest: +ELLIPSIS
    e820__update_table()
      Python:   kmemlab.boot.e820.e820__update_table
      ...
    """
    print("\n\n".join("\n".join(describe(mark)) for mark in find(load_all(), name)))


def find(registry: Registry, name: str) -> list[KernelMark]:
    """The marks that the name means, the exact C name first. Raises `UnknownName` with the nearest names."""
    marks = registry.find(name)
    if marks:
        return sorted(marks, key=lambda mark: (mark.name != name, mark.python_path))
    known = sorted({known for mark in registry for known in (mark.name, mark.function.__qualname__, *mark.formerly)})
    folded = {known_name.lower(): known_name for known_name in reversed(known)}
    near = [folded[hit] for hit in difflib.get_close_matches(name.lower(), folded, n=5, cutoff=0.5)]
    raise UnknownName(
        f"no kernel function of kmemlab is named {name!r}, now or formerly",
        where="kmemlab where",
        remedy=f"nearest names: {', '.join(near)}"
        if near
        else "give a function of Linux's memory management, such as __free_one_page",
    )


def describe(mark: KernelMark) -> Iterator[str]:
    """What one mark says, a fact a line."""
    kind = mark.name if mark.name.startswith(("struct ", "enum ", "union ")) else f"{mark.name}()"
    yield kind if mark.file else f"{mark.function.__qualname__} (not in C)"
    facts = [
        ("Python", mark.python_path),
        ("C", f"{mark.file} (Linux {VERSION})" if mark.file else ""),
        ("source", mark.link),
        ("left out", mark.left_out or ("nothing" if mark.file else "")),
        ("lock", mark.lock),
        ("formerly", ", ".join(mark.formerly)),
        ("why", mark.why),
        ("says", _first_sentence(mark)),
    ]
    for name, fact in facts:
        if fact:
            yield f"  {name + ':':<10}{fact}"


def _first_sentence(mark: KernelMark) -> str:
    return (mark.function.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
