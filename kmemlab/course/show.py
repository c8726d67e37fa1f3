"""`show(function)`: a kernel function as it runs here, under its C name, with a link to the C source it models."""

from __future__ import annotations

import ast
import inspect
import io
import keyword
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from kmemlab.sim.hook import own_code
from kmemlab.sim.kernel import VERSION, KernelMark, load_all, registry
from kmemlab.types.errors import BadRequest

# JupyterLab's own colours of code, which follow its theme; the fall-backs are those of its light theme.
_COLOURS = {
    "keyword": "var(--jp-mirror-editor-keyword-color,#00682a);font-weight:600",
    "text": "var(--jp-mirror-editor-string-color,#a31515)",
    "comment": "var(--jp-mirror-editor-comment-color,#41706f);font-style:italic",
    "number": "var(--jp-mirror-editor-number-color,#006b5f)",
}
_BOX = "max-width:960px;border:1px solid var(--jp-border-color2,#bdbdbd);color:var(--jp-content-font-color1,#212121)"
_HEAD = "padding:6px 12px;background:var(--jp-layout-color2,#eeeeee);font-size:13px;line-height:1.5"
_NAME = "font-family:var(--jp-code-font-family,monospace);font-size:13px"
_LINK = "color:var(--jp-content-link-color,#1f5fa8);text-decoration:underline"
_CODE = (
    "margin:0;padding:8px 12px;overflow-x:auto;background:none;font-size:12px;line-height:1.4;"
    "font-family:var(--jp-code-font-family,monospace)"
)

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Listing:
    """One function of the package: its mark, and its source without the decorators."""

    mark: KernelMark
    source: str

    @property
    def title(self) -> str:
        """Which C function it is, or that C has none."""
        if not self.mark.file:
            return f"{self.mark.name}: not in C ({self.mark.why})"
        return f"{self.mark.file}: {self.mark.name} ({VERSION})"

    def facts(self) -> list[tuple[str, str]]:
        """What there is to know besides the source, by name."""
        named = [
            ("Python", self.mark.python_path),
            ("formerly", ", ".join(self.mark.formerly)),
            ("lock", self.mark.lock),
            ("left out", self.mark.left_out or ("nothing" if self.mark.file else "")),
        ]
        return [(name, fact) for name, fact in named if fact]

    def text(self) -> str:
        """The listing as text: the title, the link, what is left out, the source."""
        link = [self.mark.link] if self.mark.link else []
        facts = [f"{name + ':':<10} {fact}" for name, fact in self.facts()]
        return "\n".join([self.title, *link, *facts, "", self.source])

    def html(self) -> str:
        """The same for a notebook, with the source in colours."""
        title = f'<span style="{_NAME}">{escape(self.title)}</span>'
        if self.mark.link:
            title = f'<a style="{_LINK}" href="{escape(self.mark.link)}" target="_blank" rel="noopener">{title}</a>'
        facts = " · ".join(f'{name}: <span style="{_NAME}">{escape(fact)}</span>' for name, fact in self.facts())
        return (
            f'<div role="group" aria-label="{escape(self.title)}" style="{_BOX}">'
            f'<div style="{_HEAD}"><div>{title}</div><div>{facts}</div></div>'
            f'<pre style="{_CODE}">{"".join(highlighted(self.source))}</pre></div>'
        )

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, str]:
        return {"text/html": self.html(), "text/plain": self.text()}


def show(function: Callable[..., Any] | str, *, doc: bool = True) -> Listing:
    """Show a kernel function of the package, given itself or by its C name; without its docstring if not `doc`.

    Raises `BadRequest` for what is no kernel function, or for a name that several bear.

    >>> from kmemlab.mm.buddy import find_buddy_pfn
    >>> show(find_buddy_pfn).title
    'mm/internal.h: __find_buddy_pfn (v6.1)'
    """
    mark = _marked(function)
    lines = _source_lines(mark.function)
    first = next((at for at, line in enumerate(lines) if line.lstrip().startswith(("def ", "class "))), None)
    if first is None:
        raise BadRequest(
            f"the file of {mark.python_path} has changed since it was read",
            where="show",
            remedy="restart the kernel of this notebook",
        )
    source = textwrap.dedent("".join(lines[first:])).rstrip()
    return Listing(mark, source if doc else _without_docstring(source))


def _marked(function: Callable[..., Any] | str) -> KernelMark:
    if isinstance(function, str):
        found = load_all().find(function)
        if len(found) == 1:
            return found[0]
        several = f"{len(found)} functions bear the name {function!r}"
        raise BadRequest(
            several if found else f"no kernel function of kmemlab is named {function!r}",
            where="show",
            remedy=f"`kmemlab where {function}` finds them" if found else "pass a C name such as e820__update_table",
        )
    mark = registry.of(function)
    if mark is None:
        raise BadRequest(
            f"{getattr(function, '__name__', function)!s} is no kernel function of kmemlab",
            where="show",
            remedy="pass one, such as kmemlab.boot.e820.e820__update_table, or its C name",
        )
    return mark


def _source_lines(function: Callable[..., Any]) -> list[str]:
    # While a function is livepatched or recorded its __code__ is another's.
    return inspect.getsourcelines(own_code(function) if inspect.isfunction(function) else function)[0]


def _without_docstring(source: str) -> str:
    node = ast.parse(source).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.ClassDef))
    if ast.get_docstring(node) is None or len(node.body) < 2:
        return source
    lines = source.splitlines()
    text = node.body[0]
    end = text.end_lineno or text.lineno
    while not lines[end].strip():
        end += 1
    return "\n".join(lines[: text.lineno - 1] + lines[end:])


def highlighted(source: str) -> Iterator[str]:
    """Python source as pieces of HTML, its keywords, texts, numbers and comments in colours.

    >>> "".join(highlighted("x = y & 1  # odd?")).startswith("x = y &amp; <span")
    True
    """
    lines = source.splitlines(keepends=True)
    row, column = 1, 0
    for kind, start, end in _coloured(source):
        yield escape(_between(lines, (row, column), start), quote=False)
        yield f'<span style="color:{_COLOURS[kind]}">{escape(_between(lines, start, end), quote=False)}</span>'
        row, column = end
    yield escape(_between(lines, (row, column), (len(lines) + 1, 0)), quote=False)


def _coloured(source: str) -> Iterator[tuple[str, Place, Place]]:
    """What is coloured: its kind, and where it starts and ends (row from 1, column from 0)."""
    depth, opened = 0, (1, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":  # since Python 3.12 an f-string is several tokens: taken as one, as before
            opened, depth = (opened if depth else token.start), depth + 1
        elif name == "FSTRING_END":
            depth -= 1
            if not depth:
                yield "text", opened, token.end
        elif not depth:
            kinds = {"STRING": "text", "COMMENT": "comment", "NUMBER": "number"}
            kind = "keyword" if keyword.iskeyword(token.string) else kinds.get(name)
            if kind:
                yield kind, token.start, token.end


def _between(lines: list[str], start: Place, end: Place) -> str:
    """The source from one (row, column) to another; rows count from 1."""
    if start >= end:
        return ""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    whole = lines[start[0] : end[0] - 1]
    tail = lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else ""
    return "".join([lines[start[0] - 1][start[1] :] if start[0] <= len(lines) else "", *whole, tail])
