"""Three layers of LSTMs learn to predict the next notes of short pieces.

The pieces are composed by rules, see `datasets.music`: the original reads pickled piano
rolls of MuseData.  The layers have the original's sizes.  The learning rate is 0.001
instead of 0.0001, because training is shorter.

Examples
--------
::

    python tutorials/music.py

Counterpart: ``tutorials/music.py``.  There the third layer gets the state of the second
one by mistake; here it gets its own.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pytensor
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import NllBin
from cle_port.data import Iterator
from cle_port.layers import InitCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import LSTM
from cle_port.models import Model
from cle_port.train import Training
from cle_port.train.ext import EpochCount, GradientClipping, Monitoring, Picklize
from cle_port.train.opt import RMSProp
from cle_port.utils import init_tparams
from datasets.music import Music
from tutorials.running import learn, options, run

batch_size = 10
nlabel = 105
n_hidden = 50


def toy_music(args: Namespace) -> None:
    """Train."""
    train_data, valid_data = Music(name="train", nlabel=nlabel), Music(name="valid", nlabel=nlabel)

    # Define the inputs.
    x, y, mask = train_data.theano_vars(batch_size)

    # Define the nodes, and initialise them: all parameters by name.
    nodes = make_nodes()
    params = init_tparams({name: p for node in nodes for name, p in node.initialize().items()})

    # Build the graph.
    y_hat = fprop(nodes, params, x)

    # Compute the cost: of a piece, and of a time step.
    masked = NllBin(y, y_hat) * mask
    nll = masked.sum() / mask.sum()
    cost = masked.sum(axis=0).mean()
    cost.name = "cost"
    nll.name = "nll"

    model = Model(inputs=[x, y, mask], nodes=nodes, params=params)
    optimizer = RMSProp(lr=0.001, mom=0.95)
    extension = [
        GradientClipping(batch_size=batch_size),
        EpochCount(args.epoch),
        Monitoring(freq=100, ddout=[cost, nll], data=[Iterator(valid_data, batch_size)]),
        Picklize(freq=1000, path=args.out),
    ]
    mainloop = Training(
        name="toy_music",
        data=Iterator(train_data, batch_size),
        model=model,
        optimizer=optimizer,
        cost=cost,
        outputs=[cost],
        extension=extension,
        quiet=args.quiet,
    )
    learn(mainloop, args)


def make_nodes() -> list[Any]:
    """Define the nodes: h1, h2, h3 and output."""
    # Choose how to initialise.
    rng = np.random.RandomState(1)
    init_W = InitCell("randn", rng=rng)
    init_U = InitCell("ortho", rng=rng)
    init_b = InitCell("zeros")

    def lstm(name: str, parent: str, parent_dim: int) -> LSTM:
        return LSTM(
            name=name,
            parent=[parent],
            parent_dim=[parent_dim],
            nout=n_hidden,
            unit="tanh",
            init_W=init_W,
            init_U=init_U,
            init_b=init_b,
        )

    h1 = lstm("h1", "x", nlabel)
    h2 = lstm("h2", "h1", n_hidden)
    h3 = lstm("h3", "h2", n_hidden)
    output = FullyConnectedLayer(
        name="output",
        parent=["h1", "h2", "h3"],
        parent_dim=[n_hidden, n_hidden, n_hidden],
        nout=nlabel,
        unit="sigmoid",
        init_W=init_W,
        init_b=init_b,
    )
    return [h1, h2, h3, output]


def fprop(
    nodes: list[Any], params: dict[str, TensorSharedVariable], x: TensorVariable
) -> TensorVariable:
    """Predict the next notes.

    Parameters
    ----------
    nodes : list of StemCell
        From `make_nodes`.
    params : dict of str to TensorSharedVariable
        Their parameters.
    x : tensor of shape (time, pieces, nlabel)

    Returns
    -------
    tensor of shape (time, pieces, nlabel)
        Probabilities.
    """
    h1, h2, h3, output = nodes

    def inner_fn(
        x_t: TensorVariable,
        s1_tm1: TensorVariable,
        s2_tm1: TensorVariable,
        s3_tm1: TensorVariable,
    ) -> list[TensorVariable]:
        h1_t = h1.fprop([[x_t], [s1_tm1]], params)
        h2_t = h2.fprop([[h1_t], [s2_tm1]], params)
        h3_t = h3.fprop([[h2_t], [s3_tm1]], params)
        return [h1_t, h2_t, h3_t, output.fprop([h1_t, h2_t, h3_t], params)]

    *_, y_hat = pytensor.scan(
        fn=inner_fn,
        sequences=[x],
        outputs_info=[*(h.get_init_state(batch_size) for h in (h1, h2, h3)), None],
        return_updates=False,
    )
    return y_hat


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tutorial; return the exit status."""
    return run(toy_music, options("music", __doc__, epoch=15), argv)


if __name__ == "__main__":
    sys.exit(main())
