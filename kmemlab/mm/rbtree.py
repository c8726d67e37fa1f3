"""The kernel's red-black tree, threaded through columns: a search tree that keeps itself shallow.

         8 black           no red node has a red child, and every way down passes equally many black nodes:
        /       \\          so no way is more than twice as long as another
     3 red     12 black
    /    \\
 1 black  5 black

A tree is known by the number of a node of its own, the *header*, which never holds anything: the root hangs to its
left, so a rotation at the root is like any other. Node 0 is nobody: C's NULL.

An *augmented* tree also keeps, in each node, the largest size in the subtree below it, so that a search can leave out
subtrees where nothing fits. The trees have exactly the shape that C's have, as such a search may depend on it.
"""

from __future__ import annotations

from kmemlab.sim.column import Column, column, index_typecode
from kmemlab.sim.kernel import invented, kernel
from kmemlab.sim.struct import Struct

NOBODY = 0


@kernel("include/linux/rbtree_types.h", "struct rb_node", left_out="the colour in the low bit of the parent's address")
class RbNodes(Struct):
    """`nodes` nodes of trees, by number; `subtree_max_size` counts in augmented trees only.

    >>> rb = RbNodes(8)                                 # let node 1 be a header, and its tree be empty
    >>> for node, parent in ((2, 1), (3, 2), (4, 3)):   # 2 < 3 < 4, each to the right of the one before
    ...     rb_link_node(rb, node, parent, is_left=parent == 1)
    ...     rb_insert_color(rb, node, header=1)
    >>> rb.left[1], rb.left[3], rb.right[3]             # a rotation made 3 the root
    (3, 2, 4)
    """

    parent: Column
    left: Column
    right: Column
    red: Column
    subtree_max_size: Column

    def __init__(self, nodes: int) -> None:
        self.parent = column(index_typecode(nodes), nodes)
        self.left = column(index_typecode(nodes), nodes)
        self.right = column(index_typecode(nodes), nodes)
        self.red = column("B", nodes)
        self.subtree_max_size = column("Q", nodes)

    def node_size(self, node: int) -> int:
        """The size of a node itself, of which an augmented tree keeps the largest below."""
        return 0


@kernel("include/linux/rbtree_augmented.h", "RB_DECLARE_CALLBACKS_MAX", traced=False)
def compute_subtree_max_size(rb: RbNodes, node: int) -> int:
    """The largest of a node's own size and of what its two subtrees keep."""
    kept = rb.subtree_max_size
    return max(rb.node_size(node), kept[rb.left[node]], kept[rb.right[node]])


@kernel("mm/vmalloc.c", "augment_tree_propagate_from", traced=False)
def augment_tree_propagate_from(rb: RbNodes, node: int, stop: int) -> None:
    """Bring the largest sizes into line from `node` upwards, until one is right already or `stop` is reached."""
    kept, parent = rb.subtree_max_size, rb.parent
    while node != stop:
        largest = compute_subtree_max_size(rb, node)
        if kept[node] == largest:
            return
        kept[node] = largest
        node = parent[node]


@kernel("include/linux/rbtree.h", "rb_link_node", traced=False)
def rb_link_node(rb: RbNodes, node: int, parent: int, is_left: bool) -> None:
    """Hang a new red node below `parent`, where nobody hangs; the tree must be rebalanced then."""
    rb.parent[node] = parent
    rb.left[node] = rb.right[node] = NOBODY
    rb.red[node] = 1
    (rb.left if is_left else rb.right)[parent] = node


@invented("C's __rb_change_child", traced=False)
def change_child(rb: RbNodes, old: int, new: int, parent: int) -> None:
    """Let `new` hang where `old` hung below `parent`."""
    if rb.left[parent] == old:
        rb.left[parent] = new
    else:
        rb.right[parent] = new
    if new:
        rb.parent[new] = parent


@invented("C writes each of its four rotations out")
def rotate(rb: RbNodes, node: int, to_left: bool, augment: bool) -> None:
    """Let a child take the place of `node`, which becomes its child: the order of all nodes stays.

      node                child
     /    \\     left     /     \\
    a    child  ───▶   node     c
         /   \\  ◀───  /    \\
        b     c right a     b
    """
    near, far = (rb.left, rb.right) if to_left else (rb.right, rb.left)
    child = far[node]
    between = near[child]
    far[node] = between
    if between:
        rb.parent[between] = node
    change_child(rb, node, child, rb.parent[node])
    near[child] = node
    rb.parent[node] = child
    if augment:
        rb.subtree_max_size[child] = rb.subtree_max_size[node]
        rb.subtree_max_size[node] = compute_subtree_max_size(rb, node)


