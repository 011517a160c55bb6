"""Pooling, clockwork, priors and batch normalisation: against the original's, and NumPy loops."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.layers import InitCell
from cle_port.layers.layer import (
    BatchNormLayer,
    BatchNormLSTM,
    ClockworkLayer,
    MaxPool2D,
    PriorLayer,
    n_windows,
)
from cle_port.models import Model
from compare.units.initial import initialized
from compare.units.special_layers import (
    NORMALISED,
    NORMALISED_LSTM,
    POOLED,
    REPEATERS,
    batch_norm,
    least_scale,
)
from tests.recordings import below, read
from tests.units import (
    FLOATS,
    Graph,
    case_names,
    check_case,
    compile_plainly,
    evaluate,
    in_python,
    recorded,
)

# Differences allowed in float32 are twice those that the recordings' README states for costs.
RTOL = {"float64": 1e-13, "float32": 2e-6}
RNG = np.random.default_rng(5)


def repeated(group, floatX):
    """The cases of a group: name, arrays of the port, arrays of the original."""
    with pytensor.config.change_flags(floatX=floatX):
        cases = list(REPEATERS[group](read(f"units_layers_{floatX}.npz")))
    assert [case for case, _ in cases] == case_names("layers", group)
    return [(case, ours, recorded("layers", case, floatX)) for case, ours in cases]


def check_gradient(build, *values):
    """Compare the gradients of a weighted sum of the output with finite differences."""
    with in_python():
        pytensor.gradient.verify_grad(build, list(values), rng=np.random.default_rng(3))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# ----------------------------------------------------------------------------------------
# MaxPool2D
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("floatX", FLOATS)
def test_recorded_pooling(floatX):
    cases = repeated("MaxPool2D", floatX)
    assert {case.split("/")[1] for case, _, _ in cases} == set(POOLED)
    for _, ours, theirs in cases:
        np.testing.assert_array_equal(ours.pop("outshape"), theirs["outshape"])
        check_case(ours, theirs, RTOL[floatX])


def pool(x, weight, size, stride, ignore_border):
    """Maxima of the windows, and the gradient of their weighted sum, by loops."""
    out, gradient = [], np.zeros_like(x)
    starts = []
    for n, length, step in zip(x.shape[2:], size, stride):
        whole = [i for i in range(0, n, step) if i + length <= n]
        # The first window that reaches the end is the last one, unless windows have gaps.
        after = whole[-1] + step if whole else 0
        reached = bool(whole) and whole[-1] + length >= n
        starts.append(whole if ignore_border or reached or after >= n else [*whole, after])
    for i in starts[0]:
        for j in starts[1]:
            window = x[:, :, i : i + size[0], j : j + size[1]]
            top = window.max(axis=(2, 3))
            g = weight[:, :, starts[0].index(i), starts[1].index(j)]
            part = gradient[:, :, i : i + size[0], j : j + size[1]]
            part += (window == top[:, :, None, None]) * g[:, :, None, None]
            out.append(top)
    return np.stack(out, axis=-1).reshape(*x.shape[:2], *map(len, starts)), gradient


@pytest.mark.parametrize("ignore_border", [0, 1])
@pytest.mark.parametrize(
    ("shape", "static"), [((2, 3, 5, 7), False), ((1, 1, 6, 4), True), ((1, 2, 4, 4), True)]
)
@pytest.mark.parametrize(
    ("size", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 2)), ((2, 3), (3, 1)), ((4, 4), (2, 3))]
)
def test_pooling(size, stride, shape, ignore_border, static):
    """Small whole numbers have many ties; each gets the whole gradient."""
    layer = MaxPool2D(
        name="p",
        parent="x",
        parent_dim=[shape],
        pool_size=size,
        pool_stride=stride,
        ignore_border=ignore_border,
    )
    assert layer.initialize() == {}
    x = np.floor(2 * RNG.normal(size=shape))
    weight = RNG.normal(size=layer.outshape)
    expected, gradient = pool(x, weight, size, stride, ignore_border)
    assert expected.shape == layer.outshape
    arrays = {"in/x": x, "weight": weight, "grad/x": gradient, "out": expected}
    graph = Graph(lambda inputs: layer.fprop(inputs["x"]), arrays, static)
    check_case(graph(arrays), arrays, 1e-15)


def test_windows_of_one_entry_and_windows_larger_than_the_image():
    assert n_windows(5, 1, 1) == n_windows(5, 1, 1, ignore_border=True) == 5
    assert n_windows(3, 9, 2) == 1
    assert n_windows(3, 9, 2, ignore_border=True) == 0
    layer = MaxPool2D(name="p", parent="x", pool_size=(9, 1), pool_stride=(2, 1), set_shape=0)
    assert layer.initialize() == {}
    assert layer.outshape is None
    x = RNG.normal(size=(1, 1, 3, 2))
    ours = evaluate(layer.fprop([pt.as_tensor(x)]))
    np.testing.assert_array_equal(ours, x.max(axis=2, keepdims=True))


def test_gradient_of_pooling():
    layer = MaxPool2D(name="p", parent="x", pool_size=(3, 2), pool_stride=(2, 1))
    check_gradient(layer.fprop, RNG.normal(size=(2, 1, 5, 4)))


@pytest.mark.parametrize("parent_dim", [(), [None]])
def test_pooling_needs_the_shape_of_its_parent(parent_dim):
    layer = MaxPool2D(name="p", parent="x", parent_dim=parent_dim)
    with pytest.raises(ValueError, match=r"layer 'p' needs parent_dim=.*or give set_shape=0"):
        layer.initialize()
    with pytest.raises(ValueError, match="layer 'p' got 2 parent inputs, expected 1: x"):
        layer.fprop([pt.dtensor4(), pt.dtensor4()])


# ----------------------------------------------------------------------------------------
# ClockworkLayer
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("N", [1, 3])
def test_clockwork(N):
    layer = ClockworkLayer(N=N, name="c", parent="z", parent_dim=2)
    z = RNG.normal(size=(7, 4, 2))
    steps = pytensor.scan(
        lambda t, z_t: layer.fprop(z_t, idx=t),
        sequences=[pt.arange(7), pt.as_tensor(z)],
        return_updates=False,
    )
    expected = z.copy()
    for t in range(7):
        if t % N:
            expected[t] = 0
    with in_python():
        np.testing.assert_array_equal(evaluate(steps), expected)
    assert layer.initialize() == {}


@pytest.mark.parametrize("idx", [4, 5])
def test_gradient_of_clockwork(idx):
    layer = ClockworkLayer(N=2, name="c")
    check_gradient(lambda z: layer.fprop(z, idx=idx), RNG.normal(size=(3, 2)))


def test_clockwork_needs_a_period():
    with pytest.raises(ValueError, match="layer 'c': the period N is 0; give at least 1"):
        ClockworkLayer(N=0, name="c")


# ----------------------------------------------------------------------------------------
# PriorLayer
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("floatX", FLOATS)
def test_recorded_priors(floatX):
    cases = repeated("PriorLayer", floatX)
    assert len(cases) == 5
    for _, ours, theirs in cases:
        check_case(ours, theirs, RTOL[floatX])


def test_draws_of_a_row_follow_each_other():
    layer = PriorLayer(name="z", use_sample=True, num_sample=2)
    mu, sig = RNG.normal(size=(2, 3, 4))
    for given, n in ((None, 2), (5, 5)):
        eps = RNG.normal(size=(3, n, 4))
        X = [pt.as_tensor(mu), pt.as_tensor(sig)]
        ours = evaluate(layer.fprop(X, given, eps=pt.as_tensor(eps)))
        rows = [mu[i] + sig[i] * eps[i, k] for i in range(3) for k in range(n)]
        np.testing.assert_allclose(ours, rows, rtol=1e-15)
    assert layer.initialize() == {}


def test_gradient_of_priors():
    kl = PriorLayer(name="kl")
    draws = PriorLayer(name="z", use_sample=True, num_sample=3)
    mu1, mu2 = RNG.normal(size=(2, 3, 2))
    sig1, sig2 = RNG.uniform(0.5, 2, size=(2, 3, 2))
    check_gradient(lambda *X: kl.fprop(X), mu1, sig1)
    check_gradient(lambda *X: kl.fprop(X), mu1, sig1, mu2, sig2)
    eps = RNG.normal(size=(3, 3, 2))
    check_gradient(lambda mu, sig, eps: draws.fprop([mu, sig], eps=eps), mu1, sig1, eps)


def test_priors_refuse():
    x = pt.dmatrix()
    with pytest.raises(ValueError, match="layer 'z' draws samples; give num_sample"):
        PriorLayer(name="z", use_sample=True, num_sample=None)
    with pytest.raises(ValueError, match="layer 'kl' got 3 inputs; give mu and sig of one or two"):
        PriorLayer(name="kl").fprop([x, x, x])
    draws = PriorLayer(name="z", use_sample=True)
    with pytest.raises(ValueError, match="layer 'z' draws samples; give eps, the noise"):
        draws.fprop([x, x])
    with pytest.raises(ValueError, match="layer 'z' got 4 inputs; give mu and sig"):
        draws.fprop([x, x, x, x], eps=pt.dtensor3())


def test_noise_for_another_number_of_draws_is_noticed():
    draws = PriorLayer(name="z", use_sample=True, num_sample=2)
    x = pt.as_tensor(np.ones((3, 4)))
    eps = pt.dtensor3()
    z = draws.fprop([x, x], eps=eps)
    with pytest.raises(AssertionError, match="SpecifyShape"):
        evaluate(z, {eps: np.ones((3, 1, 4))})


# ----------------------------------------------------------------------------------------
# BatchNormLayer
# ----------------------------------------------------------------------------------------


def check_normalised(case, ours, theirs, rtol):
    """Compare; the gradient of a bias without effect is rounding error, on another scale."""
    for key in [key for key in ours if least_scale(case, key, theirs)]:
        difference = np.abs(ours.pop(key) - theirs.pop(key)).max()
        assert difference <= rtol * least_scale(case, key, theirs), key
    check_case(ours, theirs, rtol)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", case_names("layers", "BatchNormLayer"))
def test_recorded_batch_normalisation(case, floatX, static):
    arrays = recorded("layers", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(batch_norm(case, arrays), arrays, static)
    check_normalised(case, graph(arrays), arrays, RTOL[floatX])


def test_all_recorded_batch_normalisations_are_there():
    names = {case.split("/")[1] for case in case_names("layers", "BatchNormLayer")}
    assert names == set(NORMALISED)
    assert len(case_names("layers", "BatchNormLSTM")) == len(NORMALISED_LSTM)


def batch_norm_layer(**kwargs):
    """A layer with two inputs, and values for its parameters and running statistics."""
    settings = {"name": "h", "parent": ["a", "c"], "parent_dim": [3, 2], "nout": 4, "unit": "tanh"}
    layer = BatchNormLayer(**settings | kwargs)
    params = {name: RNG.normal(size=p.shape) for name, p in layer.initialize().items()}
    layer.mu.set_value(RNG.normal(size=4))
    layer.sigma.set_value(RNG.uniform(0.5, 2, size=4))
    return layer, params


def normalise(z, params, eps, mu=None, sigma=None):
    """Output, mean and deviation of `BatchNormLayer`, by NumPy."""
    if mu is None:
        rows = z.reshape(-1, z.shape[-1])
        n = sum(row.sum() != 0 for row in rows)
        mu = rows.sum(axis=0) / n
        sigma = np.sqrt(((rows - mu) ** 2).sum(axis=0) / n)
    y = params["gamma_h"] * (z - mu) / (sigma + eps) + params["beta_h"]
    return np.tanh(y), mu, sigma


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("running_average", [0, 1])
@pytest.mark.parametrize("use_bias", [0, 1])
def test_running_statistics(ndim, running_average, use_bias):
    """Two updates by a model's function, then a test with what they leave."""
    layer, params = batch_norm_layer(rho=0.75, eps=1e-2, use_bias=use_bias, cons=0.5)
    tparams = {name: pt.as_tensor(p) for name, p in params.items()}
    mu, sigma = layer.mu.get_value(), layer.sigma.get_value()
    X = [pt.tensor(name, shape=(None,) * ndim, dtype="float64") for name in "ac"]
    test = compile_plainly(X, layer.fprop(X, tparams, test=1))
    assert layer.updates == {}
    model = Model()
    out = layer.fprop(X, tparams, running_average=running_average)
    model.set_updates(layer.updates)
    layer.fprop(X, tparams, test=1)  # changes no updates
    assert layer.updates == model.updates
    train = compile_plainly(X, out, model.updates)
    rho = 0.75 if running_average else 0.0
    rows = (5,) if ndim == 2 else (6, 5)
    for _ in range(2):
        x_a, x_c = (RNG.normal(size=(*rows, d)) for d in (3, 2))
        x_a[1], x_c[1] = 0, 0  # padding, which counts only with a bias
        z = x_a @ params["W_a__h"] + x_c @ params["W_c__h"]
        z = z + params["b_h"] if use_bias else z
        expected, mu_z, sigma_z = normalise(z, params, 1e-2)
        np.testing.assert_allclose(train(x_a, x_c), expected + 0.5, rtol=1e-12)
        mu, sigma = rho * mu + (1 - rho) * mu_z, rho * sigma + (1 - rho) * sigma_z
        np.testing.assert_allclose(layer.mu.get_value(), mu, rtol=1e-13)
        np.testing.assert_allclose(layer.sigma.get_value(), sigma, rtol=1e-13)
    expected = normalise(z, params, 1e-2, mu, sigma)[0]
    np.testing.assert_allclose(test(x_a, x_c), expected + 0.5, rtol=1e-12)


