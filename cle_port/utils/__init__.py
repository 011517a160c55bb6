"""Small helpers for lists, labels, shared variables and arrays.

Counterpart: ``cle/utils/__init__.py``, without its helpers for pickles (``PickleMixin``,
``secure_pickle_dump``, ``unpickle``, ``initialize_from_pkl``): checkpoints are ``.npz`` files, see
`cle_port.train.checkpoint`.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.errors import UserError
from cle_port.files import open_file
from cle_port.files.npz import DAMAGE

Node = TypeVar("Node", bound=Hashable)


def topological_sort(graph: Mapping[Node, Any]) -> deque[Node]:
    """Order the nodes of a directed graph so that each comes before those it leads to.

    Parameters
    ----------
    graph : mapping of node to node or list of nodes
        The nodes that each node leads to.  A node that leads to none may be left out.

    Returns
    -------
    deque of nodes
        The last node of ``graph`` that no other leads to comes first.

    Raises
    ------
    ValueError
        If there is a cycle.

    Notes
    -----
    Counterpart: ``cle.utils.topological_sort``, which starts at the nodes in the order of
    a set: of several orders that are right, it may return another one.
    """
    order: deque[Node] = deque()
    entered: set[Node] = set()
    left: set[Node] = set()

    def visit(node: Node) -> None:
        if node in left:
            return
        if node in entered:
            raise ValueError(f"the graph has a cycle through {node!r}; take one of its edges out")
        entered.add(node)
        for following in tolist(graph.get(node, [])):
            visit(following)
        left.add(node)
        order.appendleft(node)

    for node in graph:
        visit(node)
    return order


def one_hot(labels: ArrayLike, nlabels: int | None = None) -> NDArray:
    """Encode each label as a row with one 1.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
    nlabels : int, optional
        Number of labels; default: the greatest label plus 1.

    Returns
    -------
    ndarray of shape (n, nlabels), ``floatX``

    Raises
    ------
    ValueError
        If a label is not one of 0 to ``nlabels`` - 1.

    Notes
    -----
    Counterpart: ``cle.utils.one_hot``.
    """
    labels = np.asarray(labels)
    if nlabels is None:
        nlabels = int(labels.max()) + 1
    if ((labels < 0) | (labels >= nlabels)).any():
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()} are not all among 0 to {nlabels - 1}; "
            "give a larger nlabels or labels from 0 on"
        )
    code = np.zeros((len(labels), nlabels), dtype=pytensor.config.floatX)
    code[np.arange(len(labels)), labels] = 1
    return code


def T_one_hot(labels: TensorVariable, nlabels: int | None = None) -> TensorVariable:
    """Encode each label as a vector with one 1, along a new last axis.

    Parameters
    ----------
    labels : tensor of int
        Of any number of dimensions.
    nlabels : int, optional
        Number of labels; default: the greatest label plus 1, known only at run time.

    Returns
    -------
    tensor of shape (..., nlabels), ``floatX``
        All 0 for a label that is not one of 0 to ``nlabels`` - 1.

    Notes
    -----
    Counterpart: ``cle.utils.T_one_hot``.
    """
    number: Any = pt.max(labels) + 1 if nlabels is None else nlabels
    code = pt.eq(labels[..., None], pt.arange(number))
    return pt.cast(code, pytensor.config.floatX)


def flatten(nested_list: Iterable) -> list:
    """Return the entries of lists and tuples within lists and tuples as one list.

    Counterpart: ``cle.utils.flatten``.
    """
    entries: list = []
    for entry in nested_list:
        entries.extend(flatten(entry) if isinstance(entry, list | tuple) else [entry])
    return entries


def uniqify(seq: Iterable[Node]) -> list[Node]:
    """Return the entries of a sequence in their order, each only where it comes first.

    Counterpart: ``cle.utils.uniqify``.
    """
    return list(dict.fromkeys(seq))


def predict(probs: TensorVariable, axis: int = -1) -> TensorVariable:
    """Return the index of the largest probability along ``axis``, the first one of equals.

    Counterpart: ``cle.utils.predict``.
    """
    return pt.argmax(probs, axis=axis)


def error(labels: TensorVariable, pred_labels: TensorVariable) -> TensorVariable:
    """Return the share of predicted labels that are wrong, in double precision.

    Counterpart: ``cle.utils.error``.
    """
    return pt.mean(pt.neq(pred_labels, labels), dtype="float64")


def unpack(arg: Any) -> Any:
    """Return the only entry of a list or tuple, a list of several, or the first row of an array.

    Anything else is returned as it is.

    Counterpart: ``cle.utils.unpack``, which fails for several entries.
    """
    if isinstance(arg, list | tuple):
        return arg[0] if len(arg) == 1 else list(arg)
    return arg[0] if isinstance(arg, np.ndarray) else arg


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


def todict(args: Any) -> dict[str, Any]:
    """Return one object, or those of a list or tuple, by their attribute ``name``, in order.

    Counterpart: ``cle.utils.todict``.
    """
    return {arg.name: arg for arg in tolist(args)}


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


def shared_int(
    value: ArrayLike, dtype: str = "int32", name: str | None = None, borrow: bool = False
) -> TensorSharedVariable:
    """Make a shared variable of whole numbers with a static shape.

    Parameters
    ----------
    value : array_like
        Initial value, copied.
    dtype : str
        Dtype of the variable.
    name : str, optional
        Name of the variable.
    borrow : bool
        Without effect: `value` is always copied.

    Returns
    -------
    TensorSharedVariable
        Its static shape is that of ``value``; later values need the same shape.

    Notes
    -----
    Counterpart: ``cle.utils.shared_int``, which always fails.
    """
    array = np.array(value, dtype=dtype)
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


def itemlist(tparams: Mapping[str, Any]) -> list:
    """Return the values of a mapping, in order: the list of parameters.

    Counterpart: ``cle.utils.itemlist``.
    """
    return list(tparams.values())


def load_params(path: str | Path, params: dict[str, NDArray]) -> dict[str, NDArray]:
    """Replace the values of parameters by those of an ``.npz`` file, such as a checkpoint.

    Parameters
    ----------
    path : path
        File with an array for each parameter, under its name.  Other arrays are ignored.
    params : dict of str to ndarray
        Values by parameter name, as ``initialize`` of a layer returns them; changed in place.

    Returns
    -------
    dict of str to ndarray
        ``params``.

    Warns
    -----
    UserWarning
        For each parameter that is not in the file.  It keeps its value.

    Raises
    ------
    UserError
        If the file cannot be read or an array has another shape.  Nothing has changed then.

    Notes
    -----
    Counterpart: ``cle.utils.load_params``, which always fails.
    """
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in params if name in archive}
    except DAMAGE as error:
        raise UserError(
            f"cannot read parameters from {path} ({error}); give an .npz file of arrays"
        ) from error
    for name, value in found.items():
        if value.shape != np.shape(params[name]):
            raise UserError(
                f"{name} has shape {value.shape} in {path} and {np.shape(params[name])} in the "
                "model; give a file of this model"
            )
    for name in params.keys() - found.keys():
        warnings.warn(f"{path} has no {name}, which keeps its value", stacklevel=2)
    params.update(found)
    return params


class DefaultListOrderedDict(OrderedDict):
    """An ordered dictionary in which a key that is looked up first gets an empty list.

    Counterpart: ``cle.utils.DefaultListOrderedDict``.
    """

    def __missing__(self, k: Any) -> list:
        self[k] = []
        return self[k]


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
