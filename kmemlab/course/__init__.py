"""Floor 10: notebooks in, notebooks out: build, checks, chapters."""

from kmemlab.course.desk import CheckFailed, check, difference, given, hint, start
from kmemlab.course.show import show
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.where import where

__all__ = [
    "Case",
    "CheckFailed",
    "Task",
    "Verdict",
    "check",
    "difference",
    "given",
    "hint",
    "register",
    "show",
    "start",
    "where",
]
