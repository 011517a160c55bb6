"""Symbolic helpers, and NumPy helpers for frames of sound.

Where the original draws random numbers inside the graph, these functions take them as inputs,
see `Gaussian_sample`.  `cle_port.utils.mrg` has the original's generator.

Counterpart: ``cle/utils/op.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.utils import tolist


def dropout(x: TensorVariable, p: float = 0.5, *, u: TensorVariable) -> TensorVariable:
    """Set entries to 0 at random: x where u < p, 0 elsewhere.

    Parameters
    ----------
    x : tensor
    p : float
        Probability to keep an entry.
    u : tensor of the shape of ``x``
        Uniform numbers on [0, 1).

    Returns
    -------
    tensor of the shape and dtype of ``x``

    Raises
    ------
    ValueError
        If ``p`` is outside [0, 1].

    Notes
    -----
    Counterpart: ``cle.utils.op.dropout``, which draws ``u`` itself.  As there,
    ``p`` is the probability to keep, not to drop, and the entries kept are not
    divided by it.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; give a probability between 0 and 1")
    return x * pt.cast(u < p, x.dtype)


def logsumexp(x: TensorVariable, axis: int | None = None) -> TensorVariable:
    """Return the logarithm of a sum of exponentials, without overflow.

    Parameters
    ----------
    x : tensor
    axis : int, optional
        Axis of the sum; None sums over all axes.

    Returns
    -------
    tensor without ``axis``
        NaN if all entries are -inf, as in the original.

    Notes
    -----
    Counterpart: ``cle.utils.op.logsumexp``.
    """
    x_max = pt.max(x, axis=axis, keepdims=True)
    z = pt.log(pt.sum(pt.exp(x - x_max), axis=axis, keepdims=True)) + x_max
    return z.sum(axis=axis)


def add_noise(x: TensorVariable, std_dev: float = 0.075, *, eps: TensorVariable) -> TensorVariable:
    """Add normal noise: x + std_dev * eps.

    Parameters
    ----------
    x : tensor
    std_dev : float
        Standard deviation of the noise.
    eps : tensor of the shape of ``x``
        Standard normal noise.

    Returns
    -------
    tensor of the shape of ``x``

    Notes
    -----
    Counterpart: ``cle.utils.op.add_noise``, which draws ``eps`` itself.
    """
    return x + std_dev * eps


def add_noise_params(
    params: Mapping[str, TensorVariable],
    keys: str | Sequence[str] = ("W",),
    std_dev: float = 0.075,
    *,
    eps: Mapping[str, TensorVariable],
) -> dict[str, TensorVariable]:
    """Add normal noise to the parameters whose names contain one of ``keys``.

    Parameters
    ----------
    params : mapping of str to tensor
        Parameters by name.
    keys : str or list of str
        Parts of the names of those that get noise.
    std_dev : float
        Standard deviation of the noise.
    eps : mapping of str to tensor
        Standard normal noise for each of them, of its shape.

    Returns
    -------
    dict of str to tensor
        All parameters in the same order, with or without noise.

    Raises
    ------
    ValueError
        If ``eps`` has no noise for a parameter that gets some.

    Notes
    -----
    Counterpart: ``cle.utils.op.add_noise_params``, which draws ``eps`` itself.  A
    name that contains two keys gets noise once, as there; the original draws it
    twice and takes the second.
    """
    noisy = [name for name in params if any(key in name for key in tolist(keys))]
    missing = [name for name in noisy if name not in eps]
    if missing:
        raise ValueError(f"eps has no noise for {', '.join(missing)}; give it for all of {noisy}")
    return {
        name: add_noise(p, std_dev, eps=eps[name]) if name in noisy else p
        for name, p in params.items()
    }


def Gaussian_sample(
    mu: TensorVariable,
    sig: TensorVariable,
    eps: TensorVariable,
    num_sample: int | None = None,
) -> TensorVariable:
    """Draw from N(mu, sig**2) by the reparametrisation z = mu + sig * eps.

    Parameters
    ----------
    mu, sig : tensor of shape (batch, dim)
        Mean and standard deviation.
    eps : tensor of shape (batch, dim), or (batch, num_sample, dim)
        Standard normal noise; the second shape for more than one sample.
    num_sample : int, optional
        Number of samples of each row; default 1.

    Returns
    -------
    tensor of the shape of ``eps``

    Raises
    ------
    ValueError
        If there are to be several samples and ``eps`` has another shape.

    Notes
    -----
    Counterpart: ``cle.utils.op.Gaussian_sample``, which draws ``eps`` itself
    inside the scan.  Here the noise is an input of the graph: recorded noise can be
    replayed, a resumed run continues the noise, and all backends get the same
    numbers (docs/fidelity.md).
    """
    if num_sample is None or num_sample == 1:
        return mu + sig * eps
    if eps.ndim != 3 or eps.type.shape[1] not in (None, num_sample):
        raise ValueError(
            f"{num_sample} samples need eps of shape (batch, {num_sample}, dim), "
            f"not of shape {eps.type.shape}"
        )
    return mu.dimshuffle(0, "x", 1) + sig.dimshuffle(0, "x", 1) * eps


