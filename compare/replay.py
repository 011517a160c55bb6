"""Repeat a recorded run with the port's programs.

The recorder runs the original's program and writes a recording; this module runs the port's
program of the same name on the same inputs and keeps what it computes.  It builds the program with
the functions in ``models/`` from the recorded settings, and gives it the recorded parameters,
batches and noise.  `compare.recording` reads the file, and `compare.verdicts` compares the results.

This module imports ``models/``, so that folder must be on the path.

No counterpart in the original.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from tqdm import tqdm

from cle_port.data.noise import Noise, WithNoise
from cle_port.errors import UserError
from cle_port.graph import compile_function
from cle_port.train import Training, TrainLog
from cle_port.train.ext import EarlyStopping, Monitoring
from cle_port.utils import zipp
from compare import tolerances
from compare.recording import SCRIPTS, Arrays, below, scalar, text
from datasets.blizzard import RowRanges
from models.programs import PROGRAMS
from models.running import BlizzardData, IAMOnDBData, Run
from models.running.data import FILE_NAME, open_blizzard
from models.running.run import noise_streams
from models.settings import Settings

# Settings that a script hard-codes, so that its config.txt has no effect on them.
LITERALS = {"blizzard_rnn_gmm": {"rnn_dim": 4000}}
DATASETS = ("blizzard", "iamondb")
# Row ranges of Blizzard in the original's scripts: end of the training rows, end of the validation
# rows, and the number of training rows that are monitored.
TRAIN_END, VALID_END, MONITOR_ROWS = 2040064, 2152704, 112640
FAMILIES = ("param", "adam_m", "adam_v", "grad_raw", "grad_clipped")
N_MOVED = 3  # runs with moved numbers that measure the rounding noise
LAST = 999  # means the last update in the names of snapshots
UNCERTAIN_COLUMNS = 25  # up to this size the signs in orthogonal matrices depend on LAPACK


@dataclass
class CompiledProgram:
    """A program of the port, compiled for the settings and data of a recording.

    Attributes
    ----------
    label : str
        Dataset and script, such as ``blizzard_vrnn_gmm``.
    floatX : str
        Precision of the program.
    mainloop : Training
        Main loop of the program.
    inspect : callable
        Maps a batch to the outputs of ``mainloop.model.forward``, the raw
        gradients and the gradients after all extensions, in this order.
    initial : dict of str to ndarray
        Parameters that the port draws from the recorded seed.
    noise : list of Noise
        The program's own noise for the training data and for each monitored dataset.
    """

    label: str
    floatX: str
    mainloop: Training
    inspect: Callable
    initial: dict[str, NDArray]
    noise: list[Noise]


@dataclass
class RepeatedRun:
    """What the port computed when it repeated a recorded run.

    Attributes
    ----------
    floatX : str
        Precision of the port.
    recording : mapping of str to ndarray
        The recorded run.
    mainloop : Training
        Main loop of the program.
    from_seeds : bool
        Whether parameters and noise come from the recorded seeds and not from
        the recorded arrays.
    log : TrainLog
        Log of the training.
    before : dict of int to dict
        For each update: the carried state before it, the batch ``x`` and the noise ``eps``.
    first : dict of str to dict
        ``forward``, ``grad_raw`` and ``grad_clipped`` of the first update, by name.
    snapshots : dict of int to dict
        Parameters and optimizer state after each update that the recording has a snapshot of.
    terms : list of dict
        For each update: the cost, its terms and ``grad_norm``.
    restarted : dict of int to dict
        The same numbers, computed from each recorded state.
    moved : list of RepeatedRun
        Repetitions that move weights, frames and noise by one unit in the last
        place before each update.  They differ from this run by rounding noise only.
    allows_noise : bool
        Whether a multiple of the rounding noise is allowed.
    files : list of str
        Names of the checkpoints that the run saved, sorted.
    ended : str
        Why the run stopped early; empty if it did not.
    """

    floatX: str
    recording: Arrays
    mainloop: Training
    from_seeds: bool = False
    log: TrainLog = field(default_factory=TrainLog)
    before: dict[int, dict[str, NDArray]] = field(default_factory=dict)
    first: dict[str, dict[str, NDArray]] = field(default_factory=dict)
    snapshots: dict[int, dict[str, NDArray]] = field(default_factory=dict)
    terms: list[dict[str, float]] = field(default_factory=list)
    restarted: dict[int, dict[str, float]] = field(default_factory=dict)
    moved: list[RepeatedRun] = field(default_factory=list)
    allows_noise: bool = True
    files: list[str] = field(default_factory=list)
    ended: str = ""

    @property
    def kind(self) -> str:
        """Kind of run; see `kind_of`."""
        return kind_of(self.recording)

    def multiple(self, n_updates: int) -> float:
        """Return the allowed multiple of the rounding noise after this many updates of the port."""
        if not self.allows_noise:
            return 0.0
        before = tolerances.MULTIPLE_BEFORE_UPDATES[self.lower_precision]
        return tolerances.MULTIPLE if n_updates else before

    @property
    def epsilon(self) -> float:
        """Relative distance of neighbouring numbers in the lower precision."""
        return float(np.finfo(self.lower_precision).eps)

    @property
    def lower_precision(self) -> str:
        """The lower of the recorded precision and the port's precision."""
        single = "float32" in (self.floatX, scalar(self.recording, "meta/floatX"))
        return "float32" if single else "float64"


