"""The machine's commands for mappings of HighMem, and for who runs: kmap, kmap_local_page, kmap_atomic, copy, clear."""

from __future__ import annotations

from contextlib import nullcontext

from kmemlab.alloc.context_switch import context_switch
from kmemlab.alloc.highmem import kmap, kmap_flush_unused, kunmap
from kmemlab.alloc.highmem_pages import clear_highpage, copy_highpage, zero_user
from kmemlab.alloc.kmap_local import kmap_atomic, kmap_local_page, kunmap_atomic, kunmap_local
from kmemlab.alloc.page_address import page_address
from kmemlab.boot.fault import show_fault_oops
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.hardware.mmu import PageFault
from kmemlab.machine.commanded import Commanded, numbers_within, texts, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.context import interrupt, task_comm
from kmemlab.mm.kernel_access import load, store
from kmemlab.mm.mem_map import page_zone_id
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import INT_MAX


@invented("one family of the machine's commands")
class HighmemCommands(Commanded):
    """Addresses for pages, for a while.

    >>> from kmemlab.machine.machine import Machine
    >>> from kmemlab.types.gfp import GFP_KERNEL
    >>> machine = Machine.boot("tiny-128m")
    >>> pfn = machine.alloc_pages(GFP_KERNEL)
    >>> address = machine.kmap(pfn)  # all memory of a 64-bit machine has an address of its own
    >>> address - 0xFFFF888000000000 == pfn << 12
    True
    >>> machine.store(address + 8, 42)
    >>> machine.load(address + 8)
    42
    """

    kernel: Kernel

    def kmap(self, pfn: int, *, in_interrupt: bool = False) -> int:
        """The address of a page until `kunmap`. Raises `MustWait` when all slots are in use, `BadRequest`."""
        whole_numbers("kmap", pfn=pfn)
        address: int = self._command("kmap", pfn, int(in_interrupt))
        return address

    def kunmap(self, pfn: int) -> tuple[int, ...]:
        """Undo `kmap`, by the page; returns the tasks that waited for a slot. Raises `BadRequest`."""
        whole_numbers("kunmap", pfn=pfn)
        woken: tuple[int, ...] = self._command("kunmap", pfn)
        return woken

    def kmap_flush_unused(self) -> None:
        """Unmap all slots that nobody uses, before the round is over."""
        self._command("kmap_flush_unused")

    def kmap_local(self, pfn: int, *, in_interrupt: bool = False) -> int:
        """The address of a page until `kunmap_local`, for the running task alone. Raises `BadRequest`."""
        whole_numbers("kmap_local_page", pfn=pfn)
        address: int = self._command("kmap_local", pfn, int(in_interrupt))
        return address

    def kunmap_local(self, address: int) -> None:
        """Undo `kmap_local`, by the address, the last one first. Raises `BadRequest` where nothing is mapped."""
        whole_numbers("kunmap_local", address=address)
        self._command("kunmap_local", address)

    def kmap_atomic(self, pfn: int) -> int:
        """As `kmap_local`; until `kunmap_atomic` the task may neither sleep nor lose its CPU. Raises `BadRequest`."""
        whole_numbers("kmap_atomic", pfn=pfn)
        address: int = self._command("kmap_atomic", pfn)
        return address

    def kunmap_atomic(self, address: int) -> None:
        """Undo `kmap_atomic`, by the address. Raises `BadRequest` where nothing is mapped so."""
        whole_numbers("kunmap_atomic", address=address)
        self._command("kunmap_atomic", address)

    def clear_highpage(self, pfn: int) -> None:
        """Fill a page with zeros."""
        whole_numbers("clear_highpage", pfn=pfn)
        self._command("clear_highpage", pfn)

    def copy_highpage(self, to_pfn: int, from_pfn: int) -> None:
        """Copy a page to another."""
        whole_numbers("copy_highpage", to_pfn=to_pfn, from_pfn=from_pfn)
        self._command("copy_highpage", to_pfn, from_pfn)

    def zero_user(self, pfn: int, start: int, size: int) -> None:
        """Fill `size` bytes of a page, from byte `start`, with zeros. Raises `BadRequest`."""
        whole_numbers("zero_user", pfn=pfn, start=start, size=size)
        self._command("zero_user", pfn, start, size)

    def load(self, address: int, size: int = 8) -> int:
        """The number that the kernel reads at an address. Raises `PageFault`, `BadRequest`.

        A fault stands in the log, too, as the kernel writes it.
        """
        whole_numbers("load", address=address, size=size)
        value: int | PageFault = self._command("load", address, size)
        if isinstance(value, PageFault):
            raise value
        return value

    def store(self, address: int, value: int, size: int = 8) -> None:
        """Let the kernel write a number at an address. Raises `PageFault`, `BadRequest`."""
        whole_numbers("store", address=address, value=value, size=size)
        fault: PageFault | None = self._command("store", address, value, size)
        if fault is not None:
            raise fault

    def run_task(self, pid: int, cpu: int | None = None, comm: str = "") -> None:
        """Let another task run, or the same on another CPU. Raises `BadRequest` where that must not be."""
        numbers_within("run_task", 0, INT_MAX, pid=pid)
        cpu = self.kernel.mm.current.cpu if cpu is None else cpu
        whole_numbers("run_task", cpu=cpu)
        texts("run_task", comm=comm)
        self._command("run_task", pid, cpu, comm)

    def page_address(self, pfn: int) -> int:
        """The address at which the kernel sees a page now; 0 for a page of HighMem that is not mapped. No command."""
        whole_numbers("page_address", pfn=pfn)
        return page_address(self.kernel.page_addresses, a_page(self.kernel, pfn, "page_address"))

    def _do_kmap(self, pfn: int, in_interrupt: int) -> int:
        a_page(self.kernel, pfn, "kmap")
        with interrupt(self.kernel.mm.current) if in_interrupt else nullcontext():
            return kmap(self.kernel.pkmap, pfn)

    def _do_kunmap(self, pfn: int) -> tuple[int, ...]:
        return kunmap(self.kernel.pkmap, a_page(self.kernel, pfn, "kunmap"))

    def _do_kmap_flush_unused(self) -> None:
        kmap_flush_unused(self.kernel.pkmap)

    def _do_kmap_local(self, pfn: int, in_interrupt: int) -> int:
        a_page(self.kernel, pfn, "kmap_local_page")
        with interrupt(self.kernel.mm.current) if in_interrupt else nullcontext():
            return kmap_local_page(self.kernel.kmap_ctrl, pfn)

    def _do_kunmap_local(self, address: int) -> None:
        kunmap_local(self.kernel.kmap_ctrl, address)

    def _do_kmap_atomic(self, pfn: int) -> int:
        return kmap_atomic(self.kernel.kmap_ctrl, a_page(self.kernel, pfn, "kmap_atomic"))

    def _do_kunmap_atomic(self, address: int) -> None:
        kunmap_atomic(self.kernel.kmap_ctrl, address)

    def _do_clear_highpage(self, pfn: int) -> None:
        clear_highpage(self.kernel.kmap_ctrl, a_page(self.kernel, pfn, "clear_highpage"))

    def _do_copy_highpage(self, to_pfn: int, from_pfn: int) -> None:
        to_pfn, from_pfn = (a_page(self.kernel, pfn, "copy_highpage") for pfn in (to_pfn, from_pfn))
        copy_highpage(self.kernel.kmap_ctrl, to_pfn, from_pfn)

    def _do_zero_user(self, pfn: int, start: int, size: int) -> None:
        zero_user(self.kernel.kmap_ctrl, a_page(self.kernel, pfn, "zero_user"), start, size)

    def _do_load(self, address: int, size: int) -> int | PageFault:
        try:
            return load(self.kernel.boot, address, size)
        except PageFault as fault:
            return oops(self.kernel, fault)

    def _do_store(self, address: int, value: int, size: int) -> PageFault | None:
        try:
            store(self.kernel.boot, address, value, size)
        except PageFault as fault:
            return oops(self.kernel, fault)
        return None

    def _do_run_task(self, pid: int, cpu: int, comm: str) -> None:
        current, cpus = self.kernel.mm.current, num_possible_cpus(self.kernel.boot.spec)
        if not 0 <= cpu < cpus:
            raise BadRequest(f"there is no CPU {cpu}", where="run_task", remedy=f"choose 0 to {cpus - 1}")
        name = comm or (task_comm(current) if pid == current.pid else f"task-{pid}")
        context_switch(self.kernel.kmap_ctrl, pid, cpu, name)


@kernel("arch/x86/mm/fault.c", "page_fault_oops", left_out="the registers, the call stack, and the end of the task")
def oops(kernel: Kernel, fault: PageFault) -> PageFault:
    """Say what the kernel says of a page fault of its own; the fault itself is given back."""
    boot = kernel.boot
    show_fault_oops(boot.printk, boot.swapper_pg_dir, fault.error_code, fault.address)
    return fault


@invented("a struct page * of C exists only where there is memory")
def a_page(kernel: Kernel, pfn: int, where: str) -> int:
    """The page frame, if this machine has it. Raises `BadRequest`."""
    page = kernel.mm.page
    if not 0 <= pfn < page.max_pfn or not page_zone_id(page, pfn):
        raise BadRequest(
            f"pfn {pfn} is no page frame of this machine",
            where=where,
            remedy="boot beyond free_area_init, and take a page from alloc_pages",
        )
    return pfn