@pytest.mark.parametrize("floatX", FLOATS)
def test_running_statistics_have_the_precision_of_the_model(floatX):
    with pytensor.config.change_flags(floatX=floatX):
        layer = BatchNormLayer(name="h", parent="a", parent_dim=3, nout=4, unit="relu")
        tparams = {n: pt.as_tensor(p.astype(floatX)) for n, p in layer.initialize().items()}
        out = layer.fprop([pt.matrix(dtype=floatX)], tparams)
    assert {out.dtype, *(new.dtype for new in layer.updates.values())} == {floatX}
    assert [old.name for old in layer.updates] == ["mu_h", "sigma_h"]
    np.testing.assert_array_equal(layer.mu.get_value(), np.zeros(4, floatX))
    np.testing.assert_array_equal(layer.sigma.get_value(), np.ones(4, floatX))


def test_ndim_may_be_given():
    """The original stops with an UnboundLocalError, of its own making."""
    layer, params = batch_norm_layer()
    tparams = {name: pt.as_tensor(p) for name, p in params.items()}
    X = [pt.as_tensor(RNG.normal(size=(5, d))) for d in (3, 2)]
    plane, repeated_plane = evaluate([layer.fprop(X, tparams, ndim=n) for n in (2, 3)])
    np.testing.assert_allclose(repeated_plane, plane[None], rtol=1e-13)


