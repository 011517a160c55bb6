"""The main loop.

Counterpart: ``cle/train/__init__.py``.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator as IteratorType
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
from numpy.typing import NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cle_port import checkpoint
from cle_port.backend import PerLength, building, choose, compile_function
from cle_port.errors import UserError
from cle_port.models import Model
from cle_port.parallel import (
    greatest,
    is_among_others,
    is_first_process,
    mean_over_devices,
    value_of,
)
from cle_port.progress import elapsed_time, progress_bar
from cle_port.rng import Batches, Noise
from cle_port.train.ext import EarlyStopping, EpochCount, Extension, Monitoring, Picklize
from cle_port.train.log import TrainLog
from cle_port.train.opt import Optimizer
from cle_port.train.saving import Saving
from cle_port.utils import tolist
from cle_port.utils.op import not_finite

__all__ = ["ON_NAN", "TrainLog", "Training", "check_resumable"]

logger = logging.getLogger(__name__)

ON_NAN = ("stop", "skip", "original")
SAME_SIGNAL_SECONDS = 0.3  # within which a second signal is taken for the first one's twin


class Training:
    """Compile the update, then loop over the data.

    One iteration runs, in this order: the monitoring extensions, the saving
    extensions, the update, the scheduling extensions.  So the first monitoring
    pass and the first checkpoint come before any update.  After each epoch the
    terminating extensions run; after the last one monitoring and saving run
    once more.

    Parameters
    ----------
    name : str
        First part of the names of all files written.
    data : Iterator
        Yields batches, tuples of arrays in the order of ``model.inputs``.
    model : Model
        Inputs, parameters, nodes and updates of its own.
    optimizer : Optimizer
        Turns gradients into updates.
    cost : tensor
        Scalar to minimise.
    outputs : tensor or list of tensors
        Scalars that every update returns, logged as ``this_batch_<name>``.
    debug_print : int or bool
        Print the graph of outputs and updates, as it is before compilation.
    trainlog : TrainLog, optional
        Log to continue; default is a new one.
    extension : list of Extension, optional
        See `cle_port.train.ext`; each runs at the point that its ``name`` says.
    backend : {'auto', 'jax', 'c', 'numba'}
        See `cle_port.backend`.
    devices : int
        Number of devices that ``cost``, ``outputs`` and ``model.updates`` are
        written for: see `cle_port.parallel`.
    max_updates : int, optional
        Stop after so many updates in all, even within an epoch.
    noise : mapping of str to NormalNoise or MRGNoise
        Streams whose positions belong into a checkpoint.
    settings : mapping
        Resolved settings of the program, written into each checkpoint.
    data_id : str
        What tells the data from others, written into each checkpoint.
    on_nan : {'stop', 'skip', 'original'}
        What an update does whose outputs or gradients are not all finite:
        'stop' ends the run before it, 'skip' leaves it out, 'original' makes it
        (see `GradientClipping` for what ``check_nan`` does to it then).
    quiet : bool
        No progress bar.

    Attributes
    ----------
    raw_grads, grads : dict of TensorSharedVariable to tensor
        Gradient by parameter, before and after the extensions.
    updates : dict of TensorSharedVariable to tensor
        Updates in the order: the model's own, state and parameters, counters.
    trainlog : TrainLog
    grad_norm : tensor or None
        Norm of all gradients, set by an extension that computes it: whether the
        gradients are finite.
    saving : Saving
        Writes the checkpoints.
    interrupted : signal.Signals or None
        The signal that ended `run`, if one did.

    Notes
    -----
    Counterpart: ``cle.train.Training``; the arguments from ``backend`` on are
    ours.  As there, the nodes' ``lr_scaler`` are handed to the optimizer by
    node name, looked up by parameter name, and so never applied.
    """

    def __init__(
        self,
        name: str,
        data: Batches,
        model: Model,
        optimizer: Optimizer,
        cost: TensorVariable,
        outputs: TensorVariable | Sequence[TensorVariable],
        debug_print: int | bool = 0,
        trainlog: TrainLog | None = None,
        extension: Sequence[Extension] | None = None,
        *,
        backend: str = "auto",
        devices: int = 1,
        max_updates: int | None = None,
        noise: Mapping[str, Noise] | None = None,
        settings: Mapping[str, Any] | None = None,
        data_id: str = "",
        on_nan: str = "stop",
        quiet: bool = False,
    ) -> None:
        self.name = name
        self.data = data
        self.model = model
        self.optimizer = optimizer
        self.inputs = model.inputs
        self.cost = cost
        self.outputs = tolist(outputs)
        self.updates = dict(model.updates)
        self.extension = list(extension or ())
        self.trainlog = TrainLog() if trainlog is None else trainlog
        self.backend = choose(backend).backend
        self.devices = devices
        self.max_updates = max_updates
        self.noise = dict(noise or {})
        self.settings = dict(settings or {})
        self.data_id = data_id
        self.on_nan = on_nan
        self.quiet = quiet
        self.endloop = 0
        self.grad_norm: TensorVariable | None = None
        self.saving = Saving()
        self.resumed = False
        self._position: dict[str, Any] | None = None
        self.interrupted: signal.Signals | None = None
        self._signalled = 0
        self.optimizer.lr_scalers = {node.name: node.lr_scaler for node in model.nodes}

        t0 = time.perf_counter()
        with elapsed_time("Compiling the update", quiet):
            self.cost_fn = self.build_training_graph()
        logger.info("Elapsed compilation time: %f", time.perf_counter() - t0)
        if debug_print:
            pytensor.printing.debugprint([*self.outputs, *self.updates.values()])

    def build_training_graph(self) -> Any:
        """Derive gradients and updates, let the extensions change them, compile.

        Returns
        -------
        callable
            Takes a batch, returns the values of ``outputs`` and the gradients'
            norm, if an extension has computed it, and updates all state.
        """
        self.run_extension("ext_regularize_pre_grad")
        params = list(self.model.params.values())
        with building():
            grads: Any = pytensor.grad(self.cost, params)
        means = mean_over_devices([*grads, *self.outputs], self.devices)
        grads, self.outputs = means[: len(grads)], means[len(grads) :]
        self.grads: dict[TensorSharedVariable, TensorVariable] = dict(zip(params, grads))
        self.raw_grads = dict(self.grads)
        self.run_extension("ext_grad")
        seen = [*self.outputs, *([] if self.grad_norm is None else [self.grad_norm])]
        if self.on_nan != "original":
            self.optimizer.skip = not_finite(*seen)
        self.updates.update(self.optimizer.get_updates(self.grads))
        self.run_extension("ext_regularize_post_grad")
        keep = self.optimizer.unless_skipped
        updates = {variable: keep(variable, new) for variable, new in self.updates.items()}
        return compile_function(self.inputs, seen, updates, self.backend, self.devices)

    def run(self) -> None:
        """Train until an extension, ``max_updates`` or a signal ends it.

        The first SIGINT or SIGTERM lets the current update finish, writes a
        checkpoint and returns, with ``interrupted`` set; a second one stops at
        once.
        """
        logger.info("Entering main loop")
        with (
            self._signals(),
            self._log_above_bar(),
            progress_bar(self._planned_updates(), self.name, "update", self.quiet) as bar,
        ):
            bar.update(self.trainlog.batch_seen)
            while self.run_epoch(bar):
                pass
        self.saving.finish()
        self.trainlog.flush(last=True)
        if isinstance(self.cost_fn, PerLength) and self.cost_fn.n_frame:
            share = self.cost_fn.n_padded / self.cost_fn.n_frame
            logger.info("Frames added to reach a compiled length: %.1f %%", 100 * share)
        logger.info("Terminating main loop")

    def run_epoch(self, bar: tqdm | None = None) -> bool:
        """Go once through the data, or its rest; return whether training goes on."""
        if self.resumed and self._is_complete():
            return self._finish()
        log = self.trainlog
        batches = iter(self.data)
        for n_left in reversed(range(len(self.data) - log.batch_in_epoch)):
            self._monitor()
            self._save()
            self._notice_signal()
            if self.interrupted:  # it came during the first monitoring pass
                return self._finish()
            # Only now: a checkpoint has the position of the noise before this batch's.
            cost = self.update(next(batches))[0]
            if bar is not None:
                bar.set_postfix_str(f"{self.outputs[0].name} {cost:.4f}", refresh=False)
                bar.update()
            self.run_extension("ext_schedule")
            if n_left and self._asked_to_stop():
                return self._finish()

        log.epoch_seen += 1
        log.batch_in_epoch = 0
        self.run_extension("ext_term")
        return self._finish() if self.end_training() or self._asked_to_stop() else True

    def _notice_signal(self) -> None:
        """Stop for a signal that came to this process or to any other."""
        number = greatest(self._signalled)
        if number:
            self.interrupted = signal.Signals(number)

    def _asked_to_stop(self) -> bool:
        self._notice_signal()
        return self.interrupted is not None or self._has_all_updates()

    def _has_all_updates(self) -> bool:
        return self.max_updates is not None and self.trainlog.batch_seen >= self.max_updates

    def _is_complete(self) -> bool:
        """Whether a resumed run had come to its end before; says so."""
        counts = [ext for ext in self.extension if isinstance(ext, EpochCount)]
        log = self.trainlog
        if self._has_all_updates() or any(log.epoch_seen >= ext.num_epoch for ext in counts):
            logger.warning(
                "the run is complete: %d epochs, %d updates; a larger --epoch or --max_updates "
                "continues it",
                log.epoch_seen,
                log.batch_seen,
            )
            return True
        return False

    def _monitor(self) -> None:
        """Monitor, and note where a run that is resumed from here goes on.

        That is after a pass that is due now in any run, but before the pass that
        only the end of this run calls for, and before one that a signal cut short.
        """
        log = self.trainlog
        before = self.position()
        if log.monitored_at != log.batch_seen:  # else the run was resumed from after it
            self.run_extension("ext_monitor")
        passes = [ext for ext in self.find_extension("ext_monitor") if isinstance(ext, Monitoring)]
        is_due = any(ext.is_due(log) for ext in passes)
        done = is_due and log.monitored_at == log.batch_seen
        self._position = self.position() if done else before

    def _save(self) -> None:
        """Write what is due, and what could not be written before."""
        self.saving.retry()
        self.run_extension("ext_save")
        self.trainlog.flush()

    def update(self, batch: Sequence[NDArray]) -> list[float]:
        """Update all parameters once and log time and outputs.

        Parameters
        ----------
        batch : tuple of ndarray
            In the order of ``inputs``.

        Returns
        -------
        list of float
            Values of ``outputs`` before the update.

        Raises
        ------
        UserError
            If a value is not finite and ``on_nan`` is 'stop'.  State and
            parameters are those before the update then.
        """
        t0 = time.perf_counter()
        seen = [float(np.asarray(value)) for value in self.cost_fn(*batch)]
        seconds = time.perf_counter() - t0
        if not all(map(math.isfinite, seen)):
            self._not_finite(seen)
        this_cost = seen[: len(self.outputs)]
        self.trainlog.monitor["time"].append(seconds)
        self.trainlog.monitor["update"].append(this_cost)
        self.trainlog.batch_seen += 1
        self.trainlog.batch_in_epoch += 1
        self._position = None
        return this_cost

    def _not_finite(self, seen: Sequence[float]) -> None:
        """Count an update with a number that is not finite; say so or end the run."""
        names = [*(out.name or "an output" for out in self.outputs), "the norm of the gradients"]
        name, value = next(pair for pair in zip(names, seen) if not math.isfinite(pair[1]))
        what = f"update {self.trainlog.batch_seen + 1}: {name} is {value:g}"
        if self.on_nan == "stop":
            raise UserError(
                f"{what}; {self._save_before()}; go on from there with --resume --on_nan skip, "
                "or start again with a smaller --lr"
            )
        self.trainlog.not_finite += 1
        done = "the update is left out" if self.on_nan == "skip" else "training goes on"
        logger.warning("%s: %s", what, done)

    def _save_before(self) -> str:
        """Write a checkpoint of the state before an update that was not made; say where."""
        files = [ext.write(self) for ext in self.extension if isinstance(ext, Picklize)]
        if not files or self.saving.failed:
            return "the state before it could not be written"
        return f"the state before it is in {files[0]}"

    def find_extension(self, name: str) -> list[Extension]:
        """Return the extensions that run at the point called ``name``."""
        return [extension for extension in self.extension if extension.name == name]

    def run_extension(self, name: str) -> None:
        """Run the extensions of the point called ``name``, in their order."""
        for extension in self.find_extension(name):
            extension.exe(self)

    def end_training(self) -> int:
        """Return whether a terminating extension has asked for the end."""
        return self.endloop

    def save(self, path: str | Path, kind: str = "model") -> bool:
        """Write parameters, optimizer state, carried state, noise and log to a checkpoint.

        Parameters
        ----------
        path : path
            See `cle_port.checkpoint`.
        kind : str
            See `Saving.write`.

        Returns
        -------
        bool
            Whether it could be written; if not, `Saving` tries again.

        Raises
        ------
        UserError
            If a parameter is not finite and ``on_nan`` is not 'original': no
            checkpoint is replaced by one that is of no use.
        """
        state = self.state()  # which all processes put together
        if self.on_nan != "original":
            self._check_finite(state[0])
        return is_first_process() and self.saving.write(Path(path), state, kind)

    def _check_finite(self, arrays: Mapping[str, NDArray]) -> None:
        for name in self._kept():
            if not np.isfinite(arrays[name]).all():
                raise UserError(
                    f"{name} has entries that are not finite after {self.trainlog.batch_seen} "
                    "updates: training has diverged; the checkpoints written before are kept, "
                    "start again with a smaller --lr"
                )

    def _kept(self) -> dict[str, TensorSharedVariable]:
        """Shared variables by the names that checkpoints give them."""
        carried = {f"state/{variable.name}": variable for variable in self.model.updates}
        lr = {"optimizer/lr": self.optimizer.lr}
        return {**self.model.params, **self.optimizer.state, **lr, **carried}

    def state(self) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Everything a checkpoint holds: arrays by name, and what JSON can hold."""
        arrays = {name: value_of(variable) for name, variable in self._kept().items()}
        meta = {
            "program": self.name,
            "settings": self.settings,
            "data_id": self.data_id,
            "params": list(self.model.params),
            "epoch_seen": self.trainlog.epoch_seen,
            "batch_seen": self.trainlog.batch_seen,
            "best": {ext.channel: ext.best for ext in self._early_stopping()},
            **(self._position or self.position()),
        }
        return arrays | self.trainlog.arrays(), meta

    def position(self) -> dict[str, Any]:
        """Where a run that is resumed from now goes on in data, noise and log."""
        noise = {name: noise.state for name, noise in self.noise.items()}
        return {**self.trainlog.position(), "noise": noise}

    def resume(self, path: str | Path) -> None:
        """Take over everything from a checkpoint, or nothing; `run` goes on from there.

        For a main loop that was made as the one was that wrote the checkpoint.
        The log file is made to end where the checkpoint was written.

        Parameters
        ----------
        path : path
            Written by `save`.

        Raises
        ------
        UserError
            If the file is not a whole checkpoint, or not of this model, or if it
            is older than resuming.
        """
        variables = self._kept()
        check_resumable(path, checkpoint.load_meta(path))
        like = {name: variable.get_value(borrow=True) for name, variable in variables.items()}
        arrays, meta = checkpoint.load(path, {k: np.asarray(v) for k, v in like.items()})
        if meta.get("data_id") not in (None, self.data_id):  # None: imported, nobody knows
            raise UserError(
                f"{path} was trained on other data than these; resume with the --data_path of then"
            )
        try:
            log = TrainLog.restored(self.trainlog.path, arrays, meta)
            noise = {name: copy.deepcopy(stream) for name, stream in self.noise.items()}
            for name, stream in noise.items() if meta["noise"] is not None else ():
                stream.state = meta["noise"][name]
            best = {ext: float(meta["best"][ext.channel]) for ext in self._early_stopping()}
            if log.batch_in_epoch and log.batch_in_epoch >= len(self.data):
                raise ValueError("it is beyond the end of the data")
        except checkpoint.DAMAGE as error:
            raise checkpoint.damaged(path, error) from error
        log.repair()
        for ext, value in best.items():
            ext.resume(self.name, value, meta)
        for name, variable in variables.items():
            variable.set_value(arrays[name])
        for name, stream in self.noise.items():
            stream.state = noise[name].state
        self.data.go_to(log.epoch_seen, log.batch_in_epoch)
        self.trainlog = log
        self.resumed = True
        logger.info("Resuming after %d updates, from %s", log.batch_seen, path)

    def _early_stopping(self) -> list[EarlyStopping]:
        return [ext for ext in self.extension if isinstance(ext, EarlyStopping)]

    def _finish(self) -> bool:
        """Monitor and save once more (after a signal only save); end the loop."""
        self.endloop = 1
        if self.interrupted:
            logger.info("%s: stopping after this update", self.interrupted.name)
        else:
            self._monitor()
        self._save()
        return False

    @staticmethod
    def _log_above_bar() -> AbstractContextManager[None]:
        """On a terminal, print log lines above the progress bar."""
        return logging_redirect_tqdm() if sys.stderr.isatty() else nullcontext()

    def _planned_updates(self) -> int | None:
        counts = [ext for ext in self.extension if isinstance(ext, EpochCount)]
        planned = [ext.num_epoch * len(self.data) for ext in counts]
        return min([*planned, self.max_updates or sys.maxsize]) if planned else self.max_updates

    @contextmanager
    def _signals(self) -> IteratorType[None]:
        """Turn the first SIGINT or SIGTERM into a wish to stop.

        Some senders, such as ``timeout``, signal a process and its group, so
        that it gets the same signal twice: that is one wish.
        """
        first = 0.0

        def stop(number: int, frame: Any) -> None:
            nonlocal first
            if self._signalled and time.monotonic() - first > SAME_SIGNAL_SECONDS:
                raise KeyboardInterrupt(number)
            if not self._signalled:
                first = time.monotonic()
                self._signalled = number
                if not is_among_others():  # who are asked between updates
                    self._notice_signal()

        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals
            return
        previous = {
            number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def check_resumable(path: str | Path, meta: Mapping[str, Any]) -> None:
    """Make sure that a checkpoint is of a whole run, not of its parameters only.

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
