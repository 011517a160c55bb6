"""Show training runs: a table on the terminal, and a page with their curves.

A run is what a training program leaves behind: ``vrnn_gmm_1.jsonl``, its log,
with settings and checkpoints beside it.  A folder stands for all runs below it.

Examples
--------
All runs below ``runs``; two of them, and a page with their curves; a page that
follows runs that go on, in a browser and as a file::

    python -m models.runs
    python -m models.runs runs/blizzard_demo/vrnn_*.jsonl --html runs.html
    python -m models.runs --serve
    python -m models.runs --html runs.html --watch

docs/runs.md says what the columns and the curves mean.

No counterpart in the original.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cle_port.console.command_line import Parser, check_ending, ended
from cle_port.errors import UserError
from cle_port.files import write
from models.report.logs import read_runs
from models.report.page import page
from models.report.serving import make_server, watch
from models.report.summary import groups
from models.report.terminal import tables

DEFAULT_FOLDER = Path("runs")
DEFAULT_PORT = 8017
REFRESH = 5  # seconds between two pages while a run goes on, or more if reading takes long
IDLE_REFRESH = 30  # seconds if none does: another may start


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line.

    Raises
    ------
    UserError
        If an option is unknown or its value is wrong.
    """
    options = _parser().parse_args(argv)
    if options.html is not None:
        check_ending("--html", options.html, ".html")
    if options.watch and options.html is None:
        raise UserError("--watch rewrites a page; give its file with --html FILE")
    if options.serve is not None and options.html is not None:
        raise UserError("--serve needs no file; leave --html, or take --html and --watch instead")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m models.runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help=f"folder, .jsonl log or .npz checkpoint (default: the folder {DEFAULT_FOLDER})",
    )
    add("--html", type=Path, metavar="FILE", help="also write one self-contained page with curves")
    add("--watch", action="store_true", help="rewrite this page while a run goes on")
    add(
        "--serve",
        nargs="?",
        const=DEFAULT_PORT,
        type=_port,
        metavar="PORT",
        help=f"show the page to browsers on this machine, always new (default port {DEFAULT_PORT})",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text} is no port, 0 to 65535; give runs before --serve")
    return int(text)


def report(options: argparse.Namespace) -> int:
    """Show what the options ask for.

    Parameters
    ----------
    options : argparse.Namespace
        From `parse`.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    UserError
        If a run is unusable, or the page cannot be written or served.
    """
    paths = options.runs or [DEFAULT_FOLDER]
    runs, warnings = read_runs(paths)
    print(tables(groups(runs)), flush=True)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    try:
        if options.serve is not None:
            _serve(options.serve, paths)
        elif options.watch:
            n = watch(options.html, lambda: render(paths), REFRESH)
            print(f"no run goes on; wrote {options.html} {n} times")
        elif options.html is not None:
            write(options.html, page(runs, warnings).encode())
            print(f"wrote {options.html}")
    except KeyboardInterrupt:
        if options.serve is None and not options.watch:
            raise
        print()  # behind the ^C of the terminal
    return 0


def render(paths: Sequence[Path], idle: int | None = None) -> tuple[str, bool]:
    """Read the runs anew and make their page.

    Parameters
    ----------
    paths : list of Path
    idle : int, optional
        Seconds after which the page renews itself though no run goes on.

    Returns
    -------
    str
        The page.
    bool
        Whether a run goes on.
    """
    start = time.monotonic()
    runs, warnings = read_runs(paths)
    running = any(run.running for run in runs)
    pause = max(REFRESH, math.ceil(4 * (time.monotonic() - start)))
    return page(runs, warnings, pause if running else idle), running


def _serve(port: int, paths: Sequence[Path]) -> None:
    with make_server(port, lambda: render(paths, IDLE_REFRESH)[0]) as server:
        address, port = server.server_address[:2]
        print(f"open http://{address!s}:{port}/ in a browser; Ctrl-C ends it", flush=True)
        server.serve_forever()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program from its command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; default: those of the process.

    Returns
    -------
    int
        Exit status: 0; 2 after a `UserError`; 130 after an interrupt.
    """
    args = sys.argv[1:] if argv is None else argv
    return ended(lambda: report(parse(args)), if_too_large="name fewer runs")


if __name__ == "__main__":
    sys.exit(main())
