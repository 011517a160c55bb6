"""Read runs from their logs, settings and checkpoints."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from cle_port.errors import UserError, one_line
from cle_port.files import open_file
from cle_port.files.npz import DAMAGE, header, open_npz, read_npz
from cle_port.train import checkpoint
from models.channels import active_dims
from models.settings import Settings

HUGE = 1e100  # larger numbers count as not finite: they are none that a run computes
SAMPLES = "samples"  # folder beside the checkpoints, see models/sample.py
DEFAULTS = {item.name: item.default for item in fields(Settings)}


@dataclass
class Run:
    """What the files of a run say.

    Attributes
    ----------
    folder : Path
    name : str
        First part of the names of its files, such as ``vrnn_gmm_1``.
    updates, epochs : list of int
        Updates and epochs seen at each monitoring step.
    channels : dict of str to list of float
        A number for each step, NaN where there is none.
    vectors : dict of str to list of list of float
        A list for each step, empty where there is none.
    settings : dict of str to str
        Empty if unknown.
    n_param : int or None
    running : bool
        Whether a process holds the lock of the run.
    label : str
        Name that differs from those of the other runs.
    notes : list of str
        What was wrong with the files.
    """

    folder: Path
    name: str
    updates: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    channels: dict[str, list[float]] = field(default_factory=dict)
    vectors: dict[str, list[list[float]]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    n_param: int | None = None
    running: bool = False
    label: str = ""
    notes: list[str] = field(default_factory=list)

    def channel(self, *names: str) -> list[float]:
        """Return the first of these channels that the log has, or an empty list."""
        return next((self.channels[name] for name in names if name in self.channels), [])

    def active(self, step: int) -> int | None:
        """Return the number of active dimensions of z at a step, if the log has it."""
        for name in ("valid_kl_by_dim", "train_kl_by_dim"):
            if name in self.vectors and self.vectors[name][step]:
                return active_dims(self.vectors[name][step])
        return None


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Read all runs that are named.

    Parameters
    ----------
    paths : list of Path
        Folders (all runs below them), logs or checkpoints.

    Returns
    -------
    runs : list of Run
        Each once, with a ``label``.
    warnings : list of str
        Files below the folders that could not be read, and damage to logs.

    Raises
    ------
    UserError
        If a named file is unusable, or there is no run at all.
    """
    runs: dict[Path, Run] = {}
    warnings: list[str] = []
    for path in paths:
        is_folder = path.is_dir()
        for file in files_below(path) if is_folder else [path]:
            try:
                run = read_run(file, runs, strict=not is_folder)
            except UserError as error:
                if not is_folder:
                    raise
                warnings.append(str(error))
                continue
            if run is not None:
                runs[_key(run.folder, run.name)] = run
    if not runs:
        where = ", ".join(str(path) for path in paths)
        problem = f" ({warnings[0]})" if warnings else ""
        raise UserError(
            f"there is no run in {where}{problem}; give the --save_path of one, its .jsonl log or "
            "a checkpoint"
        )
    found = list(runs.values())
    set_labels(found)
    warnings += [f"{run.label}: {note}" for run in found for note in run.notes]
    return found, warnings


def files_below(folder: Path) -> Iterator[Path]:
    """Yield logs, and then checkpoints that may hold the log of a run without one."""
    logs, checkpoints = [], []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != SAMPLES)
        logs += [Path(parent, name) for name in sorted(names) if name.endswith(".jsonl")]
        checkpoints += [Path(parent, name) for name in sorted(names) if name.endswith(".npz")]
    yield from logs
    yield from checkpoints


def read_run(path: Path, known: Mapping[Path, Run], strict: bool) -> Run | None:
    """Read the run of a log or a checkpoint.

    Parameters
    ----------
    path : Path
    known : mapping of Path to Run
        Runs that need not be read again.
    strict : bool
        Whether a file that is neither is an error.

    Returns
    -------
    Run or None
        None if it is known, or not a run's.

    Raises
    ------
    UserError
        If the file is unusable.
    """
    if path.suffix == ".npz":
        return _of_checkpoint(path, known, strict)
    if path.suffix != ".jsonl":
        problem = f"{path} is no log or checkpoint" if path.exists() else f"there is no {path}"
        raise UserError(f"{problem}; give a folder with runs, a .jsonl log or a .npz checkpoint")
    if _key(path.parent, path.stem) in known:
        return None
    run = Run(path.parent, path.stem)
    try:
        with open_file(path) as file:
            read_log(run, file.read())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); give another log") from error
    if run.notes and not run.updates:
        raise UserError(f"{path} is no log of a run ({run.notes[0]}); give another file")
    beside = [run.folder / f"{run.name}{ending}.npz" for ending in ("", "_best")]
    _add_facts(run, next((file for file in beside if file.is_file()), None))
    return run


