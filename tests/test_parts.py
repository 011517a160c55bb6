"""The parts of the models: names, sizes and graphs, by NumPy."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.layers import InitCell, StemCell
from cle_port.layers.recurrent import LSTM
from models.parts import (
    GaussianNet,
    Init,
    Stack,
    StandardGaussian,
    flat,
    initialize,
    layer,
)
from models.settings import Settings
from models.vrnn_gauss import vrnn_gauss
from models.vrnn_gmm import vrnn_gmm
from tests.units import evaluate


@pytest.fixture(autouse=True)
def double_precision():
    with pytensor.config.change_flags(floatX="float64"):
        yield


def relu(z):
    return np.maximum(z, 0)


def softplus(z):
    return np.logaddexp(0, z)


def constants(params):
    return {name: pt.as_tensor(value) for name, value in params.items()}


def test_Init_is_the_generator_of_its_seed():
    init = Init(seed=5)
    rng = np.random.RandomState(5)
    np.testing.assert_array_equal(init.W.get((2, 3)), rng.uniform(-0.08, 0.08, (2, 3)))
    init.U.get((3, 3))
    rng.normal(0, 0.01, (3, 3))
    np.testing.assert_array_equal(init.W.get(2), rng.uniform(-0.08, 0.08, 2))
    np.testing.assert_array_equal(init.b.get(2), [0, 0])
    np.testing.assert_array_equal(init.b_sig.get(2), [0.6, 0.6])


def test_Init_without_a_seed_draws_nothing():
    """Orthogonal matrices would take minutes, and they count as parameters, too."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    init = Init(None, n_param=100)
    cells = {"init_W": init.W, "init_U": init.U, "init_b": init.b}
    net = LSTM(name="rnn", parent=["x"], parent_dim=[2], nout=4, **cells)
    assert not any(value.any() for value in initialize([net]).values())
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    large = LSTM(name="rnn", parent=["x"], parent_dim=[1], nout=40, **cells)
    with pytest.raises(ValueError, match="more parameters than it has"):
        large.initialize()


def test_only_standard_deviations_have_a_floor_and_a_bias_of_their_own():
    sig = layer("s", {"a": 2}, 3, Init(1), "softplus")
    mu = layer("m", {"a": 2}, 3, Init(1), "linear")
    assert (sig.cons, mu.cons) == (1e-4, 0)
    assert layer("h", {"a": 2}, 3, Init(1)).unit == "relu"
    np.testing.assert_array_equal(sig.initialize()["b_s"], [0.6] * 3)
    np.testing.assert_array_equal(mu.initialize()["b_m"], [0] * 3)


def test_Stack():
    stack = Stack("x", {"x_t": 2, "s_tm1": 4}, 3, 2, Init(1))
    assert [node.name for node in stack.nodes] == ["x_1", "x_2"]
    assert stack.out == {"x_2": 3}
    params = initialize(stack.nodes)
    shapes = {name: value.shape for name, value in params.items()}
    assert shapes == {
        "W_x_t__x_1": (2, 3),
        "W_s_tm1__x_1": (4, 3),
        "b_x_1": (3,),
        "W_x_1__x_2": (3, 3),
        "b_x_2": (3,),
    }
    rng = np.random.default_rng(1)
    x, s = rng.standard_normal((5, 2)), rng.standard_normal((5, 8))  # [h | c]: h is used
    below = relu(x @ params["W_x_t__x_1"] + s[:, :4] @ params["W_s_tm1__x_1"])
    inputs = [pt.as_tensor(x), pt.as_tensor(s)]
    outputs = stack.fprop_all(inputs, constants(params))
    assert list(outputs) == ["x_1", "x_2"]
    np.testing.assert_allclose(evaluate(outputs["x_1"]), below, rtol=1e-12)
    top = evaluate(stack.fprop(inputs, constants(params)))
    np.testing.assert_allclose(top, relu(below @ params["W_x_1__x_2"]), rtol=1e-12)


