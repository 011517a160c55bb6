"""VRNN-GMM: a variational recurrent network whose output is a Gaussian mixture.

Chung et al., *A Recurrent Latent Variable Model for Sequential Data*, NIPS
2015, https://arxiv.org/abs/1506.02216.  Equation numbers below are the paper's.
At each time step t::

    z_t | h_{t-1}       ~ N(prior_mu_t, prior_sig_t^2)      prior        (5)
    x_t | z_t, h_{t-1}  ~ GMM(theta_mu_t, theta_sig_t, coeff_t)          (6)
    h_t = LSTM(phi^x(x_t), phi^z(z_t), h_{t-1})             recurrence   (7)
    z_t | x_t, h_{t-1}  ~ N(phi_mu_t, phi_sig_t^2)          inference    (9)

Trained is the bound (11) on the negative log-likelihood of a frame
(Blizzard) or of a whole line (IAM-OnDB), in nats::

    nll_upper_bound = -log p(x_t | z_t, h_{t-1}) + KL(q(z_t | .) || p(z_t | .))

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/vrnn_gmm.py --dataset blizzard
    python models/vrnn_gmm.py --dataset iamondb
    python models/vrnn_gmm.py --dataset blizzard --data_path DIR

Counterpart: ``models/blizzard/vrnn_gmm.py``, ``models/iamondb/vrnn_gmm.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytensor
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.cost import KLGaussianGaussian
from cle_port.layers import StemCell
from cle_port.layers.recurrent import LSTM
from cle_port.utils import init_tparams
from cle_port.utils.op import Gaussian_sample
from models.parts import (
    Decoder,
    GaussianNet,
    Init,
    Stack,
    StandardGaussian,
    average,
    coeff_stats,
    initialize,
    stats,
)
from models.program import run
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


class VRNN_GMM:
    """The model: its nodes, its parameters, and the graph from frames to the bound.

    Parameters
    ----------
    args : Settings
        Data set, sizes and seed.
    init : Init, optional
        Initial values; default are those of the seed.

    Attributes
    ----------
    nodes : list of StemCell
        In the original's order, which is the order of the parameters.
    params : dict of str to TensorSharedVariable
        Parameters by the original's names.
    noise_dim : int
        Size of the noise that one frame takes: the dimension of z.
    """

    def __init__(self, args: Settings, init: Init | None = None) -> None:
        init = init or Init(args.seed)
        self.dataset = args.dataset
        self.noise_dim = args.z_dim
        state = {"s_tm1": args.rnn_dim}  # of [h | c] the layers read h

        # x_4, z_4 below: the last of a stack's layers, the 4th as on Blizzard.

        # Feature extractors phi^x and phi^z.
        self.x = Stack("x", {"x_t": args.x_dim}, args.x2s_dim, args.depth, init)
        self.z = Stack("z", {"z_t": args.z_dim}, args.z2s_dim, args.depth, init)

        # Recurrence, eq. (7).
        inputs = self.x.out | self.z.out
        self.rnn = LSTM(
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
        self.theta = self.decoder(args, self.z.out | state, init)

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

    def decoder(self, args: Settings, parent: dict[str, int], init: Init) -> Decoder:
        """Distribution of x_t: a mixture of ``num_k`` Gaussians."""
        return Decoder(args, parent, init, args.num_k)

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
        s_tm1 : tensor of shape (B, 2 rnn_dim)
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
        s_0 : tensor of shape (B, 2 rnn_dim)
            State before the first frame.
        eps : tensor of shape (T, B, z_dim)
            Standard normal noise.

        Returns
        -------
        dict of str to tensor
            ``s`` of shape (T, B, 2 rnn_dim); ``phi_mu``, ``phi_sig``,
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

        # x_t depends on h_{t-1}: shift the states by one step.  The decoder
        # feeds nothing back, so it needs no scan.
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

    def generate_fn(
        self,
        eps_t: TensorVariable,
        s_tm1: TensorVariable,
        draw: Callable[[dict[str, TensorVariable]], tuple[TensorVariable, TensorVariable]],
    ) -> list[TensorVariable]:
        """One time step of generation, without data.

        Parameters
        ----------
        eps_t : tensor of shape (B, z_dim)
            Standard normal noise.
        s_tm1 : tensor of shape (B, 2 rnn_dim)
            State [h_{t-1} | c_{t-1}].
        draw : callable
            Takes the decoder's outputs by name, returns a draw of x_t and the
            mean that it was drawn around: see `models.parts.Decoder.sample`.

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

    def cost(
        self,
        x: TensorVariable,
        v: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> dict[str, TensorVariable]:
        """The bound (11) and its two terms, in nats.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        v : dict of str to tensor
            From `fprop`.
        mask : tensor of shape (T, B), optional
            See `models.parts.average`.

        Returns
        -------
        dict of str to scalar
            First what is trained and tells the best model, then its terms.
        """
        recon = self.theta.nll(x, v)
        kl = KLGaussianGaussian(v["phi_mu"], v["phi_sig"], v["prior_mu"], v["prior_sig"])
        recon_term = average(recon, mask)
        kl_term = average(kl, mask)
        nll_upper_bound = recon_term + kl_term
        return {"nll_upper_bound": nll_upper_bound, "recon_term": recon_term, "kl_term": kl_term}

    def monitored(
        self,
        x: TensorVariable,
        v: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """Further channels to monitor, named scalars in the original's order."""
        channels = [
            *stats("phi_sig", v["phi_sig"], mask),
            *stats("prior_sig", v["prior_sig"], mask),
            *stats("theta_sig", v["theta_sig"], mask),
            *stats("x", x, mask),
            *stats("theta_mu", v["theta_mu"], mask),
        ]
        # The original's script for Blizzard does not look at the mixture's weights.
        if "coeff" in v and self.dataset == "iamondb":
            channels += coeff_stats(v["coeff"], mask)
        return channels


if __name__ == "__main__":
    sys.exit(run("vrnn_gmm", VRNN_GMM, WIDTHS, __doc__))
