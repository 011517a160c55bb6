"""What ``python -m datasets.blizzard build`` and that of IAM-OnDB share: their command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cle_port.command_line import ended


def run(
    parser: argparse.ArgumentParser, build: Callable[..., Any], argv: Sequence[str] | None
) -> int:
    """Build the data that a command line asks for, and say what was done.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command ``build``, whose options are the arguments of ``build``.
    build : callable
        Takes SOURCE, OUT and the options; returns a summary.
    argv : sequence of str or None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        0, or 2 after bad input, or 130 after an interruption.
    """

    def command() -> int:
        options = vars(parser.parse_args(argv))
        del options["command"]
        summary = build(options.pop("SOURCE"), options.pop("OUT"), **options)
        if not options["quiet"]:
            print(summary)
        elif summary.skipped:
            print("\n".join(summary.skipped_lines()), file=sys.stderr)
        return 0

    return ended(command)
