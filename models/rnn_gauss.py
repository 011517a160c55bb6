"""RNN-Gauss: a recurrent network whose output is one Gaussian.

The paper's simplest baseline: Chung et al., *A Recurrent Latent Variable Model
for Sequential Data*, NIPS 2015, https://arxiv.org/abs/1506.02216, section 2.1.
At each time step t::

    x_t | h_{t-1}  ~ N(theta_mu_t, theta_sig_t^2)      output       (2)
    h_t = LSTM(phi^x(x_t), h_{t-1})                    recurrence   (1)

Only the output differs from RNN-GMM: everything else is read in
``models/rnn_gmm.py``.

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/rnn_gauss.py --dataset blizzard
    python models/rnn_gauss.py --dataset iamondb
    python models/rnn_gauss.py --dataset blizzard --data_path DIR

Counterpart: ``models/blizzard/rnn_gauss.py``, ``models/iamondb/rnn_gauss.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.parts import Decoder, Init
from models.program import run
from models.rnn_gmm import RNN_GMM
from models.settings import Settings

WIDTHS = {
    "blizzard": {"depth": 4, "x2s_dim": 800, "p_x_dim": 800},
    "iamondb": {"depth": 1, "x2s_dim": 340, "p_x_dim": 340},
}


class RNN_Gauss(RNN_GMM):
    """RNN-GMM with another output; see `models.rnn_gmm.RNN_GMM`."""

    def decoder(self, args: Settings, parent: dict[str, int], init: Init) -> Decoder:
        """Distribution of x_t: one Gaussian."""
        return Decoder(args, parent, init)


if __name__ == "__main__":
    sys.exit(run("rnn_gauss", RNN_Gauss, WIDTHS, __doc__))
