"""struct address_space: the pages of one file that are in memory, by their place in the file.

mapping 3 (host: file 3)    index   0      1      2      3      …
                            i_pages pfn    pfn    .      shadow     a shadow: was here, and was reclaimed at that time

page.mapping holds the number of its mapping, page.index its place there. Mapping 0 means none.
What has to be done differently for each kind of file is entered in a table of operations by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmemlab.mm.xarray import (
    XA_MARK_0,
    XA_MARK_1,
    XA_MARK_2,
    XArrays,
    xa_for_each,
    xa_is_value,
    xa_load,
    xa_mk_page,
    xa_mk_value,
    xa_store,
    xa_to_page,
    xa_to_value,
)
from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.errors import TooLarge

if TYPE_CHECKING:  # Mm owns the mappings
    from kmemlab.mm.globals import Mm

PAGECACHE_TAG_DIRTY, PAGECACHE_TAG_WRITEBACK, PAGECACHE_TAG_TOWRITE = XA_MARK_0, XA_MARK_1, XA_MARK_2
MAX_MAPPINGS = 4096

A_OPS_NAMES = ("", "file", "block device", "swap", "anonymous")
"""The kinds of mappings; `a_ops` of a mapping is an index here. Who serves a kind enters its operations below."""


@kernel(
    "include/linux/fs.h",
    "struct address_space_operations",
    left_out="what file systems do beside: direct I/O, large folios",
)
@dataclass(frozen=True, slots=True)
class AddressSpaceOperations:
    """What a kind of file does: bring a page, write a page. Both start I/O and return; the page tells when it is done.

    `writepage(mm, pfn)` gets a locked page that was dirty and is marked clean; it unlocks it and sets PG_writeback.
    `read_folio(mm, pfn)` gets a locked page and unlocks it when it is up to date. `free_folio` is told that a page has
    left the mapping. `migrate_folio(mm, dst, src, mode)` moves a locked page to another page frame: 0, or an error.
    """

    read_folio: Callable[[Mm, int], None] | None = None
    writepage: Callable[[Mm, int], None] | None = None
    free_folio: Callable[[Mm, int], None] | None = None  # (mm, mapping)
    migrate_folio: Callable[[Mm, int, int, int], int] | None = None


# Filled when modules are loaded, like the kernel's initcalls; not part of any machine's state.
ADDRESS_SPACE_OPERATIONS: dict[str, AddressSpaceOperations] = {}


@kernel("include/linux/fs.h", "struct address_space", left_out="the tree of mappings into programs; locks; error bits")
class AddressSpaces(Struct):
    """All mappings of a machine, numbered from 1 on: what C keeps in one struct for each is a row of columns here."""

    nr_mappings = Cell()

    nrpages: Column  # pages that are in memory
    a_ops: Column  # the kind, an index of A_OPS_NAMES
    host: Column  # the file that it belongs to; what the number means is the kind's affair
    dirtied_when: Column  # the jiffy when it got its first dirty page; 0: it has none

    def __init__(self, nodes: int) -> None:
        """`nodes` is how many nodes their trees may have together."""
        self.i_pages = XArrays(MAX_MAPPINGS + 1, nodes)
        self.nrpages = column("q", MAX_MAPPINGS + 1)
        self.a_ops = column("B", MAX_MAPPINGS + 1)
        self.host = column("q", MAX_MAPPINGS + 1)
        self.dirtied_when = column("q", MAX_MAPPINGS + 1)


@kernel("fs/inode.c", "address_space_init_once", formerly=("__address_space_init_once",))
def address_space_init(mappings: AddressSpaces, kind: str, host: int = 0) -> int:
    """The number of a new mapping without pages. Raises `TooLarge` when there are too many."""
    mapping = mappings.nr_mappings + 1
    if mapping > MAX_MAPPINGS:
        raise TooLarge(
            f"more than {MAX_MAPPINGS} files are open", where="address_space_init", remedy="use fewer, larger files"
        )
    mappings.nr_mappings = mapping
    mappings.a_ops[mapping] = A_OPS_NAMES.index(kind)
    mappings.host[mapping] = host
    return mapping


@invented("C follows mapping->a_ops", traced=False)
def mapping_ops(mappings: AddressSpaces, mapping: int) -> AddressSpaceOperations:
    """What the mapping's kind of file does; nothing where nobody has entered it."""
    return ADDRESS_SPACE_OPERATIONS.get(A_OPS_NAMES[mappings.a_ops[mapping]], AddressSpaceOperations())


@invented("C compares mapping->a_ops with swap_aops", traced=False)
def is_swap_space(mappings: AddressSpaces, mapping: int) -> bool:
    """Whether a mapping is a part of the swap cache, and no file's."""
    return A_OPS_NAMES[mappings.a_ops[mapping]] == "swap"


@kernel("mm/filemap.c", "filemap_get_entry", formerly=("find_get_entry", "mapping_get_entry"), traced=False)
def filemap_get_folio(mappings: AddressSpaces, mapping: int, index: int) -> int | None:
    """The page that holds page `index` of a file, or None if that is not in memory. Takes no reference."""
    entry = xa_load(mappings.i_pages, mapping, index)
    return None if not entry or xa_is_value(entry) else xa_to_page(entry)


@invented("C gets a shadow by xas_load where it needs one", traced=False)
def shadow_at(mappings: AddressSpaces, mapping: int, index: int) -> int | None:
    """The shadow of a page that is gone, or None."""
    entry = xa_load(mappings.i_pages, mapping, index)
    return xa_to_value(entry) if xa_is_value(entry) else None


@invented("the part of __filemap_add_folio under the lock of i_pages", traced=False)
def mapping_store_folio(mappings: AddressSpaces, mapping: int, index: int, pfn: int) -> int | None:
    """Put a page into a mapping; returns the shadow that stood there, if any."""
    old = xa_store(mappings.i_pages, mapping, index, xa_mk_page(pfn))
    assert not old or xa_is_value(old), f"page {index} of mapping {mapping} is in memory already"
    mappings.nrpages[mapping] += 1
    return xa_to_value(old) if old else None


@kernel("mm/filemap.c", "page_cache_delete", lock="mapping->i_pages", traced=False)
def page_cache_delete(mappings: AddressSpaces, mapping: int, index: int, shadow: int | None) -> None:
    """Take a page out of a mapping; a shadow may stand in its place."""
    old = xa_store(mappings.i_pages, mapping, index, 0 if shadow is None else xa_mk_value(shadow))
    assert old, f"page {index} of mapping {mapping} is not in memory"
    assert not xa_is_value(old), f"page {index} of mapping {mapping} is gone already"
    mappings.nrpages[mapping] -= 1


@kernel("mm/filemap.c", "find_get_entries", traced=False)
def pages_of(mappings: AddressSpaces, mapping: int, start: int = 0, tag: int | None = None) -> Iterator[int]:
    """The pages of a mapping from index `start` on, all or those with a tag; the mapping must stay as it is."""
    for _, entry in xa_for_each(mappings.i_pages, mapping, start, tag):
        if not xa_is_value(entry):
            yield xa_to_page(entry)


@invented("C looks them up in batches", traced=False)
def indices_of(mappings: AddressSpaces, mapping: int, start: int = 0, tag: int | None = None) -> list[int]:
    """Where in a mapping there are pages, or shadows, as of now: who waits for one of them must look again."""
    return [index for index, _ in xa_for_each(mappings.i_pages, mapping, start, tag)]
