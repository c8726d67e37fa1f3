"""Cuts one function, struct or macro out of a C file, by matching braces.

1. blank what isn't code (comments, strings, directives) with spaces, so that places stay the same
2. find NAME followed by ( … ) and {, where a prototype or a call would have ; , ) or an operator
3. go back to the end of what stands before, and forward to the brace that closes
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NOT_CODE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(\w+)(?:\\\n|[^\n])*", re.MULTILINE)
# Between the parameters and the body C may name locks and sections: __acquires(&zone->lock), __init
_BEFORE_BODY = re.compile(r"(?:\s|\b\w+\b(?:\s*\([^(){};]*\))?)*\{")
_TAG = re.compile(r"(struct|union|enum)\s+(\w+)")


def definitions(text: str, name: str) -> Iterator[tuple[int, str]]:
    """Each definition of `name` in a C text, with the line it begins at (counted from 1).

    There may be several: one for each branch of an #ifdef.

    >>> list(definitions("int f(int);\\nstatic inline int\\nf(int a)\\n{\\n\\treturn a;\\n}\\n", "f"))
    [(2, 'static inline int\\nf(int a)\\n{\\n\\treturn a;\\n}')]
    """
    code = _only_code(text)
    tag = _TAG.fullmatch(name)
    if tag:
        spans = _tagged(code, *tag.groups())
    else:
        spans = _functions(code, name) or _typedefs(code, name) or _variables(code, name) or _macros(text, name)
    for start, end in spans:
        start = _with_comment(text, start)
        yield text.count("\n", 0, start) + 1, text[start:end]


def _only_code(text: str) -> str:
    """The text with comments, strings, directives and all but the first branch of each #if blanked."""
    code = _NOT_CODE.sub(lambda match: _blank(match[0]), text)
    pieces = list(code)
    branches: list[bool] = []  # for each open #if: whether its body so far was the first branch
    hidden_from = -1
    for match in _DIRECTIVE.finditer(code):
        word = match[1]
        if word.startswith("if"):
            branches.append(True)
        elif word in ("else", "elif") and branches and branches[-1]:
            branches[-1] = False
            if hidden_from < 0 and _within_braces(code[: match.start()]):
                hidden_from = match.end()
                hidden_depth = len(branches)
        elif word == "endif" and branches:
            if hidden_from >= 0 and len(branches) == hidden_depth:
                pieces[hidden_from : match.start()] = _blank(code[hidden_from : match.start()])
                hidden_from = -1
            branches.pop()
        pieces[match.start() : match.end()] = _blank(match[0])
    return "".join(pieces)


def _within_braces(code: str) -> bool:
    """Whether the place lies in a body. Kernel style closes each body at the start of a line."""
    opened = max(code.rfind("\n{"), code.rfind(" {\n"))
    return opened > code.rfind("\n}")


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _functions(code: str, name: str) -> list[tuple[int, int]]:
    spans = []
    for match in re.finditer(rf"\b{re.escape(name)}\s*\(", code):
        close = _closing(code, match.end() - 1, "(", ")")
        body = _BEFORE_BODY.match(code, close) if close else None
        if body and _at_top(code, match.start()):
            spans.append((_start(code, match.start()), _closing(code, body.end() - 1, "{", "}")))
    return spans


def _tagged(code: str, kind: str, tag: str) -> list[tuple[int, int]]:
    spans = []
    for match in re.finditer(rf"\b{kind}\s+{re.escape(tag)}\s*\{{", code):
        close = _closing(code, match.end() - 1, "{", "}")
        semicolon = code.find(";", close)
        spans.append((_start(code, match.start()), semicolon + 1 if close and semicolon >= 0 else close))
    return spans


def _typedefs(code: str, name: str) -> list[tuple[int, int]]:
    spans = []
    for match in re.finditer(rf"^\}}\s*{re.escape(name)}\s*;", code, re.MULTILINE):
        opening = code.rfind("\ntypedef ", 0, match.start())
        spans.append((opening + 1, match.end()))
    return spans


def _variables(code: str, name: str) -> list[tuple[int, int]]:
    spans = []
    for match in re.finditer(rf"\b{re.escape(name)}\b[\w\s\[\]]*=(?!=)", code):
        if _at_top(code, match.start()):
            spans.append((_start(code, match.start()), code.find(";", match.end()) + 1))
    return spans


def _macros(text: str, name: str) -> list[tuple[int, int]]:
    pattern = rf"^[ \t]*#[ \t]*define[ \t]+{re.escape(name)}\b(?:\\\n|[^\n])*"
    return [match.span() for match in re.finditer(pattern, text, re.MULTILINE)]


def _closing(code: str, opening: int, left: str, right: str) -> int:
    """The place just behind the bracket that closes the one at `opening`; the text's end if none does."""
    depth = 0
    for place in range(opening, len(code)):
        if code[place] == left:
            depth += 1
        elif code[place] == right:
            depth -= 1
            if depth == 0:
                return place + 1
    return len(code)


def _at_top(code: str, place: int) -> bool:
    """Whether the name stands in a declaration: only words and stars lead up to it, from the start of a line."""
    start = _start(code, place)
    return re.fullmatch(r"[\w\s*(),]*", code[start:place]) is not None and (start == 0 or code[start - 1] == "\n")


def _start(code: str, place: int) -> int:
    """Where the declaration begins: behind the last ; or brace before it, or the last blank line."""
    behind = max(code.rfind(mark, 0, place) for mark in ";{}") + 1
    blank = [match.end() for match in re.finditer(r"\n[ \t]*(?=\n)", code[behind:place])]
    start = behind + (blank[-1] if blank else 0)
    while start < place and code[start].isspace():
        start += 1
    return start


def _with_comment(text: str, start: int) -> int:
    """The same start, or that of the comment that stands right before it."""
    before = text[:start].rstrip(" \t")
    if before.endswith("*/\n"):
        return before.rfind("/*")
    return start
