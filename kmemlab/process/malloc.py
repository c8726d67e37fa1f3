"""A program's malloc, followed down to the page: brk for small requests, mmap for large ones.

malloc(100) ─▶ a free chunk of the heap, else brk ─▶ do_brk_flags            addresses; still no page
malloc(1 MiB) ─▶ mmap ─▶ do_mmap                                             addresses; still no page
*p = 1 ─▶ #PF ─▶ do_anonymous_page ─▶ alloc_pages                            now a page

heap   |  | size▪ | user's bytes …  | size▪ | …free…  | size▪ | top: what is left of the last brk |
             └ the lowest bit says whether the chunk is in use; bit 1: it is a mapping of its own

All of this stands in the program's own memory, and malloc's writing there is what faults the first page in.
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.process.mm_struct import MmStruct
from kmemlab.process.mman import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from kmemlab.process.mmap import brk, do_mmap, vm_munmap
from kmemlab.process.task_struct import Processes, living
from kmemlab.process.user_access import user_access
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, DoubleFree, OutOfMemory
from kmemlab.types.units import KIB, PAGE_SIZE, round_up

DEFAULT_MMAP_THRESHOLD = 128 * KIB
DEFAULT_TOP_PAD = 128 * KIB
MALLOC_ALIGNMENT = 16
SIZE_SZ = 8
HEADER = 2 * SIZE_SZ  # the first of the two words still belongs to the chunk before
MINSIZE = 32
IN_USE, IS_MMAPPED = 1, 2


@invented("glibc's request2size", traced=False)
def request2size(size: int) -> int:
    """The bytes of the chunk for a request: with a word for its size, a multiple of 16, 32 at least.

    >>> request2size(1), request2size(24), request2size(25), request2size(100)
    (32, 32, 48, 112)
    """
    return max(round_up(size + SIZE_SZ, MALLOC_ALIGNMENT), MINSIZE)


@invented(
    "malloc is glibc's, not the kernel's; it has bins and threads' arenas where ours looks for the first that fits"
)
def malloc(processes: Processes, pid: int, size: int) -> int:
    """The address of `size` bytes for a program, a multiple of 16. Raises `OutOfMemory`: C's NULL."""
    if size < 0:
        raise BadRequest(f"malloc({size})", where="malloc", remedy="ask for no bytes or more")
    _, mm = living(processes, pid)
    need = request2size(size)
    if need >= DEFAULT_MMAP_THRESHOLD:
        return mmap_chunk(processes, pid, mm, need)
    chunk = first_fit(processes, pid, mm, need)
    if not chunk:
        chunk = grow_heap(processes, pid, mm, need)
    split_chunk(processes, pid, chunk, need)
    return chunk + HEADER


