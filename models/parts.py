"""Parts that the models of the paper are put together from.

The original writes all of this out in each of its eight scripts.  Nodes and
parameters have the original's names.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.special import softmax
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import InitCell, Shape, StemCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import (
    GFGRU,
    GFLSTM,
    GRU,
    GRU2,
    LSTM,
    RecurrentLayer,
    SimpleRecurrent,
)
from cle_port.utils.op import Gaussian_sample, GMM_sample_mean, component, multinomial

logger = logging.getLogger(__name__)

Params = Mapping[str, TensorVariable]
# A draw of x_t, and the mean that it was drawn around: from the decoder's outputs and noise, see
# `sample_frames`; from the decoder's outputs alone, inside of a time step.
Sampler = Callable[..., tuple[TensorVariable, TensorVariable]]
Draw = Callable[[dict[str, TensorVariable]], tuple[TensorVariable, TensorVariable]]
SIG_FLOOR = 1e-4  # added to every standard deviation

# The recurrences of --rnn.  The paper says "LSTM or GRU"; the original's scripts have an LSTM.
TRANSITIONS: dict[str, type[RecurrentLayer]] = {
    "lstm": LSTM,
    "gru": GRU,
    "gru2": GRU2,
    "gflstm": GFLSTM,
    "gfgru": GFGRU,
    "simple": SimpleRecurrent,
}


class Init:
    """Initial values that all models share, drawn from one generator.

    Parameters
    ----------
    seed : int or None
        The parameters equal those that the original draws after
        ``np.random.seed(seed)``.  None makes all zero, for parameters that come
        from a checkpoint: drawing orthogonal matrices of the original's sizes
        takes minutes.
    n_param : float
        Without a seed: the number of parameters in the checkpoint.  A model with
        many more, by false settings of a file, raises ValueError before it
        takes the memory.

    Attributes
    ----------
    W, U, b, b_sig : InitCell
        Weights uniform on [-0.08, 0.08), recurrent weights orthogonal, biases
        0; biases of standard deviations 0.6, which is sigma = 1.04 at first.
    """

    def __init__(self, seed: int | None, n_param: float = math.inf) -> None:
        if seed is None:
            zeros: InitCell = _Zeros(n_param)
            self.W = self.U = self.b = self.b_sig = zeros
            return
        logger.info("Drawing initial parameters")
        rng = np.random.RandomState(seed)
        self.W = InitCell("rand", rng=rng)
        self.U = InitCell("ortho", rng=rng)
        self.b = InitCell("zeros")
        self.b_sig = InitCell("const", mean=0.6)


class _Zeros(InitCell):
    """Zeros, for a model of at most so many parameters; orthogonal matrices too."""

    def __init__(self, n_param: float) -> None:
        super().__init__("zeros")
        self.left = 4 * n_param  # each layer is initialised twice, and a margin

    def zeros(self, shape: Shape) -> NDArray:
        self.left -= math.prod((shape,) if isinstance(shape, int) else shape)
        if self.left < 0:
            raise ValueError("its settings ask for more parameters than it has")
        return super().zeros(shape)

    def ortho(self, shape: Shape) -> NDArray:
        """Zeros: an LSTM asks for orthogonal matrices by this name."""
        return self.zeros(shape)

    def rand(self, shape: Shape) -> NDArray:
        """Zeros: a gated feedback layer asks for uniform columns by this name."""
        return self.zeros(shape)


def layer(
    name: str,
    parent: Mapping[str, int],
    nout: int,
    init: Init,
    unit: str = "relu",
    floor: float = SIG_FLOOR,
) -> FullyConnectedLayer:
    """Make a fully connected layer.

    Parameters
    ----------
    name : str
        Name of the layer.
    parent : mapping of str to int
        Sizes of the inputs by name.
    nout : int
        Size of the output.
    init : Init
        Initial values.
    unit : str
        See `cle_port.layers.NonlinCell`.  'softplus' gives a standard deviation,
        which has its own initial bias and floor.
    floor : float
        Added to a standard deviation.
    """
    is_sig = unit == "softplus"
    return FullyConnectedLayer(
        name=name,
        parent=list(parent),
        parent_dim=list(parent.values()),
        nout=nout,
        unit=unit,
        cons=floor if is_sig else 0.0,
        init_W=init.W,
        init_b=init.b_sig if is_sig else init.b,
    )


class Stack:
    """Layers ``<name>_1`` to ``<name>_<depth>`` of rectifiers, one after the other.

    Parameters
    ----------
    name : str
        First part of the layers' names.
    parent : mapping of str to int
        Sizes of the inputs by name.
    nout : int
        Width of each layer.
    depth : int
        Number of layers.
    init : Init
        Initial values.

    Attributes
    ----------
    nodes : list of FullyConnectedLayer
    out : dict of str to int
        Name and width of the last layer: the ``parent`` of the next nodes.
    """

    def __init__(
        self, name: str, parent: Mapping[str, int], nout: int, depth: int, init: Init
    ) -> None:
        self.nodes: list[FullyConnectedLayer] = []
        for i in range(1, depth + 1):
            self.nodes.append(layer(f"{name}_{i}", parent, nout, init))
            parent = {f"{name}_{i}": nout}
        self.out = dict(parent)

    def fprop(self, X: Sequence[TensorVariable], params: Params) -> TensorVariable:
        """Build the graph from the inputs to the last layer's output."""
        return list(self.fprop_all(X, params).values())[-1]

    def fprop_all(self, X: Sequence[TensorVariable], params: Params) -> dict[str, TensorVariable]:
        """Build the graph; returns the output of every layer by its name."""
        outputs: dict[str, TensorVariable] = {}
        for node in self.nodes:
            outputs[node.name] = node.fprop(X, params)
            X = [outputs[node.name]]
        return outputs


