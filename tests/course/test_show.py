"""`show`: the source that runs, under the C name, with the link; every marked function can be shown."""

from __future__ import annotations

import ast
import html
import inspect
import re

import pytest

from kmemlab.boot.e820 import E820Table, e820__update_table
from kmemlab.course.show import show
from kmemlab.sim.kernel import load_all
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import BadRequest


def shown_source(markup: str) -> str:
    """What a reader sees of the code, taken out of the HTML."""
    pre = re.search(r"<pre[^>]*>(.*)</pre>", markup, re.DOTALL)
    assert pre
    return html.unescape(re.sub(r"<[^>]+>", "", pre[1]))


@pytest.mark.usefixtures("nobody_records")
def test_title_link_and_source_are_those_of_the_function() -> None:
    listing = show(e820__update_table)
    assert listing.title == "arch/x86/kernel/e820.c: e820__update_table (v6.1)"
    assert "https://elixir.bootlin.com/linux/v6.1/source/arch/x86/kernel/e820.c" in listing.text()
    assert "sanitize_e820_map" in listing.text()
    assert listing.source in inspect.getsource(e820__update_table)
    assert listing.source.startswith("def e820__update_table(table: E820Table) -> int:")


def test_html_says_what_text_says() -> None:
    listing = show(e820__update_table)
    assert shown_source(listing.html()) == listing.source
    bundle = listing._repr_mimebundle_()
    assert bundle["text/plain"] == listing.text()
    assert listing.mark.link in bundle["text/html"]


@pytest.mark.parametrize("mark", list(load_all()), ids=lambda mark: mark.python_path)
def test_every_mark_can_be_shown_and_loses_no_character(mark: object) -> None:
    listing = show(mark.function)  # type: ignore[attr-defined]
    assert shown_source(listing.html()) == listing.source
    ast.parse(listing.source)
    ast.parse(show(mark.function, doc=False).source)  # type: ignore[attr-defined]


def test_without_docstring_the_code_is_the_same() -> None:
    with_doc, without = show(e820__update_table).source, show(e820__update_table, doc=False).source
    assert '"""' not in without
    old, new = ast.parse(with_doc).body[0], ast.parse(without).body[0]
    assert isinstance(old, ast.FunctionDef)
    assert isinstance(new, ast.FunctionDef)
    assert [ast.dump(node) for node in old.body[1:]] == [ast.dump(node) for node in new.body]


def test_a_c_name_will_do() -> None:
    assert show("e820__update_table").mark is show(e820__update_table).mark
    assert show("sanitize_e820_map").title == "arch/x86/kernel/e820.c: e820__update_table (v6.1)"


def test_while_it_is_patched_the_kernels_own_is_shown() -> None:
    own = show(e820__update_table).source

    def nothing(table: E820Table) -> int:
        return 0

    with livepatch(e820__update_table, nothing):
        assert show(e820__update_table).source == own


@pytest.mark.parametrize("wrong", [len, "no_such_function"])
def test_what_is_no_kernel_function_is_told_so(wrong: object) -> None:
    with pytest.raises(BadRequest, match="no kernel function"):
        show(wrong)  # type: ignore[arg-type]
