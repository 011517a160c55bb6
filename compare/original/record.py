"""``python -m compare record``: make recordings where the original runs.

The work is done by `compare.original.recorder`, a script that stands
alone and runs under Python 2.7.  Here it is started with such a Python, or
copied to be carried to another machine.  What the original needs to run stands
in ``docs/original.md``.

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
    """Run the recording script with another Python, or copy it.

    Parameters
    ----------
    argv : list of str
        Arguments of the command line; see ``--help``.

    Returns
    -------
    int
        Exit status; that of the script where it ran.

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
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--python", help="the Python 2.7 in which Theano imports")
    where.add_argument("--copy", type=Path, metavar="FILE", help="write the script to FILE instead")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="SCRIPT ARGUMENTS")
    args = parser.parse_args(argv)
    if args.copy:
        return copy(args.copy)
    recorder.parse(args.arguments)  # mistakes show before another Python starts
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
    print(f"Wrote {path}: run it with the Python in which the original runs, see its --help")
    return 0


def run(python: str, arguments: Sequence[str]) -> int:
    """Run the script with the given interpreter.

    Raises
    ------
    UserError
        If the interpreter cannot be started.
    """
    try:
        return subprocess.run([python, str(SCRIPT), *arguments], check=False).returncode
    except OSError as error:
        raise UserError(
            f"cannot start {python} ({error.strerror}); give --python the Python 2.7 in which "
            "Theano imports (docs/original.md)"
        ) from error
