"""Pooling, a clockwork, priors, and batch normalisation.

Counterpart: ``cle/layers/layer.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import KLGaussianGaussian, KLGaussianStdGaussian
from cle_port.layers import InitCell, StemCell
from cle_port.layers.conv import length, pad
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import LSTM, InputsAndStates
from cle_port.utils import sharedX, tolist, totuple
from cle_port.utils.op import Gaussian_sample


class MaxPool2D(StemCell):
    """Maximum over windows of images.

    Parameters
    ----------
    pool_size : (int, int)
        Size of a window in x and y.
    pool_stride : (int, int)
        Distance between neighbouring windows.
    ignore_border : int or bool
        Leave out windows that reach over the border.
    set_shape : int or bool
        Whether `initialize` sets ``outshape`` from the parent's shape
        (batch_size, channels, x, y), which ``parent_dim`` holds.
    **kwargs
        See `cle_port.layers.StemCell`.

    Notes
    -----
    Counterpart: ``cle.layers.layer.MaxPool2D``, whose output has the windows at the
    border also with ``ignore_border``; only its ``outshape`` lacks them.

    All entries of a window that are equal to its maximum get its whole gradient, as
    in Theano.  The layer has no parameters.
    """

    def __init__(
        self,
        pool_size: tuple[int, int] = (2, 2),
        pool_stride: tuple[int, int] = (2, 2),
        ignore_border: int | bool = False,
        set_shape: int | bool = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = totuple(pool_size)
        self.pool_stride = totuple(pool_stride)
        self.ignore_border = ignore_border
        self.set_shape = set_shape
        self.outshape: tuple[int, int, int, int] | None = None

    def fprop(self, x: TensorVariable | Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        x : tensor of shape (batch, channels, x, y), or a list with it

        Returns
        -------
        tensor of shape (batch, channels, windows in x, windows in y)
        """
        self._check_count("parent", tolist(x), self.parent)
        (z,) = tolist(x)
        for axis, size, stride in zip((2, 3), self.pool_size, self.pool_stride):
            z = self._pool(z, axis, size, stride)
        z.name = self.name
        return z

    def initialize(self) -> dict[str, NDArray]:
        """Set ``outshape`` if ``set_shape`` says so; return no parameters."""
        return self.initialize_set_shape() if self.set_shape else self.initialize_default()

    def initialize_set_shape(self) -> dict[str, NDArray]:
        """Set ``outshape``, the shape of the output; return no parameters.

        Raises
        ------
        ValueError
            If there is no parent with a shape.
        """
        shapes = [shape for shape in self.parent.values() if shape is not None]
        if len(shapes) != 1:
            raise ValueError(
                f"layer {self.name!r} needs parent_dim=[(batch_size, channels, x, y)], the shape "
                "of its parent; or give set_shape=0"
            )
        batch_size, n_channel, *image = shapes[0]
        nx, ny = (
            n_windows(n, size, stride, self.ignore_border)
            for n, size, stride in zip(image, self.pool_size, self.pool_stride)
        )
        self.outshape = (batch_size, n_channel, nx, ny)
        return {}

    def initialize_default(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}

    def _pool(self, x: TensorVariable, axis: int, size: int, stride: int) -> TensorVariable:
        """Return the maxima of the windows along one axis."""
        n = length(x, axis)
        count = n_windows(n, size, stride, self.ignore_border)
        x = pad(x, axis, 0, _larger((count - 1) * stride + size - n, 0), -float("inf"))
        every: list[Any] = [slice(None)] * x.ndim
        entries = []
        for first in range(size):  # the entries at the same place of all windows
            every[axis] = slice(first, first + count * stride, stride)
            entries.append(x[tuple(every)])
        # A chain of pt.maximum would give ties the gradient once only.
        return pt.stack(entries).max(axis=0)


