"""Sigmoid and softplus: Theano's values and gradients, at and around its thresholds."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.graph import compile_function
from cle_port.layers import NonlinCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import LSTM
from cle_port.utils.nnet import sigmoid, softplus
from tests.recordings import read
from tests.units import FLOATS, compile_plainly

# Recorded expressions, under the recording's names.
EXPRESSIONS = {
    "sigmoid": sigmoid,
    "softplus": softplus,
    "softplus_cons": lambda x: softplus(x) + np.asarray(1e-4, x.dtype),
    "one_minus_sigmoid": lambda x: 1 - sigmoid(x),
    "log_sigmoid": lambda x: pt.log(sigmoid(x)),
    "log_one_minus_sigmoid": lambda x: pt.log(1 - sigmoid(x)),
    "bernoulli_1": lambda x: -pt.log(sigmoid(x)),
    "bernoulli_0": lambda x: -pt.log(1 - sigmoid(x)),
    "gate": lambda x: 2.5 * sigmoid(x) + (1 - sigmoid(x)) * pt.tanh(x),
}
# Numbers that are differences of others of size 1; the rest keep their digits everywhere.
DIFFERENCES = ("one_minus_sigmoid", "grad_sigmoid", "grad_one_minus_sigmoid", "gate", "grad_gate")


def recorded(floatX):
    return read(f"saturation_{floatX}_fast_run.npz")


def computed(floatX, compiler):
    """Values and gradients of all expressions, by the recording's names."""
    arrays = recorded(floatX)
    with pytensor.config.change_flags(floatX=floatX):
        x = pt.tensor("x", dtype=floatX, shape=arrays["x"].shape)
        outputs = {}
        for name, expression in EXPRESSIONS.items():
            outputs[name] = expression(x)
            outputs[f"grad_{name}"] = pytensor.grad(outputs[name].sum(), x)
        fn = compiler([x], list(outputs.values()))
        values = fn(arrays["x"])
    return arrays, dict(zip(outputs, map(np.asarray, values)))


@pytest.mark.system
@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("backend", ["jax", "c", "numba"])
def test_recorded(backend, floatX):
    if backend == "c" and not pytensor.config.cxx:
        pytest.skip("there is no C++ compiler")
    arrays, ours = computed(
        floatX, lambda inputs, outputs: compile_function(inputs, outputs, None, backend)
    )
    finfo = np.finfo(floatX)
    for name, value in ours.items():
        theirs = arrays[name]
        assert value.dtype == theirs.dtype == floatX
        # Exponentials and logarithms of two libraries: a few units in the last place.  XLA
        # makes subnormal numbers 0.
        atol = 8 * finfo.eps if name in DIFFERENCES else finfo.tiny
        np.testing.assert_allclose(value, theirs, rtol=8 * finfo.eps, atol=atol, err_msg=name)
    assert set(arrays) - set(ours) - {"x"} == {
        *("tanh", "grad_tanh", "exp", "grad_exp", "log_softplus", "grad_log_softplus")
    }


@pytest.mark.parametrize(("floatX", "one", "identity"), [("float64", 19, 16), ("float32", 15, 14)])
def test_thresholds(floatX, one, identity):
    """Exactly 1, 0 and x beyond them; a gradient of exactly 0, and one that goes on."""
    above = np.nextafter(np.array([one, identity], floatX), np.inf).astype(floatX)
    below = np.array([one, identity], floatX)
    with pytensor.config.change_flags(floatX=floatX):
        x = pt.vector("x")
        s, p = sigmoid(x), softplus(x)
        grads = [pytensor.grad(y.sum(), x) for y in (s, p)]
        fn = compile_plainly([x], [s, p, *grads])
    (s_above, _), (_, p_above), (ds_above, _), (_, dp_above) = fn(above)
    assert (s_above, ds_above) == (1, 0)
    assert p_above == above[1]
    assert dp_above < 1
    (s_below, _), (_, p_below), (ds_below, _), _ = fn(below)
    assert s_below < 1
    assert ds_below > 0
    assert p_below > below[1]
    assert fn(np.full(2, -1000, floatX))[0].tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_other_numbers_are_cast(dtype):
    with pytensor.config.change_flags(floatX="float32"):
        y = sigmoid(pt.constant(np.array([0, 1], dtype)))
    assert y.dtype == "float32"
    np.testing.assert_allclose(y.eval(mode="FAST_COMPILE"), [0.5, 1 / (1 + np.exp(-1))], rtol=1e-6)


def lstm(x):
    layer = LSTM(name="r", parent="a", parent_dim=1, nout=1, unit="tanh")
    tparams = {"W_a__r": pt.ones((1, 4)), "U_r__r": pt.zeros((1, 4)), "b_r": pt.zeros(4)}
    return layer, lambda: layer.fprop([[x], [pt.ones((2, 2))]], tparams)


def unit(name, x):
    layer = FullyConnectedLayer(name="h", parent="a", parent_dim=1, nout=1, unit=name)
    tparams = {"W_a__h": pt.ones((1, 1)), "b_h": pt.zeros(1)}
    return layer, lambda: layer.fprop([x], tparams)


@pytest.mark.parametrize("which", ["sigmoid", "softplus", "gates"])
def test_plain_functions_are_a_choice(which):
    """`NonlinCell.saturate` of a layer, or of all."""
    x = pt.constant(np.array([[17.0], [20.0]]))
    with pytensor.config.change_flags(floatX="float64"):
        layer, build = lstm(x) if which == "gates" else unit(which, x)
        assert layer.saturate is NonlinCell.saturate is True
        cut = build().eval(mode="FAST_COMPILE")
        layer.saturate = False
        plain = build().eval(mode="FAST_COMPILE")
    exact = {"sigmoid": 1 / (1 + np.exp(-20)), "softplus": np.log1p(np.exp(17))}
    if which == "sigmoid":
        assert cut[1] == 1
        assert plain[1] == exact["sigmoid"]
    elif which == "softplus":
        assert cut[0] == 17
        np.testing.assert_allclose(plain[0], exact["softplus"], rtol=1e-15)
    else:
        c = cut[1, 1]  # c_t = 1 * 1 + 1 * tanh(20)
        assert c == 2
        assert plain[1, 1] != c
