"""Blizzard 2013 as batches of raw audio frames, and the split into training and validation.

``python -m datasets.build blizzard SOURCE OUT`` builds the HDF5 file and its
statistics from a folder of recordings.

Counterpart: ``datasets/blizzard.py``.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.data import TemporalSeries
from cle_port.data.prep import SequentialPrepMixin
from cle_port.errors import UserError
from cle_port.utils import segment_axis
from datasets.grep_blizzard_hdf5 import fetch_blizzard, fetch_blizzard_tbptt
from datasets.hdf5.rows import HDF5Rows, Moments
from datasets.hdf5.statistics import check_statistics, save_statistics

STRIDE = 10000  # rows per step of the running statistics
# The original's file holds training rows, then validation rows, then rows its programs never use.
TRAIN_ROWS = 2040064
VALID_ROWS = 112640
VALID_SHARE = 0.05  # of the rows of a smaller file


class Blizzard(TemporalSeries, SequentialPrepMixin):
    """Batches of normalised audio frames from an HDF5 file of int16 rows.

    Memory holds only the rows of the current batch.

    Parameters
    ----------
    X_mean, X_std : scalar, optional
        Mean and standard deviation that normalise the samples.  If either is
        missing, the class computes both from the file (see `statistics`) and
        saves them beside it.  Spectra do not need them.
    shuffle : bool
        Shuffle the recordings when building the file from ``data_*.npy``.
    seq_len : int
        Samples per row when building the file.  The attribute of that name
        holds the row length of the actual file.
    use_window : bool
        Return overlapping frames under a Hann window.
    use_spec : bool
        Return spectra of such frames: real parts, then imaginary parts.
        log10(m + 1) replaces each magnitude m.  Spectra are not normalised.
    frame_size : int
        Samples per frame.
    overlap : int
        No effect, as in the original: frames overlap by half with `use_window`
        or `use_spec`, otherwise not at all.
    file_name : str
        Name of the HDF5 file in `path`, without ``.h5``.
    name : str, optional
        Name of the data set in the log, such as ``'train'``.
    path : str or path-like
        Folder of the file.
    multi_process : int
        See `cle_port.data.Data`.
    statistics : {'running', 'true'}
        Method for missing statistics: that of the original, or the mean and
        standard deviation of all samples.

    Attributes
    ----------
    data : HDF5Rows
        The rows, int16.
    batch_size_of_file : int or None
        Number of parallel streams in the file, or None if the file does not
        store it.  A state that is carried from batch to batch follows the
        recordings only if training uses this batch size.

    Raises
    ------
    UserError
        If the file or the statistics are missing or unusable, or `frame_size`
        does not fit the rows.

    Notes
    -----
    Counterpart: ``datasets/blizzard.py``, ``Blizzard``.  Differences:

    - `num_examples` counts rows; the original reads the whole file and returns
      the length of a row.
    - `frame_size` must divide the row length; the original drops the remaining
      samples, which interrupts the stream that a carried state follows.
    - Unusable statistics raise an error.
    - The statistics file goes into the folder even if `path` has no trailing
      slash.
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
            raise UserError(f"frame_size {frame_size} is no power of two, but spectra need one")
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
        """Open or build the HDF5 file and determine the statistics; see the class."""
        rows = self.fetch(data_path)
        self.seq_len = rows.shape[1]
        self.batch_size_of_file = rows.attrs.get("batch_size")
        self._check_frames(rows)
        if not self.use_spec:
            given = self.X_mean is not None and self.X_std is not None
            source = (
                "passed to Blizzard" if given else f"computed with statistics={self.statistics!r}"
            )
            if not given:
                self.X_mean, self.X_std = self._compute_statistics(rows)
            self.X_mean, self.X_std = check_statistics(self.X_mean, self.X_std, source)
            if not given:
                save_statistics(data_path, self.file_name, self.X_mean, self.X_std)
        return rows

    def fetch(self, path: str | os.PathLike[str]) -> HDF5Rows:
        """Open or build the file of rows."""
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
        """Raise `ValueError`: a carried state needs the rows in the order of the file."""
        raise ValueError("the rows of an HDF5 file keep their order and cannot be shuffled")

    @property
    def frames_shape(self) -> tuple[int, int]:
        """Number of frames per row, and of numbers per frame."""
        if not (self.use_window or self.use_spec):
            return self.seq_len // self.frame_size, self.frame_size
        step = self.frame_size - self.overlap
        frames = 1 + max(0, -(-(self.seq_len - self.frame_size) // step))
        return frames, 2 * (self.frame_size // 2 + 1) if self.use_spec else self.frame_size

    def theano_vars(self, batch_size: int | None = None) -> TensorVariable:
        """Return the symbolic input for a batch.

        Parameters
        ----------
        batch_size : int, optional
            Batch size to fix in the static shape.

        Returns
        -------
        TensorVariable
            ``x`` of dtype ``floatX`` and static shape (frames, `batch_size`,
            numbers per frame).

        Notes
        -----
        Counterpart: ``Blizzard.theano_vars``, which fixes no shape.
        """
        frames, width = self.frames_shape
        return pt.tensor("x", dtype=pytensor.config.floatX, shape=(frames, batch_size, width))

    def test_theano_vars(self) -> TensorVariable:
        """Return a symbolic matrix ``x`` of dtype ``floatX`` for one frame per row of a batch."""
        return pt.matrix("x", dtype=pytensor.config.floatX)

    def slices(self, start: int, end: int) -> tuple[NDArray]:
        """Read rows ``start`` to ``end`` as one batch.

        Parameters
        ----------
        start, end : int
            Range of rows.

        Returns
        -------
        tuple of one ndarray, shape (frames, rows, numbers per frame), floatX
            Contiguous.

        Raises
        ------
        UserError
            If the file is damaged.
        """
        batch = self.data[start:end].astype(pytensor.config.floatX)
        if self.use_spec:
            batch = self.concatenate(self.log_magnitude(self.apply_fft(batch)))
        else:
            # The original, too, computes in the precision of the batch.
            batch -= np.asarray(self.X_mean, dtype=batch.dtype)
            batch /= np.asarray(self.X_std, dtype=batch.dtype)
            if self.use_window:
                batch = self.apply_window(batch)
            else:
                batch = batch.reshape(len(batch), *self.frames_shape)
        return (np.ascontiguousarray(batch.transpose(1, 0, 2)),)

    def apply_window(self, batch: NDArray) -> NDArray:
        """Cut rows (rows, samples) into windowed frames (rows, frames, frame_size).

        Zeros complete the last frame.
        """
        window = self.window.astype(pytensor.config.floatX)
        frames = [segment_axis(x, self.frame_size, self.overlap, end="pad") for x in batch]
        return window * np.array(frames)

    def apply_fft(self, batch: NDArray) -> NDArray:
        """Return spectra of windowed frames: complex, (rows, frames, frame_size // 2 + 1)."""
        return self.numpy_rfft(self.apply_window(batch))

    def apply_ifft(self, batch: NDArray) -> NDArray:
        """Return the frames of spectra: real, (rows, frames, frame_size)."""
        return self.numpy_irfft(batch)

    def log_magnitude(self, batch: NDArray) -> NDArray:
        """Replace each magnitude m by log10(m + 1) and keep the phase."""
        magnitude, phase = R2P(batch)
        return P2R(np.log10(magnitude + 1.0), phase)

    def pow_magnitude(self, batch: NDArray) -> NDArray:
        """Replace each magnitude m by 10**m - 1, the inverse of `log_magnitude`."""
        magnitude, phase = R2P(batch)
        return P2R(10**magnitude - 1.0, phase)

    def concatenate(self, batch: NDArray) -> NDArray:
        """Join real and imaginary parts along the last axis, with dtype ``floatX``."""
        joined = np.concatenate([batch.real, batch.imag], axis=-1)
        return joined.astype(pytensor.config.floatX)


class Blizzard_tbptt(Blizzard):
    """Blizzard in parallel streams, for truncated backpropagation through time.

    Row ``i * batch_size + j`` is piece ``i`` of stream ``j``.  So example ``j``
    of each batch continues example ``j`` of the previous batch.

    Parameters
    ----------
    batch_size : int
        Number of streams when building the file.
    file_name : str
        Name of the HDF5 file in `path`, without ``.h5``.
    range_start : int
        Start of the running statistics, in strides of 10000 rows (sic).
    range_end : int, optional
        End of the running statistics, in rows, rounded up to whole strides.
    **kwargs
        Passed to `Blizzard`.

    Notes
    -----
    Counterpart: ``datasets/blizzard.py``, ``Blizzard_tbptt``.  The original's
    programs pass neither `batch_size` nor `seq_len`, because their file exists.
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
        """Open or build the file of rows."""
        return fetch_blizzard_tbptt(path, self.seq_len, self.batch_size, self.file_name + ".h5")


class RowRanges(NamedTuple):
    """Rows that a program uses for training, monitoring and validation.

    Attributes
    ----------
    train_end : int
        Training uses rows 0 to `train_end`.
    monitor_rows : int
        Monitoring on training data uses rows 0 to `monitor_rows`.
    valid_start, valid_end : int
        Monitoring on validation data uses rows `valid_start` to `valid_end`.
    """

    train_end: int
    monitor_rows: int
    valid_start: int
    valid_end: int


def row_ranges(n_rows: int, batch_size: int, m_batch_size: int) -> RowRanges:
    """Split the rows of a file into training, validation and test.

    A file of at least 2152704 rows gets the original's split, whatever the batch sizes: rows 0 to
    2040064 for training and the next 112640 rows for validation.  The first 112640 rows serve for
    monitoring on training data.  The rows from 2152704 on remain for a test; later papers report
    results on them.

    In a smaller file, validation gets a twentieth of the rows, rounded down to whole monitoring
    batches, but at least one batch.  Training gets as many whole batches as fit before it.
    Validation directly follows training, so less than one batch remains unused at the end.
    Monitoring on training data uses as many rows as validation.

    Parameters
    ----------
    n_rows : int
        Rows in the file.
    batch_size, m_batch_size : int
        Rows per batch of training and of monitoring.

    Returns
    -------
    RowRanges

    Raises
    ------
    UserError
        If the file has too few rows for one batch of each, or a batch size is
        not positive or exceeds the original's ranges.

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
    """Describe in one line the rows for training, validation and test, and the reason.

    Parameters
    ----------
    rows : RowRanges
        Result of `row_ranges`.
    n_rows : int
        Rows in the file.

    Returns
    -------
    str
    """
    original = TRAIN_ROWS + VALID_ROWS
    n_valid = rows.valid_end - rows.valid_start
    parts = f"{rows.train_end} for training, {n_valid} for validation"
    if n_rows >= original:
        return (
            f"{parts}, {n_rows - original} left for a test: the original's split, because the file "
            f"has at least its {original} rows"
        )
    return f"{parts}: a twentieth, because the file has fewer rows than the original's {original}"


def whole_batches(start: int, end: int, batch_size: int) -> int:
    """Return the ``end`` that keeps an Iterator from reading rows beyond a range.

    `cle_port.data.Iterator` starts batches below ``end - end % batch_size``.  If ``start`` is no
    multiple of the batch size, as for the original's validation, the last batch may pass the end
    of the range and read test rows or leave the file.  The original's batch size avoids this.

    Parameters
    ----------
    start, end : int
        Range of rows.
    batch_size : int
        Rows per batch.

    Returns
    -------
    int
        `end`, or `end` minus one batch if the last batch would pass it.
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
    """Compute the mean and deviation of the samples as the original does.

    The algorithm updates both with one stride of 10000 rows after the other.  It
    omits the squares of the first stride but divides by the number of all
    strides.  So the deviation is too small by a factor sqrt((n - 1) / n) for n
    strides, and 0 for a single one.

    Parameters
    ----------
    rows : HDF5Rows
        Any object with ``len`` and ``blocks(start, stop)``.
    range_start : int
        First stride.
    range_end : int, optional
        End in rows, rounded up to whole strides; default is the end of the file.

    Returns
    -------
    mean, std : float

    Raises
    ------
    UserError
        If a stride has no rows.

    Notes
    -----
    Counterpart: the loops in ``Blizzard.load`` and ``Blizzard_tbptt.load``.  Sums
    are exact here, so results differ in the last digits.
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
    """Return the mean and standard deviation of all samples of a file."""
    moments = _moments(rows, 0, len(rows))
    return moments.mean, moments.std


def _moments(rows: HDF5Rows, start: int, stop: int) -> Moments:
    moments = Moments()
    for block in rows.blocks(start, stop):
        moments.add(block)
    return moments


def _hann(size: int) -> NDArray[np.float64]:
    """Return a symmetric Hann window, shape (1, size), with values of at least 1e-4."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / max(size - 1, 1))
    return np.maximum(window[None, :] if size > 1 else np.ones((1, 1)), 1e-4)


def P2R(magnitude: NDArray, phase: NDArray) -> NDArray:
    """Return complex numbers with the given magnitude and phase."""
    return magnitude * np.exp(1j * phase)


def R2P(x: NDArray) -> tuple[NDArray, NDArray]:
    """Return magnitude and phase of complex numbers."""
    return np.abs(x), np.angle(x)


def is_power2(num: int) -> bool:
    """Tell whether a number is a power of two."""
    return num > 0 and num & (num - 1) == 0
