"""What a checkpoint holds, and how a main loop continues from it.

No counterpart in the original, which pickles the whole main loop and cannot
resume it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable

from cle_port.data.noise import Noise
from cle_port.errors import UserError
from cle_port.files.npz import DAMAGE
from cle_port.graph.devices import value_of
from cle_port.train import checkpoint
from cle_port.train.checkpoint import State
from cle_port.train.ext import Extension
from cle_port.train.log import TrainLog

if TYPE_CHECKING:
    from cle_port.train import Training

logger = logging.getLogger(__name__)


def variables(mainloop: Training) -> dict[str, TensorSharedVariable]:
    """Return the shared variables of a checkpoint by the names that they have there."""
    carried = {f"state/{variable.name}": variable for variable in mainloop.model.updates}
    lr = {"optimizer/lr": mainloop.optimizer.lr}
    return {**mainloop.model.params, **mainloop.optimizer.state, **lr, **carried}


def state(mainloop: Training) -> State:
    """Return everything that a checkpoint holds.

    All processes that train together must call this.

    Returns
    -------
    arrays : dict of str to ndarray
        Parameters, optimizer state, carried state and log.
    meta : dict
        As JSON can hold it: program, settings, progress, position, best values.
    """
    arrays = {name: value_of(variable) for name, variable in variables(mainloop).items()}
    log = mainloop.trainlog
    meta = {
        "program": mainloop.name,
        **mainloop.about,
        "params": list(mainloop.model.params),
        "epoch_seen": log.epoch_seen,
        "batch_seen": log.batch_seen,
        "best": {},
        **(mainloop.position or position(mainloop)),
    }
    for extension in mainloop.extension:
        for key, values in extension.state().items():
            meta[key] = {**meta.get(key, {}), **values}
    return arrays | log.arrays(), meta


def position(mainloop: Training) -> dict[str, Any]:
    """Return where a run that is resumed from now continues in data, noise and log."""
    noise = {name: stream.state for name, stream in mainloop.noise.items()}
    return {**mainloop.trainlog.position(), "noise": noise}


def resume(mainloop: Training, path: str | Path, loaded: State | None = None) -> None:
    """Take over everything from a checkpoint, or nothing; ``mainloop.run`` continues from there.

    The log file is cut or extended to where it ended in the checkpoint.

    Parameters
    ----------
    mainloop : Training
        Made as the one that wrote the checkpoint was made.
    path : path
        The file.
    loaded : tuple of two dicts, optional
        Its arrays and meta, if `cle_port.train.checkpoint.load` has read it already.

    Raises
    ------
    UserError
        If the file is no whole checkpoint, of another model, of other data, or
        from a version that could not resume.
    """
    arrays, meta = loaded or checkpoint.load(path)
    check_resumable(path, meta)
    _check_fits(mainloop, path, arrays, meta)
    try:
        log = TrainLog.restored(mainloop.trainlog.path, arrays, meta)
        noise = _noise(mainloop, meta)
        if log.batch_in_epoch and log.batch_in_epoch >= len(mainloop.data):
            raise ValueError("it is beyond the end of the data")
    except DAMAGE as error:
        raise checkpoint.damaged(path, error) from error
    with _all_or_none(mainloop.extension):
        try:
            for extension in mainloop.extension:
                extension.resume(mainloop, meta)
        except DAMAGE as error:
            raise checkpoint.damaged(path, error) from error
        log.repair()
    for name, variable in variables(mainloop).items():
        variable.set_value(arrays[name])
    for name, stream in mainloop.noise.items():
        stream.state = noise[name].state
    mainloop.data.go_to(log.epoch_seen, log.batch_in_epoch)
    mainloop.trainlog = log
    mainloop.is_resumed = True
    logger.info("Resuming after %d updates, from %s", log.batch_seen, path)


@contextmanager
def _all_or_none(extensions: Sequence[Extension]) -> Iterator[None]:
    """Give all extensions their attributes back if one of them, or the log, fails."""
    before = [dict(vars(extension)) for extension in extensions]
    try:
        yield
    except BaseException:
        for extension, attributes in zip(extensions, before):
            vars(extension).clear()
            vars(extension).update(attributes)
        raise


def check_resumable(path: str | Path, meta: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that lacks what resuming needs.

    Raises
    ------
    UserError
        If it is of an older format, or was exported.
    """
    if meta["format_version"] < 2 or "n_logged" not in meta:
        raise UserError(
            f"{path} does not hold all that resuming needs: it is of an older version or holds "
            "parameters only; start a new run (models/sample.py reads this file as it is)"
        )


def _check_fits(
    mainloop: Training, path: str | Path, arrays: Mapping[str, NDArray], meta: Mapping[str, Any]
) -> None:
    """Refuse a checkpoint of another model or of other data."""
    values = {
        name: variable.get_value(borrow=True) for name, variable in variables(mainloop).items()
    }
    like = {name: np.asarray(value) for name, value in values.items()}
    checkpoint.check_like(path, arrays, like)
    data_id = meta.get("data_id")  # None: imported, the data are unknown
    if data_id is not None and data_id != mainloop.about.get("data_id", ""):
        raise UserError(
            f"{path} was trained on other data than these; resume with the --data_path of that run"
        )


def _noise(mainloop: Training, meta: Mapping[str, Any]) -> dict[str, Noise]:
    """Copies of the streams of noise at the checkpoint's position."""
    noise = {name: copy.deepcopy(stream) for name, stream in mainloop.noise.items()}
    if meta["noise"] is not None:  # None: imported, the position is unknown
        for name, stream in noise.items():
            stream.state = meta["noise"][name]
    return noise
