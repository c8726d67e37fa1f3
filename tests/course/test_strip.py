"""Answers out of cells: what stays must run, and must count as not solved."""

from __future__ import annotations

import pytest

from kmemlab.course.answer import unsolved
from kmemlab.course.notebook import BadNotebook
from kmemlab.course.strip import BEGIN, END, INVITATION, strip_answers

WHOLE_BODY = '''\
def expand(zone, pfn, low, high):
    """Split a block."""
    ### BEGIN SOLUTION
    while high > low:
        high -= 1
    # a last word
    ### END SOLUTION
'''

IN_THE_MIDDLE = """\
def walk(address):
    levels = 4
    if address >= 0:
        ### BEGIN SOLUTION
        step = address >> 12
        ### END SOLUTION
    return levels
"""

AT_THE_TOP = """\
import math

### BEGIN SOLUTION
def helper(n):
    inner = n
    return inner

first, (second, _scratch) = 1, (2, 3)
for index in range(3):
    total: int = index
### END SOLUTION
print(total)
"""


def test_a_functions_body_becomes_a_placeholder_that_counts_as_unsolved() -> None:
    stripped = strip_answers(WHOLE_BODY)
    assert stripped.splitlines()[2:] == [f"    {INVITATION}", "    return ..."]
    scope: dict[str, object] = {}
    exec(stripped, scope)
    assert unsolved(scope["expand"])


def test_a_part_of_a_function_keeps_its_indentation_and_what_follows() -> None:
    stripped = strip_answers(IN_THE_MIDDLE)
    assert stripped.splitlines()[3:] == [f"        {INVITATION}", "        return ...", "    return levels"]
    scope: dict[str, object] = {}
    exec(stripped, scope)
    assert unsolved(scope["walk"])


def test_at_the_top_each_name_that_the_answer_sets_is_set_to_the_placeholder() -> None:
    stripped = strip_answers(AT_THE_TOP)
    assert "\n".join(stripped.splitlines()[2:]) == (
        f"{INVITATION}\nhelper = ...\nfirst = ...\nsecond = ...\ntotal = ...\nprint(total)"
    )


def test_names_that_no_check_reads_are_not_given_away() -> None:
    source = f"{BEGIN}\nfields = 9\nfor start in (1, 2):\n    whole = start\npages = whole\n{END}"
    assert strip_answers(source, {"pages", "check"}).endswith("\npages = ...")
    assert "whole" not in strip_answers(source, {"pages", "check"})
    assert "whole = ..." in strip_answers(source, {"other"}), "nothing is asked for by name: all stay"


def test_an_answer_after_a_function_is_not_taken_for_its_body() -> None:
    stripped = strip_answers("def f():\n    return 1\n\n### BEGIN SOLUTION\nx = f()\n### END SOLUTION")
    assert stripped.endswith("\nx = ...")


def test_two_answers_in_one_cell() -> None:
    one = "### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n"
    assert strip_answers(one + one.replace("x", "y")).count("= ...") == 2


def test_an_answer_in_a_class_body() -> None:
    stripped = strip_answers(
        "class Shelf:\n    ### BEGIN SOLUTION\n    size = 3\n    def put(self): ...\n    ### END SOLUTION"
    )
    assert stripped.splitlines()[-2:] == ["    size = ...", "    put = ..."]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("### BEGIN SOLUTION\nx = 1", "without '### END SOLUTION'"),
        ("x = 1\n### END SOLUTION", "without '### BEGIN SOLUTION'"),
        ("### BEGIN SOLUTION\nx = 1\n### BEGIN SOLUTION\n### END SOLUTION", "a second"),
        ("### BEGIN SOLUTION\n# nothing\n### END SOLUTION", "is empty"),
        ("### BEGIN SOLUTION\n%matplotlib inline\n### END SOLUTION", "not Python"),
    ],
)
def test_marks_that_do_not_pair_are_told(source: str, told: str) -> None:
    with pytest.raises(BadNotebook, match=told):
        strip_answers(source)
