"""A problem: a folder with the same parameters, frames and noise for all peers.

==================  ============================================================
``settings.json``   settings
``params.npz``      initial parameters under the original's names
``batch_<n>.npz``   ``x`` (T, B, x_dim), ``eps`` (T, B, z_dim); for IAM-OnDB also
                    ``mask`` (T, B)
==================  ============================================================

All arrays are float64; each peer casts them to its precision.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cle_port.layers import InitCell
from models.parts import Init, initialize
from models.settings import Settings
from models.vrnn_gmm import vrnn_gmm

# Points in a line of IAM-OnDB: an assumption, lognormal with a mean of about 630 points.  Only
# registered users get the database, so we cannot ship its lengths.
LINE_LOG_MEAN, LINE_LOG_STD = np.log(600), 0.3
LINE_RANGE = (100, 1800)


class Problem(NamedTuple):
    """Settings and initial parameters."""

    settings: Settings
    params: dict[str, NDArray]


class QuickInit(Init):
    """Initial values without orthogonal matrices, which take minutes."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.U = _NormalCell("randn", rng=self.W.rng)


class _NormalCell(InitCell):
    def ortho(self, shape: Any) -> NDArray:
        """Draw normal numbers; columns have a mean length of 1 and are nearly orthogonal."""
        return self.rng.normal(0.0, shape[0] ** -0.5, shape)


def write(
    folder: Path,
    settings: Settings,
    n_batch: int,
    n_step: int,
    seed: int = 0,
    enlarged: float = 1.0,
) -> list[int]:
    """Write a problem.

    Parameters
    ----------
    folder : pathlib.Path
        Must not exist.
    settings : Settings
    n_batch : int
        Number of batches.
    n_step : int
        Frames in a batch; 0 draws the lengths of handwritten lines.
    seed : int
    enlarged : float
        Factor on the weights into the LSTM and into the decoder's means.

    Returns
    -------
    list of int
        Frames in each batch.
    """
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps(settings.as_dict()))
    params: dict[str, Any] = initialize(vrnn_gmm(settings, QuickInit(seed)).nodes)
    for name in params:
        if name.startswith("W_") and name.endswith(("__rnn", "__theta_mu")):
            params[name] *= enlarged
    np.savez(folder / "params.npz", **params)
    rng = np.random.default_rng(seed)
    n_steps = []
    for number in range(n_batch):
        lengths = draw_lengths(rng, settings.batch_size, n_step)
        np.savez(folder / f"batch_{number}.npz", **draw_batch(rng, settings, lengths))
        n_steps.append(int(lengths.max()))
    return n_steps


def draw_lengths(rng: np.random.Generator, batch_size: int, n_step: int) -> NDArray:
    """Return the lengths of a batch's sequences: ``n_step``, or random ones if that is 0."""
    if n_step:
        return np.full(batch_size, n_step)
    return rng.lognormal(LINE_LOG_MEAN, LINE_LOG_STD, batch_size).clip(*LINE_RANGE).astype(int)


def draw_batch(rng: np.random.Generator, settings: Settings, lengths: NDArray) -> dict[str, Any]:
    """Draw normal frames and noise; for IAM-OnDB also pen bits and a mask."""
    shape = (int(lengths.max()), len(lengths))
    x = rng.standard_normal((*shape, settings.x_dim))
    eps = rng.standard_normal((*shape, settings.z_dim))
    if settings.dataset != "iamondb":
        return {"x": x, "eps": eps}
    mask = (np.arange(shape[0])[:, None] < lengths).astype(float)
    x[:, :, 0] = rng.random(shape) < 0.05
    return {"x": x * mask[:, :, None], "mask": mask, "eps": eps}


def read(folder: Path) -> Problem:
    """Read settings and parameters."""
    settings = Settings(**json.loads((folder / "settings.json").read_text()))
    with np.load(folder / "params.npz") as params:
        return Problem(settings, dict(params))


def read_batches(folder: Path, numbers: Sequence[int], dtype: str) -> list[dict[str, NDArray]]:
    """Read batches and cast them to ``dtype``."""
    batches = []
    for number in numbers:
        with np.load(folder / f"batch_{number}.npz") as batch:
            batches.append({name: array.astype(dtype) for name, array in batch.items()})
    return batches
