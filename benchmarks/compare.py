"""Seconds per update beside PyTorch, plain JAX and the original, in turns.

Every peer lives in a process of its own, has the same parameters, batches and
noise, and updates when it is its turn while the others wait.  So a change of
the machine's load falls on all of them.  Before anything is timed, every peer
must give the project's own costs, gradients and parameters on a small problem
in float64; during the timing its costs in float32.

Examples
--------
::

    python -m benchmarks.compare
    python -m benchmarks.compare --settings B-paper --frames 300 --peers ours jax
    python -m benchmarks.compare --python pytorch=/path/to/its/python
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks import problem
from benchmarks.common import N_STEP, NAMED, STACKS, describe_machine, positive, table
from models.settings import Settings

PEERS = ("ours", "pytorch:eager", "pytorch:compiled", "pytorch:whole", "jax", "theano")
DEFAULT_PEERS = ("ours", "pytorch:eager", "pytorch:compiled", "jax")
MODULES = {"pytorch": "pytorch_vrnn", "jax": "jax_vrnn", "theano": "original_theano"}
TOY = {"z_dim": 5, "rnn_dim": 7, "num_k": 3, "batch_size": 4, "m_batch_size": 4, "depth": 2} | {
    key: width for width, key in enumerate(STACKS, start=6)
}
TOY_UPDATES = 6  # more than reset_freq, after which the carried state is zeroed
EXACT = 1e-9  # greatest relative difference in float64
CLOSE = 1e-3  # in float32, of the cost


def main() -> int:
    """Run the benchmark from the command line; returns the exit status."""
    args = _parser().parse_args()
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    pythons = dict(item.split("=", 1) for item in args.python)
    results = {}
    with tempfile.TemporaryDirectory(prefix="cle_port_benchmark_") as folder:
        if not args.no_check:
            for dataset in dict.fromkeys(
                NAMED[n].get("dataset", "blizzard") for n in args.settings
            ):
                check(Path(folder) / f"check_{dataset}", dataset, args, pythons)
        for name in args.settings:
            results[name] = measure(Path(folder) / name, name, args, pythons)
            print(report(name, results[name]), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("Examples\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=summary,
        epilog=rest.split("::", 1)[-1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--settings", nargs="+", choices=NAMED, default=["A-small"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(DEFAULT_PEERS))
    parser.add_argument("--floatX", choices=("float32", "float64"), default="float32")
    parser.add_argument("--backend", default="auto", help="of ours")
    parser.add_argument(
        "--batches", type=positive, default=2, metavar="N", help="different batches; all in a turn"
    )
    parser.add_argument("--turns", type=positive, default=5, metavar="N", help="of every peer")
    parser.add_argument(
        "--repeats", type=positive, default=1, metavar="N", help="passes over the batches a turn"
    )
    parser.add_argument(
        "--frames",
        type=positive,
        metavar="T",
        help=f"frames in a batch; default {N_STEP}, or lines' own lengths on IAM-OnDB",
    )
    parser.add_argument("--cores", type=positive, metavar="N", help="cores to use; default all")
    parser.add_argument(
        "--python",
        nargs="+",
        default=[],
        metavar="PEER=PATH",
        help="interpreter of a peer, if it is not this one",
    )
    parser.add_argument("--no-check", action="store_true", help="do not compare in float64 first")
    parser.add_argument("--json", metavar="FILE", help="also write all figures here")
    return parser


class Process:
    """A peer in a process of its own; see `benchmarks.peers.worker`."""

    def __init__(self, peer: str, folder: Path, floatX: str, pythons: Mapping[str, str]) -> None:
        kind, colon, option = peer.partition(":")
        cores = str(len(os.sched_getaffinity(0)))
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), cores
        )
        self.peer = peer
        self.process = subprocess.Popen(
            [
                pythons.get(kind, sys.executable),
                *("-m", "benchmarks.peers.worker"),
                *(MODULES.get(kind, kind) + colon + option, str(folder), floatX),
            ],
            cwd=ROOT,
            env={**os.environ, **threads, "PYTHONPATH": str(ROOT)},
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
        """Send a command and wait for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def check(folder: Path, dataset: str, args: argparse.Namespace, pythons: Mapping[str, str]) -> None:
    """Hold every peer against ours: costs, gradients, parameters, in float64.

    Raises
    ------
    SystemExit
        If one differs by more than `EXACT`.
    """
    x_dim = 3 if dataset == "iamondb" else 8
    settings = Settings(**TOY, dataset=dataset, x_dim=x_dim, backend=args.backend, quiet=True)
    problem.write(folder, _saving_below(settings, folder), TOY_UPDATES, n_step=5)
    states: dict[str, dict[str, Any]] = {}
    for peer in dict.fromkeys(["ours", *args.peers]):
        _say(f"checking {peer} on {dataset}")
        with Process(peer, folder, "float64", pythons) as process:
            first = process.ask(updates=[0])
            process.ask(save=str(folder / "first.npz"))
            rest = process.ask(updates=list(range(1, TOY_UPDATES)))
            process.ask(save=str(folder / "last.npz"))
        states[peer] = {"costs": np.array(first["costs"] + rest["costs"])}
        for when in ("first", "last"):
            with np.load(folder / f"{when}.npz") as arrays:
                states[peer] |= {f"{name} {when}": array for name, array in arrays.items()}
    for peer, state in states.items():
        worst, name = max((difference(state[k], v), k) for k, v in states["ours"].items())
        _say(f"{peer} differs from ours on {dataset} by at most {worst:.1e} ({name})")
        if not worst <= EXACT:
            raise SystemExit(f"{peer} does not compute what ours does")


