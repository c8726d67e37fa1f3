"""A question tells its choices, keeps its reasons until asked, and knows its right answer."""

from __future__ import annotations

import pytest

from kmemlab.course.quiz import gate, question, quiz
from kmemlab.types.errors import BadParameter

CHOICES = {"1": "one block would have no upper half to give back", "10 & more": "each split gives one half back"}


def test_the_text_shows_choices_without_reasons() -> None:
    text = gate("How many?", CHOICES, right="1").text()
    assert "How many?" in text
    assert "( ) 10 & more" in text
    assert "half" not in text


def test_without_widgets_each_choice_unfolds_to_its_reason() -> None:
    html = quiz(question("How many?", CHOICES, right="1"))._repr_mimebundle_()["text/html"]
    assert html.count("<details>") == 2
    assert "<summary>10 &amp; more</summary><p>No. each split" in html


def test_a_right_answer_that_is_no_choice() -> None:
    with pytest.raises(BadParameter, match="none of the choices"):
        gate("How many?", CHOICES, right="2")
