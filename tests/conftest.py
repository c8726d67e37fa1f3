"""What several test rooms share."""

from __future__ import annotations

import pytest

from kmemlab.sim.recorder import _running


@pytest.fixture
def nobody_records() -> None:
    """Whoever was left recording by an earlier test stops: functions and columns are as they were written."""
    for recorder in list(_running):
        recorder.stop()
