"""Read the recorded cases of the ``units_*`` files and compare the port with them."""

from __future__ import annotations

import numpy as np

from compare.recording import Arrays
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


def case_names(section: str, *groups: str) -> list[str]:
    """Return the names ``<group>/<case>`` of the recorded cases of these groups, in order."""
    names: dict[str, None] = {}
    for key in read(f"units_{section}_float64.npz"):
        group, *rest = key.split("/")
        if group in groups and len(rest) > 1:
            names[f"{group}/{rest[0]}"] = None
    return list(names)


def recorded(section: str, case: str, floatX: str = "float64") -> dict[str, np.ndarray]:
    """Return the arrays of a recorded case, by the rest of their names."""
    return below(read(f"units_{section}_{floatX}.npz"), case)


def check_case(ours: Arrays, case: Arrays, rtol: float) -> None:
    """Compare an output and its gradients with the recorded ones, including their dtypes.

    Differences are relative to the largest entry of the recorded array.  In
    double precision each entry must also agree to a relative 1e-9.  Infinities
    must be equal, and the port must be finite where the original has NaN.

    Raises
    ------
    AssertionError
        If an array differs from the recorded one.
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
