"""IAM-OnDB as batches of pen movements.

``python -m datasets.build iamondb SOURCE OUT`` builds the HDF5 file from the
published layout of the database.

Counterpart: ``datasets/iamondb.py``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.data import TemporalSeries
from cle_port.data.prep import SequentialPrepMixin
from cle_port.errors import UserError
from datasets.build.iamondb import fetch_iamondb
from datasets.hdf5.lines import SPLITS
from datasets.hdf5.statistics import check_statistics
from datasets.iamondb_utils import N_LABELS, one_hot

PREPS = ("none", "normalize", "standardize")
X_DIM = 3  # pen bit, dx, dy
REMEDY = "give other numbers, or use more or different handwriting"


class IAMOnDB(TemporalSeries, SequentialPrepMixin):
    """Batches of handwritten lines, with the pen bit and two numbers at each time step.

    Parameters
    ----------
    prep : {'none', 'normalize', 'standardize'}
        Numbers that follow the pen bit in a sequence.  ``'normalize'``, which
        the programs use: offset to the next point, minus `X_mean`, divided by
        `X_std`.  ``'none'``: coordinates of the point.  ``'standardize'``:
        pen bit and coordinates mapped to the range 0 to 1 and rounded down.
    cond : bool
        Add the transcripts to the batches.
    X_mean, X_std : scalar, optional
        Statistics of the offsets.  If either is missing, the class computes
        both from this data set, see Notes.
    bias : object, optional
        No effect, as in the original.
    original_masks : bool
        Return a mask of shape (batch, time) if all lines of the data set have
        the same length.  The original does so, and its programs then fail.
    name : {'train', 'valid'}
        Data set to read; also its name in the log.
    path : str or path-like
        Folder with ``iamondb.h5``, or with the original's caches
        (``train_npy_x.npy`` and so on), or with the published layout, from
        which the class builds ``iamondb.h5`` in that folder.
    multi_process : int
        See `cle_port.data.Data`.

    Attributes
    ----------
    data : list of one ndarray of object
        Sequences, each (length, 3): float32 for ``'normalize'``, otherwise int64.
    labels : list of one ndarray of object
        One-hot transcripts, each (characters, 57), int16.
    texts : list of str
        Transcripts.
    X_mean, X_std : scalar
        Statistics of the offsets, even if `prep` does not use them.
    X_max, X_min : int
        Range that ``'standardize'`` maps, including the pen bits.

    Raises
    ------
    UserError
        If the data is missing or unusable, `name` or `prep` has another value,
        or the statistics are not a finite number and a positive one.

    Notes
    -----
    Counterpart: ``datasets/iamondb.py``, ``IAMOnDB``.  As in the original:

    - dx and dy share one mean and one deviation.  The sums over both are
      divided by the number of points and rounded down, so `X_mean` is a whole
      number and `X_std` the square root of one.
    - Normalised offsets, batches and masks are float32, even with
      ``floatX=float64``, because the original declares its inputs so.
    - The pen bit of step t belongs to the point at the end of the offset.

    Differences:

    - Batches and masks are arrays of numbers, not of objects.
    - The mask is (time, batch) even if all lines have the same length, unless
      `original_masks` is set.
    - Any other `name` raises `UserError`; the original fails with
      ``UnboundLocalError``.
    """

    data: list[NDArray]

    def __init__(
        self,
        prep: str = "none",
        cond: bool = False,
        X_mean: ArrayLike | None = None,
        X_std: ArrayLike | None = None,
        bias: Any = None,
        original_masks: bool = False,
        name: str | None = None,
        path: str | os.PathLike[str] | None = None,
        multi_process: int = 0,
    ) -> None:
        if prep not in PREPS:
            raise UserError(f"prep must be one of {', '.join(PREPS)}, not {prep!r}")
        if name not in SPLITS:
            raise UserError(f"name must be 'train' or 'valid', not {name!r}")
        self.prep = prep
        self.cond = cond
        self.X_mean: Any = X_mean
        self.X_std: Any = X_std
        self.bias = bias
        self.original_masks = original_masks
        self._split = name
        super().__init__(name=name, path=path, multi_process=multi_process)

    def load(self, data_path: str | os.PathLike[str] | None) -> list[NDArray]:
        """Read and prepare the lines; see the class."""
        if data_path is None:
            raise UserError("IAMOnDB needs path, the folder with the data")
        lines = fetch_iamondb(data_path, self._split)
        self.texts = [line.text for line in lines]
        raw_X = [line.points for line in lines]
        if self.X_mean is not None and self.X_std is not None:
            check_statistics(self.X_mean, self.X_std, "passed to IAMOnDB", REMEDY)
        offsets = [points[1:, 1:] - points[:-1, 1:] for points in raw_X]
        with np.errstate(all="ignore"):  # the check below refuses unusable statistics
            normalized, self.X_mean, self.X_std = self.global_normalize(
                offsets, self.X_mean, self.X_std
            )
        X: Sequence[NDArray] | NDArray = raw_X
        if self.prep == "normalize":
            check_statistics(self.X_mean, self.X_std, f"computed from {data_path}", REMEDY)
            X = [
                np.concatenate([points[1:, :1], steps], axis=1).astype(np.float32)
                for points, steps in zip(raw_X, normalized)
            ]
        elif self.prep == "standardize":
            X, self.X_max, self.X_min = self.standardize(raw_X)
        return [_object_array(X)]

    @property
    def labels(self) -> list[NDArray]:
        """One-hot transcripts: a list of one object array of (characters, 57), int16."""
        return [_object_array([one_hot(text) for text in self.texts])]

    def theano_vars(self, batch_size: int | None = None) -> list[TensorVariable]:
        """Return the symbolic inputs for a batch.

        Parameters
        ----------
        batch_size : int, optional
            Number of lines to fix in the static shapes.

        Returns
        -------
        list of TensorVariable
            ``x``, static shape (None, `batch_size`, 3), and ``mask``, (None,
            `batch_size`).  If `cond` is set, the inputs of `theano_test_vars`
            follow.  All are float32, whatever ``floatX`` is.

        Notes
        -----
        Counterpart: ``IAMOnDB.theano_vars``, which fixes no shape.
        """
        variables = [_input("x", None, batch_size, X_DIM), _input("mask", None, batch_size)]
        return variables + (self.theano_test_vars(batch_size) if self.cond else [])

    def theano_test_vars(self, batch_size: int | None = None) -> list[TensorVariable]:
        """Return ``y`` (None, `batch_size`, 57), ``label_mask`` (None, `batch_size`): float32."""
        return [_input("y", None, batch_size, N_LABELS), _input("label_mask", None, batch_size)]

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return lines ``start`` to ``end`` as one batch.

        Parameters
        ----------
        start, end : int
            Range of lines.

        Returns
        -------
        x : ndarray, shape (time, batch, 3), float32
            Sequences, padded with zeros to the longest line.
        mask : ndarray, shape (time, batch), float32
            1 within the line, 0 in the padding.
        y : ndarray, shape (characters, batch, 57), float32
            One-hot transcripts, padded in the same way; only if `cond` is set.
        label_mask : ndarray, shape (characters, batch), float32
            Mask of `y`; only if `cond` is set.

        Raises
        ------
        ValueError
            If the range holds no lines.
        """
        lines = self.data[0][start:end]
        if len(lines) == 0:
            raise ValueError(f"no lines {start} to {end} among {self.num_examples()}")
        batch: tuple[NDArray, ...] = self._pad(
            lines, self._has_one_length([len(x) for x in self.data[0]])
        )
        if self.cond:
            texts = _object_array([one_hot(text) for text in self.texts[start:end]])
            batch += self._pad(texts, self._has_one_length([len(text) for text in self.texts]))
        return batch

    def _pad(self, sequences: NDArray, transpose_mask: bool) -> tuple[NDArray, NDArray]:
        padded, mask = self.create_mask_and_zero_pad(sequences)
        if transpose_mask:
            mask = mask.T
        return padded.astype(np.float32), np.ascontiguousarray(mask, dtype=np.float32)

    def _has_one_length(self, lengths: Sequence[int]) -> bool:
        # NumPy turned such sequences into one array, and the original swapped its first two axes.
        return self.original_masks and len(set(lengths)) == 1

    def generate_index(self, X: Sequence[NDArray]) -> NDArray[np.int64]:
        """Return the indices of the time steps of the longest sequence, shape (time,)."""
        return np.arange(max(len(x) for x in X))


