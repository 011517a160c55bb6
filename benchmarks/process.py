"""Start `benchmarks.peers.worker` in a process and ask it for updates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"ours": "ours", "pytorch": "pytorch_vrnn", "jax": "jax_vrnn", "gemm": "gemm"}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Process:
    """A process that holds one peer.

    Parameters
    ----------
    peer : str
        Kind and option, such as ``pytorch:eager``.
    folder : pathlib.Path
        The problem, see `benchmarks.problem`.
    floatX : str
    python : str, optional
        Interpreter; the default is this one.
    original : str, optional
        Folder with the original, for the peer ``theano``.

    Attributes
    ----------
    versions : str
        Versions of Python and of the packages that compute.

    Raises
    ------
    SystemExit
        If the process ends before it answers.
    """

    def __init__(
        self,
        peer: str,
        folder: Path,
        floatX: str = "float32",
        python: str | None = None,
        original: str | None = None,
    ) -> None:
        kind, colon, option = peer.partition(":")
        if kind == "theano":
            program = ["benchmarks/peers/original_theano.py", str(original)]
        else:
            program = ["-m", "benchmarks.peers.worker", MODULES[kind] + colon + option]
        cores = str(len(os.sched_getaffinity(0)))
        self.peer = peer
        self.process = subprocess.Popen(
            [python or sys.executable, *program, str(folder), floatX],
            cwd=ROOT,
            env={**os.environ, **dict.fromkeys(THREADS, cores), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions = self._answer()["versions"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.peer} failed, see above")
        return json.loads(line)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and return the answer; see `benchmarks.peers.worker`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
