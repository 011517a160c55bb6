"""Layers without a state.

Counterpart: ``cle/layers/feedforward.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import InitCell, StemCell, first_columns


class _FeedForward(StemCell):
    """Base of layers that begin with a sum over their parents."""

    def _ndim(self, X: Sequence[TensorVariable], ndim: int | None) -> int:
        """Return the number of axes of the output: by default that of the largest input."""
        self._check_count("parent", X, self.parent)
        return max(2, *(x.ndim for x in X)) if ndim is None else ndim

    def _input_sum(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        ndim: int,
        suffix: str = "",
    ) -> TensorVariable:
        """Return the sum over parents of x W, with ``ndim`` axes."""
        terms = [
            self._product(x, parout, tparams[f"W_{parname}__{self.name}{suffix}"], ndim)
            for x, (parname, parout) in zip(X, self.parent.items())
        ]
        return reduce(add, terms)

    def _product(
        self, x: TensorVariable, parout: int, W: TensorVariable, ndim: int
    ) -> TensorVariable:
        """Return x W, or the rows W[x] for indices, with ``ndim`` axes."""
        if x.ndim == 1:
            product = W[x if "int" in x.dtype else pt.cast(x, "int64")]
        elif x.ndim <= 3:
            product = pt.dot(first_columns(x, parout), W)
        else:
            raise ValueError(f"layer {self.name!r} got an input of {x.ndim} axes, at most 3 work")
        if product.ndim > ndim:
            raise ValueError(f"layer {self.name!r} got an input of {x.ndim} axes for ndim={ndim}")
        return product[None, :, :] if product.ndim < ndim else product


class FullyConnectedLayer(_FeedForward):
    """unit(sum over parents of x W + b) + cons.

    Parameters
    ----------
    **kwargs
        See `cle_port.layers.StemCell`.

    Notes
    -----
    Counterpart: ``cle.layers.feedforward.FullyConnectedLayer``.  The original
    adds the products to a tensor of zeros; this sum gives the same numbers without
    it.
    """

    def fprop(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        ndim: int | None = None,
    ) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        X : list of tensors, one for each parent
            Float tensors of shape (time, batch, dim) or (batch, dim); the layer
            uses the first ``parent_dim`` columns.  Vectors of shape (batch,) are
            indices of rows of W, cast to int64.  A parent with fewer axes than
            the output is repeated over time.
        tparams : mapping of str to tensor
            Parameters by name.
        ndim : {2, 3}, optional
            Number of axes of the output; the default is the largest number of
            a parent, at least 2.  (The original fails if it is given.)

        Returns
        -------
        tensor of shape (time, batch, nout) or (batch, nout)

        Raises
        ------
        ValueError
            If the number of inputs is wrong, or an input has more than 3 axes or
            more than the output.
        """
        ndim = self._ndim(X, ndim)
        z = self._input_sum(X, tparams, ndim)
        if self.use_bias:
            z = z + tparams[f"b_{self.name}"]
        z = self.nonlin(z)
        if self.cons:
            z = z + self.cons
        z.name = self.name
        return z


class VeryDeepFullyConnectedLayer(_FeedForward):
    """``num_layers`` fully connected layers of ``nout`` units each, one after the other.

    The first one sums over its parents; each later one computes
    unit(z W_l + b_l) from the one before.

    Parameters
    ----------
    num_layers : int
        Number of layers, at least 1.
    **kwargs
        See `cle_port.layers.StemCell`; ``cons`` is without effect, and ``use_bias``
        is for the first layer only (the original fails without a bias).

    Notes
    -----
    Counterpart: ``cle.layers.feedforward.VeryDeepFullyConnectedLayer``.

    `initialize` makes these parameters, in this order:
    ``W_<parent>__<name>_h1`` of shape (parent_dim, nout) for each parent,
    ``b_<name>_h1`` of shape (nout,); then, for l = 1 to num_layers - 1,
    ``<name>_W_h<l>__h<l+1>`` of shape (nout, nout) and ``<name>_b_h<l>__h<l+1>``
    of shape (nout,).
    """

    def __init__(self, num_layers: int, **kwargs: Any) -> None:
        self.num_layers = num_layers
        super().__init__(**kwargs)

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        params = self._initialize_first()
        for step in self._steps():
            params[f"{self.name}_W_{step}"] = self.init_W.get((self.nout, self.nout))
            params[f"{self.name}_b_{step}"] = self.init_b.get(self.nout)
        return params

    def fprop(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        ndim: int | None = None,
    ) -> TensorVariable:
        """Build the layer's graph; see `FullyConnectedLayer.fprop` for arguments and errors.

        Returns
        -------
        tensor of shape (batch, nout)
            (time * batch, nout) if an input has three axes: as in the original, time
            and batch are merged and stay so.
        """
        z = self._first(X, tparams, ndim)
        for step in self._steps():
            z = self.nonlin(self._affine(z, tparams, "W", "b", step))
        z.name = self.name
        return z

    def _steps(self) -> list[str]:
        """Return the last parts of the names of parameters, for each layer after the first."""
        return [f"h{i}__h{i + 1}" for i in range(1, self.num_layers)]

    def _initialize_first(self) -> dict[str, NDArray]:
        """Draw the parameters of the first layer."""
        params = {
            f"W_{parname}__{self.name}_h1": self.init_W.get((parout, self.nout))
            for parname, parout in self.parent.items()
        }
        if self.use_bias:
            params[f"b_{self.name}_h1"] = self.init_b.get(self.nout)
        return params

    def _first(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        ndim: int | None,
    ) -> TensorVariable:
        """Return the first layer's output, with two axes."""
        z = self._input_sum(X, tparams, self._ndim(X, ndim), "_h1")
        if self.use_bias:
            z = z + tparams[f"b_{self.name}_h1"]
        if z.ndim == 3:
            z = z.reshape((z.shape[0] * z.shape[1], self.nout))
        return self.nonlin(z)

    def _affine(
        self, z: TensorVariable, tparams: Mapping[str, TensorVariable], W: str, b: str, step: str
    ) -> TensorVariable:
        """Return z W + b with the parameters of a layer after the first."""
        return pt.dot(z, tparams[f"{self.name}_{W}_{step}"]) + tparams[f"{self.name}_{b}_{step}"]


