"""Costs and their gradients against the original's, and against SciPy."""

import re
from functools import cache
from itertools import product

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode
from scipy import stats

from cle_port import cost
from cle_port.graph import compile_function
from cle_port.layers import NonlinCell
from compare.units import cost_of
from tests.recordings import below, read
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, in_python, recorded

COSTS = (
    "NllBin",
    "NllMul",
    "NllMulInd",
    "MSE",
    "Laplace",
    "Gaussian",
    "GMM",
    "BiGauss",
    "BiGMM",
    "KLGaussianGaussian",
    "KLGaussianStdGaussian",
    "grbm_free_energy",
)
HELPERS = ("gpu_op_concatenate", "gpu_op_softmax", "logsumexp")
CASES = case_names("costs", *COSTS)


def kind_of(case, floatX):
    """What a graph is compiled for: the cost, its flag, and the types of its inputs."""
    inputs = below(recorded("costs", case, floatX), "in")
    flag = re.search(r"(keep_dims|use_sum)\d$", case)
    types = tuple((array.ndim, array.dtype.name) for array in inputs.values())
    return case.split("/")[0], flag and flag[0], types


def compiled(case, floatX, static):
    return Graph(cost_of(case), recorded("costs", case, floatX), static)


@cache
def graph_for(kind, floatX):
    """Compile one graph for all cases of a kind, without static shapes."""
    named = (case.replace("float64", floatX) for case in CASES)
    return compiled(next(case for case in named if kind_of(case, floatX) == kind), floatX, False)


