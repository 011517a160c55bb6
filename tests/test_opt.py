"""Optimizers: ten recorded steps with all their state."""

import logging

import numpy as np
import pytensor
import pytest

from cle_port.train.opt import Adam, Optimizer
from cle_port.utils import sharedX
from compare.units import OPTIMIZED, adam
from tests.recordings import largest_difference
from tests.units import FLOATS, recorded

# Twice what the recordings' README says of float32 over ten steps.
RTOL = {"float64": 1e-13, "float32": 2 * 5e-7}


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("variant", ["Adam", "Adam_scaled", "Adam_other", "Adam_other_scaled"])
def test_Adam(variant, floatX):
    """All parameters after each step; all state in the end, in the original's order."""
    case = recorded("optim", f"optimizer/{variant}", floatX)
    start = recorded("optim", "optimizer/start", floatX)
    grads = recorded("optim", "optimizer/grads", floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = adam(variant, case, start, grads)
    assert set(ours) == set(case) - {"settings"}
    assert ours.pop("update_order").tolist() == case["update_order"].tolist()
    for name, value in ours.items():
        assert value.dtype == floatX, name
        steps = (
            zip(value, case[name], strict=True)
            if name.startswith("params/")
            else [(value, case[name])]
        )
        for n, (our, their) in enumerate(steps):
            assert largest_difference(our, their) <= RTOL[floatX], (name, n)


def test_rates_come_first_as_in_the_original():
    optimizer = Adam(0.8, lr=0.5)
    assert (optimizer.b1, optimizer.b2, float(optimizer.lr.get_value())) == (0.8, 0.999, 0.5)
    with pytest.raises(TypeError, match="lr"):
        Adam(0.8)


def test_names_of_the_state():
    optimizer = Adam(lr=0.1)
    params = {name: sharedX(np.zeros(2), name) for name in OPTIMIZED}
    optimizer.get_updates({p: p for p in params.values()})
    slots = [f"adam_{kind}/{name}" for name in OPTIMIZED for kind in "mv"]
    assert list(optimizer.state) == ["adam_counter", *slots]


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
