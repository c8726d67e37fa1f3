"""How much of what each real machine showed the model shows, too: never less than was recorded.

python -m tests.machine.test_fidelity     records the scores of today, where they are higher or new
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kmemlab.machine.compare import compare_capture
from kmemlab.types.errors import BadSpec
from tests.boot.captures import ALL, MACHINES

RECORD = MACHINES.parent / "fidelity.json"
RECORDED: dict[str, dict[str, float]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
LEAST_OF_A_MACHINE, LEAST_MEAN = 0.95, 0.99
MORE_MACHINES = MACHINES.parent / "more_machines"
MORE = sorted(path.name for path in MORE_MACHINES.iterdir())


def scores(name: str) -> dict[str, float]:
    """The score of each family of a machine, rounded down."""
    return {family.name: int(family.score * 10**6) / 10**6 for family in compare_capture(MACHINES / name).families}


@pytest.mark.parametrize("name", ALL)
def test_no_family_falls_below_its_record(name: str) -> None:
    try:
        now = scores(name)
    except BadSpec as error:
        assert name not in RECORDED, "a machine that booted is refused"
        pytest.skip(error.what)
    assert name in RECORDED, "a machine without a record: python -m tests.machine.test_fidelity"
    fallen = {family: (was, now.get(family, 0.0)) for family, was in RECORDED[name].items() if now.get(family, 0) < was}
    assert fallen == {}


def test_the_record_is_as_high_as_it_has_to_be() -> None:
    machines = [sum(families.values()) / len(families) for families in RECORDED.values()]
    assert min(machines) >= LEAST_OF_A_MACHINE
    assert sum(machines) / len(machines) >= LEAST_MEAN


@pytest.mark.parametrize("name", MORE)
def test_machines_made_to_find_what_the_others_do_not_show(name: str) -> None:
    """Debian's kernels under QEMU, with shapes and parameters that no formula was worked out from."""
    comparison = compare_capture(MORE_MACHINES / name)
    assert {family.name: family.differences[:5] for family in comparison.families if family.differences} == {}


def record() -> None:
    """Raise the record to the scores of today; a machine that isn't booted yet gets none."""
    kept = dict(RECORDED)
    for name in ALL:
        try:
            now = scores(name)
        except BadSpec as error:
            print(f"{name}: {error.what}")
            continue
        was = kept.get(name, {})
        kept[name] = {family: max(score, was.get(family, 0.0)) for family, score in now.items()}
        print(f"{name}: {sum(now.values()) / len(now):.4f}")
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept))
    Path(RECORD).write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    record()
