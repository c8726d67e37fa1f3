"""The split or merge tree of a command: which block became which, from the calls that the recorder heard.

split   152, order 3                      merge   152, order 3   on the free list
        ├─ 152, order 2                           ├─ 152, order 2
        │  ├─ 152, order 1  taken                 │  ├─ 152, order 1  given back
        │  └─ 154, order 1  free                  │  └─ 154, order 1  was free
        └─ 156, order 2     free                  └─ 156, order 2     was free
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kmemlab.sim.timeline import Call, Timeline, walk
from kmemlab.views.colours import ORDER_INK, ORDERS
from kmemlab.views.dot import MAX_NODES, Graph, diagram, table
from kmemlab.views.figure import Figure
from kmemlab.views.told import told

Block = tuple[int, int]  # first page frame, order
_ADD = ("add_to_free_list", "add_to_free_list_tail")


@dataclass(frozen=True, slots=True)
class Tree:
    """One split or merge: the large block, and what each of its leaves became or was."""

    kind: str  # split or merge
    root: Block
    leaves: tuple[tuple[Block, str], ...]

    def nodes(self) -> Iterator[tuple[Block, str, int]]:
        """Each block from the root down, lower half first: (block, what it is, depth). Empty halves drop out."""
        yield from self._below(self.root, 0)

    def _below(self, block: Block, depth: int) -> Iterator[tuple[Block, str, int]]:
        fate = dict(self.leaves)
        if block in fate:
            yield block, fate[block], depth
            return
        pfn, order = block
        if not any(pfn <= leaf < pfn + (1 << order) for (leaf, _), _ in self.leaves):
            return
        yield block, "", depth
        if order:
            half = 1 << (order - 1)
            yield from self._below((pfn, order - 1), depth + 1)
            yield from self._below((pfn + half, order - 1), depth + 1)

    def text(self) -> str:
        """A line a block, indented by how often it was halved."""
        title = f"{self.kind} of pfn {self.root[0]}, order {self.root[1]}"
        lines = [
            f"{'  ' * depth}pfn {pfn}, order {order}  {fate}".rstrip() for (pfn, order), fate, depth in self.nodes()
        ]
        return "\n".join([title, *lines])


def trees_of(timeline: Timeline, command: int) -> list[Tree]:
    """The splits and merges of one recorded command, in order."""
    found = []
    for call in walk(timeline.calls(command)):
        tree = (
            _split(call)
            if call.name == "__rmqueue_smallest"
            else _merge(call)
            if call.name == "__free_one_page"
            else None
        )
        if tree:
            found.append(tree)
    return found


def _blocks(call: Call, *names: str) -> list[Block]:
    stories = [told((inner,)) for inner in walk(call.calls) if inner.name in names]
    return [(story.args["pfn"], story.args["order"]) for story in stories]


def _split(call: Call) -> Tree | None:
    taken = _blocks(call, "del_page_from_free_list")
    if not taken:
        return None
    given = _blocks(call, *_ADD)
    leaves = [(block, "free") for block in given]
    if isinstance(call.value, int):
        leaves.append(((call.value, told((call,)).args["order"]), "taken"))
    return Tree("split", taken[0], tuple(sorted(leaves)))


def _merge(call: Call) -> Tree | None:
    given = _blocks(call, *_ADD)
    if not given:
        return None
    args = told((call,)).args
    leaves = [(block, "was free") for block in _blocks(call, "del_page_from_free_list")]
    leaves.append(((args["pfn"], args["order"]), "given back"))
    return Tree("merge", given[-1], tuple(sorted(leaves)))


def split_tree(timeline: Timeline, command: int) -> Figure:
    """The diagram of a command's splits and merges; a command without any says so."""
    trees = trees_of(timeline, command)
    title = f"{timeline.commands[command]}: blocks split and joined"
    if not trees:
        graph = Graph("split_tree", "TB")
        graph.node("none", table([["no block was split or joined"]]))
        return diagram(graph, title, "No block was split or joined.", "no block was split or joined")
    graph = Graph("split_tree", "TB")
    left = MAX_NODES
    for number, tree in enumerate(trees):
        nodes = list(tree.nodes())
        if len(nodes) > left:
            graph.node("rest", table([[f"{len(trees) - number} more"]]))
            break
        left -= len(nodes)
        _draw(graph, tree, f"t{number}_")
    alt = " ".join(_alt(tree) for tree in trees)
    return diagram(graph, title, alt, "\n\n".join(tree.text() for tree in trees))


def _alt(tree: Tree) -> str:
    pfn, order = tree.root
    if len(tree.leaves) == 1:
        whole = "was taken whole" if tree.kind == "split" else "was given back and stayed alone: its buddy was not free"
        return f"The block at pfn {pfn}, order {order}, {whole}."
    parts = ", ".join(f"pfn {leaf} of order {size} {fate}" for (leaf, size), fate in tree.leaves)
    verb = "was split into" if tree.kind == "split" else "was joined from"
    return f"The block at pfn {pfn}, order {order}, {verb} {parts}."


def _draw(graph: Graph, tree: Tree, prefix: str) -> None:
    parents: dict[int, str] = {}
    chosen = next((block for block, fate in tree.leaves if fate in ("taken", "given back")), None)
    for block, fate, depth in tree.nodes():
        pfn, order = block
        key = f"{prefix}{pfn}_{order}"
        chip = (
            '<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="5" COLOR="#6e7781"><TR>'
            f'<TD BGCOLOR="{ORDERS[order]}"><FONT FACE="Courier" COLOR="{ORDER_INK[order]}">{order}</FONT></TD>'
            f'<TD><FONT FACE="Courier">pfn {pfn}</FONT></TD>{f"<TD>{fate}</TD>" if fate else ""}</TR></TABLE>'
        )
        graph.node(key, chip)
        parents[depth] = key
        if depth:
            inside = chosen is not None and pfn <= chosen[0] < pfn + (1 << order)
            ends = (parents[depth - 1], key) if tree.kind == "split" else (key, parents[depth - 1])
            graph.edge(*ends, told=inside)
