"""Repeat a recorded run of the original with the port's own programs.

The programs in ``models/`` are built by their own functions from the recorded
settings, then run to their end with recorded parameters, batches and noise.

Nothing of this can be imported without ``models/`` on the path.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from tqdm import tqdm

from cle_port.backend import compile_function
from cle_port.compare import tolerances
from cle_port.compare.recording import below, scalar, text
from cle_port.errors import UserError
from cle_port.rng import Noise, WithNoise
from cle_port.train import Training, TrainLog
from cle_port.train.ext import EarlyStopping, Monitoring
from cle_port.utils import zipp
from datasets.blizzard import RowRanges
from models import program, rnn_gauss, rnn_gmm, vrnn_gauss, vrnn_gmm
from models.settings import Settings

Arrays = Mapping[str, NDArray]

NETS: dict[str, Callable[[Settings], program.Net]] = {
    "rnn_gauss": rnn_gauss.RNN_Gauss,
    "rnn_gmm": rnn_gmm.RNN_GMM,
    "vrnn_gauss": vrnn_gauss.VRNN_Gauss,
    "vrnn_gmm": vrnn_gmm.VRNN_GMM,
}
WIDTHS: dict[str, dict[str, dict[str, int]]] = {
    "rnn_gauss": rnn_gauss.WIDTHS,
    "rnn_gmm": rnn_gmm.WIDTHS,
    "vrnn_gauss": vrnn_gauss.WIDTHS,
    "vrnn_gmm": vrnn_gmm.WIDTHS,
}
# What scripts set themselves, whatever their config.txt says.
LITERALS = {"blizzard_rnn_gmm": {"rnn_dim": 4000}}
DATASETS = ("blizzard", "iamondb")
# Rows of Blizzard as the original's scripts have them: end of training, and of validation;
# monitored of the training data.
TRAIN_END, VALID_END, MONITOR_ROWS = 2040064, 2152704, 112640
FAMILIES = ("param", "adam_m", "adam_v", "grad_raw", "grad_clipped")
N_MOVED = 3  # runs with moved numbers, to measure the noise of rounding
LAST = 999  # stands for the last update in the names of snapshots


@dataclass
class Program:
    """A program compiled for the settings and data of recordings.

    Attributes
    ----------
    label : str
        Data set and name, such as ``blizzard_vrnn_gmm``.
    floatX : str
        Precision that it is compiled for.
    mainloop : Training
    inspect : callable
        From a batch: the outputs of ``mainloop.model.forward``, the raw
        gradients, and what the extensions make of them.
    initial : dict of str to ndarray
        Parameters that the port draws from the recorded seed.
    noise : list of Noise
        What the program adds to its training data and to each of the monitored ones.
    """

    label: str
    floatX: str
    mainloop: Training
    inspect: Callable
    initial: dict[str, NDArray]
    noise: list[Noise]


@dataclass
class Run:
    """What the port computed in the place of the original.

    Attributes
    ----------
    floatX : str
        Precision of the port.
    recording : mapping of str to ndarray
    mainloop : Training
    log : TrainLog
    from_seeds : bool
        Whether parameters and noise are those of the recorded seeds, not the recorded ones.
    before : dict of int to dict
        By update: the carried state before it, the batch ``x`` and the noise ``eps``.
    first : dict of str to dict
        Of the first update: ``forward``, ``grad_raw``, ``grad_clipped`` by name.
    snapshots : dict of int to dict
        Parameters and optimizer state after those updates that are recorded.
    terms : list of dict
        By update: cost, its terms, ``grad_norm``.
    restarted : dict of int to dict
        The same from each recorded state.
    moved : list of Run
        The same run with weights, frames and noise moved by one unit in the last place
        before each update: what differs between it and this one is rounding.
    allows_noise : bool
        Whether a multiple of that is allowed.
    files : list of str
        Names of the checkpoints that it left behind, sorted.
    ended : str
        Why the run ended too early, if it did.
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
    moved: list[Run] = field(default_factory=list)
    allows_noise: bool = True
    files: list[str] = field(default_factory=list)
    ended: str = ""

    @property
    def kind(self) -> str:
        """Kind of run, see `kind_of`."""
        return kind_of(self.recording)

    def multiple(self, n_updates: int) -> float:
        """How many times the measured noise is allowed after so many of the port's updates."""
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
        """Which of the two precisions, recorded and repeated, is the lower."""
        single = "float32" in (self.floatX, scalar(self.recording, "meta/floatX"))
        return "float32" if single else "float64"


