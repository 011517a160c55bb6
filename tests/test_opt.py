"""Optimizers: ten recorded steps with all their state, and runs that are resumed."""

import logging

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from cle_port.data import DesignMatrix, Iterator
from cle_port.errors import UserError
from cle_port.models import Model
from cle_port.train import Training, resuming
from cle_port.train.ext import EpochCount, Picklize, UpdateCount
from cle_port.train.opt import Adam, Adam2, Momentum, Optimizer, RMSProp
from cle_port.utils import sharedX
from compare.units.optimizers import OPTIMIZED, ten_steps
from tests.recordings import largest_difference
from tests.uncompiled import Uncompiled
from tests.units import FLOATS, case_names, compile_plainly, recorded

# Twice what the recordings' README says of float32 over ten steps.
RTOL = {"float64": 1e-13, "float32": 2 * 5e-7}
VARIANTS = [
    name.removeprefix("optimizer/")
    for name in case_names("optim", "optimizer")
    if not name.endswith(("/start", "/grads"))
]
MAKE = {
    "Momentum": lambda: Momentum(lr=0.1),
    "Momentum_nesterov": lambda: Momentum(lr=0.1, nesterov=True),
    "RMSProp": lambda: RMSProp(lr=0.1),
    "Adam": lambda: Adam(lr=0.1),
    "Adam2": lambda: Adam2(lr=0.1),
}


@pytest.mark.parametrize("floatX", FLOATS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_ten_steps(variant, floatX):
    """All parameters after each step; all state in the end, in the original's order."""
    case = recorded("optim", f"optimizer/{variant}", floatX)
    start = recorded("optim", "optimizer/start", floatX)
    grads = recorded("optim", "optimizer/grads", floatX)
    with pytensor.config.change_flags(floatX=floatX):
        ours = ten_steps(variant, case, start, grads)
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


def test_all_recorded_optimizers_are_there():
    kinds = [variant.split("_")[0] for variant in VARIANTS]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "Adam": 4,
        "Adam2": 4,
        "Momentum": 6,
        "RMSProp": 4,
    }


@pytest.mark.parametrize("kind", [Adam, Adam2])
def test_rates_come_first_as_in_the_original(kind):
    optimizer = kind(0.8, lr=0.5)
    assert (optimizer.b1, optimizer.b2, float(optimizer.lr.get_value())) == (0.8, 0.999, 0.5)
    with pytest.raises(TypeError, match="lr"):
        kind(0.8)


def test_settings_of_the_other_optimizers():
    momentum, rmsprop = Momentum(0.5, True, lr=0.1), RMSProp(0.5, 0.8, lr=0.1)
    assert (momentum.mom, momentum.nesterov) == (0.5, True)
    assert (rmsprop.mom, rmsprop.sec_mom, rmsprop.e) == (0.5, 0.8, 1e-4)
    assert (Momentum(lr=0.1).mom, Momentum(lr=0.1).nesterov) == (0.9, False)
    assert (RMSProp(lr=0.1).mom, RMSProp(lr=0.1).sec_mom) == (0.9, 0.95)


@pytest.mark.parametrize(
    ("kind", "counter", "slots"),
    [
        (Adam, ["adam_counter"], ["adam_m", "adam_v"]),
        (Adam2, ["adam2_counter"], ["adam2_m", "adam2_v"]),
        (Momentum, [], ["momentum_u"]),
        (RMSProp, [], ["rmsprop_avg", "rmsprop_sqr", "rmsprop_u"]),
    ],
)
def test_names_of_the_state(kind, counter, slots):
    """The variables have none but the counter: WeightNorm picks updates by name."""
    optimizer = kind(lr=0.1)
    params = {name: sharedX(np.zeros(2), name) for name in OPTIMIZED}
    optimizer.get_updates({p: p for p in params.values()})
    names = [f"{slot}/{name}" for name in OPTIMIZED for slot in slots]
    assert list(optimizer.state) == [*counter, *names]
    assert {v.name for v in optimizer.state.values()} == {None, *(["counter"] if counter else [])}


def test_scaled_momentum_needs_nesterov():
    """Without it the factors have no effect, as in the original."""
    p = sharedX(np.zeros(2), "W")
    steps = []
    for nesterov in (False, True):
        optimizer = Momentum(0.5, nesterov, lr=1.0, lr_scalers={"W": 100.0})
        compile_plainly([], p, optimizer.get_updates({p: pt.ones_like(p)}))()
        steps.append(p.get_value()[0])
        p.set_value(np.zeros(2))
    assert steps == [-1.0, -100.5]


