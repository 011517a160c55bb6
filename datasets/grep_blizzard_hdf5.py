"""Convert Blizzard recordings in ``data_*.npy`` files to rows in an HDF5 file.

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

from cle_port.console.progress import progress_bar
from cle_port.errors import UserError
from cle_port.files import unwritable
from cle_port.files.unpickle import check_unshared, load_npy
from datasets.hdf5.rows import HDF5Rows, RowWriter

SAMPLE_RATE = 16000  # Hz


def fetch_blizzard(
    data_path: str | os.PathLike[str],
    shuffle: bool = False,
    sz: int = 32000,
    file_name: str = "full_blizzard.h5",
    rng: np.random.RandomState | None = None,
    quiet: bool = False,
) -> HDF5Rows:
    """Open a file of rows; if it does not exist, build it from ``data_*.npy`` first.

    The function cuts each recording into rows and pads the last one with zeros.

    Parameters
    ----------
    data_path : path-like
        Folder of the HDF5 file and, somewhere below, of the ``.npy`` files.
    shuffle : bool
        Shuffle the recordings within each ``.npy`` file.
    sz : int
        Samples per row.
    file_name : str
        Name of the HDF5 file.
    rng : numpy.random.RandomState, optional
        Generator for the shuffling; default is one with seed 0.
    quiet : bool
        Show no progress bar.

    Returns
    -------
    HDF5Rows

    Raises
    ------
    UserError
        If there are no ``.npy`` files, one of them does not hold recordings,
        or the HDF5 file cannot be written or read.

    Notes
    -----
    Counterpart: ``fetch_blizzard``, which shuffles with NumPy's global
    generator and leaves an incomplete file after an interruption.
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
    """Open a file of parallel streams; if it does not exist, build it from ``data_*.npy`` first.

    The function joins the recordings of each ``.npy`` file and cuts them into
    `batch_size` parallel streams, see `write_streams`.

    Parameters
    ----------
    data_path : path-like
        Folder of the HDF5 file and, somewhere below, of the ``.npy`` files.
    sz : int
        Samples per row.
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
    Counterpart: ``fetch_blizzard_tbptt``, which fails on a first recording with
    several channels (line 113).  This function takes the first channel of every
    recording.
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
    """Return a writer that stores the number of streams in the file."""
    return RowWriter(path, sz, batch_size=batch_size, seq_len=sz, sample_rate=SAMPLE_RATE)


def write_npy_streams(
    writer: RowWriter, sources: list[Path], sz: int, batch_size: int, quiet: bool = False
) -> None:
    """Write the recordings of ``data_*.npy`` files as streams, one file after the other.

    Parameters
    ----------
    writer : RowWriter
    sources : list of pathlib.Path
        Files that `load_recordings` reads.
    sz : int
        Samples per row.
    batch_size : int
        Number of streams.
    quiet : bool
        Show no progress bar.

    Raises
    ------
    UserError
        If a file does not hold recordings, or every file is too short for one
        row per stream.
    """
    with progress_bar(len(sources), "reading", "file", quiet) as bar:
        for source in sources:
            with SampleFile(writer.path.parent) as samples:
                for recording in load_recordings(source):
                    samples.append(recording)
                write_streams(writer, samples.read(), sz, batch_size)
            bar.update()
    if writer.n_rows == 0:
        raise too_short(batch_size, sz, f"each of the {len(sources)} data_*.npy files alone")


def too_short(batch_size: int, sz: int, what: str) -> UserError:
    """Return the error for recordings that do not fill one row of each stream."""
    seconds = batch_size * (sz + 1) / SAMPLE_RATE
    return UserError(
        f"{what} cannot fill {batch_size} streams of rows of {sz} samples, which need "
        f"{seconds:.1f} seconds; add recordings or lower --batch_size or --seq_len"
    )


def write_streams(
    writer: RowWriter, samples: NDArray[np.int16], sz: int, batch_size: int, quiet: bool = True
) -> None:
    """Cut samples into parallel streams and write them row by row.

    With L = len(samples) // batch_size, stream j consists of the samples j L to
    (j + 1) L, and row ``i * batch_size + j`` is piece i of stream j.  The
    function drops samples that do not fill a row of every stream.  As in the
    original, it also drops the last piece if L is a multiple of `sz`.

    Parameters
    ----------
    writer : RowWriter
    samples : ndarray of int16, shape (samples,)
        May be a memory map; the function uses a few megabytes at a time.
    sz : int
        Samples per row.
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
        Sorted by the first character after the last ``_`` of the name, which
        must be a digit; so ``data_10`` comes before ``data_2``.  Files with the
        same digit are sorted by folder and name; the original leaves their order
        to the file system.

    Raises
    ------
    UserError
        If the folder does not exist or holds no such files, or a name has no
        digit after the last ``_``.

    Notes
    -----
    Counterpart: the beginning of ``fetch_blizzard``.
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
            f"`python -m datasets.build blizzard SOURCE {folder}`"
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
        Either an object array of int16 arrays, each (samples,) or (samples,
        channels), or one int16 array: one recording (samples,), or several of
        equal length, (recordings, samples) or (recordings, samples, channels).

    Returns
    -------
    list or ndarray of int16 arrays, each (samples,)
        The first channel of each recording.

    Raises
    ------
    UserError
        If the file cannot be read, does not hold recordings, or unpacks to more
        than its size allows.

    Notes
    -----
    Counterpart: the reading loops of ``fetch_blizzard``.
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
    """Temporary file for samples whose number is not known in advance.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the file.  The file has no name there and disappears when it
        is closed.

    Raises
    ------
    UserError
        If the folder cannot be written or is full.

    Notes
    -----
    No counterpart in the original.
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
        with contextlib.suppress(OSError):  # closing tries again to write what failed before
            self._file.close()

    def __len__(self) -> int:
        return self._file.tell() // 2

    def append(self, samples: NDArray[np.int16]) -> None:
        """Append samples."""
        with self._errors():
            self._file.write(np.ascontiguousarray(samples, dtype="<i2").data)

    def truncate(self, length: int) -> None:
        """Keep only the first ``length`` samples."""
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
