"""What all tutorials share: options, what they print, and how they end.

No counterpart in the original, whose tutorials have no options.
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytensor
from numpy.typing import NDArray

from cle_port.console.command_line import Parser, ended, messages_on_screen
from cle_port.errors import UserError
from cle_port.train import Training
from cle_port.train.ext import UpdateCount

PACKAGES = ("cle_port", "datasets", "tutorials")
FOLDER = Path(__file__).resolve().parents[1] / "runs" / "tutorials"
GREY = " .:-=+*#%@"  # from black to white


def options(name: str, doc: str | None, epoch: int) -> Parser:
    """Make the command line of a tutorial.

    Parameters
    ----------
    name : str
        Name of the tutorial: what it writes goes to ``runs/tutorials/<name>``.
    doc : str
        What the tutorial does; its first line goes to ``--help``.
    epoch : int
        Default of ``--epoch``.
    """
    parser = Parser(prog=f"{name}.py", description=(doc or "").partition("\n")[0])
    parser.add_argument("--epoch", type=count, default=epoch, help="epochs (default: %(default)s)")
    parser.add_argument("--max_updates", type=count, help="end after so many updates")
    parser.add_argument(
        "--out",
        type=Path,
        default=FOLDER / name,
        help="folder of checkpoints (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="print only what was learned")
    return parser


def count(text: str) -> int:
    """Convert the value of an option to a number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def run(tutorial: Callable[[Namespace], None], parser: Parser, argv: Sequence[str] | None) -> int:
    """Run a tutorial in single precision.

    Parameters
    ----------
    tutorial : callable
        Does everything, given the options.
    parser : Parser
        From `options`.
    argv : list of str, optional
        Arguments; default: those of the process.

    Returns
    -------
    int
        Exit status: 0; 2 after a `UserError`; 128 plus the signal's number after a
        signal.
    """

    def command() -> int:
        args = parser.parse_args(argv)
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {args.out}: {error.strerror}; choose another folder") from error
        with surroundings(args.quiet):
            tutorial(args)
        return 0

    return ended(command, "checkpoints written so far are whole", "close other programs")


def learn(mainloop: Training, args: Namespace) -> None:
    """Run a main loop, then print what it has learned.

    Parameters
    ----------
    mainloop : Training
    args : argparse.Namespace
        The options.

    Raises
    ------
    KeyboardInterrupt
        If a signal has ended the loop.
    """
    if args.max_updates is not None:
        mainloop.extension.append(UpdateCount(args.max_updates))
    mainloop.run()
    if mainloop.interrupted:
        raise KeyboardInterrupt(mainloop.interrupted)
    print_learned(mainloop)


def print_learned(mainloop: Training) -> None:
    """Print the first and the last value of each channel on the validation data."""
    log = mainloop.trainlog
    print(f"{mainloop.name}: {log.epoch_seen} epochs, {log.batch_seen} updates")
    for name, values in log.monitor.items():
        if name.startswith("valid_"):
            print(f"  {name}: {values[0]:.4f} -> {values[-1]:.4f}")


def as_text(images: NDArray) -> str:
    """Return images side by side, one character for each pixel.

    Parameters
    ----------
    images : ndarray, shape (images, rows, columns)
        Brightness from 0 to 1.
    """
    grey = np.array(list(GREY))[np.rint(images * (len(GREY) - 1)).astype(int)]
    return "\n".join("|".join(map("".join, row)) for row in grey.swapaxes(0, 1))


@contextmanager
def surroundings(quiet: bool) -> Iterator[None]:
    """Set single precision, and print what the main loop logs; put both back afterwards."""
    with messages_on_screen(PACKAGES, quiet), pytensor.config.change_flags(floatX="float32"):
        yield
