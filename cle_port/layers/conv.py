"""Convolution of images, and conversion between images and vectors.

Counterpart: ``cle/layers/conv.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import StemCell
from cle_port.utils import tolist, totuple

Shape4 = tuple[int, int, int, int]
AXES = ("b", "c", "x", "y")
BORDER_MODES = ("valid", "full")


class Conv2DLayer(StemCell):
    """unit(x * W + b) + cons, where * is the convolution of `conv2d`.

    Parameters
    ----------
    parshape : list of one (batch_size, channels, x, y)
        Shape of the parent's output.  ``parent_dim`` may hold it instead.
    outshape : (batch_size, filters, x, y), optional
        Shape of the output.  It determines the size of the filters, so it needs
        a ``step_size`` of 1.
    filtershape : (filters, channels, x, y), optional
        Shape of W.  Give either ``outshape`` or ``filtershape``.
    tied_bias : bool
        Whether all places share the bias of a filter.
    step_size : (int, int)
        Distance between neighbouring places of the output, in x and y.
    border_mode : {'valid', 'full'}
        See `conv2d`.
    **kwargs
        See `cle_port.layers.StemCell`.

    Raises
    ------
    ValueError
        If both or none of ``outshape`` and ``filtershape`` are given, the layer
        does not have one parent, ``border_mode`` is unknown, or ``outshape`` comes
        with steps.

    Notes
    -----
    Counterpart: ``cle.layers.conv.Conv2DLayer``, which cannot run: ``initialize``
    and ``fprop`` use attributes that layers do not have.  It also takes the number
    of filters from the second entry of ``filtershape``, gives the bias of each
    place the size of the filters, and ignores steps in ``outshape``.  This layer
    is what it plainly means.

    `initialize` makes these parameters, in this order: ``W_<parent>__<name>`` of
    shape ``filtershape``, then ``b_<name>`` of shape (filters,), or (filters, x, y)
    of the output without ``tied_bias``.  It also sets ``outshape`` and
    ``filtershape``.
    """

    def __init__(
        self,
        parshape: Sequence[Shape4] = (),
        outshape: Shape4 | None = None,
        filtershape: Shape4 | None = None,
        tied_bias: bool = True,
        step_size: tuple[int, int] = (1, 1),
        border_mode: str = "valid",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (outshape is None) == (filtershape is None):
            raise ValueError(f"layer {self.name!r}: give either outshape or filtershape")
        if border_mode not in BORDER_MODES:
            raise ValueError(
                f"layer {self.name!r}: unknown border_mode {border_mode!r}; "
                f"choose one of {', '.join(BORDER_MODES)}"
            )
        if len(self.parent) != 1:
            raise ValueError(f"layer {self.name!r} has {len(self.parent)} parents; give it one")
        self.step_size = totuple(step_size)
        if outshape is not None and self.step_size != (1, 1):
            raise ValueError(
                f"layer {self.name!r}: filters of several sizes reach outshape {outshape} in "
                f"steps of {self.step_size}; give filtershape"
            )
        self.outshape = outshape
        self.filtershape = filtershape
        self.tied_bias = tied_bias
        self.border_mode = border_mode
        self.parent |= zip(self.parent, parshape)

    def fprop(
        self,
        x: TensorVariable | Sequence[TensorVariable],
        tparams: Mapping[str, TensorVariable],
    ) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        x : tensor of shape (batch, channels, x, y), or a list with it
        tparams : mapping of str to tensor
            Parameters by name.

        Returns
        -------
        tensor of shape (batch, filters, x, y)

        Raises
        ------
        ValueError
            If there is more than one input, or the shapes do not fit.
        """
        self._check_count("parent", tolist(x), self.parent)
        (image,), (parname,) = tolist(x), self.parent
        filtershape, _ = self.shapes()
        W = tparams[f"W_{parname}__{self.name}"]
        z = conv2d(image, W, filtershape, self.step_size, self.border_mode)
        if self.use_bias:
            b = tparams[f"b_{self.name}"]
            z = z + (b[None, :, None, None] if self.tied_bias else b[None])
        z = self.nonlin(z)
        if self.cons:
            z = z + self.cons
        z.name = self.name
        return z

    def initialize(self) -> dict[str, NDArray]:
        """Set both shapes; draw initial values of all parameters, float64.

        Raises
        ------
        ValueError
            If the shapes do not fit.
        """
        self.filtershape, self.outshape = self.shapes()
        (parname,) = self.parent
        params = {f"W_{parname}__{self.name}": self.init_W.get(self.filtershape)}
        if self.use_bias:
            n_filter, *place = self.outshape[1:]
            params[f"b_{self.name}"] = self.init_b.get(
                n_filter if self.tied_bias else (n_filter, *place)
            )
        return params

    def shapes(self) -> tuple[Shape4, Shape4]:
        """Compute the shapes of filters and output from the parent's and the given one.

        Returns
        -------
        filtershape : (filters, channels, x, y)
        outshape : (batch_size, filters, x, y)

        Raises
        ------
        ValueError
            If the parent's shape is missing or does not fit.
        """
        ((parname, parshape),) = self.parent.items()
        if parshape is None:
            raise ValueError(f"layer {self.name!r} needs parshape, the shape of {parname!r}")
        batch_size, n_channel, *image = parshape
        if self.filtershape is not None:
            n_filter, channels, *kernel = self.filtershape
            place = [
                out_length(n, k, step, self.border_mode)
                for n, k, step in zip(image, kernel, self.step_size)
            ]
        else:
            assert self.outshape is not None  # one of the two shapes is given
            _, n_filter, *place = self.outshape
            channels = n_channel
            sign = 1 if self.border_mode == "valid" else -1
            kernel = [sign * (n - out) + 1 for n, out in zip(image, place)]
        if channels != n_channel or min(*kernel, *place) < 1:
            raise ValueError(
                f"layer {self.name!r}: filters of {(n_filter, channels, *kernel)} do not turn "
                f"images of {parshape} into {(batch_size, n_filter, *place)}"
            )
        return (n_filter, n_channel, kernel[0], kernel[1]), (batch_size, n_filter, *place)


