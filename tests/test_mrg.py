"""MRG31k3p: every draw that was recorded of Theano's, from its seed alone.

Whole numbers, and with them uniform, binomial and multinomial draws, are the same
bit for bit; normal draws pass through functions of the C library.
"""

import json

import numpy as np
import pytensor
import pytest

from cle_port.errors import UserError
from cle_port.utils.mrg import M1, M2, MRG_RandomStreams, Streams, guess_n_streams
from tests.recordings import below, read
from tests.units import FLOATS

SEEDS = (142, 12345, 1073741831)
EACH_SEED = pytest.mark.parametrize("seed", SEEDS)
EACH_DTYPE = pytest.mark.parametrize("dtype", FLOATS)

# What was asked for, in the order of the blocks; what differs from the defaults.
CONSTANT = ("normal", "uniform", "normal_shifted", "uniform_range", "binomial")
SYMBOLIC = ("normal", "normal_3d", "uniform", "binomial")
SHIFTED = {"avg": 1.5, "std": 0.25}
RANGE = {"low": -2.0, "high": 3.0}
P = {CONSTANT: 0.3, SYMBOLIC: 0.6}


@pytest.fixture(params=FLOATS)
def floatX(request):
    """Precision of the program; draws may ask for another one."""
    with pytensor.config.change_flags(floatX=request.param):
        yield request.param


def recorded(prefix, floatX):
    return below(read(f"units_random_{floatX}.npz"), prefix)


def draw(what, streams, size, dtype, p):
    return {
        "normal": lambda: streams.normal(size, dtype=dtype),
        "normal_3d": lambda: streams.normal((size[0], 1, *size[1:]), dtype=dtype),
        "normal_shifted": lambda: streams.normal(size, **SHIFTED, dtype=dtype),
        "uniform": lambda: streams.uniform(size, dtype=dtype),
        "uniform_range": lambda: streams.uniform(size, **RANGE, dtype=dtype),
        "binomial": lambda: streams.binomial(size, p=p, dtype=dtype),
    }[what]()


def assert_same(ours, theirs, what):
    assert ours.dtype == theirs.dtype
    if not what.startswith("normal"):
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
        return
    # Functions of the C library: another one may round another way, after a shift
    # by the largest of the terms.
    rounding = 4 * np.finfo(theirs.dtype).eps
    atol = rounding * SHIFTED["avg"] if what == "normal_shifted" else 0
    np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=atol, err_msg=what)


def shape_of(tag):
    return tuple(int(n) for n in tag.split("x"))


def n_streams_of(what, size):
    """Streams of a draw of constant size; normal ones take an even number."""
    n_samples = int(np.prod(size))
    return guess_n_streams((n_samples + n_samples % 2,) if "normal" in what else size)


@EACH_DTYPE
@EACH_SEED
@pytest.mark.parametrize("tag", ["1", "5", "6", "7", "3x4", "3x5", "2x3x5"])
def test_constant_sizes(seed, dtype, tag, floatX):
    calls = recorded(f"mrg/seed{seed}/{dtype}/constant/{tag}", floatX)
    generator, size = MRG_RandomStreams(seed), shape_of(tag)
    assert len(calls) == 3 * len(CONSTANT)
    for what in CONSTANT:
        streams = generator.block(n_streams_of(what, size))
        for call in range(3):
            ours = draw(what, streams, size, dtype, P[CONSTANT])
            assert_same(ours, calls[f"{what}/call{call}"], what)


@EACH_DTYPE
@EACH_SEED
@pytest.mark.parametrize("tag", ["4x1", "3x4", "3x5"])
def test_symbolic_sizes(seed, dtype, tag, floatX):
    calls = recorded(f"mrg/seed{seed}/{dtype}/symbolic/{tag}", floatX)
    generator, size = MRG_RandomStreams(seed), shape_of(tag)
    for what in SYMBOLIC:
        streams = generator.block()
        for call in range(3):
            ours = draw(what, streams, size, dtype, P[SYMBOLIC])
            assert_same(ours, calls[f"{what}/call{call}"], what)
        if f"{what}/state_after" in calls:
            rstates = calls[f"{what}/state_after"]
            np.testing.assert_array_equal(streams.rstates[: len(rstates)], rstates)
            assert len(streams.rstates) == calls[f"{what}/n_streams"]


@EACH_DTYPE
@EACH_SEED
def test_more_numbers_than_streams(seed, dtype, floatX):
    streams = MRG_RandomStreams(seed).block()
    for call in range(2):
        theirs = recorded(f"mrg/seed{seed}/{dtype}/symbolic/40001/normal/call{call}", floatX)
        ours = streams.normal(tuple(theirs["shape"].tolist()), dtype=dtype)
        assert_same(ours[:64], theirs["first"], "normal")
        assert_same(ours[-64:], theirs["last"], "normal")
        ours = ours.astype(float)
        rtol = np.finfo(dtype).eps
        np.testing.assert_allclose(np.sum(ours**2), theirs["sumsq"], rtol=rtol)
        atol = rtol * np.abs(ours).sum()
        np.testing.assert_allclose(ours.sum(), theirs["sum"], rtol=0, atol=atol)


