"""Extensions of the main loop.

Each has a ``name`` that says when `cle_port.train.Training` runs it:

============================  ============================================
``ext_regularize_pre_grad``   before gradients are taken
``ext_grad``                  on the gradients
``ext_regularize_post_grad``  on the updates
``ext_monitor``               before each update and after the last
``ext_save``                  after ``ext_monitor``
``ext_schedule``              after each update
``ext_term``                  after each epoch
============================  ============================================

Counterpart: ``cle/train/ext.py``.
"""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Iterator as IteratorType
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from cle_port.data import Batches
from cle_port.errors import UserError
from cle_port.files.npz import DAMAGE
from cle_port.graph.devices import from_each_device, over_batches
from cle_port.train import checkpoint
from cle_port.train.log import Entry
from cle_port.utils import tolist
from cle_port.utils.op import not_finite

if TYPE_CHECKING:
    from cle_port.train import Training, TrainLog

logger = logging.getLogger(__name__)


class Extension:
    """Something that the main loop runs at the point that ``name`` says.

    The main loop knows no extension by its class.  What it must know of one, it
    asks by the methods below; each has an answer for an extension that does not
    care.

    Notes
    -----
    Counterpart: ``cle.train.ext.Extension``, with ``exe`` alone.
    """

    name: str

    def exe(self, mainloop: Training) -> None:
        """Run once."""
        raise NotImplementedError

    def begin(self, mainloop: Training) -> None:
        """Run once when the main loop is entered; a resumed run has called `resume` before."""

    def is_due(self, log: TrainLog) -> bool:
        """Return whether `exe` has something to do now, even if the run does not end here."""
        return False

    def planned_updates(self, n_batch: int) -> int | None:
        """Return after how many updates this ends the run, if it does.

        Parameters
        ----------
        n_batch : int
            Batches of an epoch.
        """
        return None

    def is_complete(self, log: TrainLog) -> bool:
        """Return whether a resumed run is past the end that this extension sets."""
        return False

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what a checkpoint must keep, by key of its meta, as JSON can hold it."""
        return {}

    def resume(self, mainloop: Training, meta: Mapping[str, Any]) -> None:
        """Take over `state` from the meta of a checkpoint.

        Raises
        ------
        LookupError, TypeError, ValueError
            If the meta does not hold it.  Nothing has changed then.
        """

    def rescue(self, mainloop: Training) -> Path | None:
        """Write a checkpoint of a run that fails; return its path, or None if none was written."""
        return None

    def is_best(self, log: TrainLog, means: Entry) -> bool | None:
        """Return whether the monitoring step with these means is the best so far.

        Returns
        -------
        bool or None
            None if this extension does not judge such a step.
        """
        return None


class GradientClipping(Extension):
    r"""Scale all gradients so that their common norm is at most ``scaler``.

    .. math:: g \leftarrow g / B, \qquad
              g \leftarrow g \cdot \frac{c}{\max(c, \lVert g \rVert)}

    Parameters
    ----------
    scaler : float
        The greatest norm c.
    batch_size : int
        The B by which gradients are divided first.
    check_nan : int or bool
        If the norm is NaN or infinite, replace each gradient by 0.1 times its
        parameter.

    Notes
    -----
    Counterpart: ``cle.train.ext.GradientClipping``.  The programs hand it the
    gradient of a cost that is a mean over the batch already, so their
    gradients are divided by the batch size twice.
    """

    name = "ext_grad"

    def __init__(self, scaler: float = 5, batch_size: int = 1, check_nan: int | bool = 0) -> None:
        self.scaler = scaler
        self.batch_size = batch_size
        self.check_nan = check_nan

    def exe(self, mainloop: Training) -> None:
        """Replace the gradients of ``mainloop.grads``; hand their norm to ``grad_norm``."""
        batch_size = np.asarray(self.batch_size, dtype=pytensor.config.floatX)
        # Two things differ from the original, in rounding at most, because XLA would otherwise do
        # needless work.  The division by B comes after the sum of squares: before it, XLA writes B
        # out once for each number of a gradient.  The test for being finite looks at the norm, not
        # at its square: else XLA adds up all squares anew for each number of each parameter.
        norm = pt.sqrt(sum((g**2).sum() for g in mainloop.grads.values())) / batch_size
        mainloop.grad_norm = norm
        scale = self.scaler / pt.maximum(self.scaler, norm)
        is_bad = not_finite(norm)
        for p, g in mainloop.grads.items():
            clipped = g / batch_size * scale
            mainloop.grads[p] = pt.switch(is_bad, 0.1 * p, clipped) if self.check_nan else clipped


class EpochCount(Extension):
    """End the training when the epochs seen are a multiple of ``num_epoch``.

    Parameters
    ----------
    num_epoch : int

    Notes
    -----
    Counterpart: ``cle.train.ext.EpochCount``.  A run continued from epoch n
    therefore ends at the next multiple, not after ``num_epoch`` more.
    """

    name = "ext_term"

    def __init__(self, num_epoch: int) -> None:
        self.num_epoch = num_epoch

    def exe(self, mainloop: Training) -> None:
        """Set ``mainloop.endloop`` when it is time."""
        if mainloop.trainlog.epoch_seen % self.num_epoch == 0:
            mainloop.endloop = 1

    def planned_updates(self, n_batch: int) -> int:
        """See `Extension`."""
        return self.num_epoch * n_batch

    def is_complete(self, log: TrainLog) -> bool:
        """See `Extension`."""
        return log.epoch_seen >= self.num_epoch


class UpdateCount(Extension):
    """End the training after ``num_update`` updates in all, also within an epoch.

    Parameters
    ----------
    num_update : int

    Notes
    -----
    No counterpart in the original.
    """

    name = "ext_schedule"

    def __init__(self, num_update: int) -> None:
        self.num_update = num_update

    def exe(self, mainloop: Training) -> None:
        """Set ``mainloop.endloop`` when it is time."""
        if self.is_complete(mainloop.trainlog):
            mainloop.endloop = 1

    def planned_updates(self, n_batch: int) -> int:
        """See `Extension`."""
        return self.num_update

    def is_complete(self, log: TrainLog) -> bool:
        """See `Extension`."""
        return log.batch_seen >= self.num_update


class Monitoring(Extension):
    """Every ``freq`` updates compute channels over whole data sets and log them.

    Parameters
    ----------
    freq : int
        Updates between two monitoring steps.
    ddout : list of tensors, optional
        Scalars to compute; their names name the channels.  A vector of a static
        length is written to the log file as a list; the original has none.
    data : list of Iterator, optional
        Data sets to go through; their names come before the channels'.  Without any,
        a step logs only what the update returned.
    monitor_fn : callable, optional
        Computes ``ddout`` from a batch (on several devices, see
        `cle_port.graph.devices.over_batches`); the default is to compile it.
    obj_monitor_fn : callable, optional
        Applied to the mean of a channel to give a further one (a perplexity).
    obj_monitor_ch : list of str
        Names of those further channels, for the first channels in order.
    explosion_limit : float
        A mean above this ends the training with an error.
    inputs : list of tensors, optional
        Inputs of ``ddout``; default: the main loop's.

    Raises
    ------
    ValueError
        If there is ``data`` and no ``ddout``, or one of these is neither a scalar nor a
        vector of a static length.
    UserError
        From `exe`, if a mean is not finite while the main loop's ``on_nan`` is
        'stop', or above ``explosion_limit``.

    Notes
    -----
    Counterpart: ``cle.train.ext.Monitoring``.  A channel's number is the
    unweighted mean over batches, also for channels called max or min.  The
    original's own check for NaN cannot fire; this one does.  After a signal the
    step ends with the current batch and logs nothing.  The main loop's ``screen``
    prints the step.
    """

    name = "ext_monitor"

    def __init__(
        self,
        freq: int,
        ddout: Sequence[TensorVariable] | None = None,
        data: Sequence[Batches] | None = None,
        monitor_fn: Callable | None = None,
        obj_monitor_fn: Callable[[float], float] | None = None,
        obj_monitor_ch: Sequence[str] = (),
        explosion_limit: float = 1e8,
        inputs: Sequence[TensorVariable] | None = None,
    ) -> None:
        self.freq = freq
        if data and not ddout:
            raise ValueError("Monitoring got data but no ddout; name the scalars to compute on it")
        for channel in ddout or ():
            if channel.ndim > 1 or None in channel.type.shape:
                raise ValueError(
                    f"{channel.name} is {channel.type}; give scalars, or vectors of a static length"
                )
        self.ddout = list(ddout or ())
        self.data = list(data or ())
        self.monitor_fn = monitor_fn
        self.obj_monitor_fn = obj_monitor_fn
        self.obj_monitor_ch = list(obj_monitor_ch)
        self.explosion_limit = explosion_limit
        self.inputs = inputs

    def is_due(self, log: TrainLog) -> bool:
        """See `Extension`."""
        return log.batch_seen % self.freq == 0

    def exe(self, mainloop: Training) -> None:
        """Log a monitoring step if one is due or the run ends."""
        log = mainloop.trainlog
        if not self.is_due(log) and not mainloop.endloop:
            return
        recent = slice(max(0, log.batch_seen - self.freq), max(1, log.batch_seen))
        entry: Entry = {
            "elapsed_time": float(np.sum(log.monitor["time"][recent])),
            "learning_rate": float(mainloop.optimizer.lr.get_value()),
            **self._recent_outputs(mainloop, recent),
            **self._recent_grad_norm(log, recent),
        }
        mainloop.screen.before(mainloop, entry)
        t0 = time.perf_counter()
        means = self.monitor_data_based_channels(mainloop)
        if means is None:
            logger.info(" Interrupted")
            return
        entry |= means
        entry["monitoring_time"] = time.perf_counter() - t0
        judged = [extension.is_best(log, means) for extension in mainloop.extension]
        if any(is_best is not None for is_best in judged):
            entry["best"] = int(any(judged))
        entry["wall_time"] = time.time()
        mainloop.screen.after(mainloop, entry, [str(data.name) for data in self.data])
        log.monitored_at = log.batch_seen
        log.monitor["monitoring_time"] = [entry["monitoring_time"]]
        log.write(entry)

    def monitor_data_based_channels(self, mainloop: Training) -> Entry | None:
        """Go through all data sets; log the mean of each channel over the batches.

        Returns
        -------
        dict of str to float or list of float, or None
            Means by ``<data>_<channel>``; None after a signal.
        """
        if not self.data:
            return {}
        devices = mainloop.compiler.devices
        if self.monitor_fn is None:
            inputs = mainloop.inputs if self.inputs is None else self.inputs
            outputs = from_each_device(self.ddout, devices)
            self.monitor_fn = mainloop.compiler.function(inputs, outputs)
        # All data sets come before any channel is looked at, as in the original.
        try:
            records = [
                over_batches(self.monitor_fn, until_interrupted(data, mainloop), devices)
                for data in self.data
            ]
        except _Interrupted:
            return None
        means: Entry = {}
        for record, data in zip(records, self.data):
            means |= self._means(record, str(data.name), mainloop)
        for name, mean in means.items():
            if not isinstance(mean, list):
                mainloop.trainlog.monitor[name].append(mean)
        return means

    def _means(self, record: NDArray, data_name: str, mainloop: Training) -> Entry:
        """Mean of each channel of one data set, from an array of shape (batches, numbers)."""
        means: Entry = {}
        start = 0
        for i, channel in enumerate(self.ddout):
            name = f"{data_name}_{channel.name}"
            if channel.ndim:
                end = start + int(channel.type.shape[0])
                means[name] = record[:, start:end].mean(axis=0).astype(float).tolist()
                start = end
                continue
            mean = record[:, start].mean()
            start += 1
            means[name] = float(mean)
            self._check_mean(name, mean, mainloop)
            if self.obj_monitor_fn is not None and i < len(self.obj_monitor_ch):
                objective = self.obj_monitor_fn(mean)
                means[f"{data_name}_{self.obj_monitor_ch[i]}"] = float(objective)
        return means

    def _check_mean(self, name: str, mean: Any, mainloop: Training) -> None:
        finite = math.isfinite(mean)
        if (finite or mainloop.on_nan == "original") and mean > self.explosion_limit:
            raise UserError(diverged(name, mean))
        if finite:
            return
        if mainloop.on_nan == "stop":
            raise UserError(diverged(name, mean))
        mainloop.trainlog.not_finite += 1
        logger.warning("%s is %g", name, mean)

    def _recent_outputs(self, mainloop: Training, recent: slice) -> Entry:
        """Mean of each output over the updates since the last monitoring step."""
        log = mainloop.trainlog
        if log.batch_seen == 0:
            return {}
        outputs = np.asarray(log.monitor["update"][recent])
        if mainloop.on_nan == "skip":  # of the updates that were made
            outputs = outputs[np.isfinite(outputs).all(axis=1)]
        means = outputs.mean(axis=0) if len(outputs) else np.full(len(mainloop.outputs), np.nan)
        return {f"this_batch_{out.name}": float(m) for out, m in zip(mainloop.outputs, means)}

    def _recent_grad_norm(self, log: TrainLog, recent: slice) -> Entry:
        """Mean norm of the gradients over the same updates, as far as it is known and finite.

        A run resumed from an older checkpoint does not know it of its first updates.
        """
        norms = log.monitor.get("grad_norm", [])
        n = min(len(norms), recent.stop - recent.start)
        finite = np.asarray(norms[len(norms) - n :])
        finite = finite[np.isfinite(finite)]
        return {"grad_norm": float(finite.mean())} if len(finite) else {}


class _Interrupted(Exception):
    """A signal came while monitoring."""


def until_interrupted(data: Batches, mainloop: Training) -> IteratorType[tuple[NDArray, ...]]:
    """Yield all batches; raise `_Interrupted` after the one at which a signal came."""
    for batch in data:
        if mainloop.interrupted:
            raise _Interrupted
        yield batch


class Picklize(Extension):
    """Every ``freq`` updates write a checkpoint; every ``force_save_freq`` one to keep.

    Parameters
    ----------
    freq : int
        Updates between two writes of ``<name>.npz``.
    path : path
        Folder, created if it does not exist.
    force_save_freq : int, optional
        Updates between two files ``<name>_<n>updates.npz`` that stay.
    keep : int
        How many of the last ``<name>.npz`` to keep as ``<name>_recent_<n>updates.npz``.

    Raises
    ------
    UserError
        If the folder cannot be created.

    Notes
    -----
    Counterpart: ``cle.train.ext.Picklize``, without ``keep``.  The name is the
    original's; the files are ``.npz`` without pickles (see `cle_port.train.checkpoint`).
    """

    name = "ext_save"

    def __init__(
        self, freq: int, path: str | Path, force_save_freq: float = 1e15, keep: int = 0
    ) -> None:
        self.freq = freq
        self.path = make_folder(path)
        self.force_save_freq = force_save_freq
        self.keep = keep

    def exe(self, mainloop: Training) -> None:
        """Write what is due."""
        batch_seen = mainloop.trainlog.batch_seen
        if batch_seen % self.freq == 0 or mainloop.endloop:
            self.rescue(mainloop)
        if batch_seen % self.force_save_freq == 0 and batch_seen != 0:
            path = self.path / f"{mainloop.name}_{batch_seen}updates.npz"
            mainloop.saving.save(path, "model to keep")

    def rescue(self, mainloop: Training) -> Path | None:
        """Write ``<name>.npz``, due or not; return its path, or None if that failed."""
        path = self.path / f"{mainloop.name}.npz"
        if not mainloop.saving.save(path):
            return None
        if self.keep:
            try:
                self._keep_recent(path, mainloop.trainlog.batch_seen)
            except OSError as error:
                logger.warning("cannot keep a copy of %s (%s)", path, error.strerror)
        return path

    def _keep_recent(self, path: Path, batch_seen: int) -> None:
        """Keep the file under a name of its own, and of such files the last ones."""
        kept = path.with_name(f"{path.stem}_recent_{batch_seen}updates.npz")
        kept.unlink(missing_ok=True)
        try:
            os.link(path, kept)  # takes no room
        except OSError:  # a file system without links
            shutil.copyfile(path, kept)
        pattern = re.compile(re.escape(f"{path.stem}_recent_") + r"(\d+)updates\.npz")
        matches = filter(None, (pattern.fullmatch(entry) for entry in os.listdir(path.parent)))
        # Those of later updates are of a run that was given up for an earlier checkpoint.
        by_age = sorted(matches, key=lambda match: (int(match[1]) <= batch_seen, int(match[1])))
        for match in by_age[: -self.keep]:
            (path.parent / match[0]).unlink()


class EarlyStopping(Extension):
    """Keep the checkpoint with the best value of a channel.

    In spite of its name it does not stop the training; `Patience` does.

    Parameters
    ----------
    path : path
        Folder, created if it does not exist.
    channel : str, optional
        Channel to watch; default ``valid_nll``.
    freq : int
        Updates between two looks; a multiple of the monitoring's.
    force_save_freq : int, optional
        Also keep the best of each stretch of so many updates, as
        ``<name>_best_before_<n>updates.npz``.
    minimize : int or bool
        Whether less is better.

    Raises
    ------
    UserError
        If the folder cannot be created.
    ValueError
        From `exe`, if there is no such channel.

    Notes
    -----
    Counterpart: ``cle.train.ext.EarlyStopping``.  Nothing is kept before the
    first update, though the channel has a value then.
    """

    name = "ext_save"

    def __init__(
        self,
        path: str | Path,
        channel: str | None = None,
        freq: int = 1,
        force_save_freq: int | None = None,
        minimize: int | bool = 1,
    ) -> None:
        self.path = make_folder(path)
        self.channel = "valid_nll" if channel is None else channel
        self.freq = freq
        self.force_save_freq = force_save_freq
        self.minimize = minimize
        self.best = sys.float_info.max if minimize else -sys.float_info.max

    def exe(self, mainloop: Training) -> None:
        """Write the checkpoint if the channel's last value is the best so far."""
        log = mainloop.trainlog
        due = log.batch_seen % self.freq == 0 or mainloop.endloop
        if log.batch_seen == 0 or not due:
            return
        if mainloop.interrupted and log.monitored_at != log.batch_seen:
            return  # after a signal nothing is monitored: the last value is of older parameters
        if self.channel not in log.monitor:
            raise ValueError(f"no channel {self.channel!r}; there are: {', '.join(log.monitor)}")
        value = log.monitor[self.channel][-1]
        if not (value < self.best if self.minimize else value > self.best):
            return
        self.best = value
        mainloop.saving.save(self.path / f"{mainloop.name}_best.npz", "best model")
        if self.force_save_freq is not None:
            end = self.force_save_freq * (log.batch_seen // self.force_save_freq + 1)
            path = self.path / f"{mainloop.name}_best_before_{end}updates.npz"
            mainloop.saving.save(path, "best model of its stretch")

    def is_best(self, log: TrainLog, means: Entry) -> bool | None:
        """See `Extension`; by the log alone, which a resumed run has as it was."""
        if self.channel not in means:
            return None
        return log.batch_seen > 0 and not steps_since_best(log.monitor[self.channel], self.minimize)

    def state(self) -> dict[str, dict[str, Any]]:
        """Best value so far, as ``best`` by channel."""
        return {"best": {self.channel: self.best}}

    def resume(self, mainloop: Training, meta: Mapping[str, Any]) -> None:
        """Continue with the best value so far.

        The best-model file on disk decides; if it is missing, the next
        improvement is saved.  So a better file stays, such as one from the last
        monitoring step of a run that is now continued, and a file that could
        not be written is written at the next chance.
        """
        best = float(meta["best"][self.channel])
        path = self.path / f"{mainloop.name}_best.npz"
        try:
            of_file = checkpoint.load_meta(path)
            value = float(of_file["best"][self.channel])
            n = of_file["batch_seen"]
        except (*DAMAGE, UserError) as error:
            logger.info("%s: the best model is sought from here on", error)
            return
        # A file of this very step does not count: the resumed run looks at the step again.
        self.best = best if n == meta["batch_seen"] == meta["monitored_at"] else value


class Patience(Extension):
    """End the training when a channel has not improved for some monitoring steps.

    Parameters
    ----------
    channel : str
        Channel to watch.
    patience : int
        Monitoring steps without a better value after which the run ends.
    minimize : int or bool
        Whether less is better.

    Raises
    ------
    ValueError
        From `exe`, if there is no such channel.

    Notes
    -----
    No counterpart: the original's ``EarlyStopping`` stops nothing.  The step before
    the first update does not count.  A value that is not finite is no improvement.
    """

    name = "ext_monitor"  # behind `Monitoring` in the list

    def __init__(self, channel: str, patience: int, minimize: int | bool = 1) -> None:
        self.channel = channel
        self.patience = patience
        self.minimize = minimize

    def exe(self, mainloop: Training) -> None:
        """Set ``mainloop.endloop`` when it is time."""
        log = mainloop.trainlog
        if mainloop.interrupted:
            return  # a signal has cut the monitoring short
        if self.channel not in log.monitor:
            raise ValueError(f"no channel {self.channel!r}; there are: {', '.join(log.monitor)}")
        if log.monitored_at != log.batch_seen:
            return  # none was due
        if not mainloop.endloop and self.is_complete(log):
            mainloop.endloop = 1
            logger.info(
                "%s has not improved for %d monitoring steps: the run ends",
                self.channel,
                self.patience,
            )

    def is_complete(self, log: TrainLog) -> bool:
        """See `Extension`."""
        values = log.monitor.get(self.channel, [])
        return steps_since_best(values, self.minimize) >= self.patience


def steps_since_best(values: Sequence[float], minimize: int | bool = 1) -> int:
    """Count the monitoring steps after the best one; all of them if no value is finite.

    Parameters
    ----------
    values : list of float
        A channel that is monitored from the beginning.  Its first value is of the model
        before the first update, and does not count.
    minimize : int or bool
        Whether less is better.
    """
    trained = [v if minimize else -v for v in values[1:]]
    finite = [v for v in trained if math.isfinite(v)]
    return len(trained) - (trained.index(min(finite)) + 1 if finite else 0)


class WeightDecay(Extension):
    r"""Add the squares of the weights to the cost.

    .. math:: C \leftarrow C + \lambda \sum_w w^2

    Parameters
    ----------
    lambd : float
        The factor.
    keys : str or list of str
        Parameters are chosen whose name contains one of these; one that contains
        two counts twice.

    Notes
    -----
    Counterpart: ``cle.train.ext.WeightDecay``.  Gradients are of the cost with
    the decay, but ``outputs``, and so the log, have the cost without.
    """

    name = "ext_regularize_pre_grad"

    def __init__(self, lambd: float = 0.0002, keys: str | Sequence[str] = ("W",)) -> None:
        self.lambd = lambd
        self.keys = tolist(keys)

    def exe(self, mainloop: Training) -> None:
        """Replace ``mainloop.cost``."""
        for name, p in mainloop.model.params.items():
            for _ in filter(lambda key: key in name, self.keys):
                mainloop.cost = mainloop.cost + self.lambd * pt.sqr(p).sum()


class WeightNorm(Extension):
    r"""Limit the norm of each column of the updated weights.

    .. math:: w \leftarrow w \cdot
              \frac{\min(\lVert w \rVert, c)}{\lVert w \rVert + 10^{-7}}

    Parameters
    ----------
    is_vector : int or bool
        Limit each column (the weights into one unit); else the whole matrix.
    weight_norm : float
        The greatest norm c.
    keys : str or list of str
        Updates are chosen whose parameter's name contains one of these; one
        that contains two is limited twice.
    waivers : str or list of str
        Names that contain one of these are left alone.

    Notes
    -----
    Counterpart: ``cle.train.ext.WeightNorm``.  The 1e-7 shrinks every weight a
    little, also those within the limit.
    """

    name = "ext_regularize_post_grad"

    def __init__(
        self,
        is_vector: int | bool = 1,
        weight_norm: float = 1.9365,
        keys: str | Sequence[str] = ("W",),
        waivers: str | Sequence[str] = (),
    ) -> None:
        self.is_vector = is_vector
        self.weight_norm = weight_norm
        self.keys = tolist(keys)
        self.waivers = tolist(waivers)

    def exe(self, mainloop: Training) -> None:
        """Replace the updates of ``mainloop.updates``."""
        for p in mainloop.updates:
            name = p.name or ""
            if any(waiver in name for waiver in self.waivers):
                continue
            for _ in filter(lambda key: key in name, self.keys):
                mainloop.updates[p] = self._limited(mainloop.updates[p])

    def _limited(self, w: TensorVariable) -> TensorVariable:
        norm = pt.sqrt(pt.sqr(w).sum(axis=0 if self.is_vector else None))
        return w * (pt.clip(norm, 0, self.weight_norm) / (1e-7 + norm))


class _LrSchedule(Extension):
    """A learning rate that changes with the number of updates.

    Parameters
    ----------
    *arguments
        Those of the schedule.  A checkpoint holds the state of a schedule under its class and
        arguments.

    Attributes
    ----------
    count : int
        Updates since the schedule began.
    base_lr : float or None
        Learning rate when it began; None before the first update.

    Notes
    -----
    No counterpart: what the original's two schedules have in common.
    """

    name = "ext_schedule"

    def __init__(self, *arguments: float) -> None:
        self.key = f"{type(self).__name__}({', '.join(map(str, arguments))})"
        self.count = 0
        self.base_lr: float | None = None

    def rate(self, base_lr: float) -> float:
        """Return the learning rate after ``count`` updates."""
        raise NotImplementedError

    def exe(self, mainloop: Training) -> None:
        """Set the learning rate of the next update."""
        lr = mainloop.optimizer.lr
        if self.base_lr is None:
            self.base_lr = float(lr.get_value())
        self.count += 1
        lr.set_value(np.asarray(self.rate(self.base_lr), dtype=lr.dtype))

    def state(self) -> dict[str, dict[str, Any]]:
        """Count and first learning rate, as ``schedule`` by class and arguments."""
        return {"schedule": {self.key: {"count": self.count, "base_lr": self.base_lr}}}

    def resume(self, mainloop: Training, meta: Mapping[str, Any]) -> None:
        """Continue the schedule; one that the checkpoint does not hold begins with it."""
        schedules = meta.get("schedule", {})
        if self.key in schedules:
            self._take_over(schedules[self.key])
        else:
            logger.info("%s begins here: the checkpoint does not hold it", self.key)

    def _take_over(self, state: Mapping[str, Any]) -> None:
        base_lr = state["base_lr"]
        self.count = int(state["count"])
        self.base_lr = None if base_lr is None else float(base_lr)


class LrLinearDecay(_LrSchedule):
    r"""Lower the learning rate linearly between two updates, then keep it.

    With l the learning rate at the beginning and f the ``decay_factor``, after n updates:

    .. math::
        l_n = \begin{cases}
            l & n < \text{start} \\
            l - (l - f l) \frac{n - \text{start} + 1}{\text{end} - \text{start} + 1}
              & \text{start} \le n < \text{end} \\
            f l & \text{end} \le n
        \end{cases}

    Parameters
    ----------
    start, end : int
        Numbers of the updates after which the decay begins and ends.
    decay_factor : float
        Last learning rate divided by the first one.

    Raises
    ------
    ValueError
        If not 0 < ``start`` < ``end``, or ``decay_factor`` is not above 0.  From `exe`, if the
        learning rate is not above 0.

    Notes
    -----
    Counterpart: ``cle.train.ext.LrLinearDecay``, which notices a ``decay_factor`` of 0 only at
    the end of the decay.
    """

    def __init__(self, start: int, end: int, decay_factor: float) -> None:
        super().__init__(start, end, decay_factor)
        if not 0 < start < end:
            raise ValueError(f"start is {start} and end {end}; give 0 < start < end")
        if decay_factor <= 0:
            raise ValueError(f"decay_factor is {decay_factor}; give a number above 0")
        self.start = start
        self.end = end
        self.decay_factor = decay_factor

    def rate(self, base_lr: float) -> float:
        """See `_LrSchedule`."""
        if base_lr <= 0:
            raise ValueError(f"the learning rate is {base_lr:g}; start from one above 0")
        if self.count < self.start:
            return base_lr
        if self.count >= self.end:
            return base_lr * self.decay_factor
        step = (base_lr - base_lr * self.decay_factor) / (self.end - self.start + 1)
        return base_lr - step * (self.count - self.start + 1)


class LrExponentialDecay(_LrSchedule):
    r"""Divide the learning rate by ``decay_factor`` after each update.

    With l the learning rate at the beginning and f the ``decay_factor``, after n updates
    :math:`l_n = l / f^n`, until this is at most ``min_lr``: from then on ``min_lr``.

    Parameters
    ----------
    decay_factor : float
        Greater than 1 to lower the learning rate.
    min_lr : float
        The last learning rate.

    Raises
    ------
    ValueError
        If ``decay_factor`` is not above 0.

    Notes
    -----
    Counterpart: ``cle.train.ext.LrExponentialDecay``, which fails once f to the power of n is
    too large for a number, if ``min_lr`` is not above 0.
    """

    def __init__(self, decay_factor: float, min_lr: float) -> None:
        super().__init__(decay_factor, min_lr)
        if decay_factor <= 0:
            raise ValueError(f"decay_factor is {decay_factor}; give a number above 0")
        self.decay_factor = decay_factor
        self.min_lr = min_lr
        self.min_ = False

    def rate(self, base_lr: float) -> float:
        """See `_LrSchedule`."""
        if not self.min_:
            with np.errstate(over="ignore"):
                lr = base_lr / np.float64(self.decay_factor) ** self.count
            self.min_ = bool(lr <= self.min_lr)
        return self.min_lr if self.min_ else lr

    def state(self) -> dict[str, dict[str, Any]]:
        """See `_LrSchedule`; with it, whether ``min_lr`` is reached."""
        state = super().state()
        state["schedule"][self.key]["min_"] = self.min_
        return state

    def _take_over(self, state: Mapping[str, Any]) -> None:
        super()._take_over(state)
        self.min_ = bool(state["min_"])


class LrCosine(_LrSchedule):
    r"""Raise the learning rate linearly, then lower it along half a cosine.

    With l the learning rate at the beginning and f the ``decay_factor``, after n updates:

    .. math::
        l_n = \begin{cases}
            l \, (n + 1) / \text{warmup} & n < \text{warmup} \\
            l f + \tfrac12 (l - l f) \Big(1 +
              \cos \pi \frac{n - \text{warmup}}{\text{end} - \text{warmup}}\Big)
              & \text{warmup} \le n < \text{end} \\
            l f & \text{end} \le n
        \end{cases}

    Parameters
    ----------
    warmup, end : int
        Numbers of the updates after which the rate is highest and lowest; without a
        rise, 0.
    decay_factor : float
        Last learning rate divided by the highest one.

    Raises
    ------
    ValueError
        If not 0 <= ``warmup`` < ``end``, or ``decay_factor`` is negative.

    Notes
    -----
    No counterpart: Loshchilov and Hutter, *SGDR*, arXiv 1608.03983, without restarts.
    """

    def __init__(self, warmup: int, end: int, decay_factor: float = 0.0) -> None:
        super().__init__(warmup, end, decay_factor)
        if not 0 <= warmup < end:
            raise ValueError(f"warmup is {warmup} and end {end}; give 0 <= warmup < end")
        if decay_factor < 0:
            raise ValueError(f"decay_factor is {decay_factor}; give one that is not negative")
        self.warmup = warmup
        self.end = end
        self.decay_factor = decay_factor

    def begin(self, mainloop: Training) -> None:
        """Set the learning rate of the schedule's first update."""
        if self.base_lr is not None:
            return  # the schedule goes on
        lr = mainloop.optimizer.lr
        self.base_lr = float(lr.get_value())
        lr.set_value(np.asarray(self.rate(self.base_lr), dtype=lr.dtype))

    def rate(self, base_lr: float) -> float:
        """See `_LrSchedule`."""
        if self.count < self.warmup:
            return base_lr * (self.count + 1) / self.warmup
        lowest = base_lr * self.decay_factor
        share = min((self.count - self.warmup) / (self.end - self.warmup), 1.0)
        return lowest + 0.5 * (base_lr - lowest) * (1 + math.cos(math.pi * share))


def make_folder(path: str | Path) -> Path:
    """Create a folder for results unless it exists.

    Raises
    ------
    UserError
        If it cannot be created or is not a folder.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the folder {folder} ({error.strerror}); choose another --save_path"
        ) from error
    return folder


def diverged(name: str, value: float) -> str:
    """Message of a run that cannot go on."""
    return (
        f"{name} is {value:g}: training has diverged; the checkpoints written before are kept, "
        "start again with a smaller --lr"
    )
