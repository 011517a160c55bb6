"""Trained and monitored scalars, by NumPy."""

import math

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.graph import compile_function
from models.channels import (
    active_dims,
    average,
    by_name,
    coeff_stats,
    mean_by_dim,
    named,
    stats,
    trained_cost,
)
from models.settings import Settings
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


KL = np.random.default_rng(2).random((4, 3, 2))
RECON = np.random.default_rng(3).standard_normal((4, 3))


@pytest.mark.parametrize("mask", [None, MASK])
def test_mean_by_dim(mask):
    ours = mean_by_dim("kl_by_dim", pt.as_tensor(KL), None if mask is None else pt.as_tensor(mask))
    weights = np.ones((4, 3)) if mask is None else mask
    expected = [np.average(KL[:, :, j], weights=weights) for j in range(2)]
    np.testing.assert_allclose(evaluate(ours), expected, rtol=1e-12)
    assert ours.name == "kl_by_dim"


def test_active_dims():
    assert active_dims([0.0, 0.01, 0.0100001, 3.0, math.nan]) == 2


def trained(mask=None, n_updates=0, **knobs):
    """The trained cost after some updates, and the bound in its place if all knobs are off."""
    args = Settings(**knobs)
    terms = {"recon": pt.as_tensor(RECON), "kl_by_dim": pt.as_tensor(KL)}
    nll_upper_bound = pt.dscalar("nll_upper_bound")
    symbolic_mask = None if mask is None else pt.as_tensor(mask)
    cost, updates = trained_cost(args, nll_upper_bound, terms, symbolic_mask)
    if cost is nll_upper_bound:
        assert updates == {}
        return cost
    for _ in range(n_updates):
        for variable, new in updates.items():
            variable.set_value(evaluate(new))
    return float(evaluate(cost))


def test_without_knobs_the_bound_is_trained():
    assert trained().name == "nll_upper_bound"


def averaged(frames, mask):
    return frames.mean() if mask is None else (frames * mask).sum(axis=0).mean()


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize(("n_updates", "weight"), [(0, 0.0), (1, 0.25), (3, 0.75), (4, 1), (6, 1)])
def test_kl_anneal_raises_the_weight_of_the_kl_term(n_updates, weight, mask):
    expected = averaged(RECON, mask) + weight * averaged(KL.sum(axis=2), mask)
    np.testing.assert_allclose(trained(mask, n_updates, kl_anneal=4), expected, rtol=1e-12)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("free_bits", [1e-6, 0.5, 2.0])
def test_free_bits_are_a_floor_for_each_dimension(free_bits, mask):
    """A loop over dimensions: below the floor of the batch's mean, the floor is paid."""
    weights = np.ones((4, 3)) if mask is None else mask
    n_frame = 1 if mask is None else mask.sum() / 3
    expected = averaged(RECON, mask)
    for j in range(2):
        expected += n_frame * max(free_bits, np.average(KL[:, :, j], weights=weights))
    np.testing.assert_allclose(trained(mask, free_bits=free_bits), expected, rtol=1e-12)


def test_free_bits_are_annealed_too():
    expected = RECON.mean() + 0.5 * 2 * 2.0
    np.testing.assert_allclose(trained(None, 1, free_bits=2.0, kl_anneal=2), expected, rtol=1e-12)


def test_dimensions_below_the_floor_get_no_gradient():
    kl = pt.as_tensor(np.stack([0.1 * KL[:, :, 0], 10 + KL[:, :, 1]], axis=2))
    terms = {"recon": pt.as_tensor(RECON), "kl_by_dim": kl}
    cost, _ = trained_cost(Settings(free_bits=0.5), pt.dscalar(), terms)
    gradient = evaluate(pytensor.grad(cost, kl))
    assert not gradient[:, :, 0].any()
    np.testing.assert_allclose(gradient[:, :, 1], 1 / 12, rtol=1e-12)