class Playback:
    """Recorded noise that replaces `NormalNoise`.

    Parameters
    ----------
    noise : list of ndarray, each of shape (n_step, batch_size, z_dim)
        Noise of each batch, in the order in which the program asks for it.
    """

    def __init__(self, noise: Sequence[NDArray]) -> None:
        self.noise = iter(noise)

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Return the next recorded noise, shape (n_step, batch_size, z_dim).

        Raises
        ------
        UserError
            If the recording has no more noise, or noise of another shape.
        """
        eps = next(self.noise, None)
        if eps is None or eps.ndim != 3 or eps.shape[:2] != (n_step, batch_size):
            found = "no more noise" if eps is None else f"noise of shape {eps.shape}"
            raise UserError(
                f"the recording has {found} for a batch of {n_step} frames and "
                f"{batch_size} sequences; it is incomplete"
            )
        return eps


class RecordedLines:
    """Recorded batches of handwriting that replace `datasets.iamondb.IAMOnDB`.

    Parameters
    ----------
    name : str
        'train' or 'valid'.
    batches : list of (x, mask)
        ``x`` has shape (n_step, batch_size, 3), ``mask`` (n_step, batch_size).
    """

    def __init__(self, name: str, batches: Sequence[tuple[NDArray, ...]]) -> None:
        self.name = name
        self.batches = list(batches)
        self.batch_size = batches[0][0].shape[1]

    def num_examples(self) -> int:
        """Return the number of sequences."""
        return len(self.batches) * self.batch_size

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return x and mask of the batch that starts at sequence ``start``."""
        return self.batches[start // self.batch_size]

    def theano_vars(self, batch_size: int) -> list[Any]:
        """Return symbolic x and mask, float32 as in `datasets.iamondb.IAMOnDB`."""
        return [
            pt.tensor("x", dtype="float32", shape=(None, batch_size, 3)),
            pt.tensor("mask", dtype="float32", shape=(None, batch_size)),
        ]


def label_of(recording: Arrays) -> str:
    """Return the name of the recorded program: dataset and script.

    Raises
    ------
    UserError
        If the port does not have the program.
    """
    dataset, name = scalar(recording, "meta/dataset"), scalar(recording, "meta/model")
    if dataset not in DATASETS or name not in SCRIPTS:
        raise UserError(
            f"the recorded program is {name!r} for {dataset!r}; the port has "
            f"{', '.join(SCRIPTS)} for {' and '.join(DATASETS)}"
        )
    return f"{dataset}_{name}"


def kind_of(recording: Arrays) -> str:
    """Return the kind of a recorded run: 'small', 'strong' or 'clipped'.

    Recordings call small runs 'narrow'.  Runs of any other kind, such as a run
    from given parameters, have the tolerances of strong runs.
    """
    variant = "small" if (name := scalar(recording, "meta/variant")) == "narrow" else name
    return variant if variant in tolerances.KINDS else "strong"


def settings(recording: Arrays, floatX: str, backend: str, folder: Path) -> Settings:
    """Turn the recorded settings and replaced literals into settings of the port.

    Parameters
    ----------
    recording : mapping of str to ndarray
    floatX : {'float64', 'float32'}
    backend : {'auto', 'jax', 'c', 'numba'}
    folder : pathlib.Path
        Folder of the data; checkpoints go to ``runs`` in it.

    Raises
    ------
    UserError
        If the port does not know a setting, or a setting does not fit the
        recorded arrays.
    """
    dataset, name = label_of(recording).split("_", 1)
    try:
        config = text(recording, "config/names", "config/values")
        numbers: dict[str, Any] = {k: float(v) if k == "lr" else int(v) for k, v in config.items()}
        replaced = replaced_literals(recording)
        literals = {**PROGRAMS[name].widths[dataset], **LITERALS.get(f"{dataset}_{name}", {})}
        widths = {key: replaced.get(literal, literal) for key, literal in literals.items()}
        args = Settings(
            **{**numbers, **widths},
            rnn=scalar(recording, "meta/rnn") if "meta/rnn" in recording else "lstm",
            dataset=dataset,
            data_path=str(folder),
            save_path=str(folder / "runs"),
            floatX=floatX,
            backend=backend,
            **seeds(recording),
            on_nan="original",
            quiet=True,
            screen="original",
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"the recording's settings cannot be used: {error}") from error
    _check_sizes(args, recording)
    return args


def seeds(recording: Arrays) -> dict[str, Any]:
    """Return the recorded seeds as settings that select the original's generators.

    Raises
    ------
    UserError
        If a seed is not an integer.
    """
    numpy_seed, mrg_seed = (scalar(recording, f"meta/{key}_seed") for key in ("numpy", "mrg"))
    if not isinstance(numpy_seed, int) or not isinstance(mrg_seed, int):
        raise UserError(f"the recorded seeds are {numpy_seed!r} and {mrg_seed!r}, not integers")
    return {"seed": numpy_seed, "noise": "mrg", "mrg_seed": mrg_seed}


def replaced_literals(recording: Arrays) -> dict[int, int]:
    """Return the literals of the script's ``main`` that the recorder replaced, old to new."""
    return dict(zip(recording["constants/from"].tolist(), recording["constants/to"].tolist()))


def _check_sizes(args: Settings, recording: Arrays) -> None:
    """Refuse sizes that exceed every recorded array, before anything of that size is allocated."""
    params = below(recording, "param/000")
    batch_shape = recording["update/000/x"].shape
    largest = max((max(value.shape, default=1) for value in params.values()), default=0)
    dataset, name = label_of(recording).split("_", 1)
    keys = ["rnn_dim", *(key for key in PROGRAMS[name].widths[dataset] if key != "depth")]
    keys += ["z_dim"] * name.startswith("vrnn") + ["num_k"] * name.endswith("gmm")
    too_large = [key for key in keys if getattr(args, key) > largest]
    if too_large or args.depth > len(params):
        key = too_large[0] if too_large else "depth"
        raise UserError(
            f"the recording's {key} is {getattr(args, key)}, but no recorded parameter is as large"
        )
    if len(batch_shape) != 3 or batch_shape[1:] != (args.batch_size, args.x_dim):
        raise UserError(
            f"the recorded batches have shape {batch_shape}, which does not fit batch_size "
            f"{args.batch_size} and x_dim {args.x_dim}"
        )


def recorded_lines(recording: Arrays) -> IAMOnDBData:
    """Return the training batches of the first epoch and the validation batches of the first pass.

    Raises
    ------
    UserError
        If there are no batches, or their shapes do not fit each other.
    """
    n_train = scalar(recording, "meta/n_updates") // max(1, scalar(recording, "meta/epoch_seen"))
    calls = sorted({k.split("/")[2] for k in recording if k.startswith("monitor_call/000/")})
    prefixes = {
        "train": [f"update/{n:03d}" for n in range(n_train)],
        "valid": [f"monitor_call/000/{call}" for call in calls],
    }
    parts: list[Any] = []
    for name, prefixes_of_part in prefixes.items():
        batches = [(recording[f"{p}/x"], recording[f"{p}/mask"]) for p in prefixes_of_part]
        shapes = {(x.shape[1:], mask.shape == x.shape[:2]) for x, mask in batches}
        if len(shapes) != 1 or next(iter(shapes))[0][1:] != (3,) or not next(iter(shapes))[1]:
            raise UserError(
                f"the recording has no {name} batches, or their shapes do not fit each other"
            )
        parts.append(RecordedLines(name, batches))
    train, valid = parts
    return IAMOnDBData(train, valid, "recorded batches")


def blizzard_folder(folder: Path, recording: Arrays) -> None:
    """Write the recorded rows and statistics to the files that the program reads."""
    with h5py.File(folder / f"{FILE_NAME}.h5", "w") as file:
        file["data"] = recording["data/rows"]
    np.savez(
        folder / f"{FILE_NAME}_normal.npz",
        X_mean=recording["data/X_mean"],
        X_std=recording["data/X_std"],
    )


def make_mainloop(recording: Arrays, args: Settings, folder: Path) -> Training:
    """Build the program on the recorded data, with the functions that also train."""
    dataset, name = label_of(recording).split("_", 1)
    data: BlizzardData | IAMOnDBData
    if dataset == "iamondb":
        data = recorded_lines(recording)
    else:
        blizzard_folder(folder, recording)
        data = open_blizzard(args, recorded_ranges(recording, args))
    return PROGRAMS[name].mainloop(Run(name, args, data))


def recorded_ranges(recording: Arrays, args: Settings) -> RowRanges:
    """Return the rows that the recorded run trained on and monitored.

    Raises
    ------
    UserError
        If the recording does not hold all of these rows.
    """
    replaced = replaced_literals(recording)
    train_end, valid_end, monitor_rows = (
        replaced.get(number, number) for number in (TRAIN_END, VALID_END, MONITOR_ROWS)
    )
    n_rows = len(recording["data/rows"])
    for start, end, size in (
        (0, train_end, args.batch_size),
        (0, monitor_rows, args.m_batch_size),
        (train_end, valid_end, args.m_batch_size),
    ):
        starts = range(start, end - end % size, size)
        if not starts or starts[-1] + size > n_rows:
            raise UserError(
                f"the recording has only {n_rows} rows, too few for batches of {size} rows from "
                f"{start} to {end}; record the run again"
            )
    return RowRanges(train_end, monitor_rows, train_end, valid_end)


def digest(recording: Arrays) -> str:
    """Return a hash that is equal for recordings that one compiled program can repeat.

    The hash covers settings and data, which are compiled into a program.  It
    leaves out parameters, noise and learning rate, which a program receives.
    """
    config = text(recording, "config/names", "config/values")
    config.pop("lr", None)
    found = hashlib.sha256(repr(sorted(config.items())).encode())
    for key in sorted(recording):
        built_in = key.startswith(("constants/", "data/"))
        batch = key.startswith(("update/", "monitor_call/")) and key.endswith(("/x", "/mask"))
        if built_in or batch or key in ("meta/dataset", "meta/model", "meta/numpy_seed"):
            value = recording[key]
            found.update(f"{key} {value.dtype} {value.shape}".encode() + value.tobytes())
    return found.hexdigest()


def compile_program(
    recording: Arrays, floatX: str, folder: Path, backend: str = "auto"
) -> CompiledProgram:
    """Compile the port's program for a recording.

    Parameters
    ----------
    recording : mapping of str to ndarray
    floatX : {'float64', 'float32'}
        Precision of the port.
    folder : pathlib.Path
        Empty folder for the program's data and checkpoints.
    backend : {'auto', 'jax', 'c', 'numba'}
        Compiler of the program.

    Returns
    -------
    CompiledProgram

    Raises
    ------
    UserError
        If the port does not have the recorded program, or the recording is incomplete.
    """
    check_complete(recording)
    with pytensor.config.change_flags(floatX=floatX):
        mainloop = make_mainloop(recording, settings(recording, floatX, backend, folder), folder)
        inspect = compile_function(
            mainloop.inputs,
            [
                *mainloop.model.forward.values(),
                *mainloop.raw_grads.values(),
                *mainloop.grads.values(),
            ],
            None,
            mainloop.compiler.backend,
        )
    initial = {name: p.get_value() for name, p in mainloop.model.params.items()}
    _check_params(recording, initial)
    noise = [data.noise for data in _noisy_data(mainloop)]
    return CompiledProgram(label_of(recording), floatX, mainloop, inspect, initial, noise)


def check_complete(recording: Arrays) -> None:
    """Check that a recording has what a run needs, and that its arrays fit each other.

    Raises
    ------
    UserError
        If an array is missing or has the wrong shape.
    """
    dataset, name = label_of(recording).split("_", 1)
    needed = ["x", "cost", "grad_norm"] + ["eps"] * name.startswith("vrnn")
    needed += ["mask"] if dataset == "iamondb" else ["rnn_tm1_before", "step_count_before"]
    count, snapshots = scalar(recording, "meta/n_updates"), recording["meta/snapshots"]
    if not isinstance(count, int) or count < 1 or snapshots.dtype.kind != "i" or not snapshots.size:
        raise UserError("the recording has no updates, or no snapshots of its parameters")
    for n in range(count):
        absent = [key for key in needed if f"update/{n:03d}/{key}" not in recording]
        if absent:
            raise UserError(f"the recording lacks {absent[0]} of update {n}; it is incomplete")
    shapes = {key: value.shape for key, value in below(recording, "param/000").items()}
    for key in recording:
        family, _, name = [*key.split("/", 2), "", ""][:3]
        if family in FAMILIES and name in shapes and recording[key].shape != shapes[name]:
            raise UserError(f"the recording's {key} does not have the shape of param/000/{name}")
    for family in ("grad_raw/000", "grad_clipped/000"):
        absent = [name for name in shapes if f"{family}/{name}" not in recording]
        if absent:
            raise UserError(f"the recording lacks {family}/{absent[0]}; it is incomplete")


def _check_params(recording: Arrays, params: Arrays) -> None:
    """Refuse a recording whose parameters differ from the port's in name or shape."""
    theirs = {name: value.shape for name, value in below(recording, "param/000").items()}
    ours = {name: value.shape for name, value in params.items()}
    for name in {**theirs, **ours}:
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"parameter {name} has shape {theirs.get(name, 'none')} in the recording and "
                f"{ours.get(name, 'none')} in the port's program with the recorded settings"
            )


