"""Handwritten lines in an HDF5 file, the layout of the IAM-OnDB data.

The groups ``train`` and ``valid`` each hold two ragged arrays, ``x`` and ``y``.
A ragged array consists of two data sets: ``lengths``, shape (lines,), and
``joined``, the concatenation of all lines.

``x/joined`` : int32, shape (points, 3)
    Pen bit (1 if the pen goes up after the point, else 0), x, and y pointing up.
``y/joined`` : uint32, shape (characters,)
    Unicode code points of the transcripts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError
from datasets.hdf5.checks import HDF5_ERRORS, check_chunks, check_storage, find_dataset
from datasets.hdf5.writing import HDF5Writer

FILE_NAME = "iamondb.h5"
SPLITS = ("train", "valid")
FORMAT = "IAM-OnDB lines, version 1"
BUFFERED_POINTS = 2**16
CHUNK = 2**14  # entries
LARGEST = 100_000  # coordinate; a whiteboard has about 14000
PACKING = 64  # largest accepted ratio of lines to file size; IAM-OnDB has about 5


class Line(NamedTuple):
    """One line of handwriting.

    Attributes
    ----------
    points : ndarray of int, shape (points, 3)
        Pen bit, x, y of at least two points; the last pen bit is 1.
    text : str
        Transcript of the line.
    """

    points: NDArray[np.integer]
    text: str


class OffsetMoments:
    """Sums over the offsets between consecutive points of lines.

    Attributes
    ----------
    steps, total, squares : int
        Number of offsets, sum of all dx and dy, sum of their squares.
    """

    def __init__(self) -> None:
        self.steps = self.total = self.squares = 0

    def add(self, points: NDArray[np.integer]) -> None:
        """Add a line, points of shape (n, 3), to the sums."""
        wide = points[:, 1:].astype(np.int64)
        offsets = wide[1:] - wide[:-1]
        self.steps += len(offsets)
        self.total += int(offsets.sum())
        self.squares += int((offsets**2).sum())

    @property
    def mean(self) -> int:
        """Mean as the original computes it, rounded down to a whole number."""
        return self.total // self.steps if self.steps else 0

    @property
    def std(self) -> float:
        """Deviation as the original computes it; NaN if its rounded variance is negative."""
        variance = self.squares // self.steps - self.mean**2 if self.steps else 0
        return variance**0.5 if variance >= 0 else float("nan")


class LineWriter(HDF5Writer):
    """Append lines to a new HDF5 file and accumulate their statistics.

    Parameters
    ----------
    path : path-like
        File to write.

    Attributes
    ----------
    moments : dict of str to OffsetMoments
        Statistics of ``'train'`` and of ``'valid'``.

    Raises
    ------
    UserError
        If the file cannot be written.

    Notes
    -----
    Counterpart: the pickled lists that ``fetch_iamondb`` writes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.moments = {split: OffsetMoments() for split in SPLITS}
        self._buffers: dict[str, list[Line]] = {split: [] for split in SPLITS}
        with self._errors():
            self._file.attrs["format"] = FORMAT
            for split in SPLITS:
                self._create(f"{split}/x/joined", (3,), "<i4")
                self._create(f"{split}/y/joined", (), "<u4")
                for name in ("x", "y"):
                    self._create(f"{split}/{name}/lengths", (), "<i8")

    def _create(self, name: str, features: tuple[int, ...], dtype: str) -> None:
        self._file.create_dataset(
            name,
            shape=(0, *features),
            maxshape=(None, *features),
            dtype=dtype,
            chunks=(CHUNK, *features),
            compression="gzip",  # its checksum reveals damage
            compression_opts=1,
            shuffle=True,
            track_times=False,
        )

    def append(self, split: str, line: Line) -> None:
        """Append a line to ``'train'`` or ``'valid'``."""
        self.moments[split].add(line.points)
        buffer = self._buffers[split]
        buffer.append(line)
        if sum(len(line.points) for line in buffer) >= BUFFERED_POINTS:
            self._flush(split)

    def _flush(self, split: str) -> None:
        lines = self._buffers[split]
        if not lines:
            return
        parts: dict[str, Sequence[NDArray]] = {
            "x": [line.points for line in lines],
            "y": [code_points(line.text) for line in lines],
        }
        with self._errors():
            for name, arrays in parts.items():
                self._extend(f"{split}/{name}/joined", np.concatenate(arrays))
                self._extend(f"{split}/{name}/lengths", np.array([len(a) for a in arrays]))
        lines.clear()

    def _extend(self, name: str, values: NDArray) -> None:
        stored = self._file[name]
        before = len(stored)
        stored.resize(before + len(values), axis=0)
        stored[before:] = values

    def finish(self) -> None:
        """Write everything to disk, still under the temporary name."""
        for split in SPLITS:
            self._flush(split)
        super().finish()


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the Unicode code points of a text: uint32, shape (characters,)."""
    return np.array([ord(character) for character in text], dtype=np.uint32)


def read_lines(path: str | os.PathLike[str], split: str) -> list[Line]:
    """Read all lines of the training or the validation set.

    Parameters
    ----------
    path : path-like
        File that `LineWriter` wrote.
    split : {'train', 'valid'}

    Returns
    -------
    list of Line
        With int64 points, as in the original.

    Raises
    ------
    UserError
        If the file is missing, damaged or not HDF5, or has another layout.

    Notes
    -----
    Counterpart: the end of ``fetch_iamondb``, which reads its pickled lists.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"no file {path}; make it with `python -m datasets.build iamondb`")
    try:
        with h5py.File(path, "r") as file:
            points, n_points = _read_ragged(file, f"{split}/x", "i", 2)
            characters, n_characters = _read_ragged(file, f"{split}/y", "u", 1)
        if len(n_points) != len(n_characters):
            raise ValueError(f"{len(n_points)} lines, but {len(n_characters)} transcripts")
        if len(n_points) > len(points):  # refuses before it creates a huge number of arrays
            raise ValueError(f"{len(n_points)} lines, but only {len(points)} points")
        texts = ("".join(map(chr, line)) for line in _split(characters, n_characters))
        lines = [Line(*pair) for pair in zip(_split(points, n_points), texts)]
        check_lines(lines)
    except HDF5_ERRORS as error:
        raise UserError(
            f"cannot read {path} ({str(error) or type(error).__name__}); if it is damaged, "
            "build it again with `python -m datasets.build iamondb`"
        ) from error
    return lines


