"""The machine's commands for files: what programs read and write, and what becomes of it in memory."""

from __future__ import annotations

from kmemlab.alloc.dcache import opened
from kmemlab.alloc.drop_caches import DROP_OBJECTS, DROP_PAGES, drop_slab
from kmemlab.alloc.filemap import create_file, drop_pagecache, filemap_read, generic_perform_write, touch_inode
from kmemlab.alloc.writeback import ksys_sync
from kmemlab.machine.commanded import Commanded, texts, whole_numbers
from kmemlab.machine.kernel import Kernel
from kmemlab.mm.files import find_file
from kmemlab.mm.globals import Mm
from kmemlab.mm.vm_event import DROP_SLAB
from kmemlab.mm.wait import pass_time
from kmemlab.process.truncate import truncate_setsize
from kmemlab.reclaim import direct, kswapd  # noqa: F401 (they enter themselves where pages are short)
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest
from kmemlab.types.units import PAGE_SIZE


@invented("one family of the machine's commands")
class FileCommands(Commanded):
    """Files on a simulated disk, read and written through the page cache.

    >>> from kmemlab.machine.machine import Machine
    >>> machine = Machine.boot("tiny-128m")
    >>> machine.create_file("data", pages=100)
    >>> before = machine.kernel.mm.current.jiffies
    >>> machine.read_file("data", 0, 3)  # from the disk, which takes its time
    b'\\x01\\x01\\x01'
    >>> machine.kernel.mm.current.jiffies > before
    True
    >>> machine.write_file("data", 1, b"new")
    >>> machine.sync()  # the page, and the inode
    2
    >>> machine.drop_caches()  # readahead had brought four pages, and the inode's block was read
    5
    >>> machine.read_file("data", 0, 5)
    b'\\x01new\\x01'
    """

    kernel: Kernel

    def create_file(self, name: str, pages: int) -> None:
        """Put a file on the disk; its page n is full of the byte n % 251 + 1. Raises `BadRequest`."""
        texts("create_file", name=name)
        whole_numbers("create_file", pages=pages)
        self._command("create_file", name, pages)

    def read_file(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read bytes of a file, all of them without `size`. Raises `BadRequest`, `OutOfMemory`."""
        texts("read_file", name=name)
        whole_numbers("read_file", offset=offset, size=size or 0)
        data: bytes = self._command("read_file", name, offset, size)
        return data

    def write_file(self, name: str, offset: int, data: bytes) -> None:
        """Write bytes into a file; the disk gets them later. Raises `BadRequest`, `OutOfMemory`."""
        texts("write_file", name=name)
        whole_numbers("write_file", offset=offset)
        if not isinstance(data, bytes):
            raise BadRequest(f"{data!r} is no bytes", where="write_file", remedy='write for example b"text"')
        self._command("write_file", name, offset, data)

    def truncate_file(self, name: str, pages: int) -> None:
        """Give a file another size, at most that with which it was made. Raises `BadRequest`."""
        texts("truncate_file", name=name)
        whole_numbers("truncate_file", pages=pages)
        self._command("truncate_file", name, pages)

    def sync(self) -> int:
        """Write all changed pages to the disk and wait for it; returns how many pages it were."""
        written: int = self._command("sync")
        return written

    def stat_file(self, name: str) -> int:
        """Look a file up without reading it: its name and inode come to memory; returns its size in pages.

        Raises `BadRequest`, `OutOfMemory`.
        """
        texts("stat_file", name=name)
        pages: int = self._command("stat_file", name)
        return pages

    def drop_caches(self, what: int = DROP_PAGES) -> int:
        """Drop what nobody uses, as `echo what > /proc/sys/vm/drop_caches` does; returns how many pages and objects.

        1 stands for the clean pages of all files, 2 for names and inodes, 3 for both. Raises `BadRequest`.
        """
        whole_numbers("drop_caches", what=what)
        dropped: int = self._command("drop_caches", what)
        return dropped

    def tick(self, jiffies: int = 1) -> None:
        """Let jiffies (4 ms each) pass: the disk finishes requests, and daemons that are awake run."""
        whole_numbers("tick", jiffies=jiffies)
        self._command("tick", jiffies)

    def _do_create_file(self, name: str, pages: int) -> None:
        mm = self.kernel.mm
        ino = create_file(mm, name, pages)
        if mm.totalram_pages:
            with opened(mm, ino):
                pass  # whoever makes a file has its name and inode in memory

    def _do_read_file(self, name: str, offset: int, size: int | None) -> bytes:
        mm = self._with_memory("read_file")
        ino = find_file(mm.files, name)
        if offset < 0 or (size or 0) < 0:
            raise BadRequest("there are no bytes before the first", where="read_file", remedy="give 0 or more")
        with opened(mm, ino):
            return filemap_read(mm, ino, offset, mm.files.nr_pages[ino] * PAGE_SIZE if size is None else size)

    def _do_write_file(self, name: str, offset: int, data: bytes) -> None:
        mm = self._with_memory("write_file")
        ino = find_file(mm.files, name)
        with opened(mm, ino):
            generic_perform_write(mm, ino, offset, data)

    def _do_stat_file(self, name: str) -> int:
        mm = self._with_memory("stat_file")
        ino = find_file(mm.files, name)
        with opened(mm, ino):
            touch_inode(mm, ino, write=False)
            return mm.files.nr_pages[ino]

    def _do_truncate_file(self, name: str, pages: int) -> None:
        mm = self._with_memory("truncate_file")
        truncate_setsize(mm, find_file(mm.files, name), pages)

    def _do_sync(self) -> int:
        return ksys_sync(self._with_memory("sync"))

    def _do_drop_caches(self, what: int = DROP_PAGES) -> int:
        mm, dropped = self._with_memory("drop_caches"), 0
        if what not in (DROP_PAGES, DROP_OBJECTS, DROP_PAGES | DROP_OBJECTS):
            raise BadRequest(f"{what} says nothing to drop", where="drop_caches", remedy="give 1, 2 or 3")
        if what & DROP_PAGES:
            dropped += drop_pagecache(mm)
        if what & DROP_OBJECTS:
            dropped += drop_slab(mm)
            mm.vm_event[DROP_SLAB] += 1
        return dropped

    def _do_tick(self, jiffies: int) -> None:
        if jiffies < 0:
            raise BadRequest(f"{jiffies} jiffies can't pass", where="tick", remedy="let 0 or more pass")
        pass_time(self.kernel.mm, jiffies)

    def _with_memory(self, where: str) -> Mm:
        mm = self.kernel.mm
        if not mm.totalram_pages:
            raise BadRequest("there is no page allocator yet", where=where, remedy="boot beyond memblock_free_all")
        return mm