class ClockworkLayer(StemCell):
    """z at time steps that N divides, and zeros at all others.

    Parameters
    ----------
    N : int
        Period in time steps.
    **kwargs
        See `cle_port.layers.StemCell`.

    Raises
    ------
    ValueError
        If N is not positive.

    Notes
    -----
    Counterpart: ``cle.layers.layer.ClockworkLayer``, which cannot run: its time
    index is not defined.  Here the index is an input.  The layer has no parameters.
    """

    def __init__(self, N: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if N < 1:
            raise ValueError(f"layer {self.name!r}: the period N is {N}; give at least 1")
        self.N = N

    def fprop(self, z: TensorVariable, *, idx: TensorVariable | int) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        z : tensor
        idx : integer scalar
            Index of the time step, from 0.

        Returns
        -------
        tensor of the shape of ``z``
        """
        out = pt.switch(pt.eq(pt.mod(idx, self.N), 0), z, pt.zeros_like(z))
        out.name = self.name
        return out

    def initialize(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}


class PriorLayer(StemCell):
    """Kullback-Leibler divergence from a prior, or draws from a Gaussian.

    Parameters
    ----------
    use_sample : bool
        Whether `fprop` is `sample`; else it is `cost`.
    num_sample : int
        Number of draws for each row.
    keep_dims : int or bool
        Whether the divergence between two Gaussians keeps the terms of its sum.
    **kwargs
        See `cle_port.layers.StemCell`.

    Raises
    ------
    ValueError
        If ``num_sample`` is None and ``use_sample`` is set.

    Notes
    -----
    Counterpart: ``cle.layers.layer.PriorLayer``, which draws its noise itself.  Here
    the noise is an input of the graph (docs/fidelity.md).  The layer has no parameters.
    """

    def __init__(
        self,
        use_sample: bool = False,
        num_sample: int = 1,
        keep_dims: int | bool = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if use_sample and num_sample is None:
            raise ValueError(f"layer {self.name!r} draws samples; give num_sample, their number")
        self.use_sample = use_sample
        self.num_sample = num_sample
        self.keep_dims = keep_dims

    def fprop(
        self,
        X: Sequence[TensorVariable],
        num_sample: int | None = None,
        *,
        eps: TensorVariable | None = None,
    ) -> TensorVariable:
        """Build the layer's graph: `sample` with ``use_sample``, else `cost`."""
        if not self.use_sample:
            return self.cost(X)
        if eps is None:
            raise ValueError(f"layer {self.name!r} draws samples; give eps, the noise")
        return self.sample(X, num_sample, eps=eps)

    def cost(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Return the divergence from the standard Gaussian or from another one, in nats.

        Parameters
        ----------
        X : [mu, sig] or [mu1, sig1, mu2, sig2]
            Means and standard deviations (> 0), shape (..., dim); the second pair
            is the prior.

        Returns
        -------
        tensor of shape (...), or (..., dim) for two pairs with ``keep_dims``

        Raises
        ------
        ValueError
            If X has neither 2 nor 4 tensors.
        """
        if len(X) == 2:
            mu, sig = X
            return KLGaussianStdGaussian(mu, sig)
        if len(X) == 4:
            mu1, sig1, mu2, sig2 = X
            return KLGaussianGaussian(mu1, sig1, mu2, sig2, self.keep_dims)
        raise ValueError(
            f"layer {self.name!r} got {len(X)} inputs; give mu and sig of one or two Gaussians"
        )

    def sample(
        self,
        X: Sequence[TensorVariable],
        num_sample: int | None = None,
        *,
        eps: TensorVariable,
    ) -> TensorVariable:
        """Draw from N(mu, sig**2) by z = mu + sig * eps.

        Parameters
        ----------
        X : [mu, sig]
            Mean and standard deviation, shape (rows, dim).
        num_sample : int, optional
            Number of draws for each row; the default is the layer's.
        eps : tensor of shape (rows, num_sample, dim)
            Standard normal noise.

        Returns
        -------
        tensor of shape (rows * num_sample, dim)
            The draws for a row follow each other.

        Raises
        ------
        ValueError
            If X does not have 2 tensors.
        """
        if len(X) != 2:
            raise ValueError(f"layer {self.name!r} got {len(X)} inputs; give mu and sig")
        mu, sig = X
        n = self.num_sample if num_sample is None else num_sample
        eps = pt.specify_shape(eps, (None, n, None))
        z = Gaussian_sample(mu[:, None], sig[:, None], eps)
        return z.reshape((length(z, 0) * n, length(z, 2)))

    def initialize(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}


class BatchNormLayer(StemCell):
    """unit(gamma (z - mu) / (sigma + eps) + beta) + cons for z = sum over parents of x W + b.

    mu and sigma are statistics of the columns of z.  In training they are those of
    the batch (and of all time steps)::

        n = number of rows of z whose sum is not 0
        mu = sum over rows of z / n
        sigma = sqrt(sum over rows of (z - mu)**2 / n)

    In a test they are the running ones, shared variables, which start as 0 and 1.

    Parameters
    ----------
    rho : float
        Weight of the old value in the running statistics.
    eps : float
        Constant added to sigma.
    **kwargs
        See `cle_port.layers.StemCell`.

    Attributes
    ----------
    mu, sigma : TensorSharedVariable
        Running statistics, shape (nout,), dtype floatX.
    updates : dict of TensorSharedVariable to tensor
        New values of the running statistics, from the latest `fprop` for training.
        Hand it to `cle_port.models.Model.set_updates`.

    Notes
    -----
    Counterpart: ``cle.layers.layer.BatchNormLayer``.  There, every function compiled
    from a graph for training updates the running statistics unasked, also a
    function for monitoring.

    n takes rows of padding for zeros.  With a bias such rows are not zeros, so they
    count; and in any case they contribute to both sums.

    `initialize` makes these parameters, in this order: ``W_<parent>__<name>`` of
    shape (parent_dim, nout) for each parent; ``b_<name>``, ``beta_<name>`` (zeros)
    and ``gamma_<name>`` (uniform on [0.95, 1.05)), of shape (nout,).
    """

    def __init__(self, rho: float = 0.5, eps: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rho = rho
        self.eps = eps
        self.mu = sharedX(InitCell("zeros").get(self.nout), name=f"mu_{self.name}")
        self.sigma = sharedX(InitCell("ones").get(self.nout), name=f"sigma_{self.name}")
        self.updates: dict[TensorSharedVariable, TensorVariable] = {}

    def fprop(
        self,
        X: Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
        test: int | bool = 0,
        running_average: int | bool = 1,
        ndim: int | None = None,
    ) -> TensorVariable:
        """Build the layer's graph; unless it is for a test, set ``updates``.

        Parameters
        ----------
        X : list of tensors, one for each parent
            See `cle_port.layers.feedforward.FullyConnectedLayer.fprop`.
        tparams : mapping of str to tensor
            Parameters by name.
        test : int or bool
            Use the running statistics.
        running_average : int or bool
            Whether the new running statistics are averages with weight ``rho`` of
            the old ones, or those of the batch.
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
        linear = FullyConnectedLayer(
            name=self.name,
            parent=list(self.parent),
            parent_dim=list(self.parent.values()),
            nout=self.nout,
            use_bias=self.use_bias,
            unit="linear",
        )
        z = linear.fprop(X, tparams, ndim)
        mu, sigma = (self.mu, self.sigma) if test else _statistics(z)
        if not test:
            self.updates = {
                old: self.rho * old + (1 - self.rho) * new if running_average else new
                for old, new in ((self.mu, mu), (self.sigma, sigma))
            }
        gamma, beta = tparams[f"gamma_{self.name}"], tparams[f"beta_{self.name}"]
        z = self.nonlin((z - mu) * (gamma / (sigma + self.eps)) + beta)
        if self.cons:
            z = z + self.cons
        z.name = self.name
        return z

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        params = super().initialize()
        gamma = InitCell("rand", low=0.95, high=1.05, rng=self.init_W.rng)
        params[f"beta_{self.name}"] = InitCell("zeros").get(self.nout)
        params[f"gamma_{self.name}"] = gamma.get(self.nout)
        return params


class BatchNormLSTM(LSTM):
    """Long short-term memory whose gates and cell input are normalised over the batch.

    With z = x_t W + h_{t-1} U + b, a mask of rows and t = 1, 2, ...::

        mu_1 = mean of z                 mu_t = mu_{t-1} + mean of (z - mu_{t-1}) / t
        v_1 = v_0                        v_t = v_{t-1} + mean of (z - mu_{t-1}) (z - mu_t)
        y = z - mu_1 at t = 1, else (z - mu_t) / (sqrt(v_t) + 1e-6)

    The means are over the rows of the mask.  The gates of the LSTM are then those of
    gamma y + beta instead of z.

    Parameters
    ----------
    **kwargs
        See `cle_port.layers.recurrent.LSTM`.

    Notes
    -----
    Counterpart: ``cle.layers.layer.BatchNormLSTM``.  v_t is a sum over the time
    steps, which nothing divides by their number.

    `initialize` makes the parameters of the LSTM, then ``beta_<name>`` (zeros) and
    ``gamma_<name>`` (ones), of shape (4 nout,).
    """

    def fprop(  # type: ignore[override]  # the statistics are states, too
        self,
        XH: InputsAndStates,
        tparams: Mapping[str, TensorVariable],
        time_step: TensorVariable | int = 1,
        mask: TensorVariable | None = None,
        z_mu: TensorVariable | None = None,
        z_var: TensorVariable | None = None,
        test: int | bool = 0,
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Build one step.

        Parameters
        ----------
        XH : [list of tensors, list of tensors]
            See `cle_port.layers.recurrent.RecurrentLayer.preactivation`.  The first
            recurrence is the layer's own state [h | c].
        tparams : mapping of str to tensor
            Parameters by name.
        time_step : integer scalar
            Number t of the step, from 1.
        mask : tensor of shape (batch,)
            1 for rows that count, 0 for padding; at least one must count.  A test
            does not need it.
        z_mu, z_var : tensors of shape (4 nout,)
            mu and v of the previous step; in a test, those of this step.
        test : int or bool
            Use ``z_mu`` and ``z_var`` as they are.

        Returns
        -------
        s_t : tensor of shape (batch, 2 nout)
            The new state [h | c].
        z_mu_t, z_var_t : tensors of shape (4 nout,)
            mu and v of this step.

        Raises
        ------
        ValueError
            If an argument is missing, or the number of inputs or states is wrong.
        """
        if z_mu is None or z_var is None:
            raise ValueError(f"layer {self.name!r} needs z_mu and z_var of the previous step")
        z = self.preactivation(XH, tparams)
        is_first = pt.eq(time_step, 1)
        if test:
            z_mu_t, z_var_t = z_mu, z_var
        elif mask is None:
            raise ValueError(f"layer {self.name!r} needs a mask for training")
        else:
            z_mu_t, z_var_t = _next_statistics(z, time_step, mask, z_mu, z_var)
        y = pt.switch(is_first, z - z_mu_t, (z - z_mu_t) / (pt.sqrt(z_var_t) + 1e-6))
        y = tparams[f"gamma_{self.name}"] * y + tparams[f"beta_{self.name}"]

        N = self.nout
        i_t = self.sigmoid(y[:, N : 2 * N])
        f_t = self.sigmoid(y[:, 2 * N : 3 * N])
        o_t = self.sigmoid(y[:, 3 * N :])
        c_t = f_t * XH[1][0][:, N:] + i_t * self.nonlin(y[:, :N])
        h_t = o_t * self.nonlin(c_t)
        s_t = pt.concatenate([h_t, c_t], axis=1)
        s_t.name = self.name
        return s_t, z_mu_t, z_var_t

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        params = super().initialize()
        params[f"beta_{self.name}"] = InitCell("zeros").get(4 * self.nout)
        params[f"gamma_{self.name}"] = InitCell("ones").get(4 * self.nout)
        return params


def n_windows(n: Any, size: int, stride: int, ignore_border: int | bool = False) -> Any:
    """Return the number of windows along an axis.

    Parameters
    ----------
    n : int or integer scalar
        Length of the axis.
    size, stride : int
        Length of a window, and distance between neighbouring ones.
    ignore_border : int or bool
        Leave out windows that reach over the end.

    Returns
    -------
    int or integer scalar
        The number of first entries ``0, stride, 2 stride, ...``: with
        ``ignore_border`` those of windows that end within the axis, else those up
        to the first window that reaches the end.

    Notes
    -----
    Counterpart: ``DownsampleFactorMax.out_shape`` in
    ``theano/tensor/signal/downsample.py``.
    """
    if ignore_border:
        return _larger(-((size - 1 - n) // stride), 0)
    return _larger(-((max(size, stride) - stride - n) // stride), 1)


def _larger(a: Any, b: int) -> Any:
    return pt.maximum(a, b) if isinstance(a, TensorVariable) else max(a, b)


def _statistics(z: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
    """Return mean and standard deviation of the columns; see `BatchNormLayer` for n."""
    rows = tuple(range(z.ndim - 1))
    n = pt.cast(pt.neq(z.sum(axis=-1), 0).sum(), z.dtype)
    mu = z.sum(axis=rows) / n
    return mu, pt.sqrt(((z - mu) ** 2).sum(axis=rows) / n)


def _next_statistics(
    z: TensorVariable,
    time_step: TensorVariable | int,
    mask: TensorVariable,
    z_mu: TensorVariable,
    z_var: TensorVariable,
) -> tuple[TensorVariable, TensorVariable]:
    """Return mu and v of this step; see `BatchNormLSTM`."""

    def mean(v: TensorVariable) -> TensorVariable:
        return (v * mask[:, None]).sum(axis=0) / mask.sum()

    is_first = pt.eq(time_step, 1)
    later = z_mu + mean((z - z_mu) / pt.cast(time_step, z.dtype))
    z_mu_t = pt.switch(is_first, mean(z), later)
    z_var_t = pt.switch(is_first, z_var, z_var + mean((z - z_mu) * (z - z_mu_t)))
    return z_mu_t, z_var_t