def difference(a: Any, b: Any) -> float:
    """Greatest difference, relative to the greatest number."""
    return float(np.max(np.abs(a - b)) / max(1e-30, np.max(np.abs(b))))


def _saving_below(settings: Settings, folder: Path) -> Settings:
    return Settings(**{**settings.as_dict(), "save_path": str(folder / "runs")})


def measure(
    folder: Path, name: str, args: argparse.Namespace, pythons: Mapping[str, str]
) -> dict[str, Any]:
    """Let all peers update in turns.

    Returns
    -------
    dict
        ``frames`` of each batch; by peer ``seconds`` (a list for each turn),
        ``first`` (seconds of the first pass over the batches, with everything
        that it compiles), ``peak`` MB, ``versions``.
    """
    settings = Settings(**NAMED[name], backend=args.backend, quiet=True)
    n_step = args.frames or (0 if settings.dataset == "iamondb" else N_STEP)
    frames = problem.write(folder, _saving_below(settings, folder), args.batches, n_step)
    numbers = list(range(args.batches))
    processes = [Process(peer, folder, args.floatX, pythons) for peer in args.peers]
    peers: dict[str, Any] = {}
    costs = {}
    for process in processes:
        _say(f"{name}: first updates of {process.peer}")
        answer = process.ask(updates=numbers)
        costs[process.peer] = np.array(answer["costs"])
        peers[process.peer] = {
            "first": answer["seconds"],
            "seconds": [],
            "versions": process.versions,
        }
    for peer, values in costs.items():
        if not difference(values, costs[args.peers[0]]) <= CLOSE:
            raise SystemExit(f"{peer} has other costs than {args.peers[0]}: {costs}")
    for turn in range(args.turns):
        for process in processes:
            answer = process.ask(updates=numbers * args.repeats)
            peers[process.peer]["seconds"].append(answer["seconds"])
            peers[process.peer]["peak"] = answer["peak"]
        _say(f"{name}: turn {turn + 1} of {args.turns}")
    for process in processes:
        process.__exit__()
    return {"frames": frames, "machine": describe_machine(), "peers": peers}


def report(name: str, result: Mapping[str, Any]) -> str:
    """Table of one setting."""
    medians = {peer: per_update(figures["seconds"]) for peer, figures in result["peers"].items()}
    ours = medians.get("ours")
    rows = []
    for peer, figures in result["peers"].items():
        turns = [statistics.mean(turn) for turn in figures["seconds"]]
        rows.append(
            (
                peer,
                f"{medians[peer]:.4f}",
                f"{min(turns):.4f}-{max(turns):.4f}",
                f"{ours / medians[peer]:.2f}" if ours else "",
                f"{sum(figures['first']):.1f}",
                f"{figures['peak']:.0f}",
            )
        )
    header = ("peer", "s/update", "range of turns", "ours / it", "first pass s", "peak MB")
    frames = ", ".join(map(str, dict.fromkeys(result["frames"])))
    versions = "\n".join(dict.fromkeys(f["versions"] for f in result["peers"].values()))
    where = f"{name}, frames {frames}; {result['machine']}; {versions}"
    return f"\n{where}\n\n{table(header, rows)}"


def per_update(turns: Sequence[Sequence[float]]) -> float:
    """Mean over batches of each one's median over turns: lengths may differ."""
    return statistics.mean(statistics.median(batch) for batch in zip(*turns))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
