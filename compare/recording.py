"""Read a recording: an ``.npz`` file that `compare.original.recorder` has written.

A recording holds plain arrays by name.  tests/reference/README.md describes their layout.

No counterpart in the original.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError
from cle_port.files import open_file
from cle_port.files.npz import DAMAGE

Arrays = Mapping[str, NDArray]
SCRIPTS = ("rnn_gauss", "rnn_gmm", "vrnn_gauss", "vrnn_gmm")  # the original's programs

MAX_BYTES = 8 * 2**30  # all arrays of a recording together, unpacked
PLAIN_KINDS = "biufcSU"  # booleans, numbers and text


class Recording(Mapping[str, NDArray]):
    """A mapping from names to arrays, which reads an array when it is looked up.

    Parameters
    ----------
    path : path
        An ``.npz`` file.

    Attributes
    ----------
    path : pathlib.Path
    name : str
        Name of the file without its suffix.

    Raises
    ------
    UserError
        If the file is missing, no ``.npz`` file, damaged, larger than 8 GiB
        unpacked, or contains anything but numbers and text.  Looking up an array
        raises it if the array is missing or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        try:
            self._stream = open_file(self.path)
        except OSError as error:
            raise UserError(
                f"cannot read the recording {self.path} ({error.strerror}); check the path"
            ) from error
        try:
            with zipfile.ZipFile(self._stream) as archive:
                _check_members(archive)
            self._stream.seek(0)
            self._file = np.load(self._stream, allow_pickle=False)
        except DAMAGE as error:
            self._stream.close()
            raise self._damaged(error) from error
        self._names = dict.fromkeys(self._file.files)

    def __getitem__(self, key: str) -> NDArray:
        if key not in self._names:
            raise UserError(
                f"{self.path} has no array {key!r}; it is not a complete recording of the original"
            )
        try:
            return self._file[key]
        except DAMAGE as error:
            raise self._damaged(error) from error

    def __contains__(self, key: object) -> bool:
        return key in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._stream.close()

    def _damaged(self, error: BaseException) -> UserError:
        reason = " ".join(str(error).split())[:200]
        return UserError(
            f"{self.path} is not a complete .npz file of plain arrays ({reason}); use another one"
        )


def _check_members(archive: zipfile.ZipFile) -> None:
    """Check the header of every array, so that none can claim more memory than it has data."""
    total = 0
    for member in archive.infolist():
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
            header_size = stream.tell()
        if dtype.kind not in PLAIN_KINDS:
            raise ValueError(f"{member.filename} holds {dtype.kind!r}, not numbers or text")
        size = math.prod(shape) * dtype.itemsize
        if header_size + size != member.file_size:
            raise ValueError(f"{member.filename} does not have the length that its header states")
        total += size
    if total > MAX_BYTES:
        raise ValueError(f"{total / 2**30:.0f} GiB, and the limit is {MAX_BYTES / 2**30:.0f} GiB")


def below(recording: Arrays, prefix: str) -> dict[str, NDArray]:
    """Return the arrays whose names begin with ``prefix/``, keyed by the rest of the name."""
    start = prefix + "/"
    return {key.removeprefix(start): recording[key] for key in recording if key.startswith(start)}


def scalar(recording: Arrays, key: str) -> Any:
    """Read an array of shape () as a Python value.

    Raises
    ------
    UserError
        If the array has another shape.
    """
    value = recording[key]
    if value.shape != ():
        raise UserError(f"the recording's {key} has shape {value.shape}, expected one value")
    return value.item()


def text(recording: Arrays, names: str, values: str) -> dict[str, str]:
    """Read two arrays of text as a mapping."""
    pairs = zip(recording[names].tolist(), recording[values].tolist(), strict=True)
    return {str(name): str(value) for name, value in pairs}
