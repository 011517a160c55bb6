"""What matters of runs: groups that can be compared, best steps, settings that differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from models.channels import UNITS
from models.report.logs import DEFAULTS, Run

BOUNDS = ("valid_nll_upper_bound", "valid_nll")  # the RNNs' bound is exact
OF_FILES = ("save_path", "sample_path", "trial", "quiet")  # seen in a run's name, or nowhere
NONE = "–"


@dataclass(frozen=True)
class Group:
    """Runs whose bounds can be compared, the best first.

    Attributes
    ----------
    title : str
        Data set, and what else the unit of the bound depends on.
    unit : str
        Of the bound: nats a frame, a line or an image.
    runs : list of Run
    """

    title: str
    unit: str
    runs: list[Run]


def groups(runs: Sequence[Run]) -> list[Group]:
    """Group runs by data set, and sort each group by its best validation bounds."""
    by_data: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_data.setdefault(_data(run.settings), []).append(run)

    def rank(run: Run) -> tuple[float, str]:
        best = best_step(run)
        return (math.inf if best is None else bound(run)[best]), run.label

    return [Group(*key, sorted(by_data[key], key=rank)) for key in sorted(by_data)]


def _data(settings: Mapping[str, str]) -> tuple[str, str]:
    """Title and unit of the group of a run."""
    dataset = settings.get("dataset")
    if dataset is None:
        return "data set unknown, bounds may not be comparable", "nats"
    parts = [dataset]
    if "data_path" in settings:
        parts.append(settings["data_path"])
    elif dataset != "digits":
        parts.append("demo corpus")
    if dataset == "blizzard":
        parts.append(f"frames of {settings.get('x_dim', '?')} samples")
    if dataset == "digits":  # probabilities of bits, or densities
        parts.append(f"output {settings.get('output', '?')}")
    return ", ".join(parts), UNITS.get(dataset, "nats")


def bound(run: Run) -> list[float]:
    """Return the validation bound at each step."""
    return run.channel(*BOUNDS)


def best_step(run: Run) -> int | None:
    """Return the step with the lowest validation bound after the first update, if there is one.

    The step before any update counts only if there is no other.
    """
    values = {i: value for i, value in enumerate(bound(run)) if math.isfinite(value)}
    trained = {i: value for i, value in values.items() if run.updates[i] > 0} or values
    return min(trained, key=trained.__getitem__) if trained else None


def seconds(run: Run) -> float:
    """Return the seconds of all updates so far, without monitoring."""
    return sum(value for value in run.channel("elapsed_time") if math.isfinite(value))


def seconds_per_update(run: Run) -> list[float]:
    """Return the mean seconds of the updates before each step, NaN where there are none."""
    before = [0, *run.updates]
    return [
        value / (n - n_before) if n > n_before else math.nan
        for value, n_before, n in zip(run.channel("elapsed_time"), before, run.updates)
    ]


def state(run: Run) -> str:
    """Return 'running', 'finished', 'stopped', or a dash where nobody can know.

    A run has finished when it has made as many epochs or updates as it was to make, or
    when its patience was at an end.
    """
    if run.running:
        return "running"
    if not run.settings:
        return NONE
    epochs, updates, patience = (
        _integer(run.settings.get(key)) for key in ("epoch", "max_updates", "patience")
    )
    best = best_step(run)
    finished = bool(run.updates) and (
        (epochs is not None and run.epochs[-1] >= epochs)
        or (updates is not None and run.updates[-1] >= updates)
        or (patience is not None and best is not None and len(run.updates) - 1 - best >= patience)
    )
    return "finished" if finished else "stopped"


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 16 else None


class Row(NamedTuple):
    """Cells of a run in the table, as text."""

    bound: str
    update: str
    epoch: str
    recon: str
    kl: str
    active: str
    parameters: str
    time: str
    state: str


def row(run: Run) -> Row:
    """Return what the table shows of a run: its best step, and the run as a whole."""
    best = best_step(run)
    at_best = (NONE,) * 6
    if best is not None:
        recon, kl = run.channel("valid_recon_term"), run.channel("valid_kl_term")
        at_best = (
            digits(bound(run)[best]),
            str(run.updates[best]),
            str(run.epochs[best]),
            digits(recon[best]) if recon else NONE,
            digits(kl[best]) if kl else NONE,
            active_of(run, best),
        )
    n_param = NONE if run.n_param is None else f"{run.n_param:,}"
    return Row(*at_best, n_param, duration(seconds(run)), state(run))


def active_of(run: Run, step: int) -> str:
    """Return the active dimensions of z as ``k/z_dim``."""
    active = run.active(step)
    if active is None:
        return NONE
    n_dim = next(
        len(v[step]) for n, v in run.vectors.items() if n.endswith("kl_by_dim") and v[step]
    )
    return f"{active}/{n_dim}"


def different_settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the settings in which runs differ.

    Returns
    -------
    dict of str to list of str
        A value for each run, by key.  A run that is older than a setting has its
        default.
    """
    known = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in known for key in settings if key not in OF_FILES)
    values = {
        key: [run.settings.get(key, _default(key)) if run.settings else NONE for run in runs]
        for key in keys
    }
    return {
        key: row
        for key, row in values.items()
        if len({value for value, run in zip(row, runs) if run.settings}) > 1
    }


def _default(key: str) -> str:
    default = DEFAULTS.get(key)
    return NONE if default is None else str(default)


def digits(value: float, n: int = 4) -> str:
    """Return a number with ``n`` digits that count, readable at any size."""
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size < 7:
        return f"{value:.{n - 1}e}"
    return f"{value:.{max(n - 1 - size, 0)}f}"


def duration(seconds: float) -> str:
    """Return a time in words, such as ``3 min 20 s``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"