def tolerance(case, floatX):
    """Relative difference allowed: twice what the recordings' README says of float32."""
    if floatX == "float64":
        return 1e-13
    return 2 * (4e-5 if "extreme" in case else 1e-6)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_recorded(case, floatX):
    """Values and gradients; at pen bits that the original cannot differentiate, finite ones."""
    case = case.replace("float64", floatX)  # the name of one case contains the dtype of y
    arrays = recorded("costs", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = graph_for(kind_of(case, floatX), floatX)
    ours = graph(arrays)
    check_case(ours, arrays, tolerance(case, floatX))


@pytest.mark.parametrize(
    "case",
    [
        "NllBin/one",
        "NllMulInd/column_int32",
        "MSE/one_use_sum0",
        "Gaussian/one",
        "GMM/k1",
        "GMM/one_dim",
        "BiGauss/one_row",
        "BiGMM/one_row",
        "BiGMM/k1",
    ],
)
def test_static_shapes(case):
    """The programs give PyTensor the shapes; axes of length 1 then broadcast of themselves."""
    arrays = recorded("costs", case)
    with pytensor.config.change_flags(floatX="float64"):
        check_case(compiled(case, "float64", static=True)(arrays), arrays, 1e-13)


def test_all_recorded_cases_are_there():
    assert len(CASES) == 53
    assert {case.split("/")[0] for case in CASES} == set(COSTS)


@pytest.mark.parametrize("case", case_names("costs", *HELPERS))
def test_helpers_recorded_with_the_costs(case):
    """Their own tests are elsewhere; `compare` repeats them here."""
    arrays = recorded("costs", case)
    with pytensor.config.change_flags(floatX="float64"):
        check_case(compiled(case, "float64", static=False)(arrays), arrays, 1e-13)


def test_compare_repeats_all():
    groups = {key.split("/")[0] for key in read("units_costs_float64.npz")}
    assert groups == {*COSTS, *HELPERS, "meta"}
    assert None not in map(cost_of, case_names("costs", *groups - {"meta"}))


@pytest.fixture
def rows():
    rng = np.random.default_rng(1)
    return {
        "y": rng.standard_normal((4, 2)),
        "mu": rng.standard_normal((4, 2)),
        "sig": rng.uniform(0.3, 2, (4, 2)),
        "corr": rng.uniform(-0.9, 0.9, (4, 1)),
        "bit": np.array([[1.0], [0.0], [1.0], [0.0]]),
        "p": rng.uniform(0.1, 0.9, (4, 1)),
    }


def value(fn, *arrays, **kwargs):
    """Value of a cost in double precision."""
    with pytensor.config.change_flags(floatX="float64"):
        return evaluate(fn(*(pt.as_tensor(a) for a in arrays), **kwargs))


def test_Gaussian_is_a_density(rows):
    theirs = -stats.norm(rows["mu"], rows["sig"]).logpdf(rows["y"]).sum(axis=-1)
    ours = value(cost.Gaussian, rows["y"], rows["mu"], rows["sig"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)


def test_BiGauss_is_a_density_and_a_probability(rows):
    def covariance(sig, corr):
        return np.outer(sig, sig) * np.array([[1, corr], [corr, 1]])

    theirs = [
        -stats.multivariate_normal(mu, covariance(sig, corr)).logpdf(y)
        - stats.bernoulli(p).logpmf(bit)
        for y, mu, sig, corr, bit, p in zip(
            rows["y"], rows["mu"], rows["sig"], rows["corr"][:, 0], rows["bit"][:, 0], rows["p"]
        )
    ]
    y = np.hstack([rows["bit"], rows["y"]])
    ours = value(cost.BiGauss, y, rows["mu"], rows["sig"], rows["corr"], rows["p"])
    np.testing.assert_allclose(ours, np.ravel(theirs), rtol=1e-12)


def test_mixtures_of_one_component_are_that_component(rows):
    one = np.ones((4, 1))
    y, mu, sig = rows["y"], rows["mu"], rows["sig"]
    np.testing.assert_allclose(
        value(cost.GMM, y, mu, sig, one), value(cost.Gaussian, y, mu, sig), rtol=1e-14
    )
    y = np.hstack([rows["bit"], y])
    np.testing.assert_allclose(
        value(cost.BiGMM, y, mu, sig, one, rows["corr"], rows["p"]),
        value(cost.BiGauss, y, mu, sig, rows["corr"], rows["p"]),
        rtol=1e-14,
    )


def test_divergence_from_a_standard_Gaussian(rows):
    mu, sig = rows["mu"], rows["sig"]
    standard = np.zeros((4, 2)), np.ones((4, 2))
    ours = value(cost.KLGaussianStdGaussian, mu, sig)
    np.testing.assert_allclose(ours, value(cost.KLGaussianGaussian, mu, sig, *standard), rtol=1e-13)
    assert (ours > 0).all()
    np.testing.assert_array_equal(value(cost.KLGaussianGaussian, mu, sig, mu, sig), 0)


@pytest.mark.parametrize(
    ("bit", "p", "loss", "gradient"), [(0, 0, 0, 1), (1, 1, 0, -1), (0, 1, np.inf, np.inf)]
)
@pytest.mark.parametrize("name", ["BiGauss", "BiGMM"])
def test_certain_pen_bits(name, bit, p, loss, gradient):
    """0 log 0 is 0 with the one-sided gradient; the original's gradient is NaN there."""
    with pytensor.config.change_flags(floatX="float64"):
        binary = pt.dmatrix()
        args = [np.array([[bit, 0.0, 0.0]]), np.zeros((1, 2)), np.ones((1, 2))]
        args += [np.ones((1, 1))] * (name == "BiGMM") + [np.zeros((1, 1))]
        nll = getattr(cost, name)(*(pt.as_tensor(a) for a in args), binary)[0]
        outputs = [nll, pytensor.grad(nll, binary)]
        # Without rewrites: some of them would hide a 0/0.
        fn = pytensor.function([binary], outputs, mode=Mode(linker="py", optimizer=None))
        with np.errstate(divide="ignore"):
            ours = fn(np.array([[float(p)]]))
    np.testing.assert_allclose(ours[0], loss + np.log(2 * np.pi), rtol=1e-15)
    assert ours[1] == gradient


def test_a_weight_of_zero_has_no_gradient():
    """As in the programs of the original: 0 times infinity, although the cost is a number."""
    with pytensor.config.change_flags(floatX="float64"):
        z = pt.tensor("z", dtype="float64", shape=(2, 2, 3))
        coeff = NonlinCell("softmax").nonlin(z).reshape((4, 3))
        y, mu, sig = np.ones((4, 2)), np.arange(24.0).reshape(4, 6), np.ones((4, 6))
        nll = cost.GMM(*(pt.as_tensor(a) for a in (y, mu, sig)), coeff).sum()
        fn = compile_function([z], [nll, pytensor.grad(nll, z)], None, "jax")
        value, gradient = map(np.asarray, fn(np.tile([0.0, 0.0, -800.0], (2, 2, 1))))
    assert np.isfinite(value)
    assert np.isnan(gradient).all()


def test_NllBin_is_a_probability(rows):
    bits = np.hstack([rows["bit"], 1 - rows["bit"]])
    p = np.hstack([rows["p"], rows["p"] ** 2])
    np.testing.assert_allclose(
        value(cost.NllBin, bits, p), -stats.bernoulli(p).logpmf(bits).sum(axis=1), rtol=1e-13
    )
    expected = 0.25 * value(cost.NllBin, 0 * bits + 1, p) + 0.75 * value(cost.NllBin, 0 * bits, p)
    np.testing.assert_allclose(value(cost.NllBin, 0 * bits + 0.25, p), expected, rtol=1e-13)


def test_NllMul_and_NllMulInd_are_the_same_probability():
    p = np.random.default_rng(2).dirichlet(np.ones(4), size=5)
    labels = np.array([0, 3, 1, 1, 2])
    expected = -np.log(p[np.arange(5), labels])
    np.testing.assert_allclose(value(cost.NllMul, np.eye(4)[labels], p), expected, rtol=1e-14)
    for y in (labels, labels[:, None], labels.astype(float)):
        np.testing.assert_allclose(value(cost.NllMulInd, y, p), expected, rtol=1e-14)


def test_NllMulInd_refuses():
    with pytest.raises(ValueError, match="y_hat has 3 axes; give a matrix"):
        cost.NllMulInd(pt.lvector(), pt.dtensor3())
    with pytest.raises(IndexError):  # the original takes the next row's first probability
        value(cost.NllMulInd, np.array([2, 0]), np.full((2, 2), 0.5))


def test_MSE(rows):
    y, mu = rows["y"], rows["mu"]
    np.testing.assert_allclose(value(cost.MSE, y, mu), ((y - mu) ** 2).sum(axis=1), rtol=1e-14)
    np.testing.assert_allclose(
        value(cost.MSE, y, mu, use_sum=False), ((y - mu) ** 2).mean(axis=1), rtol=1e-14
    )


def test_Laplace_is_a_density_but_for_log_2(rows):
    """The logarithm of 2 has single precision: 1.9e-9 too much for each dimension."""
    theirs = -stats.laplace(rows["mu"], rows["sig"]).logpdf(rows["y"]).sum(axis=-1)
    ours = value(cost.Laplace, rows["y"], rows["mu"], rows["sig"])
    np.testing.assert_allclose(ours - theirs, 2 * 1.9e-9, rtol=0.01)


def test_free_energy_sums_over_all_hidden_units():
    rng = np.random.default_rng(4)
    v, W, bh, bx = (rng.standard_normal(shape) for shape in ((4, 2), (2, 3), 3, 2))
    sig = rng.uniform(0.5, 2, 2)
    energies = [
        0.5 * (((v - bx) / sig) ** 2).sum(axis=1) - (v / sig) @ W @ h - bh @ h
        for h in map(np.array, product([0, 1], repeat=3))
    ]
    X = [pt.as_tensor(array) for array in (bh, bx, sig)]
    np.testing.assert_allclose(
        value(lambda v, W: cost.grbm_free_energy(v, W, X), v, W),
        -np.log(np.exp(-np.array(energies)).sum(axis=0)),
        rtol=1e-12,
    )


def test_free_energy_does_not_overflow():
    X = [pt.as_tensor(np.array(numbers)) for numbers in ([1000.0, -1000.0], [0.0], [1.0])]
    v, W = np.zeros((1, 1)), np.zeros((1, 2))
    np.testing.assert_array_equal(value(lambda v, W: cost.grbm_free_energy(v, W, X), v, W), -1000)


PROBABILITIES = np.random.default_rng(5).dirichlet(np.ones(3), size=4)
REAL = np.random.default_rng(6).standard_normal((3, 4, 3))
LABELS = pt.as_tensor(np.array([2, 0, 1, 1]))
NEW = {
    "NllBin": (cost.NllBin, PROBABILITIES, PROBABILITIES[::-1]),
    "NllBin of a sigmoid": (lambda y, z: cost.NllBin(y, pt.sigmoid(z)), PROBABILITIES, REAL[0]),
    "NllBin of a unit": (
        lambda y, z: cost.NllBin(y, NonlinCell("sigmoid").nonlin(z)),
        PROBABILITIES,
        REAL[0],
    ),
    "NllMul": (cost.NllMul, PROBABILITIES, PROBABILITIES[::-1]),
    "NllMul of a unit": (
        lambda y, z: cost.NllMul(y, NonlinCell("softmax").nonlin(z)),
        PROBABILITIES,
        REAL[0],
    ),
    "NllMulInd": (lambda y_hat: cost.NllMulInd(LABELS, y_hat), PROBABILITIES),
    "MSE": (cost.MSE, REAL[0], REAL[1]),
    "Laplace": (cost.Laplace, REAL[0], REAL[1], np.exp(REAL[2])),
    "grbm_free_energy": (
        lambda v, W, bh, bx, sig: cost.grbm_free_energy(v, W, [bh, bx, sig]),
        *(REAL[0], REAL[1, :3], REAL[1, 3], REAL[2, 0], np.exp(REAL[2, 1])),
    ),
}


@pytest.mark.parametrize("name", NEW)
def test_gradients(name):
    """Gradients by all inputs, of a weighted sum over rows, by finite differences."""
    build, *values = NEW[name]
    with pytensor.config.change_flags(floatX="float64"), in_python():
        pytensor.gradient.verify_grad(build, values, rng=np.random.default_rng(3))


def cost_and_gradient(build, values, optimizer):
    """Value of a cost of rows, and the gradient of its sum, in double precision."""
    with pytensor.config.change_flags(floatX="float64"):
        x = pt.tensor("x", dtype="float64", shape=values.shape)
        nll = build(x)
        outputs = [nll, pytensor.grad(nll.sum(), x)]
        fn = pytensor.function([x], outputs, mode=Mode(linker="py", optimizer=optimizer))
        with np.errstate(all="ignore"):
            return fn(values)


@pytest.mark.parametrize("optimizer", [None, "fast_run"])
@pytest.mark.parametrize(
    ("bit", "p", "loss", "gradient"),
    [(0, 0, 0, 1), (1, 1, 0, -1), (0, 1, np.inf, np.inf), (1, 0, np.inf, -np.inf)],
)
def test_certain_bits(bit, p, loss, gradient, optimizer):
    """As for pen bits; the original has NaN in the value, too, where a bit is right."""
    y = pt.as_tensor(np.array([[float(bit)]]))
    ours = cost_and_gradient(lambda p: cost.NllBin(y, p), np.array([[float(p)]]), optimizer)
    assert ours[0].item() == loss
    assert ours[1].item() == gradient


LOGITS = np.array([-1000.0, -100, -20, -16, 0, 15, 16, 17, 20, 37, 100, 1000])


@pytest.mark.parametrize("optimizer", [None, "fast_run"])
@pytest.mark.parametrize("shape", [(12, 1), (1, 12), (3, 4), (1, 4, 3), (4, 1, 3), (12,)])
@pytest.mark.parametrize("saturate", [True, False])
def test_saturated_sigmoids(saturate, shape, optimizer, monkeypatch):
    """Costs and gradients where a sigmoid is 0 or 1, for bits and for soft targets."""
    monkeypatch.setattr(NonlinCell, "saturate", saturate)
    sigmoid = NonlinCell("sigmoid").nonlin
    z = LOGITS.reshape(shape)
    for y in (0.0, 1.0, 0.25):
        nll, gradient = cost_and_gradient(
            lambda z, y=y: cost.NllBin(pt.full(shape, y), sigmoid(z)), z, optimizer
        )
        expected = y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)
        # The steps of Theano's softplus and sigmoid are 1.2e-7 and 5.6e-9 high.
        atol = 1.2e-7 if saturate else 1e-15
        np.testing.assert_allclose(nll, expected.sum(axis=-1), rtol=1e-14, atol=atol)
        with np.errstate(over="ignore"):
            slope = 1 / (1 + np.exp(-z)) - y
        np.testing.assert_allclose(gradient, slope, rtol=1e-14, atol=5.7e-9 if saturate else 1e-15)


def test_saturated_sigmoids_are_theanos():
    """The softplus is x above 16; the gradient is 1 - sigmoid(z), 0 above 19, not sigmoid(-z)."""
    z = np.array([[18.9], [19.1], [-19.1]])
    sigmoid = NonlinCell("sigmoid").nonlin
    wrong, _ = cost_and_gradient(lambda z: cost.NllBin(pt.zeros((3, 1)), sigmoid(z)), z, None)
    np.testing.assert_array_equal(wrong[:2], [18.9, 19.1])
    _, gradient = cost_and_gradient(lambda z: cost.NllBin(pt.ones((3, 1)), sigmoid(z)), z, None)
    s = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(gradient[[0, 2]], s[[0, 2]] - 1, rtol=1e-14)
    assert gradient[1] == 0


@pytest.mark.parametrize("part", [lambda p: p[:, :2], lambda p: p.reshape((2, 3)), lambda p: p.T])
def test_parts_of_saturated_sigmoids(part):
    """Whether a rule applies to them or not, bits that are certain and right cost nothing."""
    z = np.array([[800.0, -800.0, 800.0], [-800.0, 800.0, 800.0]])
    y = part(pt.as_tensor((z > 0).astype(float)))
    nll, gradient = cost_and_gradient(
        lambda z: cost.NllBin(y, part(NonlinCell("sigmoid").nonlin(z))), z, "fast_run"
    )
    np.testing.assert_array_equal(nll, 0)
    np.testing.assert_array_equal(gradient, 0)


def test_a_reshaped_sigmoid_is_as_stable():
    """Bits that are certain and wrong cost the argument, as those of the sigmoid itself."""
    z = np.array([[800.0, -800.0], [40.0, -40.0]])
    sigmoid = NonlinCell("sigmoid").nonlin
    y = (z < 0).astype(float).reshape(1, 4)
    nll, gradient = cost_and_gradient(
        lambda z: cost.NllBin(pt.as_tensor(y), sigmoid(z).reshape((1, 4))), z, None
    )
    np.testing.assert_array_equal(nll, [1680])
    np.testing.assert_array_equal(gradient, [[1, -1], [1, -1]])


@pytest.mark.parametrize("optimizer", [None, "fast_run"])
@pytest.mark.parametrize("rows", [1, 3])
def test_saturated_softmax(rows, optimizer):
    """The probability is 0, its logarithm is not; the original's gradient is NaN."""
    softmax = NonlinCell("softmax").nonlin
    z = np.tile([0.0, 1000.0, -1000.0], (rows, 1))
    for label, loss in enumerate([1000, 0, 2000]):
        y = np.eye(3)[[label] * rows]
        labels = pt.as_tensor(np.full(rows, label))
        for build in (
            lambda z, y=y: cost.NllMul(pt.as_tensor(y), softmax(z)),
            lambda z, labels=labels: cost.NllMulInd(labels, softmax(z)),
        ):
            nll, gradient = cost_and_gradient(build, z, optimizer)
            np.testing.assert_array_equal(nll, loss)
            np.testing.assert_array_equal(gradient, np.tile([0, 1, 0], (rows, 1)) - y)


def test_excluded_classes_cost_nothing():
    """A class whose weight before the softmax is -inf has probability 0."""
    z = np.array([[0.0, -np.inf, 0.0]])
    y = pt.as_tensor(np.array([[1.0, 0.0, 0.0]]))
    softmax = NonlinCell("softmax").nonlin
    nll, gradient = cost_and_gradient(lambda z: cost.NllMul(y, softmax(z)), z, "fast_run")
    np.testing.assert_allclose(nll, np.log(2), rtol=1e-15)
    np.testing.assert_allclose(gradient, [[-0.5, 0, 0.5]], rtol=1e-15)


@pytest.mark.parametrize("floatX", FLOATS)
def test_costs_keep_their_precision(floatX):
    y, p = pt.matrix(dtype=floatX), pt.matrix(dtype=floatX)
    sigmoid, softmax = (NonlinCell(unit).nonlin(p) for unit in ("sigmoid", "softmax"))
    costs = [cost.NllBin(y, p), cost.NllBin(y, sigmoid), cost.NllMul(y, p), cost.MSE(y, p)]
    costs += [cost.NllMul(y, softmax), cost.Laplace(y, p, p)]
    costs += [cost.grbm_free_energy(y, p, [p[0], p[0], p[0]])]
    assert {nll.dtype for nll in costs} == {floatX}
