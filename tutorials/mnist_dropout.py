"""The network of ``mnist.py`` with dropout, noise on the weights, and a limit on their norms.

The original's is for MNIST, 28 x 28 pixels; this one is for the digits of
scikit-learn, 8 x 8 pixels.  The layers have the original's sizes.

Examples
--------
::

    pip install scikit-learn
    python tutorials/mnist_dropout.py

Counterpart: ``tutorials/mnist_dropout.py``.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator as IteratorType
from collections.abc import Mapping, Sequence
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import NllMulInd
from cle_port.data import Batches, Iterator
from cle_port.data.noise import Noise, NormalNoise, UniformNoise
from cle_port.layers import InitCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.models import Model
from cle_port.train import Training
from cle_port.train.ext import EpochCount, GradientClipping, Monitoring, Picklize, WeightNorm
from cle_port.train.opt import RMSProp
from cle_port.utils import error, init_tparams, predict
from cle_port.utils.op import add_noise_params, dropout
from datasets.digits import N_LABELS, X_DIM, open_digits
from tutorials.running import learn, options, run

# Regularisation
std_dev = 0.001
inp_p = 1.0
inp_scale = 1 / inp_p
int_p = 0.5
int_scale = 1 / int_p

batch_size = 120  # 128 in the original; 120 divides the 360 images for validation
n_hidden = 1000

Shape = tuple[int, int]


class WithDropout:
    """Batches with the noise of one update, which the original draws inside the graph.

    Parameters
    ----------
    data : Batches
    u, eps : mapping of str to (int, int)
        Shapes of the uniform and of the normal noise by name, in the order of the
        batch.
    seed : int
        Seed of all noise.
    """

    def __init__(
        self, data: Batches, u: Mapping[str, Shape], eps: Mapping[str, Shape], seed: int
    ) -> None:
        self.data = data
        self.name = data.name
        self.shapes = {**u, **eps}
        seeds = iter(np.random.SeedSequence(seed).spawn(len(self.shapes)))
        self.noise: dict[str, Noise] = {
            **{name: UniformNoise(columns, next(seeds)) for name, (_, columns) in u.items()},
            **{name: NormalNoise(columns, next(seeds)) for name, (_, columns) in eps.items()},
        }

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return len(self.data)

    def go_to(self, n_pass: int, n_batch: int) -> None:
        """See `cle_port.data.Iterator.go_to`."""
        self.data.go_to(n_pass, n_batch)

    def __iter__(self) -> IteratorType[tuple[NDArray, ...]]:
        """Start a pass; the noise continues its streams."""
        for batch in self.data:
            draws = (self.noise[name].draw(1, rows)[0] for name, (rows, _) in self.shapes.items())
            yield (*batch, *draws)


def toy_mnist_dropout(args: Namespace) -> None:
    """Train."""
    train_data, valid_data = open_digits()

    # Define the inputs.
    x, y = train_data.theano_vars(batch_size)

    # Choose how to initialise.
    rng = np.random.RandomState(1)
    h1, output = make_nodes(InitCell("rand", rng=rng), InitCell("zeros"))
    nodes = [h1, output]

    # Initialise the nodes: all parameters by name.
    params = init_tparams({name: p for node in nodes for name, p in node.initialize().items()})

    # The noise is an input, too: uniform for dropout, normal for the weights.
    train_batches = WithDropout(
        Iterator(train_data, batch_size),
        u={"x": (batch_size, X_DIM), "h1": (batch_size, n_hidden)},
        eps={name: p.type.shape for name, p in params.items() if name.startswith("W")},
        seed=1,
    )
    noise = {
        name: pt.tensor(f"noise_{name}", dtype=pytensor.config.floatX, shape=shape)
        for name, shape in train_batches.shapes.items()
    }
    nparams = add_noise_params(params, std_dev=std_dev, eps=noise)

    # Build the graph.
    d_x = inp_scale * dropout(x, p=inp_p, u=noise["x"])
    h1_out = h1.fprop([d_x], nparams)
    d1_out = int_scale * dropout(h1_out, p=int_p, u=noise["h1"])
    y_hat = output.fprop([d1_out], nparams)

    # Compute the cost.
    cost, err = costs(y, y_hat)

    # A graph of its own, without noise, for monitoring.
    m_h1_out = h1.fprop([x], params)
    m_y_hat = output.fprop([m_h1_out], params)
    m_cost, m_err = costs(y, m_y_hat)

    model = Model(inputs=[x, y, *noise.values()], nodes=nodes, params=params)
    optimizer = RMSProp(lr=0.005)
    data = [Iterator(train_data, batch_size), Iterator(valid_data, batch_size)]
    extension = [
        GradientClipping(batch_size=batch_size, check_nan=1),
        EpochCount(args.epoch),
        Monitoring(freq=500, ddout=[m_cost, m_err], data=data, inputs=[x, y]),
        Picklize(freq=100000, path=args.out),
        WeightNorm(keys="W"),
    ]
    mainloop = Training(
        name="toy_mnist_dropout",
        data=train_batches,
        model=model,
        optimizer=optimizer,
        cost=cost,
        outputs=[cost, err],
        extension=extension,
        noise=train_batches.noise,
        quiet=args.quiet,
    )
    learn(mainloop, args)


def make_nodes(init_W: InitCell, init_b: InitCell) -> list[FullyConnectedLayer]:
    """Define the nodes: h1 and output."""
    h1 = FullyConnectedLayer(
        name="h1",
        parent=["x"],
        parent_dim=[X_DIM],
        nout=n_hidden,
        unit="relu",
        init_W=init_W,
        init_b=init_b,
    )
    output = FullyConnectedLayer(
        name="output",
        parent=["h1"],
        parent_dim=[n_hidden],
        nout=N_LABELS,
        unit="softmax",
        init_W=init_W,
        init_b=init_b,
    )
    return [h1, output]


def costs(y: TensorVariable, y_hat: TensorVariable) -> list[TensorVariable]:
    """Cost and error rate, named."""
    cost = NllMulInd(y, y_hat).mean()
    err = error(predict(y_hat), y)
    cost.name = "cross_entropy"
    err.name = "error_rate"
    return [cost, err]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tutorial; return the exit status."""
    return run(toy_mnist_dropout, options("mnist_dropout", __doc__, epoch=300), argv)


if __name__ == "__main__":
    sys.exit(main())
