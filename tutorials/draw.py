"""DRAW: a variational autoencoder that reads and writes glimpses of an image, step by step.

Gregor et al., *DRAW: A Recurrent Neural Network For Image Generation*, ICML 2015,
https://arxiv.org/abs/1502.04623.  At each step t::

    r_t = read(x, x - sigmoid(c_{t-1}))                      a glimpse of image and error
    h_enc_t = LSTM([r_t, h_dec_{t-1}], h_enc_{t-1})
    z_t ~ N(phi_mu_t, phi_sig_t^2)
    h_dec_t = LSTM(z_t, h_dec_{t-1})
    c_t = c_{t-1} + write(h_dec_t)                           the canvas

Training minimises -log p(x | c_T), a Bernoulli distribution for each pixel, plus the
divergences of all z_t from N(0, 1), in nats.

The original's is for binarised MNIST, 28 x 28 pixels; this one is for the digits of
scikit-learn, 8 x 8 pixels in shades of grey, and smaller: 10 steps instead of 64, 10
latent variables instead of 100, 64 units instead of 256.  The learning rate is 0.003
instead of 0.001.  A glimpse to read has 5 x 5 points instead of 2 x 2: the grid begins
one distance of points before the centre (`cle_port.models.vae.draw`), so 2 x 2 points
see one pixel at first, and the model learned the mean image alone.

Examples
--------
::

    pip install scikit-learn
    python tutorials/draw.py
    python tutorials/draw.py --draw 8

Counterpart: ``tutorials/draw.py``, which fails: it imports the layers from
``cle.models.draw``, uses parameters as an older version kept them, and looks for a
channel ``valid_nll``.
"""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import NllBin
from cle_port.data import Iterator
from cle_port.data.noise import NormalNoise, WithNoise
from cle_port.graph import compile_function
from cle_port.layers import InitCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.layer import PriorLayer
from cle_port.layers.recurrent import LSTM
from cle_port.models import Model
from cle_port.models.vae.draw import CanvasLayer, ErrorLayer, ReadLayer, WriteLayer
from cle_port.train import Training
from cle_port.train.ext import EarlyStopping, EpochCount, GradientClipping, Monitoring, Picklize
from cle_port.train.opt import Adam
from cle_port.utils import init_tparams
from cle_port.utils.nnet import sigmoid
from datasets.digits import IMAGE_SHAPE, X_DIM, open_digits
from tutorials.running import as_text, learn, options, run

batch_size = 60
latent_dim = 10
n_steps = 10
n_hidden = 64
read_shape = (5, 5)  # points of a glimpse
write_shape = (5, 5)