def test_GaussianNet():
    net = GaussianNet("phi", {"a": 2}, width=3, nout=4, depth=1, init=Init(1))
    assert [node.name for node in net.nodes] == ["phi_1", "phi_mu", "phi_sig"]
    params = initialize(net.nodes)
    x = np.random.default_rng(1).standard_normal((5, 2))
    mu, sig = evaluate(list(net.fprop([pt.as_tensor(x)], constants(params))))
    top = relu(x @ params["W_a__phi_1"])
    np.testing.assert_allclose(mu, top @ params["W_phi_1__phi_mu"], rtol=1e-12)
    expected = softplus(top @ params["W_phi_1__phi_sig"] + 0.6) + 1e-4
    np.testing.assert_allclose(sig, expected, rtol=1e-12)


def test_StandardGaussian():
    net = StandardGaussian(3)
    mu, sig = evaluate(list(net.fprop([pt.as_tensor(np.zeros((5, 2)))], {})))
    np.testing.assert_array_equal(mu, np.zeros((5, 3)))
    np.testing.assert_array_equal(sig, np.ones((5, 3)))
    assert not net.nodes


DECODERS = [
    ("blizzard", None, {"theta_mu": 3, "theta_sig": 3}),
    ("blizzard", 2, {"theta_mu": 6, "theta_sig": 6, "coeff": 2}),
    ("iamondb", None, {"theta_mu": 2, "theta_sig": 2, "corr": 1, "binary": 1}),
    ("iamondb", 2, {"theta_mu": 4, "theta_sig": 4, "coeff": 2, "corr": 2, "binary": 1}),
]
UNITS = {
    "theta_mu": "linear",
    "theta_sig": "softplus",
    "coeff": "softmax",
    "corr": "tanh",
    "binary": "sigmoid",
}


@pytest.mark.parametrize(("dataset", "num_k", "heads"), DECODERS)
def test_Decoder(dataset, num_k, heads):
    """Its heads, and that they reach the cost in the right order and shape."""
    make_net = vrnn_gauss if num_k is None else vrnn_gmm
    sizes = {"x_dim": 3, "p_x_dim": 5, "z2s_dim": 4, "rnn_dim": 4, "z_dim": 2, "depth": 1}
    decoder = make_net(Settings(dataset=dataset, num_k=num_k or 1, **sizes)).theta
    assert {node.name: node.nout for node in decoder.heads} == heads
    assert all(node.unit == UNITS[node.name] for node in decoder.heads)
    assert decoder.noise_dim == (3 if dataset == "blizzard" else 2)
    assert [node.name for node in decoder.nodes] == ["theta_1", *heads]

    T, B = 2, 4
    rng = np.random.default_rng(1)
    z, s = rng.standard_normal((2, T, B, 4))
    x = rng.standard_normal((T, B, 3))
    x[..., 0] = x[..., 0] > 0
    v = decoder.fprop([pt.as_tensor(z), pt.as_tensor(s)], constants(initialize(decoder.nodes)))
    assert list(v) == ["theta_1", *heads]
    theta = evaluate([v[name] for name in heads])
    assert [value.shape for value in theta] == [(T, B, nout) for nout in heads.values()]
    frame = [pt.as_tensor(value[1]) for value in (x, *theta)]  # time step 1 alone
    alone = evaluate(decoder.density(*frame))
    nll = evaluate(decoder.nll(pt.as_tensor(x), v))
    assert nll.shape == (T, B)
    np.testing.assert_allclose(nll[1], alone, rtol=1e-12)


def test_flat_keeps_the_order_of_time():
    v = np.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_array_equal(evaluate(flat(pt.as_tensor(v))), v.reshape(6, 2))


def test_initialize_draws_twice_and_the_second_counts():
    class Once(StemCell):
        draws = 0

        def initialize(self):
            self.draws += 1
            return {f"b_{self.name}": np.array(self.draws)}

    nodes = [Once(name="a"), StemCell(name="none", use_bias=0), Once(name="b")]
    params = initialize(nodes)
    assert {name: int(value) for name, value in params.items()} == {"b_a": 2, "b_b": 2}
    assert initialize([StemCell(name="c", nout=2, init_b=InitCell("ones"))])["b_c"].shape == (2,)
