"""Compile small graphs quickly and hold them against the ``units_*`` recordings.

PyTensor's default mode compiles through numba and takes seconds for a graph of
ten nodes; interpreting the graph in Python takes milliseconds, and that is all
that a unit test needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from tests.recordings import below, largest_difference, read

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


def in_python() -> AbstractContextManager:
    """Let no compiler at graphs, nor at graphs inside ops, which take the default mode."""
    return pytensor.config.change_flags(cxx="", mode="FAST_COMPILE")


def compile_plainly(
    inputs: Sequence, outputs: Any, updates: Any = None, backend: str = "auto"
) -> Callable:
    """Stand in for `cle_port.backend.compile_function`, whatever the backend."""
    with in_python():
        fn = pytensor.function(
            list(inputs),
            outputs,
            updates=list((updates or {}).items()),
            on_unused_input="ignore",
            allow_input_downcast=True,
        )

    def call(*values: Any) -> Any:
        with in_python():  # some ops compile what is inside them when they first run
            return fn(*values)

    return call


def evaluate(outputs: Any, values: Mapping[Any, Any] | None = None) -> Any:
    """Value of a graph, given those of its inputs."""
    values = values or {}
    return compile_plainly(list(values), outputs)(*values.values())


def symbols_like(arrays: Arrays, static: bool = False) -> dict[str, Any]:
    """Symbolic inputs for arrays; with ``static`` their shapes are known to the compiler."""
    return {
        name: pt.tensor(name, dtype=a.dtype, shape=a.shape if static else (None,) * a.ndim)
        for name, a in arrays.items()
    }


class Graph:
    """A graph and its gradients, compiled once for all cases that it can compute.

    Parameters
    ----------
    build : callable
        Makes the output from symbolic inputs by name.
    case : mapping of str to ndarray
        One of the cases, from `recorded`: which inputs and gradients there are.
    static : bool
        Whether the shapes of the inputs are known to the compiler; then only
        cases of the same shapes can be computed.
    """

    def __init__(
        self, build: Callable[[dict[str, Any]], Any], case: Arrays, static: bool = False
    ) -> None:
        self.inputs = symbols_like(below(dict(case), "in"), static)
        self.wanted = list(below(dict(case), "grad"))
        out = build(self.inputs)
        weight = symbols_like({"weight": case["weight"]}, static)["weight"]
        total = pt.sum(out * weight)
        grads: Any = pytensor.grad(total, [self.inputs[name] for name in self.wanted])
        self.fn = compile_plainly([*self.inputs.values(), weight], [out, *grads])

    def __call__(self, case: Arrays) -> dict[str, np.ndarray]:
        """Repeat a case: ``out``, and ``grad/<name>`` for each recorded gradient."""
        values = self.fn(*(case[f"in/{name}"] for name in self.inputs), case["weight"])
        return dict(zip(["out", *(f"grad/{name}" for name in self.wanted)], values))


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
