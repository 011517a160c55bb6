"""Blizzard recordings from ``data_*.npy`` files to rows in an HDF5 file.

Counterpart: ``datasets/grep_blizzard_hdf5.py``.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError
from cle_port.files import unwritable
from cle_port.progress import progress_bar
from cle_port.unpickle import check_unshared, load_npy
from datasets.hdf5_rows import HDF5Rows, RowWriter

SAMPLE_RATE = 16000


def fetch_blizzard(
    data_path: str | os.PathLike[str],
    shuffle: bool = False,
    sz: int = 32000,
    file_name: str = "full_blizzard.h5",
    rng: np.random.RandomState | None = None,
    quiet: bool = False,
) -> HDF5Rows:
    """Open the rows of a file, making it from ``data_*.npy`` if it does not exist.

    Each recording is cut into rows, the last filled with zeros.

    Parameters
    ----------
    data_path : path-like
        Folder of the HDF5 file and, somewhere below, of the ``.npy`` files.
    shuffle : bool
        Shuffle the recordings within each ``.npy`` file.
    sz : int
        Samples in a row.
    file_name : str
        Name of the HDF5 file.
    rng : numpy.random.RandomState, optional
        Source of the shuffling; by default one with seed 0.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    HDF5Rows

    Raises
    ------
    UserError
        If there is nothing to make the file of, a ``.npy`` file holds
        something else than recordings, or the file cannot be written or read.

    Notes
    -----
    Counterpart: ``fetch_blizzard``, which shuffles with NumPy's global
    generator, and leaves half a file when it is interrupted.
    """
    hdf5_path = Path(data_path) / file_name
    if not os.path.exists(hdf5_path):
        rng = np.random.RandomState(0) if rng is None else rng
        sources = find_npy(data_path)
        writer = RowWriter(hdf5_path, sz, seq_len=sz, sample_rate=SAMPLE_RATE)
        with writer, progress_bar(len(sources), "reading", "file", quiet) as bar:
            for source in sources:
                recordings = load_recordings(source)
                order = rng.permutation(len(recordings)) if shuffle else range(len(recordings))
                for index in order:
                    writer.append(_padded_rows(recordings[index], sz))
                bar.update()
            writer.finish()
            writer.commit()
    return HDF5Rows(hdf5_path)


def fetch_blizzard_tbptt(
    data_path: str | os.PathLike[str],
    sz: int = 8000,
    batch_size: int = 100,
    file_name: str = "blizzard_tbptt.h5",
    quiet: bool = False,
) -> HDF5Rows:
    """Open the rows of a file, making it from ``data_*.npy`` if it does not exist.

    The recordings of each ``.npy`` file are joined and cut into `batch_size`
    parallel streams, see `write_streams`.

    Parameters
    ----------
    data_path : path-like
        Folder of the HDF5 file and, somewhere below, of the ``.npy`` files.
    sz : int
        Samples in a row.
    batch_size : int
        Number of streams.
    file_name : str
        Name of the HDF5 file.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    HDF5Rows

    Raises
    ------
    UserError
        As `fetch_blizzard`.

    Notes
    -----
    Counterpart: ``fetch_blizzard_tbptt``.  There the first recording of each
    file is not reduced to its first channel, which ends in an error (line
    113); here it is treated like the others.
    """
    hdf5_path = Path(data_path) / file_name
    if not os.path.exists(hdf5_path):
        sources = find_npy(data_path)
        writer = stream_writer(hdf5_path, sz, batch_size)
        with writer:
            write_npy_streams(writer, sources, sz, batch_size, quiet)
            writer.finish()
            writer.commit()
    return HDF5Rows(hdf5_path)


def stream_writer(path: Path, sz: int, batch_size: int) -> RowWriter:
    """Return a writer for parallel streams, which notes their number in the file."""
    return RowWriter(path, sz, batch_size=batch_size, seq_len=sz, sample_rate=SAMPLE_RATE)


def write_npy_streams(
    writer: RowWriter, sources: list[Path], sz: int, batch_size: int, quiet: bool = False
) -> None:
    """Write the recordings of ``data_*.npy`` files, one file after the other, as streams.

    Raises
    ------
    UserError
        If a file holds something else, or all are too short for one row.
    """
    with progress_bar(len(sources), "reading", "file", quiet) as bar:
        for source in sources:
            with SampleFile(writer.path.parent) as samples:
                for recording in load_recordings(source):
                    samples.append(recording)
                write_streams(writer, samples.read(), sz, batch_size)
            bar.update()
    if writer.n_rows == 0:
        raise too_short(batch_size, sz, f"any one of the {len(sources)} data_*.npy files")


def too_short(batch_size: int, sz: int, what: str) -> UserError:
    """Error for recordings that do not fill one row of each stream."""
    seconds = batch_size * (sz + 1) / SAMPLE_RATE
    return UserError(
        f"{what} cannot fill {batch_size} streams of rows of {sz} samples, which need "
        f"{seconds:.1f} seconds; add recordings or lower --batch_size or --seq_len"
    )


def write_streams(
    writer: RowWriter, samples: NDArray[np.int16], sz: int, batch_size: int, quiet: bool = True
) -> None:
    """Cut samples into parallel streams and write them row by row.

    With L = len(samples) // batch_size, stream j is samples j L to (j + 1) L,
    and row ``i * batch_size + j`` of those written is piece i of stream j.
    What does not fill a row of every stream is left out, and so is the last
    piece if L is a multiple of `sz`, as in the original.

    Parameters
    ----------
    writer : RowWriter
    samples : ndarray of int16, shape (samples,)
        May be a memory map; a few megabytes of it are used at a time.
    sz : int
        Samples in a row.
    batch_size : int
        Number of streams.
    quiet : bool
        Show no progress bar.
    """
    length = len(samples) // batch_size
    pieces = max(length - 1, 0) // sz
    streams = samples[: length * batch_size].reshape(batch_size, length)
    with progress_bar(pieces * batch_size, "writing", "row", quiet) as bar:
        for piece in range(pieces):
            writer.append(streams[:, piece * sz : (piece + 1) * sz])
            bar.update(batch_size)


def _padded_rows(recording: NDArray[np.int16], sz: int) -> NDArray[np.int16]:
    rows = np.zeros((-(-len(recording) // sz), sz), dtype=np.int16)
    rows.ravel()[: len(recording)] = recording
    return rows


def find_npy(folder: str | os.PathLike[str]) -> list[Path]:
    """Find ``data_*.npy`` below a folder, in the original's order.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    list of pathlib.Path
        Ordered by the first character behind the last ``_`` of the name, a
        digit, so that ``data_10`` comes before ``data_2``.  Where that is the
        same, by folder and name; the original leaves this to the file system.

    Raises
    ------
    UserError
        If the folder or such files are missing, or a name has no digit there.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise UserError(f"no folder {folder}; check the path")
    found = []
    for root, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(root, name) for name in sorted(fnmatch.filter(names, "data_*.npy"))]
    if not found:
        raise UserError(
            f"no data_*.npy in {folder}; make the HDF5 file from recordings with "
            f"`python -m datasets.blizzard build SOURCE {folder}`"
        )
    for path in found:
        if path.name.split("_")[-1][0] not in "0123456789":
            raise UserError(f"cannot order {path}: rename it so that a digit follows the last _")
    return sorted(found, key=lambda path: int(path.name.split("_")[-1][0]))


