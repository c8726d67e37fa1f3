"""A machine's description from what a running Linux shows: texts that were copied badly are told, by their file."""

from __future__ import annotations

import pytest

from kmemlab.machine.compare import Comparison
from kmemlab.machine.spec_of_texts import cpu_list, cpus_of_texts, listed
from kmemlab.machine.zoneinfo_text import parse_zoneinfo
from kmemlab.types.errors import BadCapture

ONLINE = "/sys/devices/system/cpu/online"


def test_lists_of_cpus() -> None:
    assert listed("0-3,8\n") == [0, 1, 2, 3, 8]
    assert cpu_list({ONLINE: " 0-1\n"}, ONLINE) == [0, 1]
    assert cpu_list({}, ONLINE) == []


@pytest.mark.parametrize(
    "text", ["abc", "²", "> 0", "<pre>0-1</pre>", "0-1\n0-1\n", "9" * 5000, "0-9999999999", "-1", "1,"]
)
@pytest.mark.parametrize("path", [ONLINE, "/sys/devices/system/cpu/possible", "/sys/devices/system/node/node0/cpulist"])
def test_what_is_no_list_of_cpus_is_told(path: str, text: str) -> None:
    with pytest.raises(BadCapture, match="no list of CPUs") as told:
        cpus_of_texts({path: text})
    assert path in str(told.value)


def test_where_nothing_can_be_compared_there_is_no_score() -> None:
    with pytest.raises(BadCapture, match="nothing that could be compared"):
        Comparison("mine", "6.1", (), ())


@pytest.mark.parametrize("digits", [19, 5000])
def test_numbers_that_no_machine_has(digits: int) -> None:
    with pytest.raises(BadCapture, match=f"{digits} digits"):
        parse_zoneinfo(f"Node 0, zone      DMA\n  pages free     {'9' * digits}\n        present  3998\n")
