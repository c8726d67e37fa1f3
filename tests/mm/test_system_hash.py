"""How large hash tables are: figures that Linux printed, and the rounding at the limits."""

from __future__ import annotations

import pytest

from kmemlab.hardware.spec import load_spec
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.globals import Mm
from kmemlab.mm.system_hash import DENTRY_SCALE, INODE_SCALE, hash_entries, hashdist, vfs_hash_tables


def machine(pages: int, cmdline: str = "") -> Mm:
    mm = Kernel(load_spec({"e820": [[0, 0x9FBFF, "usable"]], "cmdline": cmdline})).mm
    mm.nr_kernel_pages = mm.nr_all_pages = pages
    return mm


@pytest.mark.parametrize(
    ("pages", "dentries"),
    # Total pages of captured machines: 512 MiB, 1, 2, 6 GiB and 1 TiB.
    [(128736, 65536), (257760, 131072), (515808, 262144), (1548000, 1048576), (264240863, 33554432)],
)
def test_as_on_real_machines(pages: int, dentries: int) -> None:
    mm = machine(pages)
    assert hash_entries(mm, DENTRY_SCALE) == dentries
    assert hash_entries(mm, INODE_SCALE) == dentries // 2


def test_limits() -> None:
    mm = machine(1000)
    assert hash_entries(mm, DENTRY_SCALE, 1 << 20) == 1 << 14  # a sixteenth of 4000 KiB holds 32000: no power of two
    assert hash_entries(mm, DENTRY_SCALE, 600) == 1024
    assert hash_entries(mm, 30) == 512  # a page at least
    assert hash_entries(machine(1 << 30), 14, low_limit=1 << 12, high_limit=1 << 20) == 1 << 20
    assert hash_entries(machine(1 << 10), 14, low_limit=1 << 12, high_limit=1 << 20) == 1 << 12


def test_the_command_line_sets_them() -> None:
    tables = dict(vfs_hash_tables(machine(515808, "dhash_entries=3000 ihash_entries=junk")))
    assert tables == {"Dentry cache": 4096, "Inode-cache": 131072}


@pytest.mark.parametrize(
    ("nodes", "cmdline", "spread"), [(1, "", False), (1, "hashdist=1", False), (2, "", True), (2, "hashdist=0", False)]
)
def test_hashdist(nodes: int, cmdline: str, spread: bool) -> None:
    spec = {
        "e820": [[0, 0x9FBFF, "usable"]],
        "cmdline": cmdline,
        "numa": {"nodes": [[0, 0, 0xFFF], [1, 0x1000, 0x1FFF]]},
    }
    mm = Kernel(load_spec(spec)).mm
    for nid in range(nodes):
        mm.node_has_memory[nid] = 1
    assert hashdist(mm) is spread
