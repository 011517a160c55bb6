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
        x_terms, h_terms = self._products(XH, tparams)
        return reduce(add, x_terms + h_terms) + tparams[f"b_{self.name}"]

    def _products(
        self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable], start: int = 0
    ) -> tuple[list[TensorVariable], list[TensorVariable]]:
        """Return x W of each parent, and h U of each recurrence from column ``start`` on."""
        X, H = XH
        self._check_count("parent", X, self.parent)
        self._check_count("recurrent", H, self.recurrent)
        x_terms = [
            self._input_product(x, parout, tparams[f"W_{parname}__{self.name}"])
            for x, (parname, parout) in zip(X, self.parent.items())
        ]
        h_terms = []
        for h, (recname, recout) in zip(H, self.recurrent.items()):
            U = tparams[f"U_{recname}__{self.name}"]
            h_terms.append(pt.dot(first_columns(h, recout), U[:, start:] if start else U))
        return x_terms, h_terms

    def _input_product(self, x: TensorVariable, parout: int, W: TensorVariable) -> TensorVariable:
        """Return x W, or the rows W[x] for indices."""
        if x.ndim == 1:
            return W[x if "int" in x.dtype else pt.cast(x, "int64")]
        return pt.dot(first_columns(x, parout), W)

    def _gated_feedback(
        self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable], n_block: int
    ) -> tuple[TensorVariable, TensorVariable, list[TensorVariable]]:
        """Return the parts of z, whose last columns gate what its first block takes of each h.

        Returns
        -------
        x_part : tensor of shape (batch, nout)
            x W + b of the first block.
        h_part : tensor of shape (batch, nout)
            Sum over recurrences j of (g^j h^j) U^j, for the first block.
        gates : list of tensors of shape (batch, nout)
            Sigmoids of the other blocks.
        """
        N = self.nout
        b = tparams[f"b_{self.name}"]
        x_terms, h_terms = self._products(XH, tparams, N)
        xW = reduce(add, x_terms)
        on = self.sigmoid(reduce(add, [xW[:, N:], *h_terms]) + b[N:])
        gates = [on[:, i * N : (i + 1) * N] for i in range(n_block - 1)]
        gated = [
            pt.dot(
                first_columns(h, recout) * on[:, (n_block - 1) * N + j][:, None],
                tparams[f"U_{recname}__{self.name}"][:, :N],
            )
            for j, (h, (recname, recout)) in enumerate(zip(XH[1], self.recurrent.items()))
        ]
        return xW[:, :N] + b[:N], reduce(add, gated), gates

    def _initialize_blocks(self, n_block: int, n_gate: int = 0) -> dict[str, NDArray]:
        """Draw parameters of ``n_block`` blocks of nout columns and ``n_gate`` more columns."""
        N = self.nout
        n_column = n_block * N + n_gate
        params = {
            f"W_{parname}__{self.name}": self.init_W.get((parout, n_column))
            for parname, parout in self.parent.items()
        }
        for recname, recout in self.recurrent.items():
            blocks = [self.init_U.ortho((recout, N)) for _ in range(n_block)]
            if n_gate:
                blocks.append(self.init_U.rand((recout, n_gate)))
            params[f"U_{recname}__{self.name}"] = np.concatenate(blocks, axis=-1)
        params[f"b_{self.name}"] = self.init_b.get(n_column)
        return params


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
        gates = [z[:, N : 2 * N], z[:, 2 * N : 3 * N], z[:, 3 * N :]]
        return self._next_state(XH[1][0], z[:, :N], [self.sigmoid(gate) for gate in gates])

    def _next_state(
        self, s_tm1: TensorVariable, z_c: TensorVariable, on: Sequence[TensorVariable]
    ) -> TensorVariable:
        """Return [h | c] from the state before, the cell's input and the gates i, f, o."""
        i_t, f_t, o_t = on
        c_t = f_t * s_tm1[:, self.nout :] + i_t * self.nonlin(z_c)
        h_t = o_t * self.nonlin(c_t)

        s_t = pt.concatenate([h_t, c_t], axis=1)
        s_t.name = self.name
        return s_t

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        return self._initialize_blocks(4)


class GFLSTM(LSTM):
    """Gated feedback LSTM: a gate for each recurrence scales what the cell takes of it.

    z has the four blocks of an `LSTM`, and one more column for each recurrence h^j.
    The sigmoid of that column scales h^j in the first block::

        g^j_t = sigmoid(z_g^j)
        z_c = x_t W_c + b_c + sum_j (g^j_t h^j_{t-1}) U^j_c

    Parameters
    ----------
    **kwargs
        See `LSTM`.

    Notes
    -----
    Counterpart: ``cle.layers.recurrent.GFLSTM``.

    Parameters are those of an `LSTM` with 4 nout + M columns, for M recurrences.
    The last M columns of U are uniform (``init_U.rand``) for any ``init_U``.
    """

    def fprop(self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable]) -> TensorVariable:
        """Build one step; see `LSTM.fprop`."""
        x_part, h_part, on = self._gated_feedback(XH, tparams, 4)
        return self._next_state(XH[1][0], x_part + h_part, on)

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        return self._initialize_blocks(4, len(self.recurrent))


