"""RNN-Gauss: a recurrent network whose output is one Gaussian.

The paper's simplest baseline: Chung et al., *A Recurrent Latent Variable Model
for Sequential Data*, NIPS 2015, https://arxiv.org/abs/1506.02216, section 2.1.
At each time step t::

    x_t | h_{t-1}  ~ N(theta_mu_t, theta_sig_t^2)      output       (2)
    h_t = LSTM(phi^x(x_t), h_{t-1})                    recurrence   (1)

Only the output differs from RNN-GMM: everything else is in
``models/rnn_gmm.py``.

``--rnn gru`` takes a GRU for the LSTM.

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/rnn_gauss.py --dataset blizzard
    python models/rnn_gauss.py --dataset iamondb
    python models/rnn_gauss.py --dataset blizzard --rnn gru
    python models/rnn_gauss.py --dataset blizzard --data_path DIR

Counterpart: ``models/blizzard/rnn_gauss.py``, ``models/iamondb/rnn_gauss.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the project's packages win over installed ones
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cle_port.cost import BiGauss, Gaussian
from models.parts import TRANSITIONS, Head, Init
from models.rnn_gmm import RNN, blizzard, iamondb
from models.running import Program, run_program
from models.settings import Settings

WIDTHS = {
    "blizzard": {"depth": 4, "x2s_dim": 800, "p_x_dim": 800},
    "iamondb": {"depth": 1, "x2s_dim": 340, "p_x_dim": 340},
}


def rnn_gauss(args: Settings, init: Init | None = None) -> RNN:
    """Make the model: an LSTM (or ``--rnn``), and one Gaussian for x_t, eq. (2)."""
    if args.dataset == "blizzard":
        heads = [
            Head("theta_mu", args.x_dim, "linear"),
            Head("theta_sig", args.x_dim, "softplus"),
        ]
        return RNN(args, TRANSITIONS[args.rnn], heads, Gaussian, init)

    # A point of the pen: a bit, and two correlated offsets.
    heads = [
        Head("theta_mu", args.x_dim - 1, "linear"),
        Head("theta_sig", args.x_dim - 1, "softplus"),
        Head("corr", 1, "tanh"),
        Head("binary", 1, "sigmoid"),
    ]
    return RNN(args, TRANSITIONS[args.rnn], heads, BiGauss, init)


PROGRAM = Program(
    "rnn_gauss",
    WIDTHS,
    rnn_gauss,
    {"blizzard": blizzard, "iamondb": iamondb},
    __doc__,
    latent=False,
)

if __name__ == "__main__":
    sys.exit(run_program(PROGRAM))
