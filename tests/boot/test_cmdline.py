"""The command line: how it is cut up, and who hears of what."""

from __future__ import annotations

import pytest

from kmemlab.boot.cmdline import cmdline_find_option, next_arg, parameq, parse_early_param
from kmemlab.boot.globals import Boot
from kmemlab.hardware.spec import load_spec


@pytest.mark.parametrize(
    ("cmdline", "found"),
    [
        ("", []),
        ("   ", []),
        ("a  b=1\tc=", [("a", None), ("b", "1"), ("c", "")]),
        ('a="b c" d', [("a", "b c"), ("d", None)]),
        ('"a=b c" d', [("a", "b c"), ("d", None)]),
        ('a="b c', [("a", "b c")]),
        ("a=b=c", [("a", "b=c")]),
    ],
)
def test_next_arg(cmdline: str, found: list[tuple[str, str | None]]) -> None:
    assert list(next_arg(cmdline)) == found


def test_names() -> None:
    assert parameq("init-on_alloc", "init_on-alloc")
    assert not parameq("mem", "memmap")


def test_find_option() -> None:
    assert cmdline_find_option("numa=off x", "numa") == "off"
    assert cmdline_find_option("x numa", "numa") == ""
    assert cmdline_find_option("x", "numa") is None
    assert cmdline_find_option("-- numa=off", "numa") is None


def test_early_parameters_act_in_order_and_stop_before_inits_own() -> None:
    boot = Boot(load_spec({"e820": [], "cmdline": "memblock=debug mminit-loglevel=4 -- mminit_loglevel=1"}))
    parse_early_param(boot)
    assert boot.memblock.debug == 1
    assert boot.mminit_loglevel == 4


@pytest.mark.parametrize(
    ("value", "number"),
    [("4", 4), ("9" * 25, 10**25 - 1), ("9" * 5000, 10**5000 - 1), ("4294967295", -1), ("²", 0)],
    ids=["4", "25 digits", "5000 digits", "-1", "no number"],
)
def test_a_level_is_an_int_of_c(value: str, number: int) -> None:
    boot = Boot(load_spec({"e820": [], "cmdline": f"mminit_loglevel={value}"}))
    parse_early_param(boot)
    assert (boot.mminit_loglevel - number) % (1 << 32) == 0
    assert -(1 << 31) <= boot.mminit_loglevel < 1 << 31
