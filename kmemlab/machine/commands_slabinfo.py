"""The machine's command for the one file of the allocator of objects that can be written."""

from __future__ import annotations

from kmemlab.alloc.slab_tune import slabinfo_write
from kmemlab.machine.commanded import Commanded
from kmemlab.machine.kernel import Kernel
from kmemlab.sim.kernel import invented


@invented("one family of the machine's commands")
class SlabinfoCommands(Commanded):
    """/proc/slabinfo, written.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("laptop-8g", slab="SLAB")
    >>> machine.write_slabinfo("kmalloc-128 30 15 4")
    """

    kernel: Kernel

    def write_slabinfo(self, text: str) -> None:
        """`name limit batchcount sharedfactor`: how much a cache of SLAB may keep in its arrays.

        Raises `BadRequest` for a text that the kernel does not take, `OutOfMemory`.
        """
        self._command("write_slabinfo", text)

    def _do_write_slabinfo(self, text: str) -> None:
        slabinfo_write(self.kernel.slab, text)
