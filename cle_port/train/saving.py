"""Write checkpoints, and retry those that the disk refuses.

No counterpart in the original, where an error while saving ends the run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError
from cle_port.graph.devices import is_first_process
from cle_port.train import checkpoint, resuming
from cle_port.train.checkpoint import State

if TYPE_CHECKING:
    from cle_port.train import Training

logger = logging.getLogger(__name__)

MOST_UPDATES_BETWEEN_TRIES = 256


class Failed(NamedTuple):
    """A checkpoint that could not be written: where to, what, why."""

    path: Path
    state: State
    error: OSError


class Saving:
    """Writes checkpoints; keeps those that cannot be written and tries them again.

    It tries a failed one again at the next update, then after 2, 4, ... updates.
    Each holds a whole model, so it keeps only the last one of each kind.

    Parameters
    ----------
    mainloop : Training
        The run to save.

    Attributes
    ----------
    failed : dict of str to Failed
        The last failed checkpoint of each kind.
    """

    def __init__(self, mainloop: Training) -> None:
        self.mainloop = mainloop
        self.failed: dict[str, Failed] = {}
        self._wait = 1
        self._n_left = 0

    def save(self, path: str | Path, kind: str = "model") -> bool:
        """Write a checkpoint of the run and say so; return whether it could be written.

        All processes that train together must call this; the first one writes.

        Parameters
        ----------
        path : path
            Its folder is made again if somebody has removed it.
        kind : str
            Such as ``model`` or ``best model``.

        Raises
        ------
        UserError
            If a parameter is not finite and ``on_nan`` is not 'original': no
            useless checkpoint replaces an earlier one.
        """
        self.mainloop.screen.saving(kind, path)
        arrays, meta = resuming.state(self.mainloop)
        if self.mainloop.on_nan != "original":
            self._check_finite(arrays)
        return is_first_process() and self._write(Path(path), (arrays, meta), kind)

    def retry(self) -> None:
        """Try again to write what failed, if it is time; called once an update."""
        if not self.failed:
            return
        if self._n_left:
            self._n_left -= 1
            return
        self._wait = min(2 * self._wait, MOST_UPDATES_BETWEEN_TRIES)
        self._n_left = self._wait - 1
        self._write_failed()

    def finish(self) -> None:
        """Try a last time.

        Raises
        ------
        UserError
            If a checkpoint still cannot be written.
        """
        self._write_failed()
        for path, _, error in self.failed.values():
            raise UserError(
                f"cannot write {path} ({error.strerror or error}): what was trained since the "
                "checkpoint before is lost; free space or choose another --save_path"
            )

    def _check_finite(self, arrays: Mapping[str, NDArray]) -> None:
        for name in resuming.variables(self.mainloop):
            if not np.isfinite(arrays[name]).all():
                raise UserError(
                    f"{name} has entries that are not finite after "
                    f"{self.mainloop.trainlog.batch_seen} updates: training has diverged; the "
                    "checkpoints written before are kept, start again with a smaller --lr"
                )

    def _write(self, path: Path, state: State, kind: str) -> bool:
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                logger.warning("the folder %s was gone; it is made again", path.parent)
            checkpoint.save(path, *state)
        except OSError as error:
            self._note_failure(Failed(path, state, error), kind)
            return False
        if kind in self.failed and self.failed[kind].path == path:
            del self.failed[kind]
            logger.warning("written after all: %s", path)
        return True

    def _note_failure(self, failed: Failed, kind: str) -> None:
        if kind not in self.failed:
            reason = failed.error.strerror or failed.error
            logger.warning(
                "cannot write %s (%s): training goes on and tries again", failed.path, reason
            )
            self._wait, self._n_left = 1, 0
        elif self.failed[kind].path != failed.path:
            logger.warning("given up for the next one: %s", self.failed[kind].path)
        self.failed[kind] = failed

    def _write_failed(self) -> None:
        for kind, failed in list(self.failed.items()):
            self._write(failed.path, failed.state, kind)