@invented("glibc's sysmalloc_mmap")
def mmap_chunk(processes: Processes, pid: int, mm: MmStruct, need: int) -> int:
    """A mapping of its own for a large request. Raises `OutOfMemory`."""
    length = round_up(need + SIZE_SZ, PAGE_SIZE)
    chunk = do_mmap(mm, 0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
    try:
        set_head(processes, pid, chunk, length | IS_MMAPPED | IN_USE)
    except OutOfMemory:
        vm_munmap(mm, chunk, length)
        raise
    return chunk + HEADER


@invented("glibc's free")
def free(processes: Processes, pid: int, address: int) -> None:
    """Give back what malloc gave; free(0) does nothing. Free chunks that touch are joined.

    Raises `DoubleFree`, `BadRequest` for an address that malloc did not give.
    """
    if not address:
        return
    _, mm = living(processes, pid)
    chunk = address - HEADER
    if not mm.start_brk <= chunk < mm.brk:
        free_mmapped(processes, pid, mm, chunk)
        return
    head = next((head for at, head in heap_chunks(processes, pid, mm) if at == chunk), 0)
    if not head:
        raise BadRequest(f"free(): invalid pointer {address:#x}", where="free", remedy="give what malloc returned")
    if not head & IN_USE:
        raise DoubleFree(f"free(): double free of {address:#x}", where="free", remedy="free each chunk once")
    set_head(processes, pid, chunk, head & ~IN_USE)
    consolidate(processes, pid, mm)


@invented("glibc's munmap_chunk")
def free_mmapped(processes: Processes, pid: int, mm: MmStruct, chunk: int) -> None:
    """Unmap a large chunk. Raises `BadRequest` for an address that is none."""
    head = get_head(processes, pid, chunk) if chunk % PAGE_SIZE == 0 else 0
    if not head & IS_MMAPPED or head & ~7 == 0 or (head & ~7) % PAGE_SIZE:
        raise BadRequest(f"free(): invalid pointer {chunk + HEADER:#x}", where="free",
                         remedy="give what malloc returned")  # fmt: skip
    vm_munmap(mm, chunk, head & ~7)


@invented("glibc keeps free chunks in bins; ours are found by walking the heap")
def heap_chunks(processes: Processes, pid: int, mm: MmStruct) -> Iterator[tuple[int, int]]:
    """Each chunk of the heap: (where it begins, its size with the two bits)."""
    chunk = mm.start_brk
    while chunk < mm.brk:
        head = get_head(processes, pid, chunk)
        if head & ~7 < MINSIZE or chunk + (head & ~7) > mm.brk:
            raise BadRequest(f"malloc(): corrupted size at {chunk:#x}", where="malloc",
                             remedy="the program wrote where malloc keeps its sizes")  # fmt: skip
        yield chunk, head
        chunk += head & ~7


@invented("glibc looks into its bins")
def first_fit(processes: Processes, pid: int, mm: MmStruct, need: int) -> int:
    """The lowest free chunk that is large enough; 0 if there is none. At the end of the heap one is always left."""
    for chunk, head in heap_chunks(processes, pid, mm):
        if not head & IN_USE and head >= need + (MINSIZE if chunk + head == mm.brk else 0):
            return chunk
    return 0


@invented("glibc's sysmalloc")
def grow_heap(processes: Processes, pid: int, mm: MmStruct, need: int) -> int:
    """Move the end of the heap up by what is needed and 128 KiB more; the free chunk there. Raises `OutOfMemory`."""
    old = mm.brk
    new = round_up(old + need + DEFAULT_TOP_PAD + MINSIZE, PAGE_SIZE)
    if brk(mm, new) != new:
        raise OutOfMemory("malloc: brk did not move the end of the heap", where="malloc", remedy="free some memory")
    try:
        set_head(processes, pid, old, new - old)
    except OutOfMemory:
        brk(mm, old)
        raise
    consolidate(processes, pid, mm)
    return next(chunk for chunk, head in heap_chunks(processes, pid, mm) if chunk + head == new)


@invented("glibc cuts the top chunk, or one from a bin")
def split_chunk(processes: Processes, pid: int, chunk: int, need: int) -> None:
    """Take `need` bytes of a free chunk into use; what is left is a free chunk if it is large enough for one."""
    size = get_head(processes, pid, chunk)
    if size - need >= MINSIZE:
        set_head(processes, pid, chunk + need, size - need)
        size = need
    set_head(processes, pid, chunk, size | IN_USE)


@invented("glibc's unlink_chunk and malloc_consolidate")
def consolidate(processes: Processes, pid: int, mm: MmStruct) -> None:
    """Join free chunks that touch."""
    before, size = 0, 0
    for chunk, head in list(heap_chunks(processes, pid, mm)):
        if head & IN_USE:
            before = 0
        elif before:
            size += head
            set_head(processes, pid, before, size)
        else:
            before, size = chunk, head


@invented("a load of the program", traced=False)
def get_head(processes: Processes, pid: int, chunk: int) -> int:
    """The word at the beginning of a chunk."""
    return int.from_bytes(user_access(processes, pid, chunk + 8, 8), "little")


@invented("a store of the program", traced=False)
def set_head(processes: Processes, pid: int, chunk: int, head: int) -> None:
    """Write the word at the beginning of a chunk."""
    user_access(processes, pid, chunk + 8, 8, head.to_bytes(8, "little"))
