"""Repeat recorded layers: ``units_layers_*.npz``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytensor

from cle_port.layers import NonlinCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import LSTM, SimpleRecurrent
from compare.recording import Arrays
from compare.units.cases import NOT_PORTED, RepeatedCases, group_cases
from compare.units.graphs import Graph, evaluate

# Arguments of the fully connected cases.  The recordings' README lists them; the arrays lack them.
FULLY_CONNECTED: dict[str, dict[str, Any]] = {
    **{f"{unit}_2d": {"unit": unit} for unit in NonlinCell.UNITS},
    **{f"{unit}_3d": {"unit": unit, "cons": 0.25} for unit in NonlinCell.UNITS},
    "cons_no_bias": {"unit": "softplus", "cons": 1e-4, "use_bias": 0},
    "index_float": {"unit": "linear"},
    "index_int32": {"unit": "linear"},
    "mixed_3d_2d": {"unit": "tanh"},
    "mixed_3d_index": {"unit": "linear"},
    "one_row": {"unit": "softmax"},
    "sigmoid_one_out": {"unit": "sigmoid"},
    "two_parents_2d": {"unit": "tanh"},
    "two_parents_3d": {"unit": "relu"},
    "wider_input_2d": {"unit": "linear"},
    "wider_input_3d": {"unit": "linear"},
}
RECURRENT = {"SimpleRecurrent": SimpleRecurrent, "LSTM": LSTM}


def parents(case: Arrays) -> tuple[list[str], list[int]]:
    """Return the names of the inputs in their order, and the number of rows of their weights."""
    order = [name for name in case["param_order"].tolist() if name.startswith("W_")]
    names = [name.split("__")[0].removeprefix("W_") for name in order]
    return names, [len(case[f"in/p_{name}"]) for name in order]


def params(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Select the parameters among the inputs of a case."""
    return {name.removeprefix("p_"): p for name, p in inputs.items() if name.startswith("p_")}


def fully_connected(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build the layer of a case; return a function from symbolic inputs to its output."""
    names, dims = parents(arrays)
    layer = FullyConnectedLayer(
        name="h",
        parent=names,
        parent_dim=dims,
        nout=arrays["out"].shape[-1],
        **FULLY_CONNECTED[case.split("/")[1]],
    )
    return lambda inputs: layer.fprop([inputs[f"x_{parent}"] for parent in names], params(inputs))


def recurrent(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build the layer of a case; the returned function makes one step, or five under scan."""
    kind, variant = case.split("/")
    names, dims = parents(arrays)
    order = [name for name in arrays["param_order"].tolist() if name.startswith("U_")]
    others = [name.split("__")[0].removeprefix("U_") for name in order[1:]]
    layer = RECURRENT[kind](
        name="r",
        parent=names,
        parent_dim=dims,
        recurrent=others,
        recurrent_dim=[len(arrays[f"in/p_U_{other}__r"]) for other in others],
        nout=arrays["in/p_U_r__r"].shape[0],
        unit="relu" if variant == "relu" else "tanh",
    )

    def build(inputs: Mapping[str, Any]) -> Any:
        X = [inputs[f"x_{name}"] for name in names]
        H = [inputs[f"h_{name}"] for name in ("r", *others)]
        if variant != "scan5":
            return layer.fprop([X, H], params(inputs))
        return pytensor.scan(
            lambda x_a, x_c, h: layer.fprop([[x_a, x_c], [h]], params(inputs)),
            sequences=X,
            outputs_info=H,
            return_updates=False,
        )

    return build


def repeat_layers(recording: Arrays) -> RepeatedCases:
    """Repeat layers with the gradients of inputs and parameters."""
    builders = {"FullyConnectedLayer": fully_connected} | dict.fromkeys(RECURRENT, recurrent)
    for case, arrays in group_cases(recording).items():
        build = builders.get(case.split("/")[0])
        if case == "get_init_state/LSTM":
            layer = LSTM(name="r", parent="a", parent_dim=2, nout=4, unit="tanh")
            yield case, {"out": evaluate(layer.get_init_state(3))}
        elif build is None:
            yield case, NOT_PORTED
        elif "out" not in arrays:
            yield case, "the original fails"
        elif build is fully_connected and case.split("/")[1] not in FULLY_CONNECTED:
            yield case, "the recording lacks their arguments"
        else:
            yield case, Graph(build(case, arrays), arrays)(arrays)
