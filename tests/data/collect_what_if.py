"""Copy what each turned knob did to a captured machine.

    collect_what_if.py CAPTURES

CAPTURES holds one folder a machine, each with what_if/N_name/zoneinfo.txt: the state after one knob more was turned.
what_if.json gets, for every machine of kernel 6.1 and each of these steps,

    min_free_kbytes     where it was saved
    zones               {"node/zone": [min, low, high, [protection], [[high, batch] a CPU]]} of zones with memory;
                        the marks without the zone's momentary boost

Steps with equal zones name the first of them instead.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parent / "what_if.json"


def zones_of(zoneinfo: str) -> dict[str, list[Any]]:
    """Watermarks, protection and limits of the per-CPU lists of each zone that has memory."""
    found: dict[str, list[Any]] = {}
    for part in re.split(r"^(?=Node )", zoneinfo, flags=re.MULTILINE)[1:]:
        head = re.match(r"Node (\d+), zone +(\S+)", part)
        assert head
        if re.search(r"^ +present +0$", part, re.MULTILINE):
            continue
        number = {
            name: int(re.search(rf"^ +{name} +(\d+)$", part, re.MULTILINE)[1])
            for name in ("boost", "min", "low", "high")
        }  # type: ignore[index]
        marks = [number[name] - number["boost"] for name in ("min", "low", "high")]
        protection = [int(word) for word in re.search(r"protection: \((.*)\)", part)[1].split(", ")]  # type: ignore[index]
        limits = [[int(high), int(batch)] for high, batch in re.findall(r"high: +(\d+)\s+batch: +(\d+)", part)]
        found[f"{head[1]}/{head[2]}"] = [*marks, protection, limits]
    return found


def steps_of(folder: Path) -> dict[str, Any]:
    """Every step of a machine, in order."""
    steps: dict[str, Any] = {}
    for step in sorted((folder / "what_if").iterdir()):
        kept: dict[str, Any] = {"zones": zones_of((step / "zoneinfo.txt").read_text())}
        knobs = step / "sys_vm.txt"
        if knobs.exists():
            kept["min_free_kbytes"] = int(re.search(r"^min_free_kbytes: (\d+)", knobs.read_text(), re.MULTILINE)[1])  # type: ignore[index]
        same = next((name for name, other in steps.items() if other["zones"] == kept["zones"]), None)
        steps[step.name] = {**kept, "zones": same} if same else kept
    return steps


def main(captures: Path) -> int:
    """Collect every machine of kernel 6.1."""
    machines = {}
    for folder in sorted(path for path in captures.iterdir() if (path / "what_if").is_dir()):
        if json.loads((folder / "hardware.json").read_text())["kernel"].endswith("-6.1"):
            machines[folder.name] = steps_of(folder)
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(machines[name], separators=(',', ':'))}" for name in machines)
    KEPT.write_text(f"{{\n{lines}\n}}\n")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1])))