def repeat_run(
    program: CompiledProgram,
    recording: Arrays,
    bar: tqdm | None = None,
    from_seeds: bool = False,
) -> RepeatedRun:
    """Repeat a recorded run and keep what the port computes before and after each update.

    Parameters
    ----------
    program : CompiledProgram
        A program compiled for a recording with the same `digest`.
    recording : mapping of str to ndarray
    bar : tqdm.tqdm, optional
        Progress bar; each update advances it by one.
    from_seeds : bool
        Whether to draw parameters and noise from the recorded seeds, as the
        program does in training, instead of taking the recorded arrays.

    Returns
    -------
    RepeatedRun
    """
    with pytensor.config.change_flags(floatX=program.floatX):
        run = _run_once(program, recording, bar, from_seeds)
        log = program.mainloop.trainlog
        run.files = [path.name for path in _checkpoints(program.mainloop)]
        rng = np.random.default_rng(0)
        run.moved = [_run_once(program, recording, bar, from_seeds, rng) for _ in range(N_MOVED)]
        program.mainloop.trainlog = log
    return run


def n_repeated(recording: Arrays) -> int:
    """Return the number of updates that `repeat_run` makes."""
    return (1 + N_MOVED) * n_recorded(recording)


def n_recorded(recording: Arrays) -> int:
    """Return the number of updates of the recorded run."""
    return int(scalar(recording, "meta/n_updates"))


