"""``python -m compare REFERENCE.npz [...]``: repeat recordings of the original."""

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
KEPT = 4  # compiled programs, so that many recordings do not fill the memory
CHECKOUT = Path(__file__).resolve().parents[2]
UNITS = re.compile("units_(costs|layers|init|utils|data|random|optim)_float(32|64)")
DESCRIPTION = """Repeat recordings of the original and show both programs side by side.

A recording of a program (model_*.npz) is repeated by the port's program of the
same name, with the recorded settings, parameters, batches and noise. Of a file
of single functions (units_*.npz) every recorded call is repeated.

Exit status: 0 when all agree, 1 when something differs, 2 when a file cannot
be used. To make recordings of your own: python -m compare record --help
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
        Exit status: 0 when all agree, 1 when something differs.

    Raises
    ------
    UserError
        If a file cannot be used.
    """
    args = parse(argv)
    for path in args.recordings:  # a bad one is refused before anything takes time
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
    add("--html", metavar="FILE", help="also write a report with curves, one self-contained page")
    add("--json", action="store_true", help="print all numbers as JSON instead of the report")
    add("--backend", choices=BACKENDS, default="auto", help="compiler of the programs")
    add("--floatX", choices=PRECISIONS, help="of the programs; default: the recording's")
    add(
        "--tolerance",
        type=positive,
        metavar="X",
        help="relative difference allowed, in the place of the figures for each precision",
    )
    add(
        "--from_seeds",
        action="store_true",
        help="take parameters and noise from the recorded seeds instead; nothing is given but the "
        "data, and signs that LAPACK chooses in orthogonal matrices of up to 25 columns",
    )
    add(
        "--tables",
        action=argparse.BooleanOptionalAction,
        help="show every number; default: when there is one recording",
    )
    add("--quiet", action="store_true", help="no progress on standard error")
    return parser.parse_args(argv)


def positive(text: str) -> float:
    """Convert a finite number of at least 0, for argparse."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def check_kind(recording: Recording) -> str:
    """Tell what a file records: 'model' or 'units'.

    Raises
    ------
    UserError
        If it is neither.
    """
    if "meta/floatX" in recording and scalar(recording, "meta/floatX") in PRECISIONS:
        if "meta/model" in recording and "meta/n_updates" in recording:
            return "model"
        if UNITS.fullmatch(recording.name):
            return "units"
    raise UserError(
        f"{recording.path} is no recording of the original: it has no meta/model, and is not "
        "called units_<section>_<floatX>.npz; make one with: python -m compare record"
    )


def compare_recording(
    recording: Recording,
    programs: CompiledPrograms,
    floatX: str | None,
    tolerance: float | None,
    from_seeds: bool = False,
) -> Comparison:
    """Repeat a recording and compare.

    Parameters
    ----------
    recording : Recording
    programs : CompiledPrograms
        Those compiled so far.
    floatX : {'float32', 'float64'}, optional
        Precision of the port; default is the recording's.
    tolerance : float, optional
        Relative difference allowed in the place of all figures.
    from_seeds : bool
        See `compare.replay.repeat_run`.

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
            f"{recording.path} did not start from weights that a seed gives; leave --from_seeds out"
        )
    program = programs.get(recording, floatX or scalar(recording, "meta/floatX"))
    n = n_repeated(recording)
    with progress_bar(n, recording.name, "update", programs.quiet) as bar:
        run = repeat_run(program, recording, bar, from_seeds)
    return compare_run(program, run, str(recording.path), tolerance)


class CompiledPrograms:
    """Compiled programs, kept for recordings of the same settings and data.

    Parameters
    ----------
    backend : {'auto', 'jax', 'c', 'numba'}
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
        """Compile the program of a recording, or find it among those compiled."""
        from compare.replay import compile_program, digest

        key = digest(recording), floatX
        if key not in self._compiled:
            folder = self._folders.enter_context(tempfile.TemporaryDirectory(prefix="compare_"))
            with elapsed_time(f"Compiling the program of {recording.name}", self.quiet):
                program = compile_program(recording, floatX, Path(folder), self.backend)
            if len(self._compiled) == KEPT:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = program
        return self._compiled[key]


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Turn a comparison into what JSON can hold; NaN and infinities become null."""
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
    """Turn a difference into what JSON can hold."""
    numbers = {
        key: getattr(difference, key)
        for key in ("original", "port", "absolute", "relative", "noise", "allowed", "ulps")
    }
    finite = {k: v if v is not None and math.isfinite(v) else None for k, v in numbers.items()}
    return {
        "name": difference.name,
        "place": difference.place,
        "at": difference.at,
        **finite,
        "agrees": difference.ok,
    }
