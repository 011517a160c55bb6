"""Writing checkpoints, again and again where the disk refuses.

No counterpart in the original, where an error while saving ends the run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from cle_port import checkpoint
from cle_port.errors import UserError

logger = logging.getLogger(__name__)

MOST_UPDATES_BETWEEN_TRIES = 256

State = tuple[Mapping[str, NDArray], Mapping[str, Any]]


class Failed(NamedTuple):
    """A checkpoint that could not be written: where to, what, why."""

    path: Path
    state: State
    error: OSError


class Saving:
    """Writes checkpoints; keeps those that cannot be written, to try again.

    A failed one is tried again at the next update, then after 2, 4, ... updates.
    Of each kind only the last one is kept, since each holds a whole model.

    Attributes
    ----------
    failed : dict of str to Failed
        By kind.
    """

    def __init__(self) -> None:
        self.failed: dict[str, Failed] = {}
        self._wait = 1
        self._n_left = 0

    def write(self, path: Path, state: State, kind: str) -> bool:
        """Write a checkpoint; return whether that succeeded, and warn if not.

        Parameters
        ----------
        path : path
            Its folder is made again if somebody has removed it.
        state : tuple of two mappings
            Arrays and meta, see `cle_port.checkpoint.save`.
        kind : str
            Such as ``model``.
        """
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                logger.warning("the folder %s was gone; it is made again", path.parent)
            checkpoint.save(path, *state)
        except OSError as error:
            if kind not in self.failed:
                logger.warning(
                    "cannot write %s (%s): training goes on and tries again",
                    path,
                    error.strerror or error,
                )
                self._wait, self._n_left = 1, 0
            elif self.failed[kind].path != path:
                logger.warning("given up for the next one: %s", self.failed[kind].path)
            self.failed[kind] = Failed(path, state, error)
            return False
        if kind in self.failed and self.failed[kind].path == path:
            del self.failed[kind]
            logger.warning("written after all: %s", path)
        return True

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

    def _write_failed(self) -> None:
        for kind, (path, state, _) in list(self.failed.items()):
            self.write(path, state, kind)
