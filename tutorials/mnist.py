"""A network with one hidden layer learns handwritten digits.

The original's is for MNIST, 28 x 28 pixels; this one is for the digits of
scikit-learn, 8 x 8 pixels.  The layers have the original's sizes.

Examples
--------
::

    pip install scikit-learn
    python tutorials/mnist.py

Counterpart: ``tutorials/mnist.py``.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from cle_port.cost import NllMulInd
from cle_port.data import Iterator
from cle_port.layers import InitCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.models import Model
from cle_port.train import Training
from cle_port.train.ext import EpochCount, GradientClipping, Monitoring, Picklize
from cle_port.train.opt import RMSProp
from cle_port.utils import error, init_tparams, predict
from datasets.digits import N_LABELS, X_DIM, open_digits
from tutorials.running import learn, options, run

batch_size = 120  # 128 in the original; 120 divides the 360 images for validation
n_hidden = 1000


def toy_mnist(args: Namespace) -> None:
    """Train."""
    train_data, valid_data = open_digits()

    # Define the inputs.
    x, y = train_data.theano_vars(batch_size)

    # Choose how to initialise.
    rng = np.random.RandomState(1)
    init_W = InitCell("randn", rng=rng)
    init_b = InitCell("zeros")

    # Define the nodes.
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
    nodes = [h1, output]

    # Initialise the nodes: all parameters by name.
    params = init_tparams({name: p for node in nodes for name, p in node.initialize().items()})

    # Build the graph.
    h1_out = h1.fprop([x], params)
    y_hat = output.fprop([h1_out], params)

    # Compute the cost.
    cost = NllMulInd(y, y_hat).mean()
    err = error(predict(y_hat), y)
    cost.name = "cross_entropy"
    err.name = "error_rate"

    model = Model(inputs=[x, y], nodes=nodes, params=params)
    optimizer = RMSProp(lr=0.01)
    data = [Iterator(train_data, batch_size), Iterator(valid_data, batch_size)]
    extension = [
        GradientClipping(batch_size=batch_size, check_nan=1),
        EpochCount(args.epoch),
        Monitoring(freq=500, ddout=[cost, err], data=data),
        Picklize(freq=100000, path=args.out),
    ]
    mainloop = Training(
        name="toy_mnist",
        data=Iterator(train_data, batch_size),
        model=model,
        optimizer=optimizer,
        cost=cost,
        outputs=[cost, err],
        extension=extension,
        quiet=args.quiet,
    )
    learn(mainloop, args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tutorial; return the exit status."""
    return run(toy_mnist, options("mnist", __doc__, epoch=200), argv)


if __name__ == "__main__":
    sys.exit(main())
