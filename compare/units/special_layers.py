"""Repeat recorded pooling, priors, batch normalisation, conversion and DRAW layers.

They are groups of ``units_layers_*.npz``.  `compare.units.layers` has the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray

from cle_port.layers.conv import ConvertLayer
from cle_port.layers.layer import BatchNormLayer, BatchNormLSTM, MaxPool2D, PriorLayer
from cle_port.models.vae.draw import CanvasLayer, ErrorLayer, ReadLayer, WriteLayer
from cle_port.utils.mrg import MRG_RandomStreams
from compare.recording import Arrays, below, scalar
from compare.units.cases import RepeatedCases, group_cases, params
from compare.units.graphs import Graph, evaluate

# Arguments of the recorded cases.  The arrays lack them.
POOLED: dict[str, dict[str, Any]] = {
    "even": {},
    "odd": {},
    "overlap": {"pool_size": (3, 3), "pool_stride": (2, 2)},
    "stride3": {"pool_size": (2, 2), "pool_stride": (3, 3)},
}
NORMALISED: dict[str, dict[str, Any]] = {
    "train_2d": {},
    "train_3d": {},
    "test_2d": {"test": 1},
    "no_average_2d": {"running_average": 0},
}
NORMALISED_LSTM: dict[str, dict[str, Any]] = {
    "step1": {"time_step": 1},
    "step3": {"time_step": 3},
    "test": {"time_step": 3, "test": 1},
}
IMAGE, READ, WRITTEN = (5, 6), (2, 2), (3, 2)  # height and width of images and of glimpses


def batch_norm(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build a `BatchNormLayer`; return a function from symbolic inputs to its output."""
    parent_dim, nout = arrays["in/p_W_a__h"].shape
    layer = BatchNormLayer(name="h", parent="a", parent_dim=int(parent_dim), nout=nout, unit="tanh")
    how = NORMALISED[case.split("/")[1]]
    return lambda inputs: layer.fprop([inputs["x_a"]], params(inputs), **how)


def least_scale(case: str, key: str, arrays: Arrays) -> float:
    """Return the smallest scale for differences of an array, see `compare.differences.compare`.

    Batch normalisation in training takes the bias away again, so its gradient is 0: a sum of
    rows that cancel, of which both programs keep the rounding error.  The gradient of W is a
    sum of the same rows, weighted with inputs of size 1.
    """
    if case.startswith("BatchNormLayer/") and "test" not in case and key == "grad/p_b_h":
        return float(np.max(np.abs(arrays["grad/p_W_a__h"])))
    return 0.0


