"""The parts of the models: names, sizes and graphs, by NumPy."""

from types import SimpleNamespace

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.backend import compile_function
from cle_port.layers import InitCell, StemCell
from models.parts import (
    Decoder,
    GaussianNet,
    Init,
    Stack,
    StandardGaussian,
    average,
    coeff_stats,
    flat,
    initialize,
    layer,
    named,
    stats,
)
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
    args = SimpleNamespace(dataset=dataset, x_dim=3, p_x_dim=5, depth=1)
    decoder = Decoder(args, {"z_1": 4}, Init(1), num_k)
    assert {node.name: node.nout for node in decoder.heads} == heads
    assert all(node.unit == UNITS[node.name] for node in decoder.heads)
    assert [node.name for node in decoder.nodes] == ["theta_1", *heads]

    T, B = 2, 4
    rng = np.random.default_rng(1)
    z, x = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, 3))
    x[..., 0] = x[..., 0] > 0
    v = decoder.fprop([pt.as_tensor(z)], constants(initialize(decoder.nodes)))
    assert list(v) == ["theta_1", *heads]
    theta = evaluate([v[name] for name in heads])
    assert [value.shape for value in theta] == [(T, B, nout) for nout in heads.values()]
    frame = [pt.as_tensor(value[1]) for value in (x, *theta)]  # time step 1 alone
    alone = evaluate(decoder.cost(*frame))
    nll = evaluate(decoder.nll(pt.as_tensor(x), v))
    assert nll.shape == (T, B)
    np.testing.assert_allclose(nll[1], alone, rtol=1e-12)


def test_average():
    frames = np.arange(6.0).reshape(3, 2)
    mask = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert evaluate(average(pt.as_tensor(frames), None)) == 2.5
    assert evaluate(average(pt.as_tensor(frames), pt.as_tensor(mask))) == (0 + 2 + 4 + 1) / 2


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


V = np.random.default_rng(1).standard_normal((4, 3, 2))
MASK = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=float)  # the last is unused


def values_of(channels):
    return {channel.name: evaluate(channel) for channel in channels}


def test_stats():
    ours = values_of(stats("sig", pt.as_tensor(V)))
    assert list(ours) == ["max_sig", "mean_sig", "min_sig"]
    np.testing.assert_allclose(list(ours.values()), [V.max(), V.mean(), V.min()], rtol=1e-12)


@pytest.mark.parametrize("filling", [-100.0, 100.0])
def test_stats_leave_out_frames_that_no_sequence_reaches(filling):
    padded = V.copy()
    padded[3] = filling
    ours = values_of(stats("sig", pt.as_tensor(padded), pt.as_tensor(MASK)))
    used = V[:3]
    np.testing.assert_allclose(
        list(ours.values()), [used.max(), used.mean(), used.min()], rtol=1e-12
    )


@pytest.mark.parametrize("mask", [None, MASK])
def test_coeff_stats(mask):
    used = V if mask is None else V[:3]
    ours = values_of(coeff_stats(pt.as_tensor(V), None if mask is None else pt.as_tensor(mask)))
    mean = used.mean(axis=(0, 1))
    expected = {
        "coeff_max": used.max(),
        "coeff_min": used.min(),
        "coeff_mean_max": mean.max(),
        "coeff_mean_min": mean.min(),
    }
    assert list(ours) == list(expected)
    np.testing.assert_allclose(list(ours.values()), list(expected.values()), rtol=1e-12)


def test_named():
    x = pt.dscalar()
    assert named(x, "cost") is x
    assert x.name == "cost"


@pytest.mark.parametrize("backend", ["jax", "c", "numba"])
@pytest.mark.parametrize("batch_size", [3, 5, 7])
def test_a_mean_divides_by_one_length_after_the_other(backend, batch_size):
    """Each division rounds: x on IAM-OnDB is single in a program of double precision."""
    if backend == "c" and not pytensor.config.cxx:
        pytest.skip("there is no C++ compiler")
    rng = np.random.default_rng(batch_size)
    with pytensor.config.change_flags(floatX="float64"):
        x = pt.tensor("x", dtype="float32", shape=(None, batch_size, 3))
        mask = pt.tensor("mask", dtype="float32", shape=(None, batch_size))
        _, mean, _ = stats("x", x, mask)
        fn = compile_function([x, mask], [mean], None, backend)
        differ = 0
        for n_step in range(9, 17):
            batch = rng.normal(size=(n_step, batch_size, 3)).astype("float32")
            expected = np.float32(batch.sum(dtype="float64"))
            at_once = np.float32(expected / np.float32(batch.size))
            for length in batch.shape:
                expected = np.float32(expected / np.float32(length))
            ours = np.asarray(fn(batch, np.ones(batch.shape[:2], "float32"))[0])
            assert (ours.dtype, float(ours)) == ("float32", float(expected))
            differ += expected != at_once
    assert differ  # else one division would do