class Draw:
    """The model: its nodes, its parameters, one step.

    Attributes
    ----------
    nodes : list of StemCell
    params : dict of str to TensorSharedVariable
    """

    def __init__(self) -> None:
        # Choose how to initialise.
        rng = np.random.RandomState(1)
        self.init_W = InitCell("rand", rng=rng)
        self.init_U = InitCell("ortho", rng=rng)
        self.init_b = InitCell("zeros")
        self.init_b_sig = InitCell("const", mean=0.6)

        self._define_encoder()
        self._define_decoder()
        self.nodes = [
            self.read_param,
            self.read,
            self.enc,
            self.phi_mu,
            self.phi_sig,
            self.prior,
            self.kl,
            self.dec,
            self.w,
            self.write_param,
            self.write,
            self.error,
            self.canvas,
        ]

        # Initialise the nodes: all parameters by name.
        initial = [node.initialize() for node in self.nodes]
        self.params = init_tparams({name: p for own in initial for name, p in own.items()})

    def _define_encoder(self) -> None:
        """Nodes from the image to z."""
        self.error = ErrorLayer(name="error", parent=["x"], recurrent=["canvas"])
        self.read_param = self._linear("read_param", "dec_tm1", 5)
        self.read = ReadLayer(
            name="read",
            parent=["x", "error", "read_param"],
            glimpse_shape=(batch_size, 1, *read_shape),
            input_shape=(batch_size, 1, *IMAGE_SHAPE),
        )
        self.enc = LSTM(
            name="enc",
            parent=["read"],
            parent_dim=[2 * math.prod(read_shape)],
            recurrent=["dec"],
            recurrent_dim=[n_hidden],
            nout=n_hidden,
            unit="tanh",
            init_W=self.init_W,
            init_U=self.init_U,
            init_b=self.init_b,
        )
        self.phi_mu = self._linear("phi_mu", "enc", latent_dim)
        self.phi_sig = FullyConnectedLayer(
            name="phi_sig",
            parent=["enc"],
            parent_dim=[n_hidden],
            nout=latent_dim,
            unit="softplus",
            init_W=self.init_W,
            init_b=self.init_b_sig,
        )
        phi, phi_dim = ["phi_mu", "phi_sig"], [latent_dim, latent_dim]
        self.prior = PriorLayer(
            name="prior", parent=phi, parent_dim=phi_dim, use_sample=True, nout=latent_dim
        )
        self.kl = PriorLayer(
            name="kl", parent=phi, parent_dim=phi_dim, use_sample=False, nout=latent_dim
        )

    def _define_decoder(self) -> None:
        """Nodes from z to the canvas."""
        self.dec = LSTM(
            name="dec",
            parent=["prior"],
            parent_dim=[latent_dim],
            nout=n_hidden,
            unit="tanh",
            init_W=self.init_W,
            init_U=self.init_U,
            init_b=self.init_b,
        )
        self.w = self._linear("w", "dec", math.prod(write_shape))
        self.write_param = self._linear("write_param", "dec", 5)
        self.write = WriteLayer(
            name="write",
            parent=["w", "write_param"],
            glimpse_shape=(batch_size, 1, *write_shape),
            input_shape=(batch_size, 1, *IMAGE_SHAPE),
        )
        self.canvas = CanvasLayer(name="canvas", parent=["write"], nout=X_DIM)

    def _linear(self, name: str, parent: str, nout: int) -> FullyConnectedLayer:
        return FullyConnectedLayer(
            name=name,
            parent=[parent],
            parent_dim=[n_hidden],
            nout=nout,
            unit="linear",
            init_W=self.init_W,
            init_b=self.init_b,
        )

    def get_init_states(self) -> list[TensorVariable]:
        """Zeros before the first step: states of encoder and decoder, canvas."""
        return [node.get_init_state(batch_size) for node in (self.enc, self.dec, self.canvas)]

    def inner_fn(
        self,
        eps_t: TensorVariable,
        enc_tm1: TensorVariable,
        dec_tm1: TensorVariable,
        canvas_tm1: TensorVariable,
        x: TensorVariable,
    ) -> list[TensorVariable]:
        """One step.

        Parameters
        ----------
        eps_t : tensor of shape (batch, latent_dim)
            Standard normal noise; the original draws it here.
        enc_tm1, dec_tm1 : tensor of shape (batch, 2 n_hidden)
            States of encoder and decoder.
        canvas_tm1, x : tensor of shape (batch, pixels)
            Canvas and image.

        Returns
        -------
        list of tensors
            States, canvas, and the divergence of z_t, shape (batch,).
        """
        params = self.params
        error_out = self.error.fprop([[x], [sigmoid(canvas_tm1)]])
        read_param_out = self.read_param.fprop([dec_tm1], params)
        read_out = self.read.fprop([x, error_out, read_param_out])
        enc_out = self.enc.fprop([[read_out], [enc_tm1, dec_tm1]], params)

        phi_mu_out = self.phi_mu.fprop([enc_out], params)
        phi_sig_out = self.phi_sig.fprop([enc_out], params)
        prior_out = self.prior.fprop([phi_mu_out, phi_sig_out], eps=eps_t[:, None])
        kl_out = self.kl.fprop([phi_mu_out, phi_sig_out])

        return [enc_out, *self.decode(prior_out, dec_tm1, canvas_tm1), kl_out]

    def decode(
        self, z_t: TensorVariable, dec_tm1: TensorVariable, canvas_tm1: TensorVariable
    ) -> list[TensorVariable]:
        """Second half of a step: new state of the decoder, new canvas."""
        dec_out = self.dec.fprop([[z_t], [dec_tm1]], self.params)
        w_out = self.w.fprop([dec_out], self.params)
        write_param_out = self.write_param.fprop([dec_out], self.params)
        write_out = self.write.fprop([w_out, write_param_out])
        return [dec_out, self.canvas.fprop([[write_out], [canvas_tm1]])]

    def fprop(self, x: TensorVariable, eps: TensorVariable) -> list[TensorVariable]:
        """Canvas after each step, (n_steps, batch, pixels), and divergences, (n_steps, batch)."""
        *_, canvas_out, kl_out = pytensor.scan(
            fn=self.inner_fn,
            sequences=[eps],
            outputs_info=[*self.get_init_states(), None],
            non_sequences=[x],
            return_updates=False,
        )
        return [canvas_out, kl_out]

    def generate(self, z: TensorVariable) -> TensorVariable:
        """Images, (batch, pixels), from latent variables, (n_steps, batch, latent_dim)."""
        _, canvas_out = pytensor.scan(
            fn=self.decode,
            sequences=[z],
            outputs_info=self.get_init_states()[1:],
            return_updates=False,
        )
        return sigmoid(canvas_out[-1])


