"""Preparation of data: what was recorded is repeated by `compare.units.data`."""

import numpy as np
import pytest

from compare.units import data as data_units
from compare.units.data import SEQUENTIAL, STATIC
from tests.recordings import read

REFERENCE = read("units_data_float64.npz")
CASES = list(data_units.repeat_data(REFERENCE))


def split(key):
    return data_units.split(REFERENCE, key)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: CASES[n][0])
def test_recorded(number):
    """Integers the same, numbers to rounding, dtypes too."""
    case, ours = CASES[number]
    for name, value in ours.items():
        theirs = REFERENCE[f"{case}/{name}"]
        assert value.dtype == theirs.dtype, name
        assert value.shape == theirs.shape, name
        if theirs.dtype.kind == "i":
            np.testing.assert_array_equal(value, theirs, err_msg=name)
        else:
            np.testing.assert_allclose(value, theirs, rtol=1e-13, atol=1e-14, err_msg=name)


def test_all_recorded_cases_are_there():
    repeated = {f"{case}/{name}" for case, ours in CASES for name in ours}
    inputs = ("in", "second", "lengths", "joined", "kw", "n")
    left = {
        key
        for key in set(REFERENCE) - repeated
        if not key.startswith(("meta/", "attempts/")) and key.rpartition("/")[2] not in inputs
    }
    # Single arrays of other tests.
    assert left == {
        "iterator/infinite/count",
        "sequential/fft_in",
        "series/dtype_of_mask",
        "series/even_in",
        "series/even_slices",
    }


def test_static_integers_are_divided_as_in_python_2():
    x, x_max, x_min = STATIC.standardize([[3, 7], [5, 11]])
    assert x.tolist() == [[0, 0], [0, 1]]
    assert (x_max, x_min) == (11, 3)


def test_static_axis():
    x = REFERENCE["static/in"]
    for ours, theirs in zip(STATIC.normalize(x, axis=None), STATIC.global_normalize(x)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("method", data_units.SCALINGS)
def test_given_statistics_come_back(method):
    _, first, second = getattr(STATIC, method)(REFERENCE["static/in"])
    _, *given = getattr(STATIC, method)(REFERENCE["static/second"], first, second)
    assert given[0] is first
    assert given[1] is second


def test_sequences_of_one_shape_become_one_array():
    out, *_ = SEQUENTIAL.standardize([np.array([0.0, 1.0]), np.array([2.0, 4.0])])
    assert out.tolist() == [[0, 0.25], [0.5, 1]]


def test_norm_normalize():
    sequences = split("sequential/norm_normalize/in")
    before = [x.copy() for x in sequences]
    SEQUENTIAL.norm_normalize(sequences)
    assert all((x == y).all() for x, y in zip(sequences, before))
    again, given = SEQUENTIAL.norm_normalize(sequences, avr_norm=2.0)
    assert given == 2.0
    np.testing.assert_array_equal(again[1], before[1] / 2)


def test_fill_zero_at_random_keeps_the_sequence_together():
    sequences = [np.array([1.0, 2.0]), np.ones(9)]
    lefts = set()
    for seed in range(30):
        filled = SEQUENTIAL.fill_zero(sequences, mode="random", rng=np.random.default_rng(seed))
        left = int(np.flatnonzero(filled[0])[0])
        assert filled[0, left : left + 2].tolist() == [1, 2]
        assert filled[0].sum() == 3
        lefts.add(left)
    assert min(lefts) == 0
    assert max(lefts) == 7
    assert SEQUENTIAL.fill_zero1D([5.0], 2, "random").tolist() == [0, 0, 5, 0, 0]


@pytest.mark.parametrize("pad_len", [0, 2])
def test_fill_zero_refuses_other_modes(pad_len):
    with pytest.raises(ValueError, match="'middle'"):
        SEQUENTIAL.fill_zero([np.ones(2), np.ones(3)], pad_len, "middle")
