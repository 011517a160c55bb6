"""Cost layers: costs, gradients and draws against the original's, and against NumPy."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port import cost
from cle_port.layers.cost import (
    BinCrossEntropyLayer,
    CostLayer,
    GaussianLayer,
    GMMLayer,
    LaplaceLayer,
    MSELayer,
    MulCrossEntropyLayer,
)
from compare.differences import largest_difference
from compare.units.cost_layers import BUILDERS, DENSITIES, REPEATERS
from tests.recordings import read
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, in_python, recorded

# Differences allowed in float32 are twice those that the recordings' README states for costs.
RTOL = {"float64": 1e-13, "float32": 2e-6}
COSTS = ("BinCrossEntropyLayer", "MulCrossEntropyLayer", "MSELayer")
VALUES = {
    BinCrossEntropyLayer: ("y", "y_hat"),
    MulCrossEntropyLayer: ("y", "y_hat"),
    MSELayer: ("y", "y_hat"),
    GaussianLayer: ("y", "mu", "sig"),
    GMMLayer: ("y", "mu", "sig", "coeff"),
    LaplaceLayer: ("y", "mu", "sig"),
}
FUNCTIONS = [cost.NllBin, cost.NllMul, cost.MSE, cost.Gaussian, cost.GMM, cost.Gaussian]


@pytest.fixture
def arrays():
    """Inputs of all layers and noise for their draws: four rows of two dimensions."""
    rng = np.random.default_rng(1)
    return {
        "y": rng.dirichlet(np.ones(2), size=4),
        "y_hat": rng.dirichlet(np.ones(2), size=4),
        "mu": rng.standard_normal((4, 2)),
        "sig": rng.uniform(0.3, 2, (4, 2)),
        "eps": rng.standard_normal((4, 2)),
        "u": rng.uniform(size=(4, 2)),
        "v": rng.uniform(size=(4, 2)),
    }


@pytest.fixture
def mixture():
    """Inputs of a mixture of three components, and noise: four rows of two dimensions."""
    rng = np.random.default_rng(2)
    return {
        "y": rng.standard_normal((4, 2)),
        "mu": rng.standard_normal((4, 6)),
        "sig": rng.uniform(0.3, 2, (4, 6)),
        "coeff": rng.dirichlet(np.ones(3), size=4),
        "idx": np.array([2, 0, 1, 1]),
        "eps": rng.standard_normal((4, 2)),
    }


def tensors(arrays, *names):
    """Constants of some of the arrays."""
    return [pt.as_tensor(arrays[name]) for name in names]


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("case", case_names("layers", *COSTS))
def test_recorded_costs(case, floatX, static):
    arrays = recorded("layers", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(BUILDERS[case.split("/")[0]](case, arrays), arrays, static)
    check_case(graph(arrays), arrays, RTOL[floatX])


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("layer", REPEATERS)
def test_recorded_densities_and_draws(layer, floatX):
    """Draws take the original's noise, from the recorded seed."""
    recording = read(f"units_layers_{floatX}.npz")
    with pytensor.config.change_flags(floatX=floatX):
        repeated = dict(REPEATERS[layer](recording))
    assert list(repeated) == case_names("layers", layer)
    for case, ours in repeated.items():
        theirs = recorded("layers", case, floatX)
        assert set(ours) == {key for key in theirs if key.startswith(("out", "grad/"))}
        for name, value in ours.items():
            assert value.dtype == floatX
            assert largest_difference(value, theirs[name]) <= RTOL[floatX], f"{case}/{name}"


def test_all_recorded_cases_are_there():
    recording = read("units_layers_float64.npz")
    groups = {key.split("/")[0] for key in recording}
    assert {group for group in groups if "Cost" in group or "Entropy" in group} <= set(BUILDERS)
    assert set(DENSITIES) == set(REPEATERS)
    assert len(case_names("layers", *COSTS)) == 6
    assert len(case_names("layers", *REPEATERS)) == 11


@pytest.mark.parametrize(("kind", "function"), list(zip(VALUES, FUNCTIONS)))
def test_sum_and_mean(kind, function, arrays, mixture):
    """The Laplace layer's cost is the Gaussian's, as in the original."""
    X = tensors(mixture if kind is GMMLayer else arrays, *VALUES[kind])
    rows = evaluate(function(*X))
    assert rows.shape == (4,)
    mean, total = (evaluate(kind(name="c", use_sum=use_sum).fprop(X)) for use_sum in (0, 1))
    np.testing.assert_allclose(total, rows.sum(), rtol=1e-14)
    np.testing.assert_allclose(mean, rows.mean(), rtol=1e-14)


def test_time_and_batch(arrays):
    """Rows may have further axes: the mean is that of all rows."""
    X = [pt.as_tensor(arrays[name].reshape(2, 2, 2)) for name in ("y", "mu", "sig")]
    flat = GaussianLayer(name="c").fprop(tensors(arrays, "y", "mu", "sig"))
    ours = evaluate([GaussianLayer(name="c").fprop(X), flat])
    np.testing.assert_allclose(ours[0], ours[1], rtol=1e-14)


