"""The player in a browser, by the names that its parts bear; for tests that drive Chromium."""

from __future__ import annotations

from typing import Any


class PlayerPage:
    """One player on a page of Playwright; `number` counts them from 0."""

    def __init__(self, page: Any, number: int = 0) -> None:
        self.page = page
        self.root = page.get_by_test_id("player").nth(number)

    def part(self, name: str) -> Any:
        """A part: sentence, figure, text, source, calls, proc, changed, slider, count, or a button (press)."""
        return self.root.get_by_test_id(f"player-{name}")

    def press(self, button: str) -> None:
        """Press first, back, step, over, out, last, play, text-toggle or save."""
        self.part(button).click()

    def step(self) -> int:
        """The step that is shown, from 0."""
        return int(self.root.get_attribute("data-step"))

    def sentence(self) -> str:
        """What just happened, as a screen reader hears it."""
        return str(self.part("sentence").text_content())

    def picture(self) -> str:
        """The picture as a string that differs when the picture differs: pixels of a canvas, or the SVG's source."""
        return str(
            self.part("figure").evaluate(
                "f => f.querySelector('canvas')?.toDataURL() ?? f.querySelector('svg').outerHTML"
            )
        )
