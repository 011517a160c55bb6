"""Repeat recorded calls of single functions of the original: ``units_*.npz``.

A function here repeats the cases of one group: from a case's name and its
recorded arrays to what the port computes, under the names of the recording.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray

from cle_port import cost
from cle_port.compare import tolerances
from cle_port.compare.data_units import repeat_data
from cle_port.compare.differences import Comparison, Section, compare, with_signs_of
from cle_port.compare.graphs import Arrays, Graph, compile_plainly, evaluate
from cle_port.compare.recording import below, scalar
from cle_port.layers import InitCell, NonlinCell, StemCell
from cle_port.layers.feedforward import FullyConnectedLayer
from cle_port.layers.recurrent import LSTM, SimpleRecurrent
from cle_port.train.ext import EpochCount, GradientClipping, WeightNorm
from cle_port.train.opt import Adam
from cle_port.utils import segment_axis, sharedX
from cle_port.utils.op import (
    Gaussian_sample,
    GMM_argmax_mean,
    GMM_sample,
    GMM_sample_mean,
    logsumexp,
)

# --- costs ----------------------------------------------------------------------------------

LOGSUMEXP_AXES = {"axis0": 0, "axis1": 1, "large": 1}


def cost_of(case: str) -> Callable[..., Any] | None:
    """Function of a case of the costs, from symbolic inputs by name; None if it is not ported."""
    group, variant = case.split("/")
    if group == "logsumexp":
        return lambda x: logsumexp(x["x"], axis=LOGSUMEXP_AXES[variant])
    function = getattr(cost, group, None)
    flag = re.search(r"(keep_dims|use_sum)(\d)$", variant)
    options = {flag[1]: int(flag[2])} if flag else {}
    return None if function is None else lambda x: function(**x, **options)


# --- layers ---------------------------------------------------------------------------------

# Arguments of the fully connected cases, which the recordings' README lists and their arrays do
# not hold.
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
    """Names of the inputs in their order, and how many rows their weights have."""
    order = [name for name in case["param_order"].tolist() if name.startswith("W_")]
    names = [name.split("__")[0].removeprefix("W_") for name in order]
    return names, [len(case[f"in/p_{name}"]) for name in order]


def params(x: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters among the inputs of a case."""
    return {name.removeprefix("p_"): p for name, p in x.items() if name.startswith("p_")}


