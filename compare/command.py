"""``python -m compare REFERENCE.npz [...]``: repeat recordings and show the differences.

No counterpart in the original.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cle_port.console.command_line import Parser
from cle_port.console.progress import elapsed_time, progress_bar
from cle_port.errors import UserError
from cle_port.files import write
from cle_port.graph.backend import BACKENDS
from compare.differences import Comparison, Difference
from compare.recording import Recording, scalar
from compare.report import terminal
from compare.report.page import page

if TYPE_CHECKING:
    from compare.replay import CompiledProgram

PRECISIONS = ("float32", "float64")
MAX_COMPILED = 4  # programs kept, so that many recordings do not fill the memory
UNITS = re.compile("units_(costs|layers|init|utils|data|random|optim)_float(32|64)")
DESCRIPTION = """Repeat recordings of the original and show both programs side by side.

The port's program repeats a recorded run (model_*.npz) of the original's program
of the same name, with the recorded settings, parameters, batches and noise. For
a file of single functions (units_*.npz), the port repeats every recorded call.

Exit status: 0 if all agree, 1 if something differs, 2 if a file cannot be used.
To make recordings of your own: python -m compare record --help
"""


def main(argv: Sequence[str]) -> int:
    """Compare recordings of the original with what the port computes.

    Parameters
    ----------
    argv : list of str
        Arguments of the command line.

    Returns
    -------
    int
        Exit status: 0 if all agree, 1 if something differs.

    Raises
    ------
    UserError
        If a file cannot be used.
    """
    args = parse(argv)
    for path in args.recordings:  # refuse a bad file before any computation
        with Recording(path) as recording:
            check_kind(recording)
    tables = len(args.recordings) == 1 if args.tables is None else args.tables
    colors = terminal.wants_colors(sys.stdout)
    comparisons = []
    with CompiledPrograms(args.backend, args.quiet) as programs:
        for path in args.recordings:
            with Recording(path) as recording:
                comparison = compare_recording(
                    recording, programs, args.floatX, args.tolerance, args.from_seeds
                )
            comparisons.append(comparison)
            if not args.json:
                print(terminal.report(comparison, tables, colors), end="\n\n", flush=True)
    if args.html:
        write(Path(args.html), page(comparisons).encode())
    if args.json:
        print(json.dumps([as_dict(comparison) for comparison in comparisons], allow_nan=False))
    else:
        print(terminal.summary(comparisons, colors))
    return 0 if all(comparison.ok for comparison in comparisons) else 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="python -m compare",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Further commands: record, import, export (each with --help).",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("recordings", nargs="+", metavar="REFERENCE.npz", help="recording of the original")
    add("--html", metavar="FILE", help="also write one self-contained page with curves")
    add("--json", action="store_true", help="print all numbers as JSON instead of the report")
    add("--backend", choices=BACKENDS, default="auto", help="compiler of the programs")
    add("--floatX", choices=PRECISIONS, help="precision of the programs; default: the recording's")
    add(
        "--tolerance",
        type=positive,
        metavar="X",
        help="allowed relative difference; replaces the figures for each precision",
    )
    add(
        "--from_seeds",
        action="store_true",
        help="draw parameters and noise from the recorded seeds; only the data, and the signs of "
        "the columns of small orthogonal matrices, come from the recording",
    )
    add(
        "--tables",
        action=argparse.BooleanOptionalAction,
        help="show every number; default: only for a single recording",
    )
    add("--quiet", action="store_true", help="no progress on standard error")
    return parser.parse_args(argv)


def positive(text: str) -> float:
    """Convert a finite number of at least 0 for argparse."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def check_kind(recording: Recording) -> str:
    """Return what a file records: 'model' or 'units'.

    Raises
    ------
    UserError
        If the file is not a recording.
    """
    if "meta/floatX" in recording and scalar(recording, "meta/floatX") in PRECISIONS:
        if "meta/model" in recording and "meta/n_updates" in recording:
            return "model"
        if UNITS.fullmatch(recording.name):
            return "units"
    raise UserError(
        f"{recording.path} is not a recording of the original: it has no meta/model, and its name "
        "is not units_<section>_<floatX>.npz; make one with: python -m compare record"
    )


