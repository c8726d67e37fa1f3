"""False sharing: variables of different CPUs that lie in one cache line, so that each write of one slows the others.

line ffff888003a41040   CPU 0: bytes 0–7   CPU 1: bytes 8–15       shared: the line wanders from CPU to CPU
line ffff888003a41080   CPU 0: bytes 0–7                           its own
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """What a CPU writes: where, and how many bytes."""

    cpu: int
    address: int
    size: int = 8


def lines_of(variables: tuple[Variable, ...], line: int = 64) -> dict[int, tuple[Variable, ...]]:
    """The cache lines that are written, ascending, with the variables that lie in each.

    >>> lines = lines_of((Variable(0, 0x40), Variable(1, 0x48), Variable(1, 0x80)))
    >>> {start: [variable.cpu for variable in lie] for start, lie in lines.items()}
    {64: [0, 1], 128: [1]}
    """
    found: dict[int, list[Variable]] = {}
    for variable in variables:
        for start in range(variable.address // line * line, variable.address + variable.size, line):
            found.setdefault(start, []).append(variable)
    return {start: tuple(found[start]) for start in sorted(found)}


def shared_lines(variables: tuple[Variable, ...], line: int = 64) -> tuple[int, ...]:
    """The cache lines that more than one CPU writes.

    >>> shared_lines((Variable(0, 0x40), Variable(1, 0x48), Variable(1, 0x80)))
    (64,)
    """
    lines = lines_of(variables, line)
    return tuple(start for start, lie in lines.items() if len({variable.cpu for variable in lie}) > 1)


def false_sharing_text(variables: tuple[Variable, ...], line: int = 64) -> str:
    """Each cache line with who writes what of it, and how many are shared.

    >>> print(false_sharing_text((Variable(0, 0x40), Variable(1, 0x48))))
    line 0000000000000040  CPU 0: bytes 0-7  CPU 1: bytes 8-15  shared
    1 of 1 cache lines of 64 bytes is written by more than one CPU
    """
    shared = shared_lines(variables, line)
    lines = lines_of(variables, line)
    told = []
    for start, lie in lines.items():
        parts = []
        for variable in lie:
            first, last = max(variable.address - start, 0), min(variable.address + variable.size - start, line) - 1
            parts.append(f"CPU {variable.cpu}: bytes {first}-{last}")
        told.append(f"line {start:016x}  {'  '.join(parts)}  {'shared' if start in shared else 'its own'}")
    verb = "is" if len(shared) == 1 else "are"
    told.append(f"{len(shared)} of {len(lines)} cache lines of {line} bytes {verb} written by more than one CPU")
    return "\n".join(told)
