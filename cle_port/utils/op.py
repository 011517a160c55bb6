"""Symbolic helpers.

Counterpart: ``cle/utils/op.py`` and ``cle/utils/gpu_op.py``.
"""

from __future__ import annotations

import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable


def logsumexp(x: TensorVariable, axis: int | None = None) -> TensorVariable:
    """Logarithm of the sum of exponentials, safe against overflow.

    Parameters
    ----------
    x : tensor
    axis : int, optional
        Axis to sum over; None sums over all.

    Returns
    -------
    tensor without ``axis``
        NaN where all entries are -inf, as in the original.

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
    Counterpart: ``cle.utils.op.Gaussian_sample``, which draws ``eps`` itself,
    inside the scan.  PyTensor cannot differentiate through that, so here the
    noise is an input of the graph (docs/fidelity.md).
    """
    return mu + sig * eps
