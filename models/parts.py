"""Parts that the models of the paper are put together from.

The original spells all of this out in each of its eight scripts; here it
stands once, with the original's names for nodes and parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.special import softmax
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import GMM, BiGauss, BiGMM, Gaussian
from cle_port.layers import InitCell, Shape, StemCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.utils.op import Gaussian_sample, GMM_sample_mean, component, multinomial
from models.settings import Settings

Params = Mapping[str, TensorVariable]
SIG_FLOOR = 1e-4  # added to every standard deviation


class Init:
    """Initial values that all models share, drawn from one generator.

    Parameters
    ----------
    seed : int or None
        With which the parameters equal those that the original draws after
        ``np.random.seed(seed)``.  None draws nothing and makes all zero, for
        parameters that come from a checkpoint: orthogonal matrices of the
        original's sizes take minutes.
    n_param : float
        Without a seed: how many there are; a model with many more, by false
        settings of a file, ends in a ValueError before it takes the memory.

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
        rng = np.random.RandomState(seed)
        self.W = InitCell("rand", rng=rng)
        self.U = InitCell("ortho", rng=rng)
        self.b = InitCell("zeros")
        self.b_sig = InitCell("const", mean=0.6)


class _Zeros(InitCell):
    """Zeros for a model of about so many parameters."""

    def __init__(self, n_param: float) -> None:
        super().__init__("zeros")
        self.left = 4 * n_param  # since each layer is initialised twice

    def zeros(self, shape: Shape) -> NDArray:
        self.left -= math.prod((shape,) if isinstance(shape, int) else shape)
        if self.left < 0:
            raise ValueError("its settings ask for more parameters than it has")
        return super().zeros(shape)


