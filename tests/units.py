"""Recorded cases of the ``units_*`` files, and how to hold ours against them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compare.units.graphs import Graph, compile_plainly, evaluate, in_python, symbols_like
from tests.recordings import below, largest_difference, read

__all__ = [
    "FLOATS",
    "Graph",
    "case_names",
    "check_case",
    "compile_plainly",
    "evaluate",
    "in_python",
    "recorded",
    "symbols_like",
]

FLOATS = ("float64", "float32")

Arrays = Mapping[str, np.ndarray]


def case_names(section: str, *groups: str) -> list[str]:
    """Names of the recorded cases ``<group>/<case>`` of these groups, in order."""
    names: dict[str, None] = {}
    for key in read(f"units_{section}_float64.npz"):
        group, *rest = key.split("/")
        if group in groups and len(rest) > 1:
            names[f"{group}/{rest[0]}"] = None
    return list(names)


def recorded(section: str, case: str, floatX: str = "float64") -> dict[str, np.ndarray]:
    """Arrays of a recorded case, by the rest of their names."""
    return below(read(f"units_{section}_{floatX}.npz"), case)


def check_case(ours: Arrays, case: Arrays, rtol: float) -> None:
    """Hold an output and its gradients against those recorded, dtypes included.

    Differences are relative to the largest entry of the recorded array.  In
    double precision small entries beside large ones are right to 1e-9, too.
    Infinities must be the same; where the original has NaN, ours is finite.
    """
    assert set(ours) == {k for k in case if k == "out" or k.startswith("grad/")}
    for name, value in ours.items():
        theirs = case[name]
        assert value.dtype == theirs.dtype, name
        assert np.isfinite(value[np.isnan(theirs)]).all(), name
        infinite = np.isinf(theirs)
        np.testing.assert_array_equal(value[infinite], theirs[infinite], err_msg=name)
        finite = np.isfinite(theirs)
        difference = largest_difference(value[finite], theirs[finite])
        assert difference <= rtol, f"{name}: {difference:.1e} > {rtol:.1e}"
        if value.dtype == "float64":
            np.testing.assert_allclose(
                value[finite], theirs[finite], rtol=1e-9, atol=1e-15, err_msg=name
            )
