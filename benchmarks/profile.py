"""Profile of an update under JAX, or of PyTensor's rewriting before it.

XLA's profiler names each operation that it ran.  The table adds up operations
whose names differ in their number only, over all threads.  ``ynn_fusion``, ``dot``
and custom calls are matrix products; other fusions are elementwise work.  An
operation with as many calls as frames is inside a scan.

Examples
--------
::

    python -m benchmarks.profile --settings A-mid
    python -m benchmarks.profile --settings A-mid --peer jax
    python -m benchmarks.profile --rewriting
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import problem
from benchmarks.common import N_STEP, NAMED, describe_machine, describe_versions, positive, table
from benchmarks.process import MODULES
from models.settings import Settings

ENCLOSING = ("ThunkExecutor", "while", "call", "conditional")  # contain other operations
WARM_UP = 3
SHOWN = 25


def main() -> int:
    """Run the profile from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--settings", choices=NAMED, default="A-small")
    parser.add_argument("--peer", choices=("ours", "jax"), default="ours")
    parser.add_argument("--frames", type=positive, default=N_STEP, metavar="T")
    parser.add_argument("--updates", type=positive, default=5, metavar="N")
    parser.add_argument(
        "--rewriting",
        action="store_true",
        help="print PyTensor's profile of its rewriting at the end",
    )
    args = parser.parse_args()
    if args.rewriting:
        import pytensor

        pytensor.config.profile = pytensor.config.profile_optimizer = True
    print(f"{describe_machine()}; {describe_versions()}; {args.settings}, {args.frames} frames")
    with tempfile.TemporaryDirectory(prefix="cle_port_benchmark_") as folder:
        events = trace(Path(folder), args)
    print(f"\n{report(events, args.updates)}")
    return 0


def trace(folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Update under XLA's profiler; return its events."""
    settings = Settings(
        **NAMED[args.settings], backend="jax", save_path=str(folder / "runs"), quiet=True
    )
    problem.write(folder / "problem", settings, n_batch=1, n_step=args.frames)
    module = importlib.import_module(f"benchmarks.peers.{MODULES[args.peer]}")
    peer = module.Peer(problem.read(folder / "problem"), args.frames)
    (batch,) = problem.read_batches(folder / "problem", [0], settings.floatX)
    for _ in range(WARM_UP):
        peer.update(batch)

    import jax

    with jax.profiler.trace(str(folder / "trace")):
        for _ in range(args.updates):
            peer.update(batch)
    (path,) = (folder / "trace").rglob("*.trace.json.gz")
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


def report(events: Iterable[Mapping[str, Any]], updates: int) -> str:
    """Lay out the operations that took longest."""
    events = list(events)
    threads = {
        event["tid"]: event["args"]["name"]
        for event in events
        if event.get("ph") == "M" and event["name"] == "thread_name"
    }
    milliseconds: defaultdict[str, float] = defaultdict(float)
    calls: defaultdict[str, int] = defaultdict(int)
    for event in events:
        is_xla = threads.get(event.get("tid"), "").startswith("tf_XLA")
        if event.get("ph") != "X" or not is_xla or event["name"].startswith(ENCLOSING):
            continue
        name = re.sub(r"[.\d]+$", "", event["name"])
        milliseconds[name] += event["dur"] / 1000 / updates
        calls[name] += 1
    total = sum(milliseconds.values())
    rows = [
        (name, f"{ms:.2f}", f"{100 * ms / total:.1f} %", f"{calls[name] / updates:.0f}")
        for name, ms in sorted(milliseconds.items(), key=lambda item: -item[1])[:SHOWN]
    ]
    header = ("operation", "ms/update, all threads", "share", "calls/update")
    return f"{table(header, rows)}\n\n{total:.1f} ms in total over all threads"


if __name__ == "__main__":
    sys.exit(main())
