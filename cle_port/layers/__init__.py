"""Base classes of all layers: initial values, units, parents.

Counterpart: ``cle/layers/__init__.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytensor
import pytensor.tensor as pt
import scipy.linalg
from numpy.typing import NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.utils import nnet, sharedX, tolist, unpack
from cle_port.utils.mrg import M2, MRG_RandomStreams

Shape = int | tuple[int, ...]


class InitCell:
    """Initial values of parameters.

    Parameters
    ----------
    init_type : str or None
        Name of the method that `get` calls: 'randn', 'rand', 'zeros', 'ones', 'const',
        'ortho', or one that a subclass adds.  With None, `get` does not work.
    mean, std_dev : float
        Mean and standard deviation of the normal distribution (`randn`, `ortho`);
        ``mean`` is also the value of `const`.
    low, high : float
        Bounds of the uniform distribution (`rand`).
    rng : numpy.random.RandomState, optional
        Source of the draws; the default is NumPy's global legacy generator, which
        ``np.random.seed`` seeds, as in the original.

    Raises
    ------
    ValueError
        If there is no method ``init_type``.

    Notes
    -----
    Counterpart: ``cle.layers.InitCell``.  All draws are float64 for any ``floatX``
    and come in the original's order.
    """

    TYPES: ClassVar = ("randn", "rand", "zeros", "ones", "const", "ortho")
    rng: Any = np.random  # of the class: an instance with a module could not be copied or pickled

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
        if rng is not None:
            self.rng = rng
        if init_type is not None:
            self.init_param = self.which_init(init_type)

    def which_init(self, which: str) -> Callable[[Shape], NDArray]:
        """Return the method named ``which``."""
        return _method(self, InitCell, which, "init_type", self.TYPES)

    def rand(self, shape: Shape) -> NDArray:
        """Draw from the uniform distribution on [low, high), float64."""
        return self.rng.uniform(self.low, self.high, shape)

    def randn(self, shape: Shape) -> NDArray:
        """Draw from the normal distribution N(mean, std_dev**2), float64."""
        return self.rng.normal(self.mean, self.std_dev, shape)

    def zeros(self, shape: Shape) -> NDArray:
        """Return zeros, float64."""
        return np.zeros(shape)

    def ones(self, shape: Shape) -> NDArray:
        """Return ones, float64."""
        return np.ones(shape)

    def const(self, shape: Shape) -> NDArray:
        """Return an array filled with ``mean``, float64."""
        return np.zeros(shape) + self.mean

    def ortho(self, shape: Shape) -> NDArray:
        """Draw a normal matrix and return an orthonormal basis of its columns.

        Parameters
        ----------
        shape : (M, N)

        Returns
        -------
        ndarray
            float64, shape (M, N) if M >= N.  If M < N the columns span only M
            dimensions and the shape is (M, M), too narrow as in the original.
            LAPACK libraries may differ in the signs of columns.
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


