"""The paths of requests: each edge is in the recorded call tree, and all ways end where pages come from."""

from __future__ import annotations

import pytest

from kmemlab.machine.machine import Machine
from kmemlab.types.gfp import GFP_KERNEL
from kmemlab.views.paths import STATIONS, Edges, paths, paths_figure, paths_text


@pytest.fixture(scope="module")
def walked() -> tuple[Machine, Edges]:
    machine = Machine.boot("tiny-128m")
    pid = machine.spawn("sh")
    machine.record(lines=False)
    machine.touch(pid, machine.mmap(pid, 8192), 8192)
    machine.kmalloc(20000)
    machine.vmalloc(9000)
    machine.alloc_pages(GFP_KERNEL)
    return machine, paths(machine.timeline, {0: "mmap", 1: "touch", 2: "kmalloc", 3: "vmalloc", 4: "alloc_pages"})


def test_edges_are_counted_as_the_printed_call_tree_has_them(walked: tuple[Machine, Edges]) -> None:
    machine, edges = walked
    trees = "\n".join(machine.timeline.call_tree(at) for at in range(5))
    for name in STATIONS:
        into = sum(count for (_, head), count in edges.items() if head == name)
        nested = (
            name == "__vmalloc_node_range"
        )  # it has an inner part of the same C name: no way leads from it to itself
        assert into == trees.count(f" {name}(") // (1 + nested), name


def test_every_way_ends_where_pages_come_from(walked: tuple[Machine, Edges]) -> None:
    _, edges = walked
    tails = {tail for tail, _ in edges}
    ends = {head for _, head in edges} - tails
    assert ends <= {"__rmqueue_smallest", "__rmqueue_pcplist", "__kmem_cache_alloc_node"}
    assert ("touch", "do_user_addr_fault") in edges
    assert not any(tail in ("kmalloc", "vmalloc") and "fault" in head for tail, head in edges)


def test_figure_and_text_say_the_same(walked: tuple[Machine, Edges]) -> None:
    _, edges = walked
    figure = paths_figure(edges)
    assert figure.text() == paths_text(edges)
    for tail, head in edges:
        assert f"{tail} calls {head}" in figure.alt
        assert tail in figure.svg()
