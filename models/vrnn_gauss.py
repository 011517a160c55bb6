"""VRNN-Gauss: a variational recurrent network whose output is one Gaussian.

Chung et al., *A Recurrent Latent Variable Model for Sequential Data*, NIPS
2015, https://arxiv.org/abs/1506.02216.  Equation numbers below are the paper's.
At each time step t::

    z_t | h_{t-1}       ~ N(prior_mu_t, prior_sig_t^2)      prior        (5)
    x_t | z_t, h_{t-1}  ~ N(theta_mu_t, theta_sig_t^2)      generation   (6)
    h_t = LSTM(phi^x(x_t), phi^z(z_t), h_{t-1})             recurrence   (7)
    z_t | x_t, h_{t-1}  ~ N(phi_mu_t, phi_sig_t^2)          inference    (9)

Only generation differs from VRNN-GMM: everything else, the time step
`inner_fn` above all, is in ``models/vrnn_gmm.py``.

``--rnn gru`` takes a GRU for the LSTM.

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/vrnn_gauss.py --dataset blizzard
    python models/vrnn_gauss.py --dataset iamondb
    python models/vrnn_gauss.py --dataset blizzard --rnn gru
    python models/vrnn_gauss.py --dataset blizzard --data_path DIR

Counterpart: ``models/blizzard/vrnn_gauss.py``, ``models/iamondb/vrnn_gauss.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cle_port.cost import BiGauss, Gaussian
from models.parts import TRANSITIONS, Head, Init
from models.running import Program, run_program
from models.settings import Settings
from models.vrnn_gmm import VRNN, blizzard, iamondb
from models.vrnn_gmm import WIDTHS as WIDTHS_GMM

WIDTHS = {
    "blizzard": WIDTHS_GMM["blizzard"] | {"x2s_dim": 600, "p_x_dim": 600},
    "iamondb": WIDTHS_GMM["iamondb"],
}


def vrnn_gauss(args: Settings, init: Init | None = None) -> VRNN:
    """Make the model: an LSTM (or ``--rnn``), and one Gaussian for x_t, eq. (6)."""
    if args.dataset == "blizzard":
        heads = [
            Head("theta_mu", args.x_dim, "linear"),
            Head("theta_sig", args.x_dim, "softplus"),
        ]
        return VRNN(args, TRANSITIONS[args.rnn], heads, Gaussian, init)

    # A point of the pen: a bit, and two correlated offsets.
    heads = [
        Head("theta_mu", args.x_dim - 1, "linear"),
        Head("theta_sig", args.x_dim - 1, "softplus"),
        Head("corr", 1, "tanh"),
        Head("binary", 1, "sigmoid"),
    ]
    return VRNN(args, TRANSITIONS[args.rnn], heads, BiGauss, init)


PROGRAM = Program(
    "vrnn_gauss", WIDTHS, vrnn_gauss, {"blizzard": blizzard, "iamondb": iamondb}, __doc__
)

if __name__ == "__main__":
    sys.exit(run_program(PROGRAM))
