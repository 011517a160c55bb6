"""The part of the command line that `importing` and `exporting` share.

No counterpart in the original.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cle_port.errors import UserError
from cle_port.train import checkpoint


def add_files(parser: argparse.ArgumentParser, source: str) -> None:
    """Add the arguments ``checkpoint`` and ``out`` to a parser.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    source : str
        Name of the checkpoint in the help text.
    """
    parser.add_argument("checkpoint", type=Path, metavar=source)
    parser.add_argument("out", type=Path, metavar="OUT.npz")


def save(out: Path, arrays: Mapping[str, NDArray], meta: dict[str, Any]) -> None:
    """Write a file in the format of `cle_port.train.checkpoint`.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    try:
        checkpoint.save(out, arrays, meta)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); give another OUT.npz") from error
