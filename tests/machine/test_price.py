"""What requests cost: counts that can be had in another way, from the printed call tree and from /proc."""

from __future__ import annotations

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.machine.price import REQUESTS, Price, price, price_text
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import PAGE_SIZE


@pytest.fixture
def machine() -> Machine:
    machine = Machine.boot("tiny-128m")
    machine.record(lines=False)
    return machine


def test_pages_are_those_that_were_asked_for(machine: Machine) -> None:
    bill = price(machine, "alloc_pages", 4 * PAGE_SIZE, lambda: machine.alloc_pages(GFP_KERNEL, order=2))
    assert (bill.pages, bill.spare) == (4 * REQUESTS, 0)
    bill = price(machine, "kmalloc", 3000, lambda: machine.kmalloc(3000))
    assert bill.pages * PAGE_SIZE >= REQUESTS * 4096 - 8 * PAGE_SIZE, "a slab may have been there"
    bill = price(machine, "vmalloc", 10, lambda: machine.vmalloc(10))
    assert bill.pages >= REQUESTS


def test_calls_and_writes_are_those_of_the_printed_log(machine: Machine) -> None:
    machine.kmalloc(100)
    bill = price(machine, "kmalloc", 100, lambda: machine.kmalloc(100))
    timeline = machine.timeline
    trees = [timeline.call_tree(at).count("\n") for at in range(1, REQUESTS + 1)]
    assert bill.first_calls == trees[0]
    assert bill.calls == sorted(trees)[(REQUESTS - 1) // 2]
    assert bill.writes == len(timeline.writes(1 + trees.index(bill.calls)))
    machine.check()


def test_the_same_machine_has_the_same_prices() -> None:
    def bill() -> Price:
        machine = Machine.boot("tiny-128m")
        machine.record(lines=False)
        return price(machine, "vmalloc", 9000, lambda: machine.vmalloc(9000))

    assert bill() == bill()
    head, row = price_text([bill()]).splitlines()
    assert len(head) == len(row)
    assert row.split()[:2] == ["vmalloc", "9,000"]
