"""Test that the port draws the original's noise from the recorded seeds alone.

``--noise mrg`` replaces NumPy's generator with the original's.
"""

from __future__ import annotations

import numpy as np
import pytensor
import pytest

from models.running.run import noise_streams
from models.settings import Settings
from tests.recordings import FOLDERS, read

VRNN = sorted({path.name for folder in FOLDERS for path in folder.glob("model_*_vrnn_*.npz")})


@pytest.mark.parametrize("name", VRNN)
def test_noise(name):
    """The noise of every update and every monitoring call agrees, in the order of the run.

    A monitoring pass precedes its update, and another one follows the last update.  On
    Blizzard monitoring has its own stream, on IAM-OnDB it shares the stream of training.
    """
    recording = read(name)
    floatX = str(recording["meta/floatX"])
    args = Settings(
        seed=int(recording["meta/numpy_seed"]),
        noise="mrg",
        mrg_seed=int(recording["meta/mrg_seed"]),
    )
    # Another C library may round its functions differently.
    rtol = 4 * np.finfo(floatX).eps
    with pytensor.config.change_flags(floatX=floatX):
        dim = recording["update/000/eps"].shape[-1]
        noise = noise_streams(args, dim, 2 if "blizzard" in name else 1)
        for key in in_order(recording):
            theirs = recording[key]
            stream = noise[0] if key.startswith("update/") else noise[-1]
            ours = stream.draw(*theirs.shape[:2])
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=0, err_msg=key)


def in_order(recording):
    """Return the names of a run's noise arrays in the order in which the run drew them."""
    passes = {
        int(update): f"monitor_call/{n:03d}/"
        for n, update in enumerate(recording["monitor/passes_at"])
    }
    n_updates = int(recording["meta/n_updates"])
    names = [key for key in recording if key.endswith("/eps")]
    order = []
    for n in range(n_updates + 1):
        prefixes = (passes.get(n, "none"), f"update/{n:03d}/")
        order += [key for prefix in prefixes for key in sorted(names) if key.startswith(prefix)]
    assert sorted(order) == sorted(names)
    return order
