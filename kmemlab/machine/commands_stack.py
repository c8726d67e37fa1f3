"""The machine's commands for kernel stacks: taking and freeing them, calls that go deep, and the scheduler's look."""

from __future__ import annotations

from kmemlab.alloc.stack_overflow import call, ret, schedule_debug
from kmemlab.alloc.thread_stack import ThreadStacks, alloc_thread_stack_node, free_thread_stack
from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.sim.kernel import invented
from kmemlab.types.config import NUMA_NO_NODE
from kmemlab.types.errors import BadRequest, OutOfMemory


@invented("one family of the machine's commands")
class StackCommands(Commanded):
    """Stacks, known by their lowest address.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("tiny-128m")
    >>> stack = machine.alloc_thread_stack()
    >>> machine.call(stack, 16000) - stack
    384
    >>> machine.ret(stack, 16000)
    >>> machine.schedule(stack)
    >>> machine.free_thread_stack(stack)
    """

    kernel: Kernel

    def build_stacks(self, thread_size: int, vmap_stack: bool) -> None:
        """As if the kernel were built so: 4096 bytes for 4K stacks. Raises `BadRequest` once there are stacks."""
        whole_numbers("build_stacks", thread_size=thread_size, vmap_stack=vmap_stack)
        self._command("build_stacks", thread_size, int(vmap_stack))

    def alloc_thread_stack(self, node: int = NUMA_NO_NODE) -> int:
        """A stack for a new task. Raises `OutOfMemory`."""
        whole_numbers("alloc_thread_stack", node=node)
        stack: int = self._command("alloc_thread_stack", node)
        return stack

    def free_thread_stack(self, stack: int) -> None:
        """The task is gone. Raises `DoubleFree`, `BadRequest`."""
        whole_numbers("free_thread_stack", stack=stack)
        self._command("free_thread_stack", stack)

    def call(self, stack: int, frame: int, value: int = 0) -> int:
        """Call a function with `frame` bytes of variables; it writes `value` at the lowest address, which is returned.

        Raises `StackOverflow` where a guard page is hit, `PageFault`, `BadRequest`.
        """
        whole_numbers("call", stack=stack, frame=frame, value=value)
        address: int = self._command("call", stack, frame, value)
        return address

    def ret(self, stack: int, frame: int) -> None:
        """Return from a function that had `frame` bytes. Raises `BadRequest` where nothing was called."""
        whole_numbers("ret", stack=stack, frame=frame)
        self._command("ret", stack, frame)

    def schedule(self, stack: int) -> None:
        """Let the scheduler look at a task's stack. Raises `KernelPanic` if it was used up."""
        whole_numbers("schedule", stack=stack)
        self._command("schedule", stack)

    def _do_build_stacks(self, thread_size: int, vmap_stack: int) -> None:
        stacks = self.kernel.stacks
        if stacks.count or any(stacks.cached_stacks) or thread_size not in (4096, 8192, 16384, 32768):
            raise BadRequest(
                f"no kernel with stacks of {thread_size} bytes can be made of this one",
                where="build_stacks",
                remedy="choose 4096, 8192, 16384 or 32768, before the first stack is taken",
            )
        stacks.thread_size, stacks.vmap_stack = thread_size, vmap_stack

    def _do_alloc_thread_stack(self, node: int) -> int:
        stacks, numa = self.kernel.stacks, self.kernel.numa
        known = node == NUMA_NO_NODE or (0 <= node < numa.nr_nodes and numa.node_online[node])
        if not self.kernel.mm.totalram_pages or not known:
            raise BadRequest(
                f"no stack can be had from node {node}",
                where="alloc_thread_stack",
                remedy="boot beyond mem_init, and choose a node that is online",
            )
        stack = alloc_thread_stack_node(stacks, node)
        if stack is None:
            raise OutOfMemory(
                f"there are no {stacks.thread_size} bytes for a stack", where="alloc_thread_stack", remedy=more(stacks)
            )
        return stack

    def _do_free_thread_stack(self, stack: int) -> None:
        free_thread_stack(self.kernel.stacks, stack)

    def _do_call(self, stack: int, frame: int, value: int) -> int:
        return call(self.kernel.stacks, stack, frame, value)

    def _do_ret(self, stack: int, frame: int) -> None:
        ret(self.kernel.stacks, stack, frame)

    def _do_schedule(self, stack: int) -> None:
        schedule_debug(self.kernel.stacks, stack)


@invented("errors that teach", traced=False)
def more(stacks: ThreadStacks) -> str:
    """What helps when there is no stack."""
    if stacks.vmap_stack:
        return "free some memory, or some addresses of vmalloc's area"
    return "free some memory in a row; with VMAP_STACK single pages would do"
