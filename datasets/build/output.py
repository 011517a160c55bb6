"""Summary and output files, which both builders handle in the same way."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cle_port.errors import UserError


@dataclass(kw_only=True)
class BuildSummary:
    """Report of a builder.

    Attributes
    ----------
    skipped : list of (str or pathlib.Path, str)
        Unusable parts of the source, each with the reason.
    """

    skipped: list[tuple[str | Path, str]] = field(default_factory=list)

    def skipped_lines(self) -> list[str]:
        """Return one line of text for each skipped part."""
        return [f"skipped  {name}: {reason}" for name, reason in self.skipped]


def prepare_output(*paths: Path, force: bool) -> None:
    """Create the folder of the output files and protect older files.

    Parameters
    ----------
    *paths : pathlib.Path
        Output files, all in the same folder.
    force : bool
        Allow the builder to replace existing files.

    Raises
    ------
    UserError
        If the folder cannot be created, or a file exists without `force`.

    Notes
    -----
    No counterpart in the original.
    """
    folder = paths[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create {folder} ({error.strerror}); choose another folder for OUT"
        ) from error
    for path in paths:
        if os.path.exists(path) and not force:
            raise UserError(f"{path} exists; use --force to replace it, or another folder for OUT")
