"""Wrong answers by the dozen: a right one with one comparison, number, sign or field changed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
OTHER_SIGN: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Div: ast.FloorDiv(), ast.RShift: ast.LShift(), ast.LShift: ast.RShift(),
    ast.BitAnd: ast.BitOr(), ast.BitOr: ast.BitAnd(),
}  # fmt: skip


def changes(node: ast.AST, fields: tuple[str, ...]) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """What one node could be by mistake: in words, and how to make it so."""
    if isinstance(node, ast.Compare):
        for other in COMPARISONS:
            if not isinstance(node.ops[0], other) and isinstance(node.ops[0], COMPARISONS):
                yield other.__name__, lambda found, other=other: found.ops.__setitem__(0, other())
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        for more in (-1, 1):
            yield f"{node.value}{more:+}", lambda found, more=more: setattr(found, "value", found.value + more)
    elif isinstance(node, ast.Constant) and node.value in fields:
        for name in set(fields) - {node.value}:
            yield f"{node.value} is {name}", lambda found, name=name: setattr(found, "value", name)
    elif isinstance(node, ast.BinOp) and type(node.op) in OTHER_SIGN:
        sign = OTHER_SIGN[type(node.op)]
        yield type(sign).__name__, lambda found, sign=sign: setattr(found, "op", sign)
    elif isinstance(node, ast.BoolOp):
        both = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield type(both).__name__, lambda found, both=both: setattr(found, "op", both)
    elif isinstance(node, ast.If):
        for always in (True, False):
            yield f"if {always}", lambda found, always=always: setattr(found, "test", ast.Constant(always))


def mutants(source: str, fields: tuple[str, ...] = ()) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each mutant of the one function in `source`, told by where and how it differs. `fields` may be mixed up."""
    tree = ast.parse(source)
    for at, node in enumerate(ast.walk(tree)):
        for told, change in changes(node, fields):
            mutant = deepcopy(tree)
            found = list(ast.walk(mutant))[at]
            change(found)
            line, column = source.splitlines()[getattr(node, "lineno", 1) - 1], getattr(node, "col_offset", 0)
            yield f"{line[column:]} │ {told}", function_of(ast.fix_missing_locations(mutant))


def function_of(source: str | ast.Module) -> Callable[..., Any]:
    """The one function that a source defines."""
    names: dict[str, Any] = {}
    exec(compile(source, "answer", "exec"), names)
    return next(value for name, value in names.items() if callable(value) and not name.startswith("__"))
