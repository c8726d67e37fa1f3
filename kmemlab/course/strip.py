"""Takes the answer out of a cell and leaves a placeholder, so that the cell still runs and only its check fails.

def expand(zone, pfn, low, high, migratetype):        def expand(zone, pfn, low, high, migratetype):
    ### BEGIN SOLUTION                                    # Your answer goes here, in place of the next line.
    while high > low:                          ──▶        return ...
        …
    ### END SOLUTION
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from kmemlab.course.notebook import BadNotebook

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
INVITATION = "# Your answer goes here, in place of the next line."

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def has_answer(source: str) -> bool:
    """Whether a cell's source marks an answer."""
    return any(line.strip() in (BEGIN, END) for line in source.splitlines())


def strip_answers(source: str, wanted: Collection[str] = ()) -> str:
    """The source with a placeholder in the place of each answer.

    Inside a function the placeholder returns `...`; outside, each name that the answer would set is set to `...`:
    `check` takes both for "not solved yet". Where some of these names are `wanted`, the others are the answer's own
    business: a placeholder for them would give away how it goes.

    Raises `BadNotebook` when the marks don't pair or the result isn't Python.

    >>> print(strip_answers('''### BEGIN SOLUTION
    ... last_pfn = end >> 12
    ... ### END SOLUTION'''))
    # Your answer goes here, in place of the next line.
    last_pfn = ...
    """
    tree = _parse(source, "as it is")
    lines = source.splitlines()
    stripped: list[str] = []
    kept_from = 0
    for first, last in answers(source):
        indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
        if not any(line.strip() and not line.strip().startswith("#") for line in lines[first + 1 : last]):
            raise BadNotebook(
                f"the answer at line {first + 1} is empty", remedy=f"write it between {BEGIN!r} and {END!r}"
            )
        stripped += lines[kept_from:first]
        stripped += [f"{indent}{line}" for line in [INVITATION, *_placeholders(tree, first + 1, last + 1, wanted)]]
        kept_from = last + 1
    result = "\n".join(stripped + lines[kept_from:])
    _parse(result, "without its answer")
    return result


def answers(source: str) -> Iterator[tuple[int, int]]:
    """The lines, counted from 0, of each pair of marks."""
    began: int | None = None
    for number, line in enumerate(source.splitlines()):
        if line.strip() == BEGIN:
            if began is not None:
                raise BadNotebook(f"a second {BEGIN!r} at line {number + 1}, before {END!r}")
            began = number
        elif line.strip() == END:
            if began is None:
                raise BadNotebook(f"an {END!r} at line {number + 1} without {BEGIN!r}")
            yield began, number
            began = None
    if began is not None:
        raise BadNotebook(f"a {BEGIN!r} at line {began + 1} without {END!r}")


def _placeholders(tree: ast.Module, first: int, last: int, wanted: Collection[str]) -> list[str]:
    """What stands in for the statements between two lines (counted from 1)."""
    scope = _scope_around(tree, first)
    if isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ["return ..."]
    names = dict.fromkeys(name for name in _names_set(scope, first, last) if not name.startswith("_"))
    asked = [name for name in names if name in wanted] or names
    return [f"{name} = ..." for name in asked] or ["..."]


def _scope_around(tree: ast.Module, line: int) -> ast.AST:
    """The innermost function or class that goes on past the line, else the cell."""
    innermost: ast.AST = tree
    for node in ast.walk(tree):  # breadth first: an inner scope comes later
        if isinstance(node, _SCOPES) and node.lineno < line < (node.end_lineno or 0):
            innermost = node
    return innermost


def _names_set(node: ast.AST, first: int, last: int) -> Iterator[str]:
    """The names that the lines set in this scope: by assignment, def or class, in their order."""
    for child in ast.iter_child_nodes(node):
        within = first < getattr(child, "lineno", 0) < last
        if isinstance(child, _SCOPES):
            if within:
                yield child.name
        elif isinstance(child, (ast.Assign, ast.AnnAssign)) and within:
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from (
                n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            )
        else:
            yield from _names_set(child, first, last)


def _parse(source: str, state: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise BadNotebook(
            f"the answer's cell, {state}, is not Python: {error.msg} at line {error.lineno}",
            remedy="an answer's cell holds plain Python, without magics",
        ) from None