class RandomCell:
    """Seeds and random generators of a layer.

    Each is made when it is first asked for.  No layer of this port draws: noise is
    an input of the graph.  `theano_rng` makes this noise on the host, the numbers
    that the original draws in the graph from the same seed.

    Attributes
    ----------
    seed_rng : numpy.random.RandomState
        Source of seeds that nobody sets; one for all layers.
    theano_seed : int or sequence of 6 int
        Seed of `theano_rng`; may be set before `theano_rng` is used.
    theano_rng : MRG_RandomStreams
        Generator MRG31k3p, see `cle_port.utils.mrg`; may be set.

    Notes
    -----
    Counterpart: ``cle.layers.RandomCell``, whose ``rng`` fails.  There, ``seed_rng`` takes
    its seed from NumPy's global generator when the module is imported; here, from
    the operating system.
    """

    seed_rng: ClassVar = np.random.RandomState()
    _seed: int | None = None
    _rng: np.random.RandomState | None = None
    _theano_seed: Any = None
    _theano_rng: MRG_RandomStreams | None = None

    def rng(self) -> np.random.RandomState:
        """Return NumPy's generator, seeded with `seed`."""
        if self._rng is None:
            self._rng = np.random.RandomState(self.seed())
        return self._rng

    def seed(self) -> int:
        """Return the seed of `rng`."""
        if self._seed is None:
            self._seed = int(self.seed_rng.randint(np.iinfo(np.int32).max))
        return self._seed

    @property
    def theano_seed(self) -> Any:
        """Seed of `theano_rng`."""
        while self._theano_seed is None:
            seed = int(self.seed_rng.randint(np.iinfo(np.int32).max))
            if 0 < seed < M2:  # the original fails for others, one in 100000
                self._theano_seed = seed
        return self._theano_seed

    @theano_seed.setter
    def theano_seed(self, value: Any) -> None:
        self._theano_seed = value

    @property
    def theano_rng(self) -> MRG_RandomStreams:
        """Generator MRG31k3p, on the host."""
        if self._theano_rng is None:
            self._theano_rng = MRG_RandomStreams(self.theano_seed)
        return self._theano_rng

    @theano_rng.setter
    def theano_rng(self, theano_rng: MRG_RandomStreams) -> None:
        self._theano_rng = theano_rng


