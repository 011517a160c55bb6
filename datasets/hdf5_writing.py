"""New HDF5 files, which appear under their names when they are complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import h5py

from cle_port.files import sync_folder, temporary_beside, unwritable
from datasets.hdf5_checks import HDF5_ERRORS


class HDF5Writer:
    """A new HDF5 file.

    It appears under its name only when `commit` is called; until then it is a
    temporary file beside it, which `discard` removes, and so does the end of a
    ``with`` block.

    Parameters
    ----------
    path : path-like
        File to write.
    **options
        See `h5py.File`.

    Attributes
    ----------
    path : pathlib.Path
    temporary : pathlib.Path
        Where the file is until it has its name.

    Raises
    ------
    UserError
        If the file cannot be written; so do `finish` and `commit`.

    Notes
    -----
    No counterpart in the original.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        self.path = Path(path)
        self.temporary = temporary_beside(self.path)
        with self._errors():
            self.temporary.unlink(missing_ok=True)  # of a process killed under the same number
            # "x" follows no link that somebody put there.
            self._file = h5py.File(self.temporary, "x", **options)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            self.discard()
            raise unwritable(self.path, error) from error
        except BaseException:  # Ctrl-C before there is a ``with`` to discard the file
            self.discard()
            raise

    def finish(self) -> None:
        """Write everything to disk, still under the temporary name."""
        with self._errors():
            self._file.close()
            with open(self.temporary, "r+b") as file:  # to write, or Windows will not flush
                os.fsync(file.fileno())

    def commit(self) -> None:
        """Finish the file if need be and give it its name, replacing an older one."""
        if self._file:  # open
            self.finish()
        with self._errors():
            os.replace(self.temporary, self.path)
            sync_folder(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.discard()  # finds nothing after a commit

    def discard(self) -> None:
        """Remove the temporary file."""
        with contextlib.suppress(AttributeError, *HDF5_ERRORS):
            self._file.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink()
