r"""Negative log-likelihoods and Kullback-Leibler divergences, in nats.

All functions return one number for each row: the sum over the last axis of the
data.  Log-likelihoods are those of densities, so the numbers may be negative.

Counterpart: ``cle/cost/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.gradient import zero_grad
from pytensor.tensor.shape import Reshape
from pytensor.tensor.special import Softmax, log_softmax
from pytensor.tensor.variable import TensorVariable

from cle_port.utils import nnet
from cle_port.utils.op import logsumexp

# Theano takes the logarithm of a small integer in single precision.
_LOG_2 = np.log(np.float32(2))


def NllBin(y: TensorVariable, y_hat: TensorVariable) -> TensorVariable:
    r"""Negative log-probability of independent bits: binary cross-entropy.

    .. math:: -\sum_d \Big[ y_d \log \hat y_d + (1 - y_d) \log(1 - \hat y_d) \Big]

    Parameters
    ----------
    y : tensor of shape (..., dim)
        Bits, or probabilities of bits (soft targets).
    y_hat : tensor of shape (..., dim)
        Predicted probabilities of ones.

    Returns
    -------
    tensor of shape (...)

    Notes
    -----
    Counterpart: ``cle.cost.NllBin``.  0 log 0 is 0 here and NaN in the original.

    If ``y_hat`` is the output of a sigmoid, itself or reshaped but no part of it, the
    logarithms are softplus functions of the sigmoid's argument: cost and gradient
    are finite even where the sigmoid is exactly 0 or 1.  Theano's compiler replaces
    them in this way.  So the cost has a gradient by the sigmoid's argument, and none
    by the sigmoid.
    """
    is_reshaped = _is_output_of(y_hat, Reshape)
    sigmoid = y_hat.owner.inputs[0] if is_reshaped else y_hat
    if _is_output_of(sigmoid, nnet.ScalarSigmoid, ps.Sigmoid):
        logs = _logs_of_sigmoid(sigmoid)
        log_one, log_zero = (log.reshape(y_hat.shape) if is_reshaped else log for log in logs)
        return -pt.sum(y * log_one + (1 - y) * log_zero, axis=-1)
    return -pt.sum(_xlogy0(y, y_hat) + _xlogy0(1 - y, 1 - y_hat), axis=-1)


def NllMul(y: TensorVariable, y_hat: TensorVariable) -> TensorVariable:
    r"""Negative log-probability of a class given as a one-hot row: cross-entropy.

    .. math:: -\sum_d y_d \log \hat y_d

    Parameters
    ----------
    y : tensor of shape (..., dim)
        One-hot rows, or probabilities (soft targets).
    y_hat : tensor of shape (..., dim)
        Predicted probabilities, summing to 1 in each row.

    Returns
    -------
    tensor of shape (...)

    Notes
    -----
    Counterpart: ``cle.cost.NllMul``.  0 log 0 is 0 here and NaN in the original.

    If ``y_hat`` is the output of a softmax itself, the logarithm is computed from the
    softmax's argument: cost and gradient are finite even where the softmax is
    exactly 0.
    """
    return -pt.sum(_xlogy0(y, y_hat), axis=-1)


def NllMulInd(y: TensorVariable, y_hat: TensorVariable) -> TensorVariable:
    r"""Negative log-probability of a class given as its index.

    .. math:: -\log \hat y_{y}

    Parameters
    ----------
    y : tensor of shape (rows,) or (rows, 1)
        Indices of classes, of any dtype.
    y_hat : tensor of shape (rows, dim)
        Predicted probabilities, summing to 1 in each row.

    Returns
    -------
    tensor of shape (rows,)

    Raises
    ------
    ValueError
        If ``y_hat`` is not a matrix.

    Notes
    -----
    Counterpart: ``cle.cost.NllMulInd``, which takes the probability from another row
    if an index is not one of the columns.  See `NllMul` for the output of a softmax.
    """
    if y_hat.ndim != 2:
        raise ValueError(
            f"y_hat has {y_hat.ndim} axes; give a matrix, with one row for each index of y"
        )
    return -_log(y_hat)[pt.arange(y.shape[0]), pt.cast(y.flatten(), "int64")]


def MSE(y: TensorVariable, y_hat: TensorVariable, use_sum: int | bool = 1) -> TensorVariable:
    r"""Squared error of each row.

    .. math:: \sum_d (y_d - \hat y_d)^2

    Parameters
    ----------
    y, y_hat : tensor of shape (..., dim)
        Data and prediction.
    use_sum : int or bool
        Sum over the last axis; otherwise the mean.

    Returns
    -------
    tensor of shape (...)

    Notes
    -----
    Counterpart: ``cle.cost.MSE``.
    """
    error = pt.sqr(y - y_hat)
    return pt.sum(error, axis=-1) if use_sum else pt.mean(error, axis=-1)


def Laplace(y: TensorVariable, mu: TensorVariable, sig: TensorVariable) -> TensorVariable:
    r"""Negative log-density of independent Laplace distributions.

    .. math:: \sum_d \Big[ |y_d-\mu_d| / \sigma_d + \log\sigma_d + \log 2 \Big]

    Parameters
    ----------
    y : tensor of shape (..., dim)
        Data.
    mu, sig : tensor of shape (..., dim)
        Median and scale (> 0); the scale is the mean distance from the median.

    Returns
    -------
    tensor of shape (...)

    Notes
    -----
    Counterpart: ``cle.cost.Laplace``.  As there, log 2 has single precision in
    every precision: 1.9e-9 too much for each dimension.
    """
    return pt.sum(abs(y - mu) / sig + pt.log(sig) + _LOG_2, axis=-1)


def Gaussian(y: TensorVariable, mu: TensorVariable, sig: TensorVariable) -> TensorVariable:
    r"""Negative log-density of a Gaussian with a diagonal covariance.

    .. math:: \tfrac12 \sum_d \Big[ (y_d-\mu_d)^2/\sigma_d^2
              + 2\log\sigma_d + \log 2\pi \Big]

    Parameters
    ----------
    y : tensor of shape (..., dim)
        Data.
    mu, sig : tensor of shape (..., dim)
        Mean and standard deviation (> 0).

    Returns
    -------
    tensor of shape (...)

    Notes
    -----
    Counterpart: ``cle.cost.Gaussian``.
    """
    return 0.5 * pt.sum(pt.sqr(y - mu) / sig**2 + 2 * pt.log(sig) + pt.log(2 * np.pi), axis=-1)


def GMM(
    y: TensorVariable, mu: TensorVariable, sig: TensorVariable, coeff: TensorVariable
) -> TensorVariable:
    r"""Negative log-density of a mixture of K diagonal Gaussians.

    .. math:: -\log \sum_k \alpha_k
              \prod_d \mathcal N(y_d; \mu_{dk}, \sigma_{dk}^2)

    All dimensions of a row share one component.

    Parameters
    ----------
    y : tensor of shape (rows, dim)
        Data.
    mu, sig : tensor of shape (rows, dim * K)
        Means and standard deviations (> 0); column d * K + k is dimension d of
        component k.
    coeff : tensor of shape (rows, K)
        Weights of the components, summing to 1 in each row.

    Returns
    -------
    tensor of shape (rows,)

    Notes
    -----
    Counterpart: ``cle.cost.GMM``.
    """
    n_component = coeff.shape[-1]
    shape = (mu.shape[0], mu.shape[1] // n_component, n_component)
    y = y[:, :, None]
    mu = mu.reshape(shape)
    sig = sig.reshape(shape)
    inner = -0.5 * pt.sum(pt.sqr(y - mu) / sig**2 + 2 * pt.log(sig) + pt.log(2 * np.pi), axis=1)
    return -logsumexp(pt.log(coeff) + inner, axis=1)


def BiGauss(
    y: TensorVariable,
    mu: TensorVariable,
    sig: TensorVariable,
    corr: TensorVariable,
    binary: TensorVariable,
) -> TensorVariable:
    r"""Negative log-density of a pen offset under one correlated Gaussian, and of the pen bit.

    .. math:: -\log \mathcal N\big((y_1, y_2); \mu, \sigma, \rho\big)
              - y_0 \log b - (1 - y_0) \log(1 - b)

    Parameters
    ----------
    y : tensor of shape (rows, 3)
        Pen-up bit, offset in x, offset in y.
    mu, sig : tensor of shape (rows, 2)
        Means and standard deviations (> 0) of the offsets.
    corr : tensor of shape (rows, 1)
        Correlation of the offsets, in (-1, 1).
    binary : tensor of shape (rows, 1)
        Probability of pen-up.

    Returns
    -------
    tensor of shape (rows,)

    Notes
    -----
    Counterpart: ``cle.cost.BiGauss``.  The gradient of 0 log 0 = 0 is 0 here and
    NaN in the original (see `_xlogy0`).
    """
    corr = corr.reshape((-1, 1))
    log_pdf = _log_bivariate(
        y[:, 1:2], y[:, 2:3], mu[:, 0:1], mu[:, 1:2], sig[:, 0:1], sig[:, 1:2], corr
    )
    return -pt.sum(log_pdf, axis=1) - _log_bernoulli(y[:, 0:1], binary)


def BiGMM(
    y: TensorVariable,
    mu: TensorVariable,
    sig: TensorVariable,
    coeff: TensorVariable,
    corr: TensorVariable,
    binary: TensorVariable,
) -> TensorVariable:
    r"""Negative log-density of a pen offset under a mixture of correlated Gaussians.

    .. math:: -\log \sum_k \alpha_k
              \mathcal N\big((y_1, y_2); \mu_k, \sigma_k, \rho_k\big)
              - y_0 \log b - (1 - y_0) \log(1 - b)

    Parameters
    ----------
    y : tensor of shape (rows, 3)
        Pen-up bit, offset in x, offset in y.
    mu, sig : tensor of shape (rows, 2 * K)
        Means and standard deviations (> 0): K columns for the offset in x, then
        K columns for the offset in y.
    coeff : tensor of shape (rows, K)
        Weights of the components, summing to 1 in each row.
    corr : tensor of shape (rows, K)
        Correlations, in (-1, 1).
    binary : tensor of shape (rows, 1)
        Probability of pen-up.

    Returns
    -------
    tensor of shape (rows,)

    Notes
    -----
    Counterpart: ``cle.cost.BiGMM``.  See `BiGauss` for gradients at 0 log 0.
    """
    n_component = coeff.shape[-1]
    shape = (mu.shape[0], mu.shape[1] // n_component, n_component)
    mu = mu.reshape(shape)
    sig = sig.reshape(shape)
    # The shape of y[:, 1, None] says that it broadcasts over the components; 1:2 would not.
    y1, y2 = y[:, 1, None], y[:, 2, None]
    log_pdf = _log_bivariate(y1, y2, mu[:, 0], mu[:, 1], sig[:, 0], sig[:, 1], corr)
    return -logsumexp(pt.log(coeff) + log_pdf, axis=1) - _log_bernoulli(y[:, 0:1], binary)


def _log_bivariate(
    y1: TensorVariable,
    y2: TensorVariable,
    mu_1: TensorVariable,
    mu_2: TensorVariable,
    sig_1: TensorVariable,
    sig_2: TensorVariable,
    corr: TensorVariable,
) -> TensorVariable:
    """Return the log-density of a Gaussian of two correlated dimensions, elementwise.

    This keeps the original's formula, because the numbers depend on it: it loses
    digits near the mean if the correlation is close to -1 or 1.
    """
    inner1 = 0.5 * pt.log(1 - corr**2) + pt.log(sig_1) + pt.log(sig_2) + pt.log(2 * np.pi)
    z = (
        ((y1 - mu_1) / sig_1) ** 2
        + ((y2 - mu_2) / sig_2) ** 2
        - (2.0 * (corr * (y1 - mu_1) * (y2 - mu_2)) / (sig_1 * sig_2))
    )
    inner2 = 0.5 * (1.0 / (1.0 - corr**2))
    return -(inner1 + inner2 * z)


def _log_bernoulli(y: TensorVariable, p: TensorVariable) -> TensorVariable:
    """Return the log-probability of bits y under probabilities p, summed over columns."""
    return pt.sum(_xlogy0(y, p) + _xlogy0(1 - y, 1 - p), axis=1)


def _xlogy0(x: TensorVariable, y: TensorVariable) -> TensorVariable:
    """Return x log y, and 0 where x is 0, for any y.

    The logarithm gets 1 instead of y where x is 0, so the gradient is 0 there,
    too (Theano's ``xlogy0`` has 0/0 at x = y = 0).  That of a softmax needs no help.
    """
    counts = pt.neq(x, 0)
    y = y if _is_output_of(y, Softmax) else pt.switch(counts, y, 1)
    return pt.switch(counts, x * _log(y), 0)


def _log(p: TensorVariable) -> TensorVariable:
    """Return log p; if p is the output of a softmax, from the softmax's argument."""
    if _is_output_of(p, Softmax):
        return log_softmax(p.owner.inputs[0], axis=p.owner.op.axis)
    return pt.log(p)


def _logs_of_sigmoid(p: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
    """Return log p and log(1 - p) from the argument of the sigmoid that makes p.

    Theano takes the gradient of log p, which is 1 - p, before it replaces log p by
    -softplus(-x).  The gradient of the latter, sigmoid(-x), saturates elsewhere: it
    would be up to 5.6e-9 off.  So log p gets its gradient from x - softplus(x).
    """
    (x,) = p.owner.inputs
    softplus = nnet.softplus if _is_output_of(p, nnet.ScalarSigmoid) else pt.softplus
    same = x - softplus(x)
    return same + zero_grad(-softplus(-x) - same), -softplus(x)


def _is_output_of(x: TensorVariable, *kinds: type) -> bool:
    """Return whether an operation of one of these kinds makes ``x``."""
    op = x.owner.op if x.owner else None
    return isinstance(getattr(op, "scalar_op", op), kinds)


def KLGaussianStdGaussian(
    mu: TensorVariable, sig: TensorVariable, keep_dims: int | bool = 0
) -> TensorVariable:
    r"""Kullback-Leibler divergence of a diagonal Gaussian from the standard Gaussian.

    .. math:: \tfrac12 \sum_d \Big[ -2\log\sigma_d + \mu_d^2 + \sigma_d^2 - 1 \Big]

    Parameters
    ----------
    mu, sig : tensor of shape (..., dim)
        Mean and standard deviation (> 0).
    keep_dims : int or bool
        Return the terms of the sum instead of the sum, as `KLGaussianGaussian` does.

    Returns
    -------
    tensor of shape (...), or (..., dim) with ``keep_dims``

    Notes
    -----
    Counterpart: ``cle.cost.KLGaussianStdGaussian``, without ``keep_dims``.
    """
    kl = 0.5 * (-2 * pt.log(sig) + mu**2 + sig**2 - 1)
    return kl if keep_dims else pt.sum(kl, axis=-1)


def KLGaussianGaussian(
    mu1: TensorVariable,
    sig1: TensorVariable,
    mu2: TensorVariable,
    sig2: TensorVariable,
    keep_dims: int | bool = 0,
) -> TensorVariable:
    r"""Divergence KL(N1 || N2) between two diagonal Gaussians.

    .. math:: \tfrac12 \sum_d \Big[ 2\log\sigma_{2d} - 2\log\sigma_{1d}
              + \frac{\sigma_{1d}^2 + (\mu_{1d}-\mu_{2d})^2}{\sigma_{2d}^2} - 1 \Big]

    Parameters
    ----------
    mu1, sig1 : tensor of shape (..., dim)
        Mean and standard deviation (> 0) of the first Gaussian (the posterior phi).
    mu2, sig2 : tensor of shape (..., dim)
        Mean and standard deviation (> 0) of the second Gaussian (the prior).
    keep_dims : int or bool
        Return the terms of the sum instead of the sum.

    Returns
    -------
    tensor of shape (...), or (..., dim) with ``keep_dims``

    Notes
    -----
    Counterpart: ``cle.cost.KLGaussianGaussian``.
    """
    kl = 0.5 * (2 * pt.log(sig2) - 2 * pt.log(sig1) + (sig1**2 + (mu1 - mu2) ** 2) / sig2**2 - 1)
    return kl if keep_dims else pt.sum(kl, axis=-1)


def grbm_free_energy(
    v: TensorVariable, W: TensorVariable, X: Sequence[TensorVariable]
) -> TensorVariable:
    r"""Free energy of a restricted Boltzmann machine with Gaussian visible units.

    .. math:: \tfrac12 \sum_d \frac{(v_d - b_d)^2}{\sigma_d^2}
              - \sum_j \log\Big(1 + e^{(v / \sigma) W_{\cdot j} + c_j}\Big)

    Parameters
    ----------
    v : tensor of shape (rows, dim)
        Visible units.
    W : tensor of shape (dim, hidden)
        Weights.
    X : list of three tensors
        Biases c of the hidden units, shape (hidden,); biases b and standard
        deviations (> 0) of the visible units, shape (dim,).

    Returns
    -------
    tensor of shape (rows,)

    Notes
    -----
    Counterpart: ``cle.cost.grbm_free_energy``, whose log(1 + exp(x)) Theano replaces by
    its softplus.
    """
    bh, bx, x_sig = X
    bias_term = 0.5 * pt.sum(((v - bx) / x_sig) ** 2, axis=1)
    hidden_term = pt.sum(nnet.softplus(pt.dot(v / x_sig, W) + bh), axis=1)
    return bias_term - hidden_term
