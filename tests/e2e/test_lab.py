"""The course as a student sees it: opened in JupyterLab, run from top to bottom, the player stepped there and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .lab import TIMEOUT, Lab, find_browser, open_notebook, run_all
from .player_page import PlayerPage

ROOT = Path(__file__).parents[2]
LECTURES = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
LATE = ("07_vmalloc.ipynb", "09_boot_to_reclaim.ipynb")
"""Lectures whose first run begins with a few calls that only pass the request on: what it did shows at its end."""
ARTEFACTS = ROOT / "artefacts"

pytestmark = pytest.mark.skipif(
    find_browser() is None,
    reason="no Chromium found: install it (Debian: apt-get install chromium), or set KMEMLAB_CHROMIUM",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("course")
    for part in ("notebooks", "exercises"):  # a run must not touch what is under test
        shutil.copytree(ROOT / part, folder / part)
    server = Lab(folder, tmp_path_factory.mktemp("home"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
        opened = playwright.chromium.launch(executable_path=find_browser(), args=options)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1400, "height": 1600})
    yield opened
    opened.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", LECTURES)
def test_a_lecture_runs_and_its_player_steps_there_and_back(name: str, lab: Lab, page: Any) -> None:
    cells = json.loads((ROOT / "notebooks" / name).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))

    open_notebook(page, lab, f"notebooks/{name}")
    run_all(page, len(code))
    errors = page.locator(
        '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
    )
    assert errors.count() == 0, errors.all_inner_texts()

    player = PlayerPage(page)
    page.wait_for_timeout(1000)  # Run All scrolls to the last cell when it is done
    player.root.scroll_into_view_if_needed(timeout=TIMEOUT)
    player.root.focus()
    # The first drawing may come before the fonts and the width of the page are final: go there twice.
    page.keyboard.press("End")
    page.wait_for_timeout(500)
    at_the_end = player.picture()
    page.keyboard.press("Home")
    seen = [(player.step(), player.sentence(), player.picture())]
    for _ in range(6):
        player.press("step")
        seen.append((player.step(), player.sentence(), player.picture()))
    assert [step for step, _, _ in seen] == list(range(7))
    assert len({sentence for _, sentence, _ in seen}) == 7, "each step says something else"
    if name not in LATE:
        assert len({picture for _, _, picture in seen}) > 1, "the figure changes"
    assert at_the_end != seen[0][2], "the figure changes by the end"
    for before in reversed(seen[:-1]):
        player.press("back")
        assert (player.step(), player.sentence(), player.picture()) == before, "a step back is the step before"

    player.root.focus()
    page.keyboard.press("End")
    last = player.sentence()
    page.keyboard.press("ArrowLeft")
    assert player.sentence() != last
    page.keyboard.press("ArrowRight")
    assert player.sentence() == last

    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{Path(name).stem}.png")
    assert not problems, problems
