"""Command lines with subcommands, for `datasets.build` and `datasets.demo`.

No counterpart in the original.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from cle_port.console.command_line import Parser, ended


class Subcommands:
    """A command line whose first argument selects one of several commands.

    Parameters
    ----------
    package : str
        Package that ``python -m`` runs.
    description : str
        Introduction of the help text.
    """

    def __init__(self, package: str, description: str) -> None:
        self._parser = Parser(prog=f"python -m {package}", description=description)
        self._commands = self._parser.add_subparsers(dest="command", required=True)

    def add(
        self, name: str, run: Callable[..., object], help: str, description: str, epilog: str
    ) -> argparse.ArgumentParser:
        """Add a command.

        Parameters
        ----------
        name : str
            Name of the command.
        run : callable
            Receives the arguments of the command as keywords.
        help : str
            One line for the list of commands.
        description, epilog : str
            Preformatted text before and after the list of options.

        Returns
        -------
        argparse.ArgumentParser
            Parser for the arguments of the command.
        """
        parser = self._commands.add_parser(
            name,
            help=help,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(run=run)
        return parser

    def main(self, argv: Sequence[str] | None) -> int:
        """Parse the arguments and run the selected command.

        Parameters
        ----------
        argv : sequence of str or None
            Arguments; None stands for those of the process.

        Returns
        -------
        int
            Exit status: 0, or 2 after bad input, or 130 after an interruption.
        """

        def command() -> int:
            options, unknown = self._parser.parse_known_args(argv)
            arguments: dict[str, Any] = vars(options)
            name, run = arguments.pop("command"), arguments.pop("run")
            if unknown:  # the parser of the command knows its flags and can suggest the nearest
                self._commands.choices[name].error(f"unrecognized arguments: {' '.join(unknown)}")
            run(**arguments)
            return 0

        return ended(command)