def _run_once(
    program: CompiledProgram,
    recording: Arrays,
    bar: tqdm | None,
    from_seeds: bool,
    rng: np.random.Generator | None = None,
) -> RepeatedRun:
    """Repeat a run once; ``rng`` moves numbers by one unit in the last place, see `_watch`."""
    run = RepeatedRun(program.floatX, recording, program.mainloop, from_seeds)
    _reset(program, recording, from_seeds)
    _move_params(program.mainloop, rng)  # the first monitoring pass precedes any update
    _watch(program, run, bar, rng)
    run.log = program.mainloop.trainlog
    run.restarted = _restart(program, recording, rng)
    return run


def _reset(program: CompiledProgram, recording: Arrays, from_seeds: bool) -> None:
    """Reset a program: set its first parameters and noise, and clear all other state."""
    mainloop = program.mainloop
    params = below(recording, "param/000")
    _check_params(recording, program.initial)
    zipp(
        with_recorded_signs(program.initial, params) if from_seeds else params,
        mainloop.model.params,
    )
    for variable in [*mainloop.optimizer.state.values(), *mainloop.model.updates]:
        variable.set_value(np.zeros_like(variable.get_value()))
    config = text(recording, "config/names", "config/values")
    mainloop.optimizer.lr.set_value(np.asarray(float(config["lr"]), pytensor.config.floatX))
    mainloop.trainlog = type(mainloop.trainlog)()
    mainloop.endloop = 0
    for extension in mainloop.find_extension("ext_save"):
        if isinstance(extension, EarlyStopping):
            extension.best = sys.float_info.max
    for path in _checkpoints(mainloop):
        path.unlink()
    for data, noise in zip(_noisy_data(mainloop), _noise_of_run(program, recording, from_seeds)):
        data.noise = noise


