"""Compile small graphs quickly, to repeat single recorded calls.

PyTensor's default mode compiles through numba and takes seconds for a graph of
ten nodes; interpreting the graph in Python takes milliseconds, and that is all
that a single function needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray

from cle_port.compare.recording import below

Arrays = Mapping[str, NDArray]


def in_python() -> AbstractContextManager:
    """Let no compiler at graphs, nor at graphs inside ops, which take the default mode."""
    return pytensor.config.change_flags(cxx="", mode="FAST_COMPILE")


def compile_plainly(
    inputs: Sequence[Any],
    outputs: Any,
    updates: Any = None,
    backend: str = "auto",
    devices: int = 1,
) -> Callable:
    """Stand in for `cle_port.backend.compile_function`, whatever backend and devices."""
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
        One of the cases: which inputs (``in/...``) and gradients (``grad/...``)
        there are, and the ``weight`` of the output in the sum that is derived.
    static : bool
        Whether the shapes of the inputs are known to the compiler; then only
        cases of the same shapes can be computed.
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
        """Repeat a case: ``out``, and ``grad/<name>`` for each recorded gradient."""
        values = self.fn(*(case[f"in/{name}"] for name in self.inputs), case["weight"])
        return dict(zip(["out", *(f"grad/{name}" for name in self.wanted)], values))
