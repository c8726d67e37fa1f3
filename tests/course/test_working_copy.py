"""The student's copy: whatever the course does, no word of the student's is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmemlab.course.notebook import BadNotebook, Notebook, read, write
from kmemlab.course.working_copy import fill_up, merged, reset

PARTS = ("notebooks", "exercises")
NAME = Path("exercises/05_toy.ipynb")


def cell(name: str, source: str, *, answer: bool = False, check: bool = False) -> dict[str, Any]:
    mark = {"grade_id": name, "solution": answer, "grade": check, "locked": check, "schema_version": 3}
    metadata = {"nbgrader": mark} if answer or check else {}
    code = {"execution_count": None, "outputs": []} if answer or check else {}
    kind = "code" if code else "markdown"
    return {"cell_type": kind, "id": name, "metadata": metadata, "source": source, **code}


def notebook(*cells: dict[str, Any]) -> Notebook:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


HANDED_OUT = notebook(
    cell("title", "# Toy"),
    cell("toy-a", "a = ...", answer=True),
    cell("toy-a-check", "check('toy.a', a)", check=True),
    cell("end", "the end"),
)
NEW = notebook(
    cell("title", "# A better title"),
    cell("toy-a", "a = ...  # new wording", answer=True),
    cell("toy-a-check", "check('toy.a', a)  # stricter", check=True),
    cell("toy-b", "b = ...", answer=True),
    cell("toy-b-check", "check('toy.b', b)", check=True),
    cell("end", "the end"),
)


def sources(book: Notebook) -> dict[str, str]:
    return {cell["id"]: cell["source"] for cell in book["cells"]}


def with_source(book: Notebook, name: str, source: str) -> Notebook:
    return {**book, "cells": [{**c, "source": source} if c["id"] == name else c for c in book["cells"]]}


def test_an_answer_survives_an_update_and_everything_else_is_new() -> None:
    mine = with_source(HANDED_OUT, "toy-a", "a = 42")
    assert sources(merged(HANDED_OUT, mine, NEW)) == sources(NEW) | {"toy-a": "a = 42"}
    assert sources(merged(None, mine, NEW)) == sources(NEW) | {"toy-a": "a = 42"}


def test_an_untouched_answer_takes_the_new_wording() -> None:
    assert merged(HANDED_OUT, HANDED_OUT, NEW) == NEW


def test_a_changed_check_is_never_kept() -> None:
    mine = with_source(HANDED_OUT, "toy-a-check", "print('passed')")
    assert sources(merged(HANDED_OUT, mine, NEW))["toy-a-check"] == "check('toy.a', a)  # stricter"


def test_notes_stay_where_they_were_written() -> None:
    cells = HANDED_OUT["cells"]
    mine = notebook(cells[0], cell("note", "I wonder why"), *cells[1:])
    got = merged(HANDED_OUT, mine, NEW)
    assert [c["id"] for c in got["cells"]][:3] == ["title", "note", "toy-a"]


def test_a_cell_that_the_course_dropped_goes_unless_the_student_wrote_in_it() -> None:
    shorter = notebook(*[c for c in NEW["cells"] if c["id"] != "end"])
    assert "end" not in sources(merged(HANDED_OUT, HANDED_OUT, shorter))
    assert sources(merged(HANDED_OUT, with_source(HANDED_OUT, "end", "mine"), shorter))["end"] == "mine"


def test_cells_without_ids_can_not_be_merged() -> None:
    bad = notebook({"cell_type": "markdown", "metadata": {}, "source": "old"})
    with pytest.raises(BadNotebook, match="without ids"):
        merged(HANDED_OUT, bad, NEW)


texts = st.text("abc=1 \n", max_size=6)
names = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6)
books = names.flatmap(
    lambda chosen: st.tuples(*[texts for _ in chosen]).map(
        lambda words: notebook(*[cell(n, w, answer=True) for n, w in zip(chosen, words, strict=True)])
    )
)


@given(handed_out=books, mine=books, new=books)
def test_no_changed_word_is_lost(handed_out: Notebook, mine: Notebook, new: Notebook) -> None:
    got = merged(handed_out, mine, new)
    before = sources(handed_out)
    for name, source in sources(mine).items():
        if before.get(name) != source:
            assert sources(got)[name] == source
    assert set(sources(new)) <= set(sources(got))
    assert len(got["cells"]) == len(sources(got)), "a cell is there twice"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    source = tmp_path / "course"
    write(source / NAME, HANDED_OUT)
    (source / "notebooks").mkdir()
    (source / "notebooks" / "data.txt").write_text("one")
    return source


def test_an_update_keeps_the_answer_and_sets_the_old_file_aside(course: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert [str(p) for p in fill_up(folder, course, PARTS).added] == ["notebooks/data.txt", str(NAME)]
    write(folder / NAME, with_source(read(folder / NAME), "toy-a", "a = 42"))
    mine = (folder / NAME).read_bytes()
    assert fill_up(folder, course, PARTS).updated == []
    assert (folder / NAME).read_bytes() == mine
    write(course / NAME, NEW)
    (course / "notebooks" / "data.txt").write_text("two")
    filled = fill_up(folder, course, PARTS)
    assert sources(read(folder / NAME)) == sources(NEW) | {"toy-a": "a = 42"}
    assert (folder / "notebooks" / "data.txt").read_text() == "two"
    assert [str(path) for path in filled.set_aside] == ["exercises/kept/05_toy.1.ipynb"]
    assert (folder / filled.set_aside[0]).read_bytes() == mine
    assert "brought up to date" in str(filled)
    assert fill_up(folder, course, PARTS).updated == [], "a second time there is nothing to do"


def test_a_notebook_that_was_only_run_is_updated_without_a_copy(course: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    fill_up(folder, course, PARTS)
    ran = read(folder / NAME)
    ran["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "hello"}]
    write(folder / NAME, ran)
    write(course / NAME, NEW)
    filled = fill_up(folder, course, PARTS)
    assert filled.set_aside == []
    assert read(folder / NAME) == read(course / NAME)


def test_what_can_not_be_read_stays(course: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    fill_up(folder, course, PARTS)
    (folder / NAME).write_text("{ half a notebook")
    (folder / "notebooks" / "data.txt").write_text("my own data")
    write(course / NAME, NEW)
    (course / "notebooks" / "data.txt").write_text("two")
    assert len(fill_up(folder, course, PARTS).kept) == 2
    assert (folder / NAME).read_text() == "{ half a notebook"
    assert (folder / "notebooks" / "data.txt").read_text() == "my own data"


def test_reset_twice_keeps_both_old_files(course: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert reset(folder, NAME, HANDED_OUT) is None
    fresh = (folder / NAME).read_bytes()
    kept = []
    for word in ("first", "second"):
        (folder / NAME).write_text(word)
        aside = reset(folder, NAME, HANDED_OUT)
        assert aside is not None
        kept.append((folder / aside).read_text())
        assert (folder / NAME).read_bytes() == fresh
    assert kept == ["first", "second"]
    assert json.loads(fresh)["cells"][0]["source"] == ["# Toy"]