def load_recordings(path: Path) -> list[NDArray[np.int16]] | NDArray[np.int16]:
    """Read the recordings of a ``data_*.npy`` file.

    Parameters
    ----------
    path : pathlib.Path
        An array of int16 arrays, each (samples,) or (samples, channels), or
        one int16 array: of one recording, (samples,), or of several of one
        length, with a first axis in front.

    Returns
    -------
    list or ndarray of int16 arrays, each (samples,)
        Of several channels the first.

    Raises
    ------
    UserError
        If the file cannot be read or holds something else, or more than its
        size allows.
    """
    loaded = load_npy(path)
    if loaded.dtype == object and loaded.ndim == 1:
        recordings = [_recording(path, number, item) for number, item in enumerate(loaded)]
        check_unshared(path, loaded)
        return recordings
    if loaded.dtype != np.int16 or not 1 <= loaded.ndim <= 3 or 0 in loaded.shape[1:]:
        raise _no_recording(path, "it", loaded)
    if loaded.ndim == 1:
        return [loaded]
    return loaded if loaded.ndim == 2 else loaded[:, :, 0]


def _recording(path: Path, number: int, item: Any) -> NDArray[np.int16]:
    dtype = getattr(item, "dtype", None)
    if dtype != np.int16 or not 1 <= item.ndim <= 2 or 0 in item.shape[1:]:
        raise _no_recording(path, f"item {number}", item)
    return item if item.ndim == 1 else item[:, 0]


def _no_recording(path: Path, what: str, item: Any) -> UserError:
    kind = f"{item.dtype} of shape {item.shape}" if hasattr(item, "dtype") else type(item).__name__
    return UserError(
        f"{path}: {what} is no recording but {kind}; "
        "save int16 arrays of shape (samples,) or (samples, channels)"
    )


class SampleFile:
    """Samples of unknown number on their way to streams, in a temporary file.

    Parameters
    ----------
    folder : pathlib.Path
        Where to put it; it has no name there and vanishes when closed.

    Raises
    ------
    UserError
        If the folder cannot be written or is full.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with self._errors():
            self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._folder, error) from error

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):  # of what could not be written any more
            self._file.close()

    def __len__(self) -> int:
        return self._file.tell() // 2

    def append(self, samples: NDArray[np.int16]) -> None:
        """Write samples behind the others."""
        with self._errors():
            self._file.write(np.ascontiguousarray(samples, dtype="<i2").data)

    def truncate(self, length: int) -> None:
        """Forget all samples but the first ``length``."""
        with self._errors():
            self._file.seek(2 * length)
            self._file.truncate()

    def read(self) -> NDArray[np.int16]:
        """Return the samples as a memory map."""
        with self._errors():
            self._file.flush()
            if len(self) == 0:
                return np.zeros(0, dtype=np.int16)
            return np.memmap(self._file, dtype="<i2", mode="r", shape=(len(self),))