class NonlinCell(RandomCell):
    """A unit: the elementwise (or rowwise) function of a layer's output.

    Parameters
    ----------
    unit : str, optional
        Name of a method in `UNITS` or of a method that a subclass adds.  With None
        the cell has no ``nonlin``.

    Attributes
    ----------
    saturate : bool
        True makes `sigmoid` and `softplus`, as units and as gates, saturate as
        Theano's do (`cle_port.utils.nnet`).  False makes them the plain functions.
        Set it before building a graph.

    Raises
    ------
    ValueError
        If there is no method ``unit``.

    Notes
    -----
    Counterpart: ``cle.layers.NonlinCell``.  Its two random units,
    `sigmoidal_spikenslab_relu` and `gaussian_spikenslab_relu`, draw inside the graph.
    Here they take noise, which ``fprop`` does not have, so none can be ``unit``.
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
    RANDOM_UNITS: ClassVar = ("sigmoidal_spikenslab_relu", "gaussian_spikenslab_relu")
    saturate: bool = True

    def __init__(self, unit: str | None = None) -> None:
        self.unit = unit
        if unit is not None:
            self.nonlin = self.which_fn(unit)

    def which_fn(self, which: str) -> Callable[[TensorVariable], TensorVariable]:
        """Return the method named ``which``."""
        if which in self.RANDOM_UNITS:
            raise ValueError(
                f"unit {which!r} takes noise, which fprop does not have; give unit='linear' and "
                f"call the layer's {which}(z, u) on its output"
            )
        return _method(self, NonlinCell, which, "unit", self.UNITS)

    def linear(self, z: TensorVariable) -> TensorVariable:
        """Return z."""
        return z

    def relu(self, z: TensorVariable) -> TensorVariable:
        """Return z where it is positive and 0 elsewhere; the gradient at 0 is 0."""
        return z * (z > 0.0)

    def sigmoid(self, z: TensorVariable) -> TensorVariable:
        """Return 1 / (1 + exp(-z)), cut off as Theano does; see `saturate`."""
        return nnet.sigmoid(z) if self.saturate else pt.sigmoid(z)

    def softmax(self, z: TensorVariable) -> TensorVariable:
        """Return exp(z) divided by its sum over the last axis."""
        return pt.special.softmax(z, axis=-1)

    def gpu_softmax(self, z: TensorVariable) -> TensorVariable:
        """Return `softmax`; the original has another implementation for the GPU."""
        return self.softmax(z)

    def softplus(self, z: TensorVariable) -> TensorVariable:
        """Return log(1 + exp(z)), cut off as Theano does; see `saturate`."""
        return nnet.softplus(z) if self.saturate else pt.softplus(z)

    def tanh(self, z: TensorVariable) -> TensorVariable:
        """Return the hyperbolic tangent."""
        return pt.tanh(z)

    def steeper_sigmoid(self, z: TensorVariable) -> TensorVariable:
        """Return 1 / (1 + exp(-3.75 z))."""
        return 1.0 / (1.0 + pt.exp(-3.75 * z))

    def hard_tanh(self, z: TensorVariable) -> TensorVariable:
        """Return z clipped to [-1, 1]."""
        return pt.clip(z, -1.0, 1.0)

    def hard_sigmoid(self, z: TensorVariable) -> TensorVariable:
        """Return z + 0.5 clipped to [0, 1]."""
        return pt.clip(z + 0.5, 0.0, 1.0)

    def sigmoidal_spikenslab_relu(self, z: TensorVariable, u: TensorVariable) -> TensorVariable:
        """Return z where u < sigmoid(z - 3), and 0 elsewhere.

        Parameters
        ----------
        z : tensor
        u : tensor of the shape of ``z``
            Uniform numbers on [0, 1).

        Returns
        -------
        tensor of the shape of ``z``

        Notes
        -----
        Counterpart: ``cle.layers.NonlinCell.sigmoidal_spikenslab_relu``, which draws
        ``u`` itself.
        """
        return z * (u < self.sigmoid(z - 3))

    def gaussian_spikenslab_relu(self, z: TensorVariable, u: TensorVariable) -> TensorVariable:
        """Return g = exp(-z**2) / sqrt(pi) where u < sum(g) - 3, and 0 elsewhere.

        Parameters
        ----------
        z : tensor
        u : tensor of the shape of ``z``
            Uniform numbers on [0, 1).

        Returns
        -------
        tensor of the shape of ``z``

        Notes
        -----
        Counterpart: ``cle.layers.NonlinCell.gaussian_spikenslab_relu``, which draws
        ``u`` itself.  As there, the sum is over the whole tensor: all entries share one
        "probability", below 0 for small tensors and above 1 for large ones.
        """
        g = pt.exp(-pt.sqr(z)) / float(np.sqrt(np.pi))
        return g * (u < g.sum() - 3)


class StemCell(NonlinCell):
    """Base of all layers: a name, parents with their sizes, initial values.

    Parameters
    ----------
    name : str
        Name of the layer; the names of its parameters end with it.
    parent : str or list of str
        Names of the inputs.
    parent_dim : int or list of int
        Size of each input's last axis.
    nout : int
        Size of the output's last axis.
    init_W, init_b : InitCell
        Initial values of weights and bias.
    cons : float
        Constant added to the output of the unit (a lower bound of standard
        deviations).
    use_bias : int or bool
        Whether there is a bias.
    lr_scaler : float
        Factor of the learning rate; without effect, as in the original (see
        docs/fidelity.md).
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

    `initialize` makes these parameters, in this order: ``W_<parent>__<name>`` of
    shape (parent_dim, nout) for each parent, then ``b_<name>`` of shape (nout,).
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
        self.nout: Any = nout  # an int in every layer that has parameters
        self.init_W = InitCell("randn") if init_W is None else init_W
        self.init_b = InitCell("zeros") if init_b is None else init_b
        self.cons = cons
        self.use_bias = use_bias
        self.lr_scaler = lr_scaler
        self.x_as_index = x_as_index
        self.parent = sizes_by_name(name, "parent", tolist(parent), tolist(parent_dim))

    def fprop(self, *args: Any, **kwargs: Any) -> Any:
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

    def _check_count(self, what: str, given: Sequence, expected: Collection[str]) -> None:
        if len(given) != len(expected):
            raise ValueError(
                f"layer {self.name!r} got {len(given)} {what} inputs, expected "
                f"{len(expected)}: {', '.join(expected)}"
            )


