"""Videos of balls that bounce in a box, simulated here or read from a file.

Counterpart: ``datasets/bouncing_balls.py``, which reads a file only.
"""

from __future__ import annotations

import os
from itertools import combinations
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.data import TemporalSeries
from cle_port.errors import UserError

N_SEQUENCE = 2000
N_FRAME = 20
N_BALL = 2
SIZE = 16  # pixels along a side of the box
RADIUS = 0.12  # sides of the box
SPEED = 0.08  # of each ball before the first collision, in sides per frame
N_SUBSTEP = 4  # steps of the simulation in one frame
SPLITS = ("train", "valid", "test")


class BouncingBalls(TemporalSeries):
    """Batches of videos, and of the same videos one frame later.

    Parameters
    ----------
    name : {'train', 'valid', 'test'}
        The first 80 %, the next 10 % or the last 10 % of the videos; also the
        name in the log.
    path : str or path-like, optional
        A ``.npy`` file of videos, shape (videos, frames, pixels).  Without one,
        `simulate` makes the videos.
    n_sequence : int
        Number of videos to simulate, for all three parts together.
    seed : int
        Seed of the simulation.

    Attributes
    ----------
    data : list of two ndarrays
        x and y, the frames but the last one and the frames but the first one,
        shape (videos, frames - 1, pixels), ``floatX`` at the time of loading.

    Raises
    ------
    UserError
        If `name` has another value, or the file cannot be used.

    Notes
    -----
    Counterpart: ``datasets/bouncing_balls.py``, ``BouncingBalls``.  Its file
    ``bouncing_ball_2balls_16wh_20len_50000cases.npy`` is not in the repository.  By
    its name it holds 50000 videos of two balls, of 20 frames of 16 x 16 pixels.
    Ours have the same form; the physics and the brightness of a pixel are our choice.
    """

    data: list[NDArray]

    def __init__(
        self,
        name: str | None = None,
        path: str | os.PathLike[str] | None = None,
        n_sequence: int = N_SEQUENCE,
        seed: int = 0,
    ) -> None:
        if name not in SPLITS:
            raise UserError(f"name must be one of {', '.join(SPLITS)}, not {name!r}")
        self.n_sequence = n_sequence
        self.seed = seed
        self._split = name
        super().__init__(name=name, path=path)

    def load(self, path: Any) -> list[NDArray]:
        """Read or simulate the videos of the part; see the class."""
        if path is None:
            videos = simulate(self.n_sequence, rng=np.random.default_rng(self.seed))
        else:
            videos = _read(path)
        n_train, n_valid = int(len(videos) * 0.8), int(len(videos) * 0.1)
        first, last = {
            "train": (0, n_train),
            "valid": (n_train, n_train + n_valid),
            "test": (n_train + n_valid, len(videos)),
        }[self._split]
        part = videos[first:last].astype(pytensor.config.floatX)
        return [part[:, :-1], part[:, 1:]]

    def theano_vars(self, batch_size: int | None = None) -> list[TensorVariable]:
        """Return the symbolic inputs for a batch.

        Parameters
        ----------
        batch_size : int, optional
            Number of videos to fix in the static shapes.

        Returns
        -------
        list of TensorVariable
            ``x`` and ``y``, shape (frames - 1, batch, pixels), ``floatX``.

        Notes
        -----
        Counterpart: ``BouncingBalls.theano_vars``, which fixes no shape.
        """
        _, n_frame, n_pixel = self.data[0].shape
        shape = (n_frame, batch_size, n_pixel)
        return [pt.tensor(name, dtype=pytensor.config.floatX, shape=shape) for name in ("x", "y")]