@kernel("lib/rbtree.c", "rb_insert_color", formerly=("__rb_insert", "rb_insert_augmented"), traced=False)
def rb_insert_color(rb: RbNodes, node: int, header: int, augment: bool = False) -> None:
    """Rebalance after `node` was linked: no red node may have a red child."""
    parent_of, red = rb.parent, rb.red
    while red[parent := parent_of[node]]:
        # A red parent is not the root, so there is a grandparent, and it is black.
        grandparent = parent_of[parent]
        on_left = rb.left[grandparent] == parent
        uncle = (rb.right if on_left else rb.left)[grandparent]
        if red[uncle]:
            red[parent] = red[uncle] = 0
            red[grandparent] = 1
            node = grandparent
            continue
        if node == (rb.right if on_left else rb.left)[parent]:
            rotate(rb, parent, on_left, augment)
            node, parent = parent, node
        red[parent], red[grandparent] = 0, 1
        rotate(rb, grandparent, not on_left, augment)
        break
    red[rb.left[header]] = 0


@kernel("lib/rbtree.c", "rb_erase", formerly=("rb_erase_augmented",), traced=False)
def rb_erase(rb: RbNodes, node: int, header: int, augment: bool = False) -> None:
    """Take a node out. With two children, its successor takes its place."""
    left, right, parent_of, red = rb.left, rb.right, rb.parent, rb.red
    if not (left[node] and right[node]):
        child, hole, lost_black = left[node] or right[node], parent_of[node], not red[node]
        change_child(rb, node, child, hole)
    else:
        successor = leftmost(rb, right[node])
        child, hole, lost_black = right[successor], parent_of[successor], not red[successor]
        if hole == node:
            hole = successor
        else:
            change_child(rb, successor, child, hole)
            right[successor] = right[node]
            parent_of[right[node]] = successor
        change_child(rb, node, successor, parent_of[node])
        left[successor] = left[node]
        parent_of[left[node]] = successor
        red[successor] = red[node]
        if augment:
            rb.subtree_max_size[successor] = rb.subtree_max_size[node]
            augment_tree_propagate_from(rb, hole, successor)
            augment_tree_propagate_from(rb, successor, header)
    if augment:
        augment_tree_propagate_from(rb, hole, header)
    if lost_black:
        erase_color(rb, child, hole, header, augment)


@kernel("lib/rbtree.c", "____rb_erase_color")
def erase_color(rb: RbNodes, node: int, parent: int, header: int, augment: bool) -> None:
    """Rebalance after a black node was lost between `parent` and `node`, or nobody: that way is one black short."""
    red = rb.red
    while not red[node] and parent != header:
        on_left = rb.left[parent] == node
        near, far = (rb.left, rb.right) if on_left else (rb.right, rb.left)
        sibling = far[parent]
        if red[sibling]:
            red[sibling], red[parent] = 0, 1
            rotate(rb, parent, on_left, augment)
            sibling = far[parent]
        if not (red[near[sibling]] or red[far[sibling]]):
            red[sibling] = 1
            node, parent = parent, rb.parent[parent]
            continue
        if not red[far[sibling]]:
            red[near[sibling]], red[sibling] = 0, 1
            rotate(rb, sibling, not on_left, augment)
            sibling = far[parent]
        red[sibling], red[parent], red[far[sibling]] = red[parent], 0, 0
        rotate(rb, parent, on_left, augment)
        return
    if node:
        red[node] = 0


@kernel("lib/rbtree.c", "rb_first", traced=False)
def leftmost(rb: RbNodes, node: int) -> int:
    """The first node of the subtree below `node`."""
    while rb.left[node]:
        node = rb.left[node]
    return node


@invented("a law: C finds out by a crash, if at all")
def rb_broken(rb: RbNodes, header: int) -> str:
    """What is wrong with a tree's links and colours, or nothing."""
    blacks: set[int] = set()
    todo, seen = [(rb.left[header], header, 0)], {header}
    while todo:
        node, parent, black = todo.pop()
        if not node:
            blacks.add(black)
            continue
        if node in seen:
            return f"node {node} is there twice"
        seen.add(node)
        if rb.parent[node] != parent:
            return f"node {node} hangs below {parent}, but says {rb.parent[node]}"
        if rb.red[node] and (rb.red[parent] or parent == header):
            return f"red node {node} hangs below {'the header' if parent == header else f'red node {parent}'}"
        black += not rb.red[node]
        todo += [(rb.left[node], node, black), (rb.right[node], node, black)]
    return "" if len(blacks) < 2 else f"ways down pass {sorted(blacks)} black nodes"
