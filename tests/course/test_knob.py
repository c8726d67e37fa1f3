"""A knob shows what its function gives, turned or not, and an error of ours where it fails."""

from __future__ import annotations

import pytest

from kmemlab.course.knob import knob
from kmemlab.types.errors import BadParameter, KmemlabError


def doubled(number: int, unit: str = "pages") -> str:
    if number == 13:
        raise KmemlabError("thirteen <is> refused")
    return f"{2 * number} {unit}"


def test_the_text_is_that_of_the_first_setting() -> None:
    assert knob(doubled, number=(1, 20, 4), unit=["pages", "blocks"]).text() == "number = 4, unit = pages\n\n8 pages"


def test_turning_it_runs_the_function_anew_and_shows_errors() -> None:
    slider, choice, shown = knob(doubled, number=(1, 20, 4), unit=["pages", "blocks"]).widget().children
    assert "8 pages" in shown.value
    slider.value, choice.value = 5, "blocks"
    assert "10 blocks" in shown.value
    slider.value = 13
    assert "thirteen &lt;is&gt; refused" in shown.value


def test_the_stored_output_reads_without_widgets() -> None:
    bundle = knob(doubled, number=(1, 20, 4))._repr_mimebundle_()
    assert "8 pages" in bundle["text/html"]
    assert "8 pages" in bundle["text/plain"]


def test_a_setting_that_is_no_knob() -> None:
    with pytest.raises(BadParameter, match="number=3"):
        knob(doubled, number=3)  # type: ignore[arg-type]
