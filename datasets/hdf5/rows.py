"""Rows of int16 samples in an HDF5 file, the layout of the Blizzard data.

The file holds one data set ``data`` of shape (rows, samples in a row).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError
from datasets.hdf5.checks import HDF5_ERRORS, check_chunks, check_storage, find_dataset
from datasets.hdf5.writing import HDF5Writer

FILE_NAME = "blizzard_unseg_tbptt"  # the original's name for rows in training order
DATASET = "data"
CHUNK_SAMPLES = 2**17  # 16 rows of 8000, so that batches of 128 rows are whole chunks
CHUNK_CACHE_BYTES = 16 * 2**20
READ_SAMPLES = 2**22  # samples in memory during a pass over all rows; also the longest row


class HDF5Rows:
    """Rows of an HDF5 file, read from disk on every access.

    Parameters
    ----------
    path : path-like
        HDF5 file with an int16 data set ``data`` of two dimensions, written by
        `RowWriter` or by the original (PyTables, blosc).

    Attributes
    ----------
    path : pathlib.Path
    shape : (int, int)
        Number of rows, samples per row.
    dtype : numpy.dtype
    attrs : dict of str to int
        Attributes that `RowWriter` stored; empty for files of other programs.

    Raises
    ------
    UserError
        If the file is missing, damaged, empty or not HDF5, has another
        layout, needs a compression filter that is not installed, refers to
        other files, or has rows or chunks that need too much memory.

    Notes
    -----
    Counterpart: the PyTables array that ``fetch_blizzard`` returns.
    Unpickling opens the file again, so another process can receive the object.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        rows = self._open()
        self.shape: tuple[int, int] = rows.shape
        self.dtype = rows.dtype

    def _open(self) -> h5py.Dataset:
        if not os.path.isfile(self.path):
            raise UserError(
                f"no file {self.path}; make it with "
                f"`python -m datasets.build blizzard SOURCE {self.path.parent}`"
            )
        try:
            self._file = h5py.File(self.path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
        except HDF5_ERRORS as error:
            raise _damaged(self.path, error) from error
        try:
            rows: Any = find_dataset(self._file, DATASET)
            _check_layout(rows, self.path)
            check_storage(rows, self.path)
            self.attrs = dict(_plain_attributes(rows))
        except BaseException as error:
            self.close()
            if isinstance(error, HDF5_ERRORS):
                raise _damaged(self.path, error) from error
            raise
        self._rows = rows
        self._checked = bytearray(-(-len(rows) // rows.chunks[0]) if rows.chunks else 0)
        return rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> NDArray[np.int16]:
        """Read the rows of a slice: int16, shape (rows, samples per row)."""
        try:
            start, stop, _ = index.indices(len(self))
            self._check_chunks(start, stop)
            return self._rows[index]
        except HDF5_ERRORS as error:
            raise _damaged(self.path, error) from error

    def _check_chunks(self, start: int, stop: int) -> None:
        """Check each chunk before HDF5 reads it for the first time."""
        if self._rows.chunks is None:
            return
        height = self._rows.chunks[0]
        for number in range(start // height, -(-stop // height)):
            if not self._checked[number]:
                check_chunks(self._rows, number * height, number * height + 1)
                self._checked[number] = True

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.int16]]:
        """Yield the rows from ``start`` to ``stop`` in blocks of a few megabytes."""
        stop = len(self) if stop is None else min(stop, len(self))
        step = max(1, READ_SAMPLES // self.shape[1])
        for first in range(start, stop, step):
            yield self[first : min(first + step, stop)]

    def close(self) -> None:
        """Close the file; later access to rows fails."""
        self._file.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_file", "_rows")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


class RowWriter(HDF5Writer):
    """Append int16 rows to a new HDF5 file and accumulate their statistics.

    Parameters
    ----------
    path : path-like
        File to write.
    row_length : int
        Samples per row.
    **attrs : int
        Attributes to store with the data set.

    Attributes
    ----------
    n_rows : int
        Rows written so far.
    moments : Moments
        Sums over the samples written so far.

    Raises
    ------
    UserError
        If the file cannot be written or the rows are too long.

    Notes
    -----
    Counterpart: the ``EArray`` of ``fetch_blizzard``.  The original compresses
    with blosc, which needs a plug-in.  This class compresses with gzip, which
    every HDF5 library reads, and adds checksums that reveal damage.
    """

    def __init__(self, path: str | os.PathLike[str], row_length: int, **attrs: int) -> None:
        self.n_rows = 0
        self.moments = Moments()
        if row_length > READ_SAMPLES:
            raise UserError(
                f"rows of {row_length} samples are too long; use a seq_len up to {READ_SAMPLES}"
            )
        super().__init__(path, rdcc_nbytes=CHUNK_CACHE_BYTES)
        with self._errors():
            self._rows = self._file.create_dataset(
                DATASET,
                shape=(0, row_length),
                maxshape=(None, row_length),
                dtype="<i2",
                chunks=(max(1, CHUNK_SAMPLES // row_length), min(row_length, CHUNK_SAMPLES)),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                fletcher32=True,
                track_times=False,
            )
            self._rows.attrs.update(attrs)

    def append(self, rows: NDArray[np.int16]) -> None:
        """Append rows of shape (n, row_length)."""
        with self._errors():
            self._rows.resize(self.n_rows + len(rows), axis=0)
            self._rows[self.n_rows :] = rows
        self.n_rows += len(rows)
        self.moments.add(rows)


class Moments:
    """Exact sums over int16 samples: count, sum, sum of squares, largest magnitude."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.squares = 0
        self.peak = 0

    def add(self, samples: NDArray[np.int16]) -> None:
        """Add samples of any shape to the sums."""
        if samples.size == 0:
            return
        wide = samples.ravel().astype(np.int64)
        self.count += wide.size
        self.total += int(wide.sum())
        self.squares += int(np.dot(wide, wide))
        self.peak = max(self.peak, int(np.abs(wide).max()))

    @property
    def mean(self) -> float:
        """Mean of the samples."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Standard deviation of the samples, with their count as the divisor."""
        return (self.squares / self.count - self.mean**2) ** 0.5

    def product_about(self, a: float, b: float) -> float:
        """Mean of (x - a)(x - b)."""
        return self.squares / self.count - (a + b) * self.mean + a * b


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"cannot read {path} ({str(error) or type(error).__name__}); if it is damaged or not HDF5, "
        "build it again with `python -m datasets.build blizzard`"
    )


def _check_layout(rows: Any, path: Path) -> None:
    again = "build it again with `python -m datasets.build blizzard`"
    if not isinstance(rows, h5py.Dataset):
        raise UserError(f"{path} has no data set named {DATASET!r}; {again}")
    if len(rows.shape or ()) != 2:
        raise UserError(
            f"{path}: {DATASET!r} has shape {rows.shape}, expected (rows, samples); {again}"
        )
    if rows.dtype.kind != "i" or rows.dtype.itemsize != 2:
        raise UserError(f"{path}: {DATASET!r} holds {rows.dtype}, expected int16 samples; {again}")
    if 0 in rows.shape:
        raise UserError(f"{path}: {DATASET!r} is empty, shape {rows.shape}; {again}")
    if rows.shape[1] > READ_SAMPLES:
        raise UserError(
            f"{path}: rows of {rows.shape[1]} samples are too long; "
            f"build it again with a --seq_len up to {READ_SAMPLES}"
        )


def _plain_attributes(rows: h5py.Dataset) -> Iterator[tuple[str, int]]:
    for name in ("batch_size", "seq_len", "sample_rate"):
        # An attribute of another type or shape could be huge, so it is not read.
        if name in rows.attrs:
            stored = rows.attrs.get_id(name)
            if stored.shape == () and stored.dtype.kind in "iu":
                yield name, int(rows.attrs[name])