class Playback:
    """Recorded noise in place of `NormalNoise`."""

    def __init__(self, noise: Sequence[NDArray]) -> None:
        self.noise = iter(noise)

    def draw(self, n_step: int, batch_size: int) -> NDArray:
        """Return the next noise, shape (n_step, batch_size, z_dim)."""
        eps = next(self.noise, None)
        if eps is None or eps.ndim != 3 or eps.shape[:2] != (n_step, batch_size):
            found = "no more" if eps is None else f"shape {eps.shape}"
            raise UserError(
                f"the recording has noise of {found} where a batch of {n_step} frames and "
                f"{batch_size} sequences needs some; it is not whole"
            )
        return eps


class RecordedLines:
    """Recorded batches of IAM-OnDB in the place of `datasets.iamondb.IAMOnDB`."""

    def __init__(self, name: str, batches: Sequence[tuple[NDArray, ...]]) -> None:
        self.name = name
        self.batches = list(batches)
        self.batch_size = batches[0][0].shape[1]

    def num_examples(self) -> int:
        """Return the number of sequences."""
        return len(self.batches) * self.batch_size

    def slices(self, start: int, end: int) -> tuple[NDArray, ...]:
        """Return x and mask of the batch that starts there."""
        return self.batches[start // self.batch_size]

    def theano_vars(self, batch_size: int) -> list[Any]:
        """Symbolic x and mask, float32 as those of `datasets.iamondb.IAMOnDB`."""
        return [
            pt.tensor("x", dtype="float32", shape=(None, batch_size, 3)),
            pt.tensor("mask", dtype="float32", shape=(None, batch_size)),
        ]


def label_of(recording: Arrays) -> str:
    """Name the recorded program: data set and script.

    Raises
    ------
    UserError
        If the port does not have it.
    """
    dataset, name = scalar(recording, "meta/dataset"), scalar(recording, "meta/model")
    if dataset not in DATASETS or name not in NETS:
        raise UserError(
            f"the recorded program is {name!r} for {dataset!r}; the port has "
            f"{', '.join(NETS)} for {' and '.join(DATASETS)}"
        )
    return f"{dataset}_{name}"


def kind_of(recording: Arrays) -> str:
    """Kind of a recorded run: 'small', 'strong' or 'clipped'.

    Recordings call small runs narrow.  What has yet another name, such as a run
    from given parameters, is held to what is asked of strong ones.
    """
    variant = "small" if (name := scalar(recording, "meta/variant")) == "narrow" else name
    return variant if variant in tolerances.KINDS else "strong"


def settings(recording: Arrays, floatX: str, backend: str, folder: Path) -> Settings:
    """Recorded settings and exchanged literals as the port's settings.

    Raises
    ------
    UserError
        If they are unknown or do not fit the recorded arrays.
    """
    dataset, name = label_of(recording).split("_", 1)
    try:
        config = text(recording, "config/names", "config/values")
        numbers: dict[str, Any] = {k: float(v) if k == "lr" else int(v) for k, v in config.items()}
        changed = exchanged(recording)
        literals = WIDTHS[name][dataset] | LITERALS.get(f"{dataset}_{name}", {})
        widths = {k: changed.get(v, v) for k, v in literals.items()}
        args = Settings(
            **{**numbers, **widths},
            dataset=dataset,
            data_path=str(folder),
            save_path=str(folder / "runs"),
            floatX=floatX,
            backend=backend,
            **seeds(recording),
            on_nan="original",
            quiet=True,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"the recording's settings cannot be used: {error}") from error
    _check_sizes(args, recording)
    return args


def seeds(recording: Arrays) -> dict[str, Any]:
    """Recorded seeds, as settings: those of the original's own generators.

    Raises
    ------
    UserError
        If they are no whole numbers.
    """
    numpy_seed, mrg_seed = (scalar(recording, f"meta/{key}_seed") for key in ("numpy", "mrg"))
    if not isinstance(numpy_seed, int) or not isinstance(mrg_seed, int):
        raise UserError(f"the recorded seeds are {numpy_seed!r} and {mrg_seed!r}, not numbers")
    return {"seed": numpy_seed, "noise": "mrg", "mrg_seed": mrg_seed}


def exchanged(recording: Arrays) -> dict[int, int]:
    """Literals of the script's ``main`` that were exchanged for the recording, old to new."""
    return dict(zip(recording["constants/from"].tolist(), recording["constants/to"].tolist()))


def _check_sizes(args: Settings, recording: Arrays) -> None:
    """Refuse sizes that no recorded array has, before anything of that size is made."""
    params = below(recording, "param/000")
    batch = recording["update/000/x"].shape
    largest = max((max(value.shape, default=1) for value in params.values()), default=0)
    dataset, name = label_of(recording).split("_", 1)
    keys = ["rnn_dim", *(key for key in WIDTHS[name][dataset] if key != "depth")]
    keys += ["z_dim"] * name.startswith("vrnn") + ["num_k"] * name.endswith("gmm")
    too_large = [key for key in keys if getattr(args, key) > largest]
    if too_large or args.depth > len(params):
        key = too_large[0] if too_large else "depth"
        raise UserError(
            f"the recording's {key} is {getattr(args, key)}, but no recorded parameter is as large"
        )
    if len(batch) != 3 or batch[1:] != (args.batch_size, args.x_dim):
        raise UserError(
            f"the recorded batches have shape {batch}, which does not fit batch_size "
            f"{args.batch_size} and x_dim {args.x_dim}"
        )


def recorded_lines(recording: Arrays) -> program.IAMOnDBData:
    """Training batches of the first epoch, validation batches of the first pass."""
    n_train = scalar(recording, "meta/n_updates") // max(1, scalar(recording, "meta/epoch_seen"))
    calls = sorted({k.split("/")[2] for k in recording if k.startswith("monitor_call/000/")})
    places = {
        "train": [f"update/{n:03d}" for n in range(n_train)],
        "valid": [f"monitor_call/000/{call}" for call in calls],
    }
    parts: list[Any] = []
    for name, here in places.items():
        batches = [(recording[f"{at}/x"], recording[f"{at}/mask"]) for at in here]
        shapes = {(x.shape[1:], mask.shape == x.shape[:2]) for x, mask in batches}
        if len(shapes) != 1 or next(iter(shapes))[0][1:] != (3,) or not next(iter(shapes))[1]:
            raise UserError(f"the recorded {name} batches have no, or differing, shapes")
        parts.append(RecordedLines(name, batches))
    train, valid = parts
    return program.IAMOnDBData(train, valid, "recorded batches")


def blizzard_folder(folder: Path, recording: Arrays) -> None:
    """Write the recorded rows and statistics as the program expects them."""
    with h5py.File(folder / f"{program.FILE_NAME}.h5", "w") as file:
        file["data"] = recording["data/rows"]
    np.savez(
        folder / f"{program.FILE_NAME}_normal.npz",
        X_mean=recording["data/X_mean"],
        X_std=recording["data/X_std"],
    )


def make_mainloop(recording: Arrays, args: Settings, folder: Path) -> Training:
    """Build the program by its own functions, on the recorded data."""
    dataset, name = label_of(recording).split("_", 1)
    if dataset == "iamondb":
        return program.iamondb_mainloop(name, NETS[name], args, recorded_lines(recording))
    blizzard_folder(folder, recording)
    rows = recorded_ranges(recording, args)
    return program.blizzard_mainloop(name, NETS[name], args, program.open_blizzard(args, rows))


def recorded_ranges(recording: Arrays, args: Settings) -> RowRanges:
    """Rows that the recorded run trains and monitors on.

    Raises
    ------
    UserError
        If the recording does not hold all of them.
    """
    changed = exchanged(recording)
    train_end, valid_end, monitor_rows = (
        changed.get(number, number) for number in (TRAIN_END, VALID_END, MONITOR_ROWS)
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
                f"the recording has {n_rows} rows; batches of {size} rows from {start} to {end} "
                "need others: record it again"
            )
    return RowRanges(train_end, monitor_rows, train_end, valid_end)


def digest(recording: Arrays) -> str:
    """Identify settings and data: recordings of which one program can repeat all.

    Parameters, noise and learning rate are given to a compiled program, the
    rest is built in.
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


def compile_program(recording: Arrays, floatX: str, folder: Path, backend: str = "auto") -> Program:
    """Compile a program for a recording.

    Parameters
    ----------
    recording : mapping of str to ndarray
    floatX : {'float64', 'float32'}
    folder : path
        Empty folder for its data and what it writes.
    backend : {'auto', 'jax', 'c', 'numba'}

    Raises
    ------
    UserError
        If the recording is not of a program of the port, or not whole.
    """
    check_whole(recording)
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
            mainloop.backend,
        )
    initial = {k: p.get_value() for k, p in mainloop.model.params.items()}
    _check_params(recording, initial)
    noise = [data.noise for data in _noisy(mainloop)]
    return Program(label_of(recording), floatX, mainloop, inspect, initial, noise)


def check_whole(recording: Arrays) -> None:
    """Refuse a recording that lacks what a run needs, or whose arrays do not fit each other.

    Raises
    ------
    UserError
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
            raise UserError(f"the recording lacks {absent[0]} of update {n}; it is not whole")
    shapes = {key: value.shape for key, value in below(recording, "param/000").items()}
    for key in recording:
        family, _, name = [*key.split("/", 2), "", ""][:3]
        if family in FAMILIES and name in shapes and recording[key].shape != shapes[name]:
            raise UserError(f"the recording's {key} has not the shape of param/000/{name}")
    for family in (f"{family}/000" for family in ("grad_raw", "grad_clipped")):
        absent = [name for name in shapes if f"{family}/{name}" not in recording]
        if absent:
            raise UserError(f"the recording lacks {family}/{absent[0]}; it is not whole")


def _check_params(recording: Arrays, params: Arrays) -> None:
    theirs = {name: value.shape for name, value in below(recording, "param/000").items()}
    ours = {name: value.shape for name, value in params.items()}
    for name in {**theirs, **ours}:
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"parameter {name} has shape {theirs.get(name, 'none')} in the recording and "
                f"{ours.get(name, 'none')} in the port's program of the recorded settings"
            )


