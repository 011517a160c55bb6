from pathlib import Path

import numpy as np
import pytest

from cle_port.data.prep import SequentialPrepMixin, StaticPrepMixin

REFERENCE = np.load(Path(__file__).parent / "reference" / "units_data_float64.npz")
STATIC = StaticPrepMixin()
SEQUENTIAL = SequentialPrepMixin()


def split(key):
    ends = np.cumsum(REFERENCE[key + "/lengths"])
    return list(np.split(REFERENCE[key + "/joined"], ends[:-1]))


def as_objects(sequences):
    array = np.empty(len(sequences), dtype=object)
    for i, sequence in enumerate(sequences):
        array[i] = sequence
    return array


def assert_same(found, key):
    expected = split(key)
    assert len(found) == len(expected)
    for x, y in zip(found, expected):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("method", ["normalize", "global_normalize", "standardize"])
def test_static(method):
    prepare, key = getattr(STATIC, method), f"static/{method}"
    out, first, second = prepare(REFERENCE["static/in"])
    for found, name in [(out, "out0"), (first, "out1"), (second, "out2")]:
        np.testing.assert_allclose(found, REFERENCE[f"{key}/{name}"], rtol=1e-13, atol=1e-14)
    applied, *given = prepare(REFERENCE["static/second"], first, second)
    np.testing.assert_allclose(applied, REFERENCE[key + "/second"], rtol=1e-13)
    assert given[0] is first
    assert given[1] is second


def test_static_integers_are_divided_as_in_python_2():
    x, x_max, x_min = STATIC.standardize([[3, 7], [5, 11]])
    assert x.tolist() == [[0, 0], [0, 1]]
    assert (x_max, x_min) == (11, 3)


def test_static_axis():
    x = REFERENCE["static/in"]
    for ours, theirs in zip(STATIC.normalize(x, axis=None), STATIC.global_normalize(x)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["float", "int", "flat"])
@pytest.mark.parametrize("method", ["global_normalize", "standardize"])
@pytest.mark.parametrize("form", ["array", "list"])
def test_sequential(kind, method, form):
    prepare, key = getattr(SEQUENTIAL, method), f"sequential/{kind}/{method}_{form}"
    arrange = as_objects if form == "array" else list
    out, first, second = prepare(arrange(split(f"sequential/{kind}/in")))
    assert_same(out, key + "/out")
    np.testing.assert_allclose(first, REFERENCE[key + "/first"], rtol=1e-14)
    np.testing.assert_allclose(second, REFERENCE[key + "/second"], rtol=1e-14)
    applied, *_ = prepare(arrange(split(f"sequential/{kind}/second")), first, second)
    assert_same(applied, key + "/applied")


def test_sequences_of_one_shape_become_one_array():
    out, *_ = SEQUENTIAL.standardize([np.array([0.0, 1.0]), np.array([2.0, 4.0])])
    assert out.tolist() == [[0, 0.25], [0.5, 1]]


def test_norm_normalize():
    sequences = split("sequential/norm_normalize/in")
    before = [x.copy() for x in sequences]
    out, norm = SEQUENTIAL.norm_normalize(sequences)
    assert_same(out, "sequential/norm_normalize/out")
    assert norm == pytest.approx(REFERENCE["sequential/norm_normalize/avr"], rel=1e-14)
    assert all((x == y).all() for x, y in zip(sequences, before))
    again, given = SEQUENTIAL.norm_normalize(sequences, avr_norm=2.0)
    assert given == 2.0
    np.testing.assert_array_equal(again[1], before[1] / 2)


@pytest.mark.parametrize("method", ["numpy_rfft", "rfft", "irfft", "stft"])
def test_transforms(method):
    out = getattr(SEQUENTIAL, method)(REFERENCE["sequential/fft_in"])
    np.testing.assert_allclose(out, REFERENCE[f"sequential/{method}"], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("method", "of"), [("numpy_irfft", "numpy_rfft"), ("istft", "stft")])
def test_inverse_transforms(method, of):
    out = getattr(SEQUENTIAL, method)(REFERENCE[f"sequential/{of}"])
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, REFERENCE[f"sequential/{method}"], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("mode", ["lefthand", "righthand"])
def test_fill_zero(mode):
    sequences = split("sequential/fill_zero/in")
    filled = SEQUENTIAL.fill_zero(sequences, mode=mode)
    np.testing.assert_array_equal(filled, REFERENCE[f"sequential/fill_zero/{mode}"])
    assert_same(SEQUENTIAL.fill_zero(sequences, 2, mode), f"sequential/fill_zero/pad2_{mode}")
    one = SEQUENTIAL.fill_zero1D(sequences[0], 3, mode)
    np.testing.assert_array_equal(one, REFERENCE[f"sequential/fill_zero1D/{mode}"])


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


def test_reverse():
    reversed_ = SEQUENTIAL.reverse(split("sequential/fill_zero/in"))
    assert_same(reversed_, "sequential/reverse/out")
