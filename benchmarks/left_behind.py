"""Speed of NumPy before, during and after a training run, in the same process.

A run changes how glibc allocates large arrays (`cle_port.graph.working_memory`)
and changes it back at its end.  A process measures NumPy's speed on arrays of
1 MB before the run, after each of its updates and after its end.  Each time is
divided by the time of the same work without a large allocation, measured right
after it, so that the machine's load cancels out.  Processes with ``--memory
kept`` and ``--memory plain`` alternate.

Examples
--------
::

    python -m benchmarks.left_behind
    python -m benchmarks.left_behind --settings A-small --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks.common import NAMED, describe_machine, describe_versions, positive, table
from benchmarks.step import write_data
from cle_port.graph import MEMORY
from cle_port.train import Training
from cle_port.train.ext import Extension
from models.settings import Settings

LENGTH = 2**17  # float64 numbers in an array of 1 MB
ARRAYS = np.random.default_rng(0).random((2, LENGTH))
RESULT = np.zeros(LENGTH)
REPETITIONS = 300  # before and after the run
PER_UPDATE = 20  # after each update
WARM_UP = 2  # updates that are not measured


def arithmetic() -> None:
    """Compute with arrays of 1 MB; NumPy allocates a new one for the result."""
    a, b = ARRAYS
    (a + b) * 2 - a


def arithmetic_in_place() -> None:
    """Compute the same; the result overwrites an array."""
    a, b = ARRAYS
    np.add(a, b, out=RESULT)
    np.multiply(RESULT, 2, out=RESULT)
    np.subtract(RESULT, a, out=RESULT)


def allocation() -> None:
    """Allocate an array of 1 MB and free it unused."""
    np.empty(LENGTH)


def small_allocation() -> None:
    """Allocate a small array and free it; NumPy takes it from a cache of its own."""
    np.empty(1)


class Task(NamedTuple):
    """Work to time."""

    work: Callable[[], None]
    without: Callable[[], None]  # the same without a large allocation
    n: int  # executions for one time, about a millisecond


TASKS = {
    "(a + b) * 2 - a": Task(arithmetic, arithmetic_in_place, 5),
    "malloc and free": Task(allocation, small_allocation, 1000),
}
Times = dict[str, list[tuple[float, float]]]  # seconds by task, and those without allocation
MOMENTS = ("before", "during", "after")


def main() -> int:
    """Run the benchmark from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.left_behind",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--settings", choices=NAMED, default="A-tiny")
    parser.add_argument("--updates", type=positive, default=20, metavar="N")
    parser.add_argument("--rounds", type=positive, default=3, metavar="N")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(Settings(**json.loads(args.child)))))
        return 0
    print(f"{describe_machine()}; {describe_versions()}; {args.settings}, float32, JAX\n")
    rounds: dict[str, list[dict[str, Times]]] = {memory: [] for memory in MEMORY}
    with tempfile.TemporaryDirectory(prefix="cle_port_benchmark_") as folder:
        for number in range(args.rounds):
            for memory in MEMORY:
                _say(f"round {number + 1} of {args.rounds}: memory {memory}")
                rounds[memory].append(in_process(args, memory, Path(folder), number))
    print(report(rounds))
    return 0


def in_process(
    args: argparse.Namespace, memory: str, folder: Path, number: int
) -> dict[str, Times]:
    """Measure one training run in a new process.

    Raises
    ------
    SystemExit
        If the process fails.
    """
    settings = Settings(
        **{**NAMED[args.settings], "epoch": WARM_UP + args.updates},
        data_path=str(folder / "data"),
        save_path=str(folder / f"runs_{memory}_{number}"),
        max_updates=WARM_UP + args.updates,
        backend="jax",
        memory=memory,
        quiet=True,
    )
    if not (folder / "data").exists():
        write_data(folder / "data", settings)
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(settings.as_dict())],
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"memory {memory} failed with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(settings: Settings) -> dict[str, Times]:
    """Train as the program does; measure NumPy before, during and after the run.

    Returns
    -------
    dict of str to dict
        Times by moment (``before``, ``during``, ``after``) and task, in seconds.
    """
    import pytensor

    from models.running import Run
    from models.vrnn_gmm import PROGRAM

    time_tasks(REPETITIONS // 10)
    before = time_tasks(REPETITIONS)
    pytensor.config.floatX = settings.floatX
    mainloop = PROGRAM.mainloop(Run(PROGRAM.name, settings))
    between = BetweenUpdates()
    mainloop.extension.append(between)
    mainloop.run()
    return {"before": before, "during": between.times, "after": time_tasks(REPETITIONS)}


class BetweenUpdates(Extension):
    """Measures after each update but the first ones."""

    name = "ext_schedule"

    def __init__(self) -> None:
        self.times: Times = {name: [] for name in TASKS}

    def exe(self, mainloop: Training) -> None:
        """Add the times of this update."""
        if mainloop.trainlog.batch_seen > WARM_UP:
            for name, times in time_tasks(PER_UPDATE).items():
                self.times[name] += times


def time_tasks(repetitions: int) -> Times:
    """Time the tasks in turns, in seconds for one execution."""
    times: Times = {name: [] for name in TASKS}
    for _ in range(repetitions):
        for name, (work, without, n) in TASKS.items():
            times[name].append((seconds(work, n), seconds(without, n)))
    return times


def seconds(work: Callable[[], None], n: int) -> float:
    """Return the mean time of ``n`` executions."""
    started = time.perf_counter()
    for _ in range(n):
        work()
    return (time.perf_counter() - started) / n


def report(
    rounds: Mapping[str, Sequence[Mapping[str, Mapping[str, Sequence[Sequence[float]]]]]],
) -> str:
    """Lay out medians over the rounds: times, and their ratios to the time before the run."""
    rows = []
    for memory, measured in rounds.items():
        for name in TASKS:
            times: dict[str, list[float]] = {}
            relative: dict[str, list[float]] = {}
            for moment in MOMENTS:
                pairs = [of_round[moment][name] for of_round in measured]
                times[moment] = [statistics.median(t for t, _ in pair) for pair in pairs]
                relative[moment] = [statistics.median(t / u for t, u in pair) for pair in pairs]
            row = [memory, name]
            row += [f"{1e6 * statistics.median(times[moment]):.2f}" for moment in MOMENTS]
            for moment in MOMENTS[1:]:
                ratios = [a / b for a, b in zip(relative[moment], relative["before"])]
                spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
                row.append(f"{statistics.median(ratios):.2f} ({spread})")
            rows.append(row)
    header = ("memory", "task", *(f"{moment} µs" for moment in MOMENTS))
    return table([*header, "during/before", "after/before"], rows)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