def repeat_run(
    prog: Program, recording: Arrays, bar: tqdm | None = None, from_seeds: bool = False
) -> Run:
    """Repeat a recorded run, looking at everything before and after each update.

    Parameters
    ----------
    prog : Program
        Compiled for a recording with the same `digest`.
    recording : mapping of str to ndarray
    bar : tqdm.tqdm, optional
        Moved on at each update.
    from_seeds : bool
        Take parameters and noise from the recorded seeds, as the program itself does,
        instead of the recorded ones.

    Returns
    -------
    Run
    """
    with pytensor.config.change_flags(floatX=prog.floatX):
        run = _run_once(prog, recording, bar, from_seeds)
        log = prog.mainloop.trainlog
        run.files = [path.name for path in _checkpoints(prog.mainloop)]
        rng = np.random.default_rng(0)
        run.moved = [_run_once(prog, recording, bar, from_seeds, rng) for _ in range(N_MOVED)]
        prog.mainloop.trainlog = log
    return run


def n_repeated(recording: Arrays) -> int:
    """Number of updates that `repeat_run` makes."""
    return (1 + N_MOVED) * n_recorded(recording)


def _run_once(
    prog: Program,
    recording: Arrays,
    bar: tqdm | None,
    from_seeds: bool,
    rng: np.random.Generator | None = None,
) -> Run:
    """Run to the end; ``rng`` moves by one unit in the last place, see `_watch`."""
    run = Run(prog.floatX, recording, prog.mainloop, from_seeds)
    _reset(prog, recording, from_seeds)
    _move_by_one_ulp(prog.mainloop, rng)  # the first monitoring comes before any update
    _watch(prog, run, bar, rng)
    run.log = prog.mainloop.trainlog
    run.restarted = _restart(prog, recording, rng)
    return run


