"""STORN: a stochastic recurrent network, whose latent variables do not depend on the past.

Bayer and Osendorfer, *Learning Stochastic Recurrent Networks*, 2014,
https://arxiv.org/abs/1411.7610.  The VRNN paper, https://arxiv.org/abs/1506.02216,
compares with it and counts it to its VRNN-I.  At each time step t::

    g_t = LSTM(phi^x(x_t), g_{t-1})                      recognising recurrence
    q(z_t | x_<=t) = N(phi_mu_t, phi_sig_t^2)            inference, from g_t
    p(z_t) = N(0, 1)                                     prior
    h_t = LSTM(phi^x(x_{t-1}), phi^z(z_t), h_{t-1})      generating recurrence
    x_t | z_<=t, x_<t ~ theta_t                          generation, from h_t

In VRNN-I (``--prior independent`` of ``models/vrnn_gmm.py``) one recurrence does
the work of both, and h_{t-1} decides on z_t and x_t; here h_t, which has seen
z_t, decides on x_t.  Training minimises the bound on the negative
log-likelihood of a frame (Blizzard) or of a whole line (IAM-OnDB), in nats::

    nll_upper_bound = -log p(x_t | z_<=t, x_<t) + KL(q(z_t | x_<=t) || N(0, 1))

theta_t is a mixture of ``--num_k`` Gaussians as in VRNN-GMM, and with ``--num_k 1``
one Gaussian as in VRNN-Gauss.  The widths are those of VRNN-GMM.  ``--rnn gru``
takes GRUs for both LSTMs.  There is no prior to learn: ``--prior`` and
``--p_z_dim`` have no effect.

docs/storn.md says where the model's descriptions differ, and what is chosen here.

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/storn.py --dataset blizzard
    python models/storn.py --dataset iamondb
    python models/storn.py --dataset blizzard --num_k 1
    python models/storn.py --dataset blizzard --data_path DIR

No counterpart in the original.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytensor
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import GMM, BiGauss, BiGMM, Gaussian, KLGaussianStdGaussian
from cle_port.layers import StemCell
from cle_port.layers.recurrent import RecurrentLayer
from cle_port.utils import init_tparams
from cle_port.utils.op import Gaussian_sample
from models.channels import bound, coeff_stats, mean_by_dim, stats
from models.parts import (
    TRANSITIONS,
    Decoder,
    Draw,
    GaussianNet,
    Head,
    Init,
    Sampler,
    Stack,
    initialize,
    normal_noise,
    sample_frames,
)
from models.running import Program, run_program
from models.settings import Settings
from models.vrnn_gmm import blizzard, iamondb

# VRNN-GMM's.
WIDTHS = {
    "blizzard": {"depth": 4, "x2s_dim": 500, "z2s_dim": 500, "q_z_dim": 500, "p_x_dim": 500},
    "iamondb": {"depth": 1, "x2s_dim": 250, "z2s_dim": 150, "q_z_dim": 150, "p_x_dim": 250},
}


def storn(args: Settings, init: Init | None = None) -> STORN:
    """Make the model: two LSTMs (or ``--rnn``), and a mixture for x_t, or one Gaussian."""
    k = args.num_k
    pen = args.dataset == "iamondb"  # a frame is a bit, and two correlated offsets
    target_dim = (args.x_dim - 1 if pen else args.x_dim) * k
    heads = [
        Head("theta_mu", target_dim, "linear"),
        Head("theta_sig", target_dim, "softplus"),
    ]
    if k > 1:
        heads.append(Head("coeff", k, "softmax"))
    if pen:
        heads += [Head("corr", k, "tanh"), Head("binary", 1, "sigmoid")]
    one, mixture = (BiGauss, BiGMM) if pen else (Gaussian, GMM)
    return STORN(args, TRANSITIONS[args.rnn], heads, mixture if k > 1 else one, init)


class STORN:
    """The model: its nodes, its parameters, and the graph from frames to the bound.

    What goes from frame to frame stands in one tensor of shape (B, state_dim),
    s_t = [state of h | state of g | x_t].  The frame itself goes on rather than
    its features: they are computed again, from the parameters of the next
    update.  x_0, before the first frame of a stream, is 0, and its features are
    phi^x(0).  A state of zeros is then the beginning of a stream.

    Parameters
    ----------
    args : Settings
        Data set, sizes and seed.
    transition : type of RecurrentLayer
        Both recurrences.
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
        In the order of the parameters.
    params : dict of str to TensorSharedVariable
        Parameters by name.
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
        self.x_dim = args.x_dim
        self.noise_dim = args.z_dim

        def recurrence(name: str, inputs: dict[str, int]) -> RecurrentLayer:
            return transition(
                name=name,
                parent=list(inputs),
                parent_dim=list(inputs.values()),
                nout=args.rnn_dim,
                unit="tanh",
                init_W=init.W,
                init_U=init.U,
                init_b=init.b,
            )

        # Feature extractors phi^x and phi^z.
        self.x = Stack("x", {"x_t": args.x_dim}, args.x2s_dim, args.depth, init)
        self.z = Stack("z", {"z_t": args.z_dim}, args.z2s_dim, args.depth, init)

        # Generating and recognising recurrence.
        self.h = recurrence("h", self.x.out | self.z.out)
        self.g = recurrence("g", self.x.out)

        # Inference q(z_t | x_<=t) and generation p(x_t | z_<=t, x_<t).
        g, h = {"g": args.rnn_dim}, {"h": args.rnn_dim}
        self.phi = GaussianNet("phi", g, args.q_z_dim, args.z_dim, args.depth, init)
        self.theta = Decoder(h, args.p_x_dim, args.depth, heads, density, init, sample)

        self.nodes: list[StemCell] = [
            self.h,
            self.g,
            *self.x.nodes,
            *self.z.nodes,
            *self.phi.nodes,
            *self.theta.nodes,
        ]
        for node in self.nodes:
            node.saturate = args.sigmoid == "theano"
        self.params = init_tparams(initialize(self.nodes))

    def noise(self, x: TensorVariable) -> TensorVariable:
        """Symbolic standard normal noise, shape (T, B, z_dim), for x of shape (T, B, x_dim)."""
        return normal_noise(x, self.noise_dim)

    @property
    def state_dim(self) -> int:
        """Size of the last axis of the state [state of h | state of g | x_t]."""
        return self.h.state_dim + self.g.state_dim + self.x_dim

    def get_init_state(self, batch_size: int) -> TensorVariable:
        """State of zeros before the first frame, shape (batch_size, state_dim)."""
        return pt.zeros((batch_size, self.state_dim), dtype=pytensor.config.floatX)

    def split(self, s: TensorVariable) -> list[TensorVariable]:
        """Return the parts h, g, x of a state of shape (B, state_dim)."""
        start = self.h.state_dim
        end = start + self.g.state_dim
        return [s[:, :start], s[:, start:end], s[:, end:]]

    def g_fn(self, x_t: TensorVariable, g_tm1: TensorVariable) -> TensorVariable:
        """One time step of the recognising recurrence, from the features phi^x of x_t."""
        return self.g.fprop([[x_t], [g_tm1]], self.params)

    def h_fn(
        self, x_tm1: TensorVariable, z_t: TensorVariable, h_tm1: TensorVariable
    ) -> TensorVariable:
        """One time step of the generating recurrence, from the features of x_{t-1} and z_t."""
        return self.h.fprop([[x_tm1, z_t], [h_tm1]], self.params)

    def fprop(
        self, x: TensorVariable, s_0: TensorVariable, eps: TensorVariable
    ) -> dict[str, TensorVariable]:
        """From frames to the distributions of z and x, by the names of the VRNN's.

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
            ``s`` of shape (T, B, state_dim); ``phi_mu``, ``phi_sig`` of shape
            (T, B, z_dim); ``z_last``, the features phi^z of z, of shape
            (T, B, z2s_dim); the outputs of the layers on x and of the decoder by
            their names, shapes (T, B, ...).
        """
        params = self.params
        h_0, g_0, x_0 = self.split(s_0)

        # Both recurrences read the same features, h one step later: those of x_0 to x_T.
        frames = pt.concatenate([x_0[None, :, :], x], axis=0)
        features = self.x.fprop_all([frames], params)
        *_, x_4 = features.values()

        # g depends on x only: z of all steps is drawn before the first step of h.
        g = pytensor.scan(
            fn=self.g_fn, sequences=[x_4[1:]], outputs_info=[g_0], return_updates=False
        )
        phi_mu, phi_sig = self.phi.fprop([g], params)
        z_4 = self.z.fprop([Gaussian_sample(phi_mu, phi_sig, eps)], params)

        h = pytensor.scan(
            fn=self.h_fn, sequences=[x_4[:-1], z_4], outputs_info=[h_0], return_updates=False
        )
        theta = self.theta.fprop([h], params)

        return {
            **{name: feature[1:] for name, feature in features.items()},
            "s": pt.concatenate([h, g, x], axis=2),
            "phi_mu": phi_mu,
            "phi_sig": phi_sig,
            "z_last": z_4,
            **theta,
        }

    def terms(
        self, x: TensorVariable, tensors: dict[str, TensorVariable]
    ) -> dict[str, TensorVariable]:
        """The terms of the bound for each frame, in nats.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        tensors : dict of str to tensor
            From `fprop`.

        Returns
        -------
        dict of str to tensor
            ``recon``, -log p(x_t | z_<=t, x_<t), and ``kl``, both of shape (T, B);
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
        """The bound and its two terms, averaged, in nats.

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
        return bound(self.terms(x, tensors), mask)

    def channels(
        self,
        x: TensorVariable,
        tensors: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """Further values to monitor, named: the VRNN's without the prior's; see `cost`."""
        channels = [
            *stats("phi_sig", tensors["phi_sig"], mask),
            *stats("theta_sig", tensors["theta_sig"], mask),
            *stats("x", x, mask),
            *stats("theta_mu", tensors["theta_mu"], mask),
        ]
        if "coeff" in tensors and self.dataset == "iamondb":
            channels += coeff_stats(tensors["coeff"], mask)
        return [*channels, mean_by_dim("kl_by_dim", self.terms(x, tensors)["kl_by_dim"], mask)]

    def generate_fn(
        self, eps_t: TensorVariable, s_tm1: TensorVariable, draw: Draw
    ) -> list[TensorVariable]:
        """One time step of generation, without data.

        g moves on with the frame that was drawn.  Generation does not need it, but
        inference can go on from any state.

        Parameters
        ----------
        eps_t : tensor of shape (B, z_dim)
            Standard normal noise, which is z_t.
        s_tm1 : tensor of shape (B, state_dim)
            State.
        draw : callable
            Draws x_t from the decoder's outputs.

        Returns
        -------
        list of tensors
            s_t; x_t and its mean, of shape (B, x_dim).
        """
        params = self.params
        h_tm1, g_tm1, x_tm1 = self.split(s_tm1)

        h_t = self.h_fn(self.x.fprop([x_tm1], params), self.z.fprop([eps_t], params), h_tm1)
        x_t, mean_t = draw(self.theta.fprop([h_t], params))
        g_t = self.g_fn(self.x.fprop([x_t], params), g_tm1)

        return [pt.concatenate([h_t, g_t, x_t], axis=1), x_t, mean_t]


PROGRAM = Program("storn", WIDTHS, storn, {"blizzard": blizzard, "iamondb": iamondb}, __doc__)

if __name__ == "__main__":
    sys.exit(run_program(PROGRAM))
