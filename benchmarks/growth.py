"""Growth of time, memory and compile time with frames, rows and the LSTM's size.

This starts from A-small and changes one number at a time.  A new process for
each size updates a few times.

Examples
--------
::

    python -m benchmarks.growth
    python -m benchmarks.growth --axis frames --backend c
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import problem
from benchmarks.common import N_STEP, NAMED, describe_machine, describe_versions, positive, table
from benchmarks.process import Process
from models.settings import Settings

AXES = {
    "frames": (20, 40, 80, 160, 320),
    "batch_size": (1, 4, 16, 64, 128),
    "rnn_dim": (128, 256, 512, 1000, 2000),
}


class Figures(NamedTuple):
    """Figures of one size."""

    size: int
    update: float  # s
    compile: float  # s; building, compiling and the first update, minus one update
    peak: float  # MB


def main() -> int:
    """Run the benchmark from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--axis", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--updates", type=positive, default=4, metavar="N")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file, too")
    args = parser.parse_args()
    print(f"{describe_machine()}; {describe_versions()}; A-small, float32")
    results = {}
    for axis in args.axis:
        results[axis] = [measure(axis, size, args.backend, args.updates) for size in AXES[axis]]
        print(report(axis, results[axis]), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))
    return 0


def measure(axis: str, size: int, backend: str, updates: int) -> Figures:
    """Update a few times with one size."""
    changed: dict[str, Any] = {} if axis == "frames" else {axis: size}
    if axis == "batch_size":
        changed["m_batch_size"] = size
    with tempfile.TemporaryDirectory(prefix="cle_port_benchmark_") as folder:
        settings = Settings(
            **{**NAMED["A-small"], **changed},
            backend=backend,
            save_path=f"{folder}/runs",
            quiet=True,
        )
        where = Path(folder) / "problem"
        problem.write(where, settings, n_batch=1, n_step=size if axis == "frames" else N_STEP)
        with Process("ours", where) as process:
            cold = process.ask(updates=[0])
            warm = process.ask(updates=[0] * (updates + 1))
    update = statistics.median(warm["seconds"][1:])
    figures = Figures(size, update, cold["build"] + cold["seconds"][0] - update, warm["peak"])
    print(f"{axis}: {figures}", file=sys.stderr, flush=True)
    return figures


def report(axis: str, figures: Sequence[Figures]) -> str:
    """Lay out the figures of one axis; fit a power of the size to the upper half."""
    rows = [
        (
            str(f.size),
            f"{f.update:.4f}",
            f"{1000 * f.update / f.size:.2f}",
            f"{f.compile:.1f}",
            f"{f.peak:.0f}",
        )
        for f in figures
    ]
    middle, last = figures[len(figures) // 2], figures[-1]
    power = math.log(last.update / middle.update) / math.log(last.size / middle.size)
    header = (axis, "s/update", "ms/update per one", "compile s", "peak MB")
    note = f"from {middle.size} to {last.size} seconds grow as {axis} to the power {power:.2f}"
    return f"\n{table(header, rows)}\n\n{note}"


if __name__ == "__main__":
    sys.exit(main())
