"""The prose of the lectures and solutions can't lie: what it claims is evaluated where it stands, in a run of its own.

A markdown cell lists its claims in its metadata, as expressions over the notebook's own variables and the package's
names: {"kmemlab": {"claims": ["len(firmware) == 18"]}}.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from kmemlab.course.notebook import Notebook, read
from kmemlab.course.run import execute

ROOT = Path(__file__).parents[2]
NOTEBOOKS = [path for folder in ("notebooks", "solutions") for path in sorted((ROOT / folder).glob("*.ipynb"))]
MARK = "claims of a notebook: "

LIBRARY = """\
def _kmemlab_claims(claims):
    import json, sys
    from kmemlab.sim.kernel import load_all
    load_all()
    names = {}
    for module in [m for name, m in sys.modules.items() if name.startswith("kmemlab.")]:
        names.update({name: value for name, value in vars(module).items() if not name.startswith("_")})
    names.update(globals())
    found = []
    for claim in claims:
        try:
            found.append([claim, "" if eval(claim, names) else _kmemlab_sides(claim, names)])
        except Exception as error:
            found.append([claim, f"{type(error).__name__}: {error}"])
    print("MARK" + json.dumps(found))

def _kmemlab_sides(claim, names):
    import ast
    tree = ast.parse(claim, mode="eval").body
    parts = [tree.left, *tree.comparators] if isinstance(tree, ast.Compare) else [tree]
    return " / ".join(repr(eval(ast.unparse(part), names)) for part in parts)
""".replace("MARK", MARK)


def claims_of(cell: dict[str, Any]) -> list[str]:
    return list(cell["metadata"].get("kmemlab", {}).get("claims", []))


def code(source: str, number: int) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": f"claims-{number}",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


def broken_claims(notebook: Notebook, path: Path) -> list[str]:
    """Each claim that doesn't hold, with both sides; a claim is evaluated right behind the cell that makes it."""
    cells = [code(LIBRARY, 0)]
    for number, cell in enumerate(notebook["cells"], 1):
        cells.append(cell)
        if claims_of(cell):
            cells.append(code(f"_kmemlab_claims({claims_of(cell)!r})", number))
    ran = execute({**notebook, "cells": cells}, path, 60)
    found = []
    for cell in ran["cells"]:
        for output in cell.get("outputs", []):
            for line in output.get("text", "").splitlines():
                if line.startswith(MARK):
                    found += [f"{claim}: {wrong}" for claim, wrong in json.loads(line[len(MARK) :]) if wrong]
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_claim_holds(path: Path) -> None:
    notebook = read(path)
    if not any(claims_of(cell) for cell in notebook["cells"]):
        pytest.skip("it claims nothing")
    assert broken_claims(notebook, path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_claims_are_comparisons_or_at_least_expressions(path: Path) -> None:
    for cell in read(path)["cells"]:
        assert not (cell["cell_type"] != "markdown" and claims_of(cell)), "claims belong to text"
        for claim in claims_of(cell):
            assert not isinstance(ast.parse(claim, mode="eval").body, ast.Constant), f"{claim!r} claims nothing"


def test_a_false_claim_and_a_broken_one_are_found(tmp_path: Path) -> None:
    text = {"cell_type": "markdown", "id": "text", "source": "Two and two are five."}
    claims = {"kmemlab": {"claims": ["two + two == 5", "two + two == 4", "no_such_name == 1", "PAGE_SIZE == 4096"]}}
    later = code("two = 3", 99)
    notebook = {"cells": [code("two = 2", 98), {**text, "metadata": claims}, later], "metadata": {}, "nbformat": 4}
    found = broken_claims({**notebook, "nbformat_minor": 5}, tmp_path / "false.ipynb")
    assert found == [
        "two + two == 5: 4 / 5",
        "no_such_name == 1: NameError: name 'no_such_name' is not defined",
    ]