def convert(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build a `ConvertLayer`; return a function from symbolic inputs to its output."""
    layer = ConvertLayer(name="c", parent="x", outshape=arrays["out"].shape)
    return lambda inputs: layer.fprop(inputs["x"])


def read(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build a `ReadLayer`; return a function from symbolic inputs to its output."""
    first = first_axes(case, arrays)
    layer = ReadLayer(name="read", glimpse_shape=(*first, *READ), input_shape=(*first, *IMAGE))
    return lambda inputs: layer.fprop([inputs["x"], inputs["x_hat"], inputs["z"]])


def write(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build a `WriteLayer`; return a function from symbolic inputs to its output."""
    first = first_axes(case, arrays)
    layer = WriteLayer(name="write", glimpse_shape=(*first, *WRITTEN), input_shape=(*first, *IMAGE))
    return lambda inputs: layer.fprop([inputs["w"], inputs["z"]])


def first_axes(case: str, arrays: Arrays) -> tuple[int, int]:
    """Return batch size and number of channels of a case of the DRAW layers."""
    return len(arrays["in/z"]), int(case[-1])


# By group: builders of layers with one output, from the name and the arrays of a case.
BUILDERS: dict[str, Callable[[str, Arrays], Callable[..., Any]]] = {
    "BatchNormLayer": batch_norm,
    "ConvertLayer": convert,
    "ReadLayer": read,
    "WriteLayer": write,
}


def cases_of(recording: Arrays, group: str) -> Iterator[tuple[str, str, dict[str, NDArray]]]:
    """Yield each case of a group: its name, the last part of it, and its arrays."""
    for variant, arrays in group_cases(below(recording, group), 1).items():
        yield f"{group}/{variant}", variant, arrays


def max_pool(recording: Arrays) -> RepeatedCases:
    """Repeat pooling, and the shape of its output that ``initialize`` computes."""
    for case, variant, arrays in cases_of(recording, "MaxPool2D"):
        yield case, pooled(variant, arrays)


def pooled(variant: str, arrays: Arrays) -> dict[str, NDArray]:
    """Repeat one case of pooling."""
    shape = arrays["in/x"].shape
    layer = MaxPool2D(name="p", parent="x", parent_dim=[shape], **POOLED[variant])
    layer.initialize()
    ours = Graph(lambda inputs: layer.fprop(inputs["x"]), arrays)(arrays)
    return ours | {"outshape": np.array(layer.outshape)}


def prior(recording: Arrays) -> RepeatedCases:
    """Repeat divergences, and draws with the noise of the recorded seed."""
    for case, variant, arrays in cases_of(recording, "PriorLayer"):
        if variant.startswith("sample"):
            yield case, {"out": drawn(int(variant.removeprefix("sample")), arrays)}
        else:
            yield case, divergence(variant, arrays)


def divergence(variant: str, arrays: Arrays) -> dict[str, NDArray]:
    """Repeat a divergence from the standard Gaussian or between two Gaussians."""
    layer = PriorLayer(name="kl", keep_dims=variant.endswith("keep"))
    names = [name for name in ("mu1", "sig1", "mu2", "sig2") if f"in/{name}" in arrays]
    return Graph(lambda inputs: layer.fprop([inputs[name] for name in names]), arrays)(arrays)


def drawn(num_sample: int, arrays: Arrays) -> NDArray:
    """Repeat draws of a `PriorLayer`."""
    mu, sig = arrays["in/mu"], arrays["in/sig"]
    streams = MRG_RandomStreams(scalar(arrays, "mrg_seed")).block()
    eps = streams.normal((len(mu), num_sample, mu.shape[1]), dtype=mu.dtype.name)
    layer = PriorLayer(name="z", use_sample=True, num_sample=num_sample)
    return evaluate(layer.fprop([pt.as_tensor(mu), pt.as_tensor(sig)], eps=pt.as_tensor(eps)))


def batch_norm_lstm(recording: Arrays) -> RepeatedCases:
    """Repeat steps of a `BatchNormLSTM`, which has three outputs."""
    for case, variant, arrays in cases_of(recording, "BatchNormLSTM"):
        yield case, batch_norm_step(variant, arrays)


def batch_norm_step(variant: str, arrays: Arrays) -> dict[str, NDArray]:
    """Repeat one step: its outputs laid end to end are the output of one graph."""
    parent_dim = len(arrays["in/p_W_a__r"])
    nout = len(arrays["in/p_U_r__r"])
    layer = BatchNormLSTM(name="r", parent="a", parent_dim=parent_dim, nout=nout, unit="tanh")

    def build(inputs: Mapping[str, Any]) -> Any:
        given = {name: inputs[name] for name in ("mask", "z_mu", "z_var")}
        XH = [[inputs["x"]], [inputs["h"]]]
        outs = layer.fprop(XH, params(inputs), **NORMALISED_LSTM[variant], **given)
        return pt.concatenate([out.flatten() for out in outs])

    weights = [arrays[f"weight_{i}"] for i in range(3)]
    case = {**arrays, "weight": np.concatenate([weight.ravel() for weight in weights])}
    ours = Graph(build, case)(case)
    ends = np.cumsum([weight.size for weight in weights])
    for i, part in enumerate(np.split(ours.pop("out"), ends[:-1])):
        ours[f"out_{i}"] = part.reshape(weights[i].shape)
    return ours


def canvas(recording: Arrays) -> RepeatedCases:
    """Repeat the one recorded case of `CanvasLayer`."""
    arrays = below(recording, "CanvasLayer")
    layer = CanvasLayer(name="canvas", parent="c", nout=arrays["in/c"].shape[1])
    graph = Graph(lambda inputs: layer.fprop([[inputs["c"]], [inputs["h"]]]), arrays)
    yield "CanvasLayer", graph(arrays)


def error(recording: Arrays) -> RepeatedCases:
    """Repeat the one recorded case of `ErrorLayer`."""
    arrays = below(recording, "ErrorLayer")
    layer = ErrorLayer(name="error", parent="x", recurrent="canvas")
    graph = Graph(lambda inputs: layer.fprop([[inputs["x"]], [inputs["h"]]]), arrays)
    yield "ErrorLayer", graph(arrays)


# By group: repetitions of what is not one output with its gradients.
REPEATERS: dict[str, Callable[[Arrays], RepeatedCases]] = {
    "BatchNormLSTM": batch_norm_lstm,
    "CanvasLayer": canvas,
    "ErrorLayer": error,
    "MaxPool2D": max_pool,
    "PriorLayer": prior,
}
