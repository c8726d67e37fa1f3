"""The command line: one file a command. Each adds its parser, and runs when it is asked."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kmemlab import __version__
from kmemlab.cli import boot, compare, course, doctor, lab, replay, where
from kmemlab.types.errors import KmemlabError

COMMANDS = (lab, boot, compare, replay, where, doctor, course)

DONE, WRONG, INTERRUPTED = 0, 2, 130


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="kmemlab", description="Linux memory management from the BIOS to the OOM killer."
    )
    top.add_argument("--version", action="version", version=f"kmemlab {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit status: 0, 1 for a difference found, 2 for an error, 130 for Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KmemlabError as error:
        print(f"kmemlab: {error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("kmemlab: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us (`| head`) has enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:  # the disk is full that our output goes to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"kmemlab: the output can't be written: {error.strerror}", file=sys.stderr)
        return WRONG
    return status
