"""VRNN-Gauss: a variational recurrent network whose output is one Gaussian.

Chung et al., *A Recurrent Latent Variable Model for Sequential Data*, NIPS
2015, https://arxiv.org/abs/1506.02216.  Equation numbers below are the paper's.
At each time step t::

    z_t | h_{t-1}       ~ N(prior_mu_t, prior_sig_t^2)      prior        (5)
    x_t | z_t, h_{t-1}  ~ N(theta_mu_t, theta_sig_t^2)      generation   (6)
    h_t = LSTM(phi^x(x_t), phi^z(z_t), h_{t-1})             recurrence   (7)
    z_t | x_t, h_{t-1}  ~ N(phi_mu_t, phi_sig_t^2)          inference    (9)

Only generation differs from VRNN-GMM: everything else, the time step
`inner_fn` above all, is read in ``models/vrnn_gmm.py``.

Examples
--------
Train on the built-in demo corpora, then on your own data::

    python models/vrnn_gauss.py --dataset blizzard
    python models/vrnn_gauss.py --dataset iamondb
    python models/vrnn_gauss.py --dataset blizzard --data_path DIR

Counterpart: ``models/blizzard/vrnn_gauss.py``, ``models/iamondb/vrnn_gauss.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.parts import Decoder, Init
from models.program import run
from models.settings import Settings
from models.vrnn_gmm import VRNN_GMM
from models.vrnn_gmm import WIDTHS as WIDTHS_GMM

WIDTHS = {
    "blizzard": WIDTHS_GMM["blizzard"] | {"x2s_dim": 600, "p_x_dim": 600},
    "iamondb": WIDTHS_GMM["iamondb"],
}


class VRNN_Gauss(VRNN_GMM):
    """VRNN-GMM with another decoder; see `models.vrnn_gmm.VRNN_GMM`."""

    def decoder(self, args: Settings, parent: dict[str, int], init: Init) -> Decoder:
        """Distribution of x_t: one Gaussian."""
        return Decoder(args, parent, init)


if __name__ == "__main__":
    sys.exit(run("vrnn_gauss", VRNN_Gauss, WIDTHS, __doc__))
