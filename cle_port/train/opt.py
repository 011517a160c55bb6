"""Optimizers.

Counterpart: ``cle/train/opt.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable

from cle_port.utils import sharedX

logger = logging.getLogger(__name__)

Gradients = Mapping[TensorSharedVariable, TensorVariable]
Updates = dict[TensorSharedVariable, TensorVariable]


class Optimizer:
    """What optimizers share: the learning rate and their state.

    Parameters
    ----------
    lr : float
        Learning rate; kept in a shared variable so that schedules can set it.
    lr_scalers : mapping of str to float, optional
        Factors on the learning rate by parameter name.

    Attributes
    ----------
    state : dict of str to TensorSharedVariable
        Moments and counters by name (``adam_m/<parameter>`` and so on), filled
        by `get_updates`: what a checkpoint saves.
    skip : scalar tensor of bool, optional
        Where it is true at an update, everything stays as it is; set by
        `Training` before `get_updates`.

    Notes
    -----
    Counterpart: ``cle.train.opt.Optimizer``; ``skip`` is ours.  The variables
    of ``state`` carry no names of their own, as in the original: `WeightNorm`
    picks updates by name and must not see moments.
    """

    def __init__(self, lr: float, lr_scalers: Mapping[str, float] | None = None) -> None:
        self.lr = sharedX(lr)
        self.lr_scalers = dict(lr_scalers or {})
        self.state: dict[str, TensorSharedVariable] = {}
        self.skip: TensorVariable | None = None
        self._kept: set[TensorVariable] = set()

    def unless_skipped(self, old: TensorSharedVariable, new: TensorVariable) -> TensorVariable:
        """Return ``new``, or ``old`` where ``skip`` is true.

        An optimizer that goes on computing with the new value of its state
        passes it through here first.  The compiled update then has one new
        value, not two, and can write it over the old one.
        """
        if self.skip is None or new in self._kept:
            return new
        kept = pt.switch(self.skip, old, new)
        self._kept.add(kept)
        return kept

    def get_updates(self, grads: Gradients) -> Updates:
        """Turn gradients into updates of parameters and state.

        Parameters
        ----------
        grads : mapping of TensorSharedVariable to tensor
            Gradient of the cost by parameter.

        Returns
        -------
        dict of TensorSharedVariable to tensor
            For each parameter first its state, then itself, in the order of
            ``grads``; then what all share.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement get_updates")

    def monitor(self) -> None:
        """Log the optimizer's settings, as part of a monitoring step."""
        logger.info(" Learning rate: %f", float(self.lr.get_value()))

    def _zeros_like(self, p: TensorSharedVariable, kind: str) -> TensorSharedVariable:
        self.state[f"{kind}/{p.name}"] = zeros = sharedX(np.zeros_like(p.get_value()))
        return zeros


class Adam(Optimizer):
    r"""Adam, in the version whose first decay rate shrinks with time.

    With i the number of updates so far and g the gradient::

        b1_t = b1 * lambd**i
        m <- b1_t * m + (1 - b1_t) * g            m_hat = m / (1 - b1**(i + 1))
        v <- b2 * v + (1 - b2) * g**2             v_hat = v / (1 - b2**(i + 1))
        p <- p - lr * m_hat / (sqrt(v_hat) + eps)

    Parameters
    ----------
    b1, b2 : float
        Decay rates of the first and the second moment.
    lambd : float
        Factor by which ``b1`` shrinks at each update.  In float32 the default
        is 1.
    eps : float
        Added to the root of the second moment.
    lr, lr_scalers
        See `Optimizer`; by keyword, as in the original.

    Notes
    -----
    Counterpart: ``cle.train.opt.Adam``.  As there, only the first moment
    decays with ``lambd`` while both bias corrections use the plain rates.
    State: ``adam_m/<parameter>``, ``adam_v/<parameter>``, ``adam_counter``.
    """

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        lambd: float = 1 - 1e-8,
        eps: float = 1e-8,
        *,
        lr: float,
        lr_scalers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(lr, lr_scalers)
        self.b1 = b1
        self.b2 = b2
        self.lambd = lambd
        self.eps = eps

    def get_updates(self, grads: Gradients) -> Updates:
        """See `Optimizer.get_updates`; the counter comes last."""
        updates: Updates = {}
        i = self.state["adam_counter"] = sharedX(0.0, "counter")
        i_t = i + 1.0
        b1 = self.b1 * self.lambd**i
        b1_t = self.b1**i_t
        b2_t = self.b2**i_t

        for p, g in grads.items():
            m = self._zeros_like(p, "adam_m")
            v = self._zeros_like(p, "adam_v")
            m_t = self.unless_skipped(m, b1 * m + (1 - b1) * g)
            v_t = self.unless_skipped(v, self.b2 * v + (1 - self.b2) * g**2)
            m_hat = m_t / (1.0 - b1_t)
            v_hat = v_t / (1.0 - b2_t)
            step = m_hat / (pt.sqrt(v_hat) + self.eps)
            updates[m] = m_t
            updates[v] = v_t
            updates[p] = p - self.lr_scalers.get(str(p), 1.0) * self.lr * step

        updates[i] = i_t
        return updates

    def monitor(self) -> None:
        """Log learning rate and decay rates."""
        super().monitor()
        logger.info(" Beta_1: %f", self.b1)
        logger.info(" Beta_2: %f", self.b2)
