"""Repeat recorded optimizers and extensions: ``units_optim_*.npz``."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cle_port.train.ext import EpochCount, GradientClipping, WeightNorm
from cle_port.train.opt import Adam
from cle_port.utils import sharedX
from compare.recording import Arrays, below
from compare.units.cases import NOT_PORTED, RepeatedCases, group_cases
from compare.units.graphs import compile_plainly, evaluate

OPTIMIZED = ("W_a__h", "b_h", "U_h__h")
SCALERS = {"W_a__h": 0.1, "b_h": 2.0}


def settings_of(case: Arrays) -> dict[str, Any]:
    """Parse recorded arguments, such as ``lr=0.001``, ``batch_size=16`` or ``keys=['U', 'b']``."""
    pairs = (str(text).split("=", 1) for text in case["settings"].tolist())
    return {name: json.loads(value.replace("'", '"')) for name, value in pairs}


def optimized(start: Arrays) -> dict[str, Any]:
    """Make the parameters that optimizers and extensions were recorded with."""
    return {name: sharedX(start[name], name) for name in OPTIMIZED}


def adam(variant: str, case: Arrays, start: Arrays, grads: Arrays) -> dict[str, NDArray]:
    """Repeat ten steps of Adam.

    Parameters
    ----------
    variant : str
        Name of the case; ``_scaled`` at its end sets factors of the learning rate.
    case : mapping of str to ndarray
        Arrays of the case.
    start : mapping of str to ndarray
        Initial parameters.
    grads : mapping of str to ndarray
        Gradients of each step, along the first axis.

    Returns
    -------
    dict of str to ndarray
        All parameters after each step, the final state, the order of the updates.
    """
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
            after[name].append(np.asarray(p.get_value()))
    # The original creates the counter last.
    counter, *moments = optimizer.state.values()
    slots = {f"slot{i:02d}": variable for i, variable in enumerate([*moments, counter])}
    names = {variable: f"slot{i}" for i, variable in enumerate(moments)}
    return {
        **{f"params/{name}": np.stack(states) for name, states in after.items()},
        **{slot: np.asarray(variable.get_value()) for slot, variable in slots.items()},
        "update_order": np.array([names.get(variable, variable.name) for variable in updates]),
    }


def clipping(case: Arrays, start: Arrays) -> dict[str, NDArray]:
    """Repeat `GradientClipping`."""
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
    """Repeat `WeightNorm` on parameters times ``scale``, and on an unnamed one that is all 9."""
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


def repeat_optim(recording: Arrays) -> RepeatedCases:
    """Repeat `Adam`, `GradientClipping`, `WeightNorm` and `EpochCount`."""
    start, grads = below(recording, "optimizer/start"), below(recording, "optimizer/grads")
    for case, arrays in group_cases(recording).items():
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
            yield case, NOT_PORTED
    for name, ends in below(recording, "EpochCount").items():
        num_epoch = int(name.removeprefix("num"))
        yield "EpochCount", {name: epoch_count(num_epoch, len(ends))}
