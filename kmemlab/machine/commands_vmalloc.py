"""The machine's commands for addresses: vmalloc and its like, vmap, ioremap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

from kmemlab.alloc import ioremap as io
from kmemlab.alloc import vmalloc as vm
from kmemlab.alloc.vfree import run_vmap_work, vfree
from kmemlab.alloc.vm_map_ram import vm_map_ram, vm_unmap_aliases, vm_unmap_ram
from kmemlab.alloc.vmap import vmap, vunmap
from kmemlab.alloc.vmap_pages import vmalloc_to_pfn
from kmemlab.machine.commanded import Commanded, list_of_numbers, numbers_within, texts, whole_numbers
from kmemlab.machine.commands_highmem import a_page
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.vmallocinfo import vmallocinfo
from kmemlab.mm.context import interrupt
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_struct import VM_MAP, VM_MAP_PUT_PAGES
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.units import U64_MAX

Maker: TypeAlias = Callable[[Mm, int, str], int]
CALLER = "student"
MAKERS: dict[str, Maker] = {
    "vmalloc": vm.vmalloc,
    "vzalloc": vm.vzalloc,
    "vmalloc_user": vm.vmalloc_user,
    "vmalloc_32": vm.vmalloc_32,
    "vmalloc_huge": lambda mm, size, caller: vm.vmalloc_huge(mm, size, GFP_KERNEL, caller),
}
MAPPERS: dict[str, Callable[[Mm, int, int, str], int]] = {
    "ioremap": io.ioremap,
    "ioremap_uc": io.ioremap_uc,
    "ioremap_wc": io.ioremap_wc,
    "ioremap_wt": io.ioremap_wt,
    "ioremap_cache": io.ioremap_cache,
}


@invented("one family of the machine's commands")
class VmallocCommands(Commanded):
    """Addresses that follow one another.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("tiny-128m")
    >>> address = machine.vmalloc(10000)
    >>> hex(address), [machine.vmalloc_to_pfn(address + 4096 * nth) is None for nth in range(4)]
    ('0xffffc90000000000', [False, False, False, True])
    >>> machine.vfree(address)

    The fourth page is the guard: nothing is mapped there, and a read would fault.
    """

    kernel: Kernel

    def vmalloc(self, size: int, caller: str = CALLER) -> int:
        """The address of `size` bytes, from pages that lie anywhere. Raises `OutOfMemory` with the kernel's words."""
        return self._make("vmalloc", size, caller)

    def vzalloc(self, size: int, caller: str = CALLER) -> int:
        """The same, all zeros. Raises `OutOfMemory`."""
        return self._make("vzalloc", size, caller)

    def vmalloc_user(self, size: int, caller: str = CALLER) -> int:
        """Zeros that may be shown to programs. Raises `OutOfMemory`."""
        return self._make("vmalloc_user", size, caller)

    def vmalloc_32(self, size: int, caller: str = CALLER) -> int:
        """From pages below 4 GiB. Raises `OutOfMemory`."""
        return self._make("vmalloc_32", size, caller)

    def vmalloc_huge(self, size: int, caller: str = CALLER) -> int:
        """By large pages, if they can be had. Raises `OutOfMemory`."""
        return self._make("vmalloc_huge", size, caller)

    def vfree(self, address: int, *, in_interrupt: bool = False) -> None:
        """Free what vmalloc gave; 0 is nothing. Raises `DoubleFree`, `BadRequest`.

        With `in_interrupt` an interrupt handler does it: then a worker frees it once the handler has ended.
        """
        whole_numbers("vfree", address=address)
        self._kept("vfree", address, int(in_interrupt))

    def vmap(self, pfns: Sequence[int], *, put_pages: bool = False, caller: str = CALLER) -> int:
        """Addresses for pages in this order; `put_pages`: `vfree` frees them. Raises `OutOfMemory`, `BadRequest`."""
        list_of_numbers("vmap", pfns=pfns)
        texts("vmap", caller=caller)
        return int(self._kept("vmap", tuple(pfns), int(put_pages), caller))

    def vunmap(self, address: int) -> None:
        """Undo `vmap`; the pages stay. Raises `DoubleFree`, `BadRequest`."""
        whole_numbers("vunmap", address=address)
        self._kept("vunmap", address)

    def vm_map_ram(self, pfns: Sequence[int]) -> int:
        """As `vmap`, for a short while. Raises `OutOfMemory`, `BadRequest`."""
        list_of_numbers("vm_map_ram", pfns=pfns)
        return int(self._kept("vm_map_ram", tuple(pfns)))

    def vm_unmap_ram(self, address: int, count: int) -> None:
        """Undo `vm_map_ram` of `count` pages. Raises `BadRequest`."""
        whole_numbers("vm_unmap_ram", address=address, count=count)
        self._kept("vm_unmap_ram", address, count)

    def vm_unmap_aliases(self) -> None:
        """Purge now: flush the TLB, and free all addresses that wait for that."""
        self._kept("vm_unmap_aliases")

    def ioremap(self, phys_addr: int, size: int, kind: str = "ioremap", caller: str = CALLER) -> int:
        """An address for a device's memory; `kind` is ioremap, ioremap_wc, … Raises `BadRequest`, `OutOfMemory`."""
        numbers_within("ioremap", 0, U64_MAX, phys_addr=phys_addr, size=size)
        texts("ioremap", kind=kind, caller=caller)
        if kind not in MAPPERS:
            raise BadRequest(f"there is no {kind!r}", where="ioremap", remedy=f"choose one of {', '.join(MAPPERS)}")
        return int(self._kept("ioremap", phys_addr, size, kind, caller))

    def iounmap(self, address: int) -> None:
        """Undo `ioremap`. Raises `BadRequest`."""
        whole_numbers("iounmap", address=address)
        self._kept("iounmap", address)

    def vmalloc_to_pfn(self, address: int) -> int | None:
        """The page frame behind an address of vmalloc's area, or None. No command."""
        whole_numbers("vmalloc_to_pfn", address=address)
        return vmalloc_to_pfn(self.kernel.mm, address)

    def vmallocinfo(self) -> str:
        """/proc/vmallocinfo. No command."""
        return vmallocinfo(self.kernel)

    # -- how they are carried out --------------------------------------------------------------------------------------

    def _make(self, kind: str, size: int, caller: str) -> int:
        whole_numbers(kind, size=size)
        texts(kind, caller=caller)
        if size < 0:
            raise BadRequest(f"{size} bytes can't be had", where=kind, remedy="ask for one byte at least")
        return int(self._kept("vmalloc", kind, size, caller))

    def _kept(self, name: str, *args: Any) -> Any:
        """Carry a command out; an error is raised behind it, so that what happened before, and its log, is kept."""
        if not self.kernel.mm.vmalloc.vmap_initialized:
            raise BadRequest("there are no addresses yet", where=name, remedy="boot beyond vmalloc_init")
        result = self._command(name, *args)
        if isinstance(result, KmemlabError):
            raise result
        return result

    def _with_work(self, action: Callable[..., Any], *args: Any) -> Any:
        try:
            return action(self.kernel.mm, *args)
        except KmemlabError as error:
            return error
        finally:
            run_vmap_work(self.kernel.mm)

    def _do_vmalloc(self, kind: str, size: int, caller: str) -> Any:
        return self._with_work(MAKERS[kind], size, caller)

    def _do_vfree(self, address: int, in_interrupt: int) -> Any:
        with interrupt(self.kernel.mm.current) if in_interrupt else nullcontext():
            result = self._with_work(vfree, address)
        run_vmap_work(self.kernel.mm)
        return result

    def _do_vmap(self, pfns: tuple[int, ...], put_pages: int, caller: str) -> Any:
        pages = [a_page(self.kernel, pfn, "vmap") for pfn in pfns]
        flags = VM_MAP | (VM_MAP_PUT_PAGES if put_pages else 0)
        return self._with_work(vmap, pages, flags, self.kernel.mm.vmalloc.page_kernel, caller)

    def _do_vunmap(self, address: int) -> Any:
        return self._with_work(vunmap, address)

    def _do_vm_map_ram(self, pfns: tuple[int, ...]) -> Any:
        return self._with_work(vm_map_ram, [a_page(self.kernel, pfn, "vm_map_ram") for pfn in pfns])

    def _do_vm_unmap_ram(self, address: int, count: int) -> Any:
        return self._with_work(vm_unmap_ram, address, count)

    def _do_vm_unmap_aliases(self) -> Any:
        return self._with_work(vm_unmap_aliases)

    def _do_ioremap(self, phys_addr: int, size: int, kind: str, caller: str) -> Any:
        return self._with_work(MAPPERS[kind], phys_addr, size, caller)

    def _do_iounmap(self, address: int) -> Any:
        return self._with_work(io.iounmap, address)
