"""Find and read the recordings of the original.

The tests read the recordings in ``tests/reference``, which its README describes, and
those in ``shared/reference`` beside the checkout if that folder exists.
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
    """Return the path of a recording or artifact; skip the test if the file does not exist."""
    for folder in FOLDERS:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"recording {name} is not here")


@cache
def read(name: str) -> dict[str, np.ndarray]:
    """Return all arrays of a recording, by name."""
    with Recording(path_of(name)) as recording:
        return dict(recording)
