"""The one line that ties Python to C: which kernel function this is, where it stands, and what ours leaves out."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

VERSION = "v6.1"
SIMULATOR = ("types", "sim", "hardware", "boot", "mm", "reclaim", "alloc", "process", "machine")  # the floors, upwards
SOURCE_LINK = "https://elixir.bootlin.com/linux/{version}/source/{file}"
T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class KernelMark:
    """What one `@kernel` or `@invented` line says.

    `file` is empty for what C does not have (`why` tells then why we do).
    """

    function: Callable[..., Any]
    name: str
    file: str = ""
    left_out: str = ""
    formerly: tuple[str, ...] = ()
    lock: str = ""
    why: str = ""
    traced: bool = True

    @property
    def python_path(self) -> str:
        """The dotted path of the Python function."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def link(self) -> str:
        """The C file in the pinned kernel version."""
        return SOURCE_LINK.format(version=VERSION, file=self.file) if self.file else ""


class Registry:
    """Every mark, to be found by C name, by old name, or by Python name."""

    def __init__(self) -> None:
        self._marks: dict[str, KernelMark] = {}  # by Python path

    def __iter__(self) -> Iterator[KernelMark]:
        return iter(self._marks.values())

    def add(self, mark: KernelMark) -> None:
        """Keep a mark; a module that is loaded anew replaces its own."""
        self._marks.pop(mark.python_path, None)
        self._marks[mark.python_path] = mark

    def find(self, name: str) -> list[KernelMark]:
        """The marks that `name` means: a C name, a name of older kernels, a Python name or a dotted Python path."""
        bare = name.strip().removesuffix("()").removeprefix("struct ").removeprefix("enum ")
        return [
            mark
            for mark in self
            if bare
            in (
                mark.name,
                mark.name.removeprefix("struct ").removeprefix("enum "),
                mark.function.__name__,
                mark.function.__qualname__,
                mark.python_path,
            )
            or bare in mark.formerly
        ]

    def of(self, function: Callable[..., Any]) -> KernelMark | None:
        """The mark of one function or class."""
        mark = getattr(function, "__kernel_mark__", None)
        return mark if isinstance(mark, KernelMark) else None


registry = Registry()


def kernel(
    file: str, name: str, *, left_out: str = "", formerly: tuple[str, ...] = (), lock: str = "", traced: bool = True
) -> Callable[[T], T]:
    """Mark a function or class as the kernel's `name` of `file`; it is returned as it is, so a call costs nothing more.

    `left_out` says what ours does not do, `formerly` what older kernels called it, `lock` which lock C holds there.
    With `traced=False` a call leaves no mark in the timeline: for the few lines that run many times in each request.
    """

    def mark(function: T) -> T:
        _register(KernelMark(function, name, file, left_out, formerly, lock, traced=traced))
        return function

    return mark


def invented(why: str, *, traced: bool = True) -> Callable[[T], T]:
    """Mark a function or class that C does not have, with the reason why we do."""

    def mark(function: T) -> T:
        _register(KernelMark(function, function.__name__, why=why, traced=traced))
        return function

    return mark


def _register(mark: KernelMark) -> None:
    registry.add(mark)
    function: Any = mark.function
    function.__kernel_mark__ = mark


@functools.cache
def load_all() -> Registry:
    """The registry with every room of the simulator imported, so that a look-up finds all."""
    import kmemlab

    for room in pkgutil.walk_packages(kmemlab.__path__, f"{kmemlab.__name__}."):
        if room.name.split(".")[1] in SIMULATOR:
            importlib.import_module(room.name)
    return registry
