"""Deep layers without a state, and the Gaussian RBM: the original's numbers, and NumPy loops."""

import itertools

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.special import logsumexp

from cle_port.layers import InitCell
from cle_port.layers.feedforward import GRBM, HighwayNet, VeryDeepFullyConnectedLayer
from compare.units.layers import DEEP, deep
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, in_python, recorded

# Differences allowed in float32 are twice those that the recordings' README states for costs.
RTOL = {"float64": 1e-13, "float32": 2e-6}
CASES = case_names("layers", *DEEP)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def large_params(layer, rng):
    """Parameters of size 1."""
    return {name: rng.normal(size=value.shape) for name, value in layer.initialize().items()}


def constants(values):
    """Constants of a graph, by name."""
    return {name: pt.as_tensor(value) for name, value in values.items()}


# ----------------------------------------------------------------------------------------
# VeryDeepFullyConnectedLayer, HighwayNet
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_recorded(case, floatX, static):
    arrays = recorded("layers", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(deep(case, arrays), arrays, static)
    check_case(graph(arrays), arrays, RTOL[floatX])


def test_all_recorded_cases_are_there():
    assert [f"{kind}/{case}" for kind in sorted(DEEP) for case in ("3d", "n1", "n3")] == CASES


def make(kind, **settings):
    """Three layers of four units, above parents of three and five columns."""
    return DEEP[kind](
        3, name="h", parent=["a", "c"], parent_dim=[3, 5], nout=4, unit="tanh", **settings
    )


def np_deep(kind, z, values):
    """The layer's output, from the sum over parents, in NumPy."""
    z = np.tanh(z.reshape(-1, 4))
    for step in ("h1__h2", "h2__h3"):
        new = np.tanh(z @ values[f"h_W_{step}"] + values[f"h_b_{step}"])
        if kind == "HighwayNet":
            gate = sigmoid(z @ values[f"h_C_{step}"] + values[f"h_b_C_{step}"])
            new = gate * new + (1 - gate) * z
        z = new
    return z


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize(
    ("shape", "ndim"), [((2, 5), None), ((2, 7), 2), ((2, 5), 3), ((6, 2, 5), None), ((6, 2, 7), 3)]
)
def test_two_parents(kind, shape, ndim):
    """Planes, series, and wider ones; ndim given, which the original cannot take."""
    rng = np.random.default_rng(1)
    layer = make(kind)
    values = large_params(layer, rng)
    a, c = rng.normal(size=(2, 3)), rng.normal(size=shape)
    z = a @ values["W_a__h_h1"] + c[..., :5] @ values["W_c__h_h1"] + values["b_h_h1"]
    ours = layer.fprop([pt.as_tensor(a), pt.as_tensor(c)], constants(values), ndim)
    assert (ours.name, ours.ndim) == ("h", 2)
    np.testing.assert_allclose(evaluate(ours), np_deep(kind, z, values), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int32", "float64"])
@pytest.mark.parametrize("kind", DEEP)
def test_indices(kind, dtype):
    rng = np.random.default_rng(2)
    layer = make(kind)
    values = large_params(layer, rng)
    a, c = np.array([2, 0], dtype), rng.normal(size=(6, 2, 5))
    z = values["W_a__h_h1"][[2, 0]] + c @ values["W_c__h_h1"] + values["b_h_h1"]
    ours = layer.fprop([pt.as_tensor(a), pt.as_tensor(c)], constants(values))
    np.testing.assert_allclose(evaluate(ours), np_deep(kind, z, values), rtol=1e-12)


@pytest.mark.parametrize("kind", DEEP)
def test_without_a_bias(kind):
    """The first layer has none then; the original fails."""
    rng = np.random.default_rng(3)
    layer = make(kind, use_bias=0)
    values = large_params(layer, rng)
    assert "b_h_h1" not in values
    assert set(values) | {"b_h_h1"} == set(make(kind).initialize())
    a, c = rng.normal(size=(2, 3)), rng.normal(size=(2, 5))
    z = a @ values["W_a__h_h1"] + c @ values["W_c__h_h1"]
    ours = layer.fprop([pt.as_tensor(a), pt.as_tensor(c)], constants(values))
    np.testing.assert_allclose(evaluate(ours), np_deep(kind, z, values), rtol=1e-12)


@pytest.mark.parametrize("kind", DEEP)
def test_gradients_of_deep_layers(kind):
    """Finite differences, of inputs and all parameters."""
    rng = np.random.default_rng(4)
    layer = make(kind)
    values = large_params(layer, rng)

    def build(a, c, *tparams):
        return layer.fprop([a, c], dict(zip(values, tparams)))

    given = [rng.normal(size=(2, 3)), rng.normal(size=(3, 2, 5)), *values.values()]
    with in_python():
        pytensor.gradient.verify_grad(build, given, rng=rng)


def test_gates_of_HighwayNet():
    """They begin nearly closed; those that are exactly 0 or 1 carry over all or nothing."""
    for cell, expected in ((None, -3.0), (InitCell("const", mean=0.5), 0.5)):
        layer = HighwayNet(2, init_b_C=cell, name="h", parent="a", parent_dim=3, nout=3)
        np.testing.assert_array_equal(layer.initialize()["h_b_C_h1__h2"], [expected] * 3)
    layer = HighwayNet(2, name="h", parent="a", parent_dim=3, nout=3, unit="linear")
    rng = np.random.default_rng(5)
    values = large_params(layer, rng) | {"h_C_h1__h2": np.zeros((3, 3))}
    values["h_b_C_h1__h2"] = np.array([20.0, -800.0, 20.0])
    x = rng.normal(size=(2, 3))
    first = x @ values["W_a__h_h1"] + values["b_h_h1"]
    second = first @ values["h_W_h1__h2"] + values["h_b_h1__h2"]
    ours = evaluate(layer.fprop([pt.as_tensor(x)], constants(values)))
    np.testing.assert_allclose(ours, np.where([1, 0, 1], second, first), rtol=1e-14)


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize(
    ("inputs", "ndim", "message"),
    [
        ([pt.dmatrix()], None, "layer 'h' got 1 parent inputs, expected 2: a, c"),
        ([pt.dmatrix(), pt.dtensor3()], 2, "layer 'h' got an input of 3 axes for ndim=2"),
        ([pt.dmatrix(), pt.dtensor4()], None, "layer 'h' got an input of 4 axes, at most 3 work"),
    ],
)
def test_deep_layers_refuse(kind, inputs, ndim, message):
    layer = make(kind)
    tparams = {name: pt.as_tensor(value) for name, value in layer.initialize().items()}
    with pytest.raises(ValueError, match=message):
        layer.fprop(inputs, tparams, ndim)


def test_constants_have_no_effect():
    """As in the original, which adds them to the output of a FullyConnectedLayer only."""
    x = pt.as_tensor(np.ones((1, 3)))
    outs = []
    for cons in (0.0, 1.0):
        layer = VeryDeepFullyConnectedLayer(
            1, name="h", parent="a", parent_dim=3, nout=2, unit="tanh", cons=cons
        )
        tparams = {"W_a__h_h1": pt.as_tensor(np.ones((3, 2))), "b_h_h1": pt.as_tensor(np.ones(2))}
        outs.append(evaluate(layer.fprop([x], tparams)))
    np.testing.assert_array_equal(*outs)


# ----------------------------------------------------------------------------------------
# GRBM
# ----------------------------------------------------------------------------------------


PARENTS = {"v": 3, "bh": 4, "bx": 3, "sigma": 3}


def rbm(k_step=1):
    """Three visible and four hidden units."""
    return GRBM(k_step, name="r", parent=[*PARENTS], parent_dim=[*PARENTS.values()], nout=4)


def rbm_values(seed):
    """Inputs of five rows, weights, and noise; hidden units stay where no function saturates."""
    rng = np.random.default_rng(seed)
    X = [
        rng.normal(size=(5, 3)),
        rng.normal(size=4),
        rng.normal(size=3),
        rng.uniform(0.8, 2.0, size=3),
    ]
    noise = [(rng.uniform(size=(5, 4)), rng.normal(size=(5, 3))) for _ in range(3)]
    return X, 0.5 * rng.normal(size=(3, 4)), noise


def energy(v, h, X, W):
    """E(v, h) of each row of v, for one h."""
    _, bh, bx, sigma = X
    return (((v - bx) / sigma) ** 2).sum(axis=1) / 2 - (v / sigma**2) @ W @ h - bh @ h


def energies(v, X, W):
    """E(v, h) of each row of v, for all sixteen h, which come second."""
    states = np.array([*itertools.product([0.0, 1.0], repeat=4)])
    return np.stack([energy(v, h, X, W) for h in states], axis=1), states


def symbolic(X, W):
    """Constants for the inputs and the weights."""
    return [pt.as_tensor(x) for x in X], {"W_v__r": pt.as_tensor(W)}


def test_initial_weights_of_an_rbm():
    layer = rbm()
    layer.init_W = InitCell("rand", rng=np.random.RandomState(1))
    params = layer.initialize()
    assert list(params) == ["W_v__r"]
    expected = InitCell("rand", rng=np.random.RandomState(1)).get((3, 4))
    np.testing.assert_array_equal(params["W_v__r"], expected)


@pytest.mark.parametrize("n_column", [3, 5])
def test_free_energy_sums_over_all_hidden_states(n_column):
    """-log(sum over h of exp(-E)), by a loop; the layer uses the first columns of wider v."""
    X, W, _ = rbm_values(1)
    v = np.random.default_rng(2).normal(size=(6, n_column))
    E, _ = energies(v[:, :3], X, W)
    x, tparams = symbolic(X, W)
    ours = evaluate(rbm().free_energy(pt.as_tensor(v), x, tparams))
    np.testing.assert_allclose(ours, -logsumexp(-E, axis=1), rtol=1e-12)


def test_a_gibbs_step_draws_from_the_conditionals_of_the_energy():
    X, W, [(u, eps), *_] = rbm_values(3)
    x, tparams = symbolic(X, W)
    step = rbm().gibbs_step(*x, tparams, u=pt.as_tensor(u), eps=pt.as_tensor(eps))
    v_mean, v, h_mean, h = evaluate(list(step))
    E, states = energies(X[0], X, W)
    p = np.exp(-E - logsumexp(-E, axis=1, keepdims=True))
    np.testing.assert_allclose(h_mean, p @ states, rtol=1e-12)
    np.testing.assert_array_equal(h, u < h_mean)
    assert 0 < h.mean() < 1
    np.testing.assert_allclose(v, v_mean + X[3] * eps, rtol=1e-14)
    for v_n, v_mean_n, eps_n, h_n in zip(v, v_mean, eps, h):
        above = energy(v_n[None], h_n, X, W) - energy(v_mean_n[None], h_n, X, W)
        np.testing.assert_allclose(above, (eps_n**2).sum() / 2, rtol=1e-11)


@pytest.mark.parametrize("k_step", [1, 3])
def test_k_steps(k_step):
    X, W, noise = rbm_values(4)
    x, tparams = symbolic(X, W)
    pairs = [(pt.as_tensor(u), pt.as_tensor(eps)) for u, eps in noise[:k_step]]
    ours = evaluate(list(rbm(k_step).fprop(x, tparams, noise=pairs)))
    v, bh, bx, sigma = X
    for u, eps in noise[:k_step]:
        h = (u < sigmoid((v / sigma**2) @ W + bh)).astype(float)
        v = h @ W.T + bx + sigma * eps
    np.testing.assert_allclose(ours[0], v, rtol=1e-12)
    np.testing.assert_array_equal(ours[1], h)


def test_cost_and_gradients_of_contrastive_divergence():
    """Statistics of the data minus those of the draw, which is a constant."""
    X, W, [(u, eps), *_] = rbm_values(5)
    x, tparams = symbolic(X, W)
    layer = rbm()
    cost = layer.cost(x, tparams, u=pt.as_tensor(u), eps=pt.as_tensor(eps))
    gradients = pytensor.grad(cost, [tparams["W_v__r"], x[1], x[2]])
    value, dW, dbh, dbx = evaluate([cost, *gradients])

    v0, bh, bx, sigma = X
    h0 = sigmoid((v0 / sigma**2) @ W + bh)
    v1 = (u < h0) @ W.T + bx + sigma * eps
    h1 = sigmoid((v1 / sigma**2) @ W + bh)
    E0, E1 = (-logsumexp(-energies(v, X, W)[0], axis=1) for v in (v0, v1))
    np.testing.assert_allclose(value, np.mean(E0 - E1), rtol=1e-12)
    np.testing.assert_allclose(dW, ((v1 / sigma**2).T @ h1 - (v0 / sigma**2).T @ h0) / 5)
    np.testing.assert_allclose(dbh, (h1 - h0).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(dbx, ((v1 - v0) / sigma**2).mean(axis=0), rtol=1e-12)


def test_gradients_of_the_free_energy():
    """Finite differences, of visible units, biases, standard deviations and weights."""
    X, W, _ = rbm_values(6)
    layer = rbm()

    def build(v, bh, bx, sigma, weights):
        return layer.free_energy(v, [v, bh, bx, sigma], {"W_v__r": weights})

    with in_python():
        pytensor.gradient.verify_grad(build, [*X, W], rng=np.random.default_rng(7))


def test_biases_of_each_row():
    """Biases may depend on the row, as other layers compute them."""
    X, W, [(u, eps), *_] = rbm_values(8)
    layer = rbm()
    rows = [X[0], *(np.tile(x, (5, 1)) for x in X[1:])]
    costs = []
    for values in (X, rows):
        x, tparams = symbolic(values, W)
        costs.append(layer.cost(x, tparams, u=pt.as_tensor(u), eps=pt.as_tensor(eps)))
    a, b = evaluate(costs)
    np.testing.assert_allclose(a, b, rtol=1e-14)


def test_an_rbm_keeps_single_precision():
    with pytensor.config.change_flags(floatX="float32"):
        X = [pt.fmatrix(), pt.fvector(), pt.fvector(), pt.fvector()]
        tparams, u, eps = {"W_v__r": pt.fmatrix()}, pt.fmatrix(), pt.fmatrix()
        outs = [*rbm().fprop(X, tparams, noise=[(u, eps)]), rbm().cost(X, tparams, u=u, eps=eps)]
    assert [out.dtype for out in outs] == ["float32"] * 3


def test_an_rbm_refuses():
    x, W = [pt.dmatrix()] * 4, {"W_v__r": pt.dmatrix()}
    with pytest.raises(ValueError, match="layer 'r' has k_step=0; give at least 1"):
        rbm(k_step=0)
    with pytest.raises(ValueError, match="layer 'r' has 1 parents; give four: visible units, "):
        GRBM(name="r", parent="v", parent_dim=3, nout=4)
    with pytest.raises(ValueError, match=r"got noise for 1 steps; give k_step=2 pairs \(u, eps\)"):
        rbm(k_step=2).fprop(x, W, noise=[(pt.dmatrix(), pt.dmatrix())])
    message = "layer 'r' got 3 parent inputs, expected 4: v, bh, bx, sigma"
    with pytest.raises(ValueError, match=message):
        rbm().fprop(x[:3], W, noise=[(pt.dmatrix(), pt.dmatrix())])
    with pytest.raises(ValueError, match=message):
        rbm().free_energy(x[0], x[:3], W)
    with pytest.raises(ValueError, match=message):
        rbm().cost(x[:3], W, u=pt.dmatrix(), eps=pt.dmatrix())
