"""The main loop.

Counterpart: ``cle/train/__init__.py``.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np
import pytensor
from numpy.typing import NDArray
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorVariable
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from cle_port.console.progress import elapsed_time, progress_bar
from cle_port.data import Batches
from cle_port.data.noise import Noise
from cle_port.errors import UserError
from cle_port.graph import Compiler, building
from cle_port.graph.devices import is_first_process, mean_over_devices
from cle_port.graph.lengths import PerLength
from cle_port.graph.working_memory import kept_memory
from cle_port.models import Model
from cle_port.train import resuming
from cle_port.train.checkpoint import State
from cle_port.train.ext import Extension
from cle_port.train.log import TrainLog
from cle_port.train.opt import Optimizer
from cle_port.train.saving import Saving
from cle_port.train.screen import OriginalScreen, Screen
from cle_port.train.signals import SignalWatch
from cle_port.utils import tolist
from cle_port.utils.op import not_finite

logger = logging.getLogger(__name__)

ON_NAN = ("stop", "skip", "original")


class Training:
    """Compile the update, then loop over the data.

    Each iteration runs, in this order: the monitoring extensions, the saving
    extensions, the update, the scheduling extensions.  So the first monitoring
    step and the first checkpoint come before any update.  The terminating
    extensions run after each epoch; monitoring and saving run once more after
    the last one.

    Parameters
    ----------
    name : str
        First part of the names of all files written.
    data : Batches
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
        Print the graph of outputs and updates, as it was before compilation.
    trainlog : TrainLog, optional
        Log to continue; the default is a new one.
    extension : list of Extension, optional
        See `cle_port.train.ext`; each runs at the point that its ``name`` says.
    compiler : Compiler, optional
        How graphs are compiled.  ``cost``, ``outputs`` and ``model.updates`` are
        written for its number of devices.
    noise : mapping of str to Noise, optional
        Streams whose positions go into checkpoints.
    about : mapping, optional
        Facts for checkpoints, as JSON can hold them, such as ``settings``.
        ``data_id`` identifies the data: `resume` refuses other data.
    on_nan : {'stop', 'skip', 'original'}
        What happens to an update whose outputs or gradients are not all finite:
        'stop' ends the run before it, 'skip' leaves it out, 'original' makes it
        (see `GradientClipping` for what ``check_nan`` does to it then).
    quiet : bool
        Show no progress bar.
    screen : Screen, optional
        What a monitoring step prints; the default is what the original prints.

    Attributes
    ----------
    raw_grads, grads : dict of TensorSharedVariable to tensor
        Gradient by parameter, before and after the extensions.
    updates : dict of TensorSharedVariable to tensor
        Updates in this order: the model's own, state and parameters, counters.
    trainlog : TrainLog
    grad_norm : tensor or None
        Norm of all gradients, set by the extension that computes it.
    saving : Saving
        Writes the checkpoints.
    position : dict or None
        Where a run resumed from the next checkpoint continues; None: at the current update.
    is_resumed : bool

    Notes
    -----
    Counterpart: ``cle.train.Training``; the arguments from ``compiler`` on are
    ours.  As there, the optimizer gets the nodes' ``lr_scaler`` by node name,
    looks them up by parameter name, and so never applies them.
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
        compiler: Compiler | None = None,
        noise: Mapping[str, Noise] | None = None,
        about: Mapping[str, Any] | None = None,
        on_nan: str = "stop",
        quiet: bool = False,
        screen: Screen | None = None,
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
        self.compiler = compiler or Compiler()
        self.noise = dict(noise or {})
        self.about = dict(about or {})
        if on_nan not in ON_NAN:
            raise ValueError(f"unknown on_nan {on_nan!r}; choose one of {', '.join(ON_NAN)}")
        self.on_nan = on_nan
        self.quiet = quiet
        self.screen = screen or OriginalScreen()
        self.endloop = 0
        self.grad_norm: TensorVariable | None = None
        self.saving = Saving(self)
        self.signals = SignalWatch()
        self.position: dict[str, Any] | None = None
        self.is_resumed = False
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
            Takes a batch; returns the values of ``outputs``, and of
            ``grad_norm`` if an extension has set it; updates all state.
        """
        self.run_extension("ext_regularize_pre_grad")
        params = list(self.model.params.values())
        with building():
            grads: Any = pytensor.grad(self.cost, params)
        means = mean_over_devices([*grads, *self.outputs], self.compiler.devices)
        grads, self.outputs = means[: len(grads)], means[len(grads) :]
        self.grads: dict[TensorSharedVariable, TensorVariable] = dict(zip(params, grads))
        self.raw_grads = dict(self.grads)
        self.run_extension("ext_grad")
        returned = [*self.outputs, *([] if self.grad_norm is None else [self.grad_norm])]
        if self.on_nan != "original":
            self.optimizer.skip = not_finite(*returned)
        self.updates.update(self.optimizer.get_updates(self.grads))
        self.run_extension("ext_regularize_post_grad")
        keep = self.optimizer.unless_skipped
        updates = {variable: keep(variable, new) for variable, new in self.updates.items()}
        return self.compiler.function(self.inputs, returned, updates)

    def run(self) -> None:
        """Train until an extension or a signal ends the run.

        After the first SIGINT or SIGTERM the current update finishes, a
        checkpoint is written and this returns, with ``interrupted`` set.  A
        second signal stops at once.
        """
        logger.info("Entering main loop")
        for extension in self.extension:
            extension.begin(self)
        with (
            self.signals,
            kept_memory(self.compiler.memory == "kept"),
            _log_above_bar(),
            progress_bar(
                self.planned_updates(), self.name, "update", self.quiet, self.trainlog.batch_seen
            ) as bar,
        ):
            while self.run_epoch(bar):
                pass
        self.saving.finish()
        self.trainlog.flush(last=True)
        if isinstance(self.cost_fn, PerLength) and self.cost_fn.n_frame:
            share = self.cost_fn.n_padded / self.cost_fn.n_frame
            logger.info("Frames added to reach a compiled length: %.1f %%", 100 * share)
        self.screen.end(self)
        logger.info("Terminating main loop")

    def run_epoch(self, bar: tqdm | None = None) -> bool:
        """Go once through the data, or its rest; return whether training goes on."""
        if self.is_resumed and self._is_complete():
            return self._finish()
        log = self.trainlog
        batches = iter(self.data)
        for n_left in reversed(range(len(self.data) - log.batch_in_epoch)):
            self._monitor()
            if self.end_training():  # patience is at an end
                return self._finish()
            self._save()
            if self.signals.ask():  # one came while monitoring or saving
                return self._finish()
            # The noise of this batch is drawn after the checkpoint has noted its position.
            cost = self.update(next(batches))[0]
            if bar is not None:
                bar.set_postfix_str(f"{self.outputs[0].name} {cost:.4f}", refresh=False)
                bar.update()
            self.run_extension("ext_schedule")
            if n_left and (self.signals.ask() or self.end_training()):
                return self._finish()

        log.epoch_seen += 1
        log.batch_in_epoch = 0
        self.run_extension("ext_term")
        return self._finish() if self.signals.ask() or self.end_training() else True

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
            parameters are then those before the update.
        """
        t0 = time.perf_counter()
        values = [float(np.asarray(value)) for value in self.cost_fn(*batch)]
        seconds = time.perf_counter() - t0
        if not all(map(math.isfinite, values)):
            self._not_finite(values)
        this_cost = values[: len(self.outputs)]
        self.trainlog.monitor["time"].append(seconds)
        self.trainlog.monitor["update"].append(this_cost)
        for grad_norm in values[len(self.outputs) :]:
            self.trainlog.monitor["grad_norm"].append(grad_norm)
        self.trainlog.batch_seen += 1
        self.trainlog.batch_in_epoch += 1
        self.position = None
        return this_cost

    def find_extension(self, name: str) -> list[Extension]:
        """Return the extensions that run at the point called ``name``."""
        return [extension for extension in self.extension if extension.name == name]

    def run_extension(self, name: str) -> None:
        """Run the extensions of the point called ``name``, in their order."""
        for extension in self.find_extension(name):
            extension.exe(self)

    def end_training(self) -> int:
        """Return whether an extension has asked for the end."""
        return self.endloop

    def planned_updates(self) -> int | None:
        """Return the number of updates after which an extension ends the run, if one does."""
        planned = [extension.planned_updates(len(self.data)) for extension in self.extension]
        return min((n for n in planned if n is not None), default=None)

    @property
    def interrupted(self) -> Signals | None:
        """The signal that has ended or will end `run`, if one has come."""
        return self.signals.received

    def resume(self, path: str | Path, loaded: State | None = None) -> None:
        """Take over everything from a checkpoint; `run` continues from there.

        See `cle_port.train.resuming.resume` for arguments and errors.
        """
        resuming.resume(self, path, loaded)

    def _is_complete(self) -> bool:
        """Return whether a resumed run has nothing left to do, and say so."""
        log = self.trainlog
        if not any(extension.is_complete(log) for extension in self.extension):
            return False
        logger.warning(
            "the run is complete: %d epochs, %d updates; a larger --epoch, --max_updates or "
            "--patience continues it, whichever has ended it",
            log.epoch_seen,
            log.batch_seen,
        )
        return True

    def _monitor(self) -> None:
        """Monitor, and note where a run resumed from the next checkpoint continues.

        It continues after a monitoring step that is due in any run, but before
        one that only the end of this run calls for, and before one that a
        signal cut short.
        """
        log = self.trainlog
        before = resuming.position(self)
        if log.monitored_at != log.batch_seen:  # else the run was resumed from after it
            self.run_extension("ext_monitor")
        is_due = any(extension.is_due(log) for extension in self.find_extension("ext_monitor"))
        is_done = is_due and log.monitored_at == log.batch_seen
        self.position = resuming.position(self) if is_done else before

    def _save(self) -> None:
        """Write what is due, and what could not be written before."""
        self.saving.retry()
        self.run_extension("ext_save")
        self.trainlog.flush()

    def _finish(self) -> bool:
        """Monitor and save once more (after a signal only save); end the loop."""
        self.endloop = 1
        if self.interrupted:
            logger.info("%s: stopping after this update", self.interrupted.name)
        else:
            self._monitor()
        self._save()
        return False

    def _not_finite(self, values: Sequence[float]) -> None:
        """Count an update with a number that is not finite; say so or end the run."""
        names = [*(out.name or "an output" for out in self.outputs), "the norm of the gradients"]
        name, value = next(pair for pair in zip(names, values) if not math.isfinite(pair[1]))
        problem = f"update {self.trainlog.batch_seen + 1}: {name} is {value:g}"
        if self.on_nan == "stop":
            raise UserError(
                f"{problem}; {self._rescue()}; go on from there with --resume --on_nan skip, "
                "or start again with a smaller --lr"
            )
        self.trainlog.not_finite += 1
        consequence = "the update is left out" if self.on_nan == "skip" else "training goes on"
        logger.warning("%s: %s", problem, consequence)

    def _rescue(self) -> str:
        """Write a checkpoint of the state before an update that was not made; say where."""
        files = [extension.rescue(self) for extension in self.extension]
        written = [path for path in files if path is not None]
        if not is_first_process():
            return "the first process writes the state before it"
        if not written:
            return "the state before it could not be written"
        return f"the state before it is in {written[0]}"


def _log_above_bar() -> AbstractContextManager[None]:
    """On a terminal, print log lines above the progress bar."""
    return logging_redirect_tqdm() if sys.stderr.isatty() else nullcontext()