@pytest.mark.parametrize("how", NORMALISED.values(), ids=NORMALISED)
def test_gradient_of_batch_normalisation(how):
    layer, params = batch_norm_layer(use_bias="test" in how)
    inputs = [RNG.normal(size=(5, d)) for d in (3, 2)]

    def output(a, c, *rest):
        return layer.fprop([a, c], dict(zip(params, rest)), **how)

    check_gradient(output, *inputs, *params.values())


def test_batch_normalisation_refuses():
    layer, _ = batch_norm_layer()
    with pytest.raises(ValueError, match="layer 'h' got 1 parent inputs, expected 2: a, c"):
        layer.fprop([pt.dmatrix()], {})


@pytest.mark.parametrize("kind", [BatchNormLayer, BatchNormLSTM])
def test_initial_values(kind):
    """From the recorded seed, in the original's order."""
    arrays = below(read("units_init_float64.npz"), f"initialize/{kind.__name__}")
    cells = {"init_W": InitCell("rand"), "init_b": InitCell("zeros")}
    layer = kind(name="h", parent=["a", "c"], parent_dim=[3, 2], nout=4, unit="tanh", **cells)
    ours = initialized(layer, arrays)
    assert [n.removeprefix("param/") for n in ours if "param" in n] == arrays["order"].tolist()
    for name, value in ours.items():
        np.testing.assert_allclose(value, arrays[name], rtol=1e-13, atol=1e-14, err_msg=name)