def multinomial(coeff: TensorVariable, u: TensorVariable) -> TensorVariable:
    """Draw one component for each row.

    Parameters
    ----------
    coeff : tensor of shape (batch, num_k)
        Probabilities of the components, summing to 1 in each row.
    u : tensor of shape (batch,)
        Uniform numbers on [0, 1).

    Returns
    -------
    tensor of shape (batch,), int64
        First component whose cumulated probability exceeds `u`; the last
        component if rounding leaves none.

    Notes
    -----
    Counterpart: ``MRG_RandomStreams.multinomial`` and ``predict`` in
    ``cle.utils.op.GMM_sample``, which draw ``u`` themselves and take component
    0 if rounding leaves none.
    """
    reached = pt.cumsum(coeff, axis=1)[:, :-1] <= u[:, None]
    return pt.sum(reached, axis=1)


def GMM_sample(
    mu: TensorVariable,
    sig: TensorVariable,
    coeff: TensorVariable,
    idx: TensorVariable,
    eps: TensorVariable,
) -> TensorVariable:
    """Draw from a Gaussian mixture, see `GMM_sample_mean`.

    Notes
    -----
    Counterpart: ``cle.utils.op.GMM_sample``.
    """
    return GMM_sample_mean(mu, sig, coeff, idx, eps)[0]


def GMM_argmax_mean(
    mu: TensorVariable, sig: TensorVariable, coeff: TensorVariable, eps: TensorVariable
) -> tuple[TensorVariable, TensorVariable]:
    """Draw from the most probable component, see `GMM_sample_mean`.

    Notes
    -----
    Counterpart: ``cle.utils.op.GMM_argmax_mean``.
    """
    return GMM_sample_mean(mu, sig, coeff, pt.argmax(coeff, axis=1), eps)


def GMM_sample_mean(
    mu: TensorVariable,
    sig: TensorVariable,
    coeff: TensorVariable,
    idx: TensorVariable,
    eps: TensorVariable,
) -> tuple[TensorVariable, TensorVariable]:
    """Draw from given components of a Gaussian mixture.

    Parameters
    ----------
    mu, sig : tensor of shape (batch, dim * num_k)
        Means and standard deviations; column d * num_k + k is dimension d of
        component k.
    coeff : tensor of shape (batch, num_k)
        Weights; only their shape matters.
    idx : tensor of shape (batch,), integer
        Component of each row, for example from `multinomial`.
    eps : tensor of shape (batch, dim)
        Standard normal noise.

    Returns
    -------
    z, mu : tensors of shape (batch, dim)
        Draws, and means of the drawn components.

    Notes
    -----
    Counterpart: ``cle.utils.op.GMM_sample_mean``, which draws ``idx`` and
    ``eps`` itself; see `Gaussian_sample`.
    """
    mu = component(mu, coeff, idx)
    return Gaussian_sample(mu, component(sig, coeff, idx), eps), mu


