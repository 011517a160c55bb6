"""How a program starts: from its command line to the end of its main loop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytensor

from cle_port.console.command_line import ended, messages_on_screen
from cle_port.errors import UserError
from cle_port.train import Training
from cle_port.train.ext import Extension
from models.running.files import one_at_a_time
from models.running.run import Run
from models.settings import Settings

PACKAGES = ("cle_port", "models", "datasets")


class Program(NamedTuple):
    """What a script defines.

    Attributes
    ----------
    name : str
        First part of the names of all files, such as ``vrnn_gmm``.
    widths : mapping of str to mapping
        Literals of the original's scripts, as settings by data set.
    make_net : callable
        Makes the model from the settings.
    mainloops : mapping of str to callable
        By data set: makes the main loop from a `Run` and ``make_net``.
    doc : str
        What the program does, for ``--help``.
    latent : bool
        Whether the model has a latent variable z.
    """

    name: str
    widths: Mapping[str, Mapping[str, Any]]
    make_net: Callable[..., Any]
    mainloops: Mapping[str, Callable[[Run, Callable[..., Any]], Training]]
    doc: str
    latent: bool = True

    def run_of(self, argv: Sequence[str], extensions: Sequence[Extension] = ()) -> Run:
        """Resolve a command line; see `Run.from_command_line`.

        Raises
        ------
        UserError
            Also if a setting needs a latent variable that the model does not have.
        """
        run = Run.from_command_line(self.name, self.widths, self.doc, argv, extensions)
        for key in ("kl_anneal", "free_bits"):
            if getattr(run.args, key) and not self.latent:
                raise UserError(f"{self.name} has no latent variable z; leave out --{key}")
        return run

    def mainloop(self, run: Run) -> Training:
        """Make the main loop of a run.

        Raises
        ------
        UserError
            If data or settings are unusable.
        """
        return self.mainloops[run.args.dataset](run, self.make_net)


def run_program(
    program: Program, argv: Sequence[str] | None = None, extensions: Sequence[Extension] = ()
) -> int:
    """Run a training program from its command line.

    Parameters
    ----------
    program : Program
    argv : list of str, optional
        Arguments; default: those of the process.
    extensions : sequence of Extension, optional
        The caller's own, after those of the program.

    Returns
    -------
    int
        Exit status: 0; 2 after a `UserError` or if memory runs out; 128 plus
        the signal's number after a signal.
    """

    def train() -> int:
        with terminable():
            run = program.run_of(sys.argv[1:] if argv is None else argv, extensions)
            run.join_processes()
            with surroundings(run.args), one_at_a_time(run.files):
                run.announce()
                mainloop = program.mainloop(run)
                run.resume(mainloop)
                mainloop.run()
        return 128 + mainloop.interrupted if mainloop.interrupted else 0

    return ended(train, "checkpoints written so far are whole", "use smaller sizes")


@contextmanager
def surroundings(args: Settings) -> Iterator[None]:
    """Set precision and logging as the settings say; put both back afterwards."""
    with (
        messages_on_screen(PACKAGES, args.quiet),
        pytensor.config.change_flags(floatX=args.floatX),
    ):
        yield


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the program as SIGINT does, for instance while it compiles.

    In the main loop `cle_port.train.signals` handles both.
    """

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
