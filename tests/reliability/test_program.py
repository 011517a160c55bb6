"""The complete program, killed by SIGKILL at random moments: it ends as if left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.recordings import PROJECT
from tests.test_programs import flags, folders  # noqa: F401
from tests.test_resume import assert_same

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]

KILLS = 20
UPDATES = {"max_updates": 1200, "monitoring_freq": 100, "epoch": 10_000}


def start(folders, folder: Path, dataset: str) -> subprocess.Popen:  # noqa: F811
    """Train in a new process, from the checkpoint if there is one."""
    argv = flags(dataset, folders[dataset], folder, **UPDATES)
    resume = ["--resume"] if (folder / "vrnn_gauss_1.npz").exists() else []
    command = [sys.executable, "-m", "models.vrnn_gauss", *argv, "--quiet", *resume]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)


def kill(process: subprocess.Popen, delay: float, saved: Path | None) -> int:
    """Kill a program after some seconds, counted from its next checkpoint if that is given."""
    before = saved.stat().st_mtime_ns if saved and saved.exists() else None
    while saved and process.poll() is None:
        if saved.exists() and saved.stat().st_mtime_ns != before:
            break
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    return process.wait()


@pytest.mark.parametrize("dataset", ["blizzard", "iamondb"])
def test_killed_programs_end_as_others_do(dataset, folders, tmp_path):  # noqa: F811
    assert start(folders, tmp_path / "whole", dataset).wait() == 0
    began = time.perf_counter()
    assert start(folders, tmp_path / "warm", dataset).wait() == 0
    seconds = time.perf_counter() - began

    rng = np.random.default_rng(0)
    kills = resumed = runs = 0
    while kills < KILLS:
        folder = tmp_path / f"{runs}"
        saved = folder / "vrnn_gauss_1.npz"
        # Starting takes most of the time: two of four kills wait for training.
        for in_training in (False, True, False, True):
            resumed += saved.exists()
            process = start(folders, folder, dataset)
            delay = rng.uniform(0, seconds / 10 if in_training else seconds)
            status = kill(process, delay, saved if in_training else None)
            assert status in (0, -signal.SIGKILL)
            if status == 0:
                break
            kills += 1
        else:
            assert start(folders, folder, dataset).wait() == 0
        assert_same(folder, tmp_path / "whole", saved.name, best=False)
        assert not list(folder.glob(".*.tmp"))
        runs += 1
    print(f"{dataset}: {kills} kills in {runs} runs, {resumed} starts from a checkpoint")
    assert resumed >= kills / 4
