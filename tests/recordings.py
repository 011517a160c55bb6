"""Where the recordings of the original are, and how to compare with them.

The tests read the copies in ``tests/reference`` (its README says what they are);
further ones are looked for in ``shared/reference`` beside a checkout.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parents[1]
FOLDERS = (PROJECT / "tests" / "reference", PROJECT.parent / "shared" / "reference")


def path_of(name: str) -> Path:
    """Path of a recording or artifact; skips the test where there is none."""
    for folder in FOLDERS:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"recording {name} is not here")


@cache
def read(name: str) -> dict[str, np.ndarray]:
    """All arrays of a recording, by name."""
    with np.load(path_of(name), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def below(recording: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Arrays whose names begin with ``prefix/``, by the rest of the name."""
    start = prefix + "/"
    return {k.removeprefix(start): v for k, v in recording.items() if k.startswith(start)}


def text(recording: dict[str, np.ndarray], names: str, values: str) -> dict[str, str]:
    """Two arrays of texts as a mapping."""
    return dict(zip(recording[names].tolist(), recording[values].tolist(), strict=True))


def largest_difference(ours: object, theirs: object) -> float:
    """Largest difference divided by the largest entry of the recorded array."""
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    assert ours.shape == theirs.shape
    scale = np.max(np.abs(theirs), initial=0.0)
    difference = np.max(np.abs(ours - theirs), initial=0.0)
    return float(difference / scale) if scale else float(difference)


def check_summary(ours: dict[str, np.ndarray], rows: np.ndarray, rtol: float, least: float) -> None:
    """Compare arrays with rows of ``check/...``: size, sums, norm, first and last entries.

    Differences are held to ``rtol`` times the array's largest entry, or ``least``
    where that is more.
    """
    for (name, array), row in zip(ours.items(), rows, strict=True):
        flat = np.asarray(array, dtype=float).ravel()
        ends = np.zeros(16)
        ends[: min(8, flat.size)] = flat[:8]
        ends[8 : 8 + min(8, flat.size)] = flat[-8:]
        norm = np.sqrt(np.sum(flat**2))
        scale = max(np.abs(flat).max(), least)
        atol = rtol * scale * flat.size
        assert flat.size == row[0], name
        np.testing.assert_allclose(flat.sum(), row[1], rtol=0, atol=atol, err_msg=name)
        np.testing.assert_allclose(norm**2, row[2], rtol=0, atol=2 * scale * atol, err_msg=name)
        np.testing.assert_allclose(norm, row[3], rtol=0, atol=atol, err_msg=name)
        np.testing.assert_allclose(ends, row[4:], rtol=0, atol=rtol * scale, err_msg=name)