def fully_connected(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build the layer of a case: a function from symbolic inputs to its output."""
    names, dims = parents(arrays)
    layer = FullyConnectedLayer(
        name="h",
        parent=names,
        parent_dim=dims,
        nout=arrays["out"].shape[-1],
        **FULLY_CONNECTED[case.split("/")[1]],
    )
    return lambda x: layer.fprop([x[f"x_{parent}"] for parent in names], params(x))


def recurrent(case: str, arrays: Arrays) -> Callable[..., Any]:
    """Build the layer of a case, one step of it or five under scan."""
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

    def build(x: Mapping[str, Any]) -> Any:
        X = [x[f"x_{name}"] for name in names]
        H = [x[f"h_{name}"] for name in ("r", *others)]
        if variant != "scan5":
            return layer.fprop([X, H], params(x))
        return pytensor.scan(
            lambda x_a, x_c, h: layer.fprop([[x_a, x_c], [h]], params(x)),
            sequences=X,
            outputs_info=H,
            return_updates=False,
        )

    return build


# --- initial values -------------------------------------------------------------------------

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
    """Repeat the draw of an `InitCell`; orthogonal matrices up to the signs of their columns."""
    dims = tuple(arrays["shape"].tolist())
    rng = np.random.RandomState(int(arrays["seed"]))
    ours = InitCell(**INIT_CELLS[kind], rng=rng).get(dims if len(dims) > 1 else dims[0])
    return with_signs_of(ours, arrays["out"]) if "ortho" in kind else ours


def layer_of(case: str) -> StemCell | None:
    """Make the layer whose ``initialize`` was recorded; None if it is not ported."""
    kind, _, variant = case.partition("/")
    kinds = {k.__name__: k for k in (FullyConnectedLayer, SimpleRecurrent, LSTM)}
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
    """Repeat ``initialize`` of a layer, and the next number of the generator."""
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


# --- optimizer and extensions ---------------------------------------------------------------

OPTIMIZED = ("W_a__h", "b_h", "U_h__h")
SCALERS = {"W_a__h": 0.1, "b_h": 2.0}


def settings_of(case: Arrays) -> dict[str, Any]:
    """Recorded arguments, such as ``lr=0.001``, ``batch_size=16`` or ``keys=['U', 'b']``."""
    pairs = (str(text).split("=", 1) for text in case["settings"].tolist())
    return {name: json.loads(value.replace("'", '"')) for name, value in pairs}


def optimized(start: Arrays) -> dict[str, Any]:
    """Parameters that optimizers and extensions were recorded with."""
    return {name: sharedX(start[name], name) for name in OPTIMIZED}


def adam(variant: str, case: Arrays, start: Arrays, grads: Arrays) -> dict[str, NDArray]:
    """Repeat ten steps of Adam: all parameters after each, all state in the end, its order."""
    values = optimized(start)
    inputs = {name: p.type(f"grad_{name}") for name, p in values.items()}
    scalers = SCALERS if variant.endswith("_scaled") else None
    optimizer = Adam(**settings_of(case), lr_scalers=scalers)
    updates = optimizer.get_updates({values[name]: inputs[name] for name in OPTIMIZED})
    step = compile_plainly(list(inputs.values()), [], updates)
    after: dict[str, list[NDArray]] = {name: [] for name in OPTIMIZED}
    for n in range(len(grads["b_h"])):
        step(*(grads[name][n] for name in OPTIMIZED))
        for name, p in values.items():
            after[name].append(p.get_value())
    # All state in the order in which the original made it: the counter last.
    first, *rest = optimizer.state.values()
    slots = {f"slot{i:02d}": variable for i, variable in enumerate([*rest, first])}
    names = {variable: f"slot{i}" for i, variable in enumerate(rest)}
    return {
        **{f"params/{name}": np.stack(states) for name, states in after.items()},
        **{slot: np.asarray(variable.get_value()) for slot, variable in slots.items()},
        "update_order": np.array([names.get(variable, variable.name) for variable in updates]),
    }


def clipping(case: Arrays, start: Arrays) -> dict[str, NDArray]:
    """Repeat a clipping of gradients."""
    values = optimized(start)
    inputs = {name: p.type(f"grad_{name}") for name, p in values.items()}
    mainloop: Any = SimpleNamespace(grads={values[name]: inputs[name] for name in OPTIMIZED})
    GradientClipping(**settings_of(case)).exe(mainloop)
    with np.errstate(invalid="ignore"):
        clipped = evaluate(
            [mainloop.grads[values[name]] for name in OPTIMIZED],
            {inputs[name]: case[f"in/{name}"] for name in OPTIMIZED},
        )
    return {f"out/{name}": value for name, value in zip(OPTIMIZED, clipped)}


def weight_norm(case: Arrays, start: Arrays) -> dict[str, NDArray]:
    """Repeat a limiting of weights: parameters times ``scale``, and 9 for one without a name."""
    scale = float(case["scale"])
    unnamed = sharedX(np.zeros((3, 4)))
    updates: dict[Any, Any] = {p: p * scale for p in optimized(start).values()}
    mainloop: Any = SimpleNamespace(updates=updates | {unnamed: unnamed + 9.0})
    WeightNorm(**settings_of(case)).exe(mainloop)
    limited = evaluate(list(mainloop.updates.values()))
    return {f"out/{name}": value for name, value in zip([*OPTIMIZED, "unnamed"], limited)}


def epoch_count(num_epoch: int, n_epochs: int) -> NDArray:
    """Repeat the decisions of `EpochCount` after 0, 1, ... epochs."""
    ends = []
    for epoch_seen in range(n_epochs):
        log = SimpleNamespace(epoch_seen=epoch_seen)
        mainloop: Any = SimpleNamespace(endloop=0, trainlog=log)
        EpochCount(num_epoch).exe(mainloop)
        ends.append(mainloop.endloop)
    return np.array(ends)


# --- draws, given their noise ---------------------------------------------------------------


def samples(function: str, arrays: Arrays) -> dict[str, NDArray]:
    """Repeat both recorded calls of a sampling function, with its components and noise."""
    floatX = arrays["mu"].dtype.name
    mu, sig, coeff, eps = (pt.matrix(name, dtype=floatX) for name in ("mu", "sig", "coeff", "eps"))
    idx = pt.lvector("idx")
    outputs = {
        "Gaussian_sample": lambda: [Gaussian_sample(mu, sig, eps)],
        "GMM_sample": lambda: [GMM_sample(mu, sig, coeff, idx, eps)],
        "GMM_sample_mean": lambda: list(GMM_sample_mean(mu, sig, coeff, idx, eps)),
        "GMM_argmax_mean": lambda: list(GMM_argmax_mean(mu, sig, coeff, eps)),
    }[function]()
    fn = compile_plainly([mu, sig, coeff, idx, eps], outputs)
    weights = arrays.get("coeff", np.ones((len(arrays["mu"]), 1), floatX))
    ours = {}
    for call, noise in below(arrays, "eps").items():
        if function == "Gaussian_sample":  # recorded with an axis for several draws
            ours[f"out/{call}"] = fn(arrays["mu"], arrays["sig"], weights, [0], noise[:, 0])[0]
            continue
        chosen = arrays.get(f"choice/{call}", weights).argmax(axis=1)
        values = fn(arrays["mu"], arrays["sig"], weights, chosen, noise)
        ours |= {f"out{i}/{call}": value for i, value in enumerate(values)}
    return ours


# --- whole files ----------------------------------------------------------------------------

# A case and what the port computes for it, or why it is not repeated.
Repeated = Iterator[tuple[str, dict[str, NDArray] | str]]

MISSING = "the port does not have them"
TESTED = "they have tests of their own"
TESTS_ONLY = ("EarlyStopping", "Monitoring", "Picklize", "mrg", "multinomial", "orth")


def groups_of(recording: Arrays, depth: int = 2) -> dict[str, dict[str, NDArray]]:
    """Arrays of each case, by the first parts of their names."""
    found: dict[str, dict[str, NDArray]] = {}
    for key in recording:
        *case, last = key.split("/", depth)
        if len(case) == depth and case[0] not in ("meta", "attempts"):
            found.setdefault("/".join(case), {})[last] = recording[key]
    return found


def repeat_costs(recording: Arrays) -> Repeated:
    """Costs and logsumexp, each with its gradients; graphs are shared by cases of one kind."""
    graphs: dict[Any, Graph] = {}
    for case, arrays in groups_of(recording).items():
        function = cost_of(case)
        if function is None:
            yield case, MISSING
            continue
        inputs = below(arrays, "in")
        variant = case.split("/")[1] if case.startswith("logsumexp") else case[-1]
        kind = case.split("/")[0], variant, tuple((x.ndim, x.dtype) for x in inputs.values())
        if kind not in graphs:
            graphs[kind] = Graph(function, arrays)
        yield case, graphs[kind](arrays)


def repeat_layers(recording: Arrays) -> Repeated:
    """Layers with the gradients by inputs and parameters."""
    builders = {"FullyConnectedLayer": fully_connected} | dict.fromkeys(RECURRENT, recurrent)
    for case, arrays in groups_of(recording).items():
        build = builders.get(case.split("/")[0])
        if case == "get_init_state/LSTM":
            layer = LSTM(name="r", parent="a", parent_dim=2, nout=4, unit="tanh")
            yield case, {"out": evaluate(layer.get_init_state(3))}
        elif build is None:
            yield case, MISSING
        elif "out" not in arrays:
            yield case, "the original fails"
        elif build is fully_connected and case.split("/")[1] not in FULLY_CONNECTED:
            yield case, "the recording does not say with which arguments"
        else:
            yield case, Graph(build(case, arrays), arrays)(arrays)


def repeat_init(recording: Arrays) -> Repeated:
    """Draws of `InitCell` and ``initialize`` of layers, from their seeds."""
    for key in [key for key in recording if key.endswith("/seed")]:
        case = key.removesuffix("/seed")
        arrays = below(recording, case)
        if case.startswith("InitCell/"):
            yield case, {"out": init_cell(case.rpartition("/")[0], arrays)}
        elif case.startswith("initialize/"):
            layer = layer_of(case.removeprefix("initialize/"))
            yield case, MISSING if layer is None else initialized(layer, arrays)


def repeat_utils(recording: Arrays) -> Repeated:
    """`segment_axis`, where the original does not refuse."""
    for case, arrays in groups_of(recording).items():
        if case.startswith("segment_axis/") and "out" in arrays:
            yield case, {"out": segment_axis(arrays["in"], **keywords(arrays))}


def keywords(case: Arrays) -> dict[str, Any]:
    """Recorded arguments of `segment_axis`, such as ``length=4`` or ``end=pad``."""
    pairs = (str(text).split("=") for text in case["kw"].tolist())
    return {name: value if name == "end" else int(value) for name, value in pairs}


def repeat_optim(recording: Arrays) -> Repeated:
    """Adam, clipping, the limit of weights, the count of epochs."""
    start, grads = below(recording, "optimizer/start"), below(recording, "optimizer/grads")
    for case, arrays in groups_of(recording).items():
        group, variant = case.split("/")
        if variant in ("start", "grads"):
            continue
        if group == "optimizer" and variant.split("_")[0] == "Adam":
            yield case, adam(variant, arrays, start, grads)
        elif group == "GradientClipping":
            yield case, clipping(arrays, start)
        elif group == "WeightNorm" and variant != "zero":
            yield case, weight_norm(arrays, start)
        elif group == "optimizer":
            yield case, MISSING
    for name, ends in below(recording, "EpochCount").items():
        num_epoch = int(name.removeprefix("num"))
        yield "EpochCount", {name: epoch_count(num_epoch, len(ends))}


def repeat_random(recording: Arrays) -> Repeated:
    """Draws with recorded noise."""
    for case, arrays in groups_of(recording, 3).items():
        function = case.split("/")[0]
        if "/num4" in case:
            yield case, "the port draws one at a time"
        elif "mu" in arrays:
            yield case, samples(function, arrays)


REPEAT: dict[str, Callable[[Arrays], Repeated]] = {
    "costs": repeat_costs,
    "layers": repeat_layers,
    "init": repeat_init,
    "utils": repeat_utils,
    "data": repeat_data,
    "optim": repeat_optim,
    "random": repeat_random,
}


def compare_units(
    recording: Arrays, name: str, path: str = "", tolerance: float | None = None
) -> Comparison:
    """Repeat all cases of a file that the port has, and compare.

    Parameters
    ----------
    recording : mapping of str to ndarray
    name : str
        The file's name, ``units_<section>_<floatX>``.
    path : str
        The recording, for the report.
    tolerance : float, optional
        Relative difference allowed, in the place of the figures.

    Returns
    -------
    Comparison
        With a section for each function.
    """
    floatX = str(scalar(recording, "meta/floatX"))
    section = name.split("_")[1]
    found: dict[str, Section] = {}
    left_out: dict[str, str] = {}
    with pytensor.config.change_flags(floatX=floatX), np.errstate(all="ignore"):
        for i, (case, ours) in enumerate(REPEAT[section](recording)):
            group = case.split("/")[0]
            if isinstance(ours, str):
                left_out[group if ours == MISSING and group != "optimizer" else case] = ours
                continue
            allowed = tolerances.of_unit(section, case, floatX, tolerance)
            rows = found.setdefault(group, Section(group)).differences
            for j, (key, value) in enumerate(ours.items()):
                full = f"{case}/{key}"
                theirs = recording[full]
                rows.append(
                    compare(
                        full.removeprefix(f"{group}/"),
                        *comparable(value, theirs),
                        0.0 if theirs.dtype.kind in "Ui" else allowed,
                        place=f"{section}: {full}",
                        order=(i, j),
                    )
                )
    facts = {
        "functions": section,
        "original": f"{floatX}; {scalar(recording, 'meta/versions')}",
        "port": f"{floatX}, interpreted",
    }
    for group in dict.fromkeys(key.split("/")[0] for key in recording):
        if group not in (*found, *left_out, "meta", "attempts"):
            left_out[group] = TESTED if group in TESTS_ONLY else MISSING
    return Comparison(path, facts, list(found.values()), left_out)


def comparable(ours: NDArray, theirs: NDArray) -> tuple[NDArray, NDArray]:
    """Make numbers of text, and leave out what only the original cannot compute.

    Where it has NaN and the port does not, the port departs from it on purpose:
    see *A pen probability of exactly 0 or 1* in docs/fidelity.md.
    """
    if theirs.dtype.kind == "U":
        return np.asarray(np.array_equal(ours, theirs), dtype=float), np.array(1.0)
    if ours.shape == theirs.shape and theirs.dtype.kind == "f":
        theirs = np.where(np.isnan(theirs) & np.isfinite(ours), ours, theirs)
    return ours, theirs
