"""A process that holds one peer and answers commands; each is one line of JSON.

``{"updates": [0, 1]}``
    Update on these batches.  The answer has their costs, the seconds of each
    update, the greatest memory so far in MB, the seconds that building the peer
    took before them, and page faults and seconds of the system of all updates.
``{"save": "FILE.npz"}``
    Write parameters and first moments.  The answer is empty.

Usage: ``python -m benchmarks.peers.worker PEER FOLDER FLOATX``.  PEER is a module
of this folder; an option of its class ``Peer`` may follow after a colon.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import describe_versions, peak_memory
from benchmarks.problem import read, read_batches


class Peer(Protocol):
    """The methods of each module's ``Peer``.

    Its arguments are a `Problem` and the number of frames of the first batch.
    """

    def update(self, batch: Mapping[str, NDArray]) -> float:
        """Update all parameters once; return the cost once everything is computed."""

    def state(self) -> dict[str, NDArray]:
        """Return parameters by name, and Adam's first moments as ``adam_m/<name>``.

        After one update the moments are 0.1 times the clipped gradients.
        """


class Worker:
    """Run the commands; see the module."""

    def __init__(self, peer: str, folder: Path, floatX: str) -> None:
        module, _, option = peer.partition(":")
        problem = read(folder)
        self.folder = folder
        self.floatX = floatX
        self.first = True
        self.make = importlib.import_module(f"benchmarks.peers.{module}").Peer
        self.problem = problem._replace(
            settings=type(problem.settings)(**{**problem.settings.as_dict(), "floatX": floatX})
        )
        self.options = [option] if option else []
        self.peer: Peer | None = None

    def updates(self, numbers: list[int]) -> dict[str, Any]:
        """Run updates and time them."""
        batches = read_batches(self.folder, numbers, self.floatX)
        started = time.perf_counter()
        if self.peer is None:
            self.peer = self.make(self.problem, len(batches[0]["x"]), *self.options)
        build = time.perf_counter() - started
        costs, seconds = [], []
        before = resource.getrusage(resource.RUSAGE_SELF)
        for batch in batches:
            started = time.perf_counter()
            costs.append(float(self.peer.update(batch)))
            seconds.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "costs": costs,
            "seconds": seconds,
            "peak": peak_memory(),
            "build": build,
            "faults": after.ru_minflt - before.ru_minflt,
            "system": after.ru_stime - before.ru_stime,
        }

    def save(self, path: str) -> dict[str, Any]:
        """Write the peer's state."""
        assert self.peer is not None
        arrays: dict[str, Any] = self.peer.state()
        np.savez(path, **arrays)
        return {}


def main() -> int:
    """Answer commands until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stderr, not among the answers
    peer, folder, floatX = sys.argv[1:]
    worker = Worker(peer, Path(folder), floatX)
    print(json.dumps({"versions": describe_versions()}), file=answers, flush=True)
    for line in sys.stdin:
        ((command, argument),) = json.loads(line).items()
        answer = getattr(worker, command)(argument)
        print(json.dumps(answer), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