class GRU(RecurrentLayer):
    """Gated recurrent unit, whose reset gate scales the recurrent product.

    z has three blocks of ``nout`` columns (candidate, reset, update)::

        r_t = sigmoid(x_t W_r + h_{t-1} U_r + b_r)
        u_t = sigmoid(x_t W_u + h_{t-1} U_u + b_u)
        n_t = tanh(x_t W_n + b_n + r_t * (h_{t-1} U_n))
        h_t = u_t * h_{t-1} + (1 - u_t) * n_t

    The sigmoids saturate as Theano's do (`cle_port.layers.NonlinCell.saturate`).

    Parameters
    ----------
    x_as_index : int or bool
        Whether a one-dimensional input holds indices of rows of W.  If not, it
        holds one number for each example.
    **kwargs
        See `RecurrentLayer`; ``unit`` is without effect.

    Notes
    -----
    Counterpart: ``cle.layers.recurrent.GRU``.

    `initialize` makes these parameters, in this order: ``W_<parent>__<name>`` of
    shape (parent_dim, 3 nout) for each parent; ``U_<recurrent>__<name>`` of shape
    (recurrent_dim, 3 nout) for each recurrence, made of three orthogonal blocks
    for any ``init_U``; ``b_<name>`` of shape (3 nout,).
    """

    def fprop(self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable]) -> TensorVariable:
        """Build one step; see `RecurrentLayer.preactivation` for the arguments.

        The first recurrence is the layer's own state.

        Returns
        -------
        tensor of shape (batch, nout)
            The new state h_t.

        Raises
        ------
        ValueError
            If the number of inputs or states is wrong, or a one-dimensional input,
            which is no index, comes from a parent of more than one column.
        """
        N = self.nout
        b = tparams[f"b_{self.name}"]
        x_terms, h_terms = self._products(XH, tparams)
        xW, hU = reduce(add, x_terms), reduce(add, h_terms)
        on = self.sigmoid(xW[:, N:] + hU[:, N:] + b[N:])
        r_t, u_t = on[:, :N], on[:, N:]
        return self._next_state(XH[1][0], xW[:, :N] + b[:N] + r_t * hU[:, :N], u_t)

    def _input_product(self, x: TensorVariable, parout: int, W: TensorVariable) -> TensorVariable:
        """Return x W; one-dimensional x holds numbers, or indices if ``x_as_index`` says so."""
        if x.ndim > 1 or self.x_as_index:
            return super()._input_product(x, parout, W)
        if parout not in (1, None):
            raise ValueError(
                f"layer {self.name!r} got one number for each example, from a parent of {parout} "
                "columns; give a matrix, or x_as_index=1 if they are indices"
            )
        return x[:, None] * W.flatten()[None, :]

    def _next_state(
        self, h_tm1: TensorVariable, z_n: TensorVariable, u_t: TensorVariable
    ) -> TensorVariable:
        """Return h_t from the state before, the candidate's input and the update gate."""
        h_t = u_t * h_tm1 + (1.0 - u_t) * pt.tanh(z_n)
        h_t.name = self.name
        return h_t

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        return self._initialize_blocks(3)


class GRU2(GRU):
    """Gated recurrent unit, whose reset gate scales the state before its product.

    As a `GRU`, but with the candidate of the GRU's authors::

        n_t = tanh(x_t W_n + b_n + (r_t * h_{t-1}) U_n)

    Every recurrence must have ``nout`` columns, because r_t scales it.  One-dimensional
    inputs are always indices.

    Notes
    -----
    Counterpart: ``cle.layers.recurrent.GRU2``.
    """

    _input_product = RecurrentLayer._input_product

    def fprop(self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable]) -> TensorVariable:
        """Build one step; see `GRU.fprop`.

        Raises
        ------
        ValueError
            If the number of inputs or states, or the size of a recurrence, is wrong.
        """
        N = self.nout
        self._check_sizes()
        b = tparams[f"b_{self.name}"]
        x_terms, h_terms = self._products(XH, tparams, N)
        xW = reduce(add, x_terms)
        on = self.sigmoid(reduce(add, [xW[:, N:], *h_terms]) + b[N:])
        r_t, u_t = on[:, :N], on[:, N:]
        reset = [
            pt.dot(r_t * first_columns(h, recout), tparams[f"U_{recname}__{self.name}"][:, :N])
            for h, (recname, recout) in zip(XH[1], self.recurrent.items())
        ]
        return self._next_state(XH[1][0], xW[:, :N] + b[:N] + reduce(add, reset), u_t)

    def _check_sizes(self) -> None:
        for recname, recout in self.recurrent.items():
            if recout not in (self.nout, None):
                raise ValueError(
                    f"layer {self.name!r} scales each state with its {self.nout} reset gates, but "
                    f"{recname!r} has {recout} columns; make both sizes equal, or take a GRU"
                )


class GFGRU(GRU):
    """Gated feedback GRU: a gate for each recurrence scales what the candidate takes of it.

    z has the three blocks of a `GRU`, and one more column for each recurrence h^j.
    The sigmoid of that column scales h^j in the first block::

        g^j_t = sigmoid(z_g^j)
        n_t = tanh(x_t W_n + b_n + r_t * sum_j (g^j_t h^j_{t-1}) U^j_n)

    One-dimensional inputs are always indices.

    Notes
    -----
    Counterpart: ``cle.layers.recurrent.GFGRU``.

    Parameters are those of a `GRU` with 3 nout + M columns, for M recurrences.
    The last M columns of U are uniform (``init_U.rand``) for any ``init_U``.
    """

    _input_product = RecurrentLayer._input_product

    def fprop(self, XH: InputsAndStates, tparams: Mapping[str, TensorVariable]) -> TensorVariable:
        """Build one step; see `GRU.fprop`."""
        x_part, h_part, (r_t, u_t) = self._gated_feedback(XH, tparams, 3)
        return self._next_state(XH[1][0], x_part + r_t * h_part, u_t)

    def initialize(self) -> dict[str, NDArray]:
        """Draw initial values of all parameters, float64, in the original's order."""
        return self._initialize_blocks(3, len(self.recurrent))
