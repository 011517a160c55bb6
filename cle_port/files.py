"""Opening files that come from elsewhere."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading, and nothing that only looks like one.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    binary file

    Raises
    ------
    OSError
        If there is no such file, or it is a folder, a pipe, which one would
        wait for, or a device, which may have no end.

    Notes
    -----
    No counterpart in the original.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  # whoever calls closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no file but a pipe or a device", os.fspath(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
