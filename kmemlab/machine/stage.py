"""A column of boot: calls in their order, with a margin of comments, as data that can be run, listed and stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kmemlab.machine.kernel import Kernel
from kmemlab.sim.kernel import invented, registry
from kmemlab.types.errors import BadRequest


@invented("C's column of calls is code; ours is data too, so that boot can stop behind any of them")
@dataclass(frozen=True, slots=True)
class Stage:
    """One call: `function` gets the part of the kernel that `of` names ("boot", "mm", "kernel"); `why` is the margin.

    A function that is itself such a column has its calls in `column`. `only` names the one architecture that calls it.
    """

    function: Callable[..., Any]
    of: str
    why: str
    column: tuple[Stage, ...] = ()
    only: str = ""

    @property
    def name(self) -> str:
        """The C name of the function; by it boot can be told where to stop."""
        mark = registry.of(self.function)
        return mark.name if mark is not None and mark.name != mark.file and mark.file else self.function.__name__


@invented("walks a column and the columns within it")
def stages_of(column: tuple[Stage, ...], arch: str = "x86_64") -> tuple[Stage, ...]:
    """All stages of an architecture in the order in which they end: a column stands behind the stages within it."""
    found: list[Stage] = []
    for stage in column:
        if stage.only in ("", arch):
            found += [*stages_of(stage.column, arch), stage]
    return tuple(found)


@invented("boot can be stopped behind any call, to look around")
def run_column(kernel: Kernel, column: tuple[Stage, ...], until: str | None) -> bool:
    """Call one function after the other; True if `until` was among them, and nothing behind it has run."""
    for stage in column:
        if stage.only not in ("", kernel.boot.config.arch):
            continue
        if stage.column:
            if stage.function(kernel, until):
                return True
        elif stage.of == "boot, numa":
            stage.function(kernel.boot, kernel.numa)
        else:
            stage.function(kernel if stage.of == "kernel" else getattr(kernel, stage.of))
        if stage.name == until:
            return True
    return False


@invented("a stage is named by the user")
def check_stage(column: tuple[Stage, ...], arch: str, until: str | None) -> None:
    """Raise `BadRequest` unless the column has the stage, with all names that it has."""
    names = [stage.name for stage in stages_of(column, arch)]
    if until is not None and until not in names:
        raise BadRequest(
            f"boot has no stage {until!r}",
            where="start_kernel's column of calls",
            remedy=f"choose one of {', '.join(names)}",
        )
