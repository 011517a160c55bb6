"""MRG31k3p: every draw that was recorded of Theano's, from its seed alone.

Whole numbers, and with them uniform, binomial and multinomial draws, are the same
bit for bit; normal draws pass through functions of the C library.
"""

import json

import numpy as np
import pytensor
import pytest

from cle_port.errors import UserError
from cle_port.utils.mrg import M1, M2, MRG_RandomStreams, Streams
from compare.units.sampling import (
    CONSTANT,
    SHIFTED,
    SYMBOLIC,
    constant_draws,
    long_draws,
    multinomial_draws,
    noise_of,
    scan_draws,
    six_numbers,
    substreams,
    symbolic_draws,
)
from tests.recordings import below, read
from tests.units import FLOATS

SEEDS = (142, 12345, 1073741831)
KS = ("k1", "k3")
EACH_SEED = pytest.mark.parametrize("seed", SEEDS)
EACH_DTYPE = pytest.mark.parametrize("dtype", FLOATS)


@pytest.fixture(params=FLOATS)
def floatX(request):
    """Precision of the program; draws may ask for another one."""
    with pytensor.config.change_flags(floatX=request.param):
        yield request.param


def recorded(prefix, floatX):
    return below(read(f"units_random_{floatX}.npz"), prefix)


def assert_same(ours, theirs, what):
    assert ours.dtype == theirs.dtype
    if not what.startswith("normal"):
        np.testing.assert_array_equal(ours, theirs, err_msg=what)
        return
    # Functions of the C library: another one may round another way, after a shift
    # by the largest of the terms.
    rounding = 4 * np.finfo(theirs.dtype).eps
    atol = rounding * SHIFTED["avg"] if what.startswith("normal_shifted") else 0
    np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=atol, err_msg=what)


def shape_of(tag):
    return tuple(int(n) for n in tag.split("x"))


def assert_all_same(ours, theirs):
    for name, value in ours.items():
        assert_same(value, theirs[name], name)


@EACH_DTYPE
@EACH_SEED
@pytest.mark.parametrize("tag", ["1", "5", "6", "7", "3x4", "3x5", "2x3x5"])
def test_constant_sizes(seed, dtype, tag, floatX):
    calls = recorded(f"mrg/seed{seed}/{dtype}/constant/{tag}", floatX)
    ours = constant_draws(seed, dtype, shape_of(tag))
    assert set(ours) == set(calls)
    assert len(calls) == 3 * len(CONSTANT)
    assert_all_same(ours, calls)


@EACH_DTYPE
@EACH_SEED
@pytest.mark.parametrize("tag", ["4x1", "3x4", "3x5"])
def test_symbolic_sizes(seed, dtype, tag, floatX):
    calls = recorded(f"mrg/seed{seed}/{dtype}/symbolic/{tag}", floatX)
    ours = symbolic_draws(seed, dtype, shape_of(tag), calls)
    assert set(ours) == set(calls)
    assert len(calls) >= 3 * len(SYMBOLIC)
    states = {name for name in calls if "/call" not in name}
    for name in states:
        np.testing.assert_array_equal(ours[name], calls[name])
    assert_all_same({name: ours[name] for name in calls.keys() - states}, calls)


@EACH_DTYPE
@EACH_SEED
def test_more_numbers_than_streams(seed, dtype, floatX):
    """The sum of all is as exact as the numbers are, not as it is small."""
    calls = recorded(f"mrg/seed{seed}/{dtype}/symbolic/40001", floatX)
    ours = long_draws(seed, dtype, calls)
    assert set(ours) == set(calls)
    for call in range(2):
        prefix = f"normal/call{call}"
        for part in ("first", "last"):
            assert_same(ours[f"{prefix}/{part}"], calls[f"{prefix}/{part}"], "normal")
        rtol = np.finfo(dtype).eps
        sumsq = calls[f"{prefix}/sumsq"]
        np.testing.assert_allclose(ours[f"{prefix}/sumsq"], sumsq, rtol=rtol)
        atol = 0.75 * rtol * sumsq  # 0.75 of the sum of squares is below the sum of absolute values
        np.testing.assert_allclose(ours[f"{prefix}/sum"], calls[f"{prefix}/sum"], rtol=0, atol=atol)


@EACH_DTYPE
@EACH_SEED
def test_draws_inside_scan(seed, dtype, floatX):
    """One draw a step; each call goes on where the one before has ended, in any size."""
    calls = recorded(f"mrg/seed{seed}/{dtype}/scan", floatX)
    ours = scan_draws(seed, dtype, calls)
    assert set(ours) == set(calls)
    assert len(calls) == 4
    for name, value in ours.items():
        assert_same(value, calls[name], "normal")


@EACH_DTYPE
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_multinomial(seed, dtype, floatX):
    calls = recorded(f"multinomial/seed{seed}/{dtype}", floatX)
    ours = multinomial_draws(seed, dtype, calls)
    assert set(ours) == set(calls) - {"pvals"}
    assert_all_same(ours, calls)


def test_multinomial_without_enough_probability():
    draws = MRG_RandomStreams(1).block().multinomial(np.tile([0.25, 0.25], (400, 1)))
    assert 0 < (draws.sum(axis=1) == 0).sum() < 400
    assert draws.sum(axis=1).max() == 1


@EACH_SEED
@pytest.mark.parametrize(
    ("function", "case"),
    [
        *((f"GMM_{kind}", k) for kind in ("sample", "sample_mean", "argmax_mean") for k in KS),
        *(("Gaussian_sample", case) for case in ("numNone", "num1", "num4")),
    ],
)
def test_noise_of_sampling_functions(function, case, seed, floatX):
    """First a component, unless the likeliest is taken, then the noise."""
    arrays = recorded(f"{function}/seed{seed}/{case}", floatX)
    ours = noise_of(function, seed, arrays)
    assert set(ours) == {name for name in arrays if name.startswith(("choice/", "eps/"))}
    for name, value in ours.items():
        assert_same(value, arrays[name], name.replace("eps", "normal"))


@EACH_SEED
def test_streams(seed):
    recording = recorded(f"mrg/seed{seed}/substreams", "float64")
    ours = substreams(seed, recording)
    assert set(ours) == set(recording)
    for name, states in ours.items():
        np.testing.assert_array_equal(states, recording[name])


def test_six_numbers_as_seed():
    recording = recorded("mrg/six_numbers", "float64")
    assert_same(six_numbers(recording)["normal"], recording["normal"], "normal")


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
