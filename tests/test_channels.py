"""Trained and monitored scalars, by NumPy."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.graph import compile_function
from models.channels import average, by_name, coeff_stats, named, stats
from tests.units import evaluate


@pytest.fixture(autouse=True)
def double_precision():
    with pytensor.config.change_flags(floatX="float64"):
        yield


def test_average():
    frames = np.arange(6.0).reshape(3, 2)
    mask = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert evaluate(average(pt.as_tensor(frames), None)) == 2.5
    assert evaluate(average(pt.as_tensor(frames), pt.as_tensor(mask))) == (0 + 2 + 4 + 1) / 2


V = np.random.default_rng(1).standard_normal((4, 3, 2))
MASK = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=float)  # the last is unused


def values_of(channels):
    return {channel.name: evaluate(channel) for channel in channels}


def test_stats():
    ours = values_of(stats("sig", pt.as_tensor(V)))
    assert list(ours) == ["max_sig", "mean_sig", "min_sig"]
    np.testing.assert_allclose(list(ours.values()), [V.max(), V.mean(), V.min()], rtol=1e-12)


@pytest.mark.parametrize("filling", [-100.0, 100.0])
def test_stats_leave_out_frames_that_no_sequence_reaches(filling):
    padded = V.copy()
    padded[3] = filling
    ours = values_of(stats("sig", pt.as_tensor(padded), pt.as_tensor(MASK)))
    used = V[:3]
    np.testing.assert_allclose(
        list(ours.values()), [used.max(), used.mean(), used.min()], rtol=1e-12
    )


@pytest.mark.parametrize("mask", [None, MASK])
def test_coeff_stats(mask):
    used = V if mask is None else V[:3]
    ours = values_of(coeff_stats(pt.as_tensor(V), None if mask is None else pt.as_tensor(mask)))
    mean = used.mean(axis=(0, 1))
    expected = {
        "coeff_max": used.max(),
        "coeff_min": used.min(),
        "coeff_mean_max": mean.max(),
        "coeff_mean_min": mean.min(),
    }
    assert list(ours) == list(expected)
    np.testing.assert_allclose(list(ours.values()), list(expected.values()), rtol=1e-12)


def test_named():
    x = pt.dscalar()
    assert named(x, "cost") is x
    assert x.name == "cost"


@pytest.mark.parametrize("backend", ["jax", "c", "numba"])
@pytest.mark.parametrize("batch_size", [3, 5, 7])
def test_a_mean_divides_by_one_length_after_the_other(backend, batch_size):
    """Each division rounds: x on IAM-OnDB is single in a program of double precision."""
    if backend == "c" and not pytensor.config.cxx:
        pytest.skip("there is no C++ compiler")
    rng = np.random.default_rng(batch_size)
    with pytensor.config.change_flags(floatX="float64"):
        x = pt.tensor("x", dtype="float32", shape=(None, batch_size, 3))
        mask = pt.tensor("mask", dtype="float32", shape=(None, batch_size))
        _, mean, _ = stats("x", x, mask)
        fn = compile_function([x, mask], [mean], None, backend)
        differ = 0
        for n_step in range(9, 17):
            batch = rng.normal(size=(n_step, batch_size, 3)).astype("float32")
            expected = np.float32(batch.sum(dtype="float64"))
            at_once = np.float32(expected / np.float32(batch.size))
            for length in batch.shape:
                expected = np.float32(expected / np.float32(length))
            ours = np.asarray(fn(batch, np.ones(batch.shape[:2], "float32"))[0])
            assert (ours.dtype, float(ours)) == ("float32", float(expected))
            differ += expected != at_once
    assert differ  # else one division would do


def test_by_name():
    scalars = [named(pt.dscalar(), name) for name in ("b", "a")]
    assert list(by_name(scalars).items()) == [("b", scalars[0]), ("a", scalars[1])]