def with_recorded_signs(initial: Arrays, recorded: Arrays) -> dict[str, NDArray]:
    """Give the columns of small orthogonal matrices the signs of the recorded columns.

    In matrices of up to 25 columns these signs depend on the machine's LAPACK
    (docs/fidelity.md).  Larger matrices and all other parameters stay as they are.

    Parameters
    ----------
    initial : mapping of str to ndarray
        Parameters that the port draws from the recorded seed.
    recorded : mapping of str to ndarray
        Recorded parameters of the same shapes.
    """
    params = dict(initial)
    for name, value in initial.items():
        if name.startswith("U_") and len(value) <= UNCERTAIN_COLUMNS:
            params[name] = value * np.sign(np.sum(value * recorded[name], axis=0))
    return params


def _noisy_data(mainloop: Training) -> list[Any]:
    """Return the data to which a program adds noise: training data first, then monitored data."""
    monitored = [
        data for ext in mainloop.extension if isinstance(ext, Monitoring) for data in ext.data
    ]
    return [data for data in [mainloop.data, *monitored] if isinstance(data, WithNoise)]


def _noise_of_run(program: CompiledProgram, recording: Arrays, from_seeds: bool) -> list[Any]:
    """Return the noise of each noisy dataset: the recorded noise, or fresh streams of the seed."""
    if not program.noise:
        return []
    if from_seeds:
        streams = program.mainloop.noise.values()
        args = Settings(**seeds(recording))
        fresh_streams = noise_streams(args, program.noise[0].dim, len(streams))
        for stream, fresh in zip(streams, fresh_streams):
            stream.state = fresh.state
        return program.noise
    updates = [f"update/{n:03d}/eps" for n in range(n_recorded(recording))]
    calls = sorted(k for k in recording if k.startswith("monitor_call/") and k.endswith("/eps"))
    train, monitor = (Playback([recording[key] for key in keys]) for keys in (updates, calls))
    return [train] + [monitor] * (len(program.noise) - 1)


