"""An oops begins with the kernel's own words."""

from __future__ import annotations

import pytest

from kmemlab.boot.fault import show_fault_oops
from kmemlab.boot.pgtable import PageTables
from kmemlab.boot.printk import Printk
from kmemlab.hardware.ram import Ram

NX = 1 << 63


def oops(tables: PageTables, error_code: int, address: int, user_mode: bool = False) -> list[str]:
    printk = Printk()
    show_fault_oops(printk, tables, error_code, address, user_mode)
    return list(printk.lines())


def test_a_write_to_read_only_text() -> None:
    ram = Ram(1 << 14)
    ram.write(0x1000 + 8 * 511, 0x2067)
    ram.write(0x2000 + 8 * 510, 0x3063)
    ram.write(0x3000 + 8 * 8, 0x10001E1)
    assert oops(PageTables(ram, 4, 0x1000), 3, 0xFFFFFFFF81000000) == [
        "BUG: unable to handle page fault for address: ffffffff81000000",
        "#PF: supervisor write access in kernel mode",
        "#PF: error_code(0x0003) - permissions violation",
        "PGD 2067 P4D 2067 PUD 3063 PMD 10001e1 ",
    ]


def test_a_jump_into_data() -> None:
    ram = Ram(1 << 14)
    ram.write(0x1000, 0x2067)
    ram.write(0x2000, 0x3067)
    ram.write(0x3000, 0x4067)
    ram.write(0x4000 + 8 * 5, NX | 0x5067)
    assert oops(PageTables(ram, 4, 0x1000), 0x15, 0x5123) == [
        "kernel tried to execute NX-protected page - exploit attempt? (uid: 0)",
        "BUG: unable to handle page fault for address: 0000000000005123",
        "#PF: user instruction fetch in kernel mode",
        "#PF: error_code(0x0015) - permissions violation",
        "PGD 2067 P4D 2067 PUD 3067 PMD 4067 PTE 8000000000005067",
    ]


@pytest.mark.parametrize(
    ("levels", "last"),
    [(2, "*pde = 00000000 "), (3, "*pdpt = 0000000000000000 "), (4, "PGD 0 P4D 0 "), (5, "PGD 0 ")],
)
def test_a_null_pointer_in_each_mode(levels: int, last: str) -> None:
    lines = oops(PageTables(Ram(1 << 14), levels, 0x1000), 0, 0x18)
    assert lines[0].startswith("BUG: kernel NULL pointer dereference, address: ")
    assert lines[0].endswith("18")
    assert len(lines[0].split()[-1]) == (8 if levels < 4 else 16)
    assert lines[-1] == last


def test_two_levels_and_a_small_page() -> None:
    ram = Ram(1 << 14)
    ram.write(0x1000 + 4 * 0x300, 0x2067, 4)
    ram.write(0x2000 + 4 * 1, 0x161, 4)
    assert oops(PageTables(ram, 2, 0x1000), 7, 0xC0001000, user_mode=True)[1:] == [
        "#PF: user write access in user mode",
        "#PF: error_code(0x0007) - permissions violation",
        "*pde = 00002067 *pte = 00000161 ",
    ]
