"""Preparation of arrays and of ragged sequences.

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
    """Preparation of data without time: arrays, or lists that make one.

    Notes
    -----
    Counterpart: ``cle/data/prep.py``, ``StaticPrepMixin``.  As there, integers
    divided by integers are rounded down (Python 2's division), which concerns
    `standardize` of integers.
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
            Statistics to apply; computed from `X` unless both are given.
        axis : int or None
            Axis over which statistics are taken; `X` must broadcast against
            what remains, as it does for 0 and None.

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
        """Give all entries together zero mean and unit variance; otherwise as `normalize`."""
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
    """Preparation of sequences of different lengths.

    `X` is a list or an object array of arrays, each (length, ...).  Results are
    an object array of arrays, or one array where all have the same shape.

    Notes
    -----
    Counterpart: ``cle/data/prep.py``, ``SequentialPrepMixin``.  As there,
    integers divided by integers are rounded down (Python 2's division), so the
    mean of integer sequences is an integer.
    """

    def norm_normalize(
        self, X: Sequences, avr_norm: float | None = None
    ) -> tuple[list[NDArray], float]:
        """Divide each sequence by the absolute value of its sum.

        Parameters
        ----------
        X : sequence of ndarray
        avr_norm : float, optional
            Divide by this instead.

        Returns
        -------
        X : list of ndarray
        avr_norm : float
            Mean of the divisors.

        Notes
        -----
        The original means the Euclidean norm, but takes the root of the
        squared sum; its numbers are kept.  It overwrites the sequences; here
        they are left alone.  With `avr_norm` it raises ``UnboundLocalError``.
        """
        if avr_norm is not None:
            return [x / avr_norm for x in X], avr_norm
        norms = [np.sqrt(np.square(x.sum())) for x in X]
        return [x / norm for x, norm in zip(X, norms)], sum(norms) / len(norms)

    def global_normalize(
        self, X: Sequences, X_mean: Any = None, X_std: Any = None
    ) -> tuple[NDArray, Any, Any]:
        """Subtract one mean from all entries and divide by one deviation.

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
        The variance is the mean square less the squared mean.  The divisor of
        both means is the number of time steps, however many features a step
        has, and for integers the quotient is rounded down: both as in the
        original, since its recorded models depend on them.
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
        """Apply the discrete Fourier transform to each sequence, typically a frame."""
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
            Side; ``'random'`` puts `pad_len` zeros on both.

        Returns
        -------
        ndarray of float

        Raises
        ------
        ValueError
            If `mode` is none of these.
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
            Number of zeros; 0 fills every sequence up to the longest.
        mode : {'righthand', 'lefthand', 'random'}
            Side.  ``'random'`` splits the zeros at random when filling up to
            the longest, and puts `pad_len` zeros on both sides otherwise.
        rng : numpy.random.Generator, optional
            Source of random splits; by default one seeded by the system.

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
        The original's random split always fails, on the longest sequence, for
        which there is nothing to split; it uses NumPy's global generator.
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
        """Turn each sequence round in time."""
        return [x[::-1] for x in X]


def _divide(numerator: Any, denominator: Any) -> Any:
    """Divide as Python 2 does: between integers the quotient is rounded down."""
    if all(np.asarray(value).dtype.kind in "iu" for value in (numerator, denominator)):
        return numerator // denominator
    return numerator / denominator


def _map(function: Callable[[Any], NDArray], X: Sequences) -> NDArray:
    """Apply ``function`` to each sequence; one array if shapes agree, else an object array."""
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
    """Number of zeros on the left and right."""
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
