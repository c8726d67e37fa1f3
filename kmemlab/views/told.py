"""A recorded call that is about to be told in a sentence: the call, who made it, and its arguments by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kmemlab.sim.hook import own_code
from kmemlab.sim.timeline import Call

Tell = Callable[["Told"], str]


@dataclass(frozen=True)
class Told:
    """A call, the call that made it, and its arguments by name."""

    call: Call
    caller: Call | None
    args: dict[str, Any]

    @property
    def name(self) -> str:
        """The function's name in C, set as code."""
        return f"`{self.call.name}`"

    @property
    def by(self) -> str:
        """Who acts: the caller, or the function itself where nobody called it."""
        return f"`{self.caller.name}`" if self.caller else self.name

    @property
    def block(self) -> str:
        """The block that the arguments name."""
        return f"pfn {self.args['pfn']}, order {self.args['order']}"


def told(stack: tuple[Call, ...]) -> Told:
    """The innermost call of a stack, ready to be told."""
    call = stack[-1]
    names = own_code(call.function).co_varnames
    return Told(call, stack[-2] if len(stack) > 1 else None, dict(zip(names, call.arguments, strict=False)))