def _reset(prog: Program, recording: Arrays, from_seeds: bool) -> None:
    """Back to the beginning: parameters and noise as asked for, all else zero."""
    mainloop = prog.mainloop
    params = below(recording, "param/000")
    _check_params(recording, prog.initial)
    zipp(signed(prog.initial, params) if from_seeds else params, mainloop.model.params)
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
    for data, noise in zip(_noisy(mainloop), _noise(prog, recording, from_seeds)):
        data.noise = noise


def signed(initial: Arrays, recorded: Arrays) -> dict[str, NDArray]:
    """Parameters of the seed, orthogonal columns with the signs of the recorded ones.

    In matrices of up to 25 columns the machine's LAPACK chooses the signs, see
    docs/fidelity.md; in larger ones nothing is turned.
    """
    turned = dict(initial)
    for name, value in initial.items():
        if name.startswith("U_") and len(value) <= 25:
            turned[name] = value * np.sign(np.sum(value * recorded[name], axis=0))
    return turned


def _noisy(mainloop: Training) -> list[Any]:
    """Data that noise is added to: of the training, then the monitored."""
    monitored = [
        data for ext in mainloop.extension if isinstance(ext, Monitoring) for data in ext.data
    ]
    return [data for data in [mainloop.data, *monitored] if isinstance(data, WithNoise)]


