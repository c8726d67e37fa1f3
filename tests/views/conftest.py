"""What the tests of the views share."""

from __future__ import annotations

import pytest

from .run import Run


@pytest.fixture
def run():
    run = Run()
    run.do("take", 7)
    run.do("take", 0)
    run.do("give", 0, 7)
    yield run
    run.recorder.stop()
