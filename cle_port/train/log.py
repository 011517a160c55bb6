"""The training log: what has been seen and measured so far.

Counterpart: ``cle/train/__init__.py``.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cle_port.errors import UserError
from cle_port.files import replace_file

logger = logging.getLogger(__name__)

Entry = dict[str, float | list[float]]  # a monitoring step: numbers by name


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
        ``grad_norm``: the norm of its gradients, if an extension computes it;
        ``<data>_<channel>``: one number for each monitoring step.
    epoch_seen, batch_seen : int
        Epochs and updates finished.
    batch_in_epoch : int
        Updates finished since the last epoch was.
    monitored_at : int
        ``batch_seen`` at the last monitoring step, -1 before the first.
    not_finite : int
        How often a cost, a gradient or a monitored mean was NaN or infinite.
    last : dict of str to float or list of float
        The last monitoring step of this process, empty before the first.
    lines : list of str
        Lines of the file that `write` was given, ends of lines included.

    Notes
    -----
    Counterpart: ``cle.train.TrainLog``, which has no file.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.monitor: defaultdict[str, list] = defaultdict(list)
        self.epoch_seen = 0
        self.batch_seen = 0
        self.batch_in_epoch = 0
        self.monitored_at = -1
        self.not_finite = 0
        self.last: Entry = {}
        self.lines: list[str] = []
        self.path = None if path is None else Path(path)
        self._size = self.path.stat().st_size if self.path and self.path.is_file() else 0
        self._n_written = 0  # of the lines, those that are in the file
        self._failed = False

    def write(self, entry: Entry) -> None:
        """Append one line of JSON to the log file, if there is one.

        A file that cannot be written is warned of; `flush` tries again.

        Parameters
        ----------
        entry : dict of str to float or list of float
            ``epoch_seen`` and ``batch_seen`` come before it, and ``not_finite``
            unless it is 0.  NaN and infinities, which JSON does not have, become
            null.
        """
        self.last = entry
        if self.path is None:
            return
        seen = {"batch_seen": self.batch_seen, "epoch_seen": self.epoch_seen}
        if self.not_finite:
            seen["not_finite"] = self.not_finite
        finite = {name: _for_json(value) for name, value in entry.items()}
        self.lines.append(json.dumps({**seen, **finite}, allow_nan=False) + "\n")
        self.flush()

    def flush(self, last: bool = False) -> None:
        """Write the lines that are not in the file yet, and wait until the disk has them.

        Parameters
        ----------
        last : bool
            Whether failing is an error, or else a warning.

        Raises
        ------
        UserError
            If ``last`` and the file cannot be written.
        """
        if self.path is None or self._n_written == len(self.lines):
            return
        try:
            self._append(self.path)
        except OSError as error:
            problem = f"cannot write {self.path} ({error.strerror})"
            if last:
                raise UserError(f"{problem}; free space or choose another --save_path") from error
            if not self._failed:
                logger.warning("%s: training goes on, each update tries again", problem)
            self._failed = True
        else:
            self._failed = False

    def _append(self, path: Path) -> None:
        with path.open("ab") as file:
            if file.tell() < self._size:  # somebody has taken lines away: write them all
                self._size = self._n_written = 0
            file.truncate(self._size)  # half a line, if the last try ended there
            file.write("".join(self.lines[self._n_written :]).encode())
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        # Only now: closing may fail, too, and then all lines are written again.
        self._size, self._n_written = size, len(self.lines)

    def position(self) -> dict[str, Any]:
        """Where a run that is resumed from now goes on, as JSON can hold it."""
        return {
            "batch_in_epoch": self.batch_in_epoch,
            "monitored_at": self.monitored_at,
            "not_finite": self.not_finite,
            "n_line": len(self.lines),
            "n_logged": {channel: len(values) for channel, values in self.monitor.items()},
        }

    def arrays(self) -> dict[str, NDArray]:
        """Channels as ``log/<channel>``, the lines of the file as bytes ``log_lines``."""
        channels = {f"log/{name}": np.asarray(values) for name, values in self.monitor.items()}
        text = "".join(self.lines).encode()
        return {**channels, "log_lines": np.frombuffer(text, dtype=np.uint8)}

    @classmethod
    def restored(
        cls, path: Path | None, arrays: Mapping[str, NDArray], meta: Mapping[str, Any]
    ) -> TrainLog:
        """Make the log that a checkpoint was written with, up to its `position`.

        Parameters
        ----------
        path : path or None
            File of the log, left alone: see `repair`.
        arrays, meta : mapping
            From a checkpoint.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are not those of a checkpoint.
        """
        log = cls()
        log.path = path
        for key in ("epoch_seen", "batch_seen", "batch_in_epoch", "monitored_at", "not_finite"):
            setattr(log, key, _count(key, meta[key], least=-1 if key == "monitored_at" else 0))
        for channel, n in meta["n_logged"].items():
            values = arrays[f"log/{channel}"]
            n_dim = 2 if channel == "update" and n else 1
            if values.dtype != np.float64 or values.ndim != n_dim:
                raise ValueError(f"log/{channel} is no list of numbers")
            log.monitor[channel] = values[: _count(channel, n)].tolist()
            if len(log.monitor[channel]) != n:
                raise ValueError(f"log/{channel} has fewer than {n} numbers")
        if not log.batch_seen == len(log.monitor["time"]) == len(log.monitor["update"]):
            raise ValueError("the log has not one entry for each update")
        text = arrays["log_lines"]
        lines = text.tobytes().decode().splitlines(keepends=True)
        log.lines = lines[: _count("n_line", meta["n_line"])]
        if text.dtype != np.uint8 or len(log.lines) != meta["n_line"]:
            raise ValueError("the lines of its log are not all there")
        return log

    def repair(self) -> None:
        """Make the file have exactly the lines of this log; say what had to be changed.

        A killed run may leave lines that were written after its last checkpoint
        (the resumed run writes them again) and a last line that is torn.  A file
        with other lines is kept under another name.

        Raises
        ------
        UserError
            If the file cannot be read or written.
        """
        if self.path is None:
            return
        wanted = "".join(self.lines).encode()
        try:
            self._repair(self.path, wanted)
        except OSError as error:
            raise UserError(
                f"cannot repair {self.path} ({error.strerror}); choose another --save_path"
            ) from error
        self._size, self._n_written = len(wanted), len(self.lines)

    def _repair(self, path: Path, wanted: bytes) -> None:
        if not path.exists():
            replace_file(path, lambda file: file.write(wanted))
            return
        with path.open("r+b") as file:
            there = file.read(len(wanted))
            if there == wanted:
                n_line, torn = _count_lines(file)
                file.truncate(len(wanted))
                os.fsync(file.fileno())
                if n_line or torn:
                    logger.warning(
                        "%s: dropped %d lines from after the checkpoint%s",
                        path,
                        n_line,
                        " and a torn one" if torn else "",
                    )
                return
        if wanted.startswith(there):
            logger.warning("%s: restored lines that were missing at its end", path)
        else:
            logger.warning(
                "%s has other lines than the checkpoint: kept as %s", path, set_aside(path)
            )
        replace_file(path, lambda file: file.write(wanted))


def _for_json(value: float | list[float]) -> Any:
    if isinstance(value, list):
        return [_for_json(number) for number in value]
    return value if math.isfinite(value) else None


def set_aside(path: Path) -> Path:
    """Rename a file to the first of ``<name>.1``, ``<name>.2`` ... that is free.

    Returns
    -------
    path
        Its new name.

    Raises
    ------
    OSError
        If it cannot be renamed.
    """
    n = 1
    while (aside := path.with_name(f"{path.name}.{n}")).exists():
        n += 1
    return path.rename(aside)


def _count(what: str, value: Any, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{what} is no count")
    return value


def _count_lines(file: Any) -> tuple[int, bool]:
    """Whole lines from here to the end, and whether a torn one follows."""
    n_line, last = 0, b"\n"
    while block := file.read(2**20):
        n_line += block.count(b"\n")
        last = block[-1:]
    return n_line, last != b"\n"
