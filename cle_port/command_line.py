"""What all command lines share: complaints that name the nearest flag, and how they end.

No counterpart in the original, whose scripts take the path of a settings file and no flags.
"""

from __future__ import annotations

import argparse
import difflib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cle_port.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are `UserError`s and suggest the nearest flag."""

    def error(self, message: str) -> NoReturn:
        """Raise the `UserError`."""
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        near = difflib.get_close_matches(unknown, self._option_string_actions, n=1)
        hint = f"; did you mean {near[0]}?" if unknown.startswith("-") and near else ""
        raise UserError(f"{message}{hint} (--help shows all options)")


def check_ending(name: str, path: Path, ending: str) -> None:
    """Make sure that a file to be written has the ending of what it will hold.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    path : pathlib.Path
    ending : str
        With its dot.

    Raises
    ------
    UserError
        If it has another one, or none.
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
    """Run a command; what ends it early becomes one line on standard error.

    Parameters
    ----------
    command : callable
        Returns the exit status.
    interrupted : str
        What the user should know after an interrupt.
    if_too_large : str
        What helps when there is too little memory.

    Returns
    -------
    int
        That of the command; 2 after a `UserError` or for want of memory; 128
        plus the signal's number after a signal, 130 after Ctrl-C.
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
