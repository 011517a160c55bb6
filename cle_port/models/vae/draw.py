"""Layers of DRAW, a variational autoencoder that reads and writes glimpses of images.

Counterpart: ``cle/models/vae/draw.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import StemCell
from cle_port.layers.recurrent import InputsAndStates, RecurrentLayer

Shape4 = tuple[int, int, int, int]


def batched_dot(A: TensorVariable, B: TensorVariable) -> TensorVariable:
    """Multiply each matrix of A by the matrix of B at the same place.

    Parameters
    ----------
    A : tensor of shape (n, rows, inner)
    B : tensor of shape (n, inner, columns)

    Returns
    -------
    tensor of shape (n, rows, columns)

    Notes
    -----
    Counterpart: ``cle.models.vae.draw.batched_dot``, which sums a tensor of shape
    (n, rows, inner, columns).
    """
    return pt.matmul(A, B)


class AttentionLayer(StemCell):
    """Base of the layers that read and write: a grid of filters on an image.

    Parameters
    ----------
    glimpse_shape : (batch_size, channels, height, width)
        Shape of a glimpse: the number of filters in each direction.
    input_shape : (batch_size, channels, height, width)
        Shape of the images.
    **kwargs
        See `cle_port.layers.StemCell`.

    Raises
    ------
    ValueError
        If a shape is missing, or a glimpse is a single point.

    Notes
    -----
    No counterpart: `ReadLayer` and `WriteLayer` repeat this there.  The layers have
    no parameters; five numbers of another layer place the grid.
    """

    def __init__(
        self,
        glimpse_shape: Shape4 | None = None,
        input_shape: Shape4 | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if glimpse_shape is None or input_shape is None:
            raise ValueError(
                f"layer {self.name!r} needs glimpse_shape and input_shape, both (batch_size, "
                "channels, height, width)"
            )
        if max(glimpse_shape[2:]) < 2:
            raise ValueError(
                f"layer {self.name!r}: a glimpse of one point has no grid; give glimpse_shape a "
                "height or width of at least 2"
            )
        self.glimpse_shape = glimpse_shape
        self.input_shape = input_shape

    def filters(
        self, z: TensorVariable, num_channel: int
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Build the filters that five numbers describe.

        With images of H x W and glimpses of h x w points::

            centre   = (H + 1) / 2 (z_0 + 1), (W + 1) / 2 (z_1 + 1)
            distance = (max(H, W) - 1) / (max(h, w) - 1) exp(z_2)
            sigma    = exp(z_3 / 2)
            gamma    = exp(z_4)

        Parameters
        ----------
        z : tensor of shape (batch_size, 5)
        num_channel : int
            Number of channels that share the filters of an example.

        Returns
        -------
        Fy : tensor of shape (batch_size * num_channel, h, H)
        Fx : tensor of shape (batch_size * num_channel, w, W)
        gamma : tensor of shape (batch_size, 1)
        """
        height, width = self.input_shape[2:]
        centy = 0.5 * (height + 1) * (z[:, 0] + 1)
        centx = 0.5 * (width + 1) * (z[:, 1] + 1)
        delta = (max(height, width) - 1) * pt.exp(z[:, 2]) / (max(self.glimpse_shape[2:]) - 1)
        sigma = pt.exp(0.5 * z[:, 3])
        gamma = pt.exp(z[:, 4])[:, None]
        Fy, Fx = self.filter_bank(centx, centy, delta, sigma)
        if num_channel > 1:
            Fy, Fx = (pt.repeat(F, num_channel, axis=0) for F in (Fy, Fx))
        return Fy, Fx, gamma

    def filter_bank(
        self,
        c_x: TensorVariable,
        c_y: TensorVariable,
        delta: TensorVariable,
        sigma: TensorVariable,
    ) -> tuple[TensorVariable, TensorVariable]:
        """Build the filters of both directions; each has the sum 1 or less.

        In each direction, for point i of n and entry a of the image::

            mu[i]   = c + delta (i - n / 2 - 1 / 2)
            F[i, a] = exp(-(a - mu[i])**2) / (2 sigma**2)
            then F[i] divided by its sum + 1e-4

        Parameters
        ----------
        c_x, c_y : tensors of shape (batch_size,)
            Centre of the grid.
        delta : tensor of shape (batch_size,)
            Distance between the points of the grid.
        sigma : tensor of shape (batch_size,)
            Scale of the filters.

        Returns
        -------
        Fy : tensor of shape (batch_size, h, H)
        Fx : tensor of shape (batch_size, w, W)

        Notes
        -----
        The original's formula.  In the paper on DRAW, sigma is the width of the filters,
        ``exp(-(a - mu[i])**2 / (2 sigma**2))``; here all filters have one width, and sigma only
        sets how much 1e-4 matters.  With i from 0, the grid lies one ``delta`` before the
        centre.
        """
        tol = 1e-4
        banks = []
        for axis, centre in ((2, c_y), (3, c_x)):
            n = self.glimpse_shape[axis]
            mesh = np.arange(n, dtype=centre.dtype) - 0.5 * n - 0.5
            entries = np.arange(self.input_shape[axis], dtype=centre.dtype)
            mu = centre[:, None] + delta[:, None] * mesh
            F = pt.exp(-((entries - mu[:, :, None]) ** 2)) / 2.0 / sigma[:, None, None] ** 2
            banks.append(F / (F.sum(axis=-1, keepdims=True) + tol))
        Fy, Fx = banks
        return Fy, Fx

    def initialize(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}