class GaussianNet:
    """A stack that ends in mean and standard deviation of a diagonal Gaussian.

    Nodes: ``<name>_1`` and so on, ``<name>_mu`` (linear), ``<name>_sig``
    (softplus plus 1e-4).

    Parameters
    ----------
    name, parent, depth, init
        See `Stack`.
    width : int
        Width of the layers.
    nout : int
        Dimension of the Gaussian.
    """

    def __init__(
        self,
        name: str,
        parent: Mapping[str, int],
        width: int,
        nout: int,
        depth: int,
        init: Init,
    ) -> None:
        self.stack = Stack(name, parent, width, depth, init)
        self.mu = layer(f"{name}_mu", self.stack.out, nout, init, "linear")
        self.sig = layer(f"{name}_sig", self.stack.out, nout, init, "softplus")
        self.nodes: list[StemCell] = [*self.stack.nodes, self.mu, self.sig]

    def fprop(
        self, X: Sequence[TensorVariable], params: Params
    ) -> tuple[TensorVariable, TensorVariable]:
        """Build the graph; returns mean and standard deviation."""
        last = self.stack.fprop(X, params)
        return self.mu.fprop([last], params), self.sig.fprop([last], params)


class StandardGaussian:
    """The standard normal distribution, used like a `GaussianNet`; it has no nodes.

    Parameters
    ----------
    dim : int
        Dimension.
    """

    nodes: Sequence[StemCell] = ()

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def fprop(
        self, X: Sequence[TensorVariable], params: Params
    ) -> tuple[TensorVariable, TensorVariable]:
        """Mean 0 and standard deviation 1 for each row of the first input."""
        shape = (X[0].shape[0], self.dim)
        dtype = X[0].dtype
        return pt.zeros(shape, dtype=dtype), pt.ones(shape, dtype=dtype)


def normal_noise(x: TensorVariable, dim: int) -> TensorVariable:
    """Symbolic standard normal noise for frames, an input of the graph.

    Parameters
    ----------
    x : tensor of shape (T, B, x_dim)
        Frames.
    dim : int
        Normal numbers for each frame.

    Returns
    -------
    tensor of shape (T, B, dim), dtype floatX
    """
    shape = (*x.type.shape[:2], dim)
    return pt.tensor("eps", dtype=pytensor.config.floatX, shape=shape)


class Head(NamedTuple):
    """One parameter of the distribution of x_t: a layer on the decoder's last one.

    Attributes
    ----------
    name : str
        Name of the layer, such as ``theta_mu``.
    nout : int
        Size of the parameter.
    unit, floor
        See `layer`.
    """

    name: str
    nout: int
    unit: str
    floor: float = SIG_FLOOR


def sample_frames(
    theta: Mapping[str, TensorVariable],
    eps: TensorVariable,
    u: TensorVariable,
    gmm: str = "sample",
    temperature: float = 1.0,
) -> tuple[TensorVariable, TensorVariable]:
    """Draw frames from a Gaussian or a mixture, with or without a pen bit.

    Parameters
    ----------
    theta : mapping of str to tensor
        From `Decoder.fprop`, shapes (rows, ...).
    eps : tensor of shape (rows, noise_dim)
        Standard normal noise, scaled by the temperature if that is not 1.
    u : tensor of shape (rows, 2)
        Uniform on [0, 1): for the mixture's component and for the pen bit.
    gmm : {'sample', 'argmax'}
        Draw the mixture's component, or take the most probable one.
    temperature : float
        Of the components' weights and the pen bit's probability, see `tempered`.

    Returns
    -------
    x, mean : tensors of shape (rows, x_dim)
        The draws, and the means that these were drawn around: of the
        mixture, that of the chosen component.  Both have the same pen bit.
    """
    mu, sig, corr = theta["theta_mu"], theta["theta_sig"], theta.get("corr")
    if "coeff" in theta:
        coeff = tempered(theta["coeff"], temperature)
        idx = pt.argmax(coeff, axis=1) if gmm == "argmax" else multinomial(coeff, u[:, 0])
        if corr is not None:
            eps = correlated(eps, component(corr, coeff, idx))
        x, mean = GMM_sample_mean(mu, sig, coeff, idx, eps)
    else:
        if corr is not None:
            eps = correlated(eps, corr)
        x, mean = Gaussian_sample(mu, sig, eps), mu
    if "binary" not in theta:
        return x, mean
    up = theta["binary"]
    up = tempered(pt.concatenate([up, 1 - up], axis=1), temperature)[:, :1]
    pen = pt.cast(u[:, 1:] < up, x.dtype)
    return pt.concatenate([pen, x], axis=1), pt.concatenate([pen, mean], axis=1)


