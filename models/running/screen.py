"""What the programs show of a monitoring step, and the warning when z is not used.

No counterpart in the original, whose screen is `cle_port.train.screen.OriginalScreen`
(``--screen original``).
"""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cle_port.train import Training
from cle_port.train.ext import Extension
from cle_port.train.log import Entry, TrainLog
from cle_port.train.screen import Screen, channels
from models.channels import ACTIVE, UNITS, active_dims
from models.settings import Settings

logger = logging.getLogger(__name__)

LABELS = {"nll_upper_bound": "bound", "recon_term": "recon", "kl_term": "KL"}
STATISTIC = re.compile(r"(max|mean|min)_(.+)|(coeff(?:_mean)?)_(max|min)")
COLUMNS = ("max", "mean", "min")
MOST_ROWS = 7  # of statistics, under one line of headings


class ShortScreen(Screen):
    """One line for each data set, and a table of the statistics.

    The lines have the bound and its change since the step before, its two terms, how
    many dimensions of z are active, the norm of the gradients before clipping, the
    learning rate and the time of day.  A star marks the best validation so far.

    Parameters
    ----------
    dataset : str
        Says what the bound is of: a frame, a line or an image.
    """

    def __init__(self, dataset: str) -> None:
        self.unit = UNITS[dataset]
        self.star = "★" if _can_print("★") else "*"
        self.explained = False
        self.best: tuple[str, int] | None = None
        self.best_path: Path | None = None

    def after(self, mainloop: Training, entry: Entry, data_names: Sequence[str]) -> None:
        """See `Screen`."""
        if not self.explained:
            self._explain(entry)
            self.explained = True
        by_data = _by_data(channels(entry), data_names)
        if "train" not in by_data:  # IAM-OnDB monitors validation lines only
            recent = {name: v for name, v in entry.items() if name.startswith("this_batch_")}
            by_data = {"train": _stripped(recent, "this_batch_"), **by_data}
        lines = [
            self._fields(mainloop.trainlog, data, values, entry)
            for data, values in by_data.items()
            if values
        ]
        widths = [max(map(len, column)) for column in zip(*_same_length(lines))]
        logger.info("")
        update = f"{mainloop.trainlog.batch_seen:>7}"
        for fields in lines:
            padded = (field.ljust(width) for field, width in zip(fields, widths))
            logger.info("%s  %s", update, "  ".join(padded).rstrip())
            update = " " * len(update)
        for row in _statistics(by_data):
            logger.info("%s", row)
        if entry.get("best") and by_data.get("valid"):
            name, value = next(iter(by_data["valid"].items()))
            self.best = (f"{LABELS.get(name, name)} {number(value)}", mainloop.trainlog.batch_seen)

    def saving(self, kind: str, path: str | Path) -> None:
        """Remember where the best model is.  The star tells of it, so nothing is shown."""
        if kind == "best model":
            self.best_path = Path(path)

    def end(self, mainloop: Training) -> None:
        """Say where the best model is."""
        if self.best is not None and self.best_path is not None:
            logger.info("")
            logger.info("Best: %s after %d updates, in %s", *self.best, self.best_path)

    def _explain(self, entry: Entry) -> None:
        logger.info("Numbers are %s; a lower bound is better.", self.unit)
        logger.info("%s marks the best validation so far, brackets the change.", self.star)
        if "valid_kl_by_dim" in entry:
            logger.info(
                "z counts the dimensions of z that are active: KL above %g nats a frame.", ACTIVE
            )

    def _fields(self, log: TrainLog, data: str, values: Entry, entry: Entry) -> list[str]:
        """The parts of one line."""
        fields = [data]
        for name, value in values.items():
            if isinstance(value, list):
                fields.append(f"z {active_dims(value)}/{len(value)}")
            elif not STATISTIC.fullmatch(name):
                fields.append(f"{LABELS.get(name, name)} {number(value):>8}")
                if len(fields) == 2:  # the bound comes first
                    fields.append(_change(log.monitor.get(f"{data}_{name}", [])))
        if data == "valid" and entry.get("best") and len(fields) > 2:
            fields[2] += f" {self.star}"
        if data != "train":
            return fields
        if "grad_norm" in entry:
            fields.append(f"gradient {number(entry['grad_norm']):>7}")
        return [*fields, f"lr {entry['learning_rate']:g}", time.strftime("%H:%M:%S")]


