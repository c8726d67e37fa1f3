"""The kernel: all of its global variables, floor by floor. All exist, all zero, before it boots."""

from __future__ import annotations

from kmemlab.alloc import kcompactd  # noqa: F401 (enters itself among the daemons)
from kmemlab.alloc.highmem import Pkmap
from kmemlab.alloc.kmap_local import KmapCtrl
from kmemlab.alloc.mempool import Mempools
from kmemlab.alloc.page_address import PageAddresses
from kmemlab.alloc.percpu_chunk import Percpu
from kmemlab.alloc.slab import SLAB, SLAB_DEBUG
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.slub_engine import SLUB
from kmemlab.alloc.super_block import SuperBlock
from kmemlab.alloc.thread_stack import ThreadStacks
from kmemlab.boot import e820_params  # noqa: F401 (registers mem= and memmap=)
from kmemlab.boot.cmdline import next_arg, parse_early_param
from kmemlab.boot.e820_setup import e820__finish_early_params, e820__memory_setup
from kmemlab.boot.efi import fill_boot_params
from kmemlab.boot.globals import Boot
from kmemlab.boot.numa import NumaInfo
from kmemlab.boot.numa_fake import count_possible_nodes
from kmemlab.boot.setup_data import parse_setup_data
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.hardware.spec import MachineSpec
from kmemlab.mm.globals import Mm
from kmemlab.process import migrate_rmap  # noqa: F401 (enters itself for migration)
from kmemlab.process.task_struct import Processes
from kmemlab.sim.kernel import invented
from kmemlab.sim.struct import Struct
from kmemlab.types.e820_type import E820_TYPE_RAM
from kmemlab.types.errors import KernelPanic
from kmemlab.types.slab_config import SlabConfig
from kmemlab.types.units import PAGE_SHIFT, pfn_up

SLAB_ENGINES = {"SLUB": SLUB, "SLAB": SLAB, "SLAB_DEBUG": SLAB_DEBUG}


@invented("C's global variables are fields here, so that a machine can be copied and rewound")
class Kernel(Struct):
    """Everything that changes while a machine runs.

    boot    before there are zones: e820, memblock, resources, the log (kernel/boot/globals.py)
    numa    nodes, distances, the node of each CPU
    mm      the page allocator: nodes, zones, the memory map, tunables
    slab    all caches of objects, and how they were asked for
    pkmap   addresses for pages of HighMem, with kmap_ctrl and page_addresses
    mempools  elements set aside
    percpu  memory of which each CPU has its own copy
    stacks  the kernel's stacks, one a task
    super_block  names and inodes of files that are in memory
    processes  tasks and their address spaces
    """

    def __init__(self, spec: MachineSpec, slab: SlabConfig | None = None) -> None:
        """`slab` says how the allocator of objects is configured. Raises `BadSpec` for a machine that can't boot."""
        fake = numa_fake_option(spec.cmdline)
        max_pfn = highest_pfn(spec)
        self.boot = Boot(spec, max_pfn=max_pfn)
        nr_nodes = count_possible_nodes(spec, max_pfn, fake)
        self.numa = NumaInfo(nr_nodes, num_possible_cpus(spec), fake)
        self.mm = Mm(self.boot, self.numa, max_pfn)
        slab = slab or SlabConfig()
        engine = SLAB_ENGINES[slab.allocator]
        self.slab = SlabCommon(self.mm, engine, slab.freelist_hardened, slab.freelist_random)
        self.page_addresses = PageAddresses(self.mm)
        self.pkmap = Pkmap(self.page_addresses)
        self.kmap_ctrl = KmapCtrl(self.page_addresses)
        self.mempools = Mempools(self.kmap_ctrl, self.slab)
        self.percpu = Percpu(self.mm)
        self.stacks = ThreadStacks(self.mm)
        self.super_block = SuperBlock(self.mm, self.slab)
        self.processes = Processes(self.mm, self.slab, self.stacks)

    @property
    def printk_lines(self) -> tuple[str, ...]:
        """The kernel log so far."""
        return self.boot.printk.lines()


@invented("C reads it when it comes to the parameter; our structs are sized before boot")
def numa_fake_option(cmdline: str) -> str:
    """What stands behind numa=fake= on the command line; the last one holds.

    >>> numa_fake_option("quiet numa=fake=4 numa=fake=512M")
    '512M'
    """
    fakes = [value for name, value in next_arg(cmdline) if name == "numa" and value and value.startswith("fake=")]
    return fakes[-1].removeprefix("fake=") if fakes else ""


@invented("the memory map must exist before boot finds out how large it has to be")
def highest_pfn(spec: MachineSpec) -> int:
    """The page frame behind the highest one that this machine can ever have, memory plugged in later included.

    A rehearsal: firmware and command line are asked exactly as boot will ask them, on a kernel that is thrown away.
    """
    boot = Boot(spec)
    try:
        fill_boot_params(boot)
        e820__memory_setup(boot)
        parse_setup_data(boot)
        parse_early_param(boot)
        e820__finish_early_params(boot)
    except KernelPanic:
        pass  # the real boot will panic in the same place, and needs no larger memory map than this
    ends = [entry.end >> PAGE_SHIFT for entry in boot.e820_table.entries() if entry.type == E820_TYPE_RAM]
    ends.append(pfn_up(spec.image.brk[1]))
    ends += [pfn_up(end) for _, end in spec.dimms]
    return min(max(ends), boot.max_arch_pfn)
