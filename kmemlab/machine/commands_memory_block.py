"""Memory blocks of DIMMs, on line and off line: what /sys/devices/system/memory/memoryN/state does."""

from __future__ import annotations

from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.memory_hotplug import ONLINE_TYPES, online_pages, phys_to_target_node
from kmemlab.machine.memory_offline import memory_block_range, offline_pages, state_show
from kmemlab.mm.page_free import page_zone
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import PAGE_SHIFT


@invented("one family of the machine's commands")
class MemoryBlockCommands(Commanded):
    """Memory that was plugged in goes on and off line, block by block."""

    kernel: Kernel

    def memory_block(self, nr: int, state: str = "") -> str:
        """The state of memory block `nr`, "online" or "offline"; with `state` after that was asked for.

        `state` is online, online_kernel, online_movable or offline. A block with pages in use stays on line. Raises
        `BadRequest` for a number that is no block of a DIMM, and for another state.
        """
        whole_numbers("memory_block", nr=nr)
        block = memory_block_range(self.kernel, nr)
        if block is None or state not in ("", *ONLINE_TYPES):
            raise BadRequest(
                f"{state!r} is no state of a memory block" if block else f"{nr} is no memory block of a DIMM",
                where="memory_block",
                remedy=f"ask for one of {', '.join(ONLINE_TYPES)}, and number blocks by address: address // block size",
            )
        if state and (state == "offline") != (state_show(self.kernel, block[0]) == "offline"):
            self._command("memory_block", nr, state)
        return state_show(self.kernel, block[0])

    def _do_memory_block(self, nr: int, state: str) -> None:
        block = memory_block_range(self.kernel, nr)
        assert block is not None
        pfn, nr_pages = block
        zone = page_zone(self.kernel.mm, pfn)
        if state == "offline":
            assert zone is not None
            offline_pages(self.kernel.mm, zone, pfn, nr_pages)
            return
        nid = phys_to_target_node(self.kernel, pfn << PAGE_SHIFT)
        online_pages(self.kernel.mm, nid, pfn, nr_pages, ONLINE_TYPES.index(state))