def component(v: TensorVariable, coeff: TensorVariable, idx: TensorVariable) -> TensorVariable:
    """Select one component for each row: shape (batch, dim * num_k) to (batch, dim)."""
    num_k = coeff.shape[1]
    v = v.reshape((v.shape[0], v.shape[1] // num_k, num_k))
    return v[pt.arange(v.shape[0]), :, idx]


def not_finite(*values: TensorVariable) -> TensorVariable:
    """Return whether any of these scalars is NaN or infinite.

    No counterpart: the original tests only the norm of the gradients.
    """
    return reduce(pt.or_, (pt.or_(pt.isnan(value), pt.isinf(value)) for value in values))


def overlap_sum(X: ArrayLike, overlap: int) -> NDArray:
    """Add overlapping frames to one signal.

    With w a Hann window, and sums over the frames t that cover an entry::

        signal = (sum of X[t] * w) / max(sum of w**2, 0.01)

    Parameters
    ----------
    X : array_like of shape (timesteps, frame_size)
        Frames; each begins ``overlap`` entries after the one before.
    overlap : int
        Entries from one frame's beginning to the next one's, usually half of
        ``frame_size``.

    Returns
    -------
    ndarray of shape (frame_size + (timesteps - 1) * overlap,), float32

    Raises
    ------
    ValueError
        If ``X`` is not two-dimensional or ``overlap`` is negative.

    Notes
    -----
    Counterpart: ``cle.utils.op.overlap_sum``.  As there, ``overlap`` is the step
    between frames, which is how far they overlap only if it is half of the frame.
    """
    X = _frames(X, 2, overlap)
    w = _hann(X.shape[1])
    norm = _overlap_add(np.broadcast_to(w**2, X.shape), overlap)
    return _overlap_add(X * w, overlap) / np.maximum(norm, np.float32(0.01))


def batch_overlap_sum(X: ArrayLike, overlap: int) -> NDArray:
    """Add overlapping frames to one signal for each sequence of a batch.

    With w a Hann window whose entries are at least 1e-4::

        signal = (sum of X[t] * w) / (sum of w**2)

    So the ends of the signals are not those of `overlap_sum`.

    Parameters
    ----------
    X : array_like of shape (batch, timesteps, frame_size)
        Frames; each begins ``overlap`` entries after the one before.
    overlap : int
        See `overlap_sum`.

    Returns
    -------
    ndarray of shape (batch, frame_size + (timesteps - 1) * overlap), float32

    Raises
    ------
    ValueError
        If ``X`` is not three-dimensional or ``overlap`` is negative.

    Notes
    -----
    Counterpart: ``cle.utils.op.batch_overlap_sum``.
    """
    X = _frames(X, 3, overlap)
    w = np.maximum(_hann(X.shape[2]), 1e-4)
    norm = _overlap_add(np.broadcast_to(w**2, X.shape[1:]), overlap)
    return np.array([_overlap_add(frames * w, overlap) / norm for frames in X])


def complex_to_real(X: ArrayLike) -> NDArray:
    """Put the imaginary parts of complex vectors behind their real parts.

    Parameters
    ----------
    X : array_like of shape (n, dim), complex

    Returns
    -------
    ndarray of shape (n, 2 * dim)

    Notes
    -----
    Counterpart: ``cle.utils.op.complex_to_real``.
    """
    X = np.asarray(X)
    return np.concatenate([X.real, X.imag], axis=1)


def real_to_complex(X: ArrayLike) -> NDArray:
    """Make complex vectors of real ones: the inverse of `complex_to_real`.

    Parameters
    ----------
    X : array_like of shape (n, 2 * dim)

    Returns
    -------
    ndarray of shape (n, dim), complex

    Raises
    ------
    ValueError
        If the vectors have an odd number of entries.

    Notes
    -----
    Counterpart: ``cle.utils.op.real_to_complex``.
    """
    X = np.asarray(X)
    if X.shape[1] % 2:
        raise ValueError(
            f"vectors of {X.shape[1]} entries have no halves; give as many imaginary as real parts"
        )
    real, imag = np.split(X, 2, axis=1)
    return real + imag * 1j


def numpy_rfft(X: ArrayLike) -> NDArray:
    """Return the Fourier transform of real vectors.

    Parameters
    ----------
    X : array_like of shape (n, dim)

    Returns
    -------
    ndarray of shape (n, dim // 2 + 1), complex128

    Notes
    -----
    Counterpart: ``cle.utils.op.numpy_rfft``.
    """
    return np.fft.rfft(np.asarray(X, dtype=np.float64))


def numpy_irfft(X: ArrayLike) -> NDArray:
    """Return real vectors from their Fourier transform.

    Parameters
    ----------
    X : array_like of shape (n, dim), complex

    Returns
    -------
    ndarray of shape (n, 2 * (dim - 1)), float64
        So vectors of odd length do not come back from `numpy_rfft`.

    Notes
    -----
    Counterpart: ``cle.utils.op.numpy_irfft``.
    """
    return np.fft.irfft(np.asarray(X, dtype=np.complex128))


def _frames(X: ArrayLike, ndim: int, overlap: int) -> NDArray:
    X = np.asarray(X)
    if X.ndim != ndim:
        raise ValueError(f"X has {X.ndim} dimensions; give an array of {ndim}")
    if overlap < 0:
        raise ValueError(f"overlap is {overlap}; give the entries between two frames' beginnings")
    return X


def _hann(size: int) -> NDArray:
    """Return the symmetric Hann window by the formula of SciPy 0.15's ``signal.hann``."""
    return (
        0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / (size - 1)) if size > 1 else np.ones(1)
    )


def _overlap_add(frames: NDArray, step: int) -> NDArray:
    """Add up frames of which each begins ``step`` entries later, in single precision."""
    timesteps, frame_size = frames.shape
    total = np.zeros(frame_size + (timesteps - 1) * step, dtype=np.float32)
    for t, frame in enumerate(frames):
        total[t * step : t * step + frame_size] += frame
    return total