class ConvertLayer(StemCell):
    """Turn images into vectors or vectors into images.

    Parameters
    ----------
    outshape : tuple of 2 or 4 int, optional
        (batch_size, channels * x * y) makes a matrix, (batch_size, channels, x, y)
        makes images.  Without it the layer makes a matrix.  (The original fails
        then.)
    axes : sequence of str
        Order of the image's axes batch 'b', channel 'c', 'x' and 'y' before they
        become a matrix.
    **kwargs
        See `cle_port.layers.StemCell`.

    Raises
    ------
    ValueError
        If ``outshape`` has another length, or ``axes`` other names.

    Notes
    -----
    Counterpart: ``cle.layers.conv.ConvertLayer``.  The layer has no parameters.
    """

    def __init__(
        self,
        outshape: Sequence[int] | None = None,
        axes: Sequence[str] = AXES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if outshape is not None and len(outshape) not in (2, 4):
            raise ValueError(
                f"layer {self.name!r}: outshape has {len(outshape)} entries; give 2 or 4"
            )
        if set(axes) != set(AXES) or len(axes) != len(AXES):
            raise ValueError(f"layer {self.name!r}: axes {tuple(axes)} must be {AXES} in any order")
        self.outshape = outshape
        self.axes = axes
        self.convert_type = "convert2matrix"
        if outshape is not None and len(outshape) == 2:
            self.nout = outshape[1]
        elif outshape is not None:
            self.convert_type = "convert2tensor4"

    def fprop(self, x: TensorVariable | Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph; ``x`` is a tensor or a list of one."""
        self._check_count("parent", tolist(x), self.parent)
        (given,) = tolist(x)
        matrix = self.convert_type == "convert2matrix"
        z = self.convert2matrix(given) if matrix else self.convert2tensor4(given)
        z.name = self.name
        return z

    def convert2matrix(self, x: TensorVariable) -> TensorVariable:
        """Reorder the axes of images, then join all but the first into one."""
        return x.transpose(*(AXES.index(axis) for axis in self.axes)).flatten(2)

    def convert2tensor4(self, x: TensorVariable) -> TensorVariable:
        """Give the vectors the shape ``outshape``."""
        return x.reshape(self.outshape)

    def initialize(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}


def conv2d(
    x: TensorVariable,
    W: TensorVariable,
    filter_shape: Shape4,
    step: tuple[int, int] = (1, 1),
    border_mode: str = "valid",
) -> TensorVariable:
    """Convolve images with filters and sum over channels.

    With filters of K x M entries and steps s, t::

        z[b, f, i, j] = sum over c, k, m of
                        x[b, c, s i + K - 1 - k, t j + M - 1 - m] W[f, c, k, m]

    Parameters
    ----------
    x : tensor of shape (batch, channels, x, y)
    W : tensor of shape ``filter_shape``
    filter_shape : (filters, channels, K, M)
    step : (int, int)
    border_mode : {'valid', 'full'}
        'valid' keeps the places where the whole filter lies inside the image.
        'full' surrounds the image with K - 1 and M - 1 zeros on each side before,
        and so keeps all places where a part of the filter lies inside.

    Returns
    -------
    tensor of shape (batch, filters, x, y)

    Notes
    -----
    Counterpart: ``theano.tensor.nnet.conv2d``.  PyTensor's convolution has no code
    for JAX.  This one is made of matrix products: a row of places times a row of
    the filters, for each row of the filters.
    """
    n_filter, n_channel, K, M = filter_shape
    if border_mode == "full":
        x = pad(pad(x, 2, K - 1, K - 1), 3, M - 1, M - 1)
    (s, t), rows, columns = step, length(x, 2) - K + 1, length(x, 3) - M + 1
    x = x.transpose(0, 2, 3, 1)
    W = W[:, :, ::-1, ::-1].transpose(2, 3, 1, 0)
    # The M entries of all channels under each place: axis 3 runs over m, then c.
    row = pt.concatenate([x[:, :, m : m + columns : t] for m in range(M)], axis=3)
    products = [
        pt.dot(row[:, k : k + rows : s], W[k].reshape((M * n_channel, n_filter))) for k in range(K)
    ]
    return reduce(add, products).transpose(0, 3, 1, 2)


def out_length(n: int, k: int, step: int = 1, border_mode: str = "valid") -> int:
    """Return the length of an axis of n entries after `conv2d` with filters of k entries."""
    places = n - k + 1 if border_mode == "valid" else n + k - 1
    return -(-places // step)


def length(x: TensorVariable, axis: int) -> Any:
    """Return the length of an axis: an int if its static shape is known, else symbolic."""
    n = x.type.shape[axis]
    return x.shape[axis] if n is None else n


def pad(
    x: TensorVariable, axis: int, before: Any, after: Any, value: float = 0.0
) -> TensorVariable:
    """Put ``before`` and ``after`` entries of one value at the ends of an axis."""
    if before == after == 0:
        return x
    shape = [length(x, i) for i in range(x.ndim)]
    inside: list[Any] = [slice(None)] * x.ndim
    inside[axis] = slice(before, before + shape[axis])
    shape[axis] = before + shape[axis] + after
    return pt.set_subtensor(pt.full(shape, value, dtype=x.dtype)[tuple(inside)], x)
