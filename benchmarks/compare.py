"""Seconds per update beside PyTorch, plain JAX and the original, in turns.

Every peer runs in its own process, with the same parameters, batches and noise.
The peers update in turns while the others wait, so a change of the machine's
load affects all of them.  Before the timing, every peer must compute the
project's costs, gradients and parameters on a small problem in float64; during
the timing, its costs in float32.

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
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks import problem
from benchmarks.common import N_STEP, NAMED, STACKS, describe_machine, positive, table
from benchmarks.process import Process
from models.settings import Settings

PEERS = (
    "ours",
    *("pytorch:eager", "pytorch:compiled", "pytorch:whole", "jax", "theano"),
    *("gemm:numpy", "gemm:torch", "gemm:jax"),
)
DEFAULT_PEERS = ("ours", "pytorch:eager", "pytorch:compiled", "jax")
# Goals for our time divided by that of the best peer of a kind.
GOALS = {"pytorch": "at most 0.9", "jax": "at most 1.0", "theano": "at most 0.5"}
LIMIT = "gemm", "at least 0.75"  # for the time of the products divided by ours
TOY: dict[str, Any] = {
    "z_dim": 5,
    "rnn_dim": 7,
    "num_k": 3,
    "batch_size": 4,
    "m_batch_size": 4,
    "depth": 2,
} | {key: width for width, key in enumerate(STACKS, start=20)}
TOY_UPDATES = 6  # more than reset_freq: the carried state is zeroed once
ENLARGED = 300.0  # factor on weights: the limits on norms of weights and gradients apply
EXACT = 1e-9  # largest relative difference in float64
CLOSE = 1e-3  # largest relative difference of costs in float32


def main() -> int:
    """Run the benchmark from the command line; return the exit status."""
    parser = _parser()
    args = parser.parse_args()
    if "theano" in args.peers and not args.original:
        parser.error("the peer theano needs --original")
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    results = {}
    with tempfile.TemporaryDirectory(prefix="cle_port_benchmark_") as folder:
        if not args.no_check:
            for dataset in dict.fromkeys(
                NAMED[n].get("dataset", "blizzard") for n in args.settings
            ):
                check(Path(folder) / f"check_{dataset}", dataset, args)
        for name in args.settings:
            results[name] = measure(Path(folder) / name, name, args)
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
    parser.add_argument("--backend", default="auto", help="compiler of our program")
    parser.add_argument(
        "--batches", type=positive, default=2, metavar="N", help="different batches in a turn"
    )
    parser.add_argument("--turns", type=positive, default=5, metavar="N", help="turns of each peer")
    parser.add_argument(
        "--repeats", type=positive, default=1, metavar="N", help="passes over the batches in a turn"
    )
    parser.add_argument(
        "--frames",
        type=positive,
        metavar="T",
        help=f"frames in a batch; default {N_STEP}, and the lengths of the lines on IAM-OnDB",
    )
    parser.add_argument("--cores", type=positive, metavar="N", help="cores to use; default all")
    parser.add_argument(
        "--python",
        nargs="+",
        default=[],
        metavar="PEER=PATH",
        help="interpreter of a peer; default is this one",
    )
    parser.add_argument(
        "--original",
        metavar="DIR",
        help="folder with the repositories cle and nips2015_vrnn, for the peer theano",
    )
    parser.add_argument("--no-check", action="store_true", help="skip the comparison in float64")
    parser.add_argument("--json", metavar="FILE", help="write all figures to this file, too")
    return parser


def start(peer: str, folder: Path, floatX: str, args: argparse.Namespace) -> Process:
    """Start a peer with the options of the command line."""
    pythons = dict(item.split("=", 1) for item in args.python)
    return Process(peer, folder, floatX, pythons.get(peer.partition(":")[0]), args.original)


def check(folder: Path, dataset: str, args: argparse.Namespace) -> None:
    """Compare every peer with ours: costs, gradients and parameters in float64.

    Raises
    ------
    SystemExit
        If a peer differs by more than `EXACT`.
    """
    x_dim = 3 if dataset == "iamondb" else 8
    settings = Settings(**TOY, dataset=dataset, x_dim=x_dim, backend=args.backend, quiet=True)
    problem.write(folder, _saving_below(settings, folder), TOY_UPDATES, 5, enlarged=ENLARGED)
    states: dict[str, dict[str, Any]] = {}
    for peer in dict.fromkeys(["ours", *filter(has_same_numbers, args.peers)]):
        _say(f"checking {peer} on {dataset}")
        with start(peer, folder, "float64", args) as process:
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


def has_same_numbers(peer: str) -> bool:
    """Return whether a peer computes costs from the noise of the problem."""
    return peer.partition(":")[0] not in ("theano", "gemm")


def difference(a: Any, b: Any) -> float:
    """Return the largest difference, relative to the largest number."""
    return float(np.max(np.abs(a - b)) / max(1e-30, np.max(np.abs(b))))


def _saving_below(settings: Settings, folder: Path) -> Settings:
    return Settings(**{**settings.as_dict(), "save_path": str(folder / "runs")})


def measure(folder: Path, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Let all peers update in turns.

    Returns
    -------
    dict
        ``frames`` of each batch, ``machine``, and for each peer in ``peers``:
        ``seconds`` (a list for each turn), ``first`` (seconds of the first pass
        over the batches, compilation included), ``peak`` in MB, ``versions``.
    """
    settings = Settings(**NAMED[name], backend=args.backend, quiet=True)
    n_step = args.frames or (0 if settings.dataset == "iamondb" else N_STEP)
    frames = problem.write(folder, _saving_below(settings, folder), args.batches, n_step)
    numbers = list(range(args.batches))
    processes = [start(peer, folder, args.floatX, args) for peer in args.peers]
    peers: dict[str, Any] = {}
    costs = {}
    for process in processes:
        _say(f"{name}: first updates of {process.peer}")
        answer = process.ask(updates=numbers)
        costs[process.peer] = np.array(answer["costs"])
        peers[process.peer] = {
            "first": answer["build"] + sum(answer["seconds"]),
            "seconds": [],
            "versions": process.versions,
        }
    comparable = [peer for peer in args.peers if has_same_numbers(peer)]
    for peer in comparable:
        if not difference(costs[peer], costs[comparable[0]]) <= CLOSE:
            raise SystemExit(f"{peer} has other costs than {comparable[0]}: {costs}")
    for turn in range(args.turns):
        for process in processes:
            answer = process.ask(updates=numbers * args.repeats)
            peers[process.peer]["seconds"].append(answer["seconds"])
            peers[process.peer]["peak"] = answer["peak"]
        _say(f"{name}: turn {turn + 1} of {args.turns}")
    for process in processes:
        process.close()
    return {"frames": frames, "machine": describe_machine(), "peers": peers}


