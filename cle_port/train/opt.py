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
        Velocities, moments and counters by name (``adam_m/<parameter>`` and so
        on), filled by `get_updates`: what a checkpoint saves.
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

    def _lr_scaler(self, p: TensorSharedVariable) -> float:
        return self.lr_scalers.get(str(p), 1.0)

    def _zeros_like(self, p: TensorSharedVariable, kind: str) -> TensorSharedVariable:
        self.state[f"{kind}/{p.name}"] = zeros = sharedX(np.zeros_like(p.get_value()))
        return zeros


class Momentum(Optimizer):
    """Gradient descent with momentum, plain or Nesterov's.

    With g the gradient and u the velocity::

        u <- mom * u - lr * g
        u <- mom * u - lr_scaler * lr * g         (with ``nesterov``, after the first line)
        p <- p + u

    Parameters
    ----------
    mom : float
        Share of the velocity that is kept.
    nesterov : bool
        Use Nesterov's momentum.
    lr, lr_scalers
        See `Optimizer`; by keyword, as in the original.

    Notes
    -----
    Counterpart: ``cle.train.opt.Momentum``.  As there, ``lr_scalers`` act only on
    the second line, so they have no effect without ``nesterov``; with it, the
    velocity that is kept is that of the second line.
    State: ``momentum_u/<parameter>``.
    """

    def __init__(
        self,
        mom: float = 0.9,
        nesterov: bool = False,
        *,
        lr: float,
        lr_scalers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(lr, lr_scalers)
        self.mom = mom
        self.nesterov = nesterov

    def get_updates(self, grads: Gradients) -> Updates:
        """See `Optimizer.get_updates`."""
        updates: Updates = {}
        for p, g in grads.items():
            u = self._zeros_like(p, "momentum_u")
            u_t = self.mom * u - self.lr * g
            if self.nesterov:
                u_t = self.mom * u_t - self._lr_scaler(p) * self.lr * g
            u_t = self.unless_skipped(u, u_t)
            updates[u] = u_t
            updates[p] = p + u_t
        return updates

    def monitor(self) -> None:
        """Log learning rate and momentum."""
        super().monitor()
        logger.info(" Momentum: %f", self.mom)


class RMSProp(Optimizer):
    """RMSProp with momentum, on gradients divided by their standard deviation.

    With g the gradient, a its running mean and s that of its square::

        a <- sec_mom * a + (1 - sec_mom) * g
        s <- sec_mom * s + (1 - sec_mom) * g**2
        u <- mom * u - lr * g / sqrt(s - a**2 + e)
        p <- p + u

    Parameters
    ----------
    mom : float
        Share of the velocity u that is kept.
    sec_mom : float
        Decay rate of both running means.
    e : float
        Added to the variance.
    lr, lr_scalers
        See `Optimizer`; by keyword, as in the original.

    Notes
    -----
    Counterpart: ``cle.train.opt.RMSProp``, the version of A. Graves, "Generating
    sequences with recurrent neural networks", 2013.
    State: ``rmsprop_avg/<parameter>``, ``rmsprop_sqr/<parameter>``,
    ``rmsprop_u/<parameter>``.
    """

    def __init__(
        self,
        mom: float = 0.9,
        sec_mom: float = 0.95,
        e: float = 1e-4,
        *,
        lr: float,
        lr_scalers: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(lr, lr_scalers)
        self.mom = mom
        self.sec_mom = sec_mom
        self.e = e

    def get_updates(self, grads: Gradients) -> Updates:
        """See `Optimizer.get_updates`."""
        updates: Updates = {}
        kept, new = self.sec_mom, 1 - self.sec_mom
        for p, g in grads.items():
            avg = self._zeros_like(p, "rmsprop_avg")
            sqr = self._zeros_like(p, "rmsprop_sqr")
            u = self._zeros_like(p, "rmsprop_u")
            avg_t = self.unless_skipped(avg, kept * avg + new * g)
            sqr_t = self.unless_skipped(sqr, kept * sqr + new * g**2)
            step = g / pt.sqrt(sqr_t - avg_t**2 + self.e)
            u_t = self.unless_skipped(u, self.mom * u - self._lr_scaler(p) * self.lr * step)
            updates[avg] = avg_t
            updates[sqr] = sqr_t
            updates[u] = u_t
            updates[p] = p + u_t
        return updates

    def monitor(self) -> None:
        """Log learning rate, momentum and decay rate."""
        super().monitor()
        logger.info(" Momentum: %f", self.mom)
        logger.info(" Second Momentum: %f", self.sec_mom)


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
            updates[p] = p - self._lr_scaler(p) * self.lr * step

        updates[i] = i_t
        return updates

    def monitor(self) -> None:
        """Log learning rate and decay rates."""
        super().monitor()
        logger.info(" Beta_1: %f", self.b1)
        logger.info(" Beta_2: %f", self.b2)


class Adam2(Adam):
    """Adam with constant decay rates; the learning rate corrects the bias.

    With i the number of updates so far and g the gradient::

        m <- b1 * m + (1 - b1) * g
        v <- b2 * v + (1 - b2) * g**2
        lr_t = lr * sqrt(1 - b2**(i + 1)) / (1 - b1**(i + 1))
        p <- p - lr_t * m / (sqrt(v) + eps)

    Parameters
    ----------
    b1, b2, lambd, eps, lr, lr_scalers
        See `Adam`; ``lambd`` has no effect.

    Notes
    -----
    Counterpart: ``cle.train.opt.Adam2``.  As there, ``eps`` is added before the
    correction of the bias, so it weighs more in the first updates than in `Adam`.
    State: ``adam2_m/<parameter>``, ``adam2_v/<parameter>``, ``adam2_counter``.
    """

    def get_updates(self, grads: Gradients) -> Updates:
        """See `Optimizer.get_updates`; the counter comes last."""
        updates: Updates = {}
        i = self.state["adam2_counter"] = sharedX(0.0, "counter")
        i_t = i + 1.0
        lr_t = self.lr * pt.sqrt(1.0 - self.b2**i_t) / (1 - self.b1**i_t)

        for p, g in grads.items():
            m = self._zeros_like(p, "adam2_m")
            v = self._zeros_like(p, "adam2_v")
            m_t = self.unless_skipped(m, self.b1 * m + (1 - self.b1) * g)
            v_t = self.unless_skipped(v, self.b2 * v + (1 - self.b2) * g**2)
            step = m_t / (pt.sqrt(v_t) + self.eps)
            updates[m] = m_t
            updates[v] = v_t
            updates[p] = p - self._lr_scaler(p) * lr_t * step

        updates[i] = i_t
        return updates