class HighwayNet(VeryDeepFullyConnectedLayer):
    """A deep stack whose layers carry part of their input over (Srivastava et al., 2015).

    The first layer is fully connected.  With the gate t, each later one computes::

        t = sigmoid(z C_l + b_C_l)
        z <- t * unit(z W_l + b_l) + (1 - t) * z

    Parameters
    ----------
    num_layers : int
        Number of layers, at least 1.
    init_b_C : InitCell
        Initial values of the gates' biases; the default, -3, carries nearly everything
        over.
    **kwargs
        See `VeryDeepFullyConnectedLayer`.

    Notes
    -----
    Counterpart: ``cle.layers.feedforward.HighwayNet``.

    Parameters are those of `VeryDeepFullyConnectedLayer`, with
    ``<name>_C_h<l>__h<l+1>`` after each W and ``<name>_b_C_h<l>__h<l+1>`` after each
    b, of the same shapes.
    """

    def __init__(self, num_layers: int, init_b_C: InitCell | None = None, **kwargs: Any) -> None:
        super().__init__(num_layers, **kwargs)
        self.init_b_C = InitCell("const", mean=-3) if init_b_C is None else init_b_C

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        params = self._initialize_first()
        for step in self._steps():
            params[f"{self.name}_W_{step}"] = self.init_W.get((self.nout, self.nout))
            params[f"{self.name}_C_{step}"] = self.init_W.get((self.nout, self.nout))
            params[f"{self.name}_b_{step}"] = self.init_b.get(self.nout)
            params[f"{self.name}_b_C_{step}"] = self.init_b_C.get(self.nout)
        return params

    def fprop(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        ndim: int | None = None,
    ) -> TensorVariable:
        """Build the layer's graph; see `VeryDeepFullyConnectedLayer.fprop`."""
        z = self._first(X, tparams, ndim)
        for step in self._steps():
            transform = self.sigmoid(self._affine(z, tparams, "C", "b_C", step))
            new = self.nonlin(self._affine(z, tparams, "W", "b", step))
            z = new * transform + z * (1 - transform)
        z.name = self.name
        return z