def report(name: str, result: Mapping[str, Any]) -> str:
    """Lay out the figures of one setting and their ratios beside the goals."""
    rows = []
    for peer, figures in result["peers"].items():
        turns = [statistics.mean(turn) for turn in figures["seconds"]]
        rows.append(
            (
                peer,
                f"{per_update(figures['seconds']):.4f}",
                f"{min(turns):.4f}-{max(turns):.4f}",
                f"{figures['first']:.1f}",
                f"{figures['peak']:.0f}",
            )
        )
    header = ("peer", "s/update", "range of turns", "first pass s", "peak MB")
    frames = ", ".join(map(str, dict.fromkeys(result["frames"])))
    versions = dict.fromkeys(figures["versions"] for figures in result["peers"].values())
    where = f"{name}, frames {frames}; {result['machine']}"
    text = "\n".join(["", where, *versions, "", table(header, rows)])
    if "ours" in result["peers"]:
        text += "\n\n" + table(("ours to", "ratio", "by best turns", "goal"), ratios(result))
    return text


def ratios(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return our time divided by that of the best peer of each kind; for products, the inverse."""
    rows = []
    for kind, goal in [*GOALS.items(), LIMIT]:
        peers = [peer for peer in result["peers"] if peer.partition(":")[0] == kind]
        if not peers:
            continue
        row = []
        for of_turns in (statistics.median, min):
            seconds = {
                peer: per_update(figures["seconds"], of_turns)
                for peer, figures in result["peers"].items()
            }
            best = min(peers, key=seconds.__getitem__)
            ratio = seconds["ours"] / seconds[best]
            row.append(f"{1 / ratio if kind == LIMIT[0] else ratio:.2f} ({best})")
        rows.append((kind, *row, goal))
    return rows


def per_update(
    turns: Sequence[Sequence[float]], of_turns: Callable[..., float] = statistics.median
) -> float:
    """Return the mean over batches of each batch's median over turns."""
    return statistics.mean(of_turns(batch) for batch in zip(*turns))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