def _noise(prog: Program, recording: Arrays, from_seeds: bool) -> list[Any]:
    """Noise of each of the program's data: the recorded one, or its own from the beginning."""
    if not prog.noise:
        return []
    if from_seeds:
        streams = prog.mainloop.noise.values()
        args = Settings(**seeds(recording))
        fresh = program.noise_streams(args, prog.noise[0].dim, len(streams))
        for stream, beginning in zip(streams, fresh):
            stream.state = beginning.state
        return prog.noise
    updates = [f"update/{n:03d}/eps" for n in range(n_recorded(recording))]
    calls = sorted(k for k in recording if k.startswith("monitor_call/") and k.endswith("/eps"))
    train, monitor = (Playback([recording[key] for key in keys]) for keys in (updates, calls))
    return [train] + [monitor] * (len(prog.noise) - 1)


def _checkpoints(mainloop: Training) -> list[Path]:
    """Checkpoints in the folder of the run."""
    folders = {ext.path for ext in mainloop.extension if isinstance(ext, EarlyStopping)}
    return sorted(path for folder in folders for path in folder.glob("*.npz"))


def _move_by_one_ulp(mainloop: Training, rng: np.random.Generator | None) -> None:
    """Move every weight by one unit in the last place, up or down by chance; not without one."""
    for p in mainloop.model.params.values() if rng is not None else ():
        p.set_value(_moved(np.asarray(p.get_value()), rng))


def _moved(value: NDArray, rng: np.random.Generator | None) -> NDArray:
    """Move numbers of the port's precision by one unit in the last place, up or down; not zeros."""
    if rng is None or value.dtype != pytensor.config.floatX:
        return value
    towards = rng.choice([-np.inf, np.inf], size=value.shape).astype(value.dtype)
    return np.where(value == 0, value, np.nextafter(value, towards))


