"""The machine's commands for per-CPU memory: alloc_percpu and free_percpu, reading and writing this CPU's copy."""

from __future__ import annotations

from kmemlab.alloc.percpu import alloc_percpu_gfp, alloc_reserved_percpu, free_percpu, per_cpu_ptr
from kmemlab.alloc.percpu_balance import pcpu_balance_workfn
from kmemlab.alloc.percpu_ops import get_cpu_var, put_cpu_var, this_cpu_add, this_cpu_read, this_cpu_write
from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.kernel_access import load
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL


@invented("one family of the machine's commands")
class PercpuCommands(Commanded):
    """Memory of which each CPU has its own copy.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("numa-2x4g")
    >>> counter = machine.alloc_percpu(8)
    >>> machine.this_cpu_add(counter, 5)
    >>> machine.run_task(1, cpu=1)
    >>> machine.this_cpu_add(counter, 7)
    >>> [machine.per_cpu(counter, cpu) for cpu in range(3)]
    [5, 7, 0]
    """

    kernel: Kernel

    def alloc_percpu(self, size: int, align: int = 8, gfp: int = GFP_KERNEL) -> int:
        """A pointer to `size` bytes (at most 32768) for each CPU, all zeros.

        Raises `OutOfMemory` when there is no room, `BadRequest` for a size or alignment that no chunk has.
        """
        whole_numbers("alloc_percpu", size=size, align=align, gfp=gfp)
        pointer: int = self._command("alloc_percpu", size, align, gfp)
        return pointer

    def define_per_cpu(self, size: int, align: int = 8) -> int:
        """The DEFINE_PER_CPU variables of a module that is loaded: `size` bytes of the reserved area, if there is one.

        Raises `OutOfMemory` when that is full.
        """
        whole_numbers("define_per_cpu", size=size, align=align)
        pointer: int = self._command("define_per_cpu", size, align)
        return pointer

    def free_percpu(self, pointer: int) -> None:
        """Give back what `alloc_percpu` returned. Raises `DoubleFree`, `BadRequest`."""
        whole_numbers("free_percpu", pointer=pointer)
        self._command("free_percpu", pointer)

    def this_cpu_read(self, pointer: int, size: int = 8) -> int:
        """What the copy of the running CPU holds."""
        whole_numbers("this_cpu_read", pointer=pointer, size=size)
        value: int = self._command("this_cpu_read", pointer, size)
        return value

    def this_cpu_write(self, pointer: int, value: int, size: int = 8) -> None:
        """Write the copy of the running CPU."""
        whole_numbers("this_cpu_write", pointer=pointer, value=value, size=size)
        self._command("this_cpu_write", pointer, value, size)

    def this_cpu_add(self, pointer: int, value: int, size: int = 8) -> None:
        """Add to the copy of the running CPU, in one instruction."""
        whole_numbers("this_cpu_add", pointer=pointer, value=value, size=size)
        self._command("this_cpu_add", pointer, value, size)

    def get_cpu_var(self, pointer: int) -> int:
        """The address of the running CPU's copy, and preemption off until `put_cpu_var`."""
        whole_numbers("get_cpu_var", pointer=pointer)
        address: int = self._command("get_cpu_var", pointer)
        return address

    def put_cpu_var(self) -> None:
        """The end of `get_cpu_var`. Raises `BadRequest` without one."""
        self._command("put_cpu_var")

    def run_percpu_worker(self) -> bool:
        """Let the worker of per-CPU memory run if it was woken; whether it was."""
        ran: bool = self._command("run_percpu_worker")
        return ran

    def per_cpu_ptr(self, pointer: int, cpu: int) -> int:
        """The address of a CPU's copy. No command: it changes nothing."""
        whole_numbers("per_cpu_ptr", pointer=pointer, cpu=cpu)
        a_cpu(self.kernel, cpu, "per_cpu_ptr")
        return per_cpu_ptr(self.kernel.percpu, pointer, cpu)

    def per_cpu(self, pointer: int, cpu: int, size: int = 8) -> int:
        """What a CPU's copy holds. No command."""
        return load(self.kernel.boot, self.per_cpu_ptr(pointer, cpu), size)

    def _do_alloc_percpu(self, size: int, align: int, gfp: int) -> int:
        self._needs_chunks("alloc_percpu")
        return given(alloc_percpu_gfp(self.kernel.percpu, size, align, gfp), size, align)

    def _do_define_per_cpu(self, size: int, align: int) -> int:
        self._needs_chunks("define_per_cpu")
        return given(alloc_reserved_percpu(self.kernel.percpu, size, align), size, align)

    def _do_free_percpu(self, pointer: int) -> None:
        free_percpu(self.kernel.percpu, pointer)

    def _do_this_cpu_read(self, pointer: int, size: int) -> int:
        return this_cpu_read(self.kernel.percpu, pointer, size)

    def _do_this_cpu_write(self, pointer: int, value: int, size: int) -> None:
        this_cpu_write(self.kernel.percpu, pointer, value, size)

    def _do_this_cpu_add(self, pointer: int, value: int, size: int) -> None:
        this_cpu_add(self.kernel.percpu, pointer, value, size)

    def _do_get_cpu_var(self, pointer: int) -> int:
        return get_cpu_var(self.kernel.percpu, pointer)

    def _do_put_cpu_var(self) -> None:
        if not self.kernel.mm.current.preempt_count:
            raise BadRequest("preemption is on", where="put_cpu_var", remedy="call it once for each get_cpu_var")
        put_cpu_var(self.kernel.percpu)

    def _do_run_percpu_worker(self) -> bool:
        woken = bool(self.kernel.percpu.balance_work)
        if woken:
            pcpu_balance_workfn(self.kernel.percpu)
        return woken

    def _needs_chunks(self, where: str) -> None:
        if not self.kernel.percpu.nr_populated:
            raise BadRequest("there is no per-CPU memory yet", where=where, remedy="boot beyond setup_per_cpu_areas")


@invented("C's callers look at the pointer", traced=False)
def given(pointer: int | None, size: int, align: int) -> int:
    """The pointer, if there is one. Raises `OutOfMemory` or, for what can never be had, `BadRequest`."""
    if pointer is not None:
        return pointer
    where = f"alloc_percpu(size={size}, align={align})"
    if not 0 < size <= 32768 or align > 4096 or align & align - 1:
        raise BadRequest(
            f"illegal size ({size}) or align ({align}) for percpu allocation",
            where=where,
            remedy="ask for 1 to 32768 bytes, aligned to a power of two up to 4096",
        )
    raise OutOfMemory(
        "no chunk has room, or there are no pages for it",
        where=where,
        remedy="free some; without __GFP_DIRECT_RECLAIM, let run_percpu_worker provide pages and ask again",
    )


@invented("C would read beyond the table", traced=False)
def a_cpu(kernel: Kernel, cpu: int, where: str) -> None:
    """Raise `BadRequest` for a CPU that this machine can't have."""
    cpus = kernel.percpu.units.nr_cpus
    if not 0 <= cpu < cpus:
        raise BadRequest(f"there is no CPU {cpu}", where=where, remedy=f"choose 0 to {cpus - 1}")
