"""Repeat recorded helpers: ``units_utils_*.npz``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray

from cle_port.utils import (
    T_one_hot,
    error,
    flatten,
    one_hot,
    predict,
    segment_axis,
    topological_sort,
    uniqify,
)
from cle_port.utils.mrg import MRG_RandomStreams
from cle_port.utils.op import (
    add_noise,
    batch_overlap_sum,
    complex_to_real,
    dropout,
    numpy_irfft,
    numpy_rfft,
    overlap_sum,
    real_to_complex,
)
from compare.recording import Arrays, below
from compare.units.cases import RepeatedCases, group_cases
from compare.units.graphs import evaluate

OF_ARRAYS = {
    "complex_to_real": complex_to_real,
    "real_to_complex": real_to_complex,
    "numpy_rfft": numpy_rfft,
    "numpy_irfft": numpy_irfft,
}
# The recordings have no inputs of these; others would give the same results.
NESTED = [1, [2, (3, [4])], 5]
REPEATED = [3, 1, 3, 2, 1]
LABELS, PREDICTED = [0, 1, 2, 3], [0, 1, 3, 2]


def keywords(case: Arrays) -> dict[str, Any]:
    """Parse recorded arguments of `segment_axis`, such as ``length=4`` or ``end=pad``."""
    pairs = (str(text).split("=") for text in case["kw"].tolist())
    return {name: value if name == "end" else int(value) for name, value in pairs}


def graph_of(case: Arrays) -> dict[str, list[str]]:
    """Parse the recorded edges of a graph, such as ``a->b``."""
    graph: dict[str, list[str]] = {}
    for edge in case["edges"].tolist():
        node, following = edge.split("->")
        graph.setdefault(node, []).append(following)
    return graph


def dropped_out(p: float, case: Arrays) -> NDArray:
    """Repeat `dropout` with the uniform numbers of the recorded seed."""
    x, u = (pt.matrix(name, dtype=case["in"].dtype) for name in "xu")
    streams = MRG_RandomStreams(int(case["mrg_seed"])).block()
    noise = streams.uniform(case["in"].shape, dtype=case["in"].dtype.name)
    return evaluate(dropout(x, p, u=u), {x: case["in"], u: noise})


def with_noise(case: Arrays) -> NDArray:
    """Repeat `add_noise` with the normal numbers of the recorded seed."""
    x, eps = (pt.matrix(name, dtype=case["in"].dtype) for name in ("x", "eps"))
    streams = MRG_RandomStreams(int(case["mrg_seed"])).block()
    noise = streams.normal(case["in"].shape, dtype=case["in"].dtype.name)
    return evaluate(add_noise(x, eps=eps), {x: case["in"], eps: noise})


def labels(recording: Arrays) -> Iterator[tuple[str, dict[str, NDArray]]]:
    """Repeat encoding and prediction of labels."""
    given = recording["one_hot/in"]
    yield "one_hot", {"out": one_hot(given), "out_7": one_hot(given, 7)}
    symbolic = pt.lvector("labels")
    number = recording["T_one_hot/out"].shape[1]
    yield "T_one_hot", {"out": evaluate(T_one_hot(symbolic, number), {symbolic: given})}
    probs = pt.matrix("probs", dtype=recording["predict/in"].dtype)
    yield "predict", {"out": evaluate(predict(probs), {probs: recording["predict/in"]})}
    yield "error", {"out": evaluate(error(pt.constant(LABELS), pt.constant(PREDICTED)))}


def repeat_utils(recording: Arrays) -> RepeatedCases:
    """Repeat all helpers, except for the calls that fail in the original."""
    for case, arrays in group_cases(recording).items():
        group, variant = case.split("/")
        if group == "segment_axis" and "out" in arrays:
            yield case, {"out": segment_axis(arrays["in"], **keywords(arrays))}
        elif group == "topological_sort":
            yield case, {"order": np.array(topological_sort(graph_of(arrays)))}
        elif group == "overlap_sum":
            yield case, {"out": overlap_sum(arrays["in"], int(variant))}
        elif group == "batch_overlap_sum":
            yield case, {"out": batch_overlap_sum(arrays["in"], int(variant))}
        elif group == "dropout":
            yield case, {"out": dropped_out(float(variant.removeprefix("p")), arrays)}
    for name, function in OF_ARRAYS.items():
        yield name, {"out": function(recording[f"{name}/in"])}
    yield "add_noise", {"out": with_noise(below(recording, "add_noise"))}
    yield from labels(recording)
    yield "flatten", {"out": np.array(flatten(NESTED))}
    yield "uniqify", {"out": np.array(uniqify(REPEATED))}
