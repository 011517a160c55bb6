r"""Sigmoid and softplus as in Theano 0.7, which saturate.

Theano's compiled code cuts both functions off at thresholds that depend on the precision::

    sigmoid(x)  = 0 below the range,  1 above it,  1 / (1 + exp(-x)) within
    softplus(x) = 0 below the range,  x above it,  log(1 + exp(x))   within

=========  ================  ================
dtype      sigmoid           softplus
=========  ================  ================
float64    -709 to 19        -745 to 16
float32    -88 to 15         -103 to 14
=========  ================  ================

The steps at the thresholds are larger than rounding errors: 5.6e-9 for the sigmoid in float64,
1.1e-7 for the softplus.  The gradients use the cut functions, so a saturated gate has no gradient::

    sigmoid'(x) = sigmoid(x) (1 - sigmoid(x))      softplus'(x) = sigmoid(x)

All units, gates and heads of the original use these two functions.  PyTensor has the plain
functions, ``pytensor.tensor.sigmoid`` and ``softplus``.

Counterpart: ``theano.tensor.nnet.sigmoid`` and ``softplus`` (``theano/tensor/nnet/sigm.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytensor
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.rewriting.basic import PatternNodeRewriter
from pytensor.scalar.basic import Composite
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.rewriting.basic import register_stabilize
from pytensor.tensor.variable import TensorVariable


class ScalarSigmoid(Composite):
    """Theano's sigmoid of one number.

    It is a `Composite` of plain operations, which every backend can compile, with its
    own gradient.
    """

    # (lowest, highest): the value is 0 below and 1 above.
    RANGE: ClassVar = {"float64": (-709.0, 19.0), "float32": (-88.0, 15.0)}

    def impl(self, x: Any) -> Any:
        """Compute one number in Python."""
        dtype = self.inputs_type[0].dtype
        low, high = self.RANGE[dtype]
        x, one = np.asarray(x, dtype)[()], np.asarray(1, dtype)[()]
        return one - one if x < low else one if x > high else one / (one + np.exp(-x))

    def pullback(self, inputs: Any, outputs: Any, output_grads: Any) -> list[Any]:
        """Return the gradient by x: y (1 - y)."""
        y: Any = self(*inputs)
        return [output_grads[0] * y * (1.0 - y)]


class ScalarSoftplus(Composite):
    """Theano's softplus of one number; see `ScalarSigmoid`."""

    # (lowest, highest): the value is 0 below and x above.
    RANGE: ClassVar = {"float64": (-745.0, 16.0), "float32": (-103.0, 14.0)}

    def impl(self, x: Any) -> Any:
        """Compute one number in Python."""
        dtype = self.inputs_type[0].dtype
        low, high = self.RANGE[dtype]
        x = np.asarray(x, dtype)[()]
        return x - x if x < low else x if x > high else np.log1p(np.exp(x))

    def pullback(self, inputs: Any, outputs: Any, output_grads: Any) -> list[Any]:
        """Return the gradient by x: the sigmoid, which has other thresholds."""
        return [output_grads[0] * SIGMOID[inputs[0].dtype].scalar_op(*inputs)]


def _elementwise(kind: type[Composite], formula: Callable[..., Any]) -> dict[str, Elemwise]:
    """Make the operation for both dtypes from ``formula(x, lowest, highest)``."""
    ops = {}
    for dtype, (low, high) in kind.RANGE.items():  # type: ignore[attr-defined]
        x = ps.get_scalar_type(dtype)("x")
        y = formula(x, *(ps.constant(np.asarray(bound, dtype)) for bound in (low, high)))
        ops[dtype] = Elemwise(kind([x], [y]), name=kind.__name__)
    return ops


def _number(value: float, x: Any) -> Any:
    return ps.constant(np.asarray(value, x.dtype))


SIGMOID = _elementwise(
    ScalarSigmoid,
    lambda x, low, high: ps.switch(
        ps.gt(x, high),
        _number(1, x),
        ps.switch(
            ps.lt(x, low),
            _number(0, x),
            ps.true_div(_number(1, x), _number(1, x) + ps.exp(-x)),
        ),
    ),
)
SOFTPLUS = _elementwise(
    ScalarSoftplus,
    lambda x, low, high: ps.switch(
        ps.gt(x, high), x, ps.switch(ps.lt(x, low), _number(0, x), ps.log1p(ps.exp(x)))
    ),
)


def sigmoid(x: Any) -> TensorVariable:
    """Return 1 / (1 + exp(-x)), exactly 0 or 1 outside of Theano's thresholds.

    Parameters
    ----------
    x : tensor
        Tensor of dtype float32 or float64; other dtypes are cast to ``floatX``.

    Returns
    -------
    tensor of the same shape and dtype

    Notes
    -----
    Counterpart: ``theano.tensor.nnet.sigmoid``.
    """
    return _apply(SIGMOID, x)


def softplus(x: Any) -> TensorVariable:
    """Return log(1 + exp(x)), exactly 0 or x outside of Theano's thresholds.

    Parameters
    ----------
    x : tensor
        Tensor of dtype float32 or float64; other dtypes are cast to ``floatX``.

    Returns
    -------
    tensor of the same shape and dtype

    Notes
    -----
    Counterpart: ``theano.tensor.nnet.softplus``.
    """
    return _apply(SOFTPLUS, x)


def _apply(ops: dict[str, Elemwise], x: Any) -> Any:
    x = pt.as_tensor(x)
    if x.dtype not in ops:
        x = pt.cast(x, pytensor.config.floatX)
    return ops[x.dtype](x)


# Theano's default optimizer, fast_run, replaces logarithms of a sigmoid by a softplus.  Without
# these rewritings log(1 - sigmoid(x)) is -inf above the threshold.
for _dtype, _sigmoid in SIGMOID.items():
    _softplus = SOFTPLUS[_dtype]
    _log_1m = (pt.neg, (_softplus, "x"))
    for _name, _pattern, _replacement in (
        ("log_sigmoid", (pt.log, (_sigmoid, "x")), (pt.neg, (_softplus, (pt.neg, "x")))),
        ("log_1m_sigmoid", (pt.log, (pt.sub, 1, (_sigmoid, "x"))), _log_1m),
        ("log1p_neg_sigmoid", (pt.log1p, (pt.neg, (_sigmoid, "x"))), _log_1m),
    ):
        register_stabilize(
            PatternNodeRewriter(
                _pattern,
                _replacement,
                allow_multiple_clients=True,
                name=f"cle_port_{_name}_{_dtype}",
            ),
            name=f"cle_port_{_name}_{_dtype}",
        )