def train(args: Namespace, model: Draw) -> None:
    """Train."""
    train_data, valid_data = open_digits(unsupervised=1)

    # Define the inputs: images as sequences of one frame, and noise for all steps together.
    x = train_data.theano_vars(batch_size)
    noise_dim = n_steps * latent_dim
    noise = pt.tensor("eps", dtype=pytensor.config.floatX, shape=(1, batch_size, noise_dim))
    eps = noise.reshape((batch_size, n_steps, latent_dim)).transpose(1, 0, 2)

    # Build the graph.
    canvas_out, kl_out = model.fprop(x[0], eps)
    x_hat = sigmoid(canvas_out[-1])

    # Compute the cost.
    recon_term = NllBin(x[0], x_hat).mean()
    kl_term = kl_out.sum(axis=0).mean()
    cost = recon_term + kl_term
    cost.name = "cost"
    recon_term.name = "recon_term"
    kl_term.name = "kl_term"
    recon_err = ((x[0] - x_hat) ** 2).mean() / x.std()
    recon_err.name = "recon_err"

    streams = {name: NormalNoise(noise_dim, seed) for seed, name in enumerate(("train", "monitor"))}
    batches = [Iterator(part, batch_size) for part in (train_data, valid_data)]
    extension = [
        GradientClipping(batch_size=batch_size),
        EpochCount(args.epoch),
        Monitoring(
            freq=100,
            ddout=[cost, recon_term, kl_term, recon_err],
            data=[WithNoise(part, streams["monitor"]) for part in batches],
        ),
        Picklize(freq=2000, path=args.out),
        EarlyStopping(freq=500, path=args.out, channel="valid_cost"),
    ]
    mainloop = Training(
        name="draw",
        data=WithNoise(batches[0], streams["train"]),
        model=Model(inputs=[x, noise], nodes=model.nodes, params=model.params),
        optimizer=Adam(lr=0.003),
        cost=cost,
        outputs=[cost],
        extension=extension,
        noise=streams,
        quiet=args.quiet,
    )
    learn(mainloop, args)


def draw(model: Draw, n_image: int) -> None:
    """Print images that the model makes up."""
    z = pt.tensor("z", dtype=pytensor.config.floatX, shape=(n_steps, batch_size, latent_dim))
    images = compile_function([z], model.generate(z))(
        NormalNoise(latent_dim, seed=2).draw(n_steps, batch_size)
    )
    print(as_text(np.asarray(images)[:n_image].reshape(-1, *IMAGE_SHAPE)))


def tutorial(args: Namespace) -> None:
    """Train a model, then let it draw."""
    model = Draw()
    train(args, model)
    if args.draw:
        draw(model, args.draw)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tutorial; return the exit status."""
    parser = options("draw", __doc__, epoch=60)
    parser.add_argument(
        "--draw",
        type=int,
        choices=range(1, batch_size + 1),
        metavar="N",
        help=f"at the end print N digits that the model makes up, 1 to {batch_size}",
    )
    return run(tutorial, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
