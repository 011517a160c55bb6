"""Run all benchmarks one after the other and print one report in Markdown.

This takes about an hour on two cores.  Run nothing else meanwhile.

Examples
--------
::

    python -m benchmarks > report.md
    python -m benchmarks --only compare startup
    python -m benchmarks --python pytorch=PYTHON theano=PYTHON2 --original DIR
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

TITLES = {
    "compare": "Seconds per update beside others",
    "startup": "From the start of the program to the first update",
    "growth": "Growth",
    "data": "Data and logging",
    "memory": "Working memory kept between updates",
}


def main() -> int:
    """Run the benchmarks from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--backend", default="auto", help="compiler of our program")
    parser.add_argument("--python", nargs="+", default=[], help="see python -m benchmarks.compare")
    parser.add_argument("--original", help="see python -m benchmarks.compare; adds Theano")
    args = parser.parse_args()
    status = 0
    for part in args.only:
        print(f"\n## {TITLES[part]}\n", flush=True)
        for command in commands(part, args):
            print(f"`python -m {' '.join(command)}`\n", flush=True)
            started = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT)
            status = status or done.returncode
            print(f"\n({time.perf_counter() - started:.0f} s)\n", flush=True)
    return status


def commands(part: str, args: argparse.Namespace) -> list[list[str]]:
    """Return the command lines of one part."""
    backend = ["--backend", args.backend]
    if part == "startup":
        return [["benchmarks.step", "--settings", "A-tiny", "A-mid", *backend]]
    if part == "growth":
        return [["benchmarks.growth", *backend]]
    if part == "memory":
        return [["benchmarks.memory"], ["benchmarks.left_behind"]]
    if part == "data":
        return [["benchmarks.data", "--settings", "A-mid", "A-wide", *backend]]
    compare = ["benchmarks.compare", *backend]
    if args.python:
        compare += ["--python", *args.python]
    peers = ["ours", "pytorch:eager", "pytorch:compiled", "jax"]
    limit = ["gemm:numpy", "gemm:torch", "gemm:jax"]
    few = ["ours", "pytorch:eager", "jax", "gemm:torch"]
    three_long_turns = ["--turns", "3", "--repeats", "3", "--batches", "1"]
    with_original = [*peers, *limit, "theano"] if args.original else [*peers, *limit]
    original = ["--original", args.original] if args.original else []
    return [
        [*compare, "--settings", "A-small", "--peers", *with_original, "--repeats", "5", *original],
        [*compare, "--settings", "A-mid", "--peers", *with_original, *original],
        [*compare, "--settings", "B-paper", "--turns", "3", "--peers", *peers, *limit],
        # Each peer keeps 3 to 5 GB here.  A machine with little memory runs fewer peers faster.
        [*compare, "--settings", "A-wide", *three_long_turns, "--peers", *few],
    ]


if __name__ == "__main__":
    sys.exit(main())
