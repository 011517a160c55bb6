"""Cells that every layer is made of: initial values, units, parents.

Counterpart: ``cle/layers/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
import scipy.linalg
from numpy.typing import NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.utils import nnet, sharedX, tolist

Shape = int | tuple[int, ...]


class InitCell:
    """How a parameter gets its initial value.

    Parameters
    ----------
    init_type : str or None
        Name of the method that `get` calls: 'randn', 'rand', 'zeros', 'ones', 'const',
        'ortho', or one that a subclass adds.  None leaves only the methods.
    mean, std_dev : float
        Of the normal distribution (`randn`, `ortho`); ``mean`` is also the
        value of `const`.
    low, high : float
        Bounds of the uniform distribution (`rand`).
    rng : numpy.random.RandomState, optional
        Where draws come from; default is NumPy's global legacy generator, as
        in the original, so that ``np.random.seed`` decides.

    Raises
    ------
    ValueError
        If there is no method ``init_type``.

    Notes
    -----
    Counterpart: ``cle.layers.InitCell``.  All draws are float64, whatever
    ``floatX`` is, and in the original's order.
    """

    TYPES: ClassVar = ("randn", "rand", "zeros", "ones", "const", "ortho")

    def __init__(
        self,
        init_type: str | None = "randn",
        mean: float = 0.0,
        std_dev: float = 0.01,
        low: float = -0.08,
        high: float = 0.08,
        rng: np.random.RandomState | None = None,
    ) -> None:
        self.init_type = init_type
        self.mean = mean
        self.std_dev = std_dev
        self.low = low
        self.high = high
        self.rng: Any = np.random if rng is None else rng
        if init_type is not None:
            self.init_param = self.which_init(init_type)

    def which_init(self, which: str) -> Callable[[Shape], NDArray]:
        """Return the method named ``which``."""
        return _method(self, InitCell, which, "init_type", self.TYPES)

    def rand(self, shape: Shape) -> NDArray:
        """Draw from the uniform distribution on [low, high)."""
        return self.rng.uniform(self.low, self.high, shape)

    def randn(self, shape: Shape) -> NDArray:
        """Draw from the normal distribution N(mean, std_dev**2)."""
        return self.rng.normal(self.mean, self.std_dev, shape)

    def zeros(self, shape: Shape) -> NDArray:
        """All zeros."""
        return np.zeros(shape)

    def ones(self, shape: Shape) -> NDArray:
        """All ones."""
        return np.ones(shape)

    def const(self, shape: Shape) -> NDArray:
        """Every entry equal to ``mean``."""
        return np.zeros(shape) + self.mean

    def ortho(self, shape: Shape) -> NDArray:
        """Orthonormal basis of the columns of a normal matrix.

        Parameters
        ----------
        shape : (M, N)

        Returns
        -------
        ndarray
            (M, N) when M >= N.  When M < N the columns span only M dimensions
            and the result is (M, M): narrower than asked for, as in the
            original.  Columns may differ in sign between LAPACK libraries.
        """
        return scipy.linalg.orth(self.randn(shape))

    def get(self, shape: Shape) -> NDArray:
        """Return an initial value of this shape, float64."""
        return self.init_param(shape)

    def getX(self, shape: Shape, name: str | None = None) -> TensorSharedVariable:
        """Return an initial value as a shared variable of dtype ``floatX``."""
        return sharedX(self.get(shape), name)

    def setX(self, x: NDArray, name: str | None = None) -> TensorSharedVariable:
        """Return the given value as a shared variable of dtype ``floatX``."""
        return sharedX(x, name)


class NonlinCell:
    """A unit: the elementwise (or rowwise) function at a layer's output.

    Parameters
    ----------
    unit : str, optional
        Name of one of the methods in `UNITS`, or of one that a subclass adds; None
        leaves the cell without ``nonlin``.

    Attributes
    ----------
    saturate : bool
        Whether `sigmoid` and `softplus`, as units and as gates, are Theano's, which
        saturate (`cle_port.utils.nnet`); False makes them the plain functions.  It is
        read when a graph is built.

    Raises
    ------
    ValueError
        If there is no method ``unit``.

    Notes
    -----
    Counterpart: ``cle.layers.NonlinCell``, without its two random units
    (``sigmoidal_spikenslab_relu``, ``gaussian_spikenslab_relu``), which draw
    inside the graph.
    """

    UNITS: ClassVar = (
        "linear",
        "relu",
        "sigmoid",
        "softmax",
        "gpu_softmax",
        "softplus",
        "tanh",
        "steeper_sigmoid",
        "hard_tanh",
        "hard_sigmoid",
    )
    saturate: bool = True

    def __init__(self, unit: str | None = None) -> None:
        self.unit = unit
        if unit is not None:
            self.nonlin = self.which_fn(unit)

    def which_fn(self, which: str) -> Callable[[TensorVariable], TensorVariable]:
        """Return the method named ``which``."""
        return _method(self, NonlinCell, which, "unit", self.UNITS)

    def linear(self, z: TensorVariable) -> TensorVariable:
        """Z itself."""
        return z

    def relu(self, z: TensorVariable) -> TensorVariable:
        """Z where positive, 0 elsewhere; the gradient at 0 is 0."""
        return z * (z > 0.0)

    def sigmoid(self, z: TensorVariable) -> TensorVariable:
        """1 / (1 + exp(-z)), cut off as Theano does; see `saturate`."""
        return nnet.sigmoid(z) if self.saturate else pt.sigmoid(z)

    def softmax(self, z: TensorVariable) -> TensorVariable:
        """exp(z) divided by its sum over the last axis."""
        return pt.special.softmax(z, axis=-1)

    def gpu_softmax(self, z: TensorVariable) -> TensorVariable:
        """The same as `softmax`; the original wrote it out for the GPU."""
        return self.softmax(z)

    def softplus(self, z: TensorVariable) -> TensorVariable:
        """log(1 + exp(z)), cut off as Theano does; see `saturate`."""
        return nnet.softplus(z) if self.saturate else pt.softplus(z)

    def tanh(self, z: TensorVariable) -> TensorVariable:
        """Hyperbolic tangent."""
        return pt.tanh(z)

    def steeper_sigmoid(self, z: TensorVariable) -> TensorVariable:
        """1 / (1 + exp(-3.75 z))."""
        return 1.0 / (1.0 + pt.exp(-3.75 * z))

    def hard_tanh(self, z: TensorVariable) -> TensorVariable:
        """Z clipped to [-1, 1]."""
        return pt.clip(z, -1.0, 1.0)

    def hard_sigmoid(self, z: TensorVariable) -> TensorVariable:
        """Z + 0.5 clipped to [0, 1]."""
        return pt.clip(z + 0.5, 0.0, 1.0)


class StemCell(NonlinCell):
    """What all layers share: a name, parents with their sizes, initial values.

    Parameters
    ----------
    name : str
        Name of the layer, the last part of its parameters' names.
    parent : str or list of str
        Names of the inputs.
    parent_dim : int or list of int
        Size of each input's last axis.
    nout : int
        Size of the output's last axis.
    init_W, init_b : InitCell
        Initial values of weights and bias.
    cons : float
        Constant added after the unit (a floor for standard deviations).
    use_bias : int or bool
        Whether there is a bias.
    lr_scaler : float
        Meant as a factor on the learning rate; the original never applies it
        (see docs/fidelity.md).
    x_as_index : int or bool
        Whether one-dimensional inputs are indices.
    unit : str, optional
        See `NonlinCell`.

    Raises
    ------
    ValueError
        If ``parent`` and ``parent_dim`` have different lengths.

    Notes
    -----
    Counterpart: ``cle.layers.StemCell``.

    Parameters made by `initialize`, in this order: for each parent
    ``W_<parent>__<name>`` of shape (parent_dim, nout), then ``b_<name>`` of
    shape (nout,).
    """

    def __init__(
        self,
        name: str,
        parent: str | Sequence[str] = (),
        parent_dim: int | Sequence[int] = (),
        nout: int | None = None,
        init_W: InitCell | None = None,
        init_b: InitCell | None = None,
        cons: float = 0.0,
        use_bias: int | bool = 1,
        lr_scaler: float = 1.0,
        x_as_index: int | bool = 0,
        unit: str | None = None,
    ) -> None:
        super().__init__(unit)
        self.name = name
        self.nout: Any = nout  # an int for every layer that has parameters
        self.init_W = InitCell("randn") if init_W is None else init_W
        self.init_b = InitCell("zeros") if init_b is None else init_b
        self.cons = cons
        self.use_bias = use_bias
        self.lr_scaler = lr_scaler
        self.x_as_index = x_as_index
        self.parent = _sizes_by_name(name, "parent", tolist(parent), tolist(parent_dim))

    def fprop(self, *args: Any, **kwargs: Any) -> TensorVariable:
        """Build the layer's graph; each layer defines its own."""
        raise NotImplementedError(f"{type(self).__name__} does not implement fprop")

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order.

        Returns
        -------
        dict of str to ndarray
        """
        params = {
            f"W_{parname}__{self.name}": self.init_W.get((parout, self.nout))
            for parname, parout in self.parent.items()
        }
        if self.use_bias:
            params[f"b_{self.name}"] = self.init_b.get(self.nout)
        return params

    def _check_count(self, what: str, given: Sequence, expected: Mapping) -> None:
        if len(given) != len(expected):
            raise ValueError(
                f"layer {self.name!r} got {len(given)} {what} inputs, expected "
                f"{len(expected)}: {', '.join(expected)}"
            )


def _method(cell: Any, base: type, which: str, what: str, known: Sequence[str]) -> Callable:
    """Look up a method by name: one of those known, or one that a subclass of ``base`` adds."""
    method = getattr(cell, which, None)
    if not callable(method) or (which not in known and hasattr(base, which)):
        raise ValueError(
            f"unknown {what} {which!r}; choose one of {', '.join(known)}, or define a method "
            f"of this name in a subclass of {type(cell).__name__}"
        )
    return method


def _sizes_by_name(layer: str, what: str, names: list, sizes: list) -> dict[str, Any]:
    if sizes and len(names) != len(sizes):
        raise ValueError(
            f"layer {layer!r} has {len(names)} names in {what} but {len(sizes)} in {what}_dim"
        )
    return dict(zip(names, sizes or [None] * len(names)))


def first_columns(x: TensorVariable, n: int | None) -> TensorVariable:
    """First ``n`` entries of the last axis: of a state [h | c] the hidden half h.

    Returns ``x`` itself where its static shape says that it has no more.
    """
    return x if n is None or x.type.shape[-1] == n else x[..., :n]
