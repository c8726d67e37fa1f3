"""The machine's commands for pages, beside alloc_pages and free_pages: on which CPU, and what the CPUs keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.boot.smp import num_online_cpus
from kmemlab.machine.commanded import Commanded
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.pcp import drain_all_pages, refresh_cpu_vm_stats
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest


@invented("one family of the machine's commands")
class PageCommands(Commanded):
    """Pages, CPU by CPU.

    >>> from kmemlab.machine.machine import Machine
    >>> from kmemlab.types.gfp import GFP_KERNEL
    >>> machine = Machine.boot("laptop-8g")
    >>> with machine.on_cpu(1):
    ...     pfn = machine.alloc_pages(GFP_KERNEL)
    >>> machine.zone("Normal").per_cpu_pageset.count[1]  # a batch came, one page went to the caller
    62
    >>> machine.drain_all_pages()
    >>> machine.zone("Normal").per_cpu_pageset.count[1]
    0
    """

    kernel: Kernel

    @contextmanager
    def on_cpu(self, cpu: int) -> Iterator[None]:
        """While this lasts, commands run on another CPU. Raises `BadRequest` for a CPU that does not run."""
        before = self.kernel.mm.current.cpu
        self._command("set_cpu", cpu)
        try:
            yield
        finally:
            self._command("set_cpu", before)

    def drain_all_pages(self) -> None:
        """Let every CPU give back to the buddy what it keeps on its lists."""
        self._command("drain_all_pages")

    def vmstat_update(self) -> int:
        """What each CPU does once a second: pages of other nodes that it did not use lately go back.

        Returns how many zones got pages back.
        """
        zones: int = self._command("vmstat_update")
        return zones

    def _do_set_cpu(self, cpu: int) -> None:
        online = num_online_cpus(self.kernel.boot)
        if not isinstance(cpu, int) or not 0 <= cpu < online:
            raise BadRequest(f"CPU {cpu} does not run", where="on_cpu", remedy=f"choose one from 0 to {online - 1}")
        self.kernel.mm.current.cpu = cpu

    def _do_drain_all_pages(self) -> None:
        drain_all_pages(self.kernel.mm)

    def _do_vmstat_update(self) -> int:
        current, zones = self.kernel.mm.current, 0
        before = current.cpu
        for cpu in range(num_online_cpus(self.kernel.boot)):
            current.cpu = cpu
            zones += refresh_cpu_vm_stats(self.kernel.mm)
        current.cpu = before
        return zones
