"""Preprocessing of arrays and of sequences of different lengths.

Counterpart: ``cle/data/prep.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.fftpack
from numpy.typing import ArrayLike, NDArray

Sequences = NDArray | Sequence[NDArray]


class StaticPrepMixin:
    """Preprocessing of data without a time axis: arrays, or lists that make an array.

    Notes
    -----
    Counterpart: ``cle/data/prep.py``, ``StaticPrepMixin``.  Integer division rounds
    down, as in Python 2.  This affects `standardize` of integers.
    """

    def normalize(
        self,
        X: ArrayLike,
        X_mean: ArrayLike | None = None,
        X_std: ArrayLike | None = None,
        axis: int | None = 0,
    ) -> tuple[NDArray, ArrayLike, ArrayLike]:
        """Give each feature zero mean and unit variance.

        Parameters
        ----------
        X : array_like
        X_mean, X_std : array_like, optional
            Statistics to apply; the default is those of `X`, unless both are given.
        axis : int or None
            Axis of the statistics, 0 or None: `X` must broadcast against them.

        Returns
        -------
        X : ndarray of float
        X_mean, X_std : array_like
            Statistics used.
        """
        X = np.asarray(X)
        if X_mean is None or X_std is None:
            X_mean, X_std = X.mean(axis=axis), X.std(axis=axis)
        return _divide(X - X_mean, X_std), X_mean, X_std

    def global_normalize(
        self, X: ArrayLike, X_mean: ArrayLike | None = None, X_std: ArrayLike | None = None
    ) -> tuple[NDArray, ArrayLike, ArrayLike]:
        """Give all entries together zero mean and unit variance; see `normalize`."""
        X = np.asarray(X)
        if X_mean is None or X_std is None:
            X_mean, X_std = X.mean(), X.std()
        return _divide(X - X_mean, X_std), X_mean, X_std

    def standardize(
        self, X: ArrayLike, X_max: ArrayLike | None = None, X_min: ArrayLike | None = None
    ) -> tuple[NDArray, ArrayLike, ArrayLike]:
        """Map the range ``X_min`` to ``X_max`` onto 0 to 1.

        Parameters
        ----------
        X : array_like
        X_max, X_min : scalar, optional
            Range to apply; taken from `X` unless both are given.

        Returns
        -------
        X : ndarray
            Integers stay integers, hence become 0 except at the maximum.
        X_max, X_min : scalar
            Range used.
        """
        X = np.asarray(X)
        if X_max is None or X_min is None:
            X_max, X_min = X.max(), X.min()
        return _divide(X - X_min, np.subtract(X_max, X_min)), X_max, X_min


class SequentialPrepMixin:
    """Preprocessing of sequences of different lengths.

    `X` is a list or an object array of arrays, each (length, ...).  Results are
    object arrays of arrays, or one array if all results have the same shape.

    Notes
    -----
    Counterpart: ``cle/data/prep.py``, ``SequentialPrepMixin``.  Integer division
    rounds down, as in Python 2, so the mean of integer sequences is an integer.
    """

    def norm_normalize(
        self, X: Sequences, avr_norm: float | None = None
    ) -> tuple[list[NDArray], float]:
        """Divide each sequence by the absolute value of its sum.

        Parameters
        ----------
        X : sequence of ndarray
        avr_norm : float, optional
            Divide all sequences by this instead.

        Returns
        -------
        X : list of ndarray
        avr_norm : float
            Mean of the divisors.

        Notes
        -----
        The original means the Euclidean norm, but computes the root of the squared
        sum; this gives the same numbers.  The original overwrites the sequences;
        this does not.  With `avr_norm` the original raises ``UnboundLocalError``.
        """
        if avr_norm is not None:
            return [x / avr_norm for x in X], avr_norm
        norms = [np.sqrt(np.square(x.sum())) for x in X]
        return [x / norm for x, norm in zip(X, norms)], sum(norms) / len(norms)

    def global_normalize(
        self, X: Sequences, X_mean: Any = None, X_std: Any = None
    ) -> tuple[NDArray, Any, Any]:
        """Subtract the mean of all entries and divide by their standard deviation.

        Parameters
        ----------
        X : sequence of ndarray
        X_mean, X_std : scalar, optional
            Statistics to apply; computed from `X` unless both are given.

        Returns
        -------
        X : ndarray
        X_mean, X_std : scalar
            Statistics used.

        Notes
        -----
        The variance is the mean square minus the squared mean.  Both means divide
        by the number of time steps, for any number of features, and round down for
        integers.  Both are as in the original, because its trained models depend on
        them.
        """
        if X_mean is None or X_std is None:
            steps = np.array([len(x) for x in X]).sum()
            X_mean = _divide(np.array([x.sum() for x in X]).sum(), steps)
            X_sqr = _divide(np.array([(x**2).sum() for x in X]).sum(), steps)
            X_std = np.sqrt(X_sqr - X_mean**2)
        return _map(lambda x: _divide(x - X_mean, X_std), X), X_mean, X_std

    def standardize(
        self, X: Sequences, X_max: Any = None, X_min: Any = None
    ) -> tuple[NDArray, Any, Any]:
        """Map the range ``X_min`` to ``X_max`` onto 0 to 1.

        Parameters
        ----------
        X : sequence of ndarray
        X_max, X_min : scalar, optional
            Range to apply; taken from `X` unless both are given.

        Returns
        -------
        X : ndarray
            Integers stay integers, hence become 0 except at the maximum.
        X_max, X_min : scalar
            Range used.
        """
        if X_max is None or X_min is None:
            X_max = np.array([x.max() for x in X]).max()
            X_min = np.array([x.min() for x in X]).min()
        return _map(lambda x: _divide(x - X_min, X_max - X_min), X), X_max, X_min

    def numpy_rfft(self, X: Sequences) -> NDArray:
        """Apply `numpy.fft.rfft` to each sequence: n reals to n // 2 + 1 complex numbers."""
        return _map(np.fft.rfft, X)

    def numpy_irfft(self, X: Sequences) -> NDArray:
        """Apply `numpy.fft.irfft` to each sequence: n complex numbers to 2 (n - 1) reals."""
        return _map(np.fft.irfft, X)

    def rfft(self, X: Sequences) -> NDArray:
        """Apply `scipy.fftpack.rfft` to each sequence: n reals to n reals, parts interleaved."""
        return _map(scipy.fftpack.rfft, X)

    def irfft(self, X: Sequences) -> NDArray:
        """Apply `scipy.fftpack.irfft` to each sequence, the inverse of `rfft`."""
        return _map(scipy.fftpack.irfft, X)

    def stft(self, X: Sequences) -> NDArray:
        """Apply the discrete Fourier transform to each sequence, usually a frame."""
        return _map(np.fft.fft, X)

    def istft(self, X: Sequences) -> NDArray:
        """Return the real part of the inverse Fourier transform of each sequence."""
        return _map(lambda x: np.real(np.fft.ifft(x)), X)

    def fill_zero1D(self, x: ArrayLike, pad_len: int = 0, mode: str = "righthand") -> NDArray:
        """Extend one sequence of scalars with zeros.

        Parameters
        ----------
        x : array_like, shape (length,)
        pad_len : int
            Number of zeros.
        mode : {'righthand', 'lefthand', 'random'}
            Side of the zeros; ``'random'`` puts `pad_len` zeros on both sides.

        Returns
        -------
        ndarray of float

        Raises
        ------
        ValueError
            If `mode` is unknown.
        """
        left, right = _sides(pad_len, mode, both=True)
        return np.concatenate([np.zeros(left), np.asarray(x), np.zeros(right)])

    def fill_zero(
        self,
        X: Sequences,
        pad_len: int = 0,
        mode: str = "righthand",
        rng: np.random.Generator | None = None,
    ) -> NDArray | list[NDArray]:
        """Extend sequences of scalars with zeros.

        Parameters
        ----------
        X : sequence of array_like, each (length,)
        pad_len : int
            Number of zeros; 0 extends every sequence to the length of the longest.
        mode : {'righthand', 'lefthand', 'random'}
            Side of the zeros.  If `pad_len` is 0, ``'random'`` splits the zeros
            between both sides at random; otherwise it puts `pad_len` zeros on both.
        rng : numpy.random.Generator, optional
            Source of random splits; the default is seeded by the system.

        Returns
        -------
        ndarray, shape (sequences, longest length), or list of ndarray
            The array if `pad_len` is 0.

        Raises
        ------
        ValueError
            If `mode` is unknown.

        Notes
        -----
        The original's random split always fails at the longest sequence, which has
        no zeros to split.  It uses NumPy's global generator.
        """
        if pad_len:
            return [self.fill_zero1D(x, pad_len, mode) for x in X]
        longest = max(len(x) for x in X)
        rng = np.random.default_rng() if rng is None else rng
        filled = np.zeros((len(X), longest))
        for row, x in zip(filled, X):
            left, _ = _sides(longest - len(x), mode, both=False, rng=rng)
            row[left : left + len(x)] = x
        return filled

    def reverse(self, X: Sequences) -> list[NDArray]:
        """Reverse each sequence in time."""
        return [x[::-1] for x in X]


def _divide(numerator: Any, denominator: Any) -> Any:
    """Divide as in Python 2: the quotient of integers is rounded down."""
    if all(np.asarray(value).dtype.kind in "iu" for value in (numerator, denominator)):
        return numerator // denominator
    return numerator / denominator


def _map(function: Callable[[Any], NDArray], X: Sequences) -> NDArray:
    """Apply ``function`` to each sequence; return one array if all shapes agree."""
    results = [function(np.asarray(x)) for x in X]
    if len({result.shape for result in results}) <= 1:
        return np.array(results)
    ragged = np.empty(len(results), dtype=object)
    for index, result in enumerate(results):
        ragged[index] = result
    return ragged


def _sides(
    zeros: int, mode: str, both: bool, rng: np.random.Generator | None = None
) -> tuple[int, int]:
    """Return the numbers of zeros on the left and on the right."""
    if mode == "lefthand":
        return zeros, 0
    if mode == "righthand":
        return 0, zeros
    if mode != "random":
        raise ValueError(f"mode must be 'righthand', 'lefthand' or 'random', not {mode!r}")
    if both:
        return zeros, zeros
    assert rng is not None
    left = int(rng.integers(zeros + 1))
    return left, zeros - left
