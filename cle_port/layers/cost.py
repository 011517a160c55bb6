"""Layers that make one number of a cost, and draw from what the cost is about.

Counterpart: ``cle/layers/cost.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import GMM, MSE, Gaussian, NllBin, NllMul
from cle_port.layers import StemCell
from cle_port.utils.op import Gaussian_sample, GMM_argmax_mean, GMM_sample, GMM_sample_mean


class CostLayer(StemCell):
    """Base of the cost layers.

    Parameters
    ----------
    use_sum : bool
        Sum the cost over all rows; otherwise take the mean.
    **kwargs
        See `cle_port.layers.StemCell`.

    Notes
    -----
    Counterpart: ``cle.layers.cost.CostLayer``.  The layers have no parameters.
    """

    def __init__(self, use_sum: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_sum = use_sum

    def fprop(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph; each layer defines its own."""
        raise NotImplementedError(f"{type(self).__name__} does not implement fprop")

    def initialize(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}

    def _total(self, cost: TensorVariable) -> TensorVariable:
        return cost.sum() if self.use_sum else cost.mean()


class BinCrossEntropyLayer(CostLayer):
    """Binary cross-entropy, see `cle_port.cost.NllBin`.

    Parameters
    ----------
    **kwargs
        See `CostLayer`.

    Notes
    -----
    Counterpart: ``cle.layers.cost.BinCrossEntropyLayer``.
    """

    def fprop(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        X : [y, y_hat]
            Bits and predicted probabilities, shape (..., dim).

        Returns
        -------
        scalar

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, ["y", "y_hat"])
        return self._total(NllBin(*X))


class MulCrossEntropyLayer(CostLayer):
    """Cross-entropy of classes, see `cle_port.cost.NllMul`.

    Parameters
    ----------
    **kwargs
        See `CostLayer`.

    Notes
    -----
    Counterpart: ``cle.layers.cost.MulCrossEntropyLayer``.
    """

    def fprop(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        X : [y, y_hat]
            One-hot rows and predicted probabilities, shape (..., dim).

        Returns
        -------
        scalar

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, ["y", "y_hat"])
        return self._total(NllMul(*X))


class MSELayer(CostLayer):
    """Squared error, summed within a row, see `cle_port.cost.MSE`.

    Parameters
    ----------
    **kwargs
        See `CostLayer`.

    Notes
    -----
    Counterpart: ``cle.layers.cost.MSELayer``.
    """

    def fprop(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        X : [y, y_hat]
            Data and prediction, shape (..., dim).

        Returns
        -------
        scalar

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, ["y", "y_hat"])
        y, y_hat = X
        return self._total(MSE(y, y_hat))


