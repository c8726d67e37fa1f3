"""`kmemlab replay TRACE`: do again with the model what a real kernel's page allocator did, event by event."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "replay", help="replay a recorded trace of a real page allocator"
    )
    parser.add_argument(
        "trace",
        metavar="TRACE",
        type=Path,
        help="a folder with events.txt(.gz), before/ and after/, or its file of events",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument(
        "--policy", action="store_true", help="give the model only the requests and frees: it decides by itself"
    )
    mode.add_argument(
        "--pressure", action="store_true", help="give the model only what programs did: it reclaims by itself"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay and print; how far model and Linux are apart is said, and no error."""
    from kmemlab.machine.policy_report import PolicyReport, replay_policy
    from kmemlab.machine.pressure_report import PressureReport, replay_pressure
    from kmemlab.machine.replay import ReplayReport, replay
    from kmemlab.views.replay import policy_text, replay_text
    from kmemlab.views.replay_pressure import pressure_text

    report: PolicyReport | PressureReport | ReplayReport
    if options.pressure:
        report = replay_pressure(options.trace)
    else:
        report = replay_policy(options.trace) if options.policy else replay(options.trace)
    if options.json:
        print(json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    elif isinstance(report, PressureReport):
        print(pressure_text(report))
    else:
        print(policy_text(report) if isinstance(report, PolicyReport) else replay_text(report))
    return 0