class OnehotLayer(StemCell):
    """Rows with ones at the given indices, and zeros elsewhere.

    Parameters
    ----------
    **kwargs
        See `StemCell`; ``nout`` is the number of different indices.

    Notes
    -----
    Counterpart: ``cle.layers.OnehotLayer``.  The layer has no parameters.
    """

    def fprop(self, x: TensorVariable | Sequence[TensorVariable]) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        x : tensor of shape (rows,) or (rows, n), or a list with it
            Indices from 0 to nout - 1, cast to int32; each of the n of a row makes a
            one.

        Returns
        -------
        tensor of shape (rows, nout), dtype floatX

        Raises
        ------
        ValueError
            If the list does not have one tensor.
        """
        self._check_count("parent", tolist(x), ["x"])
        x = pt.cast(unpack(x), "int32")
        z = pt.zeros((x.shape[0], self.nout), dtype=pytensor.config.floatX)
        z = pt.set_subtensor(z[pt.arange(x.size) % x.shape[0], x.T.flatten()], 1)
        z.name = self.name
        return z

    def initialize(self) -> dict[str, NDArray]:
        """Return no parameters."""
        return {}


class RealVectorLayer(StemCell):
    """unit(b) + cons: a vector of parameters, without any input.

    Parameters
    ----------
    **kwargs
        See `StemCell`.

    Notes
    -----
    Counterpart: ``cle.layers.RealVectorLayer``, which fails with ``nout`` 1: it asks a
    vector to broadcast along a second axis.

    `initialize` makes ``b_<name>`` of shape (nout,), whatever ``use_bias`` says.
    """

    def fprop(self, tparams: Mapping[str, TensorVariable]) -> TensorVariable:
        """Build the layer's graph.

        Parameters
        ----------
        tparams : mapping of str to tensor
            Parameters by name.

        Returns
        -------
        tensor of shape (nout,)
            It broadcasts if ``nout`` is 1.
        """
        z = self.nonlin(tparams[f"b_{self.name}"]) + self.cons
        if self.nout == 1:
            z = pt.specify_broadcastable(z, 0)
        z.name = self.name
        return z

    def initialize(self) -> dict[str, NDArray]:
        """Draw the initial value of the vector, float64."""
        return {f"b_{self.name}": self.init_b.get(self.nout)}


def _method(cell: Any, base: type, which: str, what: str, known: Sequence[str]) -> Callable:
    """Look up a method by name: a known one, or one that a subclass of ``base`` adds."""
    method = getattr(cell, which, None)
    if not callable(method) or (which not in known and hasattr(base, which)):
        raise ValueError(
            f"unknown {what} {which!r}; choose one of {', '.join(known)}, or define a method "
            f"of this name in a subclass of {type(cell).__name__}"
        )
    return method


def sizes_by_name(layer: str, what: str, names: list[str], sizes: list) -> dict[str, Any]:
    """Pair the names of a layer's inputs or recurrences with their sizes.

    Parameters
    ----------
    layer : str
        Name of the layer, for the message.
    what : str
        Argument that holds the names, for the message; ``<what>_dim`` holds the
        sizes.
    names : list of str
    sizes : list of int
        One size for each name, or none at all.

    Returns
    -------
    dict of str to int
        None as size if ``sizes`` is empty.

    Raises
    ------
    ValueError
        If the numbers of names and sizes differ.
    """
    if sizes and len(names) != len(sizes):
        raise ValueError(
            f"layer {layer!r} has {len(names)} names in {what} but {len(sizes)} in {what}_dim"
        )
    return dict(zip(names, sizes or [None] * len(names)))


def first_columns(x: TensorVariable, n: int | None) -> TensorVariable:
    """Return the first ``n`` entries of the last axis: h of an LSTM's state [h | c].

    Parameters
    ----------
    x : tensor of shape (..., dim)
    n : int or None
        None returns ``x`` itself.

    Returns
    -------
    tensor of shape (..., n)
        ``x`` itself if its static shape has this size already.
    """
    return x if n is None or x.type.shape[-1] == n else x[..., :n]
