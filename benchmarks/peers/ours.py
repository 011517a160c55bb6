"""The update of this project, in the program that `models.running` builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray

from benchmarks.problem import Problem, QuickInit
from cle_port.graph.working_memory import kept_memory
from datasets.blizzard import row_ranges
from models.running import BlizzardData, IAMOnDBData, Run
from models.settings import Settings
from models.vrnn_gmm import PROGRAM, vrnn_gmm


class Peer:
    """See `benchmarks.peers.worker.Peer`."""

    def __init__(self, problem: Problem, n_step: int) -> None:
        settings = problem.settings
        pytensor.config.floatX = settings.floatX
        data: Any
        if settings.dataset == "iamondb":
            lines = Lines(settings)
            data = IAMOnDBData(lines, lines, "lines of noise")  # type: ignore[arg-type]
        else:
            rows = Rows(settings, n_step)
            ranges = row_ranges(rows.num_examples(), settings.batch_size, settings.m_batch_size)
            data = BlizzardData(rows, rows, ranges, "rows of noise")  # type: ignore[arg-type]
        program = PROGRAM._replace(make_net=lambda args: vrnn_gmm(args, QuickInit(0)))
        self.mainloop = program.mainloop(Run(program.name, settings, data))
        self.memory = kept_memory(settings.memory == "kept")  # as in `Training.run`
        self.memory.__enter__()
        for name, value in problem.params.items():
            self.mainloop.model.params[name].set_value(value.astype(settings.floatX))

    def update(self, batch: Mapping[str, NDArray]) -> float:
        """Update once; return the cost before the update."""
        return self.mainloop.update([batch[k] for k in ("x", "mask", "eps") if k in batch])[0]

    def state(self) -> dict[str, NDArray]:
        """Return parameters and first moments."""
        mainloop = self.mainloop
        moments = {k: v for k, v in mainloop.optimizer.state.items() if k.startswith("adam_m/")}
        variables = {**mainloop.model.params, **moments}
        return {name: np.asarray(variable.get_value()) for name, variable in variables.items()}


class Rows:
    """Stand-in for `Blizzard_tbptt` while the main loop is built; without rows."""

    name = "train"

    def __init__(self, settings: Settings, n_step: int) -> None:
        self.frames_shape = (n_step, settings.x_dim)
        self.n_rows = 4 * (settings.batch_size + settings.m_batch_size)

    def num_examples(self) -> int:
        """Return the number of rows that the program sees."""
        return self.n_rows

    def theano_vars(self, batch_size: int) -> Any:
        """Return frames of shape (T, B, x_dim), which is static."""
        n_step, x_dim = self.frames_shape
        shape = (n_step, batch_size, x_dim)
        return pt.tensor("x", dtype=pytensor.config.floatX, shape=shape)

    def slices(self, start: int, end: int) -> tuple[NDArray]:
        """Return zeros of shape (T, rows, x_dim)."""
        n_step, x_dim = self.frames_shape
        return (np.zeros((n_step, end - start, x_dim), pytensor.config.floatX),)


class Lines:
    """Stand-in for `IAMOnDB` while the main loop is built; without lines."""

    name = "train"

    def __init__(self, settings: Settings) -> None:
        self.batch_size = settings.batch_size

    def num_examples(self) -> int:
        """Return the number of lines that the program sees."""
        return self.batch_size

    def theano_vars(self, batch_size: int) -> list[Any]:
        """Return points of shape (T, B, 3) and a mask of shape (T, B); T is not static."""
        dtype = pytensor.config.floatX
        return [
            pt.tensor("x", dtype=dtype, shape=(None, batch_size, 3)),
            pt.tensor("mask", dtype=dtype, shape=(None, batch_size)),
        ]

    def slices(self, start: int, end: int) -> tuple[NDArray, NDArray]:
        """Return one point for each line, and its mask."""
        dtype = pytensor.config.floatX
        return np.zeros((1, end - start, 3), dtype), np.ones((1, end - start), dtype)