def _input(name: str, *shape: int | None) -> TensorVariable:
    return pt.tensor(name, dtype="float32", shape=shape)


def _object_array(sequences: Sequence[NDArray] | NDArray) -> NDArray:
    array = np.empty(len(sequences), dtype=object)
    for index, sequence in enumerate(sequences):
        array[index] = sequence
    return array


def open_iamondb(
    folder: str | os.PathLike[str], batch_size: int | None = None, cond: bool = False
) -> tuple[IAMOnDB, IAMOnDB]:
    """Open training and validation lines for the training programs.

    Parameters
    ----------
    folder : str or path-like
        See `IAMOnDB`.
    batch_size : int, optional
        Check that both have enough lines for a batch of this size.
    cond : bool
        Add the transcripts to the batches.

    Returns
    -------
    train, valid : IAMOnDB
        Offsets, normalised with the statistics of the training lines.

    Raises
    ------
    UserError
        If the data is missing, unusable, or too small.

    Notes
    -----
    Counterpart: the beginning of ``main`` in ``models/iamondb/*.py``.
    """
    train = IAMOnDB(name="train", prep="normalize", cond=cond, path=folder)
    valid = IAMOnDB(
        name="valid",
        prep="normalize",
        cond=cond,
        path=folder,
        X_mean=train.X_mean,
        X_std=train.X_std,
    )
    if batch_size is not None:
        smaller = min(train.num_examples(), valid.num_examples())
        if not 1 <= batch_size <= smaller:
            raise UserError(
                f"batch_size is {batch_size}, but {folder} has {train.num_examples()} lines for "
                f"training and {valid.num_examples()} for validation; use 1 to {smaller}"
            )
    return train, valid
