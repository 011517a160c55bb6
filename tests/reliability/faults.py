"""Make the system calls fail with which files are written, each in turn."""

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from cle_port.train import Training, checkpoint
from cle_port.train.saving import Saving

CALLS = ("open", "close", "fsync", "replace", "rename", "unlink", "mkdir", "ftruncate", "link")
SHORT = "short write"  # half of the data arrives, then the disk is full
KINDS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, SHORT)


class Faults:
    """Counts the calls that write below a folder; makes one of them fail.

    Parameters
    ----------
    at : int or None
        Number of the call that fails, from 0.
    kind : int or str
        Number of the error, or `SHORT`, which for other calls than write is a full disk.

    Attributes
    ----------
    calls : list of str
        Names of the calls seen.
    failed : str or None
        The one that was made to fail.
    """

    def __init__(self, at: int | None = None, kind: int | str = errno.EIO) -> None:
        self.at = at
        self.kind = kind
        self.calls: list[str] = []
        self.failed: str | None = None

    def call(self, name: str) -> None:
        """Note a call, and fail if it is its turn."""
        self.calls.append(name)
        if len(self.calls) - 1 == self.at:
            self.failed = name
            number = errno.ENOSPC if self.kind == SHORT else int(self.kind)
            raise OSError(number, os.strerror(number))

    def is_short(self) -> bool:
        """Whether the write at hand is to be cut short; the next one fails."""
        if self.kind == SHORT and len(self.calls) == self.at:
            self.calls.append("write, short")
            self.at = len(self.calls)
            return True
        return False

    @contextlib.contextmanager
    def injected(self) -> Iterator["Faults"]:
        """Put the faults between Python and the system."""

        def faulty(name, function):
            def call(*arguments, **keywords):
                self.call(name)
                return function(*arguments, **keywords)

            return call

        def opened(path, mode="r", *arguments, **keywords):
            if not set(mode) & set("wax+"):
                return open_file(path, mode, *arguments, **keywords)
            self.call("open")
            raw = _File(self, path, mode.replace("b", ""))
            buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            if "b" in mode:
                return buffered
            return io.TextIOWrapper(buffered, encoding=keywords.get("encoding"))

        open_file = builtins.open
        with contextlib.ExitStack() as stack:
            for module in (io, builtins):
                stack.enter_context(mock.patch.object(module, "open", opened))
            for name in CALLS:
                stack.enter_context(mock.patch.object(os, name, faulty(name, getattr(os, name))))
            yield self


class _File(io.FileIO):
    """A file whose calls may fail."""

    def __init__(self, faults, path, mode):
        super().__init__(path, mode)
        self._faults = faults

    def write(self, data):
        if self._faults.is_short():
            return super().write(bytes(data)[: max(1, len(data) // 2)])
        self._faults.call("write")
        return super().write(data)

    def truncate(self, size=None):
        self._faults.call("truncate")
        return super().truncate(size)

    def close(self):
        if self.closed:
            return
        super().close()  # what is open is closed, whatever close returns
        self._faults.call("close")


def states():
    """An older and a newer content of a checkpoint, each with its meta."""
    rng = np.random.default_rng(0)
    return [
        ({"W": rng.normal(size=(40, 60)), "adam_m/W": np.full(3, float(n))}, {"batch_seen": n})
        for n in range(2)
    ]


def content(path: Path) -> int:
    """Which of `states` a checkpoint holds; fails if it holds neither, whole."""
    arrays, meta = checkpoint.load(path)
    wanted, _ = states()[meta["batch_seen"]]
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(arrays[name], array)
    return meta["batch_seen"]


def save_with(faults: Faults, folder: Path) -> bool:
    """Replace a checkpoint while a call fails, then try again; whether a call has failed.

    Either the old or the new one must be whole, nothing else left behind, and
    the second try must succeed.
    """
    path = folder / "m.npz"
    old, new = states()
    checkpoint.save(path, *old)
    saving = Saving(Training.__new__(Training))  # only its state is asked for, and not here
    with faults.injected():
        written = saving._write(path, new, "model")
    assert written or faults.failed
    assert content(path) == 1 or not written
    left = [name for name in os.listdir(folder) if name != path.name]
    assert left == [] or faults.failed == "unlink"
    saving.retry()
    saving.finish()
    assert content(path) == 1
    return faults.failed is not None


def every_fault(folder: Path) -> list[str]:
    """Save once for each call and each kind of failure; return what failed."""
    failed = []
    for kind in KINDS:
        at = 0
        while save_with(faults := Faults(at, kind), folder):
            failed.append(f"{faults.failed}: {kind}")
            at += 1
    return failed
