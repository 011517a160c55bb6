"""Handwritten lines in an HDF5 file: the layout of the IAM-OnDB data.

Each of the groups ``train`` and ``valid`` holds two ragged arrays, ``x`` and
``y``, in the form of two data sets: ``lengths`` of shape (lines,), and
``joined``, all lines one behind the other.

``x/joined`` : int32, shape (points, 3)
    Whether the pen goes up after the point (0 or 1), x, and y pointing upwards.
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
from datasets.hdf5_checks import HDF5_ERRORS, check_chunks, check_storage, find_dataset
from datasets.hdf5_writing import HDF5Writer

FILE_NAME = "iamondb.h5"
SPLITS = ("train", "valid")
FORMAT = "IAM-OnDB lines, version 1"
BUFFERED_POINTS = 2**16
CHUNK = 2**14  # entries
LARGEST = 100_000  # of a coordinate; a whiteboard has about 14000
PACKING = 64  # times that lines may be larger than the file; IAM-OnDB is some 5 times


class Line(NamedTuple):
    """One line of handwriting.

    Attributes
    ----------
    points : ndarray of int, shape (points, 3)
        Pen up after the point, x, y; at least two points, the last with pen up.
    text : str
        What is written.
    """

    points: NDArray[np.integer]
    text: str


class OffsetMoments:
    """Sums over the offsets between the points of lines.

    Attributes
    ----------
    steps, total, squares : int
        Number of offsets; sums of dx and dy, and of their squares.
    """

    def __init__(self) -> None:
        self.steps = self.total = self.squares = 0

    def add(self, points: NDArray[np.integer]) -> None:
        """Take the line of points (n, 3) into account."""
        wide = points[:, 1:].astype(np.int64)
        offsets = wide[1:] - wide[:-1]
        self.steps += len(offsets)
        self.total += int(offsets.sum())
        self.squares += int((offsets**2).sum())

    @property
    def mean(self) -> int:
        """Mean as the original computes it, a whole number."""
        return self.total // self.steps if self.steps else 0

    @property
    def std(self) -> float:
        """Deviation as the original computes it; NaN where it finds a negative variance."""
        variance = self.squares // self.steps - self.mean**2 if self.steps else 0
        return variance**0.5 if variance >= 0 else float("nan")


class LineWriter(HDF5Writer):
    """Append lines to a new HDF5 file, and keep count of their statistics.

    Parameters
    ----------
    path : path-like
        File to write.

    Attributes
    ----------
    moments : dict of str to OffsetMoments
        Of the lines of ``'train'`` and of ``'valid'``.

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
            compression="gzip",  # whose checksums notice damage
            compression_opts=1,
            shuffle=True,
            track_times=False,
        )

    def append(self, split: str, line: Line) -> None:
        """Write a line behind the others of ``'train'`` or ``'valid'``."""
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
    """Unicode code points of a text, shape (characters,)."""
    return np.array([ord(character) for character in text], dtype=np.uint32)


def read_lines(path: str | os.PathLike[str], split: str) -> list[Line]:
    """Read all lines of one data set.

    Parameters
    ----------
    path : path-like
        File of `LineWriter`.
    split : {'train', 'valid'}

    Returns
    -------
    list of Line
        Points are int64, as in the original.

    Raises
    ------
    UserError
        If the file is missing, no HDF5, damaged, or holds something else.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"no file {path}; make it with `python -m datasets.iamondb build`")
    try:
        with h5py.File(path, "r") as file:
            points, n_points = _read_ragged(file, f"{split}/x", "i", 2)
            characters, n_characters = _read_ragged(file, f"{split}/y", "u", 1)
        if len(n_points) != len(n_characters):
            raise ValueError(f"{len(n_points)} lines, but {len(n_characters)} transcripts")
        if len(n_points) > len(points):  # too many to be made before they are looked at
            raise ValueError(f"{len(n_points)} lines, but only {len(points)} points")
        texts = ("".join(map(chr, line)) for line in _split(characters, n_characters))
        lines = [Line(*pair) for pair in zip(_split(points, n_points), texts)]
        check_lines(lines)
    except HDF5_ERRORS as error:
        raise UserError(
            f"cannot read {path} ({str(error) or type(error).__name__}); if it is damaged, "
            "build it again with `python -m datasets.iamondb build`"
        ) from error
    return lines


def _read_ragged(
    file: h5py.File, name: str, kind: str, ndim: int
) -> tuple[NDArray, NDArray[np.int64]]:
    """Read a ragged array: its parts one behind the other, and their lengths."""
    joined = _dataset(file, f"{name}/joined", kind, ndim)
    lengths = _dataset(file, f"{name}/lengths", "i", 1)
    possible = ((lengths >= 0) & (lengths <= len(joined))).all()
    if not possible or lengths.sum() != len(joined):
        raise ValueError(f"the lengths in {name} do not fit")
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
        raise ValueError(f"{name!r} would unfold to {stored.nbytes} bytes")
    check_chunks(stored, 0, len(stored))
    return stored[:]


def check_lines(lines: Sequence[Line]) -> None:
    """Make sure that lines can be trained on.

    Parameters
    ----------
    lines : sequence of Line

    Raises
    ------
    ValueError
        If there are none, or one is not as `Line` describes.
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