@pytest.mark.parametrize("name", MAKE)
def test_a_skipped_update_changes_nothing(name):
    """Even if the gradient is not a number."""
    optimizer, p, skip = MAKE[name](), sharedX(np.ones(2), "W"), pt.lscalar()
    g = p.type("g")
    optimizer.skip = pt.neq(skip, 0)
    updates = optimizer.get_updates({p: g})
    kept = {variable: optimizer.unless_skipped(variable, new) for variable, new in updates.items()}
    step = compile_plainly([g, skip], [], kept)
    step(np.array([1.0, -2.0]), 0)
    before = {variable: variable.get_value() for variable in updates}
    step(np.array([np.nan, 1.0]), 1)
    for variable, value in before.items():
        np.testing.assert_array_equal(variable.get_value(), value)
    step(np.array([1.0, -2.0]), 0)
    assert (p.get_value() != before[p]).all()


@pytest.mark.parametrize(
    ("optimizer", "lines"),
    [
        (Adam(lr=0.5, b1=0.25, b2=0.125), [" Beta_1: 0.250000", " Beta_2: 0.125000"]),
        (Adam2(lr=0.5, b1=0.25, b2=0.125), [" Beta_1: 0.250000", " Beta_2: 0.125000"]),
        (Momentum(lr=0.5, mom=0.25), [" Momentum: 0.250000"]),
        (
            RMSProp(lr=0.5, mom=0.25, sec_mom=0.125),
            [" Momentum: 0.250000", " Second Momentum: 0.125000"],
        ),
    ],
    ids=["Adam", "Adam2", "Momentum", "RMSProp"],
)
def test_monitor_logs_the_settings(optimizer, lines, caplog):
    caplog.set_level(logging.INFO)
    optimizer.lr.set_value(np.asarray(0.75, dtype=optimizer.lr.dtype))
    optimizer.monitor()
    assert caplog.messages == [" Learning rate: 0.750000", *lines]


def test_Optimizer_leaves_get_updates_to_its_kinds():
    with pytest.raises(NotImplementedError, match="Optimizer does not implement get_updates"):
        Optimizer(0.1).get_updates({})


# Runs that are resumed


class Rows(DesignMatrix):
    """Ten rows of three numbers."""

    def load(self, path):
        return [np.random.default_rng(0).normal(size=(10, 3))]


@pytest.fixture
def double():
    with pytensor.config.change_flags(floatX="float64"):
        yield


def make(folder, optimizer, *extension, max_updates=None):
    """A main loop of two epochs of five updates, which saves at the end."""
    x = pt.matrix("x", shape=(2, 3))
    W, b = sharedX(np.full((3, 2), 0.5), "W"), sharedX([0.5, -0.5], "b")
    cost = pt.mean((pt.tanh(x @ W + b) - x[:, :2]) ** 2)
    cost.name = "cost"
    end = [] if max_updates is None else [UpdateCount(max_updates)]
    return Training(
        name="m",
        data=Iterator(Rows("rows"), 2),
        model=Model(inputs=[x], params={"W": W, "b": b}),
        optimizer=optimizer,
        cost=cost,
        outputs=[cost],
        extension=[EpochCount(2), Picklize(1, folder), *extension, *end],
        compiler=Uncompiled(),
        quiet=True,
    )


def assert_same(mainloop, other):
    """All parameters and state, the learning rate and the log, bit for bit."""
    ours, theirs = (resuming.variables(run) for run in (mainloop, other))
    assert ours.keys() == theirs.keys()
    for name, variable in ours.items():
        np.testing.assert_array_equal(variable.get_value(), theirs[name].get_value(), name)
    assert mainloop.trainlog.monitor["update"] == other.trainlog.monitor["update"]
    assert mainloop.trainlog.batch_seen == 10


@pytest.mark.parametrize(("name", "n"), [*zip(MAKE, range(1, 6))])
@pytest.mark.usefixtures("double")
def test_a_resumed_run_is_the_whole_run(name, n, tmp_path):
    whole = make(tmp_path / "whole", MAKE[name]())
    whole.run()
    make(tmp_path / "two", MAKE[name](), max_updates=n).run()
    resumed = make(tmp_path / "two", MAKE[name]())
    resumed.resume(tmp_path / "two" / "m.npz")
    resumed.run()
    assert_same(resumed, whole)


@pytest.mark.usefixtures("double")
def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path):
    make(tmp_path, Adam(lr=0.1), max_updates=1).run()
    for other in (Adam2, Momentum, RMSProp):
        with pytest.raises(UserError, match="is of another model"):
            make(tmp_path, other(lr=0.1)).resume(tmp_path / "m.npz")
