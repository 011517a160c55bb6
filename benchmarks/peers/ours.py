"""The update of this project: the program as `models.program` builds it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray

from benchmarks.problem import Problem, QuickInit
from datasets.blizzard import row_ranges
from models import program
from models.settings import Settings
from models.vrnn_gmm import VRNN_GMM


class Peer:
    """See `benchmarks.peers.worker.Peer`."""

    def __init__(self, problem: Problem, n_step: int) -> None:
        settings = problem.settings
        program.set_up(settings)
        logging.getLogger().setLevel(logging.WARNING)
        data: Any
        if settings.dataset == "iamondb":
            lines = Lines(settings)
            data = program.IAMOnDBData(lines, lines, "lines of noise")  # type: ignore[arg-type]
            make_mainloop = program.iamondb_mainloop
        else:
            rows = Rows(settings, n_step)
            ranges = row_ranges(rows.num_examples(), settings.batch_size, settings.m_batch_size)
            data = program.BlizzardData(rows, rows, ranges, "rows of noise")  # type: ignore[arg-type]
            make_mainloop = program.blizzard_mainloop
        self.mainloop = make_mainloop(
            "vrnn_gmm", lambda args: VRNN_GMM(args, QuickInit(0)), settings, data
        )
        for name, value in problem.params.items():
            self.mainloop.model.params[name].set_value(value.astype(settings.floatX))

    def update(self, batch: Mapping[str, NDArray]) -> float:
        """Update once; returns the cost before."""
        return self.mainloop.update([batch[k] for k in ("x", "mask", "eps") if k in batch])[0]

    def state(self) -> dict[str, NDArray]:
        """Parameters and first moments."""
        mainloop = self.mainloop
        moments = {k: v for k, v in mainloop.optimizer.state.items() if k.startswith("adam_m/")}
        variables = {**mainloop.model.params, **moments}
        return {name: np.asarray(variable.get_value()) for name, variable in variables.items()}


class Rows:
    """Stands where `Blizzard_tbptt` does while the main loop is built; holds no rows."""

    name = "train"

    def __init__(self, settings: Settings, n_step: int) -> None:
        self.frames_shape = (n_step, settings.x_dim)
        self.n_rows = 4 * (settings.batch_size + settings.m_batch_size)

    def num_examples(self) -> int:
        """Return the number of rows it would have."""
        return self.n_rows

    def theano_vars(self, batch_size: int) -> Any:
        """Frames of shape (T, B, x_dim), all of it known."""
        n_step, x_dim = self.frames_shape
        shape = (n_step, batch_size, x_dim)
        return pt.tensor("x", dtype=pytensor.config.floatX, shape=shape)

    def slices(self, start: int, end: int) -> tuple[NDArray]:
        """Zeros of shape (T, rows, x_dim)."""
        n_step, x_dim = self.frames_shape
        return (np.zeros((n_step, end - start, x_dim), pytensor.config.floatX),)


class Lines:
    """Stands where `IAMOnDB` does while the main loop is built; holds no lines."""

    name = "train"

    def __init__(self, settings: Settings) -> None:
        self.batch_size = settings.batch_size

    def num_examples(self) -> int:
        """Return the number of lines it would have."""
        return self.batch_size

    def theano_vars(self, batch_size: int) -> list[Any]:
        """Points of shape (T, B, 3) and mask of shape (T, B), T unknown."""
        dtype = pytensor.config.floatX
        return [
            pt.tensor("x", dtype=dtype, shape=(None, batch_size, 3)),
            pt.tensor("mask", dtype=dtype, shape=(None, batch_size)),
        ]

    def slices(self, start: int, end: int) -> tuple[NDArray, NDArray]:
        """One point for each line, and its mask."""
        dtype = pytensor.config.floatX
        return np.zeros((1, end - start, 3), dtype), np.ones((1, end - start), dtype)
