"""Helpers that the programs use.

Counterpart: ``cle/utils/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytensor
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable


def tolist(arg: Any) -> list:
    """Return ``arg`` as a list: a list itself, a tuple converted, anything else ``[arg]``.

    Counterpart: ``cle.utils.tolist``.
    """
    if isinstance(arg, list):
        return arg
    return list(arg) if isinstance(arg, tuple) else [arg]


def totuple(arg: Any) -> tuple:
    """Return ``arg`` as a tuple: a tuple itself, a list converted, anything else ``(arg,)``.

    Counterpart: ``cle.utils.totuple``.
    """
    if isinstance(arg, tuple):
        return arg
    return tuple(arg) if isinstance(arg, list) else (arg,)


def castX(value: ArrayLike) -> NDArray:
    """Copy ``value`` into an array of dtype ``floatX``.

    Counterpart: ``cle.utils.castX``.
    """
    return np.array(value, dtype=pytensor.config.floatX)


def sharedX(
    value: ArrayLike, name: str | None = None, borrow: bool = False
) -> TensorSharedVariable:
    """Make a shared variable of dtype ``floatX`` with a static shape.

    Parameters
    ----------
    value : array_like
        Initial value, copied.
    name : str, optional
        Name of the variable.
    borrow : bool
        Without effect: `value` is always copied, as in the original.

    Returns
    -------
    TensorSharedVariable
        Its static shape is that of ``value``; later values need the same shape.

    Notes
    -----
    Counterpart: ``cle.utils.sharedX``, whose variables have no fixed shape.
    """
    array = castX(value)
    variable = pytensor.shared(array, name=name, shape=array.shape, borrow=borrow)
    return cast(TensorSharedVariable, variable)


def init_tparams(params: Mapping[str, ArrayLike]) -> dict[str, TensorSharedVariable]:
    """Make a shared variable of dtype ``floatX`` for each parameter, in the same order.

    Parameters
    ----------
    params : mapping of str to array_like
        Initial values by parameter name.

    Returns
    -------
    dict of str to TensorSharedVariable

    Notes
    -----
    Counterpart: ``cle.utils.init_tparams``.
    """
    return {name: sharedX(value, name=name) for name, value in params.items()}


def zipp(params: Mapping[str, ArrayLike], tparams: Mapping[str, TensorSharedVariable]) -> None:
    """Set shared variables in ``tparams`` to the values of the same names in ``params``.

    Counterpart: ``cle.utils.zipp``.
    """
    for name, value in params.items():
        tparams[name].set_value(castX(value))


def unzip(zipped: Mapping[str, TensorSharedVariable]) -> dict[str, NDArray]:
    """Return the values of all shared variables, by name, in order.

    Counterpart: ``cle.utils.unzip``.
    """
    # JAX leaves its own arrays, whose arithmetic rounds float64 if JAX's setting forbids float64.
    return {name: np.asarray(variable.get_value()) for name, variable in zipped.items()}


def segment_axis(
    a: ArrayLike,
    length: int,
    overlap: int = 0,
    axis: int | None = None,
    end: str = "cut",
    endvalue: float = 0,
) -> NDArray:
    """Cut an axis into overlapping frames.

    Parameters
    ----------
    a : array_like
        Array of any shape and dtype.
    length : int
        Entries in one frame.
    overlap : int
        Number of entries that consecutive frames share, below ``length``.
    axis : int, optional
        Axis to cut; None cuts the flattened array.
    end : {'cut', 'pad', 'wrap'}
        Treatment of entries after the last full frame: drop them, pad the last
        frame with ``endvalue``, or fill it with the first entries.
    endvalue : float
        Padding value for ``end='pad'``.

    Returns
    -------
    ndarray
        Two axes replace ``axis``: frames, then entries of a frame.  Same dtype.
        It is a read-only view of ``a`` unless the last frame was filled.

    Raises
    ------
    ValueError
        If ``length`` is not positive, ``overlap`` is negative or not below
        ``length``, ``end`` is unknown, or the array is shorter than one frame with
        ``'cut'``.

    Notes
    -----
    Counterpart: ``cle.utils.segment_axis``, written by Anne Archibald, which
    builds the view from raw strides; this uses NumPy's `sliding_window_view`.
    """
    a = np.asarray(a)
    if axis is None:
        a, axis = a.ravel(), 0
    if overlap >= length:
        raise ValueError(f"overlap {overlap} must be below length {length}; give a smaller overlap")
    if overlap < 0 or length <= 0:
        raise ValueError(f"length {length} and overlap {overlap} must be at least 1 and 0")
    if end not in ("cut", "pad", "wrap"):
        raise ValueError(f"end must be 'cut', 'pad' or 'wrap', not {end!r}")

    axis = axis % a.ndim
    step = length - overlap
    size = a.shape[axis]
    missing = max(length - size, (length - size) % step)
    if missing and end == "pad":
        filling = [(0, 0)] * a.ndim
        filling[axis] = (0, missing)
        a = np.pad(a, filling, constant_values=endvalue)
    elif missing and end == "wrap":
        first = np.take(a, np.arange(missing) % max(size, 1), axis=axis)
        a = np.concatenate([a, first], axis=axis)
    if a.shape[axis] < length:
        raise ValueError(
            f"{size} entries do not fill a frame of {length} with end='cut'; "
            "use end='pad' or 'wrap'"
        )
    windows = sliding_window_view(a, length, axis=axis)  # frames start at every entry
    every_step: list[Any] = [slice(None)] * windows.ndim
    every_step[axis] = slice(None, None, step)
    return np.moveaxis(windows[tuple(every_step)], -1, axis + 1)
