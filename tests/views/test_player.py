"""The player against the run that it shows: sentences, sources, frames, and the same facts in every form."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

from kmemlab.boot.e820 import E820Table, e820__range_add, e820__update_table
from kmemlab.machine.machine import Machine
from kmemlab.machine.snapshot import frame_map
from kmemlab.mm.buddy import expand
from kmemlab.mm.zone import add_to_free_list
from kmemlab.sim.journal import Journal
from kmemlab.sim.livepatch import livepatch
from kmemlab.sim.recorder import Recorder
from kmemlab.sim.timeline import Timeline
from kmemlab.types.errors import BadRequest, KmemlabError
from kmemlab.views.carry import cells_at
from kmemlab.views.panel import E820Panel, ZonePanel
from kmemlab.views.player import Player

from .run import Run


@pytest.fixture
def player(run: Run) -> Player:
    return Player(run.timeline, ZonePanel(run.zone))


def test_the_sentences_of_a_split(run: Run) -> None:
    said = [step.said.replace("`", "") for step in Player(run.timeline, ZonePanel(run.zone), [0]).steps]
    assert said == [
        "take(7) is asked of the machine.",
        "__rmqueue_smallest looks for the smallest free block of order 7 or more on the Movable lists.",
        "__rmqueue_smallest takes the free block at pfn 0, order 10, off its list.",
        "expand splits the block at pfn 0, order 10, until a block of order 7 is left there.",
        "expand gives the upper half back: pfn 512, order 9, goes to the front of its list.",
        "expand gives the upper half back: pfn 256, order 8, goes to the front of its list.",
        "expand gives the upper half back: pfn 128, order 7, goes to the front of its list.",
        "__rmqueue_smallest returns pfn 0: a block of order 7 for its caller.",
    ]


def test_each_step_shows_the_line_that_ran(player: Player) -> None:
    lines = {step.said.split("`")[2][:20]: step.source.lines[step.line].strip() for step in player.steps if step.source}
    assert lines[" gives the upper hal"] == "add_to_free_list(zone, pfn + (1 << high), high, migratetype)"
    assert lines[" takes the free bloc"] == "del_page_from_free_list(zone, pfn, current_order)"
    assert lines[" counts: 1023 pages "] == "zone.vm_stat[NR_FREE_PAGES] += 1 << order"
    assert not any('"""' in line for step in player.steps if step.source for line in step.source.lines)


def test_frames_travel_as_keyframes_and_deltas(player: Player) -> None:
    data = player.data()
    json.dumps(data)
    for at, step in enumerate(player.steps):
        assert cells_at(data["picture"], at) == step.sight.picture.cells
    distinct = {step.sight.picture.cells for step in player.steps}
    assert len(distinct) > 8
    assert sum("key" in frame for frame in data["picture"]["frames"]) < len(player)


def test_many_frames_of_a_large_zone_weigh_little() -> None:
    from kmemlab.views.carry import frames_data

    maps = [bytearray(b"\x20" * 65536)]
    for at in range(199):
        maps.append(bytearray(maps[-1]))
        maps[-1][at * 300 : at * 300 + 8] = b"\x13" + b"\x03" * 7
    data = frames_data(0, 256, [bytes(m) for m in maps])
    assert len(json.dumps(data)) < 100_000
    assert cells_at(data, 150) == bytes(maps[150])


def test_text_and_frame_agree_at_every_step(run: Run, player: Player) -> None:
    data = player.data()
    for at, step in enumerate(player.steps):
        text = player.text(at)
        cells = cells_at(data["picture"], at)
        used = sum(bool(cell & 0x20) for cell in cells)
        assert f"{used} page" in text
        carried = data["steps"][at]
        for index in (carried["said"], carried["alt"], *carried["stack"], *carried["changed"]):
            assert data["texts"][index].replace("`", "") in text
        heads = [cell & 15 for cell in cells if cell & 0x10 and cell < 0x20]
        counts = [heads.count(order) for order in range(11)]
        assert f"Node 0, zone   Normal {''.join(f'{n:6} ' for n in counts)}".rstrip() in text
        assert step.sight.proc in text
    assert player.steps[-1].sight.picture.cells == frame_map(run.zone).cells


def test_the_timeline_stands_where_it_stood(run: Run) -> None:
    run.timeline.rewind(1)
    Player(run.timeline, ZonePanel(run.zone))
    assert run.timeline.place() == (1, 0)


def test_the_still_picture_and_the_text_are_the_same_twice(player: Player) -> None:
    svg = player.svg()
    root = ElementTree.fromstring(svg)
    assert player.svg() == svg
    assert root.get("role") == "img"
    shown = "\n".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("}text"))
    here = player.steps[-1]
    for line in (*here.stack, *here.changed, here.sight.proc):
        assert line in shown
    assert len(svg) + len(player.text()) < 100_000


