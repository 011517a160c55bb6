"""RNN-GMM: a recurrent network whose output is a Gaussian mixture.

The paper's baseline without a latent variable: Chung et al., *A Recurrent
Latent Variable Model for Sequential Data*, NIPS 2015,
https://arxiv.org/abs/1506.02216, section 2.1.  At each time step t::

    x_t | h_{t-1}  ~ GMM(theta_mu_t, theta_sig_t, coeff_t)    output       (2)
    h_t = LSTM(phi^x(x_t), h_{t-1})                           recurrence   (1)

Trained is the negative log-likelihood of a frame
(Blizzard) or of a whole line (IAM-OnDB), in nats::

    nll = -log p(x_t | h_{t-1})

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/rnn_gmm.py --dataset blizzard
    python models/rnn_gmm.py --dataset iamondb
    python models/rnn_gmm.py --dataset blizzard --data_path DIR

Counterpart: ``models/blizzard/rnn_gmm.py``, ``models/iamondb/rnn_gmm.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytensor
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import StemCell
from cle_port.layers.recurrent import LSTM
from cle_port.utils import init_tparams
from models.parts import Decoder, Init, Stack, average, coeff_stats, initialize, stats
from models.program import run
from models.settings import Settings

WIDTHS = {
    "blizzard": {"depth": 4, "x2s_dim": 700, "p_x_dim": 700},
    "iamondb": {"depth": 1, "x2s_dim": 300, "p_x_dim": 300},
}


class RNN_GMM:
    """The model: its nodes, its parameters, and the graph from frames to the cost.

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
        Size of the noise that one frame takes: none.
    """

    noise_dim = 0

    def __init__(self, args: Settings, init: Init | None = None) -> None:
        init = init or Init(args.seed)

        # Feature extractor phi^x.
        self.x = Stack("x", {"x_t": args.x_dim}, args.x2s_dim, args.depth, init)

        # Recurrence, eq. (1).
        self.rnn = LSTM(
            name="rnn",
            parent=list(self.x.out),
            parent_dim=list(self.x.out.values()),
            nout=args.rnn_dim,
            unit="tanh",
            init_W=init.W,
            init_U=init.U,
            init_b=init.b,
        )

        # Output p(x_t | h_{t-1}), eq. (2); of the state [h | c] it reads h.
        self.theta = self.decoder(args, {"s_tm1": args.rnn_dim}, init)

        self.nodes: list[StemCell] = [self.rnn, *self.x.nodes, *self.theta.nodes]
        for node in self.nodes:
            node.saturate = args.sigmoid == "theano"
        self.params = init_tparams(initialize(self.nodes))

    def decoder(self, args: Settings, parent: dict[str, int], init: Init) -> Decoder:
        """Distribution of x_t: a mixture of ``num_k`` Gaussians."""
        return Decoder(args, parent, init, args.num_k)

    def inner_fn(self, x_t: TensorVariable, s_tm1: TensorVariable) -> TensorVariable:
        """One time step.

        Parameters
        ----------
        x_t : tensor of shape (B, x2s_dim)
            Features phi^x of the frame, under the original's name.
        s_tm1 : tensor of shape (B, 2 rnn_dim)
            State [h_{t-1} | c_{t-1}].

        Returns
        -------
        tensor of shape (B, 2 rnn_dim)
            State s_t.
        """
        return self.rnn.fprop([[x_t], [s_tm1]], self.params)  # (1)

    def fprop(self, x: TensorVariable, s_0: TensorVariable) -> dict[str, TensorVariable]:
        """From frames to the distribution of x, by the original's names.

        Parameters
        ----------
        x : tensor of shape (T, B, x_dim)
            Frames.
        s_0 : tensor of shape (B, 2 rnn_dim)
            State before the first frame.

        Returns
        -------
        dict of str to tensor
            ``s`` of shape (T, B, 2 rnn_dim); the outputs of the layers on x
            and of the decoder by their names, shapes (T, B, ...).
        """
        features = self.x.fprop_all([x], self.params)
        *_, x_4 = features.values()  # the last layer, the 4th as on Blizzard

        s = pytensor.scan(
            fn=self.inner_fn, sequences=[x_4], outputs_info=[s_0], return_updates=False
        )

        # x_t depends on h_{t-1}: shift the states by one step.
        s_tm1 = pt.concatenate([s_0[None, :, :], s[:-1]], axis=0)
        theta = self.theta.fprop([s_tm1], self.params)  # (2)

        return {**features, "s": s, **theta}

    def generate_fn(
        self,
        eps_t: TensorVariable,
        s_tm1: TensorVariable,
        draw: Callable[[dict[str, TensorVariable]], tuple[TensorVariable, TensorVariable]],
    ) -> list[TensorVariable]:
        """One time step of generation, without data.

        Parameters
        ----------
        eps_t : tensor of shape (B, 0)
            Nothing: there is no latent variable.
        s_tm1 : tensor of shape (B, 2 rnn_dim)
            State [h_{t-1} | c_{t-1}].
        draw : callable
            Takes the decoder's outputs by name, returns a draw of x_t and the
            mean that it was drawn around: see `models.parts.Decoder.sample`.

        Returns
        -------
        list of tensors
            s_t; x_t and its mean, of shape (B, x_dim).
        """
        x_t, mean_t = draw(self.theta.fprop([s_tm1], self.params))  # (2)
        x_4_t = self.x.fprop([x_t], self.params)

        s_t = self.inner_fn(x_4_t, s_tm1)  # (1)

        return [s_t, x_t, mean_t]

    def cost(
        self,
        x: TensorVariable,
        v: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> dict[str, TensorVariable]:
        """The negative log-likelihood, in nats.

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
            What is trained and tells the best model.
        """
        return {"nll": average(self.theta.nll(x, v), mask)}

    def monitored(
        self,
        x: TensorVariable,
        v: dict[str, TensorVariable],
        mask: TensorVariable | None = None,
    ) -> list[TensorVariable]:
        """Further channels to monitor, named scalars in the original's order."""
        channels = [
            *stats("theta_sig", v["theta_sig"], mask),
            *stats("x", x, mask),
            *stats("theta_mu", v["theta_mu"], mask),
        ]
        if "coeff" in v:
            channels += coeff_stats(v["coeff"], mask)
        return channels


if __name__ == "__main__":
    sys.exit(run("rnn_gmm", RNN_GMM, WIDTHS, __doc__))
