"""Kills and failing disks: the old or the new checkpoint is whole, and training goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cle_port.train import checkpoint
from tests.reliability.faults import KINDS, Faults, content, every_fault, states
from tests.test_resume import assert_same, finished, make, quick, whole  # noqa: F401

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as Linux names its calls")


def test_every_call_of_a_save_may_fail(tmp_path):
    failed = every_fault(tmp_path)
    calls = {line.split(":")[0] for line in failed}
    assert {"open", "write", "fsync", "close", "replace"} <= calls
    assert len(failed) > 12 * len(KINDS)


def test_files_up_to_every_size(tmp_path):
    """The system itself refuses to write beyond a limit, of every size."""
    import resource

    path = tmp_path / "m.npz"
    old, new = states()
    checkpoint.save(path, *old)
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in [*range(0, size, 1001), size - 1, size]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            checkpoint.save(path, *new)
        except OSError:
            assert limit < size
            assert content(path) == 0
        else:
            assert limit == size
            assert content(path) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert os.listdir(tmp_path) == ["m.npz"]


def check_run(at, kind, whole, folder):  # noqa: F811
    """Train while a call fails; whether one has. The end is the same."""
    mainloop = make(folder)
    with Faults(at, kind).injected() as faults:
        mainloop.run()
    assert_same(folder, whole)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(whole)) or faults.failed == "unlink"
    return faults.failed is not None


@pytest.mark.parametrize("at", range(1, 122, 30))
def test_a_run_goes_on_after_a_fault(at, whole, tmp_path, caplog):  # noqa: F811
    assert check_run(at, KINDS[at % len(KINDS)], whole, tmp_path / "run")
    assert "cannot write" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_of_a_run_may_fail(kind, whole, tmp_path):  # noqa: F811
    at = 0
    while check_run(at, kind, whole, tmp_path / f"{at}"):
        at += 1
    assert at > 100


def kill(number: int) -> dict:
    command = [sys.executable, "-m", "tests.reliability.kills", "--kills", str(number)]
    project = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("number", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_runs_end_as_others_do(number):
    result = kill(number)
    assert result["kills"] >= number
    assert result["temporary_files_left"] == 0
