"""Three recurrent layers learn to predict the next frame of videos of bouncing balls.

The videos are simulated, see `datasets.bouncing_balls`: 2000, where the original has
50000.  The layers have 100 units, where the original's have 200.

``bouncingball_lstm.py``, ``bouncingball_gflstm.py`` and ``bouncingball_gfgru.py`` differ
in the recurrent layers and in the learning rate.

Examples
--------
::

    python tutorials/bouncingball.py
    python tutorials/bouncingball.py --draw 6

Counterpart: ``tutorials/bouncingball.py``; with ``--draw``,
``tutorials/test_bouncingball.py``.
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
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import MSE
from cle_port.data import Iterator
from cle_port.graph import compile_function
from cle_port.layers import InitCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import RecurrentLayer, SimpleRecurrent
from cle_port.models import Model
from cle_port.train import Training
from cle_port.train.ext import EpochCount, GradientClipping, Monitoring, Picklize
from cle_port.train.opt import Adam
from cle_port.utils import init_tparams
from datasets.bouncing_balls import SIZE, BouncingBalls
from tutorials.running import as_text, learn, options, run

batch_size = 20  # 128 in the original, which has 25 times as many videos
frame_size = SIZE**2
n_hidden = 100  # 200 in the original
n_shown = 10  # frames that the model sees before it goes on by itself


class Balls:
    """The model: its nodes, its parameters, one time step.

    Parameters
    ----------
    layer : type of RecurrentLayer
    feedback : bool
        Whether each recurrent layer also sees the previous states of the others, as
        the layers with gated feedback do.

    Attributes
    ----------
    nodes : list of StemCell
    params : dict of str to TensorSharedVariable
    """

    def __init__(self, layer: type[RecurrentLayer], feedback: bool = False) -> None:
        # Choose how to initialise.
        rng = np.random.RandomState(1)
        init_W = InitCell("randn", rng=rng)
        init_U = InitCell("ortho", rng=rng)
        init_b = InitCell("zeros")

        # Define the nodes.
        def recurrent(name: str, parent: str, parent_dim: int, others: list[str]) -> RecurrentLayer:
            return layer(
                name=name,
                parent=[parent],
                parent_dim=[parent_dim],
                recurrent=others if feedback else [],
                recurrent_dim=[n_hidden] * len(others) if feedback else [],
                nout=n_hidden,
                unit="tanh",
                init_W=init_W,
                init_U=init_U,
                init_b=init_b,
            )

        self.feedback = feedback
        self.h1 = recurrent("h1", "x", frame_size, ["h2", "h3"])
        self.h2 = recurrent("h2", "h1", n_hidden, ["h1", "h3"])
        self.h3 = recurrent("h3", "h2", n_hidden, ["h1", "h2"])
        self.output = FullyConnectedLayer(
            name="output",
            parent=["h1", "h2", "h3"],
            parent_dim=[n_hidden, n_hidden, n_hidden],
            nout=frame_size,
            unit="sigmoid",
            init_W=init_W,
            init_b=init_b,
        )
        self.nodes = [self.h1, self.h2, self.h3, self.output]

        # Initialise the nodes: all parameters by name.
        initial = [node.initialize() for node in self.nodes]
        self.params = init_tparams({name: p for own in initial for name, p in own.items()})

    def get_init_states(self, n_video: int) -> list[TensorVariable]:
        """States of zeros of the three recurrent layers."""
        return [h.get_init_state(n_video) for h in (self.h1, self.h2, self.h3)]

    def inner_fn(
        self,
        x_t: TensorVariable,
        s1_tm1: TensorVariable,
        s2_tm1: TensorVariable,
        s3_tm1: TensorVariable,
    ) -> list[TensorVariable]:
        """One time step: the new states, and the prediction of the next frame."""
        s1, s2, s3 = [s1_tm1], [s2_tm1], [s3_tm1]
        if self.feedback:
            s1, s2, s3 = s1 + s2 + s3, s2 + s1 + s3, s3 + s1 + s2
        s1_t = self.h1.fprop([[x_t], s1], self.params)
        s2_t = self.h2.fprop([[s1_t], s2], self.params)
        s3_t = self.h3.fprop([[s2_t], s3], self.params)
        y_hat_t = self.output.fprop([s1_t, s2_t, s3_t], self.params)
        return [s1_t, s2_t, s3_t, y_hat_t]

    def fprop(self, x: TensorVariable) -> list[TensorVariable]:
        """States after each frame, and predictions of the frames that follow.

        Parameters
        ----------
        x : tensor of shape (frames, videos, pixels)

        Returns
        -------
        list of tensors of shape (frames, videos, ...)
        """
        states = self.get_init_states(x.type.shape[1])
        return pytensor.scan(
            fn=self.inner_fn,
            sequences=[x],
            outputs_info=[*states, None],
            return_updates=False,
        )

    def go_on(self, x: TensorVariable, n_steps: int) -> TensorVariable:
        """Predict frame after frame, each from the prediction before.

        Parameters
        ----------
        x : tensor of shape (frames, videos, pixels)
            Frames of the videos.
        n_steps : int
            Number of frames that follow.

        Returns
        -------
        tensor of shape (n_steps, videos, pixels)

        Notes
        -----
        Counterpart: ``tutorials/test_bouncingball.py``, which starts from a black
        frame.
        """
        last = [tensor[-1] for tensor in self.fprop(x)]
        *_, frames = pytensor.scan(
            fn=lambda s1, s2, s3, y_hat: self.inner_fn(y_hat, s1, s2, s3),
            outputs_info=last,
            n_steps=n_steps - 1,
            return_updates=False,
        )
        return pt.concatenate([last[-1][None], frames])


def toy_bb(args: Namespace, name: str, balls: Balls, lr: float) -> None:
    """Train."""
    train_data, valid_data = BouncingBalls(name="train"), BouncingBalls(name="valid")

    # Define the inputs.
    x, y = train_data.theano_vars(batch_size)

    # Build the graph.
    *_, y_hat = balls.fprop(x)

    # Compute the cost.
    mse = MSE(y, y_hat).mean()
    mse.name = "mse"

    model = Model(inputs=[x, y], nodes=balls.nodes, params=balls.params)
    optimizer = Adam(lr=lr)
    data = [Iterator(valid_data, batch_size), Iterator(train_data, batch_size)]
    extension = [
        GradientClipping(batch_size=batch_size),
        EpochCount(args.epoch),
        Monitoring(freq=100, ddout=[mse], data=data),
        Picklize(freq=200, path=args.out),
    ]
    mainloop = Training(
        name=name,
        data=Iterator(train_data, batch_size),
        model=model,
        optimizer=optimizer,
        cost=mse,
        outputs=[mse],
        extension=extension,
        quiet=args.quiet,
    )
    learn(mainloop, args)


def draw(balls: Balls, n_steps: int) -> None:
    """Print how a video of the test data goes on, and how the model thinks that it does."""
    videos, _ = BouncingBalls(name="test").slices(0, 1)
    x = pt.tensor("x", dtype=videos.dtype, shape=(n_shown, 1, frame_size))
    predicted = np.asarray(compile_function([x], balls.go_on(x, n_steps))(videos[:n_shown]))
    for name, frames in (("The video goes on:", videos[n_shown:]), ("The model:", predicted)):
        print(f"\n{name}\n{as_text(frames[:n_steps].reshape(-1, SIZE, SIZE))}")


def run_balls(
    argv: Sequence[str] | None,
    name: str,
    doc: str | None,
    epoch: int,
    lr: float,
    **model: Any,
) -> int:
    """Run a tutorial on bouncing balls; return the exit status.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; default: those of the process.
    name : str
        Name of the script.
    doc : str
        What it does.
    epoch : int
        Default of ``--epoch``.
    lr : float
        Learning rate.
    **model
        Arguments of `Balls`.
    """

    def tutorial(args: Namespace) -> None:
        balls = Balls(**model)
        toy_bb(args, name.replace("bouncingball", "toy_bb"), balls, lr)
        if args.draw:
            draw(balls, args.draw)

    parser = options(name, doc, epoch)
    parser.add_argument(
        "--draw",
        type=int,
        choices=range(2, 10),
        metavar="N",
        help="at the end predict N frames, 2 to 9, one from the other, and print them",
    )
    return run(tutorial, parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tutorial; return the exit status."""
    return run_balls(argv, "bouncingball", __doc__, epoch=12, lr=0.01, layer=SimpleRecurrent)


if __name__ == "__main__":
    sys.exit(main())