def _checkpoints(mainloop: Training) -> list[Path]:
    """Return the checkpoints in the folder of the run, sorted."""
    folders = {ext.path for ext in mainloop.extension if isinstance(ext, EarlyStopping)}
    return sorted(path for folder in folders for path in folder.glob("*.npz"))


def _move_params(mainloop: Training, rng: np.random.Generator | None) -> None:
    """Move every weight by one unit in the last place, see `_moved`."""
    if rng is None:
        return
    for p in mainloop.model.params.values():
        p.set_value(_moved(np.asarray(p.get_value()), rng))


def _moved(value: NDArray, rng: np.random.Generator | None) -> NDArray:
    """Move numbers of the port's precision by one unit in the last place, up or down at random.

    Zeros stay, and without ``rng`` all numbers stay.
    """
    if rng is None or value.dtype != pytensor.config.floatX:
        return value
    towards = rng.choice([-np.inf, np.inf], size=value.shape).astype(value.dtype)
    return np.where(value == 0, value, np.nextafter(value, towards))


def _watch(
    program: CompiledProgram,
    run: RepeatedRun,
    bar: tqdm | None,
    rng: np.random.Generator | None = None,
) -> None:
    """Run the main loop to its end and keep in ``run`` what each update computes.

    Before each update ``rng``, if given, moves all weights, frames and noise by one unit in
    the last place, as if each had been rounded differently.
    """
    mainloop = program.mainloop
    state = mainloop.model.updates
    wanted = {min(int(n), n_recorded(run.recording)) for n in run.recording["meta/snapshots"]}
    update = mainloop.update

    def watched_update(batch: Sequence[NDArray]) -> list[float]:
        n = mainloop.trainlog.batch_seen
        _move_params(mainloop, rng)
        batch = [_moved(array, rng) for array in batch]
        run.before[n] = {str(variable.name): np.array(variable.get_value()) for variable in state}
        run.before[n] |= dict(zip([str(variable.name) for variable in mainloop.inputs], batch))
        values = [np.asarray(value) for value in program.inspect(*batch)]
        run.terms.append(_scalars(mainloop, values, batch[0].shape[1]))
        if n == 0:
            run.first = _outputs_and_gradients(mainloop, values)
        result = update(batch)
        if n + 1 in wanted:
            run.snapshots[n + 1] = _snapshot(mainloop)
        if bar is not None:
            bar.update()
        return result

    mainloop.update = watched_update  # type: ignore[method-assign]
    try:
        mainloop.run()
    except UserError as error:  # the monitoring pass found NaN or infinity
        run.ended = str(error)
    finally:
        mainloop.update = update  # type: ignore[method-assign]
    if mainloop.interrupted:
        raise KeyboardInterrupt