def layer(
    name: str, parent: Mapping[str, int], nout: int, init: Init, unit: str = "relu"
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
        See `cle_port.layers.NonlinCell`.  'softplus' stands for a standard
        deviation, with its own initial bias and floor.
    """
    is_sig = unit == "softplus"
    return FullyConnectedLayer(
        name=name,
        parent=list(parent),
        parent_dim=list(parent.values()),
        nout=nout,
        unit=unit,
        cons=SIG_FLOOR if is_sig else 0.0,
        init_W=init.W,
        init_b=init.b_sig if is_sig else init.b,
    )


class Stack:
    """Layers ``<name>_1`` to ``<name>_<depth>`` of rectifiers, one on the other.

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
        The last layer's name and width: a ``parent`` for what follows.
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
        top = self.stack.fprop(X, params)
        return self.mu.fprop([top], params), self.sig.fprop([top], params)


class StandardGaussian:
    """The standard normal distribution in the place of a `GaussianNet`: no nodes.

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


class Decoder:
    """The distribution of x_t: a stack with one head for each of its parameters.

    ========  =========  ================================================
    data set  mixture    heads (all on the stack's last layer)
    ========  =========  ================================================
    Blizzard  no         theta_mu, theta_sig
    Blizzard  yes        theta_mu, theta_sig, coeff
    IAM-OnDB  no         theta_mu, theta_sig, corr, binary
    IAM-OnDB  yes        theta_mu, theta_sig, coeff, corr, binary
    ========  =========  ================================================

    On IAM-OnDB the first entry of a frame is the pen bit, with a probability
    of its own (binary, sigmoid); the offsets of the pen are correlated (corr,
    tanh).  coeff (softmax) are the weights of a mixture's components.

    Parameters
    ----------
    args : Settings
        Data set and sizes.
    parent : mapping of str to int
        Sizes of the inputs by name.
    init : Init
        Initial values.
    num_k : int, optional
        Components of the mixture; None is a single Gaussian.

    Attributes
    ----------
    noise_dim : int
        Normal numbers that a draw of one frame takes.
    """

    def __init__(
        self, args: Settings, parent: Mapping[str, int], init: Init, num_k: int | None = None
    ) -> None:
        is_pen = args.dataset == "iamondb"
        self.noise_dim = args.x_dim - 1 if is_pen else args.x_dim
        target_dim = self.noise_dim * (num_k or 1)
        gaussian = GaussianNet("theta", parent, args.p_x_dim, target_dim, args.depth, init)
        self.stack = gaussian.stack
        self.heads = [gaussian.mu, gaussian.sig]
        if num_k:
            self.heads.append(layer("coeff", self.stack.out, num_k, init, "softmax"))
        if is_pen:
            self.heads.append(layer("corr", self.stack.out, num_k or 1, init, "tanh"))
            self.heads.append(layer("binary", self.stack.out, 1, init, "sigmoid"))
        self.nodes: list[StemCell] = [*self.stack.nodes, *self.heads]
        costs: dict[tuple[bool, bool], Callable[..., TensorVariable]] = {
            (False, False): Gaussian,
            (False, True): GMM,
            (True, False): BiGauss,
            (True, True): BiGMM,
        }
        self.cost = costs[is_pen, bool(num_k)]

    def fprop(self, X: Sequence[TensorVariable], params: Params) -> dict[str, TensorVariable]:
        """Build the graph; returns the outputs of all nodes by name."""
        outputs = self.stack.fprop_all(X, params)
        *_, top = outputs.values()
        return outputs | {node.name: node.fprop([top], params) for node in self.heads}

    def nll(self, x: TensorVariable, v: Mapping[str, TensorVariable]) -> TensorVariable:
        """Negative log-density of each frame, in nats.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        v : mapping of str to tensor
            From `fprop`, shapes (T, B, ...).

        Returns
        -------
        tensor of shape (T, B)
        """
        theta = [flat(v[node.name]) for node in self.heads]
        return self.cost(flat(x), *theta).reshape((x.shape[0], x.shape[1]))

    def sample(
        self,
        v: Mapping[str, TensorVariable],
        eps: TensorVariable,
        u: TensorVariable,
        gmm: str = "sample",
        temperature: float = 1.0,
    ) -> tuple[TensorVariable, TensorVariable]:
        """Draw frames.

        Parameters
        ----------
        v : mapping of str to tensor
            From `fprop`, shapes (rows, ...).
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
            mixture the chosen component's.  Both have the same pen bit.
        """
        mu, sig, corr = v["theta_mu"], v["theta_sig"], v.get("corr")
        if "coeff" in v:
            coeff = tempered(v["coeff"], temperature)
            idx = pt.argmax(coeff, axis=1) if gmm == "argmax" else multinomial(coeff, u[:, 0])
            if corr is not None:
                eps = correlated(eps, component(corr, coeff, idx))
            x, mean = GMM_sample_mean(mu, sig, coeff, idx, eps)
        else:
            if corr is not None:
                eps = correlated(eps, corr)
            x, mean = Gaussian_sample(mu, sig, eps), mu
        if "binary" not in v:
            return x, mean
        up = v["binary"]
        up = tempered(pt.concatenate([up, 1 - up], axis=1), temperature)[:, :1]
        pen = pt.cast(u[:, 1:] < up, x.dtype)
        return pt.concatenate([pen, x], axis=1), pt.concatenate([pen, mean], axis=1)


def tempered(p: TensorVariable, temperature: float) -> TensorVariable:
    """Probabilities proportional to p ** (1 / temperature), shape (rows, n).

    The logarithms are divided by the temperature: below 1 what is probable
    becomes more probable, above 1 all become alike.
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


def average(frames: TensorVariable, mask: TensorVariable | None) -> TensorVariable:
    """What the programs minimise, from a number for each frame.

    Parameters
    ----------
    frames : tensor of shape (T, B)
        A number for each frame.
    mask : tensor of shape (T, B), or None
        1 for frames, 0 for padding behind shorter sequences.

    Returns
    -------
    scalar
        Without a mask (Blizzard) the mean over frames; with one (IAM-OnDB) the
        sum over the frames of a sequence, mean over sequences.
    """
    return frames.mean() if mask is None else (frames * mask).sum(axis=0).mean()


def flat(v: TensorVariable) -> TensorVariable:
    """Merge time and batch: shape (T, B, dim) to (T * B, dim)."""
    return v.reshape((v.shape[0] * v.shape[1], v.shape[2]))


def initialize(nodes: Sequence[StemCell]) -> dict[str, NDArray]:
    """Draw the initial values of all nodes' parameters, in their order.

    Each node is initialised twice and the second draw counts: the original
    calls ``initialize`` once to see whether there are parameters and once to
    get them, and its seeds only mean the same if that is repeated.
    """
    params: dict[str, NDArray] = {}
    for node in nodes:
        if node.initialize():
            params.update(node.initialize())
    return params


def stats(name: str, v: TensorVariable, mask: TensorVariable | None = None) -> list[TensorVariable]:
    """Scalars ``max_<name>``, ``mean_<name>``, ``min_<name>`` of a tensor, to be monitored.

    Parameters
    ----------
    name : str
        Last part of the channels' names.
    v : tensor of shape (T, B, dim)
    mask : tensor of shape (T, B), optional
        Frames behind the end of all sequences do not count.  Those behind a
        shorter sequence do, as in the original.
    """
    used = frames_in_use(mask)
    return [
        named(_keep(v, used, -np.inf).max(), f"max_{name}"),
        named(_mean(v, used), f"mean_{name}"),
        named(_keep(v, used, np.inf).min(), f"min_{name}"),
    ]


def coeff_stats(coeff: TensorVariable, mask: TensorVariable | None = None) -> list[TensorVariable]:
    """Scalars that tell whether all components of a mixture are used, to be monitored.

    Parameters
    ----------
    coeff : tensor of shape (T, B, num_k)
    mask : tensor of shape (T, B), optional
        See `stats`.
    """
    used = frames_in_use(mask)
    mean = _keep(coeff, used, 0.0).sum(axis=(0, 1)) / _count(coeff, used)
    return [
        named(_keep(coeff, used, -np.inf).max(), "coeff_max"),
        named(_keep(coeff, used, np.inf).min(), "coeff_min"),
        named(mean.max(), "coeff_mean_max"),
        named(mean.min(), "coeff_mean_min"),
    ]


def frames_in_use(mask: TensorVariable | None) -> TensorVariable | None:
    """Whether any sequence reaches a frame, shape (T, 1, 1); None means all."""
    return None if mask is None else pt.gt(mask.max(axis=1), 0)[:, None, None]


def _keep(v: TensorVariable, used: TensorVariable | None, other: float) -> TensorVariable:
    return v if used is None else pt.switch(used, v, np.asarray(other, dtype=v.dtype))


def _mean(v: TensorVariable, used: TensorVariable | None) -> TensorVariable:
    """Mean of all entries: their sum, divided by the length of one axis after the other.

    That is Theano's way, and each division rounds.
    """
    mean = _keep(v, used, 0.0).sum()
    for length in (v.shape[0] if used is None else used.sum(), v.shape[1], v.shape[2]):
        mean = _quotient(mean, length)
    return mean


def _quotient(a: TensorVariable, n: TensorVariable) -> TensorVariable:
    if a.dtype == pytensor.config.floatX:
        return a / pt.cast(n, a.dtype)
    # A channel of single precision in a program of double precision (x on IAM-OnDB).  Divided
    # in float32, compilers would make one division of several.
    return pt.cast(pt.cast(a, "float64") / n, a.dtype)


def _count(v: TensorVariable, used: TensorVariable | None) -> TensorVariable:
    """Count the frames of all sequences together."""
    n_step = v.shape[0] if used is None else used.sum()
    return pt.cast(n_step * v.shape[1], v.dtype)


def named(v: TensorVariable, name: str) -> TensorVariable:
    """Give a tensor its name and return it."""
    v.name = name
    return v