def test_gamma_comes_from_the_generator_of_the_weights():
    gammas = []
    for _ in range(2):
        W = InitCell("rand", rng=np.random.RandomState(1))
        layer = BatchNormLayer(name="h", parent="a", parent_dim=2, nout=3, unit="tanh", init_W=W)
        gammas.append(layer.initialize()["gamma_h"])
    np.testing.assert_array_equal(*gammas)
    assert ((gammas[0] >= 0.95) & (gammas[0] < 1.05)).all()


# ----------------------------------------------------------------------------------------
# BatchNormLSTM
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("floatX", FLOATS)
def test_recorded_steps(floatX):
    for _, ours, theirs in repeated("BatchNormLSTM", floatX):
        outs = {name: ours.pop(name) for name in ("out_0", "out_1", "out_2")}
        check_case(ours, theirs, RTOL[floatX])
        for name, value in outs.items():
            check_case({"out": value}, {"out": theirs[name]}, RTOL[floatX])


N_STEP, BATCH, DIM, N = 4, 5, 3, 2
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 0]], float)


def lstm_by_loops(x, params, v):
    """States and statistics of `BatchNormLSTM` after each step, by NumPy."""
    h, c, mu = np.zeros((BATCH, N)), np.zeros((BATCH, N)), np.zeros(4 * N)
    for t in range(1, N_STEP + 1):
        z = x[t - 1] @ params["W_a__r"] + h @ params["U_r__r"] + params["b_r"]
        rows = z[MASK[t - 1] == 1]
        if t == 1:
            mu = rows.mean(axis=0)
            y = z - mu
        else:
            old, mu = mu, mu + (rows - mu).mean(axis=0) / t
            v = v + ((rows - old) * (rows - mu)).mean(axis=0)
            y = (z - mu) / (np.sqrt(v) + 1e-6)
        y = params["gamma_r"] * y + params["beta_r"]
        i, f, o = (sigmoid(y[:, k * N : (k + 1) * N]) for k in (1, 2, 3))
        c = f * c + i * np.tanh(y[:, :N])
        h = o * np.tanh(c)
        yield np.concatenate([h, c], axis=1), mu, v


