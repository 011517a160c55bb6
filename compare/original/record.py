"""``python -m compare record``: start the recorder, or copy it to another machine.

This module is the command line.  `compare.original.recorder` records; it is a
single file that runs under Python 2.7 together with the original.  `compare.recording`
reads its files.  ``docs/original.md`` says what the original needs to run.

No counterpart in the original.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cle_port.console.command_line import Parser
from cle_port.errors import UserError
from compare.original import recorder

SCRIPT = Path(recorder.__file__)


def main(argv: Sequence[str]) -> int:
    """Run the recorder with another Python, or copy it.

    Parameters
    ----------
    argv : list of str
        Arguments after ``record``; see ``--help``.

    Returns
    -------
    int
        Exit status of the recorder; 0 if it was copied.

    Raises
    ------
    UserError
        If Python cannot be started or the copy cannot be written.
    """
    parser = Parser(
        prog="python -m compare record",
        description="Record what the original computes, in files that compare repeats.",
        epilog="python -m compare.original.recorder --help shows the SCRIPT ARGUMENTS.",
    )
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--python", help="run the script with this Python 2.7, which imports Theano")
    mode.add_argument("--copy", type=Path, metavar="FILE", help="write the script to FILE instead")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="SCRIPT ARGUMENTS")
    args = parser.parse_args(argv)
    if args.copy:
        return copy(args.copy)
    recorder.parse(args.arguments)  # reports wrong arguments before another Python starts
    return run(args.python, args.arguments)


def copy(path: Path) -> int:
    """Write the script to a file.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    try:
        path.write_bytes(SCRIPT.read_bytes())
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another file") from error
    print(f"Wrote {path}: run it with the Python that runs the original, see its --help")
    return 0


def run(python: str, arguments: Sequence[str]) -> int:
    """Run the script with the given interpreter and return its exit status.

    Raises
    ------
    UserError
        If the interpreter cannot be started.
    """
    try:
        return subprocess.run([python, str(SCRIPT), *arguments], check=False).returncode
    except OSError as error:
        raise UserError(
            f"cannot start {python} ({error.strerror}); give --python a Python 2.7 that can import "
            "Theano (docs/original.md)"
        ) from error
