"""Pictures and texts say the same; figures are well-formed, have words for those who can't see them, and never fail."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from kmemlab.boot.e820 import E820Table, e820__update_table
from kmemlab.machine.machine import Machine
from kmemlab.machine.snapshot import E820Snapshot, frame_map, machine_snapshot, ranges_snapshot, zone_snapshot
from kmemlab.mm.buddy import example_zone, rmqueue_smallest
from kmemlab.types.errors import KmemlabError
from kmemlab.types.migratetype import MIGRATE_MOVABLE
from kmemlab.types.units import size_text
from kmemlab.views import dot
from kmemlab.views.diagrams import memory_map_diagram, nodes_diagram, zone_diagram
from kmemlab.views.figure import Figure
from kmemlab.views.frame_map import frame_map_figure, free_by_order
from kmemlab.views.frame_view import FrameView
from kmemlab.views.memory_map import memory_map_figure, with_holes
from kmemlab.views.split_tree import split_tree, trees_of
from kmemlab.views.text import buddyinfo_line, machine_text, memblock_text

from .run import Run

RAW = ((0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0x90000, 0x20000, 2), (0x100000, 0x7FF00000, 1), (0x7F000000, 0x1000, 4))


@pytest.fixture
def tables() -> tuple[E820Snapshot, E820Snapshot]:
    table = E820Table.of(RAW)
    assert e820__update_table(table) == 0
    return ranges_snapshot(RAW), ranges_snapshot(table.entries())


def words(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    return "\n".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text"))


def check_figure(figure: Figure) -> None:
    svg = figure.svg()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == figure.alt
    assert root.findtext("{http://www.w3.org/2000/svg}title") is not None
    assert figure.svg() == svg
    assert not re.search(r"\bat 0x[0-9a-f]{6,}>", figure.text())
    assert figure._repr_mimebundle_() == {"image/svg+xml": svg, "text/plain": figure.text()}


def test_the_memory_map_shows_every_range_and_hole_that_its_text_tells(tables) -> None:
    raw, result = tables
    figure = memory_map_figure(result, raw)
    check_figure(figure)
    shown, text = words(figure.svg()), figure.text()
    for item in with_holes(result.entries):
        assert f"{item.start:#014x}" in shown
        assert f"{item.start:#018x}" in text
        assert size_text(item.size) in shown
        assert size_text(item.size) in text
    assert shown.count("hole") == text.count("hole") == 1
    for number in range(len(RAW)):
        assert re.search(rf"^{number} [A-Z]$", shown, re.MULTILINE)
    assert "5 entries of the firmware, 5 in the sanitised table, 1 hole" in figure.alt


def test_a_map_from_bytes_to_a_terabyte_stays_readable() -> None:
    figure = memory_map_figure(ranges_snapshot([(0, 16, 2), (1 << 12, 1 << 40, 1), (1 << 45, 1, 7)]))
    heights = [float(h) for h in re.findall(r'<rect [^>]*height="([\d.]+)"', figure.svg())]
    assert min(h for h in heights if h) >= 6  # 6: the tile of the hatching
    assert max(heights) < 400


def test_an_empty_table_is_drawn_too() -> None:
    check_figure(memory_map_figure(E820Snapshot(())))
    check_figure(memory_map_diagram(E820Snapshot(()), E820Snapshot(())))


def test_the_frame_map_counts_what_its_text_counts() -> None:
    zone = example_zone(order=6, blocks=2)
    rmqueue_smallest(zone, 2, MIGRATE_MOVABLE)
    frames = frame_map(zone)
    figure = frame_map_figure(frames)
    check_figure(figure)
    assert free_by_order(frames) == tuple(zone.nr_free)
    told = re.findall(r"pfn +(\d+) to \d+ +free, order (\d+)", figure.text())
    drawn = re.findall(r"pfn (\d+), order (\d+), free", figure.svg())
    assert sorted(told) == sorted(drawn)
    assert figure.png()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_fragmented_map_is_drawn_as_pixels_and_stays_small() -> None:
    zone = example_zone(order=10, blocks=64)
    taken = [rmqueue_smallest(zone, 0, MIGRATE_MOVABLE) for _ in range(1 << 15)]
    from kmemlab.mm.buddy import free_one_page

    for pfn in taken[::2]:
        assert pfn is not None
        free_one_page(zone, pfn, 0, MIGRATE_MOVABLE)
    view = FrameView.of(zone)
    check_figure(view.figure())
    assert len(view.svg()) < 100_000
    assert len(view.text()) < 20_000
    with pytest.raises(KmemlabError, match="window"):
        FrameView.of(zone, 0, (1 << 16) + 1)


def test_zone_and_node_diagrams_tell_the_lists() -> None:
    machine = Machine.boot("tiny-128m")
    snapshot = machine_snapshot(machine.kernel)
    nodes = nodes_diagram(snapshot.nodes)
    check_figure(nodes)
    shown = words(nodes.svg())
    for zone in machine.zones:
        figure = zone_diagram(zone_snapshot(zone))
        check_figure(figure)
        assert f"Zone {zone.name}" in shown
        assert buddyinfo_line(zone_snapshot(zone)) in nodes.text()
        for order, count in enumerate(zone.nr_free):
            assert (f"order {order:2}: {count:5} free" in figure.text()) == bool(count)
            assert f"order {order}" in words(figure.svg())
    assert memblock_text(snapshot.memblock) in machine_text(snapshot)


def test_the_split_tree_is_that_of_the_run(run: Run) -> None:
    [split] = trees_of(run.timeline, 0)
    assert (split.kind, split.root) == ("split", (0, 10))
    assert dict(split.leaves) == {(0, 7): "taken", (128, 7): "free", (256, 8): "free", (512, 9): "free"}
    [merge] = trees_of(run.timeline, 2)
    assert dict(merge.leaves) == {(0, 7): "given back"}  # its buddy was split for the page at 128
    figure = split_tree(run.timeline, 0)
    check_figure(figure)
    drawn = re.findall(r"pfn (\d+)", words(figure.svg()))
    told = re.findall(r"^ *pfn (\d+),", figure.text(), re.MULTILINE)
    assert sorted(drawn) == sorted(told)


def test_without_any_renderer_the_dot_text_is_shown_with_a_hint(tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot, "renderers", lambda: iter(()))
    figure = memory_map_diagram(*tables)
    check_figure(figure)
    assert "pip install graphviz-pure" in words(figure.svg())
    with pytest.raises(KmemlabError, match="Graphviz"):
        figure.png()


def test_a_renderer_that_fails_is_passed_over(tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMEMLAB_DOT", "/no/such/program")
    assert next(dot.renderers()) == ("$KMEMLAB_DOT", "/no/such/program")
    check_figure(memory_map_diagram(*tables))


def test_labels_of_diagrams_are_ascii(tables, run: Run) -> None:
    for figure in (memory_map_diagram(*tables), zone_diagram(zone_snapshot(run.zone)), split_tree(run.timeline, 0)):
        words(figure.svg()).encode("ascii")


def test_saving(tables, tmp_path) -> None:
    figure = memory_map_figure(tables[1])
    assert figure.save(tmp_path / "map.svg").read_text().startswith("<svg")
    assert figure.save(tmp_path / "map.txt").read_text() == figure.text() + "\n"
    with pytest.raises(KmemlabError, match=r"end the name in \.svg"):
        figure.save(tmp_path / "map.gif")