class ReadLayer(AttentionLayer):
    """Read a glimpse of the image and of its error: gamma Fy x Fx', for each channel.

    Parameters
    ----------
    **kwargs
        See `AttentionLayer`.

    Notes
    -----
    Counterpart: ``cle.models.vae.draw.ReadLayer``.
    """

    def fprop(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        X : [x, x_hat, z]
            Images and errors, of ``input_shape`` or any shape with as many entries in the same
            order, and the numbers of `AttentionLayer.filters`, shape (batch_size, 5).

        Returns
        -------
        tensor of shape (batch_size, 2 * channels * h * w)
            The glimpses of the images, then those of the errors.

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, dict.fromkeys(("x", "x_hat", "z")))
        *images, z = X
        batch_size, num_channel, height, width = self.input_shape
        Fy, Fx, gamma = self.filters(z, num_channel)
        glimpses = []
        for x in images:
            x = x.reshape((batch_size * num_channel, height, width))
            glimpse = batched_dot(batched_dot(Fy, x), Fx.transpose(0, 2, 1))
            size = num_channel * self.glimpse_shape[2] * self.glimpse_shape[3]
            glimpses.append(glimpse.reshape((batch_size, size)))
        return gamma * pt.concatenate(glimpses, axis=1)


class WriteLayer(AttentionLayer):
    """Write a glimpse into an image: Fy' w Fx / gamma, for each channel.

    Parameters
    ----------
    **kwargs
        See `AttentionLayer`.

    Notes
    -----
    Counterpart: ``cle.models.vae.draw.WriteLayer``.
    """

    def fprop(self, X: Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        X : [w, z]
            Glimpses, of ``glimpse_shape`` or any shape with as many entries in the same order, and
            the numbers of `AttentionLayer.filters`, shape (batch_size, 5).

        Returns
        -------
        tensor of shape (batch_size, channels * H * W)

        Raises
        ------
        ValueError
            If the number of inputs is wrong.
        """
        self._check_count("parent", X, dict.fromkeys(("w", "z")))
        w, z = X
        batch_size, num_channel, height, width = self.glimpse_shape
        Fy, Fx, gamma = self.filters(z, num_channel)
        w = w.reshape((batch_size * num_channel, height, width))
        image = batched_dot(batched_dot(Fy.transpose(0, 2, 1), w), Fx)
        size = num_channel * self.input_shape[2] * self.input_shape[3]
        return image.reshape((batch_size, size)) / gamma


class CanvasLayer(RecurrentLayer):
    """c_t = c_{t-1} + x_t: what is written adds up.

    Notes
    -----
    Counterpart: ``cle.models.vae.draw.CanvasLayer``.  The layer has no parameters.
    """

    def fprop(self, XH: InputsAndStates) -> TensorVariable:
        """Build one step.

        Parameters
        ----------
        XH : [[x], [c]]
            Output of the write layer, and previous canvas, of one shape.

        Returns
        -------
        tensor of this shape
        """
        (x,), (c_tm1,) = XH
        c_t = c_tm1 + x
        c_t.name = self.name
        return c_t

    def initialize(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}


class ErrorLayer(RecurrentLayer):
    """x - c_{t-1}: what the previous canvas lacks of the image.

    Parameters
    ----------
    **kwargs
        See `cle_port.layers.recurrent.RecurrentLayer`; there is no own state.

    Notes
    -----
    Counterpart: ``cle.models.vae.draw.ErrorLayer``.  The layer has no parameters.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(self_recurrent=0, **kwargs)

    def fprop(self, XH: InputsAndStates) -> TensorVariable:
        """Build one step.

        Parameters
        ----------
        XH : [[x], [c]]
            Images, and previous canvas as images, of one shape.

        Returns
        -------
        tensor of this shape
        """
        (x,), (c_tm1,) = XH
        error = x - c_tm1
        error.name = self.name
        return error

    def initialize(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}