def lstm():
    layer = BatchNormLSTM(name="r", parent="a", parent_dim=DIM, nout=N, unit="tanh")
    return layer, {name: RNG.normal(size=p.shape) for name, p in layer.initialize().items()}


def test_steps_under_scan():
    """Padding, and the variance of the first step, which nothing uses."""
    layer, params = lstm()
    tparams = {name: pt.as_tensor(p) for name, p in params.items()}
    x, v = RNG.normal(size=(N_STEP, BATCH, DIM)), RNG.uniform(1, 2, size=4 * N)
    outputs = pytensor.scan(
        lambda t, x_t, mask, s, mu, v: layer.fprop([[x_t], [s]], tparams, t, mask, mu, v),
        sequences=[pt.arange(1, N_STEP + 1), pt.as_tensor(x), pt.as_tensor(MASK)],
        outputs_info=[layer.get_init_state(BATCH), pt.zeros(4 * N), pt.as_tensor(v)],
        return_updates=False,
    )
    with in_python():
        ours = evaluate(list(outputs))
    for value, expected in zip(ours, zip(*lstm_by_loops(x, params, v))):
        np.testing.assert_allclose(value, np.stack(expected), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("how", NORMALISED_LSTM.values(), ids=NORMALISED_LSTM)
def test_gradient_of_a_step(how):
    layer, params = lstm()
    values = [
        RNG.normal(size=(BATCH, DIM)),
        RNG.normal(size=(BATCH, 2 * N)),
        RNG.normal(size=4 * N),
        RNG.uniform(1, 2, size=4 * N),
        *params.values(),
    ]

    def outputs(x, s, z_mu, z_var, *rest):
        mask = pt.as_tensor(MASK[1])
        given = {"mask": mask, "z_mu": z_mu, "z_var": z_var}
        outs = layer.fprop([[x], [s]], dict(zip(params, rest)), **how, **given)
        return pt.concatenate([out.flatten() for out in outs])

    check_gradient(outputs, *values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "layer 'r' needs z_mu and z_var of the previous step"),
        ({"z_mu": pt.dvector(), "z_var": pt.dvector()}, "layer 'r' needs a mask for training"),
    ],
)
def test_a_step_refuses(given, message):
    layer, params = lstm()
    tparams = {name: pt.as_tensor(p) for name, p in params.items()}
    with pytest.raises(ValueError, match=message):
        layer.fprop([[pt.dmatrix()], [pt.dmatrix()]], tparams, **given)
