"""The main loop.

Counterpart: ``cle/train/__init__.py``.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import threading
import time
from collections import defaultdict
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
from cle_port.backend import PerLength, choose, compile_function
from cle_port.errors import UserError
from cle_port.models import Model
from cle_port.parallel import mean_over_devices
from cle_port.progress import elapsed_time, progress_bar
from cle_port.rng import Batches, Noise
from cle_port.train.ext import EpochCount, Extension
from cle_port.train.opt import Optimizer
from cle_port.utils import tolist

logger = logging.getLogger(__name__)

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
    extension : list of Extension
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
    quiet : bool
        No progress bar.

    Attributes
    ----------
    raw_grads, grads : dict of TensorSharedVariable to tensor
        Gradient by parameter, before and after the extensions.
    updates : dict of TensorSharedVariable to tensor
        Updates in the order: the model's own, state and parameters, counters.
    trainlog : TrainLog
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
        extension: Sequence[Extension] = (),
        *,
        backend: str = "auto",
        devices: int = 1,
        max_updates: int | None = None,
        noise: Mapping[str, Noise] | None = None,
        settings: Mapping[str, Any] | None = None,
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
        self.extension = list(extension)
        self.trainlog = TrainLog() if trainlog is None else trainlog
        self.backend = choose(backend).backend
        self.devices = devices
        self.max_updates = max_updates
        self.noise = dict(noise or {})
        self.settings = dict(settings or {})
        self.quiet = quiet
        self.endloop = 0
        self.interrupted: signal.Signals | None = None
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
            Takes a batch, returns the values of ``outputs``, updates all state.
        """
        self.run_extension("ext_regularize_pre_grad")
        params = list(self.model.params.values())
        grads: Any = pytensor.grad(self.cost, params)
        means = mean_over_devices([*grads, *self.outputs], self.devices)
        grads, self.outputs = means[: len(grads)], means[len(grads) :]
        self.grads: dict[TensorSharedVariable, TensorVariable] = dict(zip(params, grads))
        self.raw_grads = dict(self.grads)
        self.run_extension("ext_grad")
        self.updates.update(self.optimizer.get_updates(self.grads))
        self.run_extension("ext_regularize_post_grad")
        return compile_function(self.inputs, self.outputs, self.updates, self.backend, self.devices)

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
        if isinstance(self.cost_fn, PerLength) and self.cost_fn.n_frame:
            share = self.cost_fn.n_padded / self.cost_fn.n_frame
            logger.info("Frames added to reach a compiled length: %.1f %%", 100 * share)
        logger.info("Terminating main loop")

    def run_epoch(self, bar: tqdm) -> bool:
        """Go once through the data; return whether training goes on."""
        batches = iter(self.data)
        for n_left in reversed(range(len(self.data))):
            self.run_extension("ext_monitor")
            self.run_extension("ext_save")
            if self.interrupted:  # it came during the first monitoring pass
                return self._finish()
            # Only now: a checkpoint has the position of the noise before this batch's.
            cost = self.update(next(batches))[0]
            bar.set_postfix_str(f"{self.outputs[0].name} {cost:.4f}", refresh=False)
            bar.update()
            self.run_extension("ext_schedule")
            if n_left and self._asked_to_stop():
                return self._finish()

        self.trainlog.epoch_seen += 1
        self.run_extension("ext_term")
        return self._finish() if self.end_training() or self._asked_to_stop() else True

    def _asked_to_stop(self) -> bool:
        limit = sys.maxsize if self.max_updates is None else self.max_updates
        return self.interrupted is not None or self.trainlog.batch_seen >= limit

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
        """
        t0 = time.perf_counter()
        this_cost = [float(np.asarray(value)) for value in self.cost_fn(*batch)]
        self.trainlog.monitor["time"].append(time.perf_counter() - t0)
        self.trainlog.monitor["update"].append(this_cost)
        self.trainlog.batch_seen += 1
        return this_cost

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

    def save(self, path: str | Path) -> None:
        """Write parameters, optimizer state, carried state, noise and log to a checkpoint.

        Parameters
        ----------
        path : path
            See `cle_port.checkpoint`.
        """
        checkpoint.save(path, *self.state())

    def state(self) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Everything a checkpoint holds: arrays by name, and what JSON can hold."""
        arrays = {name: np.asarray(p.get_value()) for name, p in self.model.params.items()}
        for name, variable in self.optimizer.state.items():
            arrays[name] = np.asarray(variable.get_value())
        for variable in self.model.updates:
            arrays[f"state/{variable.name}"] = np.asarray(variable.get_value())
        for channel, values in self.trainlog.monitor.items():
            arrays[f"log/{channel}"] = np.asarray(values)
        meta = {
            "program": self.name,
            "settings": self.settings,
            "params": list(self.model.params),
            "epoch_seen": self.trainlog.epoch_seen,
            "batch_seen": self.trainlog.batch_seen,
            "noise": {name: noise.state for name, noise in self.noise.items()},
        }
        return arrays, meta

    def _finish(self) -> bool:
        """Monitor and save once more (after a signal only save); end the loop."""
        self.endloop = 1
        if self.interrupted:
            logger.info("%s: stopping after this update", self.interrupted.name)
        else:
            self.run_extension("ext_monitor")
        self.run_extension("ext_save")
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
            if self.interrupted and time.monotonic() - first > SAME_SIGNAL_SECONDS:
                raise KeyboardInterrupt
            if not self.interrupted:
                first = time.monotonic()
                self.interrupted = signal.Signals(number)

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


class TrainLog:
    """What has been seen and measured so far.

    Parameters
    ----------
    path : path, optional
        File that `write` appends to.

    Attributes
    ----------
    monitor : dict of str to list
        ``update``: the outputs of every update; ``time``: its seconds;
        ``<data>_<channel>``: one number for each monitoring step.
    epoch_seen, batch_seen : int
        Epochs and updates finished.
    monitored_at : int
        ``batch_seen`` at the last monitoring step, -1 before the first.

    Notes
    -----
    Counterpart: ``cle.train.TrainLog``, which has no file.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.monitor: defaultdict[str, list] = defaultdict(list)
        self.epoch_seen = 0
        self.batch_seen = 0
        self.monitored_at = -1
        self.path = None if path is None else Path(path)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line of JSON to the log file, if there is one.

        Parameters
        ----------
        entry : mapping
            Numbers by name; ``epoch_seen`` and ``batch_seen`` come before them.
            NaN and infinities, which JSON does not have, become null.

        Raises
        ------
        UserError
            If the file cannot be written.
        """
        if self.path is None:
            return
        seen = {"batch_seen": self.batch_seen, "epoch_seen": self.epoch_seen}
        finite = {k: v if math.isfinite(v) else None for k, v in entry.items()}
        line = json.dumps({**seen, **finite}, allow_nan=False)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write {self.path} ({error.strerror}); free space or choose another "
                "--save_path"
            ) from error
