"""Blizzard 2013 as batches of raw audio frames, and the command that builds its file.

``python -m datasets.blizzard build SOURCE OUT`` makes the HDF5 file and its
statistics from a folder of recordings; ``--help`` says more.

Counterpart: ``datasets/blizzard.py``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

if __package__ in (None, ""):  # started as a file: an installed `datasets` must not win
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.checkpoint import DAMAGE, read_npz
from cle_port.data import TemporalSeries
from cle_port.data.prep import SequentialPrepMixin
from cle_port.errors import UserError
from cle_port.files import replace_file, unwritable
from cle_port.utils import segment_axis
from datasets.grep_blizzard_hdf5 import fetch_blizzard, fetch_blizzard_tbptt
from datasets.hdf5_rows import HDF5Rows, Moments

STRIDE = 10000  # rows that the running statistics take in at a time
TRAIN_ROWS = 2040064  # of the original's file: train, then validation, then what its scripts leave
VALID_ROWS = 112640
VALID_SHARE = 0.05  # of a smaller file


class Blizzard(TemporalSeries, SequentialPrepMixin):
    """Batches of normalised audio frames from an HDF5 file of int16 rows.

    Nothing but the rows of the batch is ever held in memory.

    Parameters
    ----------
    X_mean, X_std : scalar, optional
        Statistics of the samples, subtracted and divided by.  Unless both are
        given (or `use_spec`), they are computed from the file and saved beside
        it, see `statistics`.
    shuffle : bool
        Shuffle the recordings when the file has to be made from ``data_*.npy``.
    seq_len : int
        Samples in a row of a file that has to be made; afterwards the length
        of the rows that the file has.
    use_window : bool
        Overlapping frames under a Hann window.
    use_spec : bool
        Spectra of such frames instead: real parts, then imaginary parts, with
        the magnitude m replaced by log10(m + 1).  Not normalised.
    frame_size : int
        Samples in a frame.
    overlap : int
        As in the original without effect: half a frame under a window, else 0.
    file_name : str
        Name of the HDF5 file in `path`, without ``.h5``.
    name : str, optional
        Name of the data set in the log, such as ``'train'``.
    path : str or path-like
        Folder of the file.
    multi_process : int
        See `cle_port.data.Data`.
    statistics : {'running', 'true'}
        How missing statistics are computed: as the original does, or as the
        mean and standard deviation of all samples.

    Attributes
    ----------
    data : HDF5Rows
        The rows, int16.
    batch_size_of_file : int or None
        Number of parallel streams the rows were cut into, if the file says so;
        state carried from batch to batch follows the recordings only when
        training uses this batch size.

    Raises
    ------
    UserError
        If the file or the statistics are missing or unusable, or the frame
        size does not fit.

    Notes
    -----
    Counterpart: ``datasets/blizzard.py``, ``Blizzard``.  Differences:
    `num_examples` counts rows (there it reads the whole file and returns the
    length of a row); samples behind the last full frame are refused, not
    dropped, since they would tear up the stream that carried state follows;
    statistics that are not finite and positive are refused; the statistics
    file is written into the folder even if `path` has no trailing slash.
    """

    data: HDF5Rows
    range_start = 0
    range_end: int | None = None

    def __init__(
        self,
        X_mean: ArrayLike | None = None,
        X_std: ArrayLike | None = None,
        shuffle: bool = False,
        seq_len: int = 32000,
        use_window: bool = False,
        use_spec: bool = False,
        frame_size: int = 200,
        overlap: int = 0,
        file_name: str = "full_blizzard",
        name: str | None = None,
        path: str | os.PathLike[str] | None = None,
        multi_process: int = 0,
        statistics: str = "running",
    ) -> None:
        if frame_size < 1:
            raise UserError(f"frame_size must be at least 1, not {frame_size}")
        if use_spec and not is_power2(frame_size):
            raise UserError(f"frame_size {frame_size} is no power of two, which spectra need")
        if statistics not in ("running", "true"):
            raise UserError(f"statistics must be 'running' or 'true', not {statistics!r}")
        self.X_mean: Any = X_mean
        self.X_std: Any = X_std
        self.shuffle_recordings = shuffle
        self.seq_len = seq_len
        self.use_window = use_window
        self.use_spec = use_spec
        self.frame_size = frame_size
        self.overlap = overlap
        self.file_name = file_name
        self.statistics = statistics
        if use_window or use_spec:
            self.overlap = frame_size // 2
            self.window = _hann(frame_size)
        super().__init__(name=name, path=path, multi_process=multi_process)

    def load(self, data_path: str | os.PathLike[str]) -> HDF5Rows:
        """Open the HDF5 file, making it from ``data_*.npy`` if need be; see the class."""
        rows = self.fetch(data_path)
        self.seq_len = rows.shape[1]
        self.batch_size_of_file = rows.attrs.get("batch_size")
        self._check_frames(rows)
        if not self.use_spec:
            given = self.X_mean is not None and self.X_std is not None
            origin = "the given" if given else f"the computed ({self.statistics})"
            if not given:
                self.X_mean, self.X_std = self._compute_statistics(rows)
            self.X_mean, self.X_std = check_statistics(self.X_mean, self.X_std, origin)
            if not given:
                save_statistics(data_path, self.file_name, self.X_mean, self.X_std)
        return rows

    def fetch(self, path: str | os.PathLike[str]) -> HDF5Rows:
        """Open or make the file of rows."""
        return fetch_blizzard(path, self.shuffle_recordings, self.seq_len, self.file_name + ".h5")

    def _check_frames(self, rows: HDF5Rows) -> None:
        plain = not (self.use_window or self.use_spec)
        if plain and self.seq_len % self.frame_size:
            raise UserError(
                f"frame size {self.frame_size} does not divide the {self.seq_len} samples "
                f"of a row in {rows.path}; use a divisor of {self.seq_len} as frame_size (x_dim)"
            )

    def _compute_statistics(self, rows: HDF5Rows) -> tuple[float, float]:
        if self.statistics == "true":
            return true_statistics(rows)
        return running_statistics(rows, self.range_start, self.range_end)

    def num_examples(self) -> int:
        """Return the number of rows in the file."""
        return len(self.data)

    def shuffle(self, rng: np.random.Generator) -> None:
        """Refuse: rows are read in the order of the file, which carried state follows."""
        raise ValueError("rows of an HDF5 file are read in their order and cannot be shuffled")

    @property
    def frames_shape(self) -> tuple[int, int]:
        """Frames in a row, and numbers in a frame."""
        if not (self.use_window or self.use_spec):
            return self.seq_len // self.frame_size, self.frame_size
        step = self.frame_size - self.overlap
        frames = 1 + max(0, -(-(self.seq_len - self.frame_size) // step))
        return frames, 2 * (self.frame_size // 2 + 1) if self.use_spec else self.frame_size

    def theano_vars(self, batch_size: int | None = None) -> TensorVariable:
        """Return the symbolic input that a batch is fed to.

        Parameters
        ----------
        batch_size : int, optional
            Makes the shape of the input known to the compiler.

        Returns
        -------
        TensorVariable
            ``x`` of dtype ``floatX`` and static shape (frames, `batch_size`,
            numbers in a frame).

        Notes
        -----
        Counterpart: ``Blizzard.theano_vars``, where no shape is known.
        """
        frames, width = self.frames_shape
        return pt.tensor("x", dtype=pytensor.config.floatX, shape=(frames, batch_size, width))

    def test_theano_vars(self) -> TensorVariable:
        """Return a symbolic matrix ``x`` of dtype ``floatX`` for one frame of a batch."""
        return pt.matrix("x", dtype=pytensor.config.floatX)

    def slices(self, start: int, end: int) -> tuple[NDArray]:
        """Read rows ``start`` to ``end`` as one batch.

        Parameters
        ----------
        start, end : int
            Range of rows.

        Returns
        -------
        tuple of one ndarray, shape (frames, rows, numbers in a frame), floatX
            Time first, contiguous.

        Raises
        ------
        UserError
            If the file turns out to be damaged.
        """
        batch = self.data[start:end].astype(pytensor.config.floatX)
        if self.use_spec:
            batch = self.concatenate(self.log_magnitude(self.apply_fft(batch)))
        else:
            # The original computes in the precision of the batch.
            batch -= np.asarray(self.X_mean, dtype=batch.dtype)
            batch /= np.asarray(self.X_std, dtype=batch.dtype)
            if self.use_window:
                batch = self.apply_window(batch)
            else:
                batch = batch.reshape(len(batch), *self.frames_shape)
        return (np.ascontiguousarray(batch.transpose(1, 0, 2)),)

    def apply_window(self, batch: NDArray) -> NDArray:
        """Cut rows (rows, samples) into windowed frames (rows, frames, frame_size).

        The last frame is completed with zeros.
        """
        window = self.window.astype(pytensor.config.floatX)
        frames = [segment_axis(x, self.frame_size, self.overlap, end="pad") for x in batch]
        return window * np.array(frames)

    def apply_fft(self, batch: NDArray) -> NDArray:
        """Return spectra of the windowed frames, complex (rows, frames, frame_size // 2 + 1)."""
        return self.numpy_rfft(self.apply_window(batch))

    def apply_ifft(self, batch: NDArray) -> NDArray:
        """Return the frames that spectra belong to, real (rows, frames, frame_size)."""
        return self.numpy_irfft(batch)

    def log_magnitude(self, batch: NDArray) -> NDArray:
        """Replace each magnitude m by log10(m + 1), keeping the phase."""
        magnitude, phase = R2P(batch)
        return P2R(np.log10(magnitude + 1.0), phase)

    def pow_magnitude(self, batch: NDArray) -> NDArray:
        """Replace each magnitude m by 10**m - 1, the inverse of `log_magnitude`."""
        magnitude, phase = R2P(batch)
        return P2R(10**magnitude - 1.0, phase)

    def concatenate(self, batch: NDArray) -> NDArray:
        """Put real parts, then imaginary parts, into one last axis of dtype ``floatX``."""
        joined = np.concatenate([batch.real, batch.imag], axis=-1)
        return joined.astype(pytensor.config.floatX)


class Blizzard_tbptt(Blizzard):
    """Blizzard in parallel streams, for truncated backpropagation through time.

    Row ``i * batch_size + j`` is piece ``i`` of stream ``j``, so that example
    ``j`` of each batch goes on where it ended in the batch before.

    Parameters
    ----------
    batch_size : int
        Number of streams of a file that has to be made.
    file_name : str
        Name of the HDF5 file in `path`, without ``.h5``.
    range_start : int
        Where running statistics begin, in strides of 10000 rows (sic).
    range_end : int, optional
        Where they end, in rows, rounded up to whole strides.
    **kwargs
        As for `Blizzard`.

    Notes
    -----
    Counterpart: ``datasets/blizzard.py``, ``Blizzard_tbptt``; its programs pass
    neither `batch_size` nor `seq_len`, since their file exists.
    """

    def __init__(
        self,
        batch_size: int = 100,
        file_name: str = "blizzard_tbptt",
        range_start: int = 0,
        range_end: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.batch_size = batch_size
        self.range_start = range_start
        self.range_end = range_end
        super().__init__(file_name=file_name, **kwargs)

    def fetch(self, path: str | os.PathLike[str]) -> HDF5Rows:
        """Open or make the file of rows."""
        return fetch_blizzard_tbptt(path, self.seq_len, self.batch_size, self.file_name + ".h5")


class RowRanges(NamedTuple):
    """Which rows a program trains, monitors and validates on.

    Attributes
    ----------
    train_end : int
        Training takes rows 0 to `train_end`.
    monitor_rows : int
        Monitoring of the training data takes rows 0 to `monitor_rows`.
    valid_start, valid_end : int
        Monitoring of the validation data takes these.
    """

    train_end: int
    monitor_rows: int
    valid_start: int
    valid_end: int


def row_ranges(n_rows: int, batch_size: int, m_batch_size: int) -> RowRanges:
    """Split the rows of a file into training, validation and test.

    A file of at least 2152704 rows is the original's, and is split by the literals of its
    programs, whatever the batch sizes: training 0 to 2040064, validation the 112640 rows behind,
    and as many at the beginning for monitoring the training data.  The rows from 2152704 on are
    for a test: later papers report on them.

    Of a smaller file, validation takes the 20th part, rounded down to whole monitoring batches,
    but at least one; training takes the whole batches before it, and validation follows at once,
    so that less than a batch is left over at the end.  Monitoring of the training data takes as
    many rows as validation.

    Parameters
    ----------
    n_rows : int
        Rows in the file.
    batch_size, m_batch_size : int
        Rows in a batch of training and of monitoring.

    Returns
    -------
    RowRanges

    Raises
    ------
    UserError
        If the file has too few rows for one batch of each, or a batch size is
        not positive.

    Notes
    -----
    Counterpart: the literals in ``models/blizzard/*.py``.
    """
    for option, size in (("batch_size", batch_size), ("m_batch_size", m_batch_size)):
        if size < 1:
            raise UserError(f"{option} must be at least 1, not {size}")
    original = TRAIN_ROWS + VALID_ROWS
    if n_rows >= original:
        for option, size, rows in (
            ("batch_size", batch_size, TRAIN_ROWS),
            ("m_batch_size", m_batch_size, VALID_ROWS),
        ):
            if size > rows:
                raise UserError(f"{option} is {size}; use at most {rows} with {n_rows} rows")
        return RowRanges(TRAIN_ROWS, VALID_ROWS, TRAIN_ROWS, original)
    valid_rows = max(1, int(n_rows * VALID_SHARE // m_batch_size)) * m_batch_size
    train_end = (n_rows - valid_rows) // batch_size * batch_size
    if train_end < max(batch_size, valid_rows):
        raise _too_few_rows(n_rows, batch_size, m_batch_size)
    return RowRanges(train_end, valid_rows, train_end, train_end + valid_rows)


def describe_split(rows: RowRanges, n_rows: int) -> str:
    """Say in one line which rows of a file train, validate and are left, and why.

    Parameters
    ----------
    rows : RowRanges
        From `row_ranges`.
    n_rows : int
        Rows in the file.
    """
    original = TRAIN_ROWS + VALID_ROWS
    n_valid = rows.valid_end - rows.valid_start
    parts = f"{rows.train_end} for training, {n_valid} for validation"
    if n_rows >= original:
        return (
            f"{parts}, {n_rows - original} left for a test: the original's split, since the file "
            f"has at least its {original} rows"
        )
    return f"{parts}: of a file with fewer rows than the original's {original}, a twentieth"


def whole_batches(start: int, end: int, batch_size: int) -> int:
    """Return the ``end`` with which an Iterator does not read rows behind a range.

    `cle_port.data.Iterator` starts batches below ``end - end % batch_size``.  From a ``start``
    that is no multiple of the batch size, as the original's validation has, the last batch may
    pass the end of the range: here into the test rows, or out of the file.  With the original's
    batch size it does not.

    Parameters
    ----------
    start, end : int
        The range.
    batch_size : int
        Rows in a batch.

    Returns
    -------
    int
        `end`, or a batch less where the last one would pass it.
    """
    starts = range(start, end - end % batch_size, batch_size)
    return end - batch_size if starts and starts[-1] + batch_size > end else end


def _too_few_rows(n_rows: int, batch_size: int, m_batch_size: int) -> UserError:
    train_batches = -(-max(batch_size, m_batch_size) // batch_size)
    needed = train_batches * batch_size + m_batch_size
    half = n_rows // 2
    return UserError(
        f"the data has {n_rows} rows, but batch_size {batch_size} and m_batch_size "
        f"{m_batch_size} need {needed}; use more data, or a batch_size and m_batch_size "
        f"of at most {half}"
        if half
        else f"the data has {n_rows} rows, but training and validation need two; use more data"
    )


def running_statistics(
    rows: HDF5Rows, range_start: int = 0, range_end: int | None = None
) -> tuple[float, float]:
    """Mean and deviation of the samples as the original computes them.

    Strides of 10000 rows are averaged one after the other.  The squares of the
    first stride are left out but counted, so that the deviation comes out too
    small by a factor sqrt((n - 1) / n) for n strides, and as 0 for one.

    Parameters
    ----------
    rows : HDF5Rows
        Any object with ``len`` and ``blocks(start, stop)``.
    range_start : int
        First stride.
    range_end : int, optional
        Last row, rounded up to whole strides; by default all.

    Returns
    -------
    mean, std : float

    Raises
    ------
    UserError
        If a stride has no rows.

    Notes
    -----
    Counterpart: the loop in ``Blizzard.load`` and ``Blizzard_tbptt.load``.
    Sums are exact here, so results differ in the last digits.
    """
    last = -(-(len(rows) if range_end is None else range_end) // STRIDE)
    strides = range(range_start, last)
    if not strides or (last - 1) * STRIDE >= len(rows) or range_start < 0:
        raise UserError(
            f"range_start {range_start} (strides of {STRIDE} rows) and range_end {range_end} "
            f"(rows) do not lie within the {len(rows)} rows of the data"
        )
    mean = variance = 0.0
    for seen, stride in enumerate(strides, start=1):
        moments = _moments(rows, stride * STRIDE, (stride + 1) * STRIDE)
        if seen == 1:
            mean = moments.mean
            continue
        previous = mean
        mean = previous + (moments.mean - previous) / seen
        variance += moments.product_about(previous, mean)
    return mean, float(np.sqrt(variance / len(strides)))


def true_statistics(rows: HDF5Rows) -> tuple[float, float]:
    """Mean and standard deviation of all samples of a file."""
    moments = _moments(rows, 0, len(rows))
    return moments.mean, moments.std


def _moments(rows: HDF5Rows, start: int, stop: int) -> Moments:
    moments = Moments()
    for block in rows.blocks(start, stop):
        moments.add(block)
    return moments


def statistics_path(folder: str | os.PathLike[str], file_name: str) -> Path:
    """Return where the statistics of ``file_name.h5`` are kept."""
    return Path(folder) / f"{file_name}_normal.npz"


def save_statistics(
    folder: str | os.PathLike[str], file_name: str, X_mean: float, X_std: float
) -> None:
    """Write ``<file_name>_normal.npz`` with the float64 scalars ``X_mean`` and ``X_std``.

    Raises
    ------
    UserError
        If it cannot be written.
    """
    path = statistics_path(folder, file_name)
    pair: dict[str, Any] = {"X_mean": np.float64(X_mean), "X_std": np.float64(X_std)}
    try:
        replace_file(path, lambda file: np.savez(file, allow_pickle=False, **pair))
    except OSError as error:
        raise unwritable(path, error) from error


def load_statistics(folder: str | os.PathLike[str], file_name: str) -> tuple[float, float]:
    """Read ``X_mean`` and ``X_std`` from ``<file_name>_normal.npz``.

    Parameters
    ----------
    folder : str or path-like
        Folder of the data.
    file_name : str
        Name of the HDF5 file without ``.h5``.

    Returns
    -------
    X_mean, X_std : float

    Raises
    ------
    UserError
        If the file is missing or damaged, lacks one of them, or holds values
        that are no finite mean and positive deviation.

    Notes
    -----
    Counterpart: ``np.load(data_path + file_name + '_normal.npz')`` in the programs.
    """
    path = statistics_path(folder, file_name)
    again = "make it again with `python -m datasets.blizzard build`"
    if not os.path.isfile(path):
        raise UserError(f"no statistics {path}; {again}")
    try:
        stored = read_npz(path, ("X_mean", "X_std"))
    except DAMAGE as error:
        raise UserError(f"cannot read X_mean and X_std from {path} ({error}); {again}") from error
    return check_statistics(stored["X_mean"], stored["X_std"], origin=f"{path}:")


def check_statistics(X_mean: Any, X_std: Any, origin: str = "the given") -> tuple[float, float]:
    """Make sure that statistics can be used.

    Parameters
    ----------
    X_mean, X_std : scalar
    origin : str
        Where they come from, for the error.

    Returns
    -------
    X_mean, X_std : float

    Raises
    ------
    UserError
        If they are not one finite number and one finite positive number.
    """
    pair = (X_mean, X_std)
    numbers = all(np.size(v) == 1 and np.asarray(v).dtype.kind in "iuf" for v in pair)
    if numbers:
        mean, std = (float(np.asarray(value).reshape(())) for value in pair)
        if np.isfinite(mean) and np.isfinite(std) and std > 0:
            return mean, std
    shown = " and ".join(" ".join(repr(value).split())[:60] for value in pair)
    raise UserError(
        f"{origin} X_mean and X_std are {shown}, but must be a finite number and a positive one; "
        "compute them with `python -m datasets.blizzard build` or statistics='true'"
    )


def _hann(size: int) -> NDArray[np.float64]:
    """Symmetric Hann window, shape (1, size), not below 1e-4."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / max(size - 1, 1))
    return np.maximum(window[None, :] if size > 1 else np.ones((1, 1)), 1e-4)


def P2R(magnitude: NDArray, phase: NDArray) -> NDArray:
    """Make complex numbers from magnitude and phase."""
    return magnitude * np.exp(1j * phase)


def R2P(x: NDArray) -> tuple[NDArray, NDArray]:
    """Return magnitude and phase of complex numbers."""
    return np.abs(x), np.angle(x)


def is_power2(num: int) -> bool:
    """Say whether a number is a power of two."""
    return num > 0 and num & (num - 1) == 0


if __name__ == "__main__":
    from datasets.build_blizzard import main

    sys.exit(main())
