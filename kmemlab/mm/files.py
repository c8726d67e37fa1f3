"""Files on the simulated disk: each is one stretch of blocks, and its inode stands in a table in front of them.

block  0 … 255            256 …
       table of inodes    file 1      file 2 …        16 inodes of 256 bytes to a block
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import BadRequest

MAX_FILES = 4000
INODES_PER_BLOCK = 16
INODE_SIZE = 256
FIRST_DATA_BLOCK = 256
NAME_LEN = 32
VM_READAHEAD_PAGES = 32  # 128 KiB


@kernel("include/linux/fs.h", "struct inode", left_out="all but place and size: owners, times, folders, growing files")
class Files(Struct):
    """All files of a machine, numbered from 1 on, and for each where its reader has come to (struct file_ra_state)."""

    nr_files = Cell()
    next_block = Cell()
    bdev_mapping = Cell()  # the mapping of the disk itself; 0 until it is used

    name: Column
    mapping: Column
    first_block: Column
    nr_pages: Column
    ra_start: Column  # the window of readahead: from where, how many pages, and how many of them ahead of need
    ra_size: Column
    ra_async_size: Column
    prev_index: Column  # the page that was read last, plus 1
    mmap_miss: Column  # pages that programs touched in a mapping and that were not there, less those that were

    def __init__(self) -> None:
        self.name = column("B", (MAX_FILES + 1) * NAME_LEN)
        for field in ("mapping", "first_block", "nr_pages", "ra_start", "ra_size", "ra_async_size", "prev_index",
                      "mmap_miss"):  # fmt: skip
            setattr(self, field, column("q", MAX_FILES + 1))


@invented("file systems look names up in folders")
def find_file(files: Files, name: str) -> int:
    """The number of a file. Raises `BadRequest` for a name that there is not."""
    wanted = name.encode("utf-8", "replace").ljust(NAME_LEN, b"\0")
    for ino in range(1, files.nr_files + 1):
        if bytes(files.name[ino * NAME_LEN : (ino + 1) * NAME_LEN]) == wanted:
            return ino
    raise BadRequest(f"there is no file {name!r}", where="files", remedy="make it with create_file first")


@invented("file systems know which blocks are a file's", traced=False)
def nr_blocks(files: Files, ino: int) -> int:
    """How many blocks a file has its place on: up to where the next file begins. It was made with as many pages."""
    end = files.first_block[ino + 1] if ino < files.nr_files else files.next_block
    return end - files.first_block[ino]


@invented("the way back of `find_file`", traced=False)
def file_name(files: Files, ino: int) -> str:
    """The name of a file."""
    raw = bytes(files.name[ino * NAME_LEN : (ino + 1) * NAME_LEN])
    return raw.split(b"\0")[0].decode("utf-8", "replace")