def _outputs_and_gradients(
    mainloop: Training, values: Sequence[NDArray]
) -> dict[str, dict[str, NDArray]]:
    """Split what ``inspect`` returns into node outputs, raw and clipped gradients, by name."""
    params, n_forward = mainloop.model.params, len(mainloop.model.forward)
    return {
        "forward": dict(zip(mainloop.model.forward, values)),
        "grad_raw": dict(zip(params, values[n_forward:])),
        "grad_clipped": dict(zip(params, values[n_forward + len(params) :])),
    }


def _snapshot(mainloop: Training) -> dict[str, NDArray]:
    """Copy the parameters and the optimizer's state."""
    variables = [*mainloop.model.params.items(), *mainloop.optimizer.state.items()]
    return {name: np.array(variable.get_value()) for name, variable in variables}


def _scalars(mainloop: Training, values: Sequence[NDArray], batch_size: int) -> dict[str, float]:
    """Return the cost, its terms and the raw gradients' norm from what ``inspect`` returns."""
    forward = dict(zip(mainloop.model.forward, values))
    raw = values[len(forward) : len(forward) + len(mainloop.model.params)]
    squares = sum(float(np.sum((g.astype(float) / batch_size) ** 2)) for g in raw)
    terms = {name: float(value) for name, value in forward.items() if value.ndim == 0}
    return terms | {"grad_norm": squares**0.5}


def _restart(
    program: CompiledProgram, recording: Arrays, rng: np.random.Generator | None
) -> dict[int, dict[str, float]]:
    """Compute cost, terms and gradient norm from each recorded state, by number of updates."""
    mainloop = program.mainloop
    restarted = {}
    for n in (int(n) for n in recording["meta/snapshots"]):
        params = below(recording, f"param/{n:03d}")
        if not params or f"update/{n:03d}/x" not in recording:
            continue
        zipp(params, mainloop.model.params)
        _move_params(mainloop, rng)
        recorded_update = below(recording, f"update/{n:03d}")
        for variable in mainloop.model.updates:
            state = recorded_update[f"{variable.name}_before"]
            variable.set_value(np.asarray(state, pytensor.config.floatX))
        batch = [recorded_update[str(variable.name)] for variable in mainloop.inputs]
        values = [np.asarray(value) for value in program.inspect(*batch)]
        restarted[n] = _scalars(mainloop, values, batch[0].shape[1])
    return restarted
