"""What a newcomer copies works: exact versions without an address, one test command, licences in place."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    odd = [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line)]
    assert odd == [], "exact versions only: no address, no option"
    return {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in pins}


def test_every_dependency_is_pinned_within_its_range() -> None:
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = pinned()
    for extra, needs in project["optional-dependencies"].items():
        for need in map(requirements.Requirement, needs):
            if need.name != "kmemlab":
                version = pins.get(need.name.lower().replace("_", "-"))
                assert version is not None, f"{need.name} of [{extra}] is not in constraints.txt"
                assert need.specifier.contains(version, prereleases=True), f"{need} is pinned to {version}"


def test_test_holds_lab() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "kmemlab[lab]" in project["optional-dependencies"]["test"]


def test_the_wheel_ships_lectures_and_exercises_but_no_solutions() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert wheel["only-include"] == ["kmemlab", "notebooks", "exercises"]
    assert wheel["sources"] == {"notebooks": "kmemlab/_course/notebooks", "exercises": "kmemlab/_course/exercises"}


def test_the_licences_are_there() -> None:
    assert "GNU GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "https://creativecommons.org/licenses/by-sa/4.0/" in (ROOT / "LICENSE-TEXT").read_text(encoding="utf-8")


def test_ci_run_is_a_shell_script_that_can_be_run() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.skipif(not README.exists(), reason="an installed package has no README")
def test_the_readme_holds_one_test_command_where_ci_looks_for_it() -> None:
    text = README.read_text(encoding="utf-8")
    marked = re.findall(r"<!-- test command -->\n```\w*\n(.*?)\n```\n<!-- end of test command -->", text, re.DOTALL)
    assert len(marked) == 1
    assert "\n" not in marked[0]
    assert "constraints.txt" in marked[0]
    assert "[test]" in marked[0]
    assert "pytest" in marked[0]
