"""The folder that keeps generated and compiled files between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cle_port.errors import UserError

ENVIRONMENT_VARIABLE = "CLE_PORT_CACHE"


def cache_dir(*parts: str) -> Path:
    """Return a folder for demo corpora or compiled code; create it on first use.

    Parameters
    ----------
    *parts : str
        Subfolders, outermost first.

    Returns
    -------
    pathlib.Path
        ``$CLE_PORT_CACHE``, or if that is not set the user's cache folder
        (``$XDG_CACHE_HOME/cle_port`` or ``~/.cache/cle_port`` on Linux),
        followed by ``parts``.

    Raises
    ------
    UserError
        If the folder cannot be created or is read-only.

    Notes
    -----
    No counterpart in the original.
    """
    folder = _base_dir().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the cache folder {folder} ({error.strerror}); "
            f"set {ENVIRONMENT_VARIABLE} to a folder that can be written"
        ) from error
    if not os.access(folder, os.W_OK):
        raise UserError(
            f"the cache folder {folder} is read-only; "
            f"set {ENVIRONMENT_VARIABLE} to a folder that can be written"
        )
    return folder


def _base_dir() -> Path:
    if os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(os.environ[ENVIRONMENT_VARIABLE])
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "cle_port"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cle_port"
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "cle_port"
