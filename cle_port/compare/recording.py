"""Reading recordings of the original: ``.npz`` files of plain arrays.

Their layout is described in docs/compare.md.
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

from cle_port.checkpoint import DAMAGE
from cle_port.errors import UserError
from cle_port.files import open_file

MAX_BYTES = 8 * 2**30  # of all arrays of a recording together, unpacked
PLAIN_KINDS = "biufcSU"  # booleans, numbers and text


class Recording(Mapping[str, NDArray]):
    """Arrays of a recording by name, each read when it is asked for.

    Parameters
    ----------
    path : path
        An ``.npz`` file.

    Attributes
    ----------
    path : pathlib.Path
    name : str
        The file's name without its ending.

    Raises
    ------
    UserError
        If the file is missing, no ``.npz`` file, damaged, larger than 8 GiB
        unpacked, or holds anything but numbers and text.  Damage within an
        array, and arrays that are not there, are noticed when they are read.
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
                f"{self.path} has no array {key!r}; it is no recording of the original, "
                "or not a whole one"
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
            f"{self.path} is not a whole .npz file of plain arrays ({reason}); use another one"
        )


def _check_members(archive: zipfile.ZipFile) -> None:
    """Look at the head of every array, so that none can ask for more memory than it fills."""
    total = 0
    for member in archive.infolist():
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
            head = stream.tell()
        if dtype.kind not in PLAIN_KINDS:
            raise ValueError(f"{member.filename} holds {dtype.kind!r}, not numbers or text")
        size = math.prod(shape) * dtype.itemsize
        if head + size != member.file_size:
            raise ValueError(f"{member.filename} is not as long as it says")
        total += size
    if total > MAX_BYTES:
        raise ValueError(f"{total / 2**30:.0f} GiB, at most {MAX_BYTES / 2**30:.0f} are read")


def below(recording: Mapping[str, NDArray], prefix: str) -> dict[str, NDArray]:
    """Arrays whose names begin with ``prefix/``, by the rest of the name."""
    start = prefix + "/"
    return {k.removeprefix(start): recording[k] for k in recording if k.startswith(start)}


def scalar(recording: Mapping[str, NDArray], key: str) -> Any:
    """Read a single number or text.

    Raises
    ------
    UserError
        If there are more.
    """
    value = recording[key]
    if value.shape != ():
        raise UserError(f"the recording's {key} has shape {value.shape}, expected one value")
    return value.item()


def text(recording: Mapping[str, NDArray], names: str, values: str) -> dict[str, str]:
    """Two arrays of texts as a mapping."""
    pairs = zip(recording[names].tolist(), recording[values].tolist(), strict=True)
    return {str(name): str(value) for name, value in pairs}