class GRBM(StemCell):
    """Restricted Boltzmann machine with Gaussian visible and binary hidden units.

    The energy of visible units v and hidden units h is::

        E(v, h) = sum_d (v_d - bx_d)^2 / (2 sigma_d^2) - (v / sigma^2) W h - bh h

    so that p(h = 1 | v) = sigmoid((v / sigma^2) W + bh), and v given h is Gaussian
    with mean h W^T + bx and standard deviation sigma.

    Parameters
    ----------
    k_step : int
        Steps of Gibbs sampling in `fprop`, at least 1.
    **kwargs
        See `cle_port.layers.StemCell`; ``nout`` is the number of hidden units.  There
        are four parents: the visible units v; the biases bh and bx; the standard
        deviations sigma.

    Raises
    ------
    ValueError
        If ``k_step`` is below 1, or the number of parents is not 4.

    Notes
    -----
    Counterpart: ``cle.layers.feedforward.GRBM``, which does not run: calls lack
    ``tparams``, and the free energy lacks the weights.  These methods are ours; they
    do what those plainly mean.  Noise is an argument of every method that draws.

    `initialize` makes ``W_<first parent>__<name>`` of shape (dim, nout).
    """

    def __init__(self, k_step: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k_step = k_step
        if k_step < 1:
            raise ValueError(f"layer {self.name!r} has k_step={k_step}; give at least 1")
        if len(self.parent) != 4:
            raise ValueError(
                f"layer {self.name!r} has {len(self.parent)} parents; give four: visible units, "
                "biases of hidden units, biases and standard deviations of visible units"
            )
        self._visible, self._dim = next(iter(self.parent.items()))

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of the weights, float64."""
        return {f"W_{self._visible}__{self.name}": self.init_W.get((self._dim, self.nout))}

    def fprop(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        *,
        noise: Sequence[tuple[TensorVariable, TensorVariable]],
    ) -> tuple[TensorVariable, TensorVariable]:
        """Build ``k_step`` steps of Gibbs sampling.

        Parameters
        ----------
        X : list of four tensors
            Visible units v, shape (rows, dim), of which the layer uses the first ``dim``
            columns; biases bh, shape (nout,) or (rows, nout); biases bx and standard
            deviations sigma (> 0), shape (dim,) or (rows, dim).
        tparams : mapping of str to tensor
            Parameters by name.
        noise : list of pairs of tensors, one pair for each step
            u and eps, see `gibbs_step`.

        Returns
        -------
        v, h : tensors of shapes (rows, dim) and (rows, nout)
            The last draws.

        Raises
        ------
        ValueError
            If the number of inputs is wrong, or not ``k_step`` pairs of noise are given.
        """
        self._check_count("parent", X, self.parent)
        if len(noise) != self.k_step:
            raise ValueError(
                f"layer {self.name!r} got noise for {len(noise)} steps; give k_step={self.k_step} "
                "pairs (u, eps)"
            )
        v, bh, bx, x_sig = X
        for u, eps in noise:
            _, v, _, h = self.gibbs_step(v, bh, bx, x_sig, tparams, u=u, eps=eps)
        return v, h

    def gibbs_step(
        self,
        x: TensorVariable,
        bh: TensorVariable,
        bx: TensorVariable,
        x_sig: TensorVariable,
        tparams: Mapping[str, TensorVariable],
        *,
        u: TensorVariable,
        eps: TensorVariable,
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable, TensorVariable]:
        """Draw the hidden units given the visible ones, then visible ones given those.

        Parameters
        ----------
        x, bh, bx, x_sig, tparams
            v, bh, bx, sigma and parameters, see `fprop`.
        u : tensor of shape (rows, nout)
            Uniform on [0, 1).
        eps : tensor of shape (rows, dim)
            Standard normal.

        Returns
        -------
        v_mean, v, h_mean, h : tensors
            Means and draws, shapes (rows, dim) and (rows, nout).
        """
        h_mean = self.sigmoid(self._hidden_input(x, bh, x_sig, tparams))
        h = pt.cast(u < h_mean, h_mean.dtype)
        v_mean = pt.dot(h, self._W(tparams).T) + bx
        return v_mean, v_mean + x_sig * eps, h_mean, h

    def free_energy(
        self,
        v: TensorVariable,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
    ) -> TensorVariable:
        """Return -log(sum over h of exp(-E(v, h))) of each row.

        Parameters
        ----------
        v : tensor of shape (rows, dim)
        X, tparams
            See `fprop`; the first of X has no effect.

        Returns
        -------
        tensor of shape (rows,)

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, self.parent)
        _, bh, bx, x_sig = X
        squared_term = 0.5 * pt.sqr((bx - first_columns(v, self._dim)) / x_sig)
        hidden_term = self.softplus(self._hidden_input(v, bh, x_sig, tparams))
        return squared_term.sum(axis=1) - hidden_term.sum(axis=1)

    def cost(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        *,
        u: TensorVariable,
        eps: TensorVariable,
    ) -> TensorVariable:
        """Return the cost of contrastive divergence, a scalar.

        It is the mean over rows of the free energy of the data minus that of a draw of
        one Gibbs step, which is a constant for gradients.

        Parameters
        ----------
        X, tparams, u, eps
            See `fprop` and `gibbs_step`.

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, self.parent)
        x, bh, bx, x_sig = X
        _, v, _, _ = self.gibbs_step(x, bh, bx, x_sig, tparams, u=u, eps=eps)
        v = disconnected_grad(v)
        return (self.free_energy(x, X, tparams) - self.free_energy(v, X, tparams)).mean()

    def _W(self, tparams: Mapping[str, TensorVariable]) -> TensorVariable:
        return tparams[f"W_{self._visible}__{self.name}"]

    def _hidden_input(
        self,
        v: TensorVariable,
        bh: TensorVariable,
        x_sig: TensorVariable,
        tparams: Mapping[str, TensorVariable],
    ) -> TensorVariable:
        """Return (v / sigma^2) W + bh."""
        return pt.dot(first_columns(v, self._dim) / pt.sqr(x_sig), self._W(tparams)) + bh
