"""The machine's commands for objects: caches by name, kmalloc, and a student's reads and writes of memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from kmemlab.alloc import kmalloc as kmalloc_room
from kmemlab.alloc import slab_common, slab_create
from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.alloc.slab_common import UP
from kmemlab.machine.commanded import Commanded, list_of_numbers, numbers_within, texts, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.wrong_object import error_of, look_before_free
from kmemlab.sim.kernel import invented
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import BadRequest, OutOfMemory, SlabCorruption
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.types.trap_pf import X86_PF_WRITE
from kmemlab.types.units import INT_MAX, PAGE_SIZE

U32_MAX = 2 * INT_MAX + 1


@invented("one family of the machine's commands")
class SlabCommands(Commanded):
    """Objects. Addresses are those of the direct map; a cache is known by its name.

    Who calls is noted for reports: the Python function and line, or what `caller` says.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("tiny-128m")
    >>> address = machine.kmalloc(100, GFP_KERNEL)
    >>> machine.ksize(address)
    128
    >>> machine.kfree(address)
    """

    kernel: Kernel

    # -- caches --------------------------------------------------------------------------------------------------------

    def kmem_cache_create(
        self,
        name: str,
        size: int,
        align: int = 0,
        flags: int = 0,
        ctor: Callable[[Any, int], None] | None = None,
        usersize: int = 0,
    ) -> str:
        """Make a cache of objects of `size` bytes, or share one that suits; returns its name.

        `ctor(memory, address)` fills an object when its slab is made: `memory.write(address, b"...")`. Raises
        `BadRequest` for a cache that can't be made, `KernelPanic` with SLAB_PANIC.
        """
        texts("kmem_cache_create", name=name)
        whole_numbers("kmem_cache_create", size=size)
        numbers_within("kmem_cache_create", 0, U32_MAX, align=align, flags=flags, usersize=usersize)
        made: str = self._slab_command("kmem_cache_create", name, size, align, flags, ctor, usersize)
        return made

    def kmem_cache_alloc(self, cache: str, gfp: int = GFP_KERNEL, node: int = NUMA_NO_NODE, *, caller: str = "") -> int:
        """Take an object; its address. Raises `OutOfMemory`, `BadRequest` for a cache that there is not."""
        whole_numbers("kmem_cache_alloc", gfp=gfp, node=node)
        address: int = self._slab_command("kmem_cache_alloc", cache, gfp, node, caller or call_site())
        return address

    def kmem_cache_free(self, cache: str, address: int, *, caller: str = "") -> None:
        """Give an object back to its cache. Raises `DoubleFree`, `WrongCache`, `BadRequest`, `SlabCorruption`."""
        whole_numbers("kmem_cache_free", address=address)
        self._slab_command("kmem_cache_free", cache, address, caller or call_site())

    def kmem_cache_alloc_bulk(self, cache: str, gfp: int, count: int, *, caller: str = "") -> tuple[int, ...]:
        """Take `count` objects at once, or none. Raises `OutOfMemory`."""
        whole_numbers("kmem_cache_alloc_bulk", gfp=gfp, count=count)
        objects: tuple[int, ...] = self._slab_command("kmem_cache_alloc_bulk", cache, gfp, count, caller or call_site())
        return objects

    def kmem_cache_free_bulk(self, cache: str, addresses: tuple[int, ...], *, caller: str = "") -> None:
        """Give objects back at once. Raises what `kmem_cache_free` raises, for the last that is wrong."""
        list_of_numbers("kmem_cache_free_bulk", addresses=addresses)
        self._slab_command("kmem_cache_free_bulk", cache, tuple(addresses), caller or call_site())

    def kmem_cache_shrink(self, cache: str) -> int:
        """Let a cache give its empty slabs back; 0 if it has none left."""
        left: int = self._slab_command("kmem_cache_shrink", cache)
        return left

    def kmem_cache_destroy(self, cache: str, *, caller: str = "") -> None:
        """Destroy a cache, or take back one share of it. Raises `ObjectsRemain` while somebody holds objects."""
        self._slab_command("kmem_cache_destroy", cache, caller or call_site())

    # -- kmalloc -------------------------------------------------------------------------------------------------------

    def kmalloc(self, size: int, gfp: int = GFP_KERNEL, node: int = NUMA_NO_NODE, *, caller: str = "") -> int:
        """Take `size` bytes; their address. Raises `OutOfMemory`."""
        whole_numbers("kmalloc", size=size, gfp=gfp, node=node)
        address: int = self._slab_command("kmalloc", size, gfp, node, caller or call_site())
        return address

    def kzalloc(self, size: int, gfp: int = GFP_KERNEL, node: int = NUMA_NO_NODE, *, caller: str = "") -> int:
        """Take `size` bytes that are 0; their address. Raises `OutOfMemory`."""
        whole_numbers("kzalloc", size=size, gfp=gfp, node=node)
        address: int = self._slab_command("kzalloc", size, gfp, node, caller or call_site())
        return address

    def krealloc(self, address: int, size: int, gfp: int = GFP_KERNEL, *, caller: str = "") -> int:
        """More or less room for the same contents; the new address. Raises `OutOfMemory`."""
        whole_numbers("krealloc", address=address, size=size, gfp=gfp)
        moved: int = self._slab_command("krealloc", address, size, gfp, caller or call_site())
        return moved

    def kfree(self, address: int, *, caller: str = "") -> None:
        """Give back what kmalloc gave. Raises `DoubleFree`, `BadRequest`, `SlabCorruption`."""
        whole_numbers("kfree", address=address)
        self._slab_command("kfree", address, caller or call_site())

    def ksize(self, address: int) -> int:
        """How many bytes the owner of an address may use."""
        whole_numbers("ksize", address=address)
        return kmalloc_room.ksize(self.kernel.slab, address)

    # -- memory --------------------------------------------------------------------------------------------------------

    def write(self, address: int, data: bytes) -> None:
        """Write bytes from a kernel address on, whoever they belong to. Raises `PageFault` where nothing is mapped."""
        whole_numbers("write", address=address)
        if not isinstance(data, bytes | bytearray | memoryview):
            raise BadRequest(f"{data!r} is no bytes", where="write", remedy='write for example b"text"')
        self._command("write", address, bytes(data))

    def read(self, address: int, size: int) -> bytes:
        """The bytes from a kernel address on. Raises `PageFault` where nothing is mapped."""
        whole_numbers("read", address=address, size=size)
        found: bytes = self._command("read", address, size)
        return found

    # -- how they are carried out --------------------------------------------------------------------------------------

    def _slab_command(self, name: str, *args: Any) -> Any:
        """Carry out a command, then raise what the kernel found wrong meanwhile, or what it overlooked."""
        bugs = self.kernel.slab.bugs
        before = bugs.count
        result = self._command(name, *args)
        if bugs.count > before:
            error = error_of(bugs[before], name, self._timeline)
            if isinstance(error, SlabCorruption):
                error.result = result
            raise error
        if result is None and name in FAILS_WITH_NONE:
            raise OutOfMemory(f"{name}{args[:-1]} got no memory", where=name, remedy="free some, or ask for less")
        return result

    def _do_kmem_cache_create(
        self, name: str, size: int, align: int, flags: int, ctor: Callable[[Any, int], None] | None, usersize: int
    ) -> str:
        common = working(self.kernel)
        if not 0 < size <= 1 << 22 or not name or " " in name:
            raise BadRequest(
                f"no cache {name!r} of objects of {size} bytes",
                where="kmem_cache_create",
                remedy="choose 1 byte to 4 MiB, and a name without spaces",
            )
        cache = slab_create.kmem_cache_create(common, name, size, align, flags, ctor, 0, usersize)
        if cache is None:
            raise BadRequest(
                f"cache {name!r} can't be made", where="kmem_cache_create", remedy="ask for flags that exist"
            )
        return name

    def _do_kmem_cache_alloc(self, cache: str, gfp: int, node: int, caller: str) -> int | None:
        found = a_cache(self.kernel, cache)
        number = caller_number(self.kernel, caller)
        return slab_common.kmem_cache_alloc_node(found, gfp, a_node(self.kernel, node), number, found.object_size)

    def _do_kmem_cache_free(self, cache: str, address: int, caller: str) -> None:
        found = a_cache(self.kernel, cache)
        self._free(found, address, lambda number: slab_common.kmem_cache_free(found, address, number), caller)

    def _do_kmem_cache_alloc_bulk(self, cache: str, gfp: int, count: int, caller: str) -> tuple[int, ...] | None:
        number = caller_number(self.kernel, caller)
        return slab_common.kmem_cache_alloc_bulk(a_cache(self.kernel, cache), gfp, count, number) or None

    def _do_kmem_cache_free_bulk(self, cache: str, addresses: tuple[int, ...], caller: str) -> None:
        found = a_cache(self.kernel, cache)
        wrong = [bug for bug in (look_before_free(found.common, found, address) for address in addresses) if bug]
        before = found.common.bugs.count
        slab_common.kmem_cache_free_bulk(found, addresses, caller_number(self.kernel, caller))
        if wrong and found.common.bugs.count == before:
            found.common.bugs.add(wrong[-1])

    def _do_kmem_cache_shrink(self, cache: str) -> int:
        return slab_create.kmem_cache_shrink(a_cache(self.kernel, cache))

    def _do_kmem_cache_destroy(self, cache: str, caller: str) -> None:
        slab_create.kmem_cache_destroy(a_cache(self.kernel, cache), caller)

    def _do_kmalloc(self, size: int, gfp: int, node: int, caller: str) -> int | None:
        common, number = working(self.kernel), caller_number(self.kernel, caller)
        return kmalloc_room.kmalloc(common, a_size(size), gfp, a_node(self.kernel, node), number)

    def _do_kzalloc(self, size: int, gfp: int, node: int, caller: str) -> int | None:
        common, number = working(self.kernel), caller_number(self.kernel, caller)
        return kmalloc_room.kzalloc(common, a_size(size), gfp, a_node(self.kernel, node), number)

    def _do_krealloc(self, address: int, size: int, gfp: int, caller: str) -> int | None:
        common, number = working(self.kernel), caller_number(self.kernel, caller)
        return kmalloc_room.krealloc(common, address, a_size(size), gfp, number)

    def _do_kfree(self, address: int, caller: str) -> None:
        common = working(self.kernel)
        self._free(None, address, lambda number: kmalloc_room.kfree(common, address, number), caller)

    def _free(self, cache: KmemCache | None, address: int, free: Callable[[int], None], caller: str) -> None:
        """Let the kernel take an object back; what it does not notice itself is kept all the same."""
        common = self.kernel.slab
        wrong = look_before_free(common, cache, address)
        before = common.bugs.count
        free(caller_number(self.kernel, caller))
        if wrong is not None and common.bugs.count == before:
            common.bugs.add(wrong)

    def _do_write(self, address: int, data: bytes) -> None:
        while data:
            piece, data = data[: PAGE_SIZE - address % PAGE_SIZE], data[PAGE_SIZE - address % PAGE_SIZE :]
            self.kernel.boot.ram.write_bytes(self.kernel.boot.mmu.access(address, X86_PF_WRITE), piece)
            address += len(piece)

    def _do_read(self, address: int, size: int) -> bytes:
        found = b""
        while size > len(found):
            at = address + len(found)
            piece = min(size - len(found), PAGE_SIZE - at % PAGE_SIZE)
            found += self.kernel.boot.ram.read_bytes(self.kernel.boot.mmu.access(at), piece)
        return found


FAILS_WITH_NONE = ("kmem_cache_alloc", "kmem_cache_alloc_bulk", "kmalloc", "kzalloc", "krealloc")


@invented("C notes the return address", traced=False)
def call_site() -> str:
    """The Python function and line that called the machine."""
    frame = sys._getframe(2)
    return f"{frame.f_code.co_name}:{frame.f_lineno}"


@invented("the number of a text", traced=False)
def caller_number(kernel: Kernel, caller: str) -> int:
    """The number under which callers are noted in objects; a new caller gets a new one."""
    callers = kernel.slab.callers
    known = callers.lines()
    if caller in known:
        return 1 + known.index(caller)
    callers.append(caller)
    return callers.count


@invented("slab_is_available()", traced=False)
def working(kernel: Kernel) -> slab_common.SlabCommon:
    """The allocator of objects. Raises `BadRequest` before boot has come so far."""
    if kernel.slab.slab_state < UP:
        raise BadRequest("kmalloc does not work yet", where="boot", remedy="boot beyond kmem_cache_init")
    return kernel.slab


@invented("C has a pointer", traced=False)
def a_cache(kernel: Kernel, name: str) -> KmemCache:
    """The cache of a name, or the one that the name shares. Raises `BadRequest` if there is none."""
    common = working(kernel)
    for cache in common.existing():
        if cache.name == name or name in common.users_of(cache):
            return cache
    raise BadRequest(f"there is no cache {name!r}", where="kmem_cache", remedy="take the name from kmem_cache_create")


@invented("C has no node that isn't there", traced=False)
def a_node(kernel: Kernel, node: int) -> int:
    """A node that there is, or NUMA_NO_NODE. Raises `BadRequest`."""
    if node != NUMA_NO_NODE and not (0 <= node < len(kernel.mm.node_data) and kernel.mm.numa.node_online[node]):
        raise BadRequest(f"there is no node {node}", where="kmalloc", remedy=f"choose another, or {NUMA_NO_NODE}: any")
    return node


@invented("C's size_t has no sign", traced=False)
def a_size(size: int) -> int:
    """A size of 0 bytes or more. Raises `BadRequest`."""
    if size < 0:
        raise BadRequest(f"{size} bytes are no size", where="kmalloc", remedy="ask for 0 bytes or more")
    return size