def _of_checkpoint(path: Path, known: Mapping[Path, Run], strict: bool) -> Run | None:
    try:
        name = checkpoint.load_meta(path)["program"]
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"its program is {name!r:.40}")
    except (UserError, *DAMAGE) as error:
        if not strict and isinstance(error.__cause__ or error, KeyError):
            return None  # arrays of another kind
        raise error if isinstance(error, UserError) else checkpoint.damaged(path, error) from error
    if _key(path.parent, name) in known:
        return None
    log = path.with_name(f"{name}.jsonl")
    if log.is_file():
        return read_run(log, known, strict)
    run = Run(path.parent, name)
    try:
        read_log(run, read_npz(path, ["log_lines"])["log_lines"].tobytes())
    except DAMAGE as error:
        raise UserError(
            f"{path} has no log inside, and there is no {log.name} beside it; give its log"
        ) from error
    _add_facts(run, path)
    return run


def _key(folder: Path, name: str) -> Path:
    return folder.resolve() / name


# --- the log ----------------------------------------------------------------------------------


def read_log(run: Run, text: bytes) -> None:
    """Take over the lines of a log, one JSON object each; note what is no such line.

    Parameters
    ----------
    run : Run
    text : bytes
        A last line without an end is torn: a run that goes on will write it again.
    """
    *lines, torn = text.split(b"\n")
    steps: dict[int, dict[str, Any]] = {}  # a step that was written twice counts once
    n_bad = 0
    for line in lines if not torn.endswith(b"}") else [*lines, torn]:
        try:
            entry = json.loads(line)
            steps[_count(entry["batch_seen"])] = entry
        except (ValueError, TypeError, LookupError, RecursionError):
            n_bad += 1
    if n_bad:
        run.notes.append(f"{n_bad} lines of its log are no monitoring steps")
    entries = [steps[n] for n in sorted(steps)]
    run.updates = sorted(steps)
    run.epochs = [int(number(entry.get("epoch_seen"), 0.0)) for entry in entries]
    for name in dict.fromkeys(name for entry in entries for name in entry):
        values = [entry.get(name) for entry in entries]
        if any(isinstance(value, list) for value in values):
            run.vectors[name] = [_vector(value) for value in values]
        elif name not in ("batch_seen", "epoch_seen"):
            run.channels[name] = [number(value) for value in values]


def number(value: Any, otherwise: float = math.nan) -> float:
    """Return a value of JSON as a finite number, or else ``otherwise``."""
    if isinstance(value, int | float) and abs(value) < HUGE:
        return float(value)
    return otherwise


def _vector(value: Any) -> list[float]:
    return [number(item) for item in value] if isinstance(value, list) else []


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("it is no count")
    return value


# --- what else is known -----------------------------------------------------------------------


def _add_facts(run: Run, file: Path | None) -> None:
    """Add settings, number of parameters and whether the run goes on."""
    n_bad = max(filter(math.isfinite, run.channel("not_finite")), default=0)
    if n_bad:
        run.notes.append(f"{n_bad:.0f} of its costs, gradients or channels were not finite")
    run.running = is_locked(run.folder / f".{run.name}.lock")
    if file is not None:
        try:
            meta = checkpoint.load_meta(file)
            settings = meta.get("settings", {})
            run.settings = {k: one_line(v) for k, v in settings.items() if v is not None}
            with open_npz(file) as arrays:
                shapes = [header(arrays, name)[0] for name in meta["params"]]
            run.n_param = sum(math.prod(shape) for shape in shapes)
        except (UserError, *DAMAGE) as error:
            run.notes.append(f"its checkpoint {file.name} cannot be read ({error})")
    config = run.folder / f"{run.name}_config.txt"
    try:
        with open_file(config) as stream:
            words = [line.split(maxsplit=1) for line in stream.read().decode().splitlines()]
    except (OSError, ValueError):
        return
    run.settings = {pair[0]: one_line(pair[1].strip()) for pair in words if len(pair) == 2}


def is_locked(path: Path) -> bool:
    """Return whether a process holds a lock file of `models.running.files.one_at_a_time`.

    A run that was killed leaves the file, but the system has released the lock.
    Where the system cannot be asked, the file counts as held.
    """
    # The only way to ask is to lock it, for some microseconds; shared, so that two that ask do
    # not see each other.
    try:
        with path.open("rb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
    except BlockingIOError:
        return True
    except OSError:  # it is not there
        return False
    return True


def set_labels(runs: Iterable[Run]) -> None:
    """Label runs by their folders below the one that all share, and by their names."""
    folders = {id(run): run.folder.resolve().parts for run in runs}
    paths = list(folders.values())
    n_shared = 0
    while all(len(path) > n_shared and path[n_shared] == paths[0][n_shared] for path in paths):
        n_shared += 1
    for run in runs:
        run.label = one_line("/".join([*folders[id(run)][n_shared:], run.name]))
