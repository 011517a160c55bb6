"""Optimizers: ten recorded steps with all their state."""

import logging

import numpy as np
import pytensor
import pytest

from cle_port.train.opt import Adam, Optimizer
from cle_port.utils import sharedX
from tests.recordings import largest_difference
from tests.units import FLOATS, compile_plainly, recorded

PARAMS = ("W_a__h", "b_h", "U_h__h")
SCALERS = {"W_a__h": 0.1, "b_h": 2.0}
# Twice what the recordings' README says of float32 over ten steps.
RTOL = {"float64": 1e-13, "float32": 2 * 5e-7}


def settings(case):
    pairs = (text.split("=") for text in case["settings"].tolist())
    return {name: float(value) for name, value in pairs}


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("variant", ["Adam", "Adam_scaled", "Adam_other", "Adam_other_scaled"])
def test_Adam(variant, floatX):
    case = recorded("optim", f"optimizer/{variant}", floatX)
    start = recorded("optim", "optimizer/start", floatX)
    recorded_grads = recorded("optim", "optimizer/grads", floatX)
    scalers = SCALERS if variant.endswith("_scaled") else None
    with pytensor.config.change_flags(floatX=floatX):
        params = {name: sharedX(start[name], name) for name in PARAMS}
        grads = {name: p.type(f"grad_{name}") for name, p in params.items()}
        optimizer = Adam(**settings(case), lr_scalers=scalers)
        updates = optimizer.get_updates({params[name]: grads[name] for name in PARAMS})
        step = compile_plainly(list(grads.values()), [], updates)
        for n in range(10):
            step(*(recorded_grads[name][n] for name in PARAMS))
            for name, p in params.items():
                theirs = case[f"params/{name}"][n]
                assert p.get_value().dtype == floatX
                assert largest_difference(p.get_value(), theirs) <= RTOL[floatX], (name, n)

    # All state, in the order in which the original made and updates it.
    state = optimizer.state
    slots = [f"adam_{kind}/{name}" for name in PARAMS for kind in "mv"]
    assert list(state) == ["adam_counter", *slots]
    for i, slot in enumerate([*slots, "adam_counter"]):
        theirs = case[f"slot{i:02d}"]
        assert largest_difference(state[slot].get_value(), theirs) <= RTOL[floatX], slot
    names = {variable: f"slot{i}" for i, variable in enumerate(state[slot] for slot in slots)}
    order = [names.get(variable, variable.name) for variable in updates]
    assert order == case["update_order"].tolist()


def test_moments_have_no_names():
    """WeightNorm picks updates by name and must not see them."""
    optimizer = Adam(lr=0.1)
    p = sharedX(np.zeros(2), "W")
    optimizer.get_updates({p: p})
    assert [v.name for v in optimizer.state.values()] == ["counter", None, None]


def test_monitor_logs_the_rates(caplog):
    caplog.set_level(logging.INFO)
    optimizer = Adam(lr=0.5, b1=0.25, b2=0.125)
    optimizer.lr.set_value(np.asarray(0.75, dtype=optimizer.lr.dtype))
    optimizer.monitor()
    assert caplog.messages == [
        " Learning rate: 0.750000",
        " Beta_1: 0.250000",
        " Beta_2: 0.125000",
    ]


def test_Optimizer_leaves_get_updates_to_its_kinds():
    with pytest.raises(NotImplementedError, match="Optimizer does not implement get_updates"):
        Optimizer(0.1).get_updates({})
