"""Softmax and concatenation, in versions made for GPUs.

Theano 0.7's own softmax takes matrices only, and the gradient of its own concatenation runs on
the CPU.  Here both functions run on every device.

Counterpart: ``cle/utils/gpu_op.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytensor
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable


def softmax(X: TensorVariable) -> TensorVariable:
    """Return exp(X) divided by its sum over the last axis, without overflow.

    Parameters
    ----------
    X : tensor
        Of any number of dimensions.

    Returns
    -------
    tensor of the same shape

    Notes
    -----
    Counterpart: ``cle.utils.gpu_op.softmax``.
    """
    e_X = pt.exp(X - X.max(axis=-1, keepdims=True))
    return e_X / e_X.sum(axis=-1, keepdims=True)


def concatenate(tensor_list: Sequence[TensorVariable], axis: int = 0) -> TensorVariable:
    """Join tensors along an axis.

    Parameters
    ----------
    tensor_list : list of tensors
        Of the same shape, except along ``axis``.
    axis : int
        A negative one counts from the last.

    Returns
    -------
    tensor
        Of dtype ``floatX``, whatever the dtypes of the tensors.

    Raises
    ------
    ValueError
        If there are no tensors, they have different numbers of dimensions, or there is no such
        axis.

    Notes
    -----
    Counterpart: ``cle.utils.gpu_op.concatenate``, which writes one tensor after the other into
    zeros of dtype ``floatX``, and takes no negative axis.
    """
    if not tensor_list:
        raise ValueError("there is nothing to concatenate; give at least one tensor")
    dims = {x.ndim for x in tensor_list}
    if len(dims) > 1:
        raise ValueError(
            f"the tensors have {sorted(dims)} dimensions; give tensors of one number of dimensions"
        )
    (ndim,) = dims
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is not one of the {ndim} axes of the tensors")
    floats = [pt.cast(x, pytensor.config.floatX) for x in tensor_list]
    return pt.concatenate(floats, axis=axis)
