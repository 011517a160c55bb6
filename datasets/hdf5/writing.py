"""New HDF5 files that appear under their final name only once they are complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h5py

from cle_port.files import sync_folder, temporary_beside, unwritable
from datasets.hdf5.checks import HDF5_ERRORS


class HDF5Writer:
    """A new HDF5 file under a temporary name.

    `commit` gives the file its final name.  `discard` removes the temporary
    file; leaving a ``with`` block does the same.

    Parameters
    ----------
    path : path-like
        Final path of the file.
    **options
        Passed to `h5py.File`.

    Attributes
    ----------
    path : pathlib.Path
        Final path of the file.
    temporary : pathlib.Path
        Path of the file until `commit`.

    Raises
    ------
    UserError
        If the file cannot be written.  `finish` and `commit` raise it too.

    Notes
    -----
    No counterpart in the original.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        self.path = Path(path)
        self.temporary = temporary_beside(self.path)
        with self._errors():
            # A killed process with the same process id may have left this file.
            self.temporary.unlink(missing_ok=True)
            # Mode "x" does not follow a link that somebody planted there.
            self._file = h5py.File(self.temporary, "x", **options)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            self.discard()
            raise unwritable(self.path, error) from error
        except BaseException:  # Ctrl-C may come before a ``with`` block can discard the file
            self.discard()
            raise

    def finish(self) -> None:
        """Write everything to disk, still under the temporary name."""
        with self._errors():
            self._file.close()
            with open(self.temporary, "r+b") as file:  # Windows flushes only writable files
                os.fsync(file.fileno())

    def commit(self) -> None:
        """Call `finish` if necessary, then rename the file to `path`, replacing an older one."""
        if self._file:  # open
            self.finish()
        with self._errors():
            os.replace(self.temporary, self.path)
            sync_folder(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.discard()  # does nothing after a commit

    def discard(self) -> None:
        """Remove the temporary file."""
        with contextlib.suppress(AttributeError, *HDF5_ERRORS):
            self._file.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink()