def simulate(
    n_sequence: int,
    n_frame: int = N_FRAME,
    n_ball: int = N_BALL,
    size: int = SIZE,
    *,
    rng: np.random.Generator,
) -> NDArray:
    """Simulate balls that bounce off each other and off the walls of a box.

    All balls have the same mass and radius, and nothing slows them down.  Two
    balls that meet exchange the parts of their velocities along the line through
    their centres, which keeps momentum and energy.

    Parameters
    ----------
    n_sequence, n_frame, n_ball : int
        Number of videos, of frames in a video, and of balls.
    size : int
        Pixels along a side of the box.
    rng : numpy.random.Generator
        Source of the first positions and directions.

    Returns
    -------
    ndarray, shape (n_sequence, n_frame, size * size), float64
        Brightness from 0 to 1, rows of pixels one after the other.
    """
    position = _first_positions(n_sequence, n_ball, rng)
    angle = rng.uniform(0, 2 * np.pi, (n_sequence, n_ball))
    velocity = SPEED * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    videos = np.empty((n_sequence, n_frame, size * size))
    for frame in range(n_frame):
        videos[:, frame] = draw(position, size)
        for _ in range(N_SUBSTEP):
            position = position + velocity / N_SUBSTEP
            velocity = bounce(position, velocity)
    return videos


def bounce(position: NDArray, velocity: NDArray) -> NDArray:
    """Return the velocities after the collisions that the positions call for.

    A ball at a wall, or two balls that touch, change their velocities only if they
    are still approaching each other.

    Parameters
    ----------
    position, velocity : ndarray, shape (n_sequence, n_ball, 2)
        In sides of the box, and in sides per frame.

    Returns
    -------
    ndarray of the same shape
    """
    speed = np.abs(velocity)
    velocity = np.where(position < RADIUS, speed, velocity)
    velocity = np.where(position > 1 - RADIUS, -speed, velocity)
    for i, j in combinations(range(position.shape[1]), 2):
        line = position[:, i] - position[:, j]
        distance = np.linalg.norm(line, axis=-1, keepdims=True)
        line = line / np.maximum(distance, 1e-12)
        approach = ((velocity[:, i] - velocity[:, j]) * line).sum(axis=-1, keepdims=True)
        exchanged = np.where((distance < 2 * RADIUS) & (approach < 0), approach * line, 0)
        velocity[:, i] -= exchanged
        velocity[:, j] += exchanged
    return velocity


def draw(position: NDArray, size: int) -> NDArray:
    """Draw balls as white discs on black, with edges one pixel wide.

    Parameters
    ----------
    position : ndarray, shape (n_sequence, n_ball, 2)
        Centres, in sides of the box from the top and from the left.
    size : int
        Pixels along a side of the box.

    Returns
    -------
    ndarray, shape (n_sequence, size * size)
        Brightness from 0 to 1.
    """
    pixel = (np.arange(size) + 0.5) / size
    down, right = np.moveaxis(position[..., None] - pixel, 2, 0)
    distance = np.hypot(down[..., :, None], right[..., None, :])
    brightness = np.clip((RADIUS - distance) * size + 0.5, 0, 1).max(axis=1)
    return brightness.reshape(len(position), size * size)


def _first_positions(n_sequence: int, n_ball: int, rng: np.random.Generator) -> NDArray:
    """Centres of balls that touch neither a wall nor each other, (n_sequence, n_ball, 2)."""
    position = np.empty((n_sequence, n_ball, 2))
    to_place = np.ones(n_sequence, dtype=bool)
    while to_place.any():
        position[to_place] = rng.uniform(RADIUS, 1 - RADIUS, (to_place.sum(), n_ball, 2))
        to_place[:] = False
        for i, j in combinations(range(n_ball), 2):
            distance = np.linalg.norm(position[:, i] - position[:, j], axis=-1)
            to_place |= distance < 2 * RADIUS
    return position


def _read(path: str | os.PathLike[str]) -> NDArray:
    """Videos from a ``.npy`` file."""
    try:
        videos = np.load(path, allow_pickle=False)
        if not isinstance(videos, np.ndarray):
            raise ValueError("it is an archive")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {path} ({error}); give a .npy file of videos") from error
    if videos.ndim != 3 or len(videos) < 10 or videos.dtype.kind not in "fiub":
        raise UserError(
            f"{path} has an array of shape {videos.shape} and dtype {videos.dtype}; give numbers "
            "of at least 10 videos, shape (videos, frames, pixels)"
        )
    return videos
