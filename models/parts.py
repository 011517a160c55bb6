"""Parts that the models of the paper are put together from.

The original spells all of this out in each of its eight scripts; here it
stands once, with the original's names for nodes and parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import GMM
from cle_port.layers import InitCell, StemCell
from cle_port.layers.feedforward import FullyConnectedLayer

Params = Mapping[str, TensorVariable]
SIG_FLOOR = 1e-4  # added to every standard deviation


class Init:
    """Initial values that all models share, drawn from one generator.

    Parameters
    ----------
    seed : int
        With which the parameters equal those that the original draws after
        ``np.random.seed(seed)``.

    Attributes
    ----------
    W, U, b, b_sig : InitCell
        Weights uniform on [-0.08, 0.08), recurrent weights orthogonal, biases
        0; biases of standard deviations 0.6, which is sigma = 1.04 at first.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.RandomState(seed)
        self.W = InitCell("rand", rng=rng)
        self.U = InitCell("ortho", rng=rng)
        self.b = InitCell("zeros")
        self.b_sig = InitCell("const", mean=0.6)


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


class GMMNet:
    """A stack that ends in a mixture of diagonal Gaussians: the decoder of x.

    Nodes: those of `GaussianNet`, with ``num_k`` numbers for each dimension,
    and ``coeff`` (softmax), the weights of the components.

    Parameters
    ----------
    name, parent, width, nout, depth, init
        See `GaussianNet`.
    num_k : int
        Number of components.
    """

    def __init__(
        self,
        name: str,
        parent: Mapping[str, int],
        width: int,
        nout: int,
        depth: int,
        init: Init,
        num_k: int,
    ) -> None:
        gaussians = GaussianNet(name, parent, width, nout * num_k, depth, init)
        self.stack = gaussians.stack
        self.coeff = layer("coeff", self.stack.out, num_k, init, "softmax")
        self.heads = [gaussians.mu, gaussians.sig, self.coeff]
        self.nodes: list[StemCell] = [*self.stack.nodes, *self.heads]

    def fprop(self, X: Sequence[TensorVariable], params: Params) -> dict[str, TensorVariable]:
        """Build the graph; returns the outputs of all nodes by name."""
        outputs = self.stack.fprop_all(X, params)
        *_, top = outputs.values()
        return outputs | {node.name: node.fprop([top], params) for node in self.heads}

    def nll(self, x: TensorVariable, v: Mapping[str, TensorVariable]) -> TensorVariable:
        """Negative log-density of each frame under the mixture, in nats.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        v : mapping of str to tensor
            From `fprop`, shapes (T, B, ...).

        Returns
        -------
        tensor of shape (T * B,)
        """
        mu, sig, coeff = (flat(v[node.name]) for node in self.heads)
        return GMM(flat(x), mu, sig, coeff)


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


def stats(name: str, v: TensorVariable) -> list[TensorVariable]:
    """Scalars ``max_<name>``, ``mean_<name>``, ``min_<name>`` of a tensor, to be monitored."""
    return [
        named(v.max(), f"max_{name}"),
        named(v.mean(), f"mean_{name}"),
        named(v.min(), f"min_{name}"),
    ]


def named(v: TensorVariable, name: str) -> TensorVariable:
    """Give a tensor its name and return it."""
    v.name = name
    return v
