"""Run a command of `compare`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from cle_port.console.command_line import ended

MODULES = {
    "record": "original.record",
    "import": "original.importing",
    "export": "original.exporting",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m compare``.

    Parameters
    ----------
    argv : list of str, optional
        A command of `MODULES` and its arguments, or the arguments of a
        comparison; the default is the command line.

    Returns
    -------
    int
        Exit status of the command; 2 after a `UserError`, 130 after Ctrl-C.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    module = "command"
    if args and args[0] in MODULES:
        module = MODULES[args.pop(0)]
    # Each command loads only its own module, so that it starts quickly.
    return ended(lambda: importlib.import_module(f"compare.{module}").main(args))


if __name__ == "__main__":
    sys.exit(main())
