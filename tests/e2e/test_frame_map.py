"""The frame map in a browser: 65,536 page frames in three kinds of colours, repainted at once, walked with the keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmemlab.machine.frame_kinds import PAGE_TABLE
from kmemlab.machine.machine import Machine
from kmemlab.views.frame_view import FrameView

from .lab import find_browser

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium found; set KMEMLAB_CHROMIUM")

PAGE, FRAMES, QUICK = 4096, 1 << 16, 100  # milliseconds


@pytest.fixture(scope="module")
def view() -> FrameView:
    """Memory of a program, a file, and page tables."""
    machine = Machine.boot("laptop-8g")
    pid = machine.spawn("sh")
    machine.touch(pid, machine.mmap(pid, 3000 * PAGE), 3000 * PAGE)
    machine.create_file("data", pages=2000)
    machine.read_file("data", 0, 2000 * PAGE)
    zone = machine.zone("Normal")
    return FrameView.of(zone, zone.zone_start_pfn, FRAMES, kernel=machine.kernel, colour="owner")


@pytest.fixture(scope="module")
def page(view: FrameView, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    path: Path = view.save(tmp_path_factory.mktemp("map") / "map.html")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=find_browser(), args=options)
        opened = browser.new_page(viewport={"width": 800, "height": 900})
        opened.goto(path.as_uri())
        yield opened
        browser.close()


def picture(page: Any) -> str:
    return str(page.get_by_test_id("framemap-canvas").evaluate("canvas => canvas.toDataURL()"))


def test_each_choice_repaints_all_frames_quickly(page: Any) -> None:
    root, seen = page.get_by_test_id("framemap"), {}
    for colour in ("order", "migratetype", "owner"):
        button = page.get_by_test_id(f"framemap-by-{colour}")
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert root.get_attribute("data-colour") == colour
        assert float(root.get_attribute("data-painted-in")) < QUICK
        seen[colour] = picture(page)
    assert len(set(seen.values())) == 3


def test_the_legend_counts_what_the_map_has(page: Any, view: FrameView) -> None:
    shown = view.kinds["owner"]
    page.get_by_test_id("framemap-by-owner").click()
    legend = page.get_by_test_id("framemap-legend").text_content()
    for name, count in zip(shown.names, shown.counts(), strict=True):
        assert (f"{name} {count}" in legend) == bool(count)


def test_the_keys_move_and_the_owner_is_spoken(page: Any, view: FrameView) -> None:
    page.get_by_test_id("framemap-by-owner").click()
    root, told = page.get_by_test_id("framemap"), page.get_by_test_id("framemap-sentence")
    root.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert root.get_attribute("data-cursor") == str(256 + 1)
    kind = view.kinds["owner"].kinds[257]
    assert told.text_content().endswith(f"; owner: {view.kinds['owner'].names[kind]}")
    page.get_by_test_id("framemap-by-order").click()
    assert "owner" not in told.text_content()
    assert PAGE_TABLE in view.kinds["owner"].kinds


def test_the_dots_on_the_canvas_are_the_kinds(page: Any, view: FrameView) -> None:
    """One frame is one dot of 2 by 2 pixels: its colour is one of its kind's two, or the paper's."""
    page.get_by_test_id("framemap-by-owner").click()
    data = page.get_by_test_id("framemap-canvas").evaluate(
        "c => Array.from(c.getContext('2d').getImageData(2, 2, 512, 512).data)"
    )
    looks = next(each for each in view.data()["kinds"] if each["by"] == "owner")["looks"]
    for frame in range(600, FRAMES, 997):
        column, row = frame % 256, frame // 256
        at = 4 * (512 * (2 * row + 1) + 2 * column + 1)
        _, base, mark, pattern = looks[view.kinds["owner"].kinds[frame]]
        colour = mark if pattern[4 * (row % 4) + column % 4] == "#" else base
        if colour and max(data[at : at + 3]) != min(data[at : at + 3]) and data[at + 3] == 255:
            assert tuple(data[at : at + 3]) == tuple(bytes.fromhex(colour[1:]))
