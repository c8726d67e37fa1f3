"""Machine descriptions: those that come with the package, real ones, and malformed ones."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from kmemlab.hardware.spec import MachineSpec, load_spec, preset_names
from kmemlab.types.errors import BadSpec

MACHINES = Path(__file__).parent.parent / "data" / "machines"


@pytest.mark.parametrize("name", preset_names())
def test_presets(name: str) -> None:
    spec = load_spec(name)
    assert spec.name == name
    assert hash(spec) == hash(load_spec(name))
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert repr(spec) == repr(load_spec(name))
    assert load_spec(spec) is spec


@pytest.mark.parametrize("folder", sorted(MACHINES.iterdir()), ids=lambda folder: folder.name)
def test_every_key_of_a_real_machine_is_kept(folder: Path) -> None:
    told = json.loads((folder / "hardware.json").read_text())
    spec = load_spec(folder / "hardware.json")
    assert spec == load_spec(folder) == load_spec(str(folder / "hardware.json")) == load_spec(told)
    assert [(entry.start, entry.end) for entry in spec.e820] == [(start, end) for start, end, _ in told["e820"]]
    assert list(spec.initrd or ()) == told["initrd"]
    assert [[table.name, table.start, table.end] for table in spec.acpi_tables] == told["acpi_tables"]
    assert [list(row) for row in spec.smp_table] == told["smp_table"]
    assert [[row.node, row.start, row.end] for row in spec.numa.nodes] == told["numa"]["nodes"]
    assert [[row.node, row.start, row.end] for row in spec.numa.hotplug] == told["numa"]["hotplug"]
    assert [list(row) for row in spec.numa.slit] == told["numa"]["slit"]
    assert {str(cpu): node for cpu, node in enumerate(spec.cpus.node_of)} == told["cpus"]["node_of"]
    assert list(spec.cpus.flags) == told["cpus"]["flags"]
    image = told["image"]
    assert [list(getattr(spec.image, part)) for part in ("code", "rodata", "data", "bss", "brk")] == [
        image[part] for part in ("code", "rodata", "data", "bss", "brk")
    ]
    assert spec.image.kib.bss == image["kib"]["bss"]
    assert [list(row) for row in spec.dimms] == told["dimms"]
    for key in ("name", "arch", "kernel", "kernel_version", "firmware", "cmdline", "ioapics", "hpet"):
        assert getattr(spec, key) == told[key]


def test_only_e820_is_needed() -> None:
    assert load_spec({"e820": []}) == MachineSpec("custom", ())


RAM = [0, 0x9FBFF, "usable"]
BAD: list[tuple[Any, str, str]] = [
    ({}, "'e820' is missing", ""),
    ({"e820": None}, "e820 must be a list, not null", "e820"),
    ({"e820": {"0": RAM}}, "e820 must be a list, not an object", "e820"),
    ({"e820": [RAM, [1, 2]]}, "e820[1] must have 3 items, not 2", "e820[1]"),
    ({"e820": [RAM, RAM, [0, "0x1000", "usable"]]}, "must be a whole number, not a string", "e820[2][1]"),
    ({"e820": [RAM, [0.5, 1, "usable"]]}, "must be a whole number, not a fraction", "e820[1][0]"),
    ({"e820": [[True, 1, "usable"]]}, "must be a whole number, not true or false", "e820[0][0]"),
    ({"e820": [[-1, 1, "usable"]]}, "is -1, outside", "e820[0][0]"),
    ({"e820": [[0, 1 << 64, "usable"]]}, "outside", "e820[0][1]"),
    ({"e820": [[0, 1, "good"]]}, "'good' is no type", "e820[0][2]"),
    ({"e820": [[0, 1, 1]]}, "must be a string, not a number", "e820[0][2]"),
    ({"e820": [], "cmdline": 5}, "cmdline must be a string", "cmdline"),
    ({"e820": [], "arch": "arm64"}, "none of x86_64, i386", "arch"),
    ({"e820": [], "firmware": "coreboot"}, "none of BIOS, UEFI", "firmware"),
    ({"e820": [], "initrd": [5000, 10]}, "below its start", "initrd[1]"),
    ({"e820": [], "cpus": {"present": 0}}, "outside 1", "cpus.present"),
    ({"e820": [], "cpus": {"node_of": {"3": 0}}}, "'3' is no CPU", "cpus.node_of.3"),
    ({"e820": [], "cpus": {"flags": "fpu pae"}}, "must be a list", "cpus.flags"),
    ({"e820": [], "numa": {"slit": [[10, 20]]}}, "not square", "numa.slit"),
    ({"e820": [], "numa": {"nodes": [[0, 4096]]}}, "must have 3 items", "numa.nodes[0]"),
    ({"e820": [], "image": {"code": [1]}}, "must have 2 items", "image.code"),
    ({"e820": [], "hpet": 1}, "must be true or false", "hpet"),
    ({"e820": [], "e801": {"ax": 70000}}, "outside", "e801.ax"),
    ({"e820": [], "e88": "lots"}, "must be a whole number", "e88"),
    ({"e820": [], "int15": {"e820": [{"buffer": "xyz"}]}}, "no hexadecimal digit", "int15.e820[0].buffer"),
    ({"e820": [], "int15": {"e820": [{"carry": 1}]}}, "must be true or false", "int15.e820[0].carry"),
    ([], "the file must be an object, not a list", ""),
]


@pytest.mark.parametrize(("machine", "what", "place"), BAD, ids=lambda value: str(value)[:40])
def test_malformed_machines(machine: Any, what: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(machine))
    with pytest.raises(BadSpec) as error:
        load_spec(file)
    assert what in error.value.what
    assert error.value.where == (f"{file}: {place}" if place else str(file))
    assert error.value.remedy


def test_no_json(tmp_path: Path) -> None:
    file = tmp_path / "hardware.json"
    file.write_text('{\n "e820": [,]\n}\n')
    with pytest.raises(BadSpec, match="this is no JSON") as error:
        load_spec(file)
    assert error.value.where == f"{file}, line 2, column 11"


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="can't read this file: No such file"):
        load_spec(tmp_path / "nowhere.json")
    binary = tmp_path / "hardware.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadSpec, match="this file is no text"):
        load_spec(tmp_path)


def test_unknown_preset() -> None:
    with pytest.raises(BadSpec, match="no such preset: 'laptop-9g'") as error:
        load_spec("laptop-9g")
    assert "laptop-8g" in error.value.remedy


def test_something_else_altogether() -> None:
    with pytest.raises(BadSpec, match="can't be described by a int"):
        load_spec(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "key", "remedy"),
    [
        ({"e820": [], "E820": []}, "E820", "'e820'"),
        ({"e820": [], "foo": 1}, "foo", "the keys here are name, e820"),
        ({"e820": [], "cpus": {"presnt": 1}}, "presnt", "'present'"),
        ({"e820": [], "image": {"kib": {"kode": 1}}}, "kode", "'code'"),
        ({"e820": [], 5: 1}, "5", "the keys here are"),
    ],
)
def test_a_key_that_nobody_would_read_is_refused(spec: dict[str, object], key: str, remedy: str) -> None:
    with pytest.raises(BadSpec, match=f"there is no key '{key}'") as told:
        load_spec(spec)
    assert remedy in told.value.remedy


def test_a_key_twice_and_a_number_of_thousands_of_digits(tmp_path: Path) -> None:
    file = tmp_path / "hardware.json"
    file.write_text('{"e820": [], "e820": []}')
    with pytest.raises(BadSpec, match="'e820' stands there twice"):
        load_spec(file)
    file.write_text('{"e820": [[0, ' + "9" * 5000 + ', "usable"]]}')
    with pytest.raises(BadSpec, match="thousands of digits"):
        load_spec(file)
