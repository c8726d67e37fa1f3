"""The ledger: each early reservation of every captured machine, in its order and at its address."""

from __future__ import annotations

import re

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from tests.boot.captures import ALL, MACHINES, expected

# Who asks is named differently here and there: by return addresses in C.
REQUEST = re.compile(r"(memblock_(?:add|reserve|remove|phys_free): \[0x[0-9a-f]+-0x[0-9a-f]+\])")


def requests(lines: list[str] | tuple[str, ...]) -> list[str]:
    return [found[1] for found in map(REQUEST.match, lines) if found]


@pytest.mark.parametrize("name", [name for name in ALL if load_spec(MACHINES / name).kernel.endswith("-6.1")])
def test_every_reservation_lies_where_linux_put_it(name: str) -> None:
    kernel = Kernel(load_spec(MACHINES / name / "hardware.json"))
    start_kernel(kernel, "mem_init_print_info")
    real = requests(expected(name)["dmesg"])
    assert len(real) > 45
    for nth, (mine, theirs) in enumerate(zip(requests(kernel.printk_lines), real, strict=True)):
        assert mine == theirs, f"request {nth}"
    memory = [line for line in expected(name)["dmesg"] if line.startswith("Memory: ")]
    assert [line for line in kernel.printk_lines if line.startswith("Memory: ")] == memory
