"""Repeat recorded optimizers and extensions: ``units_optim_*.npz``."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray

from cle_port.graph import Compiler
from cle_port.train import TrainLog
from cle_port.train.ext import (
    EarlyStopping,
    EpochCount,
    Extension,
    GradientClipping,
    LrExponentialDecay,
    LrLinearDecay,
    Monitoring,
    Picklize,
    WeightDecay,
    WeightNorm,
)
from cle_port.train.opt import Adam, Adam2, Momentum, RMSProp
from cle_port.train.screen import OriginalScreen
from cle_port.utils import castX, sharedX
from compare.recording import Arrays, below
from compare.units.cases import RepeatedCases, group_cases
from compare.units.graphs import compile_plainly, evaluate

OPTIMIZED = ("W_a__h", "b_h", "U_h__h")
SCALERS = {"W_a__h": 0.1, "b_h": 2.0}

# Arguments that the recordings lack; they follow from the recorded numbers.
COST = 1.25  # to which `WeightDecay` adds
SCHEDULES: dict[str, Callable[[], Extension]] = {
    "linear": lambda: LrLinearDecay(start=3, end=8, decay_factor=0.1),
    "linear_one": lambda: LrLinearDecay(start=1, end=2, decay_factor=0.5),
    "exponential": lambda: LrExponentialDecay(decay_factor=1.5, min_lr=0.01),
}
SAVED: dict[str, dict[str, Any]] = {
    "plain": {"freq": 2},
    "force": {"freq": 3, "force_save_freq": 4},
}
BEST: dict[str, dict[str, Any]] = {
    "min": {},
    "max": {"minimize": 0},
    "freq2": {"freq": 2},
    "force": {"force_save_freq": 3},
}
OBJECTIVE: dict[str, dict[str, Any]] = {
    "plain": {},
    "objective": {"obj_monitor_fn": np.exp2, "obj_monitor_ch": ["perplexity"]},
}
# The original misspells this heading, and its lines are as long as that.
HEADING = {
    " ---------------": " ----------------",
    " Training basics": " Traininig basics",
    " ...............": " ................",
}
MONITORING_TIME = " Elapsed time for monitoring"  # the recordings lack the lines that begin so


def settings_of(case: Arrays) -> dict[str, Any]:
    """Parse recorded arguments, such as ``lr=0.001``, ``nesterov=True`` or ``keys=['U', 'b']``."""
    pairs = (str(text).split("=", 1) for text in case["settings"].tolist())
    return {name: ast.literal_eval(value) for name, value in pairs}


def optimized(start: Arrays) -> dict[str, Any]:
    """Make the parameters that optimizers and extensions were recorded with."""
    return {name: sharedX(start[name], name) for name in OPTIMIZED}


def ten_steps(variant: str, case: Arrays, start: Arrays, grads: Arrays) -> dict[str, NDArray]:
    """Repeat ten steps of an optimizer.

    Parameters
    ----------
    variant : str
        Name of the case, which begins with the optimizer's; ``_scaled`` at its end sets factors
        of the learning rate.
    case : mapping of str to ndarray
        Arrays of the case.
    start : mapping of str to ndarray
        Initial parameters.
    grads : mapping of str to ndarray
        Gradients of each step, along the first axis.

    Returns
    -------
    dict of str to ndarray
        All parameters after each step, the final state, the order of the updates.
    """
    kinds: dict[str, Any] = {"Adam": Adam, "Adam2": Adam2, "Momentum": Momentum, "RMSProp": RMSProp}
    values = optimized(start)
    inputs = {name: p.type(f"grad_{name}") for name, p in values.items()}
    scalers = SCALERS if variant.endswith("_scaled") else None
    optimizer = kinds[variant.split("_")[0]](**settings_of(case), lr_scalers=scalers)
    updates = optimizer.get_updates({values[name]: inputs[name] for name in OPTIMIZED})
    step = compile_plainly(list(inputs.values()), [], updates)
    after: dict[str, list[NDArray]] = {name: [] for name in OPTIMIZED}
    for n in range(len(grads["b_h"])):
        step(*(grads[name][n] for name in OPTIMIZED))
        for name, p in values.items():
            after[name].append(np.asarray(p.get_value()))
    slots = [variable for variable in updates if variable not in set(values.values())]
    names = {variable: variable.name or f"slot{i}" for i, variable in enumerate(slots)}
    return {
        **{f"params/{name}": np.stack(states) for name, states in after.items()},
        **{f"slot{i:02d}": np.asarray(slot.get_value()) for i, slot in enumerate(slots)},
        "update_order": np.array([names.get(variable, variable.name) for variable in updates]),
    }


def clipping(case: Arrays, start: Arrays) -> dict[str, NDArray]:
    """Repeat `GradientClipping`."""
    values = optimized(start)
    inputs = {name: p.type(f"grad_{name}") for name, p in values.items()}
    mainloop: Any = SimpleNamespace(grads={values[name]: inputs[name] for name in OPTIMIZED})
    GradientClipping(**settings_of(case)).exe(mainloop)
    with np.errstate(invalid="ignore"):
        clipped = evaluate(
            [mainloop.grads[values[name]] for name in OPTIMIZED],
            {inputs[name]: case[f"in/{name}"] for name in OPTIMIZED},
        )
    return {f"out/{name}": value for name, value in zip(OPTIMIZED, clipped)}


def weight_decay(case: Arrays, start: Arrays) -> dict[str, NDArray]:
    """Repeat `WeightDecay`: a constant cost with the decay, and its gradients."""
    values = optimized(start)
    model = SimpleNamespace(params=values)
    mainloop: Any = SimpleNamespace(model=model, cost=pt.constant(castX(COST)))
    WeightDecay(**settings_of(case)).exe(mainloop)
    grads: Any = pytensor.grad(mainloop.cost, list(values.values()), disconnected_inputs="ignore")
    names = ["cost", *(f"grad/{name}" for name in OPTIMIZED)]
    return dict(zip(names, evaluate([mainloop.cost, *grads])))


def weight_norm(case: Arrays, start: Arrays) -> dict[str, NDArray]:
    """Repeat `WeightNorm` on parameters times ``scale``, and on an unnamed one that is all 9."""
    scale = float(case["scale"])
    unnamed = sharedX(np.zeros((3, 4)))
    updates: dict[Any, Any] = {p: p * scale for p in optimized(start).values()}
    mainloop: Any = SimpleNamespace(updates=updates | {unnamed: unnamed + 9.0})
    WeightNorm(**settings_of(case)).exe(mainloop)
    limited = evaluate(list(mainloop.updates.values()))
    return {f"out/{name}": value for name, value in zip([*OPTIMIZED, "unnamed"], limited)}


def weight_norm_of_zeros() -> dict[str, NDArray]:
    """Repeat `WeightNorm` on weights that are all 0."""
    W = sharedX(np.zeros((3, 4)), "W")
    mainloop: Any = SimpleNamespace(updates={W: W})
    WeightNorm().exe(mainloop)
    return {"out": evaluate(mainloop.updates[W])}


def schedule(variant: str, case: Arrays) -> dict[str, NDArray]:
    """Repeat the learning rates that a schedule sets."""
    mainloop: Any = SimpleNamespace(optimizer=Adam(lr=float(case["base"])))
    extension = SCHEDULES[variant]()
    rates = []
    for _ in case["lr"]:
        extension.exe(mainloop)
        rates.append(float(mainloop.optimizer.lr.get_value()))
    return {"lr": np.array(rates)}


def epoch_count(num_epoch: int, n_epochs: int) -> NDArray:
    """Repeat the decisions of `EpochCount` after 0, 1, ... epochs."""
    ends = []
    for epoch_seen in range(n_epochs):
        log = SimpleNamespace(epoch_seen=epoch_seen)
        mainloop: Any = SimpleNamespace(endloop=0, trainlog=log)
        EpochCount(num_epoch).exe(mainloop)
        ends.append(mainloop.endloop)
    return np.array(ends)


class Saves:
    """A stand-in for the main loop: it keeps the names of the files that an extension writes."""

    name = "m"

    def __init__(self) -> None:
        self.trainlog = TrainLog()
        self.endloop = 0
        self.interrupted = None
        self.saving = self
        self.files: list[str] = []

    def save(self, path: Path, kind: str = "model") -> bool:
        """Note a file."""
        self.files.append(path.name.replace(".npz", ".pkl"))
        return True

    def new_files(self) -> str:
        """Return the files since the last call."""
        files, self.files = " ".join(self.files), []
        return files


def picklize(variant: str, case: Arrays) -> dict[str, NDArray]:
    """Repeat what `Picklize` writes after 0, 1, ... updates, the last of which end the run."""
    mainloop: Any = Saves()
    files = []
    with TemporaryDirectory() as folder:
        extension = Picklize(path=folder, **SAVED[variant])
        n_update = len(case["files"])
        for n in range(n_update):
            mainloop.trainlog.batch_seen = n
            mainloop.endloop = int(n == n_update - 1)
            extension.exe(mainloop)
            files.append(mainloop.new_files())
    return {"files": np.array(files)}


def early_stopping(variant: str, case: Arrays) -> dict[str, NDArray]:
    """Repeat what `EarlyStopping` writes after 0, 1, ... updates, and its best values."""
    mainloop: Any = Saves()
    best, files = [], []
    with TemporaryDirectory() as folder:
        extension = EarlyStopping(path=folder, **BEST[variant])
        for n, value in enumerate(case["values"].tolist()):
            mainloop.trainlog.batch_seen = n
            mainloop.trainlog.monitor["valid_nll"].append(value)
            extension.exe(mainloop)
            best.append(extension.best)
            files.append(mainloop.new_files())
    counts = np.array([len(names.split()) for names in files])
    return {"best": np.array(best), "files": np.array(files), "n_saved": counts}


class NamedData(list):
    """A data set: batches with a name."""

    def __init__(self, batches: Any, name: str) -> None:
        super().__init__((batch,) for batch in batches)
        self.name = name


def named(*names: str) -> list[Any]:
    """Make scalars, of which only the names matter."""
    return [pt.scalar(name) for name in names]


def monitoring_of(variant: str, case: Arrays) -> Monitoring:
    """Make the recorded extension: a sum and a largest entry of each batch."""
    data: list[Any] = [NamedData(case[f"{name}_batches"], name) for name in ("train", "valid")]
    return Monitoring(
        freq=2,
        ddout=named("nll", "max_x"),
        data=data,
        monitor_fn=lambda x: [np.sum(x), np.max(x)],
        **OBJECTIVE[variant],
    )


def monitored_run(monitoring: Monitoring, n_update: int = 7) -> TrainLog:
    """Repeat the recorded run, in which the update after n updates returns n and n squared."""
    log = TrainLog()
    mainloop: Any = SimpleNamespace(
        endloop=0,
        interrupted=None,
        compiler=Compiler(),
        on_nan="stop",
        outputs=named("cost", "other"),
        optimizer=Adam(lr=0.001),
        extension=[monitoring],
        screen=OriginalScreen(),
        trainlog=log,
    )
    for n in range(n_update):
        monitoring.exe(mainloop)
        log.monitor["time"].append(0.25)
        log.monitor["update"].append([float(n), float(n) ** 2])
        log.batch_seen += 1
    mainloop.endloop = 1
    monitoring.exe(mainloop)
    return log


class _Lines(logging.Handler):
    """Collects the lines of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.lines.append(record.getMessage())


