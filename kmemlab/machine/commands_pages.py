"""The machine's commands for pages, beside alloc_pages and free_pages: on which CPU, and what the CPUs keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmemlab.alloc.page_alloc import check_order
from kmemlab.alloc.page_api import alloc_pages_exact, free_pages, free_pages_exact, get_free_pages, get_zeroed_page
from kmemlab.boot.smp import num_online_cpus
from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.pcp import drain_all_pages, refresh_cpu_vm_stats
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.units import get_order


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

    def get_free_pages(self, gfp: int, order: int = 0) -> int:
        """`__get_free_pages`: 2**`order` pages by their address. Raises `OutOfMemory`, `BadRequest`."""
        whole_numbers("__get_free_pages", gfp=gfp, order=order)
        address: int = self._command("get_free_pages", gfp, order)
        return address

    def get_zeroed_page(self, gfp: int) -> int:
        """A page full of zeros, by its address. Raises `OutOfMemory`, `BadRequest`."""
        whole_numbers("get_zeroed_page", gfp=gfp)
        address: int = self._command("get_zeroed_page", gfp)
        return address

    def free_pages_at(self, address: int, order: int = 0) -> None:
        """`free_pages`: give back what `get_free_pages` returned. Raises `DoubleFree`, `BadRequest`."""
        whole_numbers("free_pages", address=address, order=order)
        self._command("free_pages_at", address, order)

    def alloc_pages_exact(self, size: int, gfp: int) -> int:
        """As many pages in a row as hold `size` bytes, by their address. Raises `OutOfMemory`, `BadRequest`."""
        whole_numbers("alloc_pages_exact", size=size, gfp=gfp)
        address: int = self._command("alloc_pages_exact", size, gfp)
        return address

    def free_pages_exact(self, address: int, size: int) -> None:
        """Give back what `alloc_pages_exact` returned. Raises `DoubleFree`, `BadRequest`."""
        whole_numbers("free_pages_exact", address=address, size=size)
        self._command("free_pages_exact", address, size)

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

    def _do_get_free_pages(self, gfp: int, order: int) -> int:
        check_order(gfp, order)
        return got(get_free_pages(self.kernel.mm, gfp, order), f"__get_free_pages(gfp={gfp:#x}, order={order})")

    def _do_get_zeroed_page(self, gfp: int) -> int:
        return got(get_zeroed_page(self.kernel.mm, gfp), f"get_zeroed_page(gfp={gfp:#x})")

    def _do_free_pages_at(self, address: int, order: int) -> None:
        free_pages(self.kernel.mm, address, order)

    def _do_alloc_pages_exact(self, size: int, gfp: int) -> int:
        if size < 1:
            raise BadRequest("no bytes make no page", where=f"alloc_pages_exact(size={size})", remedy="ask for a byte")
        check_order(gfp, get_order(size))
        return got(alloc_pages_exact(self.kernel.mm, size, gfp), f"alloc_pages_exact(size={size}, gfp={gfp:#x})")

    def _do_free_pages_exact(self, address: int, size: int) -> None:
        free_pages_exact(self.kernel.mm, address, size)

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


@invented("C's callers test for 0", traced=False)
def got(address: int, where: str) -> int:
    """The address that was got; raises `OutOfMemory` if it is none."""
    if not address:
        raise OutOfMemory("no zone may give the pages", where=where, remedy="free some pages, or ask for less")
    return address
