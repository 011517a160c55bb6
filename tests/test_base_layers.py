"""Seeds, random units, one-hot rows and vectors of parameters, against the original's and NumPy."""

import copy
import pickle

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.graph import compile_function
from cle_port.layers import (
    InitCell,
    NonlinCell,
    OnehotLayer,
    RandomCell,
    RealVectorLayer,
    StemCell,
)
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.utils.mrg import M2, MRG_RandomStreams
from compare.units.cost_layers import BUILDERS
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, in_python, recorded

# Differences allowed in float32 are twice those that the recordings' README states for costs.
RTOL = {"float64": 1e-13, "float32": 2e-6}
RECORDED = case_names("layers", "OnehotLayer", "RealVectorLayer")
Z = np.random.default_rng(1).normal(0, 2, (5, 4))
U = np.random.default_rng(2).uniform(size=(5, 4))
SPIKES = {
    "sigmoidal_spikenslab_relu": lambda z, u: z * (u < 1 / (1 + np.exp(3 - z))),
    "gaussian_spikenslab_relu": lambda z, u: (
        np.exp(-(z**2)) / np.sqrt(np.pi) * (u < np.sum(np.exp(-(z**2))) / np.sqrt(np.pi) - 3)
    ),
}


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("case", RECORDED)
def test_recorded(case, floatX, static):
    arrays = recorded("layers", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(BUILDERS[case.split("/")[0]](case, arrays), arrays, static)
    check_case(graph(arrays), arrays, RTOL[floatX])


def test_all_recorded_cases_are_there():
    assert len(RECORDED) == 4


@pytest.mark.parametrize("dtype", ["int64", "int8", "float32"])
@pytest.mark.parametrize("as_list", [False, True])
def test_onehot_rows(dtype, as_list):
    layer = OnehotLayer(name="x", parent="y", nout=4)
    for labels in ([0, 3, 1], [[0], [3], [1]], [[0, 2], [3, 3], [1, 0]]):
        labels = np.array(labels, dtype)
        x = pt.as_tensor(labels)
        expected = np.zeros((3, 4))
        for row, entries in zip(expected, labels):
            row[entries.astype(int)] = 1
        np.testing.assert_array_equal(evaluate(layer.fprop([x] if as_list else x)), expected)
    assert layer.initialize() == {}


@pytest.mark.parametrize("floatX", FLOATS)
def test_onehot_rows_have_floatX(floatX):
    with pytensor.config.change_flags(floatX=floatX):
        assert OnehotLayer(name="x", nout=4).fprop(pt.lmatrix()).dtype == floatX


def test_onehot_refuses():
    layer = OnehotLayer(name="x", nout=4)
    with pytest.raises(ValueError, match="layer 'x' got 2 parent inputs, expected 1: x"):
        layer.fprop([pt.lmatrix(), pt.lmatrix()])
    with pytest.raises(IndexError):
        evaluate(layer.fprop(pt.as_tensor([[4], [0]])))


def test_onehot_rows_on_jax():
    x = pt.tensor("x", shape=(3, 2), dtype="int64")
    fn = compile_function([x], OnehotLayer(name="x", nout=4).fprop(x), None, "jax")
    np.testing.assert_array_equal(fn(np.array([[0, 2], [3, 3], [1, 0]])).sum(axis=1), [2, 1, 2])


@pytest.mark.parametrize("nout", [1, 3])
@pytest.mark.parametrize("static", [False, True])
def test_a_vector_of_parameters(nout, static):
    """With one entry it broadcasts, for which the original fails."""
    layer = RealVectorLayer(
        name="v", nout=nout, unit="tanh", cons=0.5, use_bias=0, init_b=InitCell("const", mean=0.6)
    )
    params = layer.initialize()
    assert list(params) == ["b_v"]
    np.testing.assert_array_equal(params["b_v"], np.full(nout, 0.6))
    b = pt.tensor("b", dtype="float64", shape=(nout if static else None,))
    x = np.arange(6.0).reshape(2, 3)
    v = layer.fprop({"b_v": b})
    ours = evaluate([v, v + pt.as_tensor(x)], {b: params["b_v"]})
    np.testing.assert_allclose(ours[0], np.full(nout, np.tanh(0.6) + 0.5), rtol=1e-15)
    np.testing.assert_allclose(ours[1], x + np.tanh(0.6) + 0.5, rtol=1e-15)


@pytest.mark.parametrize("nout", [1, 3])
def test_gradient_of_a_vector_of_parameters(nout):
    layer = RealVectorLayer(name="v", nout=nout, unit="softplus")
    x = pt.as_tensor(Z[:, :3])
    with pytensor.config.change_flags(floatX="float64"), in_python():
        pytensor.gradient.verify_grad(
            lambda b: layer.fprop({"b_v": b}) * x, [Z[0, :nout]], rng=np.random.default_rng(3)
        )


@pytest.mark.parametrize("unit", SPIKES)
@pytest.mark.parametrize("scale", [2.0, 0.3])
def test_random_units(unit, scale):
    """They pass on what exceeds the noise, with its gradient."""
    z = scale * Z
    build = getattr(NonlinCell(), unit)
    expected = SPIKES[unit](z, U)
    symbol = pt.dmatrix()
    out = build(symbol, pt.as_tensor(U))
    ours, gradient = evaluate([out, pytensor.grad(out.sum(), symbol)], {symbol: z})
    np.testing.assert_allclose(ours, expected, rtol=1e-14)
    slope = -2 * z * expected if unit.startswith("gaussian") else expected != 0
    np.testing.assert_allclose(gradient, slope, rtol=1e-14, atol=1e-16)


def test_random_units_are_sometimes_on():
    """The points of the test above see all sides of the thresholds."""
    shares = [np.mean(f(scale * Z, U) != 0) for f in SPIKES.values() for scale in (2.0, 0.3)]
    assert 0 < shares[0] < 1
    assert 0 < shares[1] < 1
    assert shares[2] == 0  # the "probability" is negative
    assert shares[3] == 1  # it is above 1


def test_all_gaussian_spikes_share_a_probability():
    z = np.full(6, 0.2)
    p = 6 * np.exp(-0.04) / np.sqrt(np.pi) - 3
    u = np.array([0.0, p - 1e-6, p + 1e-6, 0.9, 0.1, 0.5])
    ours = evaluate(NonlinCell().gaussian_spikenslab_relu(pt.as_tensor(z), pt.as_tensor(u)))
    np.testing.assert_array_equal(ours != 0, u < p)
    assert 0.1 < p < 0.5


@pytest.mark.parametrize("unit", SPIKES)
@pytest.mark.parametrize("floatX", FLOATS)
def test_random_units_keep_their_precision(unit, floatX):
    with pytensor.config.change_flags(floatX=floatX):
        assert getattr(NonlinCell(), unit)(pt.matrix(), pt.matrix()).dtype == floatX


@pytest.mark.parametrize("unit", SPIKES)
def test_a_layer_has_no_random_unit(unit):
    message = (
        rf"unit '{unit}' takes noise.*; give unit='linear' and call the layer's {unit}\(z, u\)"
    )
    with pytest.raises(ValueError, match=message):
        StemCell(name="h", unit=unit)


@pytest.fixture
def seed_rng(monkeypatch):
    """A source of seeds that is the same in each test."""
    monkeypatch.setattr(RandomCell, "seed_rng", np.random.RandomState(5))


@pytest.mark.usefixtures("seed_rng")
def test_seeds_are_the_originals():
    """They were read from the original, whose seed_rng was seeded with 5, too."""
    layer = StemCell(name="h")
    assert (layer.theano_seed, layer.seed()) == (953453411, 236996814)
    assert (layer.theano_seed, layer.seed()) == (953453411, 236996814)
    assert StemCell(name="h").seed() not in (953453411, 236996814)


@pytest.mark.usefixtures("seed_rng")
def test_generators_are_made_once():
    layer = StemCell(name="h")
    assert layer.rng() is layer.rng()
    assert layer.theano_rng is layer.theano_rng
    first = MRG_RandomStreams(layer.theano_seed).block()
    np.testing.assert_array_equal(
        layer.theano_rng.block().uniform((3,), dtype="float64"),
        first.uniform((3,), dtype="float64"),
    )
    numbers = np.random.RandomState(layer.seed()).uniform(size=3)
    np.testing.assert_array_equal(layer.rng().uniform(size=3), numbers)


def test_seed_and_generator_can_be_set():
    layer, other = StemCell(name="h"), StemCell(name="h")
    layer.theano_seed = 7
    other.theano_rng = MRG_RandomStreams(7)
    np.testing.assert_array_equal(layer.theano_rng.rstate, other.theano_rng.rstate)


def test_seeds_that_cannot_seed_are_drawn_again(monkeypatch):
    class Seeds:
        seeds = iter([0, M2, 7])

        def randint(self, limit):
            return next(self.seeds)

    monkeypatch.setattr(RandomCell, "seed_rng", Seeds())
    assert RandomCell().theano_seed == 7


def test_seeds_leave_numpys_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    RandomCell().seed()
    RandomCell().theano_rng.block()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_layers_can_be_copied(duplicate):
    layer = FullyConnectedLayer(
        name="h", parent="a", parent_dim=3, nout=4, unit="tanh", init_W=InitCell("rand", high=0.1)
    )
    layer.theano_seed = 7
    twin = duplicate(layer)
    assert vars(twin).keys() == vars(layer).keys()
    assert twin.nonlin.__self__ is twin
    assert twin.init_W.init_param.__self__ is twin.init_W
    np.testing.assert_array_equal(twin.theano_rng.rstate, layer.theano_rng.rstate)
    drawn = []
    for each in (layer, twin):
        np.random.seed(3)  # noqa: NPY002
        drawn.append(each.initialize())
    np.testing.assert_array_equal(drawn[0]["W_a__h"], drawn[1]["W_a__h"])


def test_a_copy_has_its_own_generator_of_initial_values():
    cell = InitCell("rand", rng=np.random.RandomState(3))
    np.testing.assert_array_equal(copy.deepcopy(cell).get(4), cell.get(4))
    assert InitCell("rand").rng is np.random
