"""The table of a comparison and its text say the same."""

from __future__ import annotations

import re
from html import unescape

from kmemlab.machine.compare import Comparison, compare_family
from kmemlab.machine.facts import Fact
from kmemlab.views.comparison import MANY, ComparisonTable, compare, percent
from tests.boot.captures import MACHINES


def facts(count: int, value: str) -> tuple[Fact, ...]:
    return tuple(Fact(f"{nth}/<DMA> managed", value) for nth in range(count))


def comparison(linux: tuple[Fact, ...], model: tuple[Fact, ...]) -> Comparison:
    return Comparison("mine & yours", "6.1.0", (compare_family("zone.size", linux, model),), ("iomem.txt",))


def words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_every_number_of_the_text_is_in_the_table() -> None:
    table = ComparisonTable(comparison((*facts(3, "7"), Fact("x", "1")), (*facts(3, "7"), Fact("x", "2"))))
    html, text = words(table.html()), table.text()
    for said in ("mine & yours", "60.0 %", "x 1", "x 2", "zone.size", "iomem.txt"):
        assert said in html
        assert said in text
    assert re.search(r"zone\.size +4 +4 +3 +60\.0 %", text)
    assert re.search(r"4 4 3 60\.0 %", html)
    assert "<DMA>" not in table.html()


def test_a_long_list_of_differences_is_cut_and_says_so() -> None:
    table = ComparisonTable(comparison(facts(MANY + 3, "1"), facts(MANY + 3, "2")))
    assert table.text().count("\n    - ") == MANY
    assert "and 3 more" in table.text()
    assert "and 3 more" in words(table.html())
    assert "the first in order: 0/<DMA> managed 1" in words(table.html())


def test_a_difference_of_order_alone_is_told() -> None:
    one, two = Fact("a", "1"), Fact("b", "2")
    table = ComparisonTable(comparison((one, two), (two, one)))
    assert "another order from here on: a 1" in table.text()
    assert "another order from here on: a 1" in words(table.html())


def test_only_what_is_whole_is_called_so() -> None:
    assert percent(0.99999) == "99.9 %"
    assert percent(1.0) == "100 %"


def test_a_notebook_gets_the_table_and_a_terminal_the_text() -> None:
    table = compare(MACHINES / "amd64-96m")
    bundle = table._repr_mimebundle_()
    assert bundle["text/plain"] == table.text() == repr(table)
    assert "<caption" in bundle["text/html"]
    assert 'scope="row"' in bundle["text/html"]
    assert "100 % of the facts agree" in words(bundle["text/html"])
