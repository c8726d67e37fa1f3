"""The table of contents and the glossary: made from the lectures, and nothing that they promise is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmemlab.course.contents import Lecture, contents_text, lectures, missing
from kmemlab.course.glossary import TERMS, glossary_text, mark_of_term, meaning
from kmemlab.course.systems import SYSTEMS, System

ROOT = Path(__file__).parents[2]
FOUND = lectures(ROOT)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: f"{system.chapter}: {system.title}")
def test_every_name_of_a_system_stands_in_its_lecture(system: System) -> None:
    assert missing(system, FOUND) == []


@pytest.mark.parametrize("name", ["contents", "glossary"])
def test_the_pages_equal_a_fresh_build(name: str) -> None:
    fresh = {"contents": contents_text, "glossary": glossary_text}[name](ROOT)
    assert (ROOT / "notebooks" / f"{name}.md").read_text(encoding="utf-8") == fresh


def test_every_lecture_stands_in_the_contents_with_its_question() -> None:
    text = contents_text(ROOT)
    for lecture in FOUND:
        assert f"[{lecture.title}]({lecture.stem}.ipynb): {lecture.question}" in text
        assert lecture.question.endswith("?"), f"{lecture.stem} asks no question"


def test_every_link_leads_to_a_lecture() -> None:
    stems = {lecture.stem for lecture in FOUND}
    for text in (contents_text(ROOT), glossary_text(ROOT)):
        targets = [part.split(")")[0] for part in text.split("](")[1:]]
        local = {target.removesuffix(".ipynb") for target in targets if target.endswith(".ipynb")}
        assert local <= stems


def test_a_name_counts_only_as_a_word_of_its_own() -> None:
    lecture = Lecture("05_toy", "05 · Toy", "?", "__alloc_pages(gfp) and e820__print_table; mem=4G")
    assert [lecture.has(name) for name in ("__alloc_pages", "alloc_pages", "print_table", "mem=")] == [
        True, False, False, True,
    ]  # fmt: skip
    assert missing(System("toy", "05", ("mem=", "memmap=")), (lecture,)) == ["memmap="]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.english)
def test_a_term_is_explained_by_one_sentence(term: object) -> None:
    said = meaning(mark_of_term(term))  # type: ignore[arg-type]
    assert said.endswith(".")
    assert 20 < len(said) < 200
