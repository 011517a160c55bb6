"""Noise: streams that continue from their state, and batches with noise."""

import json

import numpy as np
import pytensor
import pytest

from cle_port.data.noise import MRGNoise, NormalNoise, UniformNoise, WithNoise
from cle_port.utils.mrg import MRG_RandomStreams
from tests.units import FLOATS


def mrg_noise(dim, seed):
    return MRGNoise(dim, MRG_RandomStreams(seed).block())


NORMAL = pytest.mark.parametrize("make", [NormalNoise, mrg_noise])
ALL = pytest.mark.parametrize("make", [NormalNoise, UniformNoise, mrg_noise])


@NORMAL
@pytest.mark.parametrize("floatX", FLOATS)
def test_shape_dtype_and_distribution(floatX, make):
    with pytensor.config.change_flags(floatX=floatX):
        eps = make(dim=5, seed=1).draw(100, 80)
    assert eps.shape == (100, 80, 5)
    assert eps.dtype == floatX
    # Three standard deviations of mean and of mean square of 40000 draws.
    assert abs(eps.mean()) < 3 / 200
    assert abs(np.mean(eps.astype(float) ** 2) - 1) < 3 * np.sqrt(2) / 200


@pytest.mark.parametrize("floatX", FLOATS)
def test_shape_dtype_and_distribution_of_uniform_noise(floatX):
    with pytensor.config.change_flags(floatX=floatX):
        u = UniformNoise(dim=5, seed=1).draw(100, 80)
    assert u.shape == (100, 80, 5)
    assert u.dtype == floatX
    assert 0 <= u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    # Each tenth of the interval gets a tenth of 40000 draws; three standard deviations.
    counts, _ = np.histogram(u, bins=10, range=(0, 1))
    np.testing.assert_allclose(counts, 4000, atol=3 * np.sqrt(40000 * 0.1 * 0.9))


@pytest.mark.parametrize("make", [NormalNoise, UniformNoise])
def test_a_stream_follows_from_its_seed(make):
    a, b, c = make(2, 1), make(2, 1), make(2, np.random.SeedSequence(2))
    first = a.draw(3, 4)
    np.testing.assert_array_equal(first, b.draw(3, 4))
    assert not np.array_equal(first, c.draw(3, 4))
    assert not np.array_equal(first, a.draw(3, 4))


@ALL
@pytest.mark.parametrize("floatX", FLOATS)
def test_a_stream_continues_from_its_state(floatX, make):
    """Through JSON, as a checkpoint holds it; an odd number of draws was made before."""
    with pytensor.config.change_flags(floatX=floatX):
        noise = make(dim=1, seed=1)
        noise.draw(1, 3)
        state = json.loads(json.dumps(noise.state))
        expected = noise.draw(2, 3)
        other = make(dim=1, seed=5)
        other.state = state
        np.testing.assert_array_equal(other.draw(2, 3), expected)


@ALL
def test_state_is_a_copy(make):
    noise = make(2, 1)
    state = noise.state
    before = json.dumps(state)
    noise.draw(3, 4)
    assert json.dumps(state) == before
    assert json.dumps(noise.state) != before


def test_streams_of_a_block_take_turns():
    """As the monitoring of the programs for handwriting, which has the training's graph."""
    streams = MRG_RandomStreams(1).block()
    one, other, alone = MRGNoise(2, streams), MRGNoise(2, streams), mrg_noise(2, 1)
    for noise in (one, other, other, one):
        np.testing.assert_array_equal(noise.draw(3, 4), alone.draw(3, 4))


class NamedBatches(list):
    name = "train"


def test_WithNoise_adds_fresh_noise_to_each_batch():
    batches = NamedBatches(
        [(np.zeros((3, 4, 2)), np.ones((3, 4))), (np.zeros((5, 1, 2)), np.ones(5))]
    )
    data = WithNoise(batches, NormalNoise(6, 1))
    assert data.name == "train"
    assert len(data) == 2
    again = NormalNoise(6, 1)
    for _ in range(2):  # a second pass goes on in the stream
        for given, batch in zip(batches, data, strict=True):
            assert batch[:2] == given
            np.testing.assert_array_equal(batch[2], again.draw(*given[0].shape[:2]))
