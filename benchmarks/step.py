"""Seconds per update, compile time and memory of VRNN-GMM at named settings.

A new process for each figure builds the program as ``models/vrnn_gmm.py`` does
and feeds it synthetic rows.  A round runs each setting on each backend once, so
a change of the machine's load affects all of them.  The first round starts with
empty caches.

Examples
--------
::

    python -m benchmarks.step
    python -m benchmarks.step --settings A-tiny A-small --backend jax c --updates 40
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import (
    N_STEP,
    NAMED,
    describe_machine,
    describe_versions,
    peak_memory,
    positive,
    table,
)
from cle_port.errors import UserError
from cle_port.graph.backend import BACKENDS, choose
from models.settings import Settings

N_BATCH = 4  # batches in the synthetic data; the updates repeat them
WARM_UP = 2  # updates before the timing
COLUMNS = (
    ("s/update", "update", ".4f"),
    ("range", "range", ""),
    ("compile cold", "compile_cold", ".1f"),
    ("warm", "compile_warm", ".1f"),
    ("1st update cold", "first_cold", ".1f"),
    ("warm", "first_warm", ".1f"),
    ("peak MB", "peak", ".0f"),
)


def main() -> int:
    """Run the benchmark from the command line; return the exit status."""
    args = _parser().parse_args()
    if args.child:
        print(json.dumps(measure(Settings(**json.loads(args.child)), args.updates)))
        return 0
    try:
        backends = [choose(backend).backend for backend in args.backend]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    cases = list(itertools.product(args.settings, dict.fromkeys(backends)))
    with tempfile.TemporaryDirectory(prefix="cle_port_benchmark_") as folder:
        rounds = run_rounds(cases, args.updates, 1 + args.repeats, args.floatX, Path(folder))
    print(f"{describe_machine()}; {describe_versions()}")
    print(
        f"{args.floatX}, {args.repeats} warm rounds of {args.updates} updates; times in seconds\n"
    )
    print(report({case: summarise(measured) for case, measured in rounds.items()}))
    return 0


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("Examples\n")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=rest.split("::", 1)[-1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--settings", nargs="+", choices=NAMED, default=["A-tiny", "A-small"], help="sizes"
    )
    parser.add_argument(
        "--backend", nargs="+", choices=BACKENDS, default=["auto"], help="compilers"
    )
    parser.add_argument("--floatX", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--updates", type=positive, default=20, metavar="N", help="timed updates in each round"
    )
    parser.add_argument(
        "--repeats", type=positive, default=2, metavar="N", help="rounds with warm caches"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def run_rounds(
    cases: Sequence[tuple[str, str]], updates: int, n_rounds: int, floatX: str, folder: Path
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Measure each case once in each round; its caches are empty at first.

    Parameters
    ----------
    cases : list of (setting, backend)
    updates : int
        Timed updates in a round.
    n_rounds : int
        Number of rounds; only the first has empty caches.
    floatX : str
    folder : pathlib.Path
        Folder for data and caches.

    Returns
    -------
    dict of (setting, backend) to list of dict
        Result of `measure` for each round.

    Raises
    ------
    SystemExit
        If a process fails.
    """
    measured: dict[tuple[str, str], list[dict[str, Any]]] = {case: [] for case in cases}
    for n, (name, backend) in itertools.product(range(n_rounds), cases):
        print(f"round {n} of {n_rounds - 1}: {name} on {backend}", file=sys.stderr, flush=True)
        home = folder / f"{name}_{backend}"
        settings = Settings(
            **NAMED[name],
            data_path=str(home / "data"),
            save_path=str(home / f"runs_{n}"),
            backend=backend,
            floatX=floatX,
            quiet=True,
        )
        if n == 0:
            write_data(home / "data", settings)
        command = [sys.executable, __file__, "--updates", str(updates), "--child"]
        started = time.time()
        done = subprocess.run(
            [*command, json.dumps(settings.as_dict())],
            env=_environment(home),
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{name} on {backend} failed with status {done.returncode}")
        result = json.loads(done.stdout.splitlines()[-1])
        result["first"] = result.pop("first_update_at") - started
        measured[name, backend].append(result)
    return measured


def _environment(home: Path) -> dict[str, str]:
    """Return the environment with both compilers' caches in ``home``."""
    flags = [f for f in os.environ.get("PYTENSOR_FLAGS", "").split(",") if "compiledir" not in f]
    environment = {
        **os.environ,
        "CLE_PORT_CACHE": str(home / "cache"),
        "PYTENSOR_FLAGS": ",".join([*filter(None, flags), f"base_compiledir={home / 'pytensor'}"]),
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    return environment


def write_data(folder: Path, settings: Settings) -> None:
    """Write rows of noise and their statistics in the program's format."""
    import numpy as np

    from datasets.hdf5.rows import RowWriter
    from datasets.hdf5.statistics import save_statistics
    from models.running.data import FILE_NAME

    n_rows = N_BATCH * settings.batch_size + settings.m_batch_size
    shape = (n_rows, N_STEP * settings.x_dim)
    rows = np.random.default_rng(0).normal(0.0, 1000.0, shape).astype(np.int16)
    folder.mkdir(parents=True)
    with RowWriter(folder / f"{FILE_NAME}.h5", shape[1]) as writer:
        writer.append(rows)
        writer.finish()
        writer.commit()
    save_statistics(folder, FILE_NAME, rows.mean(), rows.std())


def measure(settings: Settings, updates: int) -> dict[str, Any]:
    """Build the program, run its start and its first update, then time updates.

    Parameters
    ----------
    settings : Settings
    updates : int
        Number of timed updates, which follow `WARM_UP` others.

    Returns
    -------
    dict
        ``compile``: seconds for building and compiling both graphs, including
        the first calls, in which JAX compiles; ``first_update_at``: time at the
        end of the first update, which follows the first monitoring pass and
        checkpoint as in the program; ``updates``: seconds of each timed update,
        until its cost is a Python number; ``peak``: greatest resident memory in
        MB.
    """
    import pytensor

    from cle_port.graph.working_memory import kept_memory
    from models.running import Run
    from models.vrnn_gmm import PROGRAM

    pytensor.config.floatX = settings.floatX
    t0 = time.perf_counter()
    mainloop = PROGRAM.mainloop(Run(PROGRAM.name, settings))
    batches = itertools.chain.from_iterable(itertools.repeat(mainloop.data))
    mainloop.run_extension("ext_monitor")
    mainloop.run_extension("ext_save")
    with kept_memory(settings.memory == "kept"):  # as in `Training.run`
        mainloop.update(next(batches))
        first_update_at = time.time()
        first_calls = time.perf_counter() - t0
        for batch in itertools.islice(batches, WARM_UP + updates):
            mainloop.update(batch)
    seconds = mainloop.trainlog.monitor["time"][1 + WARM_UP :]
    return {
        "compile": first_calls,
        "first_update_at": first_update_at,
        "updates": seconds,
        "peak": peak_memory(),
    }


def summarise(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return medians over the warm rounds, and the figures of the cold round."""
    cold, *warm = rounds
    medians = [statistics.median(r["updates"]) for r in warm]
    return {
        "update": statistics.median(itertools.chain.from_iterable(r["updates"] for r in warm)),
        "range": f"{min(medians):.4f}-{max(medians):.4f}",
        "compile_cold": cold["compile"],
        "compile_warm": statistics.median(r["compile"] for r in warm),
        "first_cold": cold["first"],
        "first_warm": statistics.median(r["first"] for r in warm),
        "peak": max(r["peak"] for r in rounds),
    }


def report(results: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Lay out the results, one line per case."""
    return table(
        ["setting", "backend", *(title for title, _, _ in COLUMNS)],
        (
            [*case, *(format(result[key], form) for _, key, form in COLUMNS)]
            for case, result in results.items()
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