class GaussianLayer(CostLayer):
    """Negative log-density of diagonal Gaussians, or draws from them.

    Parameters
    ----------
    use_sample : bool
        Whether `fprop` is `sample`; else it is `cost`.
    **kwargs
        See `CostLayer`.

    Notes
    -----
    Counterpart: ``cle.layers.cost.GaussianLayer``, which draws its noise itself.  Here
    the noise is an input of the graph (docs/fidelity.md).
    """

    NOISE: ClassVar[tuple[str, ...]] = ("eps",)  # arguments of `sample`

    def __init__(self, use_sample: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_sample = use_sample

    def fprop(self, X: Sequence[TensorVariable], **noise: TensorVariable) -> TensorVariable:
        """Build the layer's graph: `sample` with ``use_sample``, else `cost`.

        Parameters
        ----------
        X : list of tensors
            See `sample` and `cost`.
        **noise : tensor
            Noise for `sample`, under the names of its arguments.

        Raises
        ------
        ValueError
            If the number of inputs is wrong, or `sample` lacks noise.
        """
        if not self.use_sample:
            return self.cost(X)
        if missing := [name for name in self.NOISE if name not in noise]:
            raise ValueError(
                f"layer {self.name!r} draws samples; give {' and '.join(missing)}, the noise"
            )
        return self.sample(X, **noise)

    def cost(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Return the negative log-density in nats, see `cle_port.cost.Gaussian`.

        Parameters
        ----------
        X : [y, mu, sig]
            Data, means and standard deviations (> 0), shape (..., dim).

        Returns
        -------
        scalar

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, ["y", "mu", "sig"])
        return self._total(Gaussian(*X))

    def sample(self, X: Sequence[TensorVariable], eps: TensorVariable) -> TensorVariable:
        """Draw from N(mu, sig**2), see `cle_port.utils.op.Gaussian_sample`.

        Parameters
        ----------
        X : [mu, sig]
            Means and standard deviations.
        eps : tensor of the shape of ``mu``
            Standard normal noise.

        Returns
        -------
        tensor of the shape of ``mu``

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, ["mu", "sig"])
        mu, sig = X
        return Gaussian_sample(mu, sig, eps)


class GMMLayer(GaussianLayer):
    """Negative log-density of mixtures of diagonal Gaussians, or draws from them.

    `cle_port.cost.GMM` says how means and standard deviations of K components lie in
    columns.

    Parameters
    ----------
    use_sample : bool
        Whether `fprop` is `sample`; else it is `cost`.
    **kwargs
        See `CostLayer`.

    Notes
    -----
    Counterpart: ``cle.layers.cost.GMMLayer``, which draws component and noise itself; see
    `GaussianLayer`.
    """

    NOISE: ClassVar = ("idx", "eps")

    def cost(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Return the negative log-density in nats, see `cle_port.cost.GMM`.

        Parameters
        ----------
        X : [y, mu, sig, coeff]
            Data, shape (rows, dim); means and standard deviations (> 0) of the
            components, shape (rows, dim * K); their weights, shape (rows, K).

        Returns
        -------
        scalar

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, ["y", "mu", "sig", "coeff"])
        return self._total(GMM(*X))

    def sample(  # type: ignore[override]  # a mixture draws its component, too
        self, X: Sequence[TensorVariable], idx: TensorVariable, eps: TensorVariable
    ) -> TensorVariable:
        """Draw from given components; see `sample_mean`, which also returns their means.

        Returns
        -------
        tensor of shape (rows, dim)
        """
        mu, sig, coeff = self._mixture(X)
        return GMM_sample(mu, sig, coeff, idx, eps)

    def argmax_mean(
        self, X: Sequence[TensorVariable], eps: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        """Draw from the most probable components; see `sample_mean`."""
        mu, sig, coeff = self._mixture(X)
        return GMM_argmax_mean(mu, sig, coeff, eps)

    def sample_mean(
        self, X: Sequence[TensorVariable], idx: TensorVariable, eps: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        """Draw from given components, see `cle_port.utils.op.GMM_sample_mean`.

        Parameters
        ----------
        X : [mu, sig, coeff]
            Means and standard deviations, shape (rows, dim * K); weights, shape
            (rows, K).
        idx : tensor of shape (rows,), integer
            Component of each row, for example from `cle_port.utils.op.multinomial`.
        eps : tensor of shape (rows, dim)
            Standard normal noise.

        Returns
        -------
        z, mu : tensors of shape (rows, dim)
            Draws, and means of the drawn components.

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        mu, sig, coeff = self._mixture(X)
        return GMM_sample_mean(mu, sig, coeff, idx, eps)

    def _mixture(self, X: Sequence[TensorVariable]) -> Sequence[TensorVariable]:
        self._check_count("parent", X, ["mu", "sig", "coeff"])
        return X


class LaplaceLayer(GaussianLayer):
    """Draws from Laplace distributions.

    Parameters
    ----------
    use_sample : bool
        Whether `fprop` is `sample`; else it is `cost`.
    **kwargs
        See `CostLayer`.

    Notes
    -----
    Counterpart: ``cle.layers.cost.LaplaceLayer``.  As there, `cost` is that of
    `GaussianLayer`: the density of another distribution than the draws'.
    `cle_port.cost.Laplace` has theirs.
    """

    NOISE: ClassVar = ("u", "v")

    def sample(  # type: ignore[override]  # a Laplace draw takes two numbers
        self, X: Sequence[TensorVariable], u: TensorVariable, v: TensorVariable
    ) -> TensorVariable:
        """Draw by z = mu + sig * (log u - log v).

        Parameters
        ----------
        X : [mu, sig]
            Medians and scales.
        u, v : tensors of the shape of ``mu``
            Uniform numbers on (0, 1), without 0.

        Returns
        -------
        tensor of the shape of ``mu``

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, ["mu", "sig"])
        mu, sig = X
        return mu + sig * (pt.log(u) - pt.log(v))
