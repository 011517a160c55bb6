"""Repeat recorded initial values: ``units_init_*.npz``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cle_port.layers import InitCell, StemCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import LSTM, SimpleRecurrent
from compare.differences import with_signs_of
from compare.recording import Arrays, below
from compare.units.cases import NOT_PORTED, RepeatedCases

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


def init_cell(kind: str, arrays: Arrays) -> NDArray:
    """Repeat the draw of an `InitCell`; orthogonal columns take the recorded signs."""
    dims = tuple(arrays["shape"].tolist())
    rng = np.random.RandomState(int(arrays["seed"]))
    ours = InitCell(**INIT_CELLS[kind], rng=rng).get(dims if len(dims) > 1 else dims[0])
    return with_signs_of(ours, arrays["out"]) if "ortho" in kind else ours


def layer_of(case: str) -> StemCell | None:
    """Make the layer whose ``initialize`` was recorded; None if it is not ported."""
    kind, _, variant = case.partition("/")
    kinds = {cls.__name__: cls for cls in (FullyConnectedLayer, SimpleRecurrent, LSTM)}
    if variant == "defaults":
        return FullyConnectedLayer(name="h", parent="a", parent_dim=3, nout=4, unit="tanh")
    if kind not in kinds:
        return None
    cells: dict[str, Any] = {"init_W": InitCell("rand"), "init_b": InitCell("zeros")}
    if kind == "FullyConnectedLayer":
        cells["init_b"] = InitCell("const", mean=0.6)
    others = {"two": 5, "wider_recurrent": 5, "narrower_recurrent": 3}
    settings: dict[str, Any] = {
        "name": "h",
        "parent": ["a", "c"],
        "parent_dim": [3, 2],
        "nout": 4,
        "unit": "tanh",
    }
    if variant in others:
        settings |= {"recurrent": ["other"], "recurrent_dim": [others[variant]]}
    if variant == "no_bias":
        settings["use_bias"] = 0
    return kinds[kind](**settings, **cells)


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


def repeat_init(recording: Arrays) -> RepeatedCases:
    """Repeat draws of `InitCell` and ``initialize`` of layers from their seeds."""
    for key in [key for key in recording if key.endswith("/seed")]:
        case = key.removesuffix("/seed")
        arrays = below(recording, case)
        if case.startswith("InitCell/"):
            yield case, {"out": init_cell(case.rpartition("/")[0], arrays)}
        elif case.startswith("initialize/"):
            layer = layer_of(case.removeprefix("initialize/"))
            yield case, NOT_PORTED if layer is None else initialized(layer, arrays)
