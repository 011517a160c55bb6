"""Say why training and validation bounds of the speech demo differ.

The bound of a frame depends first of all on how loud the frame is, and a log looks
at a few seconds only: at the first training rows and at the validation rows.  So
this benchmark also looks at rows from the whole training part, and at a corpus of
another seed, which no program has seen.  And it compares at equal loudness: it
averages the bound within classes of loudness, and the classes with the weights that
they have in training.  What then remains was learnt by heart.

Examples
--------
::

    python -m benchmarks.gap runs/demo_table/blizzard/*_seed1/*_best.npz --page docs/demo.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import table, write_between
from cle_port.console.command_line import ended
from cle_port.errors import UserError
from datasets.blizzard import row_ranges
from datasets.demo import blizzard
from datasets.demo.speech import speak
from datasets.hdf5.rows import FILE_NAME, HDF5Rows
from datasets.hdf5.statistics import load_statistics
from models.sampling.generation import several_through_model
from models.sampling.latent import LatentNet, has_latent
from models.sampling.loading import load_model
from models.settings import Settings

N_CLASS = 20  # of loudness, equally frequent in training
EVERY = 7  # of the training rows, which are many; no divisor of 16, so from all streams
UNSEEN_SEED = 1
TRAIN, VALID = "training, from all of it", "validation"
BEGIN, END = "<!-- written by python -m benchmarks.gap -->", "<!-- end of the gaps -->"


def main() -> int:
    """Run the benchmark from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT.npz")
    parser.add_argument("--page", type=Path, metavar="FILE", help="page to write the table into")
    return ended(lambda: run(parser.parse_args()), "nothing is written")


def run(args: argparse.Namespace) -> int:
    """Evaluate the checkpoints and print a table."""
    folder = blizzard.ensure()
    parts = parts_of(HDF5Rows(folder / f"{FILE_NAME}.h5")[:])
    loudness = {name: loudness_of(rows) for name, rows in parts.items()}
    mean, std = load_statistics(folder, FILE_NAME)
    x = {name: (rows - mean) / std for name, rows in parts.items()}
    text = report({path.parent.name: bounds(path, x) for path in args.checkpoints}, loudness)
    print(text)
    if args.page:
        write_between(args.page, BEGIN, text, END)
    return 0


def parts_of(rows: NDArray[np.int16]) -> dict[str, NDArray[np.int16]]:
    """Rows of the demo corpus that are compared, each of shape (rows, samples)."""
    batch_size, seq_len = blizzard.CorpusSettings.n_streams, rows.shape[1]
    split = row_ranges(len(rows), batch_size, batch_size)
    valid = rows[split.valid_start : split.valid_end]
    return {
        "training, as monitored": rows[: split.monitor_rows],
        TRAIN: rows[: split.train_end : EVERY],
        VALID: valid,
        "a corpus of another seed": speak(4 * valid.size, UNSEEN_SEED).reshape(-1, seq_len),
    }


def loudness_of(rows: NDArray[np.int16], size: int = 200) -> NDArray[np.float64]:
    """Level of each frame, dB relative to full scale."""
    frames = rows.reshape(-1, size).astype(np.float64) / 32768
    return 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)


def bounds(path: Path, x: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The bound of each frame of each part under the model of a checkpoint, in nats.

    Raises
    ------
    UserError
        If the checkpoint is not of the demo on Blizzard.
    """
    _, args, net = load_model(path)
    check(path, args)

    def bound(frames: TensorVariable, tensors: dict[str, Any]) -> list[TensorVariable]:
        if not has_latent(net):
            return [net.theta.nll(frames, tensors)]
        terms = cast(LatentNet, net).terms(frames, tensors)
        return [terms["recon"] + terms["kl"]]

    rows = np.concatenate(list(x.values()))
    frames = rows.reshape(len(rows), -1, args.x_dim).swapaxes(0, 1).astype(args.floatX)
    (found,) = several_through_model(net, frames, np.random.default_rng(0), bound)
    ends = np.cumsum([len(part) for part in x.values()])
    return {name: part.ravel() for name, part in zip(x, np.split(found.T, ends[:-1]))}


def check(path: Path, args: Settings) -> None:
    """Make sure that a checkpoint is of a model of the demo corpus."""
    if args.dataset != "blizzard" or args.data_path is not None or args.x_dim != 200:
        raise UserError(
            f"{path} is not of the speech demo; give checkpoints of `--dataset blizzard`"
        )


def at_loudness(values: NDArray, loudness: NDArray, like: NDArray) -> float:
    """Mean of values as if their frames were as loud as those of ``like``."""
    edges = np.quantile(like, np.arange(1, N_CLASS) / N_CLASS)
    label = np.searchsorted(edges, loudness)
    means = [values[label == k].mean() for k in range(N_CLASS)]
    weights = np.bincount(np.searchsorted(edges, like), minlength=N_CLASS) / len(like)
    return float(np.dot(means, weights))


def report(of_run: Mapping[str, Mapping[str, NDArray]], loudness: Mapping[str, NDArray]) -> str:
    """Table of mean bounds, and in brackets of those at the loudness of training."""
    levels = [f"{level.mean():.1f} dB" for level in loudness.values()]
    rows = [("mean level", *levels, "")]
    for run, values in of_run.items():
        plain = {part: values[part].mean() for part in loudness}
        equal = {
            part: at_loudness(values[part], level, loudness[TRAIN])
            for part, level in loudness.items()
        }
        cells = [f"{plain[part]:.1f} ({equal[part]:.1f})" for part in loudness]
        rows.append((run, *cells, f"{equal[VALID] - equal[TRAIN]:.1f}"))
    return table(("nats a frame", *loudness, "gap at equal loudness"), rows)


if __name__ == "__main__":
    sys.exit(main())
