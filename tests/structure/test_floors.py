"""The floors hold: imports go down only, never in a circle, and the simulator needs nothing but Python."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kmemlab"
FLOORS = (
    "types", "sim", "hardware", "boot", "mm", "reclaim", "alloc", "process", "machine", "views", "course", "cli",
)  # fmt: skip
ABOVE_ALL = ("__main__",)


def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(path: Path, known: dict[str, Path], *, typing_only: bool) -> Iterator[str]:
    """The modules of kmemlab that a file imports, within functions too; those under TYPE_CHECKING on demand."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {id(inner) for node in ast.walk(tree) if is_type_checking(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped and not typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def floor(module: str) -> int:
    parts = module.split(".")
    if len(parts) == 1:
        return -1  # the package itself, seen from below: its version
    return len(FLOORS) if parts[1] in ABOVE_ALL else FLOORS.index(parts[1])


def test_every_room_is_on_a_floor() -> None:
    strays = {name.split(".")[1] for name in modules() if "." in name} - {*FLOORS, *ABOVE_ALL}
    assert strays == set()


def test_imports_go_down_only() -> None:
    known = modules()
    upwards = [
        f"{name} imports {other}"
        for name, path in known.items()
        if name != "kmemlab"  # it only passes on, when asked, what a notebook needs most
        for other in imported(path, known, typing_only=True)
        if floor(other) > floor(name)
    ]
    assert upwards == []


def test_no_room_goes_through_the_front_door() -> None:
    taken = set()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "kmemlab":
                taken |= {alias.name for alias in node.names}
    rooms = {name.split(".")[1] for name in modules() if "." in name}
    assert taken - rooms <= {"__version__"}


def test_nothing_is_imported_by_a_relative_path() -> None:
    for path in modules().values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level], path


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of the graph, or nothing."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            found = visit(other, [*trail, name])
            if found:
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        found = visit(name, [])
        if found:
            return found
    return []


def test_imports_never_go_in_a_circle() -> None:
    known = modules()
    graph = {name: set(imported(path, known, typing_only=False)) - {name, "kmemlab"} for name, path in known.items()}
    assert circle(graph) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_the_base_package_has_no_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == []
    assert set(project["optional-dependencies"]) >= {"lab", "test"}


def test_each_dependency_says_why_it_is_there() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    needs = [line for line in lines if line.startswith('  "') and line.rstrip().split("#")[0].rstrip().endswith('",')]
    silent = [line for line in needs if "#" not in line]
    assert len(needs) > 10
    assert silent == []


@pytest.mark.parametrize("first", ["kmemlab.sim.kernel", "kmemlab.cli", "kmemlab.course"])
def test_the_simulator_and_the_command_line_load_with_the_standard_library_alone(first: str) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import importlib
importlib.import_module({first!r})
from kmemlab.sim.kernel import load_all
load_all()
foreign = {{name.split(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names) - {{"kmemlab", "__main__"}}
print(sorted(foreign))
"""
    # -S leaves out site-packages, so a needed third-party module would be an error, not only a finding.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