class Decoder:
    """The distribution of x_t: a stack ``theta_1`` ... with a head for each parameter.

    ==============  ==========================================================
    head            parameter
    ==============  ==========================================================
    ``theta_mu``    means, of all components of a mixture
    ``theta_sig``   standard deviations, likewise
    ``coeff``       weights of the components
    ``corr``        correlation of the pen's two offsets, of each component
    ``binary``      probability of the pen bit, the first entry of a frame
    ==============  ==========================================================

    Parameters
    ----------
    parent : mapping of str to int
        Sizes of the inputs by name.
    width, depth : int
        Width and number of the stack's layers.
    heads : list of Head
        In the order of the arguments of ``density``.
    density : callable
        Cost of `cle_port.cost` that gives the negative log-density: takes x of
        shape (rows, x_dim) and the heads' outputs; returns shape (rows,).
    init : Init
        Initial values.
    sample : callable
        Draws frames; takes what `sample_frames` takes and returns what it returns.

    Attributes
    ----------
    nodes : list of StemCell
    """

    def __init__(
        self,
        parent: Mapping[str, int],
        width: int,
        depth: int,
        heads: Sequence[Head],
        density: Callable[..., TensorVariable],
        init: Init,
        sample: Sampler = sample_frames,
    ) -> None:
        self.stack = Stack("theta", parent, width, depth, init)
        self.heads = [
            layer(head.name, self.stack.out, head.nout, init, head.unit, head.floor)
            for head in heads
        ]
        self.nodes: list[StemCell] = [*self.stack.nodes, *self.heads]
        self.density = density
        self.sample = sample

    def fprop(self, X: Sequence[TensorVariable], params: Params) -> dict[str, TensorVariable]:
        """Build the graph; returns the outputs of all nodes by name."""
        outputs = self.stack.fprop_all(X, params)
        *_, last = outputs.values()
        return outputs | {node.name: node.fprop([last], params) for node in self.heads}

    def nll(self, x: TensorVariable, theta: Mapping[str, TensorVariable]) -> TensorVariable:
        """Negative log-density of each frame, in nats.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        theta : mapping of str to tensor
            From `fprop`, shapes (T, B, ...).

        Returns
        -------
        tensor of shape (T, B)
        """
        parameters = [flat(theta[node.name]) for node in self.heads]
        return self.density(flat(x), *parameters).reshape((x.shape[0], x.shape[1]))

    @property
    def noise_dim(self) -> int:
        """Normal numbers that a draw of one frame takes: the size of a component's mean."""
        sizes = {node.name: node.nout for node in self.heads}
        return sizes["theta_mu"] // sizes.get("coeff", 1)


def tempered(p: TensorVariable, temperature: float) -> TensorVariable:
    """Probabilities proportional to p ** (1 / temperature), shape (rows, n).

    Below 1 the probable becomes more probable; above 1 all become alike.
    """
    if temperature == 1.0:
        return p
    return softmax(pt.log(p) / np.asarray(temperature, dtype=p.dtype), axis=1)


def correlated(eps: TensorVariable, corr: TensorVariable) -> TensorVariable:
    """Give two columns of independent standard normal noise the correlation ``corr``.

    Parameters
    ----------
    eps : tensor of shape (rows, 2)
    corr : tensor of shape (rows, 1)
    """
    first, second = eps[:, :1], eps[:, 1:]
    return pt.concatenate([first, corr * first + pt.sqrt(1 - corr**2) * second], axis=1)


def flat(v: TensorVariable) -> TensorVariable:
    """Merge time and batch: shape (T, B, dim) to (T * B, dim)."""
    return v.reshape((v.shape[0] * v.shape[1], v.shape[2]))


def initialize(nodes: Sequence[StemCell]) -> dict[str, NDArray]:
    """Draw the initial values of all nodes' parameters, in their order.

    Each node is initialised twice and keeps the second draw.  The original calls
    ``initialize`` once to see whether a node has parameters and once to get
    them; a seed gives the original's parameters only if this does the same.
    """
    params: dict[str, NDArray] = {}
    for node in nodes:
        if node.initialize():
            params.update(node.initialize())
    return params
