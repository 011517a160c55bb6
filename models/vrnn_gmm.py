"""VRNN-GMM: a variational recurrent network whose output is a Gaussian mixture.

Chung et al., *A Recurrent Latent Variable Model for Sequential Data*, NIPS
2015, https://arxiv.org/abs/1506.02216.  Equation numbers below are the paper's.
At each time step t::

    z_t | h_{t-1}       ~ N(prior_mu_t, prior_sig_t^2)      prior        (5)
    x_t | z_t, h_{t-1}  ~ GMM(theta_mu_t, theta_sig_t, coeff_t)          (6)
    h_t = LSTM(phi^x(x_t), phi^z(z_t), h_{t-1})             recurrence   (7)
    z_t | x_t, h_{t-1}  ~ N(phi_mu_t, phi_sig_t^2)          inference    (9)

Training minimises the bound (11) on the negative log-likelihood of a frame
(Blizzard) or of a whole line (IAM-OnDB), in nats::

    nll_upper_bound = -log p(x_t | z_t, h_{t-1}) + KL(q(z_t | .) || p(z_t | .))

The paper says "LSTM or GRU"; the original's scripts have an LSTM.  ``--rnn gru``
takes a GRU.

The file follows the original's ``main``: settings, nodes and parameters
(`vrnn_gmm`, `VRNN`), the step `inner_fn`, scan, costs; then, for each data set
(`blizzard`, `iamondb`), data, carried state, the monitored graph,
``monitor_fn``, model, optimizer, extensions, training.  docs/fidelity.md has a
table of its sections beside the original's lines.

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/vrnn_gmm.py --dataset blizzard
    python models/vrnn_gmm.py --dataset iamondb
    python models/vrnn_gmm.py --dataset blizzard --rnn gru
    python models/vrnn_gmm.py --dataset blizzard --data_path DIR

Counterpart: ``models/blizzard/vrnn_gmm.py``, ``models/iamondb/vrnn_gmm.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import GMM, BiGMM, KLGaussianGaussian
from cle_port.data import Iterator
from cle_port.data.noise import WithNoise
from cle_port.layers import StemCell
from cle_port.layers.recurrent import RecurrentLayer
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
from cle_port.utils import init_tparams, sharedX
from cle_port.utils.op import Gaussian_sample
from models.channels import bound, by_name, coeff_stats, mean_by_dim, stats, trained_cost
from models.parts import (
    TRANSITIONS,
    Decoder,
    Draw,
    GaussianNet,
    Head,
    Init,
    Sampler,
    Stack,
    StandardGaussian,
    initialize,
    normal_noise,
    sample_frames,
)
from models.running import Program, Run, run_program
from models.settings import Settings

WIDTHS = {
    "blizzard": {
        "depth": 4,
        "x2s_dim": 500,
        "z2s_dim": 500,
        "q_z_dim": 500,
        "p_z_dim": 500,
        "p_x_dim": 500,
    },
    "iamondb": {
        "depth": 1,
        "x2s_dim": 250,
        "z2s_dim": 150,
        "q_z_dim": 150,
        "p_z_dim": 150,
        "p_x_dim": 250,
    },
}


def vrnn_gmm(args: Settings, init: Init | None = None) -> VRNN:
    """Make the model: an LSTM (or ``--rnn``), and a mixture of Gaussians for x_t, eq. (6)."""
    k = args.num_k
    if args.dataset == "blizzard":
        target_dim = args.x_dim * k
        heads = [
            Head("theta_mu", target_dim, "linear"),
            Head("theta_sig", target_dim, "softplus"),
            Head("coeff", k, "softmax"),
        ]
        return VRNN(args, TRANSITIONS[args.rnn], heads, GMM, init)

    # A point of the pen: a bit, and two correlated offsets.
    target_dim = (args.x_dim - 1) * k
    heads = [
        Head("theta_mu", target_dim, "linear"),
        Head("theta_sig", target_dim, "softplus"),
        Head("coeff", k, "softmax"),
        Head("corr", k, "tanh"),
        Head("binary", 1, "sigmoid"),
    ]
    return VRNN(args, TRANSITIONS[args.rnn], heads, BiGMM, init)


class VRNN:
    """The model: its nodes, its parameters, and the graph from frames to the bound.

    Parameters
    ----------
    args : Settings
        Data set, sizes and seed.
    transition : type of RecurrentLayer
        The recurrence (7).
    heads : list of Head
        Parameters of the distribution of x_t.
    density : callable
        Negative log-density of x_t from these parameters, of `cle_port.cost`.
    init : Init, optional
        Initial values; default: those of the seed.
    sample : callable, optional
        How to draw x_t, if that is neither a Gaussian nor a mixture: see
        `models.parts.sample_frames`.

    Attributes
    ----------
    nodes : list of StemCell
        In the original's order, which is the order of the parameters.
    params : dict of str to TensorSharedVariable
        Parameters by the original's names.
    noise_dim : int
        Normal numbers that one frame takes: the dimension of z.
    """

    def __init__(
        self,
        args: Settings,
        transition: type[RecurrentLayer],
        heads: list[Head],
        density: Callable[..., TensorVariable],
        init: Init | None = None,
        sample: Sampler = sample_frames,
    ) -> None:
        init = init or Init(args.seed)
        self.dataset = args.dataset
        self.noise_dim = args.z_dim
        state = {"s_tm1": args.rnn_dim}  # the layers read h of the state [h | c]

        # x_4 and z_4 below are the last layers of a stack, which has four layers on Blizzard.

        # Feature extractors phi^x and phi^z.
        self.x = Stack("x", {"x_t": args.x_dim}, args.x2s_dim, args.depth, init)
        self.z = Stack("z", {"z_t": args.z_dim}, args.z2s_dim, args.depth, init)

        # Recurrence, eq. (7).
        inputs = self.x.out | self.z.out
        self.rnn = transition(
            name="rnn",
            parent=list(inputs),
            parent_dim=list(inputs.values()),
            nout=args.rnn_dim,
            unit="tanh",
            init_W=init.W,
            init_U=init.U,
            init_b=init.b,
        )

        # Inference q(z_t | x_t, h_{t-1}), eq. (9).
        self.phi = GaussianNet(
            "phi", self.x.out | state, args.q_z_dim, args.z_dim, args.depth, init
        )

        # Prior p(z_t | h_{t-1}), eq. (5); N(0, 1) in the paper's VRNN-I.
        self.prior = (
            GaussianNet("prior", state, args.p_z_dim, args.z_dim, args.depth, init)
            if args.prior == "recurrent"
            else StandardGaussian(args.z_dim)
        )

        # Generation p(x_t | z_t, h_{t-1}), eq. (6).
        self.theta = Decoder(
            self.z.out | state, args.p_x_dim, args.depth, heads, density, init, sample
        )

        self.nodes: list[StemCell] = [
            self.rnn,
            *self.x.nodes,
            *self.z.nodes,
            *self.phi.nodes,
            *self.prior.nodes,
            *self.theta.nodes,
        ]
        for node in self.nodes:
            node.saturate = args.sigmoid == "theano"
        self.params = init_tparams(initialize(self.nodes))

    def noise(self, x: TensorVariable) -> TensorVariable:
        """Symbolic standard normal noise, shape (T, B, z_dim), for frames x of shape (T, B, x_dim).

        The original draws inside the scan; here the noise is an input.
        """
        return normal_noise(x, self.noise_dim)

    @property
    def state_dim(self) -> int:
        """Size of the state's last axis: 2 rnn_dim for [h | c] of an LSTM, rnn_dim for a GRU."""
        return self.rnn.state_dim

    def get_init_state(self, batch_size: int) -> TensorVariable:
        """State of zeros before the first frame, shape (batch_size, state_dim)."""
        return self.rnn.get_init_state(batch_size)

    def inner_fn(
        self, x_t: TensorVariable, eps_t: TensorVariable, s_tm1: TensorVariable
    ) -> list[TensorVariable]:
        """One time step.

        Parameters
        ----------
        x_t : tensor of shape (B, x2s_dim)
            Features phi^x of the frame, under the original's name.
        eps_t : tensor of shape (B, z_dim)
            Standard normal noise.
        s_tm1 : tensor of shape (B, state_dim)
            State [h_{t-1} | c_{t-1}]; the networks see its first half.

        Returns
        -------
        list of tensors
            s_t, phi_mu_t, phi_sig_t, prior_mu_t, prior_sig_t, and z_t's features.
        """
        params = self.params
        phi_mu_t, phi_sig_t = self.phi.fprop([x_t, s_tm1], params)  # (9)
        prior_mu_t, prior_sig_t = self.prior.fprop([s_tm1], params)  # (5)

        z_t = Gaussian_sample(phi_mu_t, phi_sig_t, eps_t)
        z_4_t = self.z.fprop([z_t], params)

        s_t = self.rnn.fprop([[x_t, z_4_t], [s_tm1]], params)  # (7)

        return [s_t, phi_mu_t, phi_sig_t, prior_mu_t, prior_sig_t, z_4_t]

    def fprop(
        self, x: TensorVariable, s_0: TensorVariable, eps: TensorVariable
    ) -> dict[str, TensorVariable]:
        """From frames to the distributions of z and x, by the original's names.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        s_0 : tensor of shape (B, state_dim)
            State before the first frame.
        eps : tensor of shape (T, B, z_dim)
            Standard normal noise.

        Returns
        -------
        dict of str to tensor
            ``s`` of shape (T, B, state_dim); ``phi_mu``, ``phi_sig``,
            ``prior_mu``, ``prior_sig`` of shape (T, B, z_dim); ``z_last``, the
            features phi^z of z, of shape (T, B, z2s_dim); the outputs of the
            layers on x and of the decoder by their names, shapes (T, B, ...).
        """
        features = self.x.fprop_all([x], self.params)
        *_, x_4 = features.values()

        s, phi_mu, phi_sig, prior_mu, prior_sig, z_4 = pytensor.scan(
            fn=self.inner_fn,
            sequences=[x_4, eps],
            outputs_info=[s_0, None, None, None, None, None],
            return_updates=False,
        )

        # x_t depends on h_{t-1}: shift the states by one step.  The decoder feeds nothing back, so
        # it stays outside of the scan.
        s_tm1 = pt.concatenate([s_0[None, :, :], s[:-1]], axis=0)
        theta = self.theta.fprop([z_4, s_tm1], self.params)  # (6)

        return {
            **features,
            "s": s,
            "phi_mu": phi_mu,
            "phi_sig": phi_sig,
            "prior_mu": prior_mu,
            "prior_sig": prior_sig,
            "z_last": z_4,
            **theta,
        }

    def terms(
        self, x: TensorVariable, tensors: dict[str, TensorVariable]
    ) -> dict[str, TensorVariable]:
        """The terms of the bound (11) for each frame, in nats.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        tensors : dict of str to tensor
            From `fprop`.

        Returns
        -------
        dict of str to tensor
            ``recon``, -log p(x_t | z_t, h_{t-1}), and ``kl``, both of shape (T, B);
            ``kl_by_dim``, the KL of each dimension of z, of shape (T, B, z_dim).
        """
        recon = self.theta.nll(x, tensors)
        kl_by_dim = KLGaussianGaussian(
            tensors["phi_mu"],
            tensors["phi_sig"],
            tensors["prior_mu"],
            tensors["prior_sig"],
            keep_dims=1,
        )
        return {"recon": recon, "kl": kl_by_dim.sum(axis=-1), "kl_by_dim": kl_by_dim}

    def cost(
        self,
        x: TensorVariable,
        tensors: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """The bound (11) and its two terms, averaged, in nats.

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
        return bound(self.terms(x, tensors), mask)  # (11)

    def channels(
        self,
        x: TensorVariable,
        tensors: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """Further values to monitor, named, in the original's order; see `cost`."""
        channels = [
            *stats("phi_sig", tensors["phi_sig"], mask),
            *stats("prior_sig", tensors["prior_sig"], mask),
            *stats("theta_sig", tensors["theta_sig"], mask),
            *stats("x", x, mask),
            *stats("theta_mu", tensors["theta_mu"], mask),
        ]
        # The original's script for Blizzard does not monitor the mixture's weights.
        if "coeff" in tensors and self.dataset == "iamondb":
            channels += coeff_stats(tensors["coeff"], mask)
        return [*channels, mean_by_dim("kl_by_dim", self.terms(x, tensors)["kl_by_dim"], mask)]

    def generate_fn(
        self, eps_t: TensorVariable, s_tm1: TensorVariable, draw: Draw
    ) -> list[TensorVariable]:
        """One time step of generation, without data.

        Parameters
        ----------
        eps_t : tensor of shape (B, z_dim)
            Standard normal noise.
        s_tm1 : tensor of shape (B, state_dim)
            State [h_{t-1} | c_{t-1}].
        draw : callable
            Draws x_t from the decoder's outputs.

        Returns
        -------
        list of tensors
            s_t; x_t and its mean, of shape (B, x_dim).

        Notes
        -----
        Counterpart: ``inner_fn`` in ``models/blizzard/sample_vrnn_gauss.py``.
        """
        params = self.params
        prior_mu_t, prior_sig_t = self.prior.fprop([s_tm1], params)  # (5)

        z_t = Gaussian_sample(prior_mu_t, prior_sig_t, eps_t)
        z_4_t = self.z.fprop([z_t], params)

        x_t, mean_t = draw(self.theta.fprop([z_4_t, s_tm1], params))  # (6)
        x_4_t = self.x.fprop([x_t], params)

        s_t = self.rnn.fprop([[x_4_t, z_4_t], [s_tm1]], params)  # (7)

        return [s_t, x_t, mean_t]


def blizzard(run: Run, make_net: Callable[[Settings], VRNN]) -> Training:
    """Make the main loop for Blizzard; the original's ``models/blizzard/vrnn_gmm.py``."""
    args = run.args
    train_data, valid_data, rows = run.open_blizzard()
    net = make_net(args)
    run.init_from(net.params)
    run.describe(net.params)

    # The trained graph.  Rows of consecutive batches follow each other in the recordings: the state
    # is carried over (truncated backpropagation) and reset every reset_freq updates.  run.part is
    # the share of a device in the batch; on one device it is the whole batch.
    x = train_data.theano_vars(args.batch_size)
    eps = net.noise(x)
    step_count = sharedX(0, name="step_count")
    rnn_tm1 = sharedX(np.zeros((args.batch_size, net.state_dim)), name="rnn_tm1")
    s_0 = pt.switch(
        pt.eq(pt.mod(step_count, args.reset_freq), 0),
        net.get_init_state(args.batch_size // args.devices),
        run.part(rnn_tm1, axis=0),
    )
    tensors = net.fprop(run.part(x), s_0, run.part(eps))
    nll_upper_bound, recon_term, kl_term = net.cost(run.part(x), tensors)
    cost, kl_count = trained_cost(args, nll_upper_bound, net.terms(run.part(x), tensors))

    # The monitored graph has another batch size and starts from zeros; no device shares a batch.
    m_x = valid_data.theano_vars(args.m_batch_size * args.devices)
    m_eps = net.noise(m_x)
    m_s_0 = net.get_init_state(args.m_batch_size)
    m_tensors = net.fprop(run.part(m_x), m_s_0, run.part(m_eps))
    ddout = [*net.cost(run.part(m_x), m_tensors), *net.channels(run.part(m_x), m_tensors)]
    monitor_fn = run.compile([m_x, m_eps], ddout)

    model = Model(inputs=[x, eps], params=net.params, nodes=net.nodes)
    model.set_updates({step_count: step_count + 1, rnn_tm1: run.whole(tensors["s"][-1], axis=0)})
    model.set_updates(kl_count)
    model.forward = tensors | by_name([nll_upper_bound, recon_term, kl_term])
    optimizer = Adam(lr=args.lr)

    # In the original each scan draws from its own stream of noise.
    noise, m_noise = run.noise_streams(net.noise_dim, 2)
    train_rows = Iterator(train_data, args.batch_size, start=0, end=rows.train_end)
    m_train = Iterator(train_data, args.m_batch_size, start=0, end=rows.monitor_rows)
    m_valid = Iterator(valid_data, args.m_batch_size, start=rows.valid_start, end=rows.valid_end)
    m_data = [WithNoise(m_train, m_noise), WithNoise(m_valid, m_noise)]
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
        data=WithNoise(train_rows, noise),
        model=model,
        optimizer=optimizer,
        cost=cost,
        outputs=[nll_upper_bound],
        extension=[*extension, *run.extensions("valid_nll_upper_bound")],
        **run.options(train_rows, m_valid, {"train": noise, "monitor": m_noise}),
    )


def iamondb(run: Run, make_net: Callable[[Settings], VRNN]) -> Training:
    """Make the main loop for IAM-OnDB; the original's ``models/iamondb/vrnn_gmm.py``."""
    args = run.args
    train_data, valid_data = run.open_iamondb()
    net = make_net(args)
    run.init_from(net.params)
    run.describe(net.params)

    def graph(batch_size: int) -> tuple[list[TensorVariable], dict[str, TensorVariable], list]:
        """Inputs, tensors and channels; every line starts from a state of zeros."""
        x, mask = train_data.theano_vars(batch_size)
        eps = net.noise(x)
        x_in, mask_in = run.part(x), run.part(mask)
        s_0 = net.get_init_state(batch_size // args.devices)
        tensors = net.fprop(x_in, s_0, run.part(eps))
        costs = net.cost(x_in, tensors, mask_in)
        ddout = [*costs, *net.channels(x_in, tensors, mask_in)]
        return [x, mask, eps], tensors | by_name(costs), ddout

    # The trained graph is monitored, too.  Several devices monitor a whole batch each.
    inputs, tensors, ddout = graph(args.batch_size)
    nll_upper_bound = ddout[0]
    m_inputs, m_ddout = inputs, ddout
    if args.devices > 1:
        m_inputs, _, m_ddout = graph(args.batch_size * args.devices)

    x, mask, _ = inputs
    terms = net.terms(run.part(x), tensors)
    cost, kl_count = trained_cost(args, nll_upper_bound, terms, run.part(mask))
    model = Model(inputs, net.nodes, net.params, updates=kl_count, forward=tensors)
    optimizer = Adam(lr=args.lr)

    # In the original the one graph draws from one stream of noise.
    (noise,) = run.noise_streams(net.noise_dim, 1)
    train_lines = Iterator(train_data, args.batch_size)
    valid_lines = Iterator(valid_data, args.batch_size)
    m_data = [WithNoise(valid_lines, noise)]
    freq, path = args.monitoring_freq, run.files.folder
    extension = [
        GradientClipping(scaler=args.clip, batch_size=args.batch_size),
        EpochCount(args.epoch),
        Monitoring(freq=freq, inputs=m_inputs, ddout=m_ddout, data=m_data),
        Picklize(freq=freq, path=path, keep=args.keep),
        EarlyStopping(freq=freq, path=path, channel="valid_nll_upper_bound"),
        WeightNorm(),
    ]
    return Training(
        name=run.name,
        data=WithNoise(train_lines, noise),
        model=model,
        optimizer=optimizer,
        cost=cost,
        outputs=[nll_upper_bound],
        extension=[*extension, *run.extensions("valid_nll_upper_bound")],
        **run.options(train_lines, valid_lines, {"train": noise}),
    )


PROGRAM = Program("vrnn_gmm", WIDTHS, vrnn_gmm, {"blizzard": blizzard, "iamondb": iamondb}, __doc__)

if __name__ == "__main__":
    sys.exit(run_program(PROGRAM))
