"""RNN-GMM: a recurrent network whose output is a Gaussian mixture.

The paper's baseline without a latent variable: Chung et al., *A Recurrent
Latent Variable Model for Sequential Data*, NIPS 2015,
https://arxiv.org/abs/1506.02216, section 2.1.  At each time step t::

    x_t | h_{t-1}  ~ GMM(theta_mu_t, theta_sig_t, coeff_t)    output       (2)
    h_t = LSTM(phi^x(x_t), h_{t-1})                           recurrence   (1)

Training minimises the negative log-likelihood of a frame (Blizzard) or of a
whole line (IAM-OnDB), in nats::

    nll = -log p(x_t | h_{t-1})

The paper says "LSTM or GRU"; the original's scripts have an LSTM.  ``--rnn gru``
takes a GRU.

The file follows the original's ``main``: settings, nodes and parameters
(`rnn_gmm`, `RNN`), the step `inner_fn`, scan, cost; then, for each data set
(`blizzard`, `iamondb`), data, carried state, the monitored graph,
``monitor_fn``, model, optimizer, extensions, training.

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/rnn_gmm.py --dataset blizzard
    python models/rnn_gmm.py --dataset iamondb
    python models/rnn_gmm.py --dataset blizzard --rnn gru
    python models/rnn_gmm.py --dataset blizzard --data_path DIR

Counterpart: ``models/blizzard/rnn_gmm.py``, ``models/iamondb/rnn_gmm.py``.
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

from cle_port.cost import GMM, BiGMM
from cle_port.data import Iterator
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
from models.channels import average, by_name, coeff_stats, named, stats
from models.parts import (
    TRANSITIONS,
    Decoder,
    Draw,
    Head,
    Init,
    Sampler,
    Stack,
    initialize,
    sample_frames,
)
from models.running import Program, Run, run_program
from models.settings import Settings

WIDTHS = {
    "blizzard": {"depth": 4, "x2s_dim": 700, "p_x_dim": 700},
    "iamondb": {"depth": 1, "x2s_dim": 300, "p_x_dim": 300},
}


def rnn_gmm(args: Settings, init: Init | None = None) -> RNN:
    """Make the model: an LSTM (or ``--rnn``), and a mixture of Gaussians for x_t, eq. (2)."""
    k = args.num_k
    if args.dataset == "blizzard":
        target_dim = args.x_dim * k
        heads = [
            Head("theta_mu", target_dim, "linear"),
            Head("theta_sig", target_dim, "softplus"),
            Head("coeff", k, "softmax"),
        ]
        return RNN(args, TRANSITIONS[args.rnn], heads, GMM, init)

    # A point of the pen: a bit, and two correlated offsets.
    target_dim = (args.x_dim - 1) * k
    heads = [
        Head("theta_mu", target_dim, "linear"),
        Head("theta_sig", target_dim, "softplus"),
        Head("coeff", k, "softmax"),
        Head("corr", k, "tanh"),
        Head("binary", 1, "sigmoid"),
    ]
    return RNN(args, TRANSITIONS[args.rnn], heads, BiGMM, init)


class RNN:
    """The model: its nodes, its parameters, and the graph from frames to the cost.

    Parameters
    ----------
    args : Settings
        Data set, sizes and seed.
    transition : type of RecurrentLayer
        The recurrence (1).
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
        Normal numbers that one frame takes: none.
    """

    noise_dim = 0

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

        # Feature extractor phi^x.
        self.x = Stack("x", {"x_t": args.x_dim}, args.x2s_dim, args.depth, init)

        # Recurrence, eq. (1).
        self.rnn = transition(
            name="rnn",
            parent=list(self.x.out),
            parent_dim=list(self.x.out.values()),
            nout=args.rnn_dim,
            unit="tanh",
            init_W=init.W,
            init_U=init.U,
            init_b=init.b,
        )

        # Output p(x_t | h_{t-1}), eq. (2); it reads h of the state [h | c].
        state = {"s_tm1": args.rnn_dim}
        self.theta = Decoder(state, args.p_x_dim, args.depth, heads, density, init, sample)

        self.nodes: list[StemCell] = [self.rnn, *self.x.nodes, *self.theta.nodes]
        for node in self.nodes:
            node.saturate = args.sigmoid == "theano"
        self.params = init_tparams(initialize(self.nodes))

    @property
    def state_dim(self) -> int:
        """Size of the state's last axis: 2 rnn_dim for [h | c] of an LSTM, rnn_dim for a GRU."""
        return self.rnn.state_dim

    def get_init_state(self, batch_size: int) -> TensorVariable:
        """State of zeros before the first frame, shape (batch_size, state_dim)."""
        return self.rnn.get_init_state(batch_size)

    def inner_fn(self, x_t: TensorVariable, s_tm1: TensorVariable) -> TensorVariable:
        """One time step.

        Parameters
        ----------
        x_t : tensor of shape (B, x2s_dim)
            Features phi^x of the frame, under the original's name.
        s_tm1 : tensor of shape (B, state_dim)
            State [h_{t-1} | c_{t-1}].

        Returns
        -------
        tensor of shape (B, state_dim)
            State s_t.
        """
        return self.rnn.fprop([[x_t], [s_tm1]], self.params)  # (1)

    def fprop(self, x: TensorVariable, s_0: TensorVariable) -> dict[str, TensorVariable]:
        """From frames to the distribution of x, by the original's names.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        s_0 : tensor of shape (B, state_dim)
            State before the first frame.

        Returns
        -------
        dict of str to tensor
            ``s`` of shape (T, B, state_dim); the outputs of the layers on x
            and of the decoder by their names, shapes (T, B, ...).
        """
        features = self.x.fprop_all([x], self.params)
        *_, x_4 = features.values()  # the last layer; on Blizzard it is the 4th

        s = pytensor.scan(
            fn=self.inner_fn, sequences=[x_4], outputs_info=[s_0], return_updates=False
        )

        # x_t depends on h_{t-1}: shift the states by one step.
        s_tm1 = pt.concatenate([s_0[None, :, :], s[:-1]], axis=0)
        theta = self.theta.fprop([s_tm1], self.params)  # (2)

        return {**features, "s": s, **theta}

    def terms(
        self, x: TensorVariable, tensors: dict[str, TensorVariable]
    ) -> dict[str, TensorVariable]:
        """The negative log-likelihood of each frame, in nats.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        tensors : dict of str to tensor
            From `fprop`.

        Returns
        -------
        dict of str to tensor
            ``nll``, -log p(x_t | h_{t-1}), of shape (T, B).
        """
        return {"nll": self.theta.nll(x, tensors)}

    def cost(
        self,
        x: TensorVariable,
        tensors: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """The negative log-likelihood, averaged, in nats.

        Parameters
        ----------
        x, tensors
            See `terms`.
        mask : tensor of shape (T, B), optional
            See `models.channels.average`.

        Returns
        -------
        list of scalars
            ``nll``, which is trained.
        """
        return [named(average(self.terms(x, tensors)["nll"], mask), "nll")]

    def channels(
        self,
        x: TensorVariable,
        tensors: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """Further scalars to monitor, named, in the original's order; see `cost`."""
        channels = [
            *stats("theta_sig", tensors["theta_sig"], mask),
            *stats("x", x, mask),
            *stats("theta_mu", tensors["theta_mu"], mask),
        ]
        if "coeff" in tensors:
            channels += coeff_stats(tensors["coeff"], mask)
        return channels

    def generate_fn(
        self, eps_t: TensorVariable, s_tm1: TensorVariable, draw: Draw
    ) -> list[TensorVariable]:
        """One time step of generation, without data.

        Parameters
        ----------
        eps_t : tensor of shape (B, 0)
            Empty: the model has no latent variable.
        s_tm1 : tensor of shape (B, state_dim)
            State [h_{t-1} | c_{t-1}].
        draw : callable
            Draws x_t from the decoder's outputs.

        Returns
        -------
        list of tensors
            s_t; x_t and its mean, of shape (B, x_dim).
        """
        x_t, mean_t = draw(self.theta.fprop([s_tm1], self.params))  # (2)
        x_4_t = self.x.fprop([x_t], self.params)

        s_t = self.inner_fn(x_4_t, s_tm1)  # (1)

        return [s_t, x_t, mean_t]


def blizzard(run: Run, make_net: Callable[[Settings], RNN]) -> Training:
    """Make the main loop for Blizzard; the original's ``models/blizzard/rnn_gmm.py``."""
    args = run.args
    train_data, valid_data, rows = run.open_blizzard()
    net = make_net(args)
    run.init_from(net.params)
    run.describe(net.params)

    # The trained graph.  Rows of consecutive batches follow each other in the recordings: the state
    # is carried over (truncated backpropagation) and reset every reset_freq updates.  run.part is
    # the share of a device in the batch; on one device it is the whole batch.
    x = train_data.theano_vars(args.batch_size)
    step_count = sharedX(0, name="step_count")
    rnn_tm1 = sharedX(np.zeros((args.batch_size, net.state_dim)), name="rnn_tm1")
    s_0 = pt.switch(
        pt.eq(pt.mod(step_count, args.reset_freq), 0),
        net.get_init_state(args.batch_size // args.devices),
        run.part(rnn_tm1, axis=0),
    )
    tensors = net.fprop(run.part(x), s_0)
    (nll,) = net.cost(run.part(x), tensors)

    # The monitored graph has another batch size and starts from zeros; no device shares a batch.
    m_x = valid_data.theano_vars(args.m_batch_size * args.devices)
    m_s_0 = net.get_init_state(args.m_batch_size)
    m_tensors = net.fprop(run.part(m_x), m_s_0)
    ddout = [*net.cost(run.part(m_x), m_tensors), *net.channels(run.part(m_x), m_tensors)]
    monitor_fn = run.compile([m_x], ddout)

    model = Model(inputs=[x], params=net.params, nodes=net.nodes)
    model.set_updates({step_count: step_count + 1, rnn_tm1: run.whole(tensors["s"][-1], axis=0)})
    model.forward = tensors | by_name([nll])
    optimizer = Adam(lr=args.lr)

    train_rows = Iterator(train_data, args.batch_size, start=0, end=rows.train_end)
    m_train = Iterator(train_data, args.m_batch_size, start=0, end=rows.monitor_rows)
    m_valid = Iterator(valid_data, args.m_batch_size, start=rows.valid_start, end=rows.valid_end)
    m_data = [m_train, m_valid]
    saving = {"freq": args.monitoring_freq, "force_save_freq": args.force_saving_freq}
    extension = [
        GradientClipping(scaler=args.clip, batch_size=args.batch_size, check_nan=1),
        EpochCount(args.epoch),
        Monitoring(freq=args.monitoring_freq, monitor_fn=monitor_fn, ddout=ddout, data=m_data),
        Picklize(path=run.files.folder, keep=args.keep, **saving),
        EarlyStopping(path=run.files.folder, channel="valid_nll", **saving),
        WeightNorm(),
    ]
    return Training(
        name=run.name,
        data=train_rows,
        model=model,
        optimizer=optimizer,
        cost=nll,
        outputs=[nll],
        extension=[*extension, *run.extensions("valid_nll")],
        **run.options(train_rows, m_valid),
    )


def iamondb(run: Run, make_net: Callable[[Settings], RNN]) -> Training:
    """Make the main loop for IAM-OnDB; the original's ``models/iamondb/rnn_gmm.py``."""
    args = run.args
    train_data, valid_data = run.open_iamondb()
    net = make_net(args)
    run.init_from(net.params)
    run.describe(net.params)

    def graph(batch_size: int) -> tuple[list[TensorVariable], dict[str, TensorVariable], list]:
        """Inputs, tensors and channels; every line starts from a state of zeros."""
        x, mask = train_data.theano_vars(batch_size)
        x_in, mask_in = run.part(x), run.part(mask)
        s_0 = net.get_init_state(batch_size // args.devices)
        tensors = net.fprop(x_in, s_0)
        costs = net.cost(x_in, tensors, mask_in)
        ddout = [*costs, *net.channels(x_in, tensors, mask_in)]
        return [x, mask], tensors | by_name(costs), ddout

    # The trained graph is monitored, too.  Several devices monitor a whole batch each.
    inputs, tensors, ddout = graph(args.batch_size)
    nll = ddout[0]
    m_inputs, m_ddout = inputs, ddout
    if args.devices > 1:
        m_inputs, _, m_ddout = graph(args.batch_size * args.devices)

    model = Model(inputs=inputs, params=net.params, nodes=net.nodes, forward=tensors)
    optimizer = Adam(lr=args.lr)

    train_lines = Iterator(train_data, args.batch_size)
    valid_lines = Iterator(valid_data, args.batch_size)
    m_data = [valid_lines]
    freq, path = args.monitoring_freq, run.files.folder
    extension = [
        GradientClipping(scaler=args.clip, batch_size=args.batch_size),
        EpochCount(args.epoch),
        Monitoring(freq=freq, inputs=m_inputs, ddout=m_ddout, data=m_data),
        Picklize(freq=freq, path=path, keep=args.keep),
        EarlyStopping(freq=freq, path=path, channel="valid_nll"),
        WeightNorm(),
    ]
    return Training(
        name=run.name,
        data=train_lines,
        model=model,
        optimizer=optimizer,
        cost=nll,
        outputs=[nll],
        extension=[*extension, *run.extensions("valid_nll")],
        **run.options(train_lines, valid_lines),
    )


PROGRAM = Program(
    "rnn_gmm", WIDTHS, rnn_gmm, {"blizzard": blizzard, "iamondb": iamondb}, __doc__, latent=False
)

if __name__ == "__main__":
    sys.exit(run_program(PROGRAM))
