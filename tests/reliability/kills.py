"""Kill a training run with SIGKILL at random moments, resume it, compare it with one left alone.

    python -m tests.reliability.kills --kills 200 --seed 0

Real: the processes and their deaths, the main loop with monitoring, early
stopping, shuffled data, noise and carried state, checkpoints and log with all
their system calls, `Training.resume`.  Stubbed: the update is run by PyTensor's
interpreter instead of compiled code, and a process begins as a copy of one that
has built its graph.  The last line is the result, as JSON.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytensor

from cle_port.train import checkpoint
from models.running.files import _leftovers
from tests.test_resume import assert_same, make

RUN = Path("run")  # relative: each trial has a current folder of its own
CHECKPOINT = RUN / "m.npz"
LOG = RUN / "m.jsonl"


def start(mainloop, folder: Path) -> int:
    """Train in a new process, from the checkpoint if there is one; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    with contextlib.suppress(BaseException):
        os.chdir(folder)
        for leftover in _leftovers(CHECKPOINT):  # as the programs do
            leftover.unlink()
        if CHECKPOINT.exists():
            mainloop.resume(CHECKPOINT)
        else:  # as a program does that starts anew
            LOG.write_bytes(b"")
        mainloop.run()
        status = 0
    os._exit(status)


def finished(child: int) -> bool:
    """Wait for a process; whether it came to its end. It must not fail."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "a run failed by itself"
    return True


def traces(folder: Path) -> dict[str, int]:
    """Where a killed run was: what it left behind."""
    names = os.listdir(folder / RUN)
    log = folder / LOG
    torn = log.exists() and not log.read_bytes().endswith(b"\n") and log.stat().st_size > 0
    return {
        "before_the_first_checkpoint": "m.npz" not in names,
        "within_a_save": any(name.endswith(".tmp") for name in names),
        "within_a_line_of_the_log": torn,
    }


def trial(mainloop, folder: Path, whole: Path, rng, seconds: float, most: int) -> dict[str, int]:
    """Train, killed up to ``most`` times, then left alone; its end must be that of ``whole``."""
    (folder / RUN).mkdir(parents=True)
    count = {"kills": 0, "runs": 1}  # runs, however often continued
    for _ in range(most):
        child = start(mainloop, folder)
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        if finished(child):
            break
        count["kills"] += 1
        for name, seen in traces(folder).items():
            count[name] = count.get(name, 0) + seen
    assert finished(start(mainloop, folder))
    assert_same(folder / RUN, whole / RUN)
    best, expected = (checkpoint.load(at / RUN / "m_best.npz")[0] for at in (folder, whole))
    assert best["w"] == expected["w"]
    left = [name for name in os.listdir(folder / RUN) if name.endswith(".tmp")]
    count["temporary_files_left"] = len(left)
    return count


def survive(kills: int, seed: int, folder: Path) -> dict[str, float]:
    """Kill runs until there were ``kills`` of them; return the sums of what was counted."""
    rng = np.random.default_rng(seed)
    os.chdir(folder)
    with pytensor.config.change_flags(floatX="float64"):
        mainloop = make(RUN, epoch=6)
        whole = folder / "whole"
        (whole / RUN).mkdir(parents=True)
        began = time.perf_counter()
        assert finished(start(mainloop, whole))
        seconds = time.perf_counter() - began
        total: dict[str, float] = {"kills": 0, "runs": 0}
        while total["kills"] < kills:
            count = trial(mainloop, folder / f"{total['runs']}", whole, rng, seconds, 3)
            total = {key: total.get(key, 0) + count.get(key, 0) for key in total | count}
    return total | {"seconds_of_a_run": round(seconds, 3)}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(survive(options.kills, options.seed, Path(folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
