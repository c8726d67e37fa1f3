"""The first steps of boot, recorded: rewound to power-on all is 0, and run again all is as after a straight run."""

from __future__ import annotations

import copy

from kmemlab.boot.detect import detect_memory
from kmemlab.boot.e820_resources import e820__reserve_resources, insert_kernel_resources
from kmemlab.boot.e820_setup import e820__memblock_setup, e820__memory_setup, trim_bios_range
from kmemlab.boot.early_reserve import acpi_reserve_initial_tables, early_reserve_memory, reserve_real_mode
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_init
from kmemlab.hardware.spec import load_spec
from kmemlab.sim.journal import Command, Journal
from kmemlab.sim.recorder import Recorder
from kmemlab.sim.timeline import Timeline
from tests.machine.cells import cells_of

STEPS = {
    "detect_memory": lambda boot: detect_memory(boot.bios, boot.boot_params),
    "memblock_init": lambda boot: memblock_init(boot.memblock),
    "early_reserve_memory": early_reserve_memory,
    "e820__memory_setup": e820__memory_setup,
    "insert_kernel_resources": insert_kernel_resources,
    "trim_bios_range": trim_bios_range,
    "e820__memblock_setup": e820__memblock_setup,
    "reserve_real_mode": reserve_real_mode,
    "acpi_reserve_initial_tables": acpi_reserve_initial_tables,
    "e820__reserve_resources": e820__reserve_resources,
}


def test_power_on_is_all_zero() -> None:
    assert not cells_of(Boot(load_spec("laptop-8g")))


def test_rewound_to_power_on_and_run_again() -> None:
    straight = Boot(load_spec("laptop-8g"))
    for step in STEPS.values():
        step(straight)
    boot = Boot(load_spec("laptop-8g"))
    journal = Journal(lambda command: STEPS[command.name](boot))
    recorder = Recorder(boot, journal)
    timeline = Timeline(journal, recorder.listening)
    recorder.start()
    try:
        for name, step in STEPS.items():
            with recorder.command(name, ()):
                step(boot)
        assert cells_of(boot) == cells_of(straight)
        assert boot.printk.lines() == straight.printk.lines()
        timeline.rewind(0)
        assert not cells_of(boot)
        assert boot.printk.lines() == ()
        for name, step in STEPS.items():
            with recorder.command(name, ()):
                step(boot)
        assert cells_of(boot) == cells_of(straight)
        assert boot.printk.lines() == straight.printk.lines()
        assert list(timeline.commands) == [Command(name, ()) for name in STEPS]
    finally:
        recorder.stop()


def test_a_copy_lives_on_its_own() -> None:
    boot = Boot(load_spec("tiny-128m"))
    detect_memory(boot.bios, boot.boot_params)
    before = cells_of(boot)
    twin = copy.deepcopy(boot)
    e820__memory_setup(twin)
    assert cells_of(boot) == before
    assert boot.printk.lines() == ()
    assert twin.printk.lines()
    assert twin.e820_table.printk is twin.memblock.printk is twin.printk
