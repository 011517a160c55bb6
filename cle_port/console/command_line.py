"""Code that all command lines share: errors that suggest a flag, exit codes.

No counterpart in the original, whose scripts take the path of a settings file and no flags.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from cle_port.errors import UserError

NEAR = 0.75  # of difflib's ratio: a letter or two of a short word


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant: by a typing error, or by its beginning.

    Case does not count, nor whether words are joined by a dash or an underscore.

    Parameters
    ----------
    word : str
    known : iterable of str

    Returns
    -------
    str or None
        None if no word is near.
    """

    def plain(word: str) -> str:
        return word.lower().replace("-", "_")

    words, given = {plain(other): other for other in known}, plain(word)
    longer = [other for other in words if len(given) > 3 and other.startswith(given)]
    near = difflib.get_close_matches(given, words, n=1, cutoff=NEAR)
    return next((words[other] for other in [*near, *longer]), None)


class Parser(argparse.ArgumentParser):
    """A parser that raises `UserError`s, which suggest a flag if one is near."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` with the message."""
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
        flags = {flag.lstrip("-"): flag for flag in self._option_string_actions}
        near = nearest(unknown.lstrip("-"), flags) if unknown.startswith("-") else None
        hint = f"; did you mean {flags[near]}?" if near else ""
        raise UserError(f"{message}{hint} (--help shows all options)")


@contextmanager
def messages_on_screen(packages: Sequence[str], quiet: bool) -> Iterator[None]:
    """Print what packages log, as it is; put levels and handlers back afterwards.

    Parameters
    ----------
    packages : list of str
        Names of their loggers.
    quiet : bool
        Print only warnings and errors.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    loggers = [logging.getLogger(package) for package in packages]
    levels = [package.level for package in loggers]
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
    for package in loggers:
        package.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        for package, level in zip(loggers, levels):
            package.setLevel(level)
        root.removeHandler(handler)


def check_ending(name: str, path: Path, ending: str) -> None:
    """Check that an output file has the ending of its format.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    path : pathlib.Path
        The output file.
    ending : str
        Required ending, with its dot.

    Raises
    ------
    UserError
        If the path has another ending, or none.
    """
    if path.suffix.lower() != ending:
        example = path.with_suffix(ending) if path.name else f"{name.lower()}{ending}"
        raise UserError(
            f"{name} must end in {ending}, not {(path.name or str(path))!r}: try {example}"
        )


def ended(
    command: Callable[[], int],
    interrupted: str = "nothing was written",
    if_too_large: str = "use a smaller file",
) -> int:
    """Run a command and print errors and interrupts as one line on standard error.

    Parameters
    ----------
    command : callable
        Returns the exit status.
    interrupted : str
        Text after an interrupt.
    if_too_large : str
        Advice if memory runs out.

    Returns
    -------
    int
        Exit status of the command; 2 after a `UserError` or if memory runs out;
        128 plus the signal's number after a signal, 130 after Ctrl-C.
    """
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: not enough memory ({error}); {if_too_large}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
