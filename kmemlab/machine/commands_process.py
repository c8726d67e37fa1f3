"""The machine's commands for processes: starting and ending them, their system calls, what they touch.

`machine.fork()` copies the machine; a process forks by `machine.sys_fork(pid)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kmemlab.machine.commanded import Commanded, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.proc_pid import OomTask, getrusage, oom_tasks, proc_pid_maps, proc_pid_smaps, proc_pid_status
from kmemlab.mm.files import find_file
from kmemlab.process import folio_referenced, mkclean, try_to_unmap  # noqa: F401 (they enter themselves for reclaim)
from kmemlab.process.exit import do_exit, kernel_wait4
from kmemlab.process.fork import children, kernel_clone, spawn
from kmemlab.process.madvise import do_madvise
from kmemlab.process.malloc import free, malloc
from kmemlab.process.mlock import do_mlock, do_munlock
from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import MAP_ANONYMOUS, MAP_PRIVATE, MS_SYNC, PROT_READ, PROT_WRITE
from kmemlab.process.mmap import brk, do_mmap, vm_munmap
from kmemlab.process.mprotect import do_mprotect
from kmemlab.process.msync import msync
from kmemlab.process.signal import check_awake, get_signal
from kmemlab.process.task_struct import living, running
from kmemlab.process.user_access import user_access
from kmemlab.process.walk import user_pfn
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, KernelPanic, KmemlabError
from kmemlab.types.units import PAGE_SHIFT, PAGE_SIZE

READ_WRITE = PROT_READ | PROT_WRITE
MOST_BYTES = 1 << 26


@invented("one family of the machine's commands")
class ProcessCommands(Commanded):
    """Processes, known by their pids.

    >>> from kmemlab.machine.machine import Machine
    >>> from kmemlab.process.mman import MAP_SHARED
    >>> machine = Machine.boot("tiny-128m")
    >>> pid = machine.spawn("sh")
    >>> address = machine.mmap(pid, 8192)
    >>> machine.user_pfn(pid, address) is None
    True
    >>> machine.user_write(pid, address, b"hello")
    >>> child = machine.sys_fork(pid)
    >>> machine.user_pfn(pid, address) == machine.user_pfn(child, address)
    True
    >>> machine.user_write(child, address, b"J")
    >>> machine.user_read(pid, address, 5), machine.user_read(child, address, 5)
    (b'hello', b'Jello')
    >>> machine.create_file("data", pages=100)
    >>> shared = machine.mmap(pid, 8192, flags=MAP_SHARED, file="data")
    >>> machine.user_write(pid, shared, b"hello")
    >>> machine.read_file("data", 0, 6)
    b'hello\\x01'
    >>> machine.page_faults(pid)  # minor ones, and those that waited for the disk
    (1, 1)
    >>> machine.sys_exit(child, 3)
    >>> machine.sys_wait(pid) == (child, 3 << 8)
    True
    """

    kernel: Kernel

    # -- life ----------------------------------------------------------------------------------------------------------

    def spawn(self, name: str = "a.out") -> int:
        """A new process, a child of process 1, with a stack and no more; its pid. Raises `OutOfMemory`."""
        if not isinstance(name, str):
            raise BadRequest(f"a name must be text, not {name!r}", where="spawn", remedy='write for example "sh"')
        return int(self._process("spawn", name))

    def sys_fork(self, pid: int) -> int:
        """fork of a process; the pid of its child. Raises `OutOfMemory`, `BadRequest`."""
        return int(self._process("sys_fork", pid=pid))

    def sys_vfork(self, pid: int) -> int:
        """vfork: the child uses its parent's memory, and that sleeps until the child has gone; the child's pid.

        Raises `OutOfMemory`, `BadRequest`.
        """
        return int(self._process("sys_vfork", pid=pid))

    def sys_exit(self, pid: int, code: int = 0) -> None:
        """The process ends. Raises `BadRequest` for a pid that nobody has, or of a zombie."""
        self._process("sys_exit", pid=pid, code=code)

    def sys_wait(self, pid: int) -> tuple[int, int]:
        """wait of a process: pid and status of a child that has ended. Raises `MustWait`, `BadRequest`."""
        found: tuple[int, int] = self._process("sys_wait", pid=pid)
        return found

    # -- addresses -----------------------------------------------------------------------------------------------------

    def mmap(
        self, pid: int, length: int, prot: int = READ_WRITE, flags: int | None = None, addr: int = 0,
        *, file: str = "", offset: int = 0,
    ) -> int:  # fmt: skip
        """Addresses full of zeros for a process, or of what stands in a file from byte `offset` on.

        Without `flags` what the process writes is its own affair: MAP_PRIVATE. Raises `OutOfMemory`, `BadRequest`.
        """
        if flags is None:
            flags = MAP_PRIVATE if file else MAP_PRIVATE | MAP_ANONYMOUS
        if not isinstance(file, str) or (offset and not file):
            raise BadRequest(f"{file!r} is no file", where="mmap", remedy="give the name of one, made by create_file")
        numbers = {"pid": pid, "length": length, "prot": prot, "flags": flags, "addr": addr}
        if not file:
            return int(self._process("mmap", **numbers))
        return int(self._process("mmap", file, **numbers, offset=offset))

    def munmap(self, pid: int, addr: int, length: int) -> None:
        """Unmap addresses. Raises `OutOfMemory`, `BadRequest`."""
        self._process("munmap", pid=pid, addr=addr, length=length)

    def madvise(self, pid: int, addr: int, length: int, advice: int) -> None:
        """Say what a program will do with [addr, addr + length): MADV_DONTNEED, MADV_COLD or MADV_PAGEOUT.

        Raises `BadRequest`, `OutOfMemory` where something in between is not mapped.
        """
        self._process("madvise", pid=pid, addr=addr, length=length, advice=advice)

    def mprotect(self, pid: int, addr: int, length: int, prot: int) -> None:
        """Give addresses other rights. Raises `OutOfMemory`, `BadRequest`."""
        self._process("mprotect", pid=pid, addr=addr, length=length, prot=prot)

    def msync(self, pid: int, addr: int, length: int, flags: int = MS_SYNC) -> None:
        """Write what was changed in mapped files, and wait for it. Raises `OutOfMemory`, `BadRequest`."""
        self._process("msync", pid=pid, addr=addr, length=length, flags=flags)

    def mlock(self, pid: int, addr: int, length: int) -> None:
        """Bring the pages of addresses into memory and keep them there. Raises `OutOfMemory`, `BadRequest`."""
        self._process("mlock", pid=pid, addr=addr, length=length)

    def munlock(self, pid: int, addr: int, length: int) -> None:
        """Let the pages of addresses be reclaimed again. Raises `OutOfMemory`, `BadRequest`."""
        self._process("munlock", pid=pid, addr=addr, length=length)

    def brk(self, pid: int, addr: int = 0) -> int:
        """Move the end of the heap; where it is then. With 0, where it is."""
        return int(self._process("brk", pid=pid, addr=addr))

    def malloc(self, pid: int, size: int) -> int:
        """What the C library does for a program. Raises `OutOfMemory`, `BadRequest`."""
        return int(self._process("malloc", pid=pid, size=size))

    def user_free(self, pid: int, address: int) -> None:
        """free() of a program. Raises `DoubleFree`, `BadRequest`."""
        self._process("user_free", pid=pid, address=address)

    # -- bytes ---------------------------------------------------------------------------------------------------------

    def user_read(self, pid: int, address: int, size: int = 1) -> bytes:
        """What stands at an address of a process. Raises `Segfault`, `OutOfMemory`, `BadRequest`."""
        if isinstance(size, int) and not 0 < size <= MOST_BYTES:
            raise BadRequest(f"{size} bytes can't be read at once", where="user_read", remedy="read 1 byte to 64 MiB")
        found: bytes = self._process("user_read", pid=pid, address=address, size=size)
        return found

    def user_write(self, pid: int, address: int, data: bytes = b"\1") -> None:
        """Let a process write bytes at an address of its own. Raises `Segfault`, `OutOfMemory`, `BadRequest`."""
        if not isinstance(data, bytes) or not 0 < len(data) <= MOST_BYTES:
            raise BadRequest("1 byte to 64 MiB can be written", where="user_write", remedy='write for example b"abc"')
        self._process("user_write", data, pid=pid, address=address)

    def touch(self, pid: int, address: int, length: int, write: bool = True) -> None:
        """Read, or write, one byte of each page of [address, address + length). Raises `Segfault`, `OutOfMemory`."""
        self._process("touch", pid=pid, address=address, length=length, write=int(write))

    # -- looking: no commands ------------------------------------------------------------------------------------------

    def user_pfn(self, pid: int, address: int) -> int | None:
        """The page frame behind an address of a process; None if none is mapped. No command."""
        whole_numbers("user_pfn", pid=pid, address=address)
        return user_pfn(self.kernel.processes, pid, address)

    def children(self, pid: int) -> tuple[int, ...]:
        """The pids of the children of a process, zombies included. No command."""
        return children(self.kernel.processes, pid)

    def proc_maps(self, pid: int) -> str:
        """/proc/PID/maps. No command."""
        return proc_pid_maps(self.kernel.processes, pid)

    def proc_smaps(self, pid: int) -> str:
        """/proc/PID/smaps. No command."""
        return proc_pid_smaps(self.kernel.processes, pid)

    def page_faults(self, pid: int) -> tuple[int, int]:
        """What getrusage tells: a process's minor and major page faults. No command."""
        return getrusage(self.kernel.processes, pid)

    def proc_status(self, pid: int) -> str:
        """/proc/PID/status, as far as memory goes. No command."""
        return proc_pid_status(self.kernel.processes, pid)

    def oom_tasks(self) -> tuple[OomTask, ...]:
        """What the OOM killer would choose from. No command."""
        return oom_tasks(self.kernel.processes)

    # -- how they are carried out --------------------------------------------------------------------------------------

    def _process(self, command: str, /, *args: Any, **numbers: int) -> Any:
        """Carry a command out; an error is raised behind it, so that what happened before, and its log, is kept."""
        whole_numbers(command, **numbers)
        if not self.kernel.mm.totalram_pages or not self.kernel.mm.vmalloc.vmap_initialized:
            raise BadRequest("there are no processes yet", where=command, remedy="boot to the end")
        result = self._command(command, *numbers.values(), *args)
        if isinstance(result, KmemlabError):
            raise result
        return result

    def _as_task(self, pid: int, action: Callable[..., Any], *args: Any) -> Any:
        """Do something as that process; its error is the result. On its way back it may find that it was killed."""
        processes = self.kernel.processes
        try:
            task, mm = living(processes, pid)
            check_awake(processes, task)
            with running(self.kernel.mm.current, task):
                result = self._result(action, mm, *args)
                if not isinstance(result, KernelPanic):
                    get_signal(processes, task)
                return result
        except KmemlabError as error:
            return error

    def _result(self, action: Callable[..., Any], *args: Any) -> Any:
        try:
            return action(*args)
        except KmemlabError as error:
            return error

    def _kept_error(self, action: Callable[..., Any], *args: Any) -> Any:
        return self._result(action, self.kernel.processes, *args)

    def _do_spawn(self, name: str) -> Any:
        return self._kept_error(spawn, name)

    def _do_sys_fork(self, pid: int) -> Any:
        return self._as_task(pid, lambda mm: kernel_clone(self.kernel.processes, pid))

    def _do_sys_vfork(self, pid: int) -> Any:
        return self._as_task(pid, lambda mm: kernel_clone(self.kernel.processes, pid, True))

    def _do_sys_exit(self, pid: int, code: int) -> Any:
        processes = self.kernel.processes
        try:
            task, _ = living(processes, pid)
            check_awake(processes, task)
        except KmemlabError as error:
            return error
        with running(self.kernel.mm.current, task):
            return do_exit(processes, task, (code & 0xFF) << 8)

    def _do_sys_wait(self, pid: int) -> Any:
        return self._kept_error(kernel_wait4, pid)

    def _do_mmap(self, pid: int, length: int, prot: int, flags: int, addr: int, offset: int = 0, file: str = "") -> Any:
        try:
            ino = find_file(self.kernel.mm.files, file) if file else 0
        except BadRequest as error:
            return error
        if offset % PAGE_SIZE:
            return BadRequest(f"EINVAL: offset {offset}", where="mmap", remedy="begin at a page of the file")
        return self._as_task(pid, do_mmap, addr, length, prot, flags, ino, offset >> PAGE_SHIFT)

    def _do_mlock(self, pid: int, addr: int, length: int) -> Any:
        return self._as_task(pid, do_mlock, addr, length)

    def _do_munlock(self, pid: int, addr: int, length: int) -> Any:
        return self._as_task(pid, do_munlock, addr, length)

    def _do_msync(self, pid: int, addr: int, length: int, flags: int) -> Any:
        return self._as_task(pid, msync, addr, length, flags)

    def _do_munmap(self, pid: int, addr: int, length: int) -> Any:
        return self._as_task(pid, vm_munmap, addr, length)

    def _do_madvise(self, pid: int, addr: int, length: int, advice: int) -> Any:
        return self._as_task(pid, do_madvise, addr, length, advice)

    def _do_mprotect(self, pid: int, addr: int, length: int, prot: int) -> Any:
        return self._as_task(pid, do_mprotect, addr, length, prot)

    def _do_brk(self, pid: int, addr: int) -> Any:
        return self._as_task(pid, brk, addr)

    def _do_malloc(self, pid: int, size: int) -> Any:
        return self._as_task(pid, lambda mm: malloc(self.kernel.processes, pid, size))

    def _do_user_free(self, pid: int, address: int) -> Any:
        return self._as_task(pid, lambda mm: free(self.kernel.processes, pid, address))

    def _do_user_read(self, pid: int, address: int, size: int) -> Any:
        return self._as_task(pid, lambda mm: user_access(self.kernel.processes, pid, address, size))

    def _do_user_write(self, pid: int, address: int, data: bytes) -> Any:
        return self._as_task(pid, lambda mm: user_access(self.kernel.processes, pid, address, len(data), data))

    def _do_touch(self, pid: int, address: int, length: int, write: int) -> Any:
        data = b"\1" if write else None

        def touch_pages(_mm: MmStruct) -> None:
            for at in range(address, address + length, 4096):
                user_access(self.kernel.processes, pid, at, 1, data)

        return self._as_task(pid, touch_pages)
