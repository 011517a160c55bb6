"""Opening files that come from elsewhere, and writing files wholly or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from cle_port.errors import UserError

# What systems say that do not flush folders, or not this one.
NOT_FOR_FOLDERS = (errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ENOTSUP, errno.EPERM)


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


def write(path: Path, content: bytes) -> None:
    """Write a file; the old one stays whole until the new one is.

    Parameters
    ----------
    path : pathlib.Path
    content : bytes

    Raises
    ------
    UserError
        If it cannot be written.  Nothing is left behind then.

    Notes
    -----
    No counterpart in the original.
    """
    try:
        replace_file(path, lambda file: file.write(content))
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: Exception) -> UserError:
    """Make the error that tells a user that a file cannot be written.

    Parameters
    ----------
    path : pathlib.Path
    error : Exception
        What the system or HDF5 said.

    Returns
    -------
    UserError

    Notes
    -----
    No counterpart in the original.
    """
    number = getattr(error, "errno", None)  # HDF5 puts pages of text where strerror should be
    reason = os.strerror(number) if number else " ".join(str(error).split())
    return UserError(
        f"cannot write {path} ({reason}); free space or choose a folder that can be written"
    )


def replace_file(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside the old one, flush it to disk, rename it over the old one.

    Parameters
    ----------
    path : path
    write : callable
        Writes the content into the binary file that it is given.

    Raises
    ------
    OSError
        If the file cannot be written.  Nothing is left behind then.

    Notes
    -----
    No counterpart in the original.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        temporary.unlink(missing_ok=True)  # of a process killed under the same number
        with temporary.open("xb") as file:  # follows no link that somebody put there
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what is told
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """Return the name under which this process writes a file until it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sync_folder(folder: Path) -> None:
    """Make a renaming survive a power failure, where the system can.

    Where it cannot (folders that may not be read, some network drives, Windows)
    the file is there all the same.

    Raises
    ------
    OSError
        If the disk fails.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NOT_FOR_FOLDERS:
            raise
