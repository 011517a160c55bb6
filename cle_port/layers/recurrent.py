"""Recurrent layers.

Counterpart: ``cle/layers/recurrent.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.layers import InitCell, StemCell, first_columns, sizes_by_name
from cle_port.utils import tolist

# [inputs of this time step, states of the previous step]
InputsAndStates = Sequence[Sequence[TensorVariable]]


class RecurrentLayer(StemCell):
    """Base of recurrent layers: recurrences with their sizes, an initial state.

    Parameters
    ----------
    recurrent : str or list of str
        Names of other layers whose previous states are inputs of this layer.
    recurrent_dim : int or list of int
        Their sizes.
    self_recurrent : int or bool
        Whether the layer's own state is the first recurrence.
    init_U : InitCell
        Initial values of the recurrent weights.
    **kwargs
        See `cle_port.layers.StemCell`.

    Notes
    -----
    Counterpart: ``cle.layers.recurrent.RecurrentLayer``.

    `initialize` makes the parameters of `StemCell`, then
    ``U_<recurrent>__<name>`` of shape (recurrent_dim, nout) for each recurrence.
    """

    def __init__(
        self,
        recurrent: str | Sequence[str] = (),
        recurrent_dim: int | Sequence[int] = (),
        self_recurrent: int | bool = 1,
        init_U: InitCell | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        own = {self.name: self.nout} if self_recurrent else {}
        others = sizes_by_name(self.name, "recurrent", tolist(recurrent), tolist(recurrent_dim))
        self.recurrent: dict[str, Any] = own | others
        self.init_U = InitCell("ortho") if init_U is None else init_U

    @property
    def state_dim(self) -> int:
        """Size of the state's last axis."""
        return self.nout

    def get_init_state(self, batch_size: int) -> TensorVariable:
        """Return a state of zeros, shape (batch_size, state_dim), dtype floatX."""
        return pt.zeros((batch_size, self.state_dim), dtype=pytensor.config.floatX)

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        params = super().initialize()
        for recname, recout in self.recurrent.items():
            params[f"U_{recname}__{self.name}"] = self.init_U.get((recout, self.nout))
        return params

    def preactivation(
        self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable]
    ) -> TensorVariable:
        """Return the sum of all x W, all h U and the bias: the input of unit and gates.

        Parameters
        ----------
        XH : [list of tensors, list of tensors]
            Inputs of this step, one for each parent, and states of the previous
            step, one for each recurrence.  Shapes (batch, dim); a vector of shape
            (batch,) holds indices of rows of W.  The layer uses the first columns
            of wider tensors: h of an LSTM's state [h | c].
        tparams : mapping of str to tensor
            Parameters by name.

        Returns
        -------
        tensor of shape (batch, columns of W)

        Raises
        ------
        ValueError
            If the number of inputs or states is wrong.
        """
        X, H = XH
        self._check_count("parent", X, self.parent)
        self._check_count("recurrent", H, self.recurrent)
        terms = []
        for x, (parname, parout) in zip(X, self.parent.items()):
            W = tparams[f"W_{parname}__{self.name}"]
            if x.ndim == 1:
                terms.append(W[x if "int" in x.dtype else pt.cast(x, "int64")])
            else:
                terms.append(pt.dot(first_columns(x, parout), W))
        for h, (recname, recout) in zip(H, self.recurrent.items()):
            terms.append(pt.dot(first_columns(h, recout), tparams[f"U_{recname}__{self.name}"]))
        return reduce(add, terms) + tparams[f"b_{self.name}"]


class SimpleRecurrent(RecurrentLayer):
    """h_t = unit(x_t W + h_{t-1} U + b).

    Counterpart: ``cle.layers.recurrent.SimpleRecurrent``.
    """

    def fprop(self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable]) -> TensorVariable:
        """Build one step; see `RecurrentLayer.preactivation` for the arguments.

        Returns
        -------
        tensor of shape (batch, nout)
        """
        z = self.nonlin(self.preactivation(XH, tparams))
        z.name = self.name
        return z


class LSTM(RecurrentLayer):
    """Long short-term memory, without peepholes.

    z = x_t W + h_{t-1} U + b has four blocks of ``nout`` columns (cell, input,
    forget, output)::

        i_t = sigmoid(z_i)      f_t = sigmoid(z_f)      o_t = sigmoid(z_o)
        c_t = f_t * c_{t-1} + i_t * unit(z_c)
        h_t = o_t * unit(c_t)

    The state is [h | c] with 2 nout columns.  The sigmoids saturate as Theano's do
    (`cle_port.layers.NonlinCell.saturate`).

    Parameters
    ----------
    **kwargs
        See `RecurrentLayer`; ``unit`` is usually 'tanh'.

    Notes
    -----
    Counterpart: ``cle.layers.recurrent.LSTM``.

    `initialize` makes these parameters, in this order: ``W_<parent>__<name>`` of
    shape (parent_dim, 4 nout) for each parent; ``U_<recurrent>__<name>`` of shape
    (recurrent_dim, 4 nout) for each recurrence, made of four orthogonal blocks for
    any ``init_U``; ``b_<name>`` of shape (4 nout,), without a larger initial value
    for the forget gate.
    """

    @property
    def state_dim(self) -> int:
        """Size of the last axis of the state [h | c]."""
        return 2 * self.nout

    def fprop(self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable]) -> TensorVariable:
        """Build one step; see `RecurrentLayer.preactivation` for the arguments.

        The first recurrence is the layer's own state [h | c].

        Returns
        -------
        tensor of shape (batch, 2 nout)
            The new state [h | c].
        """
        N = self.nout
        z = self.preactivation(XH, tparams)
        c_tm1 = XH[1][0][:, N:]

        i_t = self.sigmoid(z[:, N : 2 * N])
        f_t = self.sigmoid(z[:, 2 * N : 3 * N])
        o_t = self.sigmoid(z[:, 3 * N :])

        c_t = f_t * c_tm1 + i_t * self.nonlin(z[:, :N])
        h_t = o_t * self.nonlin(c_t)

        s_t = pt.concatenate([h_t, c_t], axis=1)
        s_t.name = self.name
        return s_t

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        N = self.nout
        params = {
            f"W_{parname}__{self.name}": self.init_W.get((parout, 4 * N))
            for parname, parout in self.parent.items()
        }
        for recname, recout in self.recurrent.items():
            blocks = [self.init_U.ortho((recout, N)) for _ in range(4)]
            params[f"U_{recname}__{self.name}"] = np.concatenate(blocks, axis=-1)
        params[f"b_{self.name}"] = self.init_b.get(4 * N)
        return params
