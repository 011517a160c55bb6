"""Repeat recorded layers: ``units_layers_*.npz``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytensor

from cle_port.layers import NonlinCell
from cle_port.layers.feedforward import (
    FullyConnectedLayer,
    HighwayNet,
    VeryDeepFullyConnectedLayer,
)
from cle_port.layers.recurrent import GFGRU, GFLSTM, GRU, GRU2, LSTM, SimpleRecurrent
from compare.recording import Arrays, below
from compare.units import cost_layers, special_layers
from compare.units.cases import NOT_PORTED, RepeatedCases, group_cases, params
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
RECURRENT = {cls.__name__: cls for cls in (SimpleRecurrent, LSTM, GFLSTM, GRU, GRU2, GFGRU)}
DEEP = {cls.__name__: cls for cls in (VeryDeepFullyConnectedLayer, HighwayNet)}


def inputs_of(case: Arrays, letter: str) -> tuple[list[str], list[int]]:
    """Return the names of the parents ("W") or recurrences ("U"), and the rows of their weights."""
    order = (
        case["param_order"].tolist() if "param_order" in case else list(params(below(case, "in")))
    )
    weights = [name for name in order if name.startswith(f"{letter}_")]
    names = [name.split("__")[0].removeprefix(f"{letter}_") for name in weights]
    return names, [len(case[f"in/p_{name}"]) for name in weights]


def fully_connected(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build the layer of a case; return a function from symbolic inputs to its output."""
    names, dims = inputs_of(arrays, "W")
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
    names, dims = inputs_of(arrays, "W")
    (own, *others), (nout, *other_dims) = inputs_of(arrays, "U")
    layer = RECURRENT[kind](
        name=own,
        parent=names,
        parent_dim=dims,
        recurrent=others,
        recurrent_dim=other_dims,
        nout=nout,
        unit="relu" if variant == "relu" else "tanh",
        x_as_index=variant.endswith("as_index"),
    )

    def build(inputs: Mapping[str, Any]) -> Any:
        X = [inputs[f"x_{name}"] for name in names]
        H = [inputs[f"h_{name}"] for name in (own, *others)]
        if variant != "scan5":
            return layer.fprop([X, H], params(inputs))
        return pytensor.scan(
            lambda x_a, x_c, h: layer.fprop([[x_a, x_c], [h]], params(inputs)),
            sequences=X,
            outputs_info=H,
            return_updates=False,
        )

    return build


def deep(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build the deep layer of a case; return a function from symbolic inputs to its output."""
    kind, _ = case.split("/")
    parent_dim, nout = arrays["in/p_W_a__h_h1"].shape
    num_layers = 1 + sum("_W_h" in name for name in arrays["param_order"].tolist())
    layer = DEEP[kind](
        num_layers=num_layers, name="h", parent="a", parent_dim=parent_dim, nout=nout, unit="tanh"
    )
    return lambda inputs: layer.fprop([inputs["x_a"]], params(inputs))


def initial_states(recording: Arrays) -> RepeatedCases:
    """Repeat the states of zeros."""
    for name in group_cases(below(recording, "get_init_state"), 1):
        layer = RECURRENT[name](name="r", parent="a", parent_dim=2, nout=4, unit="tanh")
        yield f"get_init_state/{name}", {"out": evaluate(layer.get_init_state(3))}


BUILDERS = {
    "FullyConnectedLayer": fully_connected,
    **dict.fromkeys(RECURRENT, recurrent),
    **dict.fromkeys(DEEP, deep),
    **cost_layers.BUILDERS,
    **special_layers.BUILDERS,
}
REPEATERS = {
    "get_init_state": initial_states,
    **cost_layers.REPEATERS,
    **special_layers.REPEATERS,
}


def repeat_layers(recording: Arrays) -> RepeatedCases:
    """Repeat layers with the gradients of inputs and parameters."""
    groups = {key.split("/")[0] for key in recording}
    for group, repeat in REPEATERS.items():
        if group in groups:
            yield from repeat(recording)
    for case, arrays in group_cases(recording).items():
        group = case.split("/")[0]
        build = BUILDERS.get(group)
        if group in REPEATERS:
            continue
        if build is None:
            yield case, NOT_PORTED
        elif "out" not in arrays:
            yield case, "the original fails"
        elif build is fully_connected and case.split("/")[1] not in FULLY_CONNECTED:
            yield case, "the recording lacks their arguments"
        else:
            yield case, Graph(build(case, arrays), arrays)(arrays)