def _read_ragged(
    file: h5py.File, name: str, kind: str, ndim: int
) -> tuple[NDArray, NDArray[np.int64]]:
    """Read a ragged array: the concatenation of its parts, and their lengths."""
    joined = _dataset(file, f"{name}/joined", kind, ndim)
    lengths = _dataset(file, f"{name}/lengths", "i", 1)
    possible = ((lengths >= 0) & (lengths <= len(joined))).all()
    if not possible or lengths.sum() != len(joined):
        raise ValueError(f"the lengths in {name} do not match its size")
    return joined.astype(np.int64), lengths.astype(np.int64)


def _split(joined: NDArray, lengths: NDArray[np.int64]) -> list[NDArray]:
    return np.split(joined, np.cumsum(lengths)[:-1]) if len(lengths) else []


def _dataset(file: h5py.File, name: str, kind: str, ndim: int) -> NDArray:
    stored = find_dataset(file, name)
    if stored is None:
        raise ValueError(f"it has no data set {name!r}")
    if len(stored.shape or ()) != ndim or stored.dtype.kind != kind:
        raise ValueError(f"{name!r} has another layout")
    path = Path(file.filename)
    check_storage(stored, path)
    if stored.nbytes > PACKING * path.stat().st_size:
        raise ValueError(f"{name!r} would unpack to {stored.nbytes} bytes")
    check_chunks(stored, 0, len(stored))
    return stored[:]


def check_lines(lines: Sequence[Line]) -> None:
    """Check that a model can be trained on lines.

    Parameters
    ----------
    lines : sequence of Line

    Raises
    ------
    ValueError
        If there are no lines, or one breaks the description of `Line`.
    """
    if not lines:
        raise ValueError("it holds no lines")
    for number, (points, text) in enumerate(lines):
        problem = _problem(points, text)
        if problem:
            raise ValueError(f"line {number} {problem}")


def _problem(points: Any, text: str) -> str | None:
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.shape[1] != 3:
        return "is no array of points (pen, x, y)"
    if points.dtype.kind not in "iu":
        return f"holds {points.dtype}, not whole numbers"
    if len(points) < 2:
        return f"has {len(points)} points, less than two"
    pen = points[:, 0]
    if pen.min() < 0 or pen.max() > 1 or pen[-1] != 1:
        return "has no valid pen bits"
    if points[:, 1:].max() > LARGEST or points[:, 1:].min() < -LARGEST:
        return f"has a coordinate beyond {LARGEST}"
    if "\0" in text:
        return "has no valid transcript"
    return None
