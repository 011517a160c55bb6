"""Figures of the tests in tests/reliability: damaged files, kills and failing system calls.

Examples
--------
::

    python -m benchmarks.reliability > report.md
    python -m benchmarks.reliability --only files --cases 1000
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import describe_machine, describe_versions, positive
from cle_port.console.progress import progress_bar
from tests.reliability import faults, watch
from tests.reliability.corpus import READERS, outcome
from tests.reliability.hostile import HOSTILE

PARTS = ("hostile", "files", "faults", "kills")


def main() -> int:
    """Run the command line; return the exit status, 1 if anything failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--cases", type=positive, default=6000, help="damaged files per reader")
    parser.add_argument("--kills", type=positive, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # of checkpoints that fail by intention
    print(f"{describe_machine()}; {describe_versions()}")
    failed = False
    for part in options.only:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            failed |= globals()[f"report_{part}"](options, Path(folder))
        print(f"\n({time.perf_counter() - began:.0f} s)", flush=True)
    return int(failed)


def report_hostile(options: argparse.Namespace, folder: Path) -> bool:
    """Read every hostile file; return whether a reader accepted one."""
    peaks, not_refused = {}, []
    for number, (name, (reader, make)) in enumerate(HOSTILE.items()):
        work, elsewhere = folder / f"{number}", folder / f"{number}-elsewhere"
        work.mkdir()
        elsewhere.mkdir()
        READERS[reader].beside(work)
        path = work / READERS[reader].file_name
        path.unlink(missing_ok=True)
        make(path, elsewhere)
        before = watch.reset_peak()
        with watch.watched() as complaints:
            refused = outcome(READERS[reader], path) != "read"
        peaks[name] = watch.peak() - before
        if complaints or not refused:
            not_refused.append(name)
    most = max(peaks, key=lambda name: peaks[name])
    print("\n## Hostile files\n")
    print(f"{len(HOSTILE)} files, not refused or with consequences: {not_refused or 'none'}.")
    print(f"Peak memory while reading: {peaks[most] / 2**20:.0f} MiB ({most}).")
    return bool(not_refused)


def report_files(options: argparse.Namespace, folder: Path) -> bool:
    """Feed every reader damaged files; return whether a reader failed."""
    print("\n## Damaged files\n")
    print("| reader | cases | read | refused | failures | crashes | peak MiB |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    total: dict[str, int] = collections.Counter()
    with progress_bar(len(READERS), "reading", "reader") as bar:
        for name in READERS:
            result = fuzz(name, options.cases, options.seed, folder / "progress")
            total.update({key: n for key, n in result.items() if key != "peak"})
            print(_row(name, result), flush=True)
            bar.update()
    print(_row("all", {**total, "peak": 0}).rsplit("|", 2)[0] + "| |")
    return bool(total["failures"] or total["crashes"])


def _row(name: str, result: dict[str, int]) -> str:
    numbers = [result[key] for key in ("cases", "read", "refused", "failures", "crashes")]
    return f"| {name} | {' | '.join(map(str, numbers))} | {result['peak'] / 2**20:.1f} |"


def fuzz(name: str, cases: int, seed: int, progress: Path) -> dict[str, int]:
    """Feed a reader damaged files; return counts.  A new process starts after each crash."""
    total = dict.fromkeys(("cases", "read", "refused", "failures", "crashes", "peak"), 0)
    first = 0
    while first < cases:
        arguments = {"--first": first, "--cases": cases - first, "--seed": seed}
        module = "tests.reliability.fuzz"
        command = [sys.executable, "-m", module, name, "--progress", str(progress)]
        for key, value in arguments.items():
            command += [key, str(value)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode in (0, 1):
            result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            for number, what in result["failures"]:
                print(f"{name} {number}: {what}", file=sys.stderr)
            result["failures"] = len(result["failures"])
            for key in ("read", "refused", "failures"):
                total[key] += result[key]
            total["peak"] = max(total["peak"], result["peak"])
            break
        crashed, read, refused = map(int, progress.read_text().split())
        print(f"{name} {crashed}: ended with {done.returncode}", file=sys.stderr)
        for key, number in (("read", read), ("refused", refused), ("crashes", 1)):
            total[key] += number
        first = crashed + 1
    return total | {"cases": cases}


def report_faults(options: argparse.Namespace, folder: Path) -> bool:
    """Make every call of a save fail; return False, or raise an error."""
    failed = faults.every_fault(folder)
    calls = collections.Counter(line.split(":")[0] for line in failed)
    print("\n## Faults while a checkpoint is written\n")
    kinds = len(faults.KINDS)
    print(f"{len(failed)} faults, {kinds} kinds of failure for each call:")
    print(", ".join(f"{name} {number}" for name, number in calls.items()) + ".")
    print("Each time the old or the new checkpoint was whole and the next try succeeded.")
    return False


def report_kills(options: argparse.Namespace, folder: Path) -> bool:
    """Kill training runs; return whether one ended differently from an undisturbed run."""
    arguments = ["--kills", str(options.kills), "--seed", str(options.seed)]
    command = [sys.executable, "-m", "tests.reliability.kills", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print("\n## Kills\n")
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        print("A killed and resumed run ended differently from an undisturbed run.")
        return True
    result = json.loads(done.stdout.splitlines()[-1])
    for name, number in result.items():
        print(f"- {name.replace('_', ' ')}: {number}")
    return False


if __name__ == "__main__":
    sys.exit(main())
