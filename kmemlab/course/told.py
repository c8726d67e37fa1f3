"""How an answer's values, errors and prints are told: at bounded length, and without trusting their own methods."""

from __future__ import annotations

import dis
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from kmemlab.course.deadline import TimeIsUp

LONGEST = 600  # characters of one text in a box
PRINTED = 4000  # characters that an answer may print during one check
_RAISE = dis.opmap["RAISE_VARARGS"]


def cut(text: str, longest: int = LONGEST) -> str:
    """The text, or its beginning and how much is missing.

    >>> cut("abcdef", 2)
    'ab… (4 more characters)'
    """
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} more characters)"


def error_text(error: BaseException) -> str:
    """What kind of error it is, and what it says, if it can say it.

    >>> error_text(IndexError("list index out of range"))
    'IndexError: list index out of range'
    """
    kind = type(error).__name__
    try:
        text = str.__str__(str(error)).strip()
    except TimeIsUp:
        raise
    except BaseException as worse:
        if pressed(worse):
            raise
        return f"{kind}, and its text can't be made: {type(worse).__name__}"
    return cut(f"{kind}: {text}" if text else kind)


def pressed(error: BaseException) -> bool:
    """Whether this is the reader's own Ctrl-C, which must go through, and no KeyboardInterrupt that code raised.

    Ctrl-C lands between two steps of Python, so where it left from there is no `raise`.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return innermost is None or innermost.tb_frame.f_code.co_code[innermost.tb_lasti] != _RAISE


class _FewWords(io.TextIOBase):
    """Passes on what is printed until that is enough, and counts the rest."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.room = PRINTED
        self.missing = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.room:
            self.out.write(text[: self.room])
        self.missing += max(0, len(text) - self.room)
        self.room = max(0, self.room - len(text))
        return len(text)

    def flush(self) -> None:
        self.out.flush()


@contextmanager
def few_words() -> Iterator[None]:
    """While this context lasts, only the first few thousand characters that are printed come through.

    >>> with few_words():
    ...     print("one line")
    one line
    """
    out = sys.stdout
    words = _FewWords(out)
    try:
        with redirect_stdout(words), redirect_stderr(words):
            yield
    finally:
        if words.missing:
            out.write(f"\n… {words.missing:,} more characters that your answer printed are left out\n")
