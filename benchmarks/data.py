"""Time of reading, preparing and logging while training on a large file.

This writes an HDF5 file of 2 million rows of the original's length.  The first
rows are noise as loud as speech.  All others are zeros, so the compressed file
has a few hundred megabytes instead of 32 GB.  Then it trains on the file with
the program's main loop and compares the seconds of the loop with those inside
the update.

Examples
--------
::

    python -m benchmarks.data
    python -m benchmarks.data --settings A-wide --updates 10
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import h5py
import numpy as np
import pytensor

from benchmarks.common import (
    NAMED,
    current_memory,
    describe_machine,
    describe_versions,
    positive,
    table,
)
from benchmarks.problem import QuickInit
from cle_port.train import Training
from cle_port.train.ext import Extension
from datasets.hdf5.rows import DATASET, RowWriter
from datasets.hdf5.statistics import save_statistics
from models.running import Run
from models.running.data import FILE_NAME
from models.settings import Settings
from models.vrnn_gmm import PROGRAM, vrnn_gmm

ROW = 8000
N_ROWS = 2_000_000
LOUDNESS = 1000.0  # standard deviation of the samples
WARM_UP = 3


def main() -> int:
    """Run the benchmark from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--settings", nargs="+", choices=NAMED, default=["A-mid"])
    parser.add_argument("--batch_size", type=positive, default=128, help="default is the paper's")
    parser.add_argument("--updates", type=positive, default=20, metavar="N")
    parser.add_argument("--rows", type=positive, default=N_ROWS, metavar="N")
    parser.add_argument("--backend", default="auto")
    args = parser.parse_args()
    print(f"{describe_machine()}; {describe_versions()}; float32")
    with tempfile.TemporaryDirectory(prefix="cle_port_benchmark_") as folder:
        path = Path(folder) / f"{FILE_NAME}.h5"
        n_noisy = args.batch_size * (WARM_UP + args.updates)
        started = time.perf_counter()
        write_rows(path, args.rows, n_noisy)
        size = path.stat().st_size / 1e6
        seconds = time.perf_counter() - started
        print(f"{args.rows} rows of {ROW} samples, {size:.0f} MB, written in {seconds:.0f} s")
        save_statistics(folder, FILE_NAME, 0.0, LOUDNESS)
        rows = [measure(Path(folder), name, args) for name in args.settings]
    header = ("setting", "s/update", "s beside it", "share", "MB after warm-up", "MB at the end")
    print(f"\n{table(header, rows)}")
    return 0


def write_rows(path: Path, n_rows: int, n_noisy: int) -> None:
    """Write rows as `RowWriter` stores them.

    `RowWriter` writes the chunks of noise and one chunk of zeros.  The other
    chunks are copies of the compressed zeros.
    """
    rng = np.random.default_rng(0)
    with RowWriter(path, ROW) as writer:
        n_chunk = writer._rows.chunks[0]
        n_first = -(-n_noisy // n_chunk) * n_chunk
        for _ in range(0, n_first, n_chunk):
            writer.append(rng.normal(0, LOUDNESS, (n_chunk, ROW)).astype(np.int16))
        writer.append(np.zeros((n_chunk, ROW), np.int16))
        writer.finish()
        writer.commit()
    with h5py.File(path, "r+") as file:
        rows = file[DATASET]
        mask, zeros = rows.id.read_direct_chunk((n_first, 0))
        rows.resize(max(n_rows, len(rows)), axis=0)
        for start in range(n_first + n_chunk, n_rows, n_chunk):
            rows.id.write_direct_chunk((start, 0), zeros, mask)


def measure(folder: Path, name: str, args: argparse.Namespace) -> tuple[str, ...]:
    """Train; return the table's row: seconds inside the update and beside it, memory."""
    settings = Settings(
        **{**NAMED[name], "batch_size": args.batch_size, "m_batch_size": args.batch_size},
        data_path=str(folder),
        save_path=str(folder / name),
        max_updates=WARM_UP + args.updates,
        backend=args.backend,
        quiet=True,
    )
    pytensor.config.floatX = settings.floatX
    program = PROGRAM._replace(make_net=lambda args: vrnn_gmm(args, QuickInit(0)))
    mainloop = program.mainloop(Run(program.name, settings))
    marks: list[tuple[float, float]] = []
    mainloop.extension = [
        extension
        for extension in mainloop.extension
        if extension.name not in ("ext_monitor", "ext_save")
    ]
    mainloop.extension.append(Mark(marks))
    mainloop.run()
    (first, memory), *_, (last, memory_at_end) = marks[WARM_UP - 1 :]
    inside = sum(mainloop.trainlog.monitor["time"][WARM_UP:])
    beside = last - first - inside
    return (
        name,
        f"{inside / args.updates:.4f}",
        f"{beside / args.updates:.4f}",
        f"{100 * beside / (last - first):.2f} %",
        f"{memory:.0f}",
        f"{memory_at_end:.0f}",
    )


class Mark(Extension):
    """Extension that notes time and memory after each update."""

    name = "ext_schedule"

    def __init__(self, marks: list[tuple[float, float]]) -> None:
        self.marks = marks

    def exe(self, mainloop: Training) -> None:
        """Note time in s and memory in MB."""
        self.marks.append((time.perf_counter(), current_memory()))


if __name__ == "__main__":
    sys.exit(main())
