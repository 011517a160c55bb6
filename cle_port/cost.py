r"""Negative log-likelihoods and Kullback-Leibler divergences, in nats.

All return one number for each row: the sum over the last axis of the data.
Densities, so they may be negative.

Counterpart: ``cle/cost/__init__.py``.
"""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.utils.op import logsumexp


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

    One component is chosen for all dimensions of a row together.

    Parameters
    ----------
    y : tensor of shape (rows, dim)
        Data.
    mu, sig : tensor of shape (rows, dim * K)
        Means and standard deviations (> 0); column d * K + k belongs to
        dimension d of component k.
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


def KLGaussianStdGaussian(mu: TensorVariable, sig: TensorVariable) -> TensorVariable:
    r"""Divergence of a diagonal Gaussian from the standard one.

    .. math:: \tfrac12 \sum_d \Big[ -2\log\sigma_d + \mu_d^2 + \sigma_d^2 - 1 \Big]

    Parameters
    ----------
    mu, sig : tensor of shape (..., dim)
        Mean and standard deviation (> 0).

    Returns
    -------
    tensor of shape (...)

    Notes
    -----
    Counterpart: ``cle.cost.KLGaussianStdGaussian``.
    """
    return pt.sum(0.5 * (-2 * pt.log(sig) + mu**2 + sig**2 - 1), axis=-1)


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
        Mean and standard deviation (> 0) of the first (the posterior phi).
    mu2, sig2 : tensor of shape (..., dim)
        Of the second (the prior).
    keep_dims : int or bool
        Return the terms of the sum instead.

    Returns
    -------
    tensor of shape (...), or (..., dim) with ``keep_dims``

    Notes
    -----
    Counterpart: ``cle.cost.KLGaussianGaussian``.
    """
    kl = 0.5 * (2 * pt.log(sig2) - 2 * pt.log(sig1) + (sig1**2 + (mu1 - mu2) ** 2) / sig2**2 - 1)
    return kl if keep_dims else pt.sum(kl, axis=-1)
