"""The resource tree: who claims which physical addresses. /proc/iomem is its printed form.

00100000-7ffdffff : System RAM          a resource
  01000000-01e01d31 : Kernel code       its child: wholly inside
  02000000-028e6fff : Kernel rodata     the child's sibling
"""

from __future__ import annotations

from collections.abc import Iterator

from kmemlab.sim.column import Column, column
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Cell, Struct
from kmemlab.types.units import U64_MAX

ROOT = 0  # iomem_resource: all addresses
NONE = 0  # no child, no sibling: the root is nobody's

RESOURCE_NAMES = (
    "PCI mem",
    "System RAM",
    "Reserved",
    "Soft Reserved",
    "ACPI Tables",
    "ACPI Non-volatile Storage",
    "Unusable memory",
    "Persistent Memory",
    "Persistent Memory (legacy)",
    "Unknown E820 type",
    "Kernel code",
    "Kernel rodata",
    "Kernel data",
    "Kernel bss",
    "Crash kernel",
    "RAM buffer",
    "System ROM",
    "Video RAM area",
)


@kernel("include/linux/ioport.h", "struct resource", left_out="flags; C allocates each, ours are numbered")
class ResourceTree(Struct):
    """Resources by number, 0 the root; `start` and `end` (inclusive) in bytes, `name` an index into RESOURCE_NAMES."""

    count = Cell()

    start: Column
    end: Column
    name: Column
    parent: Column
    child: Column
    sibling: Column

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.start = column("Q", capacity)
        self.end = column("Q", capacity)
        self.name = column("B", capacity)
        self.parent = column("i", capacity)
        self.child = column("i", capacity)
        self.sibling = column("i", capacity)


@invented("C's resources are variables, or allocated by whoever wants one")
def new_resource(tree: ResourceTree, start: int, end: int, name: str) -> int:
    """A resource that is in no tree yet: its number. The first is the root."""
    if tree.count == 0:
        tree.count = 1
        tree.start[ROOT], tree.end[ROOT] = 0, U64_MAX
    number = tree.count
    assert number < tree.capacity
    tree.start[number], tree.end[number] = start, end
    tree.name[number] = RESOURCE_NAMES.index(name)
    tree.count = number + 1
    return number


@kernel("kernel/resource.c", "__request_resource", lock="resource_lock")
def request_resource(tree: ResourceTree, root: int, new: int) -> int | None:
    """Put `new` among the children of `root`; returns whom it collides with (maybe the root itself), or None."""
    start, end = tree.start[new], tree.end[new]
    if end < start or start < tree.start[root] or end > tree.end[root]:
        return root
    before, at = NONE, tree.child[root]
    while at != NONE and tree.end[at] < start:
        before, at = at, tree.sibling[at]
    if at != NONE and tree.start[at] <= end:
        return at
    tree.sibling[new], tree.parent[new] = at, root
    if before == NONE:
        tree.child[root] = new
    else:
        tree.sibling[before] = new
    return None


@kernel("kernel/resource.c", "__insert_resource", lock="resource_lock")
def insert_resource(tree: ResourceTree, new: int, parent: int = ROOT) -> int | None:
    """Put `new` where it belongs: below what holds it, above what it holds; returns whom it cuts through, or None."""
    start, end = tree.start[new], tree.end[new]
    while True:
        first = request_resource(tree, parent, new)
        if first is None or first == parent:
            return first
        # Go down while the other is larger; of equal ones the newer is the outer.
        if tree.start[first] > start or tree.end[first] < end or (tree.start[first], tree.end[first]) == (start, end):
            break
        parent = first
    last = first
    while True:
        if tree.start[last] < start or tree.end[last] > end:
            return last
        if tree.sibling[last] == NONE or tree.start[tree.sibling[last]] > end:
            break
        last = tree.sibling[last]
    adopt(tree, parent, new, first, last)
    return None


@invented("the second half of C's __insert_resource")
def adopt(tree: ResourceTree, parent: int, new: int, first: int, last: int) -> None:
    """Let `new` stand in `parent` where its children `first` … `last` stood, and take them as its own."""
    tree.parent[new], tree.sibling[new], tree.child[new] = parent, tree.sibling[last], first
    tree.sibling[last] = NONE
    if tree.child[parent] == first:
        tree.child[parent] = new
    else:
        before = tree.child[parent]
        while tree.sibling[before] != first:
            before = tree.sibling[before]
        tree.sibling[before] = new
    while first != NONE:
        tree.parent[first] = new
        first = tree.sibling[first]


@kernel("kernel/resource.c", "insert_resource_expand_to_fit", lock="resource_lock")
def insert_resource_expand_to_fit(tree: ResourceTree, new: int) -> None:
    """Insert, and where `new` cuts through another, grow it until it holds that one whole."""
    while True:
        conflict = insert_resource(tree, new)
        if conflict is None or conflict == ROOT:
            return
        tree.start[new] = min(tree.start[new], tree.start[conflict])
        tree.end[new] = max(tree.end[new], tree.end[conflict])


@kernel("kernel/resource.c", "reserve_region_with_split", lock="resource_lock")
def reserve_region_with_split(tree: ResourceTree, start: int, end: int, name: str) -> None:
    """Claim those parts of [start, end] that nobody at the top of the tree claims."""
    taken = [(tree.start[at], tree.end[at]) for at in children(tree, ROOT)]
    for other_start, other_end in taken:
        if other_end < start or other_start > end:
            continue
        if other_start > start:
            request_resource(tree, ROOT, new_resource(tree, start, other_start - 1, name))
        start = other_end + 1
    if start <= end:
        request_resource(tree, ROOT, new_resource(tree, start, end, name))


@invented("C follows the pointers where it needs them", traced=False)
def children(tree: ResourceTree, parent: int) -> Iterator[int]:
    """The children of a resource, ascending."""
    at = tree.child[parent]
    while at != NONE:
        yield at
        at = tree.sibling[at]


@kernel("kernel/resource.c", "r_show", left_out="levels below the fifth; zeros for who may not see addresses")
def iomem_lines(tree: ResourceTree, parent: int = ROOT, depth: int = 0) -> Iterator[str]:
    """The lines of /proc/iomem."""
    for at in children(tree, parent):
        yield f"{'  ' * depth}{tree.start[at]:08x}-{tree.end[at]:08x} : {RESOURCE_NAMES[tree.name[at]]}"
        yield from iomem_lines(tree, at, depth + 1)
