"""Bouncing balls: the physics, the pictures, and the batches."""

import numpy as np
import pytensor
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cle_port.errors import UserError
from datasets.bouncing_balls import (
    N_SUBSTEP,
    RADIUS,
    SIZE,
    SPEED,
    BouncingBalls,
    bounce,
    draw,
    simulate,
)
from tests.units import FLOATS

N = 20


@pytest.mark.parametrize("floatX", FLOATS)
def test_parts(floatX):
    with pytensor.config.change_flags(floatX=floatX):
        parts = [BouncingBalls(name=name, n_sequence=N) for name in ("train", "valid", "test")]
    videos = simulate(N, rng=np.random.default_rng(0)).astype(floatX)
    assert [part.num_examples() for part in parts] == [16, 2, 2]
    for part, whole in zip(parts, (videos[:16], videos[16:18], videos[18:])):
        x, y = part.slices(0, 16)
        assert x.dtype == y.dtype == floatX
        assert x.shape == (19, len(whole), 256)
        assert_array_equal(x, whole[:, :-1].swapaxes(0, 1))
        assert_array_equal(y, whole[:, 1:].swapaxes(0, 1))


def test_videos_follow_from_the_seed():
    a, b, c = (BouncingBalls(name="test", n_sequence=N, seed=seed).data[0] for seed in (1, 1, 2))
    assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("floatX", FLOATS)
def test_theano_vars(floatX, batch_size):
    with pytensor.config.change_flags(floatX=floatX):
        variables = BouncingBalls(name="test", n_sequence=N).theano_vars(batch_size)
    assert [v.name for v in variables] == ["x", "y"]
    assert {v.type.shape for v in variables} == {(19, batch_size, 256)}
    assert {v.dtype for v in variables} == {floatX}


def test_a_file_of_videos(tmp_path):
    videos = np.random.default_rng(0).random((11, 5, 4)).astype("float32")
    np.save(tmp_path / "videos.npy", videos)
    part = BouncingBalls(name="valid", path=tmp_path / "videos.npy")
    assert_array_equal(part.data[0], videos[8:9, :-1])  # as int(11 * 0.8) and int(11 * 0.1)
    assert_array_equal(part.data[1], videos[8:9, 1:])
    rest = BouncingBalls(name="test", path=tmp_path / "videos.npy")
    assert_array_equal(rest.data[0], videos[9:, :-1])


def test_unusable_files(tmp_path):
    np.save(tmp_path / "few.npy", np.zeros((9, 5, 4)))
    np.save(tmp_path / "flat.npy", np.zeros((20, 5)))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").touch()
    np.savez(tmp_path / "archive.npz", np.zeros((20, 5, 4)))
    np.save(tmp_path / "words.npy", np.full((20, 5, 4), "word"))
    names = [*(path.name for path in tmp_path.iterdir()), "missing.npy"]
    assert len(names) == 7
    for name in names:
        with pytest.raises(UserError, match="videos"):
            BouncingBalls(name="train", path=tmp_path / name)


def test_unknown_name():
    with pytest.raises(UserError, match="train, valid, test"):
        BouncingBalls(name="other")


# --- physics ------------------------------------------------------------------------------------


def test_balls_bounce_off_walls():
    near, far = RADIUS / 2, 1 - RADIUS / 2
    position = np.array([[[near, 0.5]], [[far, 0.5]], [[0.5, near]], [[0.5, far]], [[near, far]]])
    towards = np.array([[[-1.0, 2]], [[1, 2]], [[2, -1]], [[2, 1]], [[-1, 1]]])
    away = np.array([[[1.0, 2]], [[-1, 2]], [[2, 1]], [[2, -1]], [[1, -1]]])
    assert_array_equal(bounce(position, towards), away)
    assert_array_equal(bounce(position, away), away)


def test_balls_bounce_off_each_other():
    """Beside the textbook's formulas, one pair at a time."""
    rng = np.random.default_rng(0)
    angle, distance = rng.uniform(0, 2 * np.pi, 200), rng.uniform(1, 3, 200) * RADIUS
    line = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    position = 0.5 + np.stack([line, -line], axis=1) * distance[:, None, None] / 2
    velocity = rng.normal(size=(200, 2, 2))
    found = bounce(position, velocity)
    n_bounce = 0
    for n in range(200):
        (a, b), (u, v) = position[n], velocity[n]
        if np.sum((a - b) ** 2) < 4 * RADIUS**2 and np.dot(u - v, a - b) < 0:
            n_bounce += 1
            impulse = np.dot(u - v, a - b) / np.dot(a - b, a - b) * (a - b)
            u, v = u - impulse, v + impulse
        assert_allclose(found[n], [u, v], rtol=1e-12, atol=1e-14)
    assert 30 < n_bounce < 70
    assert_allclose(found.sum(axis=1), velocity.sum(axis=1), atol=1e-12)  # momentum
    assert_allclose((found**2).sum(axis=(1, 2)), (velocity**2).sum(axis=(1, 2)), rtol=1e-12)


def test_balls_fly_straight_on_and_stay_in_the_box():
    """A lone ball: where it is, from the middle of what is drawn."""
    videos = simulate(30, 40, n_ball=1, size=50, rng=np.random.default_rng(0))
    frames = videos.reshape(30, 40, 50, 50)
    pixel = (np.arange(50) + 0.5) / 50
    total = frames.sum(axis=(2, 3))
    centre = np.stack(
        [(frames.sum(axis=3) @ pixel) / total, (frames.sum(axis=2) @ pixel) / total], axis=-1
    )
    step = SPEED / N_SUBSTEP
    assert centre.min() > RADIUS - step - 0.01
    assert centre.max() < 1 - RADIUS + step + 0.01
    moves = np.diff(centre, axis=1)
    is_free = (np.abs(centre - 0.5) < 0.5 - RADIUS - SPEED).all(axis=-1)[:, :-1]
    assert is_free.sum() > 300
    assert_allclose(np.linalg.norm(moves, axis=-1)[is_free], SPEED, rtol=0.03)


def test_balls_keep_apart():
    """Two discs are drawn, whose areas overlap little."""
    area = simulate(50, size=60, rng=np.random.default_rng(0)).mean(axis=-1)
    assert_allclose(area.max(), 2 * np.pi * RADIUS**2, rtol=0.01)
    assert area.min() > 0.95 * area.max()


def test_shape_and_range():
    frames = simulate(3, rng=np.random.default_rng(0))
    assert frames.shape == (3, 20, SIZE**2)
    assert (frames.min(), frames.max()) == (0, 1)


def test_a_disc_is_drawn_where_the_ball_is():
    picture = draw(np.array([[[0.25, 0.7]]]), 20).reshape(20, 20)
    for row in range(20):
        for column in range(20):
            distance = np.hypot((row + 0.5) / 20 - 0.25, (column + 0.5) / 20 - 0.7)
            expected = np.clip((RADIUS - distance) * 20 + 0.5, 0, 1)
            assert_allclose(picture[row, column], expected, atol=1e-14)
