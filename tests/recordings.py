"""Where the recordings of the original are, and how to compare with them.

The tests read the copies in ``tests/reference`` (its README says what they are);
further ones are looked for in ``shared/reference`` beside a checkout.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from compare.differences import largest_difference
from compare.recording import Recording, below

__all__ = ["FOLDERS", "PROJECT", "below", "largest_difference", "path_of", "read"]

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
    with Recording(path_of(name)) as recording:
        return dict(recording)