@EACH_DTYPE
@EACH_SEED
def test_draws_inside_scan(seed, dtype, floatX):
    """One draw a step; each call goes on where the one before has ended, in any size."""
    streams = MRG_RandomStreams(seed).block()
    for tag in ("4x3x5", "3x2x4"):
        calls = recorded(f"mrg/seed{seed}/{dtype}/scan/{tag}/noise", floatX)
        assert len(calls) == 2
        for theirs in calls.values():
            ours = np.stack([streams.normal(step.shape, dtype=dtype) for step in theirs])
            assert_same(ours, theirs, "normal")


@EACH_DTYPE
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_multinomial(seed, dtype, floatX):
    calls = recorded(f"multinomial/seed{seed}/{dtype}", floatX)
    generator = MRG_RandomStreams(seed)
    first, second = generator.block(), generator.block()
    for call in range(3):
        assert_same(first.multinomial(calls["pvals"], dtype), calls[f"call{call}"], "")
        assert_same(second.multinomial(calls["pvals"]), calls[f"second_call{call}"], "")


def test_multinomial_without_enough_probability():
    draws = MRG_RandomStreams(1).block().multinomial(np.tile([0.25, 0.25], (400, 1)))
    assert 0 < (draws.sum(axis=1) == 0).sum() < 400
    assert draws.sum(axis=1).max() == 1


@EACH_SEED
@pytest.mark.parametrize("case", ["k1", "k3"])
@pytest.mark.parametrize("function", ["GMM_sample", "GMM_sample_mean", "GMM_argmax_mean"])
def test_draws_of_a_mixture(function, case, seed, floatX):
    """First a component, unless the likeliest is taken, then the noise."""
    arrays = recorded(f"{function}/seed{seed}/{case}", floatX)
    generator = MRG_RandomStreams(seed)
    choice = generator.block() if function != "GMM_argmax_mean" else None
    noise = generator.block()
    for call in range(2):
        if choice:
            ours = choice.multinomial(arrays["coeff"], floatX)
            assert_same(ours, arrays[f"choice/call{call}"], "")
        theirs = arrays[f"eps/call{call}"]
        assert_same(noise.normal(theirs.shape), theirs, "normal")


@EACH_SEED
@pytest.mark.parametrize("case", ["numNone", "num1", "num4"])
def test_draws_of_Gaussian_sample(case, seed, floatX):
    streams = MRG_RandomStreams(seed).block()
    for theirs in recorded(f"Gaussian_sample/seed{seed}/{case}/eps", floatX).values():
        assert_same(streams.normal(theirs.shape), theirs, "normal")


@EACH_SEED
def test_streams(seed):
    recording = recorded(f"mrg/seed{seed}/substreams", "float64")
    generator = MRG_RandomStreams(seed)
    for which in ("first", "second"):
        np.testing.assert_array_equal(generator.block(12).rstates, recording[which])
    large = recording["large_last"]
    last = MRG_RandomStreams(seed).block().rstates[-len(large) :]
    np.testing.assert_array_equal(last, large)


def test_six_numbers_as_seed():
    recording = recorded("mrg/six_numbers", "float64")
    streams = MRG_RandomStreams(recording["seed"].tolist()).block(n_streams_of("normal", (3, 3)))
    assert_same(streams.normal((3, 3), dtype="float64"), recording["normal"], "normal")


@EACH_DTYPE
def test_ends_of_the_open_interval(dtype):
    """Where the recurrences give equal numbers, and where they are one apart."""
    largest = Streams([1, 0, 0, 0, 1, 0], 1).uniform((1,), dtype=dtype)
    smallest = Streams([0, 0, pow(129, -1, M1), 0, 1, 0], 1).uniform((1,), dtype=dtype)
    assert 0 < smallest <= 2.0**-31
    assert 1 - 2.0**-23 < largest < 1


@pytest.mark.parametrize("seed", [0, -1, M2, [1, 2, 3], [0, 0, 0, 1, 1, 1], [1, 1, 1, M2, 1, 1]])
def test_seeds_that_cannot_be(seed):
    with pytest.raises(UserError, match="cannot seed MRG31k3p; give a number from 1 to"):
        MRG_RandomStreams(seed)


def test_state_through_json():
    """Of streams that have drawn different numbers of times, some not at all."""
    streams = MRG_RandomStreams(7).block(40)
    for size in (90, 3, 41):
        streams.uniform((size,))
    other = Streams([1, 2, 3, 4, 5, 6], 40)
    other.state = json.loads(json.dumps(streams.state))
    np.testing.assert_array_equal(other.rstates, streams.rstates)
    assert other.state == streams.state
    np.testing.assert_array_equal(other.uniform((50,)), streams.uniform((50,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "PCG64"}, "not the state of MRG31k3p streams"),
        ({"start": [0] * 6}, "is damaged"),
        ({"drawn": [[-1, 8]]}, "is damaged"),
        ({"drawn": [[1, 9], [0, -1]]}, "is damaged"),
        ({"drawn": [[1, 4], [0, 5]]}, "the state has 9 streams; there are 8"),
    ],
)
def test_states_that_cannot_be(change, message):
    streams = Streams([1] * 6, 8)
    before = streams.state
    with pytest.raises(ValueError, match=message):
        streams.state = before | change
    assert streams.state == before