def test_the_bundle_has_a_picture_and_a_text_beside_the_widget(player: Player) -> None:
    pytest.importorskip("anywidget")
    data, _ = player._repr_mimebundle_()
    assert data["image/svg+xml"] == player.svg()
    assert data["text/plain"] == player.text()
    assert "application/vnd.jupyter.widget-view+json" in data
    synced = {name for name in player.widget.traits(sync=True) if not name.startswith("_")}
    assert {"data", "cursor"} <= synced
    player.cursor = 3
    assert player.cursor == 3


def test_a_students_own_function_is_the_one_that_is_shown() -> None:
    def my_expand(zone, pfn, low, high, migratetype) -> None:  # type: ignore[no-untyped-def]
        for order in reversed(range(low, high)):
            add_to_free_list(zone, pfn + (1 << order), order, migratetype)

    run = Run()
    with livepatch(expand, my_expand):
        run.do("take", 8)
    player = Player(run.timeline, ZonePanel(run.zone))
    run.recorder.stop()
    step = next(step for step in player.steps if "gives the upper half" in step.said)
    assert step.source is not None
    assert step.source.title == "expand: your my_expand"
    assert step.source.lines[step.line].strip().startswith("add_to_free_list(")
    assert step.source.lines[0].startswith("def my_expand(")


def test_without_recorded_lines_no_line_is_claimed() -> None:
    run = Run(lines=False)
    run.do("take", 8)
    player = Player(run.timeline, ZonePanel(run.zone))
    run.recorder.stop()
    assert all(step.line == -1 for step in player.steps if "gives" in step.said)


def test_the_e820_player_shows_what_the_firmware_said_and_what_became_of_it() -> None:
    machine = Machine("laptop-8g")
    timeline = machine.record(lines=True)
    machine.start_kernel(until="setup_arch")
    table: E820Table = machine.kernel.boot.e820_table
    player = Player(timeline, E820Panel(table), within="e820__memory_setup_default")
    machine.stop_recording()
    appended = [step for step in player.steps if " appends [mem" in step.said]
    written = [step for step in player.steps if " writes entry" in step.said]
    assert len(appended) == len(machine.spec.e820)
    assert all("append_e820_table" in step.said for step in appended)
    printed = player.steps[-1].sight.proc.split("\n")
    assert len(written) == len(printed)
    assert [line for line in machine.dmesg().splitlines() if line.startswith("BIOS-e820")] == printed
    data = player.data()
    assert len(json.dumps(data)) < 300_000
    shot = data["picture"]["frames"][-1]
    drawn = "".join(data["picture"]["elements"][at] for at in shot[2:])
    assert drawn == "".join(player.steps[-1].sight.picture.inside())


def test_the_sweep_over_overlapping_entries_is_told_stop_by_stop() -> None:
    table = E820Table()
    journal = Journal(lambda command: None)
    journal.lines = True
    recorder = Recorder(table, journal)
    timeline = Timeline(journal, recorder.listening)
    recorder.start()
    with recorder.command("setup", ()):
        e820__range_add(table, 0, 0x9000, 1)
        e820__range_add(table, 0x4000, 0x2000, 2)
        e820__update_table(table)
    player = Player(timeline, E820Panel(table))
    recorder.stop()
    stops = [step.said.split(" stops at ")[1] for step in player.steps if " stops at " in step.said]
    assert stops == [
        "0x0, where entry 0 (usable) starts; open now: 0 (usable).",
        "0x4000, where entry 1 (reserved) starts; open now: 0 (usable), 1 (reserved).",
        "0x6000, where entry 1 (reserved) ends; open now: 0 (usable).",
        "0x9000, where entry 0 (usable) ends; no entry is open now.",
    ]
    written = [step for step in player.steps if " writes entry" in step.said]
    assert [(step.said.split("[mem ")[1].split("]")[0][-8:]) for step in written] == [
        "00003fff",
        "00005fff",
        "00008fff",
    ]
    assert all("writes entry" in step.said or step.line >= 0 for step in player.steps[1:-1])


def test_the_window_holds_what_the_run_touches() -> None:
    machine = Machine.boot("tiny-128m")
    timeline = machine.record()
    pfn = machine.alloc_pages(0xCC0, 0)
    zone = next(z for z in machine.zones if z.zone_start_pfn <= pfn < z.zone_start_pfn + z.spanned_pages)
    player = Player(timeline, ZonePanel(zone))
    machine.stop_recording()
    frames = player.steps[0].sight.picture
    assert frames.start_pfn <= pfn < frames.start_pfn + len(frames.cells)


def test_nothing_to_play_and_no_such_step_are_told(run: Run, player: Player) -> None:
    with pytest.raises(BadRequest, match="nothing to play"):
        Player(run.timeline, ZonePanel(run.zone), within="no_such_function")
    with pytest.raises(KmemlabError, match="no step 999"):
        player.text(999)


def test_the_page_needs_no_network(player: Player, tmp_path) -> None:
    page = player.save(tmp_path / "player.html").read_text()
    outside = [
        url for url in re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+[^\s\"']*", page) if "www.w3.org" not in url
    ]
    assert outside == []
