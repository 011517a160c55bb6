"""Repeat recorded initial values: ``units_init_*.npz``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cle_port.layers import InitCell, RealVectorLayer, StemCell
from cle_port.layers.feedforward import (
    FullyConnectedLayer,
    HighwayNet,
    VeryDeepFullyConnectedLayer,
)
from cle_port.layers.layer import BatchNormLayer, BatchNormLSTM
from cle_port.layers.recurrent import GFGRU, GFLSTM, GRU, GRU2, LSTM, SimpleRecurrent
from compare.differences import with_signs_of
from compare.recording import Arrays, below
from compare.units.cases import RepeatedCases, group_cases

INIT_CELLS: dict[str, dict[str, Any]] = {
    "InitCell/const_mean0.6": {"init_type": "const", "mean": 0.6},
    "InitCell/ones": {"init_type": "ones"},
    "InitCell/ortho": {"init_type": "ortho"},
    "InitCell/ortho_std_dev1": {"init_type": "ortho", "std_dev": 1},
    "InitCell/rand": {"init_type": "rand"},
    "InitCell/rand_high0.25_low-0.5": {"init_type": "rand", "low": -0.5, "high": 0.25},
    "InitCell/randn": {"init_type": "randn"},
    "InitCell/randn_mean1_std_dev0.1": {"init_type": "randn", "mean": 1, "std_dev": 0.1},
    "InitCell/zeros": {"init_type": "zeros"},
}


LAYERS: dict[str, type[StemCell]] = {
    cls.__name__: cls
    for cls in (
        FullyConnectedLayer,
        VeryDeepFullyConnectedLayer,
        HighwayNet,
        RealVectorLayer,
        SimpleRecurrent,
        LSTM,
        GFLSTM,
        GRU,
        GRU2,
        GFGRU,
        BatchNormLayer,
        BatchNormLSTM,
    )
}
DEEP = ("VeryDeepFullyConnectedLayer", "HighwayNet")
CONSTANT_BIAS = ("FullyConnectedLayer", "RealVectorLayer")  # recorded with biases of 0.6


def init_cell(kind: str, arrays: Arrays) -> NDArray:
    """Repeat the draw of an `InitCell`; orthogonal columns take the recorded signs."""
    dims = tuple(arrays["shape"].tolist())
    rng = np.random.RandomState(int(arrays["seed"]))
    ours = InitCell(**INIT_CELLS[kind], rng=rng).get(dims if len(dims) > 1 else dims[0])
    return with_signs_of(ours, arrays["out"]) if "ortho" in kind else ours


def layer_of(case: str, arrays: Arrays) -> StemCell:
    """Make the layer whose ``initialize`` was recorded; recurrences are named by their weights."""
    kind, _, variant = case.partition("/")
    if variant == "defaults":
        return FullyConnectedLayer(name="h", parent="a", parent_dim=3, nout=4, unit="tanh")
    settings: dict[str, Any] = {
        "name": "h",
        "parent": ["a", "c"],
        "parent_dim": [3, 2],
        "nout": 4,
        "unit": "tanh",
        "init_W": InitCell("rand"),
        "init_b": InitCell("const", mean=0.6) if kind in CONSTANT_BIAS else InitCell("zeros"),
    }
    if kind in DEEP:
        settings["num_layers"] = 3
    if kind == "RealVectorLayer":
        settings |= {"parent": [], "parent_dim": [], "nout": 3}
    if variant == "no_bias":
        settings["use_bias"] = 0
    sizes = {
        name.removeprefix("param/U_").split("__")[0]: len(U)
        for name, U in arrays.items()
        if name.startswith("param/U_")
    }
    sizes.pop("h", None)  # the layer's own state
    if sizes:
        settings |= {"recurrent": list(sizes), "recurrent_dim": list(sizes.values())}
    return LAYERS[kind](**settings)


def initialized(layer: StemCell, arrays: Arrays) -> dict[str, NDArray]:
    """Repeat ``initialize`` of a layer, then draw the next number of the generator."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(int(arrays["seed"]))  # noqa: NPY002
    try:
        ours = {f"param/{name}": value for name, value in layer.initialize().items()}
        ours["next_uniform"] = np.asarray(np.random.uniform())  # noqa: NPY002
    finally:
        np.random.set_state(before)  # noqa: NPY002
    return {
        name: with_signs_of(value, arrays[name]) if name.startswith("param/U_") else value
        for name, value in ours.items()
    }


def basis(arrays: Arrays) -> NDArray:
    """Repeat `InitCell.ortho` of a recorded matrix; the columns take the recorded signs."""

    class Given(InitCell):
        def randn(self, shape: Any) -> NDArray:
            return arrays["in"]

    return with_signs_of(Given("ortho").get(arrays["in"].shape), arrays["out"])


def repeat_init(recording: Arrays) -> RepeatedCases:
    """Repeat draws of `InitCell` and ``initialize`` of layers from their seeds."""
    for key in [key for key in recording if key.endswith("/seed")]:
        case = key.removesuffix("/seed")
        arrays = below(recording, case)
        if case.startswith("InitCell/"):
            yield case, {"out": init_cell(case.rpartition("/")[0], arrays)}
        elif case.startswith("initialize/"):
            ours = initialized(layer_of(case.removeprefix("initialize/"), arrays), arrays)
            order = [name.removeprefix("param/") for name in ours if name.startswith("param/")]
            yield case, ours | {"order": np.array(order)}
    for variant, arrays in group_cases(below(recording, "orth"), 1).items():
        yield f"orth/{variant}", {"out": basis(arrays)}
