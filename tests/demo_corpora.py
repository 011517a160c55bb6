"""Help for the tests of the demo corpora."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_normal(errors: NDArray, covariance: NDArray) -> NDArray:
    """Return the log-density of each row of `errors` under N(0, covariance), nats."""
    factor = np.linalg.cholesky(covariance)
    z = np.linalg.solve(factor, errors.T)
    constant = 0.5 * errors.shape[1] * np.log(2 * np.pi) + np.log(np.diag(factor)).sum()
    return -0.5 * np.sum(z**2, axis=0) - constant
