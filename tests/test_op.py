"""Symbolic helpers, and those for frames of sound, against the original's."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.utils.op import (
    Gaussian_sample,
    add_noise,
    add_noise_params,
    batch_overlap_sum,
    complex_to_real,
    dropout,
    logsumexp,
    not_finite,
    numpy_irfft,
    numpy_rfft,
    overlap_sum,
    real_to_complex,
)
from compare.units.costs import cost_of
from compare.units.helpers import OF_ARRAYS, dropped_out, with_noise
from compare.units.sampling import samples
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

# Differences allowed in float32 are twice those that the recordings' README states.
RTOL = {"float64": 1e-13, "float32": 2e-6}


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("case", case_names("costs", "logsumexp"))
def test_logsumexp(case, floatX):
    arrays = recorded("costs", case, floatX)
    with pytensor.config.change_flags(floatX=floatX):
        graph = Graph(cost_of(case), arrays)
    check_case(graph(arrays), arrays, RTOL[floatX])


def test_logsumexp_of_everything():
    x = pt.dmatrix()
    array = np.array([[0.0, 1000.0], [999.0, -1000.0]])
    ours = evaluate(logsumexp(x), {x: array})
    assert ours.shape == ()
    np.testing.assert_allclose(ours, 1000 + np.log1p(np.exp(-1)), rtol=1e-15)


# Noise


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout(p, floatX):
    """The original's mask, from its seed."""
    case = recorded("utils", f"dropout/p{p}", floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = dropped_out(p, case)
    assert ours.dtype == case["out"].dtype == floatX
    np.testing.assert_array_equal(ours, case["out"])
    assert 0 < (ours == 0).sum() < ours.size


@pytest.mark.parametrize(("p", "kept"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_dropout_keeps_p_of_all(p, kept):
    x, u = pt.dvector(), pt.dvector()
    values = {x: np.full(100, 2.0), u: np.arange(100) / 100}
    assert evaluate(dropout(x, p, u=u), values).mean() == 2 * kept


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_dropout_refuses(p):
    with pytest.raises(ValueError, match="give a probability between 0 and 1"):
        dropout(pt.vector(), p, u=pt.vector())


@pytest.mark.parametrize("floatX", FLOATS)
def test_add_noise(floatX):
    """The original's noise, from its seed, within the rounding of one sum."""
    case = recorded("utils", "add_noise", floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = with_noise(case)
    assert ours.dtype == case["out"].dtype == floatX
    np.testing.assert_allclose(ours, case["out"], rtol=np.finfo(floatX).eps)
    assert (ours != case["in"]).all()


def test_add_noise_params():
    """A name with two keys gets noise once; the default key is W."""
    names = ("W_x__h", "b_h", "W_U")
    params = {name: pt.dvector(name) for name in names}
    eps = {name: pt.dvector(f"eps_{name}") for name in names}
    values = {p: np.array([1.0, 2.0]) for p in params.values()}
    values |= {e: np.array([0.5, -1.0]) for e in eps.values()}
    for keys, noisy in (
        ({}, (1, 0, 1)),
        ({"keys": ["W", "U"]}, (1, 0, 1)),
        ({"keys": "b"}, (0, 1, 0)),
    ):
        ours = add_noise_params(params, **keys, std_dev=0.25, eps=eps)
        assert list(ours) == list(names)
        for value, times in zip(evaluate(list(ours.values()), values), noisy):
            np.testing.assert_array_equal(value, [1 + times * 0.125, 2 - times * 0.25])
    assert add_noise_params(params, keys=["c"], eps={}) == params


def test_add_noise_params_without_noise():
    params = {"W": pt.dvector(), "W_2": pt.dvector(), "b": pt.dvector()}
    with pytest.raises(ValueError, match="eps has no noise for W_2; give it for all of"):
        add_noise_params(params, eps={"W": pt.dvector()})


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("num", ["num1", "numNone", "num4"])
@pytest.mark.parametrize("case", case_names("random", "Gaussian_sample"))
def test_Gaussian_sample(case, num, floatX):
    """With the original's noise, its samples, to the last bit but one."""
    arrays = recorded("random", f"{case}/{num}", floatX)
    ours = samples("Gaussian_sample", arrays)
    assert set(ours) == {name for name in arrays if name.startswith("out/")}
    for name, value in ours.items():
        theirs = arrays[name]
        assert value.dtype == theirs.dtype == floatX
        assert value.shape == theirs.shape
        rounding = np.abs(theirs).max() * np.finfo(floatX).eps
        np.testing.assert_allclose(value, theirs, rtol=0, atol=rounding)


@pytest.mark.parametrize("shape", [(None, None), (None, 3, None), (None, None, None, None)])
def test_Gaussian_sample_refuses_noise_of_another_shape(shape):
    mu, eps = pt.dmatrix(), pt.tensor(dtype="float64", shape=shape)
    with pytest.raises(ValueError, match=r"4 samples need eps of shape \(batch, 4, dim\), not of"):
        Gaussian_sample(mu, mu, eps, num_sample=4)


GRAPHS = {
    "dropout": ((lambda x, u: dropout(x, 0.3, u=u)), [(3, 4), (3, 4)], [0]),
    "add_noise": ((lambda x, eps: add_noise(x, eps=eps)), [(3, 4), (3, 4)], [0, 1]),
    "Gaussian_sample": (
        (lambda mu, sig, eps: Gaussian_sample(mu, sig, eps, 4)),
        [(2, 3), (2, 3), (2, 4, 3)],
        [0, 1, 2],
    ),
    "logsumexp": ((lambda x: logsumexp(x, axis=1)), [(3, 4)], [0]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients(name):
    """By finite differences; the uniform numbers of dropout stay, where it is not smooth."""
    graph, shapes, wrt = GRAPHS[name]
    rng = np.random.default_rng(5)
    values = [rng.uniform(size=shape) for shape in shapes]

    def of_some(*some):
        symbols = dict(zip(wrt, some))
        return graph(*(symbols.get(i, pt.constant(value)) for i, value in enumerate(values)))

    with in_python():
        pytensor.gradient.verify_grad(of_some, [values[i] for i in wrt], rng=rng)


# Frames of sound


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", case_names("utils", "overlap_sum", "batch_overlap_sum"))
def test_overlap_sum(name, floatX):
    """To the last bit."""
    case = recorded("utils", name, floatX)
    function, overlap = name.split("/")
    ours = {"overlap_sum": overlap_sum, "batch_overlap_sum": batch_overlap_sum}[function](
        case["in"], int(overlap)
    )
    assert ours.dtype == case["out"].dtype == "float32"
    np.testing.assert_array_equal(ours, case["out"])


def test_overlap_sum_undoes_windows():
    """But for the first and last entry, where the window is 0."""
    rng = np.random.default_rng(2)
    signal = rng.normal(size=28)
    window = np.hanning(8)
    frames = [signal[t : t + 8] * window for t in range(0, 24, 4)]
    np.testing.assert_allclose(overlap_sum(frames, 4)[2:-2], signal[2:-2], rtol=1e-5)
    (batched,) = batch_overlap_sum([frames], 4)
    np.testing.assert_allclose(batched[1:-1], signal[1:-1], rtol=1e-3)


def test_overlap_sum_of_frames_of_one_entry():
    np.testing.assert_array_equal(overlap_sum([[2.0], [3.0]], 1), [2, 3])


@pytest.mark.parametrize(
    ("function", "shape", "overlap", "message"),
    [
        (overlap_sum, (2, 3, 4), 2, "X has 3 dimensions; give an array of 2"),
        (batch_overlap_sum, (3, 4), 2, "X has 2 dimensions; give an array of 3"),
        (overlap_sum, (3, 4), -1, "overlap is -1; give the entries between"),
    ],
)
def test_overlap_sum_refuses(function, shape, overlap, message):
    with pytest.raises(ValueError, match=message):
        function(np.zeros(shape), overlap)


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("name", OF_ARRAYS)
def test_complex_and_Fourier_helpers(name, floatX):
    case = recorded("utils", name, floatX)
    ours = OF_ARRAYS[name](case["in"])
    assert ours.dtype == case["out"].dtype
    np.testing.assert_allclose(ours, case["out"], rtol=0, atol=1e-14)


def test_helpers_and_their_inverses():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 8))
    np.testing.assert_array_equal(complex_to_real(real_to_complex(x)), x)
    np.testing.assert_allclose(numpy_irfft(numpy_rfft(x)), x, atol=1e-15)


def test_Fourier_transform_is_double():
    x = np.arange(8, dtype="float32")[None]
    assert numpy_rfft(x).dtype == "complex128"
    assert numpy_irfft(x.astype("complex64")).dtype == "float64"


def test_real_to_complex_refuses_half_a_number():
    with pytest.raises(ValueError, match="vectors of 3 entries have no halves"):
        real_to_complex(np.zeros((2, 3)))


# Not a number


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0,), False),
        ((1.0, -2.0), False),
        ((np.nan,), True),
        ((1.0, np.inf), True),
        ((-np.inf, 0.0, 1.0), True),
    ],
)
def test_not_finite(values, expected):
    scalars = [pt.dscalar() for _ in values]
    assert compile_plainly(scalars, not_finite(*scalars))(*values) == expected
