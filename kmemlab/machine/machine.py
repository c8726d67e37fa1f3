"""Machine: boots, takes commands, obeys the law of conservation after each, and can be recorded and rewound."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from kmemlab.alloc.check_highmem import check_kmap_local, check_pkmap
from kmemlab.alloc.check_mempool import check_mempools
from kmemlab.alloc.check_percpu import check_percpu
from kmemlab.alloc.check_thread_stack import check_thread_stacks
from kmemlab.alloc.check_vfs import check_vfs
from kmemlab.alloc.check_vmalloc import check_vmalloc
from kmemlab.alloc.page_alloc import alloc_pages_inner, free_pages_inner
from kmemlab.alloc.slab_check import check_slab
from kmemlab.boot.address_layout import address_space_text
from kmemlab.hardware.spec import MachineSpec, load_spec
from kmemlab.machine.commanded import Commanded, texts, whole_numbers
from kmemlab.machine.commands_files import FileCommands
from kmemlab.machine.commands_highmem import HighmemCommands
from kmemlab.machine.commands_memory_block import MemoryBlockCommands
from kmemlab.machine.commands_mempool import MempoolCommands
from kmemlab.machine.commands_oom import OomCommands
from kmemlab.machine.commands_pages import PageCommands
from kmemlab.machine.commands_percpu import PercpuCommands
from kmemlab.machine.commands_process import ProcessCommands
from kmemlab.machine.commands_slab import SlabCommands
from kmemlab.machine.commands_slabinfo import SlabinfoCommands
from kmemlab.machine.commands_stack import StackCommands
from kmemlab.machine.commands_swap import SwapCommands
from kmemlab.machine.commands_time import TimeCommands
from kmemlab.machine.commands_vmalloc import VmallocCommands
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.start_kernel import start_kernel
from kmemlab.machine.sysctl import proc_sys_call_handler, sysfs_file
from kmemlab.mm.check_lru import check_lru
from kmemlab.mm.check_page_cache import check_page_cache
from kmemlab.mm.check_pcp import check_pcp
from kmemlab.mm.check_zone import check_conservation, check_zone
from kmemlab.mm.wait import exit_to_user_mode
from kmemlab.mm.zone import Zone
from kmemlab.process.check_oom import check_oom
from kmemlab.process.check_process import check_processes
from kmemlab.process.check_swap import check_swap
from kmemlab.process.overcommit import check_committed
from kmemlab.sim.journal import Command
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, KmemlabError, OutOfMemory
from kmemlab.types.slab_config import SlabConfig

Source = str | Path | Mapping[str, Any] | MachineSpec

COPIED_PFNS = 1 << 26  # machines of up to 256 GiB are copied


@invented("the whole of one simulated computer, with the commands that a course gives it")
class Machine(
    PageCommands,
    SlabCommands,
    HighmemCommands,
    MempoolCommands,
    PercpuCommands,
    ProcessCommands,
    OomCommands,
    StackCommands,
    SlabinfoCommands,
    TimeCommands,
    FileCommands,
    SwapCommands,
    VmallocCommands,
    MemoryBlockCommands,
    Commanded,
):
    """One simulated machine, from power-on to whatever is asked of it.

    >>> from kmemlab.types.gfp import GFP_KERNEL
    >>> machine = Machine.boot("tiny-128m")
    >>> pfn = machine.alloc_pages(GFP_KERNEL, order=2)
    >>> machine.free_pages(pfn, order=2)
    """

    def __init__(self, source: Source, slab: str | SlabConfig = "SLUB") -> None:
        """Power on: `source` is a preset's name, a `MachineSpec`, or the path or contents of a hardware.json.

        `slab` is the allocator of objects that the kernel is built with, "SLUB" or "SLAB", or all of its switches.
        Raises `BadSpec` for a description that is malformed or a machine that can't be booted.
        """
        self.spec: MachineSpec = load_spec(source)
        self.slab_config = slab if isinstance(slab, SlabConfig) else SlabConfig(slab)
        self.kernel = Kernel(self.spec, self.slab_config)
        super().__init__(self.kernel)

    @classmethod
    def boot(
        cls, source: Source, *, until: str | None = None, record: bool = False, slab: str | SlabConfig = "SLUB"
    ) -> Self:
        """A machine that has booted, or has come as far as the end of the stage `until`, a function of `start_kernel`.

        With `record`, boot itself can be rewound. Raises `BadSpec` as the constructor does, `BadRequest` for an unknown
        stage.
        """
        machine = cls(source, slab)
        if record:
            machine.record()
        machine.start_kernel(until)
        return machine

    # -- commands ------------------------------------------------------------------------------------------------------

    def start_kernel(self, until: str | None = None) -> None:
        """Boot, from `int 0x15` on."""
        self._command("start_kernel", until)

    def alloc_pages(self, gfp: int, order: int = 0, node: int = 0) -> int:
        """Take 2**`order` pages in a row, as near to `node` as can be; returns the first page frame number.

        Raises `BadRequest` for an order that does not exist, `OutOfMemory` where no zone may give.
        """
        whole_numbers("alloc_pages", gfp=gfp, order=order, node=node)
        pfn: int = self._command("alloc_pages", gfp, order, node)
        return pfn

    def free_pages(self, pfn: int, order: int = 0) -> None:
        """Give back what `alloc_pages` returned.

        Raises `DoubleFree` for a block that is free, `BadRequest` for one that was never allocated or has another
        order.
        """
        whole_numbers("free_pages", pfn=pfn, order=order)
        self._command("free_pages", pfn, order)

    def sysctl(self, name: str, value: int | str | None = None) -> str:
        """Read a tunable such as "vm.min_free_kbytes", or write it; returns what it is then.

        Raises `BadRequest` for a name that there is not and for a value that the kernel refuses.
        """
        texts("sysctl", name=name)
        text: str = self._command("sysctl", name, None if value is None else str(value))
        return text

    def sysfs(self, name: str, value: str | None = None) -> str:
        """Read or write a file of /sys, such as "kernel/mm/transparent_hugepage/enabled". Raises `BadRequest`."""
        texts("sysfs", name=name, **({} if value is None else {"value": value}))
        text: str = self._command("sysfs", name, value)
        return text

    def _do_start_kernel(self, until: str | None) -> None:
        start_kernel(self.kernel, until)

    def _do_alloc_pages(self, gfp: int, order: int, node: int) -> int:
        mm = self.kernel.mm
        where = f"alloc_pages(gfp={gfp:#x}, order={order})"
        if not self.has_page_allocator:
            raise BadRequest("there is no page allocator yet", where=where, remedy="boot beyond memblock_free_all")
        if not (0 <= node < len(mm.node_data) and mm.numa.node_online[node]):
            raise BadRequest(
                f"there is no node {node}", where=where, remedy=f"choose one of {sorted({z.node for z in self.zones})}"
            )
        pfn = alloc_pages_inner(mm, gfp, order, node)
        if pfn is None:
            raise OutOfMemory(
                f"no zone may give {1 << order} pages in a row",
                where=where,
                remedy="free some pages, ask for a smaller order, or boot a machine with more memory",
            )
        return pfn

    def _do_sysctl(self, name: str, value: str | None) -> str:
        return proc_sys_call_handler(self.kernel, name, value)

    def _do_sysfs(self, name: str, value: str | None) -> str:
        return sysfs_file(self.kernel, name, value)

    def _do_free_pages(self, pfn: int, order: int) -> None:
        free_pages_inner(self.kernel.mm, pfn, order)

    def _carry_out(self, command: Command) -> Any:
        try:
            return super()._carry_out(command)
        finally:
            if command.name != "start_kernel" and self.has_page_allocator:
                exit_to_user_mode(self.kernel.mm)

    # -- what holds ----------------------------------------------------------------------------------------------------

    @property
    def zones(self) -> list[Zone]:
        """The zones that have memory."""
        return self.kernel.mm.populated_zones()

    @property
    def has_page_allocator(self) -> bool:
        """Whether boot has handed the free memory over to the buddy."""
        return bool(self.kernel.mm.totalram_pages)

    def zone(self, name: str, node: int = 0) -> Zone:
        """A zone by the kernel's name for it, such as "DMA32"."""
        for zone in self.zones:
            if (zone.name, zone.node) == (name, node):
                return zone
        names = ", ".join(f"{zone.name} of node {zone.node}" for zone in self.zones)
        raise BadRequest(
            f"node {node} has no zone {name!r} with memory", where="Machine.zone", remedy=f"choose one of {names}"
        )

    def check_laws(self) -> None:
        """No page is lost and none is there twice; raises `BrokenLaw`."""
        if self.has_page_allocator:
            for zone in self.zones:
                check_conservation(zone)

    def check(self) -> None:
        """Check every law of every zone and of kmap; raises `BrokenLaw` that names the first that does not hold."""
        for zone in self.zones:
            check_zone(zone)
            check_pcp(zone)
        check_slab(self.kernel.slab)
        check_pkmap(self.kernel.pkmap)
        check_kmap_local(self.kernel.kmap_ctrl)
        check_mempools(self.kernel.mempools)
        check_percpu(self.kernel.percpu)
        check_thread_stacks(self.kernel.stacks)
        check_vmalloc(self.kernel.mm)
        check_lru(self.kernel.mm)
        check_page_cache(self.kernel.mm)
        check_vfs(self.kernel.super_block)
        check_processes(self.kernel.processes)
        check_swap(self.kernel.processes)
        check_oom(self.kernel.processes)
        check_committed(self.kernel.processes)
        self.check_laws()

    def dmesg(self) -> str:
        """The kernel log so far."""
        return "".join(f"{line}\n" for line in self.kernel.boot.printk.lines())

    def address_space(self) -> str:
        """The map of virtual addresses, as the kernel's documentation draws it, for this machine."""
        return address_space_text(self.kernel.boot)

    # -- copies --------------------------------------------------------------------------------------------------------

    def fork(self) -> Machine:
        """Another machine in the same state, which goes its own way; it does not record.

        State is copied. Where that would mean to look through terabytes of columns that are all but untouched, the
        twin lives through the same history instead.
        """
        if self.kernel.mm.page.max_pfn > COPIED_PFNS:
            return _again(self.spec, self.commands, self.slab_config)
        twin = object.__new__(type(self))
        twin.spec = self.spec
        twin.slab_config = self.slab_config
        twin.kernel = copy.deepcopy(self.kernel)
        Commanded.__init__(twin, twin.kernel)
        twin._done = list(self.commands)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.spec, self.commands, self.slab_config)


def _again(spec: MachineSpec, commands: tuple[Command, ...], slab: SlabConfig) -> Machine:
    """A machine from its description and its history: it is deterministic, so this is the same machine."""
    machine = Machine(spec, slab)
    for command in commands:
        with suppress(KmemlabError):  # what failed the first time fails alike
            machine._command(command.name, *command.args)
    return machine