def _watch(
    prog: Program, run: Run, bar: tqdm | None, rng: np.random.Generator | None = None
) -> None:
    """Run to the end; what is seen goes into ``run``.

    Before each update ``rng``, if given, moves all weights, frames and noise by one unit in
    the last place: as if each had been rounded another way.
    """
    mainloop = prog.mainloop
    params, state = mainloop.model.params, mainloop.model.updates
    wanted = {min(int(n), n_recorded(run.recording)) for n in run.recording["meta/snapshots"]}
    update = mainloop.update

    def watched(batch: Sequence[NDArray]) -> list[float]:
        n = mainloop.trainlog.batch_seen
        _move_by_one_ulp(mainloop, rng)
        batch = [_moved(array, rng) for array in batch]
        run.before[n] = {str(v.name): np.array(v.get_value()) for v in state}
        run.before[n] |= dict(zip([str(v.name) for v in mainloop.inputs], batch))
        values = [np.asarray(value) for value in prog.inspect(*batch)]
        run.terms.append(_scalars(mainloop, values, batch[0].shape[1]))
        if n == 0:
            n_forward, n_param = len(mainloop.model.forward), len(params)
            run.first["forward"] = dict(zip(mainloop.model.forward, values))
            run.first["grad_raw"] = dict(zip(params, values[n_forward:]))
            run.first["grad_clipped"] = dict(zip(params, values[n_forward + n_param :]))
        result = update(batch)
        if n + 1 in wanted:
            run.snapshots[n + 1] = {k: np.array(p.get_value()) for k, p in params.items()} | {
                k: np.array(v.get_value()) for k, v in mainloop.optimizer.state.items()
            }
        if bar is not None:
            bar.update()
        return result

    mainloop.update = watched  # type: ignore[method-assign]
    try:
        mainloop.run()
    except UserError as error:  # monitoring found the run diverged
        run.ended = str(error)
    finally:
        mainloop.update = update  # type: ignore[method-assign]
    if mainloop.interrupted:
        raise KeyboardInterrupt


def n_recorded(recording: Arrays) -> int:
    """Number of updates of the recorded run."""
    return int(scalar(recording, "meta/n_updates"))


def _scalars(mainloop: Training, values: Sequence[NDArray], batch_size: int) -> dict[str, float]:
    """Cost, its terms and the norm of the raw gradients, from what ``inspect`` returns."""
    forward = dict(zip(mainloop.model.forward, values))
    raw = values[len(forward) : len(forward) + len(mainloop.model.params)]
    squares = sum(float(np.sum((g.astype(float) / batch_size) ** 2)) for g in raw)
    terms = {k: float(v) for k, v in forward.items() if v.ndim == 0}
    return terms | {"grad_norm": squares**0.5}


def _restart(
    prog: Program, recording: Arrays, rng: np.random.Generator | None
) -> dict[int, dict[str, float]]:
    """Cost, terms and gradient norm from each recorded state, by number of updates."""
    mainloop = prog.mainloop
    restarted = {}
    for n in (int(n) for n in recording["meta/snapshots"]):
        params = below(recording, f"param/{n:03d}")
        if not params or f"update/{n:03d}/x" not in recording:
            continue
        zipp(params, mainloop.model.params)
        _move_by_one_ulp(mainloop, rng)
        before = below(recording, f"update/{n:03d}")
        for variable in mainloop.model.updates:
            value = np.asarray(before[f"{variable.name}_before"], pytensor.config.floatX)
            variable.set_value(value)
        batch = [before[str(v.name)] for v in mainloop.inputs]
        values = [np.asarray(value) for value in prog.inspect(*batch)]
        restarted[n] = _scalars(mainloop, values, batch[0].shape[1])
    return restarted
