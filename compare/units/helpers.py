"""Repeat recorded helpers: ``units_utils_*.npz``."""

from __future__ import annotations

from typing import Any

from cle_port.utils import segment_axis
from compare.recording import Arrays
from compare.units.cases import RepeatedCases, group_cases


def keywords(case: Arrays) -> dict[str, Any]:
    """Parse recorded arguments of `segment_axis`, such as ``length=4`` or ``end=pad``."""
    pairs = (str(text).split("=") for text in case["kw"].tolist())
    return {name: value if name == "end" else int(value) for name, value in pairs}


def repeat_utils(recording: Arrays) -> RepeatedCases:
    """Repeat `segment_axis`, except for the calls that fail in the original."""
    for case, arrays in group_cases(recording).items():
        if case.startswith("segment_axis/") and "out" in arrays:
            yield case, {"out": segment_axis(arrays["in"], **keywords(arrays))}