class LatentWatch(Extension):
    """Warn when no dimension of z has been active for some monitoring steps.

    Parameters
    ----------
    remedies : list of str
        What the warning advises.
    steps : int
        Monitoring steps without an active dimension before it warns.

    Notes
    -----
    No counterpart in the original.
    """

    name = "ext_monitor"  # behind `Monitoring` in the list

    def __init__(self, remedies: Sequence[str] = ("train longer",), steps: int = 3) -> None:
        self.remedies = list(remedies)
        self.steps = steps
        self.unused = 0

    def exe(self, mainloop: Training) -> None:
        """Count; warn when it is time."""
        log = mainloop.trainlog
        kl_by_dim = log.last.get("valid_kl_by_dim")
        if log.monitored_at != log.batch_seen or log.batch_seen == 0 or mainloop.endloop:
            return
        if not isinstance(kl_by_dim, list) or not all(map(math.isfinite, kl_by_dim)):
            return
        self.unused = 0 if active_dims(kl_by_dim) else self.unused + 1
        if self.unused == self.steps:
            logger.warning(
                "z is not used: for %d monitoring steps no dimension of z has had a KL above %g "
                "nats a frame. The posterior then equals the prior, z says nothing about x, and "
                "the model does no better than an RNN (posterior collapse). What may help: %s "
                "(docs/settings.md).",
                self.steps,
                ACTIVE,
                "; ".join(self.remedies),
            )

    def state(self) -> dict[str, dict[str, Any]]:
        """Steps without an active dimension, as ``unused_z``."""
        return {"unused_z": {"steps": self.unused}}

    def resume(self, mainloop: Training, meta: Mapping[str, Any]) -> None:
        """Go on counting; a checkpoint of an older version has no count."""
        self.unused = int(meta.get("unused_z", {"steps": 0})["steps"])


def remedies(args: Settings) -> list[str]:
    """What may help if z is not used, of what the settings do not have yet."""
    return [
        "train longer",
        *(["longer frames (--x_dim)"] if args.dataset == "blizzard" else []),
        *(["--kl_anneal 1000"] if args.kl_anneal is None else []),
        *([] if args.free_bits else ["--free_bits 0.05"]),
    ]


def number(value: float | list[float]) -> str:
    """Write a number with three decimals, or so that a small or large one is not lost."""
    assert not isinstance(value, list)
    if not math.isfinite(value) or value == 0 or 5e-4 <= abs(value) < 1e6:
        return f"{value:.3f}"
    return f"{value:.2e}"


def _can_print(character: str) -> bool:
    try:
        character.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _by_data(entry: Entry, data_names: Sequence[str]) -> dict[str, Entry]:
    """Channels by data set, then by name."""
    return {
        data: _stripped({k: v for k, v in entry.items() if k.startswith(f"{data}_")}, f"{data}_")
        for data in data_names
    }


def _stripped(entry: Entry, start: str) -> Entry:
    return {name.removeprefix(start): value for name, value in entry.items()}


def _change(values: Sequence[float]) -> str:
    return f"({values[-1] - values[-2]:+.3f})".rjust(10) if len(values) > 1 else ""


def _same_length(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    longest = max(map(len, lines), default=0)
    return [[*fields, *[""] * (longest - len(fields))] for fields in lines]


def _statistics(by_data: Mapping[str, Entry]) -> list[str]:
    """A table: largest, mean and smallest value of each tensor, for each data set."""
    table: dict[str, dict[tuple[str, str], str]] = {}
    for data, values in by_data.items():
        for name, value in values.items():
            match = STATISTIC.fullmatch(name)
            if match:
                column, row = (match[1], match[2]) if match[1] else (match[4], match[3])
                table.setdefault(row, {})[data, column] = number(value)
    if not table:
        return []
    shown = [
        data for data in by_data if any(data == key[0] for row in table.values() for key in row)
    ]
    head = " " * 21 + "".join(
        f"{f'{data} {column}' if column == 'max' else column:>12}"
        for data in shown
        for column in COLUMNS
    )
    rows = [
        f"{name:>21}" + "".join(f"{row.get((d, c), '-'):>12}" for d in shown for c in COLUMNS)
        for name, row in table.items()
    ]
    if len(rows) > MOST_ROWS:
        left_out = len(rows) - MOST_ROWS + 1
        rows = [*rows[: MOST_ROWS - 1], f"{'':>21}  {left_out} more in the log"]
    return [head, *rows]
