"""Train the demo with its default settings and several seeds, and write the table of docs/demo.md.

Every run has a folder of its own; a run that is complete is not repeated, so the
benchmark can be stopped and started again.

Examples
--------
::

    python -m benchmarks.demo
    python -m benchmarks.demo --seeds 5 --datasets iamondb --page ""
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import describe_machine, describe_versions, positive, table, write_between
from cle_port.console.command_line import ended
from cle_port.console.progress import progress_bar
from cle_port.errors import UserError
from models.report.logs import read_runs
from models.report.summary import best_step, bound

PROGRAMS = ("rnn_gauss", "vrnn_gauss", "rnn_gmm", "vrnn_gmm")
PAIRS = (("vrnn_gauss", "rnn_gauss"), ("vrnn_gmm", "rnn_gmm"))
DATASETS = {"blizzard": "speech, nats a frame", "iamondb": "handwriting, nats a line"}
PAGE = ROOT / "docs" / "demo.md"
BEGIN, END = "<!-- written by python -m benchmarks.demo -->", "<!-- end of the tables -->"
FACTS = "facts.json"  # beside the files of a complete run


def main() -> int:
    """Run the benchmark from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("runs/demo_table"),
        metavar="DIR",
        help="folder of the runs (default runs/demo_table)",
    )
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="1 to N (default 3)")
    parser.add_argument(
        "--datasets", nargs="+", choices=DATASETS, default=list(DATASETS), help="default both"
    )
    parser.add_argument(
        "--page", default=str(PAGE), metavar="FILE", help="page with the tables; '' for none"
    )
    return ended(lambda: run(parser.parse_args()), "complete runs are kept")


def run(args: argparse.Namespace) -> int:
    """Train what is missing, then print the tables and write them into the page."""
    wanted = [
        (dataset, program, seed)
        for dataset in args.datasets
        for seed in range(1, args.seeds + 1)
        for program in PROGRAMS
    ]
    with progress_bar(len(wanted), "training", "run") as bar:
        for one in wanted:
            train(args.folder, *one)
            bar.update()
    text = "\n\n".join(tables(args.folder, args.datasets, args.seeds))
    print(text)
    if args.page:
        write_between(Path(args.page), BEGIN, text, END)
    return 0


def folder_of(folder: Path, dataset: str, program: str, seed: int) -> Path:
    """Folder of one run."""
    return folder / dataset / f"{program}_seed{seed}"


def train(folder: Path, dataset: str, program: str, seed: int) -> None:
    """Train one program with default settings, unless that is done.

    Raises
    ------
    UserError
        If the program fails.
    """
    final = folder_of(folder, dataset, program, seed)
    if (final / FACTS).is_file():
        return
    unfinished = final.with_name(f"{final.name}_unfinished")
    for old in (final, unfinished):
        shutil.rmtree(old, ignore_errors=True)
    script = str(ROOT / "models" / f"{program}.py")
    flags = ["--dataset", dataset, "--seed", str(seed), "--save_path", str(unfinished), "--quiet"]
    t0 = time.perf_counter()
    done = subprocess.run([sys.executable, script, *flags], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"{program} on {dataset} with seed {seed}: {done.stderr.strip()[-500:]}")
    facts = {
        "seconds": time.perf_counter() - t0,
        "machine": describe_machine(),
        "versions": describe_versions(),
    }
    (unfinished / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
    unfinished.rename(final)


def figures(folder: Path, dataset: str, program: str, seed: int) -> dict[str, Any]:
    """What one run has reached at its best validation bound, in nats."""
    path = folder_of(folder, dataset, program, seed)
    (found, *_), _ = read_runs([path / f"{program}_1.jsonl"])
    step = best_step(found)
    if step is None:
        raise UserError(f"the log in {path} has no bound; remove this folder and start again")

    def at_best(*names: str) -> float:
        channel = found.channel(*names)
        return channel[step] if channel else math.nan

    return {
        "bound": bound(found)[step],
        "recon": at_best("valid_recon_term", "valid_nll"),
        "kl": at_best("valid_kl_term"),
        "active": found.active(step),
        "dims": int(found.settings["z_dim"]),
        "train": at_best(
            "train_nll_upper_bound",
            "train_nll",
            "this_batch_nll_upper_bound",
            "this_batch_nll",
        ),
        "update": found.updates[step],
        "updates": found.updates[-1],
        **json.loads((path / FACTS).read_text()),
    }


def tables(folder: Path, datasets: Sequence[str], n_seed: int) -> list[str]:
    """Return a description and, for each data set, the figures of the models and their gaps."""
    machines: dict[str, Any] = {}  # in order, each once
    parts = []
    for dataset in datasets:
        of_model = {
            program: [figures(folder, dataset, program, seed) for seed in range(1, n_seed + 1)]
            for program in PROGRAMS
        }
        for runs in of_model.values():
            machines |= {
                f"{one['machine'].split(', load')[0]}; {one['versions']}": 1 for one in runs
            }
        parts += [f"**{DATASETS[dataset].capitalize()}**", models_table(of_model), gaps(of_model)]
    seeds = f"Means over {n_seed} seeds ± standard error, default settings"
    return [f"{seeds}; {'; '.join(machines)}.", *parts]


def models_table(of_model: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One row for each model."""
    head = (
        "model",
        "validation bound",
        "training bound there",
        "KL",
        "active dimensions of z",
        "best after",
        "seconds",
    )
    rows = []
    for program, runs in of_model.items():
        has_z = not math.isnan(runs[0]["kl"])
        rows.append(
            (
                program,
                with_error([one["bound"] for one in runs]),
                with_error([one["train"] for one in runs]),
                with_error([one["kl"] for one in runs]) if has_z else "-",
                ", ".join(str(one["active"]) for one in runs) + f" of {runs[0]['dims']}"
                if has_z
                else "-",
                ", ".join(str(one["update"]) for one in runs) + f" of {runs[0]['updates']}",
                f"{min(one['seconds'] for one in runs):.0f} to "
                f"{max(one['seconds'] for one in runs):.0f}",
            )
        )
    return table(head, rows)


def gaps(of_model: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Say by how much each VRNN beats the RNN with the same output, seed by seed."""
    lines = []
    for vrnn, rnn in PAIRS:
        gap = [b["bound"] - a["bound"] for a, b in zip(of_model[vrnn], of_model[rnn])]
        error = standard_error(gap)
        n_error = f", {mean(gap) / error:.1f} standard errors" if error else ""
        lines.append(f"- {vrnn} is better than {rnn} by {with_error(gap)} nats{n_error}.")
    return "\n".join(lines)


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; 0 of a single value."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def with_error(values: Sequence[float]) -> str:
    """Mean and standard error as text."""
    return f"{mean(values):.2f} ± {standard_error(values):.2f}"


if __name__ == "__main__":
    sys.exit(main())