@contextmanager
def logged_lines() -> Iterator[list[str]]:
    """Collect the lines that the library logs meanwhile, and show none."""
    handler, library = _Lines(), logging.getLogger("cle_port")
    level, propagate = library.level, library.propagate
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    library.propagate = False
    try:
        yield handler.lines
    finally:
        library.removeHandler(handler)
        library.setLevel(level)
        library.propagate = propagate


def monitoring(variant: str, case: Arrays) -> dict[str, NDArray]:
    """Repeat the lines and the log of `Monitoring`, with the original's misspelled heading."""
    with logged_lines() as lines:
        log = monitored_run(monitoring_of(variant, case))
    theirs = [HEADING.get(line, line) for line in lines if not line.startswith(MONITORING_TIME)]
    channels = {name: log.monitor[name] for name in log.monitor if name != "monitoring_time"}
    return {
        "log_lines": np.array(theirs),
        **{f"trainlog/{name}": np.array(values) for name, values in channels.items()},
    }


def repeat_optim(recording: Arrays) -> RepeatedCases:
    """Repeat all optimizers and extensions."""
    start, grads = below(recording, "optimizer/start"), below(recording, "optimizer/grads")
    repeat: dict[str, Callable[[str, Arrays], dict[str, NDArray]]] = {
        "optimizer": lambda variant, case: ten_steps(variant, case, start, grads),
        "GradientClipping": lambda variant, case: clipping(case, start),
        "WeightDecay": lambda variant, case: weight_decay(case, start),
        "WeightNorm": lambda variant, case: (
            weight_norm_of_zeros() if variant == "zero" else weight_norm(case, start)
        ),
        "schedule": schedule,
        "Picklize": picklize,
        "EarlyStopping": early_stopping,
        "Monitoring": monitoring,
    }
    for case, arrays in group_cases(recording).items():
        group, variant = case.split("/")
        if variant not in ("start", "grads"):
            yield case, repeat[group](variant, arrays)
    for name, ends in below(recording, "EpochCount").items():
        num_epoch = int(name.removeprefix("num"))
        yield "EpochCount", {name: epoch_count(num_epoch, len(ends))}
