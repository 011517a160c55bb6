"""Open files from other sources safely, and write files completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from cle_port.errors import UserError

# Errors of systems that cannot flush folders, or not this one.
NOT_FOR_FOLDERS = (errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ENOTSUP, errno.EPERM)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    binary file

    Raises
    ------
    OSError
        If the file does not exist or is a folder, a pipe or a device.  Reading a
        pipe may wait forever; a device may have no end.

    Notes
    -----
    No counterpart in the original.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def write(path: Path, content: bytes) -> None:
    """Write a file; an old file stays complete until the new one is.

    Parameters
    ----------
    path : pathlib.Path
    content : bytes

    Raises
    ------
    UserError
        If the file cannot be written.  The folder is then as before.

    Notes
    -----
    No counterpart in the original.
    """
    try:
        replace_file(path, lambda file: file.write(content))
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: Exception) -> UserError:
    """Make the `UserError` for a file that cannot be written.

    Parameters
    ----------
    path : pathlib.Path
    error : Exception
        Error of the system or of HDF5.

    Returns
    -------
    UserError

    Notes
    -----
    No counterpart in the original.
    """
    number = getattr(error, "errno", None)  # the strerror of HDF5 is pages long
    reason = os.strerror(number) if number else " ".join(str(error).split())
    return UserError(
        f"cannot write {path} ({reason}); free space or choose a folder that can be written"
    )


def replace_file(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a temporary file, flush it to disk and rename it over the old file.

    Parameters
    ----------
    path : path
    write : callable
        Takes a binary file and writes the content to it.

    Raises
    ------
    OSError
        If the file cannot be written.  The folder is then as before.

    Notes
    -----
    No counterpart in the original.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        temporary.unlink(missing_ok=True)  # a killed process of the same number may have left it
        with temporary.open("xb") as file:  # "x" follows no links
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error matters more
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def temporary_beside(path: Path) -> Path:
    """Return the temporary name of a file that this process is writing."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that a renaming survives a power failure.

    Some systems cannot flush a folder (unreadable folders, some network drives,
    Windows).  This then does nothing.

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
