"""The reader's own machine: described by what it shows, booted, and compared; real machines stand for the reader's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kmemlab.course.own_machine import by_zones, own_machine, possible_sizes
from kmemlab.course.your_machine import FILES, YourMachine, shipped, your_machine
from kmemlab.machine.spec_of_texts import spec_of_zones
from kmemlab.machine.zoneinfo_text import parse_zoneinfo
from kmemlab.types.errors import BadCapture, BadRequest
from tests.boot.captures import ALL, MACHINES, saved

# The initrd lay in the first zone of the second node: how much came back there, no row of zoneinfo tells.
SECOND_NODE = {"amd64-numa2-4g-4cpu"}
# Pages of 1 GiB were missing while Linux worked its reserves out: zoneinfo doesn't tell of them.
GIGANTIC = {name for name in ALL if "hugepagesz" in name}


def shown(name: str) -> dict[str, str]:
    """What an ordinary user of a real machine could read, addresses hidden."""
    described = json.loads((MACHINES / name / "hardware.json").read_text())
    cpus = described["cpus"]
    texts = {
        "/proc/zoneinfo": saved(name, "zoneinfo.txt"),
        "/proc/cpuinfo": f"flags\t\t: {' '.join(cpus['flags'])}\n",
        "/sys/devices/system/cpu/online": f"0-{cpus['present'] - 1}\n",
    }
    for node in set(cpus["node_of"].values()):
        own = ",".join(cpu for cpu, at in cpus["node_of"].items() if at == node)
        texts[f"/sys/devices/system/node/node{node}/cpulist"] = f"{own}\n"
    found = re.search(r"^min_free_kbytes: (\d+)$", saved(name, "sys_vm.txt"), re.M)
    if found:
        texts["/proc/sys/vm/min_free_kbytes"] = f"{found[1]}\n"
    return texts


def nearly(linux: str, model: str) -> bool:
    """Whether the last numbers of two facts differ by less than a hundredth."""
    one, other = (int(re.findall(r"\d+", fact)[-1]) for fact in (linux, model))
    return abs(one - other) * 100 < one


@pytest.mark.parametrize("name", [name for name in ALL if "fake" not in name])
def test_from_its_zones_alone_the_model_agrees_with_every_real_machine(name: str) -> None:
    families = own_machine(your_machine(pasted=shown(name))).comparison.families
    differ = [pair for family in families for pair in family.differences]
    if name in GIGANTIC:
        differ = [pair for pair in differ if "protection" not in pair.linux]
    if name in SECOND_NODE:
        differ = [pair for pair in differ if not nearly(pair.linux, pair.model)]
    assert differ == []
    assert {family.name for family in families} == {"zone.watermarks", "zone.pcp"}


def test_what_was_given_is_not_counted() -> None:
    found = own_machine(your_machine(pasted=shown("amd64-1g")))
    assert "the sizes of the zones" in found.given
    assert not any(family.name == "zone.size" for family in found.comparison.families)


def test_a_wrong_watermark_is_found() -> None:
    texts = shown("amd64-2g-2cpu")
    low = re.search(r"low +(\d{4,})", texts["/proc/zoneinfo"])
    assert low is not None
    texts["/proc/zoneinfo"] = texts["/proc/zoneinfo"].replace(low[0], low[0].replace(low[1], str(int(low[1]) + 300)))
    found = own_machine(your_machine(pasted=texts))
    assert [pair.linux for family in found.comparison.families for pair in family.differences] == [
        f"0/DMA32 low {int(low[1]) + 300}"
    ]


def test_the_shipped_machine_is_rebuilt_from_its_map() -> None:
    found = own_machine(shipped())
    assert found.comparison.agrees
    assert {family.name for family in found.comparison.families} >= {"zone.size", "dmesg.zones", "iomem", "meminfo"}
    assert "the firmware's map" in found.text()


def test_the_spec_made_from_zones_has_these_zones() -> None:
    text = saved("amd64-4g-2cpu", "zoneinfo.txt")
    from kmemlab import Machine

    zones = parse_zoneinfo(text)
    machine = Machine.boot(spec_of_zones(zones, {}))
    for told in zones:
        if told.fields["present"]:
            zone = machine.zone(told.name, told.node)
            sizes = {"spanned": zone.spanned_pages, "present": zone.present_pages, "start_pfn": zone.zone_start_pfn}
            assert sizes == {key: told.fields[key] for key in sizes}


def test_every_try_lies_between_what_was_and_what_is() -> None:
    zones = parse_zoneinfo(saved("amd64-4g-2cpu", "zoneinfo.txt"))
    tries = list(possible_sizes(zones))
    now, least = tries[0], tries[-1]
    assert len(tries) == 2 + 2 * sum(a != b for a, b in zip(now, least, strict=True))
    assert all(b <= x <= a for row in tries for a, x, b in zip(now, row, least, strict=True))
    # From 1 page to an initrd and boot's own code: never more than a few per cent of this machine.
    assert all(0 <= a - b < a / 20 + 256 for a, b in zip(now, least, strict=True))


OLD = """Node 0, zone      DMA
  pages free     3977
        min      67
        low      83
        high     99
        node_scanned  0
        spanned  4095
        present  3998
        managed  3977
        frobnicated 12
        protection: (0, 2966, 31947, 31947)
  pagesets
    cpu: 0
              count: 0
              high:  0
              batch: 1
  vm stats threshold: 6
  node_unreclaimable:  0
  start_pfn:           1
"""


def test_fields_that_we_do_not_know_are_kept() -> None:
    zone = parse_zoneinfo(OLD)[0]
    assert zone.fields["frobnicated"] == 12
    assert zone.fields["start_pfn"] == 1
    assert zone.protection == (0, 2966, 31947, 31947)
    assert zone.cpus[0]["batch"] == 1
    assert zone.missing == ()


def test_fields_that_are_missing_are_named() -> None:
    text = OLD.replace("        managed  3977\n", "")
    assert parse_zoneinfo(text)[0].missing == ("managed",)
    with pytest.raises(BadCapture, match="its managed is not told"):
        by_zones(your_machine(pasted={"/proc/zoneinfo": text}))


@pytest.mark.parametrize("text", ["hello", "", "Node x, zone DMA\n", "Node 0, zone DMA\n"])
def test_what_is_no_zoneinfo_is_told(text: str) -> None:
    with pytest.raises((BadCapture, BadRequest)):
        own_machine(your_machine(pasted={"/proc/zoneinfo": text}))


def test_with_nothing_at_all_the_reader_is_told_what_to_paste() -> None:
    with pytest.raises(BadRequest, match="neither a map of memory nor"):
        own_machine(your_machine(pasted={}))


def test_hidden_files_are_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "zoneinfo").write_text(OLD)
    (tmp_path / "proc" / "iomem").write_text("00000000-00000000 : System RAM\n")
    hidden = YourMachine("a computer", tmp_path).hidden()
    assert "/proc/zoneinfo" not in hidden
    assert hidden["/proc/iomem"] == "all addresses are 0: only root is told the true ones"
    assert hidden["/proc/slabinfo"] == "there is no such file here"
    assert set(hidden) <= set(FILES)
    assert shipped().hidden() == {}


def test_the_configuration_of_the_kernel() -> None:
    assert shipped().config()["CONFIG_SPARSEMEM_VMEMMAP"] == "y"
    assert your_machine(pasted={}).config() == {}
