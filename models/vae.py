"""VAE: a variational autoencoder of single frames, the VRNN without time.

Kingma and Welling, *Auto-Encoding Variational Bayes*, 2013,
https://arxiv.org/abs/1312.6114.  The VRNN paper, https://arxiv.org/abs/1506.02216,
starts from it in section 2.2; equation numbers below are that paper's.  Every frame
x stands on its own::

    z      ~ N(0, 1)                         prior
    x | z  ~ theta(z)                        decoder: p(x, z) = p(x | z) p(z)   (3)
    z | x  ~ N(phi_mu(x), phi_sig(x)^2)      encoder: q(z | x)

Training minimises the bound (4) on the negative log-likelihood of a frame
(digits, Blizzard) or of a whole line (IAM-OnDB), in nats::

    nll_upper_bound = -log p(x | z) + KL(q(z | x) || N(0, 1)),

    z = phi_mu + phi_sig * eps,   eps ~ N(0, 1)       reparametrisation

``models/vrnn_gmm.py`` gives prior, encoder and decoder a memory h_{t-1}.  On the
same data, the difference of the two bounds is what the memory is worth.

The file reads like that one: the decoders (`vae`), nodes, reparametrisation and
bound (`VAE`), the data sets (`digits`, `blizzard`, `iamondb`), and what they share
(`training`): trained and monitored graph, model, optimizer, extensions.
docs/vae.md explains the choices and shows what to expect.

Examples
--------
Train on images of digits (``pip install scikit-learn``), and look at the model::

    python models/vae.py
    python models/sample.py runs/digits/vae_1_best.npz --mean
    python models/sample.py runs/digits/vae_1_best.npz --reconstruct
    python models/sample.py runs/digits/vae_1_best.npz --plane

Train on single frames of the built-in demo corpora, and of your own data::

    python models/vae.py --dataset blizzard
    python models/vae.py --dataset iamondb
    python models/vae.py --dataset blizzard --data_path DIR

No counterpart in the original.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import BiGauss, Gaussian, KLGaussianStdGaussian, NllBin
from cle_port.data import Iterator
from cle_port.data.noise import WithNoise
from cle_port.layers import StemCell
from cle_port.models import Model
from cle_port.train import Training
from cle_port.train.ext import (
    EarlyStopping,
    EpochCount,
    GradientClipping,
    Monitoring,
    Picklize,
    WeightNorm,
)
from cle_port.train.opt import Adam
from cle_port.utils import init_tparams, tolist
from cle_port.utils.op import Gaussian_sample
from models.channels import bound, by_name, mean_by_dim, stats, trained_cost
from models.parts import (
    Decoder,
    Draw,
    GaussianNet,
    Head,
    Init,
    Sampler,
    initialize,
    normal_noise,
    sample_frames,
)
from models.running import Program, Run, run_program
from models.settings import Settings

# The first data set is the default.  Widths on speech and handwriting are VRNN-Gauss's.
WIDTHS = {
    "digits": {"depth": 2},
    "blizzard": {"depth": 4, "q_z_dim": 500, "p_x_dim": 600},
    "iamondb": {"depth": 1, "q_z_dim": 150, "p_x_dim": 250},
}
HALF_STEP = 1 / 32  # half of the step between two of a digit's grey levels


def vae(args: Settings, init: Init | None = None) -> VAE:
    """Make the model with the distribution of x that the data ask for."""
    if args.dataset == "digits" and args.output == "bernoulli":
        # A grey level between 0 and 1 counts as the probability that the pixel is 1.
        return VAE(args, [Head("theta_mu", args.x_dim, "sigmoid")], NllBin, init, sample_pixels)

    if args.dataset == "digits":
        # Some pixels are always 0: with the usual floor their density would decide the bound.
        heads = [
            Head("theta_mu", args.x_dim, "sigmoid"),
            Head("theta_sig", args.x_dim, "softplus", HALF_STEP),
        ]
        return VAE(args, heads, Gaussian, init)

    if args.dataset == "blizzard":
        heads = [
            Head("theta_mu", args.x_dim, "linear"),
            Head("theta_sig", args.x_dim, "softplus"),
        ]
        return VAE(args, heads, Gaussian, init)

    # A point of the pen: a bit, and two correlated offsets.
    heads = [
        Head("theta_mu", args.x_dim - 1, "linear"),
        Head("theta_sig", args.x_dim - 1, "softplus"),
        Head("corr", 1, "tanh"),
        Head("binary", 1, "sigmoid"),
    ]
    return VAE(args, heads, BiGauss, init)


def sample_pixels(
    theta: Mapping[str, TensorVariable],
    eps: TensorVariable,
    u: TensorVariable,
    gmm: str = "sample",
    temperature: float = 1.0,
) -> tuple[TensorVariable, TensorVariable]:
    """Draw pixels that are 0 or 1; see `models.parts.sample_frames`.

    Normal noise becomes uniform by its distribution function.  The logarithms of
    a pixel's two probabilities are divided by the temperature.
    """
    p = theta["theta_mu"]
    if temperature != 1.0:
        eps = eps / np.asarray(temperature, dtype=p.dtype)  # it comes scaled
        p = pt.sigmoid((pt.log(p) - pt.log1p(-p)) / np.asarray(temperature, dtype=p.dtype))
    uniform = 0.5 * pt.erfc(-eps / np.asarray(2**0.5, dtype=p.dtype))
    return pt.cast(uniform < p, p.dtype), p


class VAE:
    """The model: its nodes, its parameters, and the graph from frames to the bound.

    Parameters
    ----------
    args : Settings
        Sizes and seed.
    heads : list of Head
        Parameters of the distribution of x.
    density : callable
        Negative log-density of x from these parameters, of `cle_port.cost`.
    init : Init, optional
        Initial values; default: those of the seed.
    sample : callable, optional
        How to draw x, if that is neither a Gaussian nor a mixture: see
        `models.parts.sample_frames`.

    Attributes
    ----------
    nodes : list of StemCell
        In the order of the parameters.
    params : dict of str to TensorSharedVariable
        Parameters by name.
    noise_dim : int
        Normal numbers that one frame takes: the dimension of z.
    state_dim : int
        Size of the state that goes from frame to frame: there is none.
    """

    state_dim = 0

    def __init__(
        self,
        args: Settings,
        heads: list[Head],
        density: Callable[..., TensorVariable],
        init: Init | None = None,
        sample: Sampler = sample_frames,
    ) -> None:
        init = init or Init(args.seed)
        self.noise_dim = args.z_dim

        # Encoder q(z | x).
        self.phi = GaussianNet(
            "phi", {"x_t": args.x_dim}, args.q_z_dim, args.z_dim, args.depth, init
        )

        # Decoder p(x | z), eq. (3).  The prior N(0, 1) has no nodes.
        self.theta = Decoder(
            {"z_t": args.z_dim}, args.p_x_dim, args.depth, heads, density, init, sample
        )

        self.nodes: list[StemCell] = [*self.phi.nodes, *self.theta.nodes]
        for node in self.nodes:
            node.saturate = args.sigmoid == "theano"
        self.params = init_tparams(initialize(self.nodes))

    def noise(self, x: TensorVariable) -> TensorVariable:
        """Symbolic standard normal noise of shape (T, B, z_dim), for x of shape (T, B, x_dim)."""
        return normal_noise(x, self.noise_dim)

    def get_init_state(self, batch_size: int) -> TensorVariable:
        """State before the first frame, for code that serves all models: (batch_size, 0)."""
        return pt.zeros((batch_size, 0), dtype=pytensor.config.floatX)

    def fprop(self, x: TensorVariable, eps: TensorVariable) -> dict[str, TensorVariable]:
        """From frames to the distributions of z and x, by the names of the VRNN's.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.  No frame knows of another.
        eps : tensor of shape (T, B, z_dim)
            Standard normal noise.

        Returns
        -------
        dict of str to tensor
            ``phi_mu``, ``phi_sig``, ``z`` of shape (T, B, z_dim); the outputs of
            the decoder by their names, shapes (T, B, ...).
        """
        phi_mu, phi_sig = self.phi.fprop([x], self.params)

        # Reparametrisation: z depends on the encoder by a formula, which has a gradient.
        z = Gaussian_sample(phi_mu, phi_sig, eps)

        theta = self.theta.fprop([z], self.params)  # (3)

        return {"phi_mu": phi_mu, "phi_sig": phi_sig, "z": z, **theta}

    def terms(
        self, x: TensorVariable, tensors: dict[str, TensorVariable]
    ) -> dict[str, TensorVariable]:
        """The terms of the bound (4) for each frame, in nats.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        tensors : dict of str to tensor
            From `fprop`.

        Returns
        -------
        dict of str to tensor
            ``recon``, -log p(x | z), and ``kl``, both of shape (T, B);
            ``kl_by_dim``, the KL of each dimension of z, of shape (T, B, z_dim).
        """
        recon = self.theta.nll(x, tensors)
        kl_by_dim = KLGaussianStdGaussian(tensors["phi_mu"], tensors["phi_sig"], keep_dims=1)
        return {"recon": recon, "kl": kl_by_dim.sum(axis=-1), "kl_by_dim": kl_by_dim}

    def cost(
        self,
        x: TensorVariable,
        tensors: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """The bound (4) and its two terms, averaged, in nats.

        Parameters
        ----------
        x, tensors
            See `terms`.
        mask : tensor of shape (T, B), optional
            See `models.channels.average`.

        Returns
        -------
        list of scalars
            ``nll_upper_bound``, which is trained, ``recon_term`` and ``kl_term``.
        """
        return bound(self.terms(x, tensors), mask)  # (4)

    def channels(
        self,
        x: TensorVariable,
        tensors: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """Further values to monitor, named: the VRNN's without the prior's; see `cost`."""
        names = ["phi_sig", "theta_sig", "theta_mu"]
        values = {"x": x} | {name: tensors[name] for name in names if name in tensors}
        channels = [scalar for name, v in values.items() for scalar in stats(name, v, mask)]
        return [*channels, mean_by_dim("kl_by_dim", self.terms(x, tensors)["kl_by_dim"], mask)]

    def generate_fn(
        self, eps_t: TensorVariable, s_tm1: TensorVariable, draw: Draw
    ) -> list[TensorVariable]:
        """Generate one frame of each sequence.

        Parameters
        ----------
        eps_t : tensor of shape (B, z_dim)
            Standard normal noise, which is z.
        s_tm1 : tensor of shape (B, 0)
            Empty: there is no state.
        draw : callable
            Draws x from the decoder's outputs.

        Returns
        -------
        list of tensors
            ``s_tm1``; x and its mean, of shape (B, x_dim).
        """
        x_t, mean_t = draw(self.theta.fprop([eps_t], self.params))  # (3)
        return [s_tm1, x_t, mean_t]


def digits(run: Run, make_net: Callable[[Settings], VAE]) -> Training:
    """Make the main loop for images of digits: a batch is B images of one frame each."""
    args = run.args
    train_data, valid_data = run.open_digits()
    train_images = Iterator(train_data, args.batch_size)
    m_train = Iterator(train_data, args.m_batch_size)
    m_valid = Iterator(valid_data, args.m_batch_size)
    return training(run, make_net(args), train_images, [m_train, m_valid])


def blizzard(run: Run, make_net: Callable[[Settings], VAE]) -> Training:
    """Make the main loop for Blizzard, on the rows of the VRNN programs; no state is carried."""
    args = run.args
    train_data, valid_data, rows = run.open_blizzard()
    train_rows = Iterator(train_data, args.batch_size, start=0, end=rows.train_end)
    m_train = Iterator(train_data, args.m_batch_size, start=0, end=rows.monitor_rows)
    m_valid = Iterator(valid_data, args.m_batch_size, start=rows.valid_start, end=rows.valid_end)
    return training(run, make_net(args), train_rows, [m_train, m_valid])


def iamondb(run: Run, make_net: Callable[[Settings], VAE]) -> Training:
    """Make the main loop for IAM-OnDB; the bound is that of a line, the sum over its points."""
    args = run.args
    train_data, valid_data = run.open_iamondb()
    train_lines = Iterator(train_data, args.batch_size)
    m_valid = Iterator(valid_data, args.batch_size)
    return training(run, make_net(args), train_lines, [m_valid])


def training(run: Run, net: VAE, train: Iterator, monitored: Sequence[Iterator]) -> Training:
    """Make the main loop of any of the data sets.

    Parameters
    ----------
    run : Run
        Its data are open.
    net : VAE
    train : Iterator
        Batches of x, and of a mask if the frames are parts of longer sequences.
    monitored : list of Iterator
        Batches of the same kind, of one size; the last ones are the validation data.
    """
    args = run.args
    run.init_from(net.params)
    run.describe(net.params)
    data: Any = train.data

    def graph(batch_size: int) -> tuple[list[TensorVariable], dict[str, TensorVariable], list]:
        """Inputs, tensors and channels; run.part is the share of a device in the batch."""
        x, *mask = tolist(data.theano_vars(batch_size))
        eps = net.noise(x)
        x_in, *mask_in = (run.part(v) for v in (x, *mask))
        tensors = net.fprop(x_in, run.part(eps))
        costs = net.cost(x_in, tensors, *mask_in)
        ddout = [*costs, *net.channels(x_in, tensors, *mask_in)]
        return [x, *mask, eps], tensors | by_name(costs), ddout

    # The trained graph.
    inputs, tensors, (nll_upper_bound, *_) = graph(train.batch_size)
    x, *mask, _ = inputs
    terms = net.terms(run.part(x), tensors)
    cost, kl_count = trained_cost(args, nll_upper_bound, terms, *map(run.part, mask))

    # The monitored graph has another batch size; no device shares a batch.
    m_inputs, _, ddout = graph(monitored[-1].batch_size * args.devices)
    monitor_fn = run.compile(m_inputs, ddout)

    model = Model(inputs, net.nodes, net.params, updates=kl_count, forward=tensors)
    optimizer = Adam(lr=args.lr)

    noise, m_noise = run.noise_streams(net.noise_dim, 2)
    m_data = [WithNoise(batches, m_noise) for batches in monitored]
    saving = {"freq": args.monitoring_freq, "force_save_freq": args.force_saving_freq}
    extension = [
        GradientClipping(scaler=args.clip, batch_size=args.batch_size, check_nan=1),
        EpochCount(args.epoch),
        Monitoring(freq=args.monitoring_freq, monitor_fn=monitor_fn, ddout=ddout, data=m_data),
        Picklize(path=run.files.folder, keep=args.keep, **saving),
        EarlyStopping(path=run.files.folder, channel="valid_nll_upper_bound", **saving),
        WeightNorm(),
    ]
    return Training(
        name=run.name,
        data=WithNoise(train, noise),
        model=model,
        optimizer=optimizer,
        cost=cost,
        outputs=[nll_upper_bound],
        extension=[*extension, *run.extensions("valid_nll_upper_bound")],
        **run.options(train, monitored[-1], {"train": noise, "monitor": m_noise}),
    )


PROGRAM = Program(
    "vae", WIDTHS, vae, {"digits": digits, "blizzard": blizzard, "iamondb": iamondb}, __doc__
)

if __name__ == "__main__":
    sys.exit(run_program(PROGRAM))
