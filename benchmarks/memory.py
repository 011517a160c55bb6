"""Seconds per update with ``--memory kept`` and with ``--memory plain``, in turns.

Two processes hold the same problem, one with each setting.  They update in
turns, so that a change of the machine's load falls on both.

Examples
--------
::

    python -m benchmarks.memory
    python -m benchmarks.memory --settings B-paper --frames 300 --turns 3
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import problem
from benchmarks.common import N_STEP, NAMED, describe_machine, describe_versions, positive, table
from benchmarks.process import Process
from cle_port.graph import MEMORY
from models.settings import Settings

WARM_UP = 3  # updates that are not measured; JAX compiles in the first


def main() -> int:
    """Run the benchmark from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--settings", nargs="+", choices=NAMED, default=["A-small", "A-mid"])
    parser.add_argument("--turns", type=positive, default=20, metavar="N", help="of each process")
    parser.add_argument("--updates", type=positive, default=4, metavar="N", help="in a turn")
    parser.add_argument("--frames", type=positive, default=N_STEP, metavar="T")
    args = parser.parse_args()
    print(f"{describe_machine()}; {describe_versions()}")
    print(f"float32, JAX, {args.frames} frames, {args.turns} turns of {args.updates} updates\n")
    with tempfile.TemporaryDirectory(prefix="cle_port_benchmark_") as folder:
        turns = {name: measure(Path(folder) / name, name, args) for name in args.settings}
    print(report(turns))
    return 0


def measure(folder: Path, name: str, args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Let two processes update in turns.

    Returns
    -------
    dict of str to list of dict
        What `benchmarks.peers.worker` answers in each turn, by memory setting.
    """
    processes = {}
    for memory in MEMORY:
        settings = Settings(
            **NAMED[name],
            backend="jax",
            memory=memory,
            save_path=str(folder / f"runs_{memory}"),
            quiet=True,
        )
        where = folder / memory
        problem.write(where, settings, n_batch=1, n_step=args.frames)
        processes[memory] = Process("ours", where)
        _say(f"{name}: first updates with memory {memory}")
        processes[memory].ask(updates=[0] * WARM_UP)
    turns: dict[str, list[dict[str, Any]]] = {memory: [] for memory in MEMORY}
    for number in range(args.turns):
        _say(f"{name}: turn {number + 1} of {args.turns}")
        for memory, process in processes.items():
            turns[memory].append(process.ask(updates=[0] * args.updates))
    for process in processes.values():
        process.close()
    return turns


def report(turns: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> str:
    """Lay out both settings' figures and their ratios, kept to plain."""
    header = ("settings", "memory", "s/update", "range of turns", "faults/update")
    rows, ratios = [], []
    for name, answers in turns.items():
        seconds = {
            memory: [statistics.median(answer["seconds"]) for answer in answers[memory]]
            for memory in MEMORY
        }
        for memory in MEMORY:
            faults = [a["faults"] / len(a["seconds"]) for a in answers[memory]]
            system = [a["system"] / len(a["seconds"]) for a in answers[memory]]
            rows.append(
                (
                    *(name, memory, f"{statistics.median(seconds[memory]):.4f}"),
                    f"{min(seconds[memory]):.4f}-{max(seconds[memory]):.4f}",
                    f"{statistics.median(faults):.0f}",
                    f"{statistics.median(system):.3f}",
                    f"{answers[memory][-1]['peak']:.0f}",
                )
            )
        kept, plain = (seconds[memory] for memory in MEMORY)
        by_turn = [a / b for a, b in zip(kept, plain)]
        spread = f"{min(by_turn):.2f}-{max(by_turn):.2f}"
        best = f"{min(kept) / min(plain):.2f}"
        ratios.append((name, f"{statistics.median(by_turn):.2f}", spread, best))
    figures = table([*header, "system s/update", "peak MB"], rows)
    return f"{figures}\n\n" + table(
        ("settings", "kept to plain", "range of turns", "by best turns"), ratios
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
