"""Symbolic helpers.

Counterpart: ``cle/utils/op.py`` and ``cle/utils/gpu_op.py``.
"""

from __future__ import annotations

from functools import reduce

import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable


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


def Gaussian_sample(mu: TensorVariable, sig: TensorVariable, eps: TensorVariable) -> TensorVariable:
    """Draw from N(mu, sig**2) by the reparametrisation z = mu + sig * eps.

    Parameters
    ----------
    mu, sig : tensor of shape (batch, dim)
        Mean and standard deviation.
    eps : tensor of shape (batch, dim)
        Standard normal noise.

    Returns
    -------
    tensor of shape (batch, dim)

    Notes
    -----
    Counterpart: ``cle.utils.op.Gaussian_sample``, which draws ``eps`` itself
    inside the scan.  Here the noise is an input of the graph: recorded noise can be
    replayed, a resumed run continues the noise, and all backends get the same
    numbers (docs/fidelity.md).
    """
    return mu + sig * eps


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
