"""Repeat recorded costs, and the helpers recorded with them: ``units_costs_*.npz``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cle_port import cost
from cle_port.utils.gpu_op import concatenate, softmax
from cle_port.utils.op import logsumexp
from compare.recording import Arrays, below
from compare.units.cases import NOT_PORTED, RepeatedCases, group_cases
from compare.units.graphs import Graph

LOGSUMEXP_AXES = {"axis0": 0, "axis1": 1, "large": 1}


def cost_of(case: str) -> Callable[..., Any] | None:
    """Return the function of a case, from symbolic inputs by name; None if it is not ported."""
    group, variant = case.split("/")
    if group == "logsumexp":
        return lambda inputs: logsumexp(inputs["x"], axis=LOGSUMEXP_AXES[variant])
    if group == "gpu_op_softmax":
        return lambda inputs: softmax(inputs["x"])
    if group == "gpu_op_concatenate":
        axis = int(variant.removeprefix("axis"))
        return lambda inputs: concatenate([inputs["a"], inputs["b"]], axis=axis)
    if group == "grbm_free_energy":
        return lambda inputs: cost.grbm_free_energy(
            inputs["v"], inputs["W"], [inputs[name] for name in ("bh", "bx", "sig")]
        )
    function = getattr(cost, group, None)
    flag = re.search(r"(keep_dims|use_sum)(\d)$", variant)
    options = {flag[1]: int(flag[2])} if flag else {}
    return None if function is None else lambda inputs: function(**inputs, **options)


def repeat_costs(recording: Arrays) -> RepeatedCases:
    """Repeat costs and helpers with their gradients; cases of one kind share a graph."""
    graphs: dict[Any, Graph] = {}
    for case, arrays in group_cases(recording).items():
        function = cost_of(case)
        if function is None:
            yield case, NOT_PORTED
            continue
        inputs = below(arrays, "in")
        variant = case.split("/")[1] if case.startswith("logsumexp") else case[-1]
        types = tuple((array.ndim, array.dtype) for array in inputs.values())
        kind = case.split("/")[0], variant, types
        if kind not in graphs:
            graphs[kind] = Graph(function, arrays)
        yield case, graphs[kind](arrays)
