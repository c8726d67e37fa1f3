"""The tasks of the chapters, one file a topic: each registers its own when it is imported."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from kmemlab.course.task import Tasks, tasks


@functools.cache
def load_all() -> Tasks:
    """Every task of every chapter."""
    for topic in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(topic.name)
    return tasks