def compare_recording(
    recording: Recording,
    programs: CompiledPrograms,
    floatX: str | None,
    tolerance: float | None,
    from_seeds: bool = False,
) -> Comparison:
    """Repeat a recording with the port and compare.

    Parameters
    ----------
    recording : Recording
    programs : CompiledPrograms
        Programs compiled so far.
    floatX : {'float32', 'float64'}, optional
        Precision of the port; the default is the recording's.
    tolerance : float, optional
        Allowed relative difference; replaces all figures of `compare.tolerances`.
    from_seeds : bool
        See `compare.replay.repeat_run`.

    Returns
    -------
    Comparison

    Raises
    ------
    UserError
        If the recording cannot be used.
    """
    if check_kind(recording) == "units":
        from compare.units import compare_units

        return compare_units(recording, recording.name, str(recording.path), tolerance)
    from compare.replay import n_repeated, repeat_run
    from compare.verdicts import compare_run

    if from_seeds and any(key.startswith("init/") for key in recording):
        raise UserError(
            f"the run of {recording.path} did not start from the weights of its seed; leave out "
            "--from_seeds"
        )
    program = programs.get(recording, floatX or scalar(recording, "meta/floatX"))
    n_updates = n_repeated(recording)
    with progress_bar(n_updates, recording.name, "update", programs.quiet) as bar:
        run = repeat_run(program, recording, bar, from_seeds)
    return compare_run(program, run, str(recording.path), tolerance)


class CompiledPrograms:
    """Compiled programs; recordings of the same settings and data share one.

    A context manager, which deletes the programs and their folders at its end.

    Parameters
    ----------
    backend : {'auto', 'jax', 'c', 'numba'}
        Compiler of the programs.
    quiet : bool
        Show no progress.
    """

    def __init__(self, backend: str = "auto", quiet: bool = False) -> None:
        self.backend = backend
        self.quiet = quiet
        self._compiled: dict[tuple[str, str], CompiledProgram] = {}
        self._folders = ExitStack()

    def __enter__(self) -> CompiledPrograms:
        return self

    def __exit__(self, *exception: object) -> None:
        self._compiled.clear()
        self._folders.close()

    def get(self, recording: Recording, floatX: str) -> CompiledProgram:
        """Return the compiled program of a recording; compile it if necessary."""
        from compare.replay import compile_program, digest

        key = digest(recording), floatX
        if key not in self._compiled:
            folder = self._folders.enter_context(tempfile.TemporaryDirectory(prefix="compare_"))
            with elapsed_time(f"Compiling the program of {recording.name}", self.quiet):
                program = compile_program(recording, floatX, Path(folder), self.backend)
            if len(self._compiled) == MAX_COMPILED:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = program
        return self._compiled[key]


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Convert a comparison to the types of JSON; NaN and infinities become null."""
    first = comparison.first()
    return {
        "recording": comparison.path,
        "agrees": comparison.ok,
        "first_difference": None if first is None else difference_as_dict(first),
        "facts": comparison.facts,
        "sections": [
            {
                "title": section.title,
                "verdict": terminal.verdict_of(section),
                "note": section.note,
                "differences": [difference_as_dict(d) for d in section.differences],
            }
            for section in comparison.sections
        ],
        "not_repeated": comparison.left_out,
    }


def difference_as_dict(difference: Difference) -> dict[str, Any]:
    """Convert a difference to the types of JSON."""
    numbers = {
        key: getattr(difference, key)
        for key in ("original", "port", "absolute", "relative", "noise", "allowed", "ulps")
    }
    finite = {
        key: number if number is not None and math.isfinite(number) else None
        for key, number in numbers.items()
    }
    return {
        "name": difference.name,
        "place": difference.place,
        "at": difference.update,
        **finite,
        "agrees": difference.ok,
    }
