"""Costs and their gradients against the original's, and against SciPy."""

from functools import cache

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
from tests.units import FLOATS, Graph, case_names, check_case, evaluate, recorded

COSTS = ("Gaussian", "GMM", "BiGauss", "BiGMM", "KLGaussianGaussian", "KLGaussianStdGaussian")
CASES = case_names("costs", *COSTS)


def compiled(case, floatX, static):
    return Graph(cost_of(case), recorded("costs", case, floatX), static)


@cache
def graph_for(name, ndim, keep_dims, floatX):
    """Compile one graph for all cases of a cost, without static shapes."""
    case = next(
        case
        for case in CASES
        if case.startswith(f"{name}/")
        and case.endswith("keep_dims1") == keep_dims
        and recorded("costs", case, floatX)["out"].ndim == ndim
    )
    return compiled(case, floatX, static=False)


def tolerance(case, floatX):
    """Relative difference allowed: twice what the recordings' README says of float32."""
    if floatX == "float64":
        return 1e-13
    return 2 * (4e-5 if "extreme" in case else 1e-6)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", CASES)
def test_recorded(case, floatX):
    """Values and gradients; at pen bits that the original cannot differentiate, finite ones."""
    arrays = recorded("costs", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = graph_for(
            case.split("/")[0], arrays["out"].ndim, case.endswith("keep_dims1"), floatX
        )
    ours = graph(arrays)
    check_case(ours, arrays, tolerance(case, floatX))


@pytest.mark.parametrize(
    "case",
    ["Gaussian/one", "GMM/k1", "GMM/one_dim", "BiGauss/one_row", "BiGMM/one_row", "BiGMM/k1"],
)
def test_static_shapes(case):
    """The programs give PyTensor the shapes; axes of length 1 then broadcast of themselves."""
    arrays = recorded("costs", case)
    with pytensor.config.change_flags(floatX="float64"):
        check_case(compiled(case, "float64", static=True)(arrays), arrays, 1e-13)


def test_all_recorded_cases_are_there():
    assert len(CASES) == 31
    assert {case.split("/")[0] for case in CASES} == set(COSTS)


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
