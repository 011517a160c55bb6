"""Evaluate small graphs quickly, to repeat single recorded calls.

PyTensor's default mode compiles with numba, which takes seconds for a graph of
ten nodes.  Interpreting such a graph in Python takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray

from compare.recording import Arrays, below


def in_python() -> AbstractContextManager:
    """Interpret graphs in Python, and also graphs inside ops, which use the default mode."""
    return pytensor.config.change_flags(cxx="", mode="FAST_COMPILE")


def compile_plainly(
    inputs: Sequence[Any],
    outputs: Any,
    updates: Any = None,
    backend: str = "auto",
    devices: int = 1,
) -> Callable:
    """Replace `cle_port.graph.compile_function`; backend and devices have no effect."""
    with in_python():
        fn = pytensor.function(
            list(inputs),
            outputs,
            updates=list((updates or {}).items()),
            on_unused_input="ignore",
            allow_input_downcast=True,
        )

    def call(*values: Any) -> Any:
        with in_python():  # some ops compile their inner graph when they first run
            return fn(*values)

    return call


def evaluate(outputs: Any, values: Mapping[Any, Any] | None = None) -> Any:
    """Compute the outputs of a graph from the values of its inputs."""
    values = values or {}
    return compile_plainly(list(values), outputs)(*values.values())


def symbols_like(arrays: Arrays, static: bool = False) -> dict[str, Any]:
    """Make symbolic inputs for arrays; with ``static``, of the arrays' fixed shapes."""
    return {
        name: pt.tensor(
            name, dtype=array.dtype, shape=array.shape if static else (None,) * array.ndim
        )
        for name, array in arrays.items()
    }


class Graph:
    """A graph and its gradients, compiled once for all cases with the same types of inputs.

    Parameters
    ----------
    build : callable
        Makes the output from symbolic inputs by name.
    case : mapping of str to ndarray
        One of the cases.  It has the inputs (``in/...``), the gradients
        (``grad/...``) and ``weight``, of the output's shape; the gradients are
        those of the sum of weight times output.
    static : bool
        Fix the shapes of the inputs in the graph, which then computes only cases
        of these shapes.
    """

    def __init__(
        self, build: Callable[[dict[str, Any]], Any], case: Arrays, static: bool = False
    ) -> None:
        self.inputs = symbols_like(below(case, "in"), static)
        self.wanted = list(below(case, "grad"))
        out = build(self.inputs)
        weight = symbols_like({"weight": case["weight"]}, static)["weight"]
        total = pt.sum(out * weight)
        grads: Any = pytensor.grad(total, [self.inputs[name] for name in self.wanted])
        self.fn = compile_plainly([*self.inputs.values(), weight], [out, *grads])

    def __call__(self, case: Arrays) -> dict[str, NDArray]:
        """Compute ``out``, and ``grad/<name>`` for each recorded gradient, of a case."""
        values = self.fn(*(case[f"in/{name}"] for name in self.inputs), case["weight"])
        return dict(zip(["out", *(f"grad/{name}" for name in self.wanted)], values))
