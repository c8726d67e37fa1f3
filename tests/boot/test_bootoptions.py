"""The command line's copies, what is handed on to process 1, and the size of the log."""

from __future__ import annotations

from typing import Any

import pytest

from kmemlab.boot.bootoptions import print_unknown_bootoptions, setup_command_line
from kmemlab.boot.cmdline import parse_early_param
from kmemlab.boot.globals import Boot
from kmemlab.boot.log_buf import setup_log_buf
from kmemlab.boot.memblock import memblock_add, memblock_init
from kmemlab.hardware.spec import load_spec

MIB = 1 << 20


def machine(cmdline: str, **more: Any) -> Boot:
    boot = Boot(load_spec({"e820": [], "cmdline": f"{cmdline} memblock=debug", **more}))
    memblock_init(boot.memblock)
    memblock_add(boot.memblock, 0, 64 * MIB)
    parse_early_param(boot)
    return boot


def sizes(boot: Boot) -> list[int]:
    """The requests, in order."""
    return [int(line.split()[1]) for line in boot.printk.lines() if line.startswith("memblock_alloc_try_nid:")]


@pytest.mark.parametrize(
    ("cmdline", "told"),
    [
        ("nokaslr", "nokaslr"),
        ("nokaslr no5lvl quiet mem=1G", "nokaslr no5lvl"),
        # Words without a value go to process 1, the others to its environment; there the last of two holds.
        ("single a=1 TERM=vt100 b=2 a=3 splash -- nokaslr", "single splash a=3 b=2"),
        ("kvm.halt=1 page-alloc.shuffle", ""),
        ("initcall-debug", ""),
    ],
)
def test_unknown_parameters(cmdline: str, told: str) -> None:
    boot = machine("quiet")
    boot = Boot(load_spec({"e820": [], "cmdline": cmdline}), printk=boot.printk)
    memblock_init(boot.memblock)
    memblock_add(boot.memblock, 0, 64 * MIB)
    boot.memblock.debug = 1
    print_unknown_bootoptions(boot)
    said = [line for line in boot.printk.lines() if line.startswith("Unknown")]
    if not told:
        assert said == []
        assert sizes(boot) == []
        return
    assert said == [f'Unknown kernel command line parameters "{told}", will be passed to user space.']
    assert sizes(boot) == [len(told) + 2]
    assert boot.memblock.reserved.regions() == ()


def test_the_command_line_is_kept_twice() -> None:
    boot = machine("quiet")
    setup_command_line(boot)
    assert sizes(boot) == [len("quiet memblock=debug") + 1] * 2


@pytest.mark.parametrize(
    ("cmdline", "cpus", "early", "late"),
    [
        ("", 1, [], []),
        ("log_buf_len=64K", 17, [], []),
        ("", 17, [], []),
        ("", 18, [], [256 << 10, 196608, 720896]),
        ("log_buf_len=4M", 64, [4194304, 3145728, 11534336], []),
        ("log_buf_len=3M", 1, [4194304, 3145728, 11534336], []),
        ("log_buf_len=many", 1, [], []),
    ],
)
def test_log_buf_len(cmdline: str, cpus: int, early: list[int], late: list[int]) -> None:
    boot = machine(cmdline, cpus={"present": 1, "possible": cpus})
    setup_log_buf(boot, 1)
    assert sizes(boot) == early
    setup_log_buf(boot, 0)
    assert sizes(boot) == early + late


def test_a_log_that_does_not_fit_takes_nothing() -> None:
    boot = machine("log_buf_len=32M")
    setup_log_buf(boot, 1)
    assert boot.memblock.reserved.regions() == ()
    assert boot.printk.lines()[-1].startswith("memblock_phys_free")
    assert "printk: log_buf_len: 92274688 info bytes not available" in boot.printk.lines()
