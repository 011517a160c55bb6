"""Repeat recorded cost layers, one-hot rows and vectors of parameters.

They are groups of ``units_layers_*.npz``.  `compare.units.layers` has the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytensor.tensor as pt
from numpy.typing import NDArray

from cle_port.layers import OnehotLayer, RealVectorLayer
from cle_port.layers.cost import (
    BinCrossEntropyLayer,
    CostLayer,
    GaussianLayer,
    GMMLayer,
    LaplaceLayer,
    MSELayer,
    MulCrossEntropyLayer,
)
from compare.recording import Arrays, below, scalar
from compare.units.cases import RepeatedCases, group_cases
from compare.units.graphs import Graph, evaluate

# By name: the layers that only have a cost, and those that also draw.
COSTS: dict[str, type[CostLayer]] = {
    cls.__name__: cls for cls in (BinCrossEntropyLayer, MulCrossEntropyLayer, MSELayer)
}
DENSITIES: dict[str, type[GaussianLayer]] = {
    cls.__name__: cls for cls in (GaussianLayer, GMMLayer, LaplaceLayer)
}
INPUTS = ("y", "y_hat", "mu", "sig", "coeff")  # in the order of the layers' arguments
# The arguments of the one recorded vector.  The arrays lack them.
REAL_VECTOR: dict[str, Any] = {"unit": "softplus", "cons": 0.5}


def total(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build a cost layer; return a function from symbolic inputs to the sum or the mean."""
    kind, variant = case.split("/")
    layer = (COSTS | DENSITIES)[kind](name="cost", use_sum=variant == "sum")
    return lambda inputs: layer.fprop([inputs[name] for name in INPUTS if name in inputs])


def onehot(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build an `OnehotLayer`; return a function from symbolic inputs to its output."""
    layer = OnehotLayer(name="onehot", parent="x", nout=arrays["out"].shape[1])
    return lambda inputs: layer.fprop([inputs["x"]])


def real_vector(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build a `RealVectorLayer`; return a function from symbolic inputs to its output."""
    layer = RealVectorLayer(name="v", nout=len(arrays["out"]), **REAL_VECTOR)
    return lambda inputs: layer.fprop({"b_v": inputs["p_b_v"]})


# By group: builders of layers with one output, from the name and the arrays of a case.
BUILDERS: dict[str, Callable[[str, Arrays], Callable[..., Any]]] = {
    **dict.fromkeys(COSTS, total),
    "OnehotLayer": onehot,
    "RealVectorLayer": real_vector,
}


def density(kind: str, recording: Arrays) -> RepeatedCases:
    """Repeat costs, and draws with the noise of the recorded seed."""
    for variant, arrays in group_cases(below(recording, kind), 1).items():
        case = f"{kind}/{variant}"
        if "mrg_seed" in arrays:
            yield case, drawn(kind, variant, arrays)
        else:
            yield case, Graph(total(case, arrays), arrays)(arrays)


def drawn(kind: str, variant: str, arrays: Arrays) -> dict[str, NDArray]:
    """Repeat the outputs of a method that draws: ``sample``, ``argmax_mean``, ``sample_mean``."""
    layer = DENSITIES[kind](name="sample", use_sample=True)
    layer.theano_seed = scalar(arrays, "mrg_seed")
    X = [pt.as_tensor(arrays[f"in/{name}"]) for name in INPUTS if f"in/{name}" in arrays]
    noise = {name: pt.as_tensor(value) for name, value in noise_of(layer, variant, arrays).items()}
    if variant == "sample":
        return {"out": evaluate(layer.fprop(X, **noise))}
    values = evaluate(list(getattr(layer, variant)(X, **noise)))
    return {f"out_{i}": value for i, value in enumerate(values)}


def noise_of(layer: GaussianLayer, variant: str, arrays: Arrays) -> dict[str, NDArray]:
    """Draw the noise of a case in the original's order; each variable has its own streams."""
    out = arrays["out" if "out" in arrays else "out_0"]
    dtype = out.dtype.name
    noise: dict[str, NDArray] = {}
    for name in layer.NOISE:
        if name == "idx" and variant == "argmax_mean":
            continue
        streams = layer.theano_rng.block()
        if name == "idx":
            noise[name] = streams.multinomial(arrays["in/coeff"], dtype).argmax(axis=1)
        elif name == "eps":
            noise[name] = streams.normal(out.shape, dtype=dtype)
        else:
            noise[name] = streams.uniform(out.shape, dtype=dtype)
    return noise


# By group: repetitions of what is not one output with its gradients.
REPEATERS: dict[str, Callable[[Arrays], RepeatedCases]] = {
    kind: partial(density, kind) for kind in DENSITIES
}