def test_Gaussian_draw(arrays):
    X, (eps,) = tensors(arrays, "mu", "sig"), tensors(arrays, "eps")
    layer = GaussianLayer(name="z", use_sample=True)
    expected = arrays["mu"] + arrays["sig"] * arrays["eps"]
    np.testing.assert_array_equal(evaluate(layer.fprop(X, eps=eps)), expected)
    np.testing.assert_array_equal(evaluate(layer.sample(X, eps)), expected)


def test_GMM_draws(mixture):
    """A loop over rows: column d * K + k is dimension d of component k."""
    X = tensors(mixture, "mu", "sig", "coeff")
    idx, eps = tensors(mixture, "idx", "eps")
    layer = GMMLayer(name="z", use_sample=True)

    def expected(components):
        mu, sig = (
            np.array([row[[k, 3 + k]] for row, k in zip(mixture[name], components)])
            for name in ("mu", "sig")
        )
        return mu + sig * mixture["eps"], mu

    z, mu = expected(mixture["idx"])
    np.testing.assert_array_equal(evaluate(layer.fprop(X, idx=idx, eps=eps)), z)
    np.testing.assert_array_equal(evaluate(layer.sample(X, idx, eps)), z)
    np.testing.assert_array_equal(evaluate(list(layer.sample_mean(X, idx, eps))), [z, mu])
    likeliest = expected(mixture["coeff"].argmax(axis=1))
    np.testing.assert_array_equal(evaluate(list(layer.argmax_mean(X, eps))), likeliest)


def test_Laplace_draws_have_the_distance_of_their_scale():
    u, v = np.random.default_rng(3).uniform(size=(2, 200_000, 1))
    X = [pt.full((1, 1), 3.0), pt.full((1, 1), 0.5)]
    layer = LaplaceLayer(name="z", use_sample=True)
    z = evaluate(layer.fprop(X, u=pt.as_tensor(u), v=pt.as_tensor(v)))
    np.testing.assert_array_equal(z, 3 + 0.5 * (np.log(u) - np.log(v)))
    np.testing.assert_allclose(np.median(z), 3, atol=0.01)
    np.testing.assert_allclose(np.abs(z - 3).mean(), 0.5, rtol=0.01)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("use_sum", [False, True])
def test_gradients(kind, use_sum, arrays, mixture):
    """Gradients by all inputs, by finite differences."""
    given = mixture if kind is GMMLayer else arrays
    layer = kind(name="c", use_sum=use_sum)
    values = [given[name] for name in VALUES[kind]]
    with pytensor.config.change_flags(floatX="float64"), in_python():
        pytensor.gradient.verify_grad(
            lambda *X: layer.fprop(X), values, rng=np.random.default_rng(3)
        )


@pytest.mark.parametrize("kind", [GaussianLayer, GMMLayer, LaplaceLayer])
def test_gradients_of_draws(kind, arrays, mixture):
    """They go through the noise to means and deviations."""
    given = mixture if kind is GMMLayer else arrays
    layer = kind(name="z", use_sample=True)
    noise = dict(zip(layer.NOISE, tensors(given, *layer.NOISE)))
    others = tensors(given, "coeff") if kind is GMMLayer else []
    with pytensor.config.change_flags(floatX="float64"), in_python():
        pytensor.gradient.verify_grad(
            lambda *X: layer.fprop([*X, *others], **noise),
            [given["mu"], given["sig"]],
            rng=np.random.default_rng(3),
        )


def test_no_layer_has_parameters():
    assert [kind(name="c", parent=["y", "x"]).initialize() for kind in VALUES] == [{}] * 6


def test_the_base_has_no_cost():
    with pytest.raises(NotImplementedError, match="CostLayer does not implement fprop"):
        CostLayer(name="c").fprop([])


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("change", [-1, 1])
def test_inputs_are_counted(kind, change):
    names = VALUES[kind]
    n = len(names) + change
    with pytest.raises(ValueError, match=f"layer 'c' got {n} parent inputs, expected .: y, "):
        kind(name="c").fprop([pt.dmatrix()] * n)


@pytest.mark.parametrize(
    ("kind", "names", "needed"),
    [
        (GaussianLayer, "mu, sig", "eps"),
        (GMMLayer, "mu, sig, coeff", "idx and eps"),
        (LaplaceLayer, "mu, sig", "u and v"),
    ],
)
def test_draws_need_inputs_and_noise(kind, names, needed):
    layer = kind(name="z", use_sample=True)
    X = [pt.dmatrix()] * (names.count(",") + 1)
    with pytest.raises(ValueError, match=f"layer 'z' draws samples; give {needed}, the noise"):
        layer.fprop(X)
    noise = {name: pt.dmatrix() for name in needed.split(" and ")}
    with pytest.raises(ValueError, match=f"got 4 parent inputs, expected .: {names}"):
        layer.fprop([pt.dmatrix()] * 4, **noise)


def test_means_need_inputs_of_a_mixture():
    layer = GMMLayer(name="z")
    with pytest.raises(ValueError, match="got 2 parent inputs, expected 3: mu, sig, coeff"):
        layer.argmax_mean([pt.dmatrix()] * 2, pt.dmatrix())
    with pytest.raises(ValueError, match="got 2 parent inputs, expected 3: mu, sig, coeff"):
        layer.sample_mean([pt.dmatrix()] * 2, pt.lvector(), pt.dmatrix())
